//! Splitting work over threads. Every piece computes its own outputs, so the split cannot touch a bit.

use rayon::prelude::*;

use super::CpuError;

/// The threads of a backend; one thread means the caller's.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
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
        Ok(Self { pool, count })
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Pieces to cut `work` element operations into: a few per thread, so that a delayed one can be helped.
    pub(crate) fn pieces(&self, work: usize) -> usize {
        (work / MIN_WORK).clamp(1, self.count * 4)
    }

    /// Runs `f` on the pool, where nested parallel work needs no hand-over.
    pub(crate) fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
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

/// `slice` cut into at most `pieces` parts, each of whole rows of `row` elements; with the first row of each.
pub(crate) fn rows_mut<T>(slice: &mut [T], row: usize, pieces: usize) -> Vec<(usize, &mut [T])> {
    let per = (slice.len() / row).div_ceil(pieces).max(1);
    slice.chunks_mut(per * row).enumerate().map(|(i, part)| (i * per, part)).collect()
}
