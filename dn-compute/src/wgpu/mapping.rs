//! Waiting for a buffer that the host reads.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A buffer on its way to the host: ready when it is there (`true`) or will never be (`false`).
///
/// Outside browsers it has ended when the device was waited for, and nobody need be woken.
#[derive(Debug)]
pub(super) struct Mapping(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ended: Option<bool>,
    waker: Option<Waker>,
}

impl Mapping {
    /// Asks for the first bytes of a buffer.
    pub(super) fn start(buffer: &::wgpu::Buffer, bytes: u64) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let own = Ending(Arc::clone(&state));
        buffer.slice(..bytes).map_async(::wgpu::MapMode::Read, move |result| own.end(result.is_ok()));
        Self(state)
    }

    /// Whether it is there, now that the device was waited for.
    pub(super) fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended == Some(true)
    }
}

impl Future for Mapping {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.ended {
            Some(there) => Poll::Ready(there),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The side that is told. Dropped untold, as by a device that is gone, it ends the wait.
struct Ending(Arc<Mutex<State>>);

impl Ending {
    fn end(&self, there: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended.get_or_insert(there);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(false);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    struct Never;

    impl Wake for Never {
        fn wake(self: Arc<Self>) {}
    }

    fn ask(mapping: &mut Mapping) -> Poll<bool> {
        let waker = Arc::new(Never).into();
        Pin::new(mapping).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn it_ends_once_and_in_any_case() {
        let state = Arc::new(Mutex::new(State::default()));
        let (mut mapping, ending) = (Mapping(Arc::clone(&state)), Ending(Arc::clone(&state)));
        assert_eq!(ask(&mut mapping), Poll::Pending);
        ending.end(true);
        drop(ending);
        assert_eq!(ask(&mut mapping), Poll::Ready(true));
        let state = Arc::new(Mutex::new(State::default()));
        let (mut mapping, ending) = (Mapping(Arc::clone(&state)), Ending(state));
        assert_eq!(ask(&mut mapping), Poll::Pending);
        drop(ending);
        assert_eq!(ask(&mut mapping), Poll::Ready(false), "nobody waits for a device that is gone");
    }
}
