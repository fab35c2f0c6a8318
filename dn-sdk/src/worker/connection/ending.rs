//! How a worker's work ends: told to, or because it cannot go on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::{Shared, locked};
use crate::wire::ToGateway;
use crate::worker::WorkerFailure;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

impl Shared {
    /// No job can be finished any more, so none is taken: all gateways are told. The first reason stays.
    pub(in crate::worker) async fn fail(&self, failure: WorkerFailure) {
        let first = self.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            broken.get_or_insert(failure);
            first
        });
        if first {
            self.take_no_more().await;
        }
    }

    /// As [`fail`](Self::fail) if what computes is gone; says whether it is. Asked whenever it gave an error.
    pub(in crate::worker) async fn fail_without_executor(&self) -> bool {
        let Some(failure) = self.executor().failure() else { return false };
        tracing::error!(%failure, "no more jobs are taken");
        self.fail(failure.into()).await;
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

    async fn take_no_more(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let links = locked(&self.links).clone();
        for link in links {
            let _ = link.out.send(ToGateway::Drain {}).await;
        }
    }

    /// Takes no more jobs and waits for those that run.
    pub(in crate::worker) async fn drain(&self) {
        self.take_no_more().await;
        let all = u32::from(self.config.slots);
        let _ = timeout(DRAIN_TIMEOUT, self.slots.acquire_many(all)).await;
    }
}
