//! Splitting work over threads. Every piece computes its own outputs, so the split cannot touch a bit.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::CpuError;

/// The threads of a backend; one thread means the caller's.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
    /// Whether threads may wait without sleeping: more of them than cores would take these from those that work.
    awake: bool,
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
        Ok(Self { pool, count, awake: count <= cores })
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

    /// Runs `f` on the pool, where nested parallel work needs no hand-over. Until it ends the other threads, if there are no
    /// more than cores, look for work without falling asleep: waking one takes longer than many an operation.
    pub(crate) fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let Some(pool) = &self.pool else { return f() };
        pool.install(|| {
            let end = End(Arc::default());
            let over = Arc::clone(&end.0);
            busy(|_| {
                if self.awake {
                    pool.spawn_broadcast(move |_| stay_awake(&over));
                }
                f()
            })
        })
    }

    /// Calls `f` once per item, in any order; results come in the order of the items. A thread that has none left takes single
    /// ones over.
    pub(crate) fn map<T: Send, R: Send>(&self, items: Vec<T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        match &self.pool {
            Some(pool) if items.len() > 1 => {
                pool.install(|| items.into_par_iter().with_max_len(1).map(f).collect())
            }
            _ => items.into_iter().map(f).collect(),
        }
    }
}

thread_local! {
    /// Whether this thread runs a job of [`Threads::enter`], or waits for work of one.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with this thread marked as busy; tells it whether it was so already.
fn busy<R>(f: impl FnOnce(bool) -> R) -> R {
    let before = Before(BUSY.replace(true));
    f(before.0)
}

/// Whether a thread was busy, which it is again when this is dropped.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        BUSY.set(self.0);
    }
}

/// Sets its flag when dropped, so that a panic ends the wait as well.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Times that a thread looks for work before it lets others use its core.
const LOOKS: u32 = 1000;

/// Does what work there is until `over`. Nobody waits for this: the work may be another caller's whole job.
fn stay_awake(over: &AtomicBool) {
    let mut looks = 0;
    busy(|before| {
        // A thread with a job of its own must not wait for another's, which may wait for this one's in turn.
        while !before && !over.load(Ordering::Acquire) {
            if rayon::yield_now() == Some(rayon::Yield::Executed) {
                looks = 0;
            } else if looks < LOOKS {
                looks += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    });
}

/// `slice` cut into at most `pieces` parts, each of whole rows of `row` elements; with the first row of each.
pub(crate) fn rows_mut<T>(slice: &mut [T], row: usize, pieces: usize) -> Vec<(usize, &mut [T])> {
    let per = (slice.len() / row).div_ceil(pieces).max(1);
    slice.chunks_mut(per * row).enumerate().map(|(i, part)| (i * per, part)).collect()
}
