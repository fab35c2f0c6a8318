//! Many signatures at once.

/// The fewest signatures that are worth another thread: about a millisecond of work.
#[cfg(feature = "node")]
const WORTH_A_THREAD: usize = 32;

/// What a check says of each of these, in their order; on several threads, where there are any, if they are so many.
pub(crate) fn map_signatures<T: Sync, R: Send>(items: &[T], check: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "node")]
    if items.len() >= 2 * WORTH_A_THREAD {
        use rayon::prelude::*;
        return items.par_iter().with_min_len(WORTH_A_THREAD).map(check).collect();
    }
    items.iter().map(check).collect()
}
