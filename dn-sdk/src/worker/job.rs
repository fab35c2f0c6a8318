//! One lease on the worker's side: compute, stream, sign, and keep the result at hand until the gateway settled it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use dn_compute::sampling::Choice;
use dn_core::objects::{FinishReason, JobRequest, Receipt, token_hash};
use dn_core::{Hash32, ReceiptId, Signed};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::WorkerFailure;
use super::connection::Shared;
use super::executor::{ExecuteError, Execution};
use super::served::ServedJob;
use crate::clock::now_ms;
use crate::wire::{FailReason, ToGateway, running_hash};

/// How long a finished job is kept for a cancellation that may still come.
const KEEP_FINISHED: Duration = Duration::from_secs(600);
/// The most tokens of one chunk.
const MAX_CHUNK_TOKENS: usize = 256;

/// What the connection tells a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Run,
    Cancel { keep: u32 },
    Settled,
}

/// A lease and what it needs.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) lease: u64,
    pub(super) request: JobRequest,
    pub(super) already: Vec<u32>,
    pub(super) out: mpsc::Sender<ToGateway>,
    pub(super) signal: watch::Receiver<Signal>,
}

impl Job {
    /// Runs to the end; the slot is free again as soon as nothing is computed any more.
    pub(super) async fn run(mut self, slot: OwnedSemaphorePermit) {
        let started_ms = now_ms();
        let (tokens, received) = mpsc::unbounded_channel();
        let computing = {
            let (shared, request, already) =
                (self.shared.clone(), self.request.clone(), self.already.clone());
            let signal = self.signal.clone();
            tokio::task::spawn_blocking(move || {
                shared.executor().execute(&request, &already, &mut |choice| {
                    // A closed signal means that the connection is gone.
                    let running = signal.has_changed().is_ok() && *signal.borrow() == Signal::Run;
                    if running && tokens.send(choice.clone()).is_ok() {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })
            })
        };
        self.stream(received).await;
        let result = match computing.await {
            Ok(Ok(execution)) => self.finish(&execution, started_ms, slot).await,
            Ok(Err(error)) => {
                tracing::warn!(lease = self.lease, %error, "job failed");
                Err(self.fail_reason(&error))
            }
            Err(_panicked) => Err(self.engine_failed()),
        };
        if let Err(reason) = result {
            let _ = self.out.send(ToGateway::Failed { lease: self.lease, reason }).await;
        }
    }

    async fn stream(&self, mut received: mpsc::UnboundedReceiver<Choice>) {
        let (mut sequence, mut hash, mut choices) = (0, Hash32::ZERO, Vec::new());
        while received.recv_many(&mut choices, MAX_CHUNK_TOKENS).await > 0 {
            let tokens: Vec<u32> = choices.iter().map(|choice| choice.token).collect();
            let logprobs = choices.drain(..).filter_map(|choice| choice.logprobs).collect();
            hash = running_hash(hash, sequence, &tokens);
            let chunk = ToGateway::Chunk { lease: self.lease, sequence, tokens, logprobs, hash };
            if self.out.send(chunk).await.is_err() {
                return;
            }
            sequence += 1;
        }
    }

    /// Signs for what was computed, then waits for the gateway to settle it or to cut it.
    async fn finish(
        &mut self,
        execution: &Execution,
        started_ms: u64,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), FailReason> {
        let mut signed = None;
        if execution.finish != FinishReason::Cancelled && !self.is_cancelled() {
            signed = Some(self.sign(execution, started_ms, None).await?);
        }
        drop(slot);
        let last =
            match tokio::time::timeout(KEEP_FINISHED, self.signal.wait_for(|s| *s != Signal::Run)).await {
                Ok(Ok(last)) => *last,
                // The connection is gone, or nothing comes: the gateway will say at the batch whether it was settled.
                Ok(Err(_)) | Err(_) => {
                    signed.into_iter().for_each(|id| self.shared.release(id));
                    return Ok(());
                }
            };
        let Signal::Cancel { keep } = last else {
            signed.into_iter().for_each(|id| self.shared.release(id));
            return Ok(());
        };
        let kept = keep as usize;
        if kept == 0 || kept > execution.tokens.len() {
            if let Some(id) = signed {
                self.forget(id).await;
            }
            return Ok(());
        }
        if kept == execution.tokens.len() && execution.finish != FinishReason::Cancelled {
            // The answer had ended by itself: it is signed as what it is.
            let id = match signed {
                Some(id) => id,
                None => self.sign(execution, started_ms, None).await?,
            };
            self.shared.release(id);
            return Ok(());
        }
        let cut = self.cut(execution, kept).await?;
        self.sign(&cut, started_ms, signed).await?;
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        matches!(*self.signal.borrow(), Signal::Cancel { .. })
    }

    async fn cut(&self, execution: &Execution, kept: usize) -> Result<Execution, FailReason> {
        let tokens = execution.tokens[..kept].to_vec();
        let finish = FinishReason::Cancelled;
        if kept == execution.tokens.len() {
            return Ok(execution.clone());
        }
        let (shared, request) = (self.shared.clone(), self.request.clone());
        let cut = tokio::task::spawn_blocking(move || {
            let trace_root = shared.executor().cut(&request, &tokens)?;
            Ok::<_, ExecuteError>(Execution { tokens, finish, trace_root, elapsed: Duration::ZERO })
        });
        match cut.await {
            Ok(Ok(cut)) => Ok(cut),
            Ok(Err(error)) => Err(self.fail_reason(&error)),
            Err(_panicked) => Err(self.engine_failed()),
        }
    }

    /// Signs and keeps a receipt, then sends it.
    async fn sign(
        &self,
        execution: &Execution,
        started_ms: u64,
        instead_of: Option<ReceiptId>,
    ) -> Result<ReceiptId, FailReason> {
        let receipt = self.receipt(execution, started_ms)?;
        let receipt = Signed::sign(receipt, self.shared.key());
        let id = receipt.body.id();
        if execution.finish != FinishReason::Cancelled {
            self.shared.hold_back(id, KEEP_FINISHED);
        }
        let (shared, kept) = (self.shared.clone(), receipt.clone());
        let job = ServedJob { request: self.request.clone(), output: execution.tokens.clone() };
        let stored = tokio::task::spawn_blocking(move || shared.store().add(&kept, &job, instead_of)).await;
        let failed = match stored {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_panicked) => Some("the store panicked".to_owned()),
        };
        if let Some(error) = failed {
            tracing::error!(lease = self.lease, error, "receipt cannot be stored; no more jobs are taken");
            self.shared.fail(WorkerFailure::Store);
            return Err(FailReason::Stopping);
        }
        if instead_of.is_none() {
            self.shared.job_done();
        }
        let _ = self.out.send(ToGateway::Done { lease: self.lease, receipt }).await;
        Ok(id)
    }

    fn receipt(&self, execution: &Execution, started_ms: u64) -> Result<Receipt, FailReason> {
        let count = |tokens: &[u32]| u32::try_from(tokens.len()).map_err(|_| FailReason::Engine);
        let request = &self.request;
        let (prompt_tokens, output_tokens) = (count(&request.prompt)?, count(&execution.tokens)?);
        let fee = request.price.fee(prompt_tokens.into(), output_tokens.into());
        let finished_ms = now_ms().max(started_ms);
        Ok(Receipt {
            chain_id: request.chain_id,
            job: request.id(),
            domain: request.domain,
            model: request.model,
            numeric_spec: request.numeric_spec,
            prompt_hash: token_hash(&request.prompt),
            output_hash: token_hash(&execution.tokens),
            trace_root: execution.trace_root,
            prompt_tokens,
            output_tokens,
            finish: execution.finish,
            price: request.price,
            fee: fee.map_err(|_| FailReason::Terms)?,
            payer: request.payer,
            channel: request.channel,
            lane: request.lane,
            worker: self.shared.address(),
            gateway: request.gateway,
            started_ms,
            finished_ms,
            expires_ms: finished_ms.saturating_add(self.shared.receipt_validity_ms()),
        })
    }

    /// What the gateway is told.
    fn fail_reason(&self, error: &ExecuteError) -> FailReason {
        match error {
            ExecuteError::UnknownModel { .. } => FailReason::UnknownModel,
            ExecuteError::Diverges { position } => FailReason::Diverges { position: *position },
            ExecuteError::Engine(_) | ExecuteError::Batch(_) | ExecuteError::Witness(_) => {
                self.engine_failed()
            }
        }
    }

    /// The same of what failed in computing, by an error or a panic: with what computes the worker is at its end, too.
    fn engine_failed(&self) -> FailReason {
        match self.shared.fail_without_executor() {
            true => FailReason::Stopping,
            false => FailReason::Engine,
        }
    }

    async fn forget(&self, id: ReceiptId) {
        let (shared, gateway) = (self.shared.clone(), self.request.gateway);
        let _ = tokio::task::spawn_blocking(move || shared.store().forget(gateway, &[id])).await;
    }
}
