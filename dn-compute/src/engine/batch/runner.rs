//! A batcher on a thread of its own.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{BatchError, BatchEvent, BatchOptions, BatchRequest, BatchStatus, Batcher, RequestId};
use crate::engine::{Engine, Generation};
use crate::sampling::Choice;

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// A new token, and what the model thought of it.
    Token(Choice),
    /// The answer has ended; nothing comes after it.
    Done(Box<Generation>),
    /// There is no answer; nothing comes after it.
    Failed(BatchError),
}

/// What takes the updates of one request. Called on the runner's thread: it must be quick and must not block.
type Sink = Box<dyn FnMut(Update) + Send>;

/// A request on its way to the batcher.
struct Incoming {
    request: BatchRequest,
    cancel: Arc<AtomicBool>,
    sink: Sink,
}

#[derive(Default)]
struct State {
    incoming: VecDeque<Incoming>,
    /// Requests that wait inside the batcher.
    waiting: usize,
    closing: bool,
    ended: bool,
    status: BatchStatus,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    room: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves requests from any thread with one batcher. Dropping it cancels what is left.
pub struct Runner {
    shared: Arc<Shared>,
    engine: Arc<Engine>,
    queue: usize,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("engine", &self.engine)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`BatchError::Stopped`] when the system gives no thread.
    pub fn start(engine: Arc<Engine>, options: BatchOptions) -> Result<Self, BatchError> {
        let shared = Arc::new(Shared::default());
        let batcher = Batcher::new(Arc::clone(&engine), options);
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("dn-batch".to_owned())
            .spawn(move || Driver { shared: own, batcher, sinks: HashMap::new() }.run())
            .map_err(|_| BatchError::Stopped)?;
        Ok(Self { shared, engine, queue: options.queue.get(), thread: Some(thread) })
    }

    /// The engine.
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Whether its thread has ended before the runner was dropped, by a panic: every request fails from then on.
    pub fn has_stopped(&self) -> bool {
        self.shared.state().ended
    }

    /// Counts and memory as they were after the last step.
    pub fn status(&self) -> BatchStatus {
        self.shared.state().status
    }

    /// Takes a request, whose updates are waited for.
    ///
    /// # Errors
    /// [`BatchError::QueueFull`] at once when too many wait; a request that cannot be served fails in its updates.
    pub fn submit(&self, request: BatchRequest) -> Result<Ticket, BatchError> {
        let (send, updates) = mpsc::channel();
        let cancel = self.submit_to(request, move |update| {
            // A ticket that was dropped has cancelled the request.
            let _ = send.send(update);
        })?;
        Ok(Ticket { updates, cancel })
    }

    /// Takes a request, whose updates go to `sink`: the way for asynchronous callers, whose channels do not block.
    /// It is called on the runner's thread and must return quickly.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_to(
        &self,
        request: BatchRequest,
        sink: impl FnMut(Update) + Send + 'static,
    ) -> Result<CancelHandle, BatchError> {
        self.push(request, Box::new(sink), None)
    }

    /// As [`submit`](Self::submit), waiting for room in the queue for so long.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn submit_within(&self, request: BatchRequest, wait: Duration) -> Result<Ticket, BatchError> {
        let (send, updates) = mpsc::channel();
        let sink: Sink = Box::new(move |update| {
            let _ = send.send(update);
        });
        let cancel = self.push(request, sink, Some(wait))?;
        Ok(Ticket { updates, cancel })
    }

    fn push(
        &self,
        request: BatchRequest,
        sink: Sink,
        wait: Option<Duration>,
    ) -> Result<CancelHandle, BatchError> {
        let mut state = self.shared.state();
        if let Some(wait) = wait {
            let full = |s: &mut State| !s.ended && s.incoming.len() + s.waiting >= self.queue;
            let waited = self.shared.room.wait_timeout_while(state, wait, full);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closing || state.ended {
            return Err(BatchError::Stopped);
        }
        if state.incoming.len() + state.waiting >= self.queue {
            return Err(BatchError::QueueFull { limit: self.queue });
        }
        let cancel = Arc::new(AtomicBool::new(false));
        state.incoming.push_back(Incoming { request, cancel: Arc::clone(&cancel), sink });
        self.shared.wake.notify_one();
        Ok(CancelHandle(cancel))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has closed every request already.
            let _ = thread.join();
        }
    }
}

/// Cancels a request of a [`Runner`].
#[derive(Debug, Clone)]
pub struct CancelHandle(Arc<AtomicBool>);

impl CancelHandle {
    /// Cancels: the last update comes with the next step. A step that only cancelled requests want is given up.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The updates of a request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Ticket {
    updates: mpsc::Receiver<Update>,
    cancel: CancelHandle,
}

impl Ticket {
    /// Waits for the next update; [`BatchError::Stopped`] when the runner has stopped.
    pub fn wait(&self) -> Update {
        self.updates.recv().unwrap_or(Update::Failed(BatchError::Stopped))
    }

    /// The next update if it is there.
    pub fn poll(&self) -> Option<Update> {
        match self.updates.try_recv() {
            Ok(update) => Some(update),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(Update::Failed(BatchError::Stopped)),
        }
    }

    /// Cancels; the updates up to the last one still come.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Driver {
    shared: Arc<Shared>,
    batcher: Batcher,
    sinks: HashMap<RequestId, Sink>,
}

impl Driver {
    fn run(mut self) {
        while self.take_incoming() {
            let events = self.batcher.step(Instant::now());
            for event in events {
                self.pass_on(event);
            }
        }
    }

    /// Moves what has come into the batcher, waiting while there is nothing to do; false at the end.
    fn take_incoming(&mut self) -> bool {
        let mut state = self.shared.state();
        state.status = self.batcher.status();
        state.waiting = state.status.waiting;
        self.shared.room.notify_all();
        while state.incoming.is_empty() && self.batcher.is_idle() && !state.closing {
            state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closing {
            return false;
        }
        let incoming = std::mem::take(&mut state.incoming);
        state.waiting += incoming.len();
        drop(state);
        for Incoming { request, cancel, mut sink } in incoming {
            match self.batcher.submit_with(request, cancel) {
                Ok(id) => {
                    self.sinks.insert(id, sink);
                }
                Err(error) => sink(Update::Failed(error)),
            }
        }
        true
    }

    fn pass_on(&mut self, event: BatchEvent) {
        match event {
            BatchEvent::Token { id, choice } => {
                if let Some(sink) = self.sinks.get_mut(&id) {
                    sink(Update::Token(choice));
                }
            }
            BatchEvent::Done { id, generation } => self.close(id, Update::Done(generation)),
            BatchEvent::Failed { id, error } => self.close(id, Update::Failed(error.into())),
        }
    }

    fn close(&mut self, id: RequestId, last: Update) {
        if let Some(mut sink) = self.sinks.remove(&id) {
            sink(last);
        }
    }
}

impl Drop for Driver {
    /// At the end, also that of a panic, nobody is left waiting.
    fn drop(&mut self) {
        let incoming = {
            let mut state = self.shared.state();
            state.ended = true;
            std::mem::take(&mut state.incoming)
        };
        self.shared.room.notify_all();
        let sinks = self.sinks.drain().map(|(_, sink)| sink);
        for mut sink in sinks.chain(incoming.into_iter().map(|i| i.sink)) {
            if !thread::panicking() {
                sink(Update::Failed(BatchError::Stopped));
            }
        }
    }
}
