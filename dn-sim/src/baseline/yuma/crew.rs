//! Threads that go through the phases of an epoch together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{hint, thread};

/// How often a thread looks before it lets others run.
const LOOKS: usize = 500;

/// Counts that outlive a panic: nobody waits for a thread that is gone.
struct CountsOnDrop<'a>(&'a AtomicUsize, usize);

impl Drop for CountsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(self.1, Ordering::AcqRel);
    }
}

/// Does `work` on every task in every phase, and after each phase `after`, before the next begins. Which thread takes which task is left to
/// chance. A thread that starts late, or that the system refuses, is one that the others work for.
pub(super) fn together<T: Send>(
    threads: usize,
    tasks: &[Mutex<T>],
    phases: usize,
    work: impl Fn(usize, &mut T) + Sync,
    mut after: impl FnMut(usize),
) {
    let counters = || (0..phases).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
    let (taken, done, open) = (counters(), counters(), AtomicUsize::new(0));
    let labour = |phase: usize| {
        while let Some(task) = tasks.get(taken[phase].fetch_add(1, Ordering::Relaxed)) {
            let _done = CountsOnDrop(&done[phase], 1);
            work(phase, &mut task.lock().unwrap_or_else(PoisonError::into_inner));
        }
    };
    let help = || {
        for phase in 0..phases {
            wait(|| open.load(Ordering::Acquire) > phase);
            labour(phase);
        }
    };
    thread::scope(|scope| {
        // Should this thread panic, the others find all phases open, do what is left and go.
        let _open = CountsOnDrop(&open, phases);
        for _ in 1..threads.min(tasks.len()) {
            let _refused = thread::Builder::new().spawn_scoped(scope, help).is_err();
        }
        for (phase, done) in done.iter().enumerate() {
            open.fetch_add(1, Ordering::AcqRel);
            labour(phase);
            wait(|| done.load(Ordering::Acquire) >= tasks.len());
            after(phase);
        }
    });
}

fn wait(over: impl Fn() -> bool) {
    let mut looks = 0;
    while !over() {
        looks += 1;
        if looks < LOOKS { hint::spin_loop() } else { thread::yield_now() }
    }
}
