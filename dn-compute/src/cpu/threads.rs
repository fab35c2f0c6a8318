//! Splitting work over threads. Every piece computes its own outputs, so the split cannot touch a bit.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::CpuError;

/// The threads of a backend; one thread means the caller's.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
    /// Whether threads may wait without sleeping: more of them than cores would take these from those that work.
    awake: bool,
    /// Whether some thread has been asked to.
    asked: Arc<AtomicBool>,
}

/// Work below this many element operations is done where it is: waking a thread costs microseconds.
const MIN_WORK: usize = 1 << 15;

impl Threads {
    pub(crate) fn new(count: usize) -> Result<Self, CpuError> {
        let pool = match count {
            1 => None,
            2..=super::MAX_THREADS => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(count)
                    .thread_name(|i| format!("dn-cpu-{i}"))
                    .build()
                    .map_err(|source| CpuError::Spawn { threads: count, source })?,
            ),
            _ => return Err(CpuError::Threads { found: count, max: super::MAX_THREADS }),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { pool, count, awake: count <= cores, asked: Arc::default() })
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Pieces to cut `work` element operations into: a few per thread, so that a delayed one can be helped.
    pub(crate) fn pieces(&self, work: usize) -> usize {
        (work / MIN_WORK).clamp(1, self.count * 4)
    }

    /// Pieces to cut `work` into where all of it comes from memory: small enough that no thread waits long for the last.
    pub(crate) fn small_pieces(&self, work: usize) -> usize {
        (work / MIN_WORK).clamp(1, self.count * 16)
    }

    /// Runs `f` on the pool, where nested parallel work needs no hand-over. Meanwhile the other threads, if there are no
    /// more than cores, go on looking for work for a while: waking one takes longer than many an operation.
    pub(crate) fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(|| busy(f)),
            None => f(),
        }
    }

    /// Asks the other threads of a job in [`enter`](Self::enter) not to fall asleep, unless they are still asked.
    fn stay_awake(&self, pool: &rayon::ThreadPool) {
        if self.awake && BUSY.get() && !self.asked.swap(true, Ordering::AcqRel) {
            let asked = Asked(Arc::clone(&self.asked));
            pool.spawn_broadcast(move |_| {
                let _until_all_have_ended = &asked;
                look_for_work();
            });
        }
    }

    /// Calls `f` once per item, in any order; results come in the order of the items. A thread that has none left takes single
    /// ones over.
    pub(crate) fn map<T: Send, R: Send>(&self, items: Vec<T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        match &self.pool {
            Some(pool) if items.len() > 1 => {
                self.stay_awake(pool);
                pool.install(|| items.into_par_iter().with_max_len(1).map(f).collect())
            }
            _ => items.into_iter().map(f).collect(),
        }
    }
}

thread_local! {
    /// Whether this thread runs a job of [`Threads::enter`], or looks for work of one.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with this thread marked as busy.
fn busy<R>(f: impl FnOnce() -> R) -> R {
    let _before = Before(BUSY.replace(true));
    f()
}

/// Whether a thread was busy, which it is again when this is dropped.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        BUSY.set(self.0);
    }
}

/// Dropped when all threads that were asked have ended their looking.
struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Looks without success after which a thread may sleep: about a tenth of a millisecond.
const LOOKS: u32 = 500;
/// Longest time for which a thread looks for work.
const LONGEST: Duration = Duration::from_millis(2);

/// Does what work there is, for a while.
///
/// Both limits matter: the thread may be in the middle of a piece of work of somebody else, even of the one who asked, and
/// only its return lets that go on.
fn look_for_work() {
    if BUSY.get() {
        return;
    }
    busy(|| {
        let (began, mut looks) = (Instant::now(), 0);
        while looks < LOOKS && began.elapsed() < LONGEST {
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => looks = 0,
                _ => looks += 1,
            }
            std::hint::spin_loop();
        }
    });
}

/// `slice` cut into at most `pieces` parts, each of whole rows of `row` elements; with the first row of each.
pub(crate) fn rows_mut<T>(slice: &mut [T], row: usize, pieces: usize) -> Vec<(usize, &mut [T])> {
    let per = (slice.len() / row).div_ceil(pieces).max(1);
    slice.chunks_mut(per * row).enumerate().map(|(i, part)| (i * per, part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that looks for work may hold a piece that others wait for: it has to come back.
    #[test]
    fn steps_end_however_threads_meet() {
        let threads = Threads::new(2).unwrap();
        let steps = if cfg!(miri) { 2 } else { 5_000 };
        let step = |caller: u64| {
            threads.enter(|| {
                (0..3).map(|_| threads.map((0..16).collect(), |i: u64| i + caller).len()).sum::<usize>()
            })
        };
        std::thread::scope(|scope| {
            for caller in 0..2 {
                let step = &step;
                scope.spawn(move || (0..steps).for_each(|_| assert_eq!(step(caller), 48)));
            }
        });
    }
}
