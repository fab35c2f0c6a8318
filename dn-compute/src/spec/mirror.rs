//! What a backend with memory of its own keeps of a cache there.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a backend keeps of a cache elsewhere, so that it sends each position once. The pages stay the truth: a clone starts
/// without, and what is cut off counts as not sent.
#[derive(Default)]
pub(crate) struct Mirror(Mutex<Mirrored>);

/// The state of a mirror.
#[derive(Default)]
pub(crate) struct Mirrored {
    /// Positions, from the first, that are as the pages have them.
    pub(crate) len: usize,
    /// The backend's own.
    pub(crate) held: Option<Box<dyn Any + Send>>,
}

impl Mirror {
    /// For the backend that keeps it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Mirrored> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From `len` on the pages may change.
    pub(crate) fn truncate(&mut self, len: usize) {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.len = state.len.min(len);
    }
}

impl Clone for Mirror {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mirror of {} positions", self.lock().len)
    }
}
