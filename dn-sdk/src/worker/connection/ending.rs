//! How a worker's work ends: told to, or because it cannot go on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::{Link, Shared, locked};
use crate::wire::ToGateway;
use crate::worker::WorkerFailure;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Shared {
    /// No job can be finished any more, so none is taken: all gateways are told. The first reason stays.
    pub(in crate::worker) fn fail(&self, failure: WorkerFailure) {
        let first = self.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            broken.get_or_insert(failure);
            first
        });
        if first {
            self.take_no_more();
        }
    }

    /// As [`fail`](Self::fail) if what computes is gone; says whether it is. Asked whenever it gave an error or panicked.
    pub(in crate::worker) fn fail_without_executor(&self) -> bool {
        let Some(failure) = self.executor().failure() else { return false };
        tracing::error!(%failure, "no more jobs are taken");
        self.fail(failure);
        true
    }

    /// Returns when no job can be finished any more.
    pub(in crate::worker) async fn broken(&self) -> WorkerFailure {
        let mut broken = self.broken.subscribe();
        let failure = broken.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        match failure {
            Some(failure) => failure,
            // The sender lives in `self`, so waiting ends only with the value.
            None => std::future::pending().await,
        }
    }

    fn take_no_more(&self) {
        self.draining.store(true, Ordering::Relaxed);
        tell_all(&locked(&self.links));
    }

    /// Takes no more jobs and waits for those that run.
    pub(in crate::worker) async fn drain(&self) {
        self.take_no_more();
        let all = u32::from(self.config.slots);
        let _ = timeout(DRAIN_TIMEOUT, self.slots.acquire_many(all)).await;
    }
}

/// Tells the gateways that no more jobs are taken. None is waited for: one that reads nothing has its queue full, and learns it
/// from the refusal of its next job.
fn tell_all(links: &[Link]) {
    for link in links {
        let _ = link.out.try_send(ToGateway::Drain {});
    }
}

#[cfg(test)]
mod tests {
    use dn_core::Address;
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_gateway_that_reads_nothing_does_not_keep_the_others_from_being_told() {
        let link = |n| {
            let (out, outgoing) = mpsc::channel(1);
            (Link { gateway: Address([n; 20]), out }, outgoing)
        };
        let ((stalled, mut full), (gone, closed), (other, mut read)) = (link(1), link(2), link(3));
        stalled.out.try_send(ToGateway::Busy { lease: 7 }).unwrap();
        drop(closed);
        tell_all(&[stalled, gone, other]);
        assert_eq!(full.try_recv().unwrap(), ToGateway::Busy { lease: 7 });
        assert_eq!(read.try_recv().unwrap(), ToGateway::Drain {});
    }
}
