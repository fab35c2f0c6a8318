//! `dn_sendTransaction`: transactions in, and what became of them.

use std::sync::Arc;
use std::time::Duration;

use dn_core::TxId;
use dn_core::hexadecimal::from_digits;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::params::RawTx;
use super::table::Method;
use super::waits::{Wait, Waits};
use super::{CODE_BUSY, CODE_PARAMS, CODE_POOL, RpcError, internal, parse, show};
use crate::node::mempool::MempoolError;
use crate::node::quota::Caller;
use crate::node::shared::{Answer, NotAdmitted, Shared};
use crate::reject::Reject;
use crate::state::ACCOUNTS;
use crate::tx::{MAX_TX_BYTES, SignedTx};
use crate::views::{PoolRefusal, TxOutcome};

/// Longest wait for a transaction's block.
const TX_WAIT: Duration = Duration::from_secs(30);

pub(super) fn method() -> Method {
    Method::send::<RawTx, TxOutcome>(
        "dn_sendTransaction",
        "Sends a signed transaction; answers once its block is durable, and the same for the same bytes at any time.",
    )
}

impl From<PoolRefusal> for RpcError {
    fn from(refusal: PoolRefusal) -> Self {
        let data = serde_json::to_value(refusal).ok();
        Self { code: CODE_POOL, message: refusal.to_string(), data }
    }
}

/// Where a transaction is.
enum Admitted {
    Done(TxOutcome),
    Waiting(oneshot::Receiver<Answer>, Wait),
}

/// The transactions of a request, taken in or refused.
pub(super) struct Sent {
    deadline: Instant,
    admitted: Vec<Result<Admitted, RpcError>>,
}

/// Takes in transactions.
pub(super) async fn send(
    shared: &Arc<Shared>,
    waits: &Arc<Waits>,
    caller: Caller,
    params: Vec<Value>,
) -> Sent {
    let deadline = Instant::now() + TX_WAIT;
    if params.is_empty() {
        return Sent { deadline, admitted: Vec::new() };
    }
    let count = params.len();
    let admitting = {
        let (shared, waits) = (Arc::clone(shared), Arc::clone(waits));
        tokio::task::spawn_blocking(move || {
            let begin = |id| waits.begin(caller, id).map_err(RpcError::from);
            admit(&shared, begin, params.into_iter().map(read).collect())
        })
    };
    let admitted = admitting.await.unwrap_or_else(|_| (0..count).map(|_| Err(internal())).collect());
    Sent { deadline, admitted }
}

impl Sent {
    /// Whether the answers have to be waited for.
    pub(super) fn waits(&self) -> bool {
        self.admitted.iter().any(|admitted| matches!(admitted, Ok(Admitted::Waiting(..))))
    }

    /// Answers once the blocks of the transactions are durable. The same bytes again, at any time, get the same answer.
    pub(super) async fn answers(self, shared: &Shared) -> Vec<Result<Box<RawValue>, RpcError>> {
        let mut results = Vec::with_capacity(self.admitted.len());
        for admitted in self.admitted {
            results.push(match admitted {
                Ok(Admitted::Done(outcome)) => show(outcome),
                Ok(Admitted::Waiting(waiting, _wait)) => wait(shared, waiting, self.deadline).await,
                Err(error) => Err(error),
            });
        }
        results
    }
}

fn read(params: Value) -> Result<SignedTx, RpcError> {
    let text = parse::<RawTx>(params)?.tx;
    let bad = |what: String| RpcError::new(CODE_PARAMS, format!("params: tx: {what}"));
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    if digits.len() > 2 * MAX_TX_BYTES {
        return Err(bad(format!("{} bytes; at most {MAX_TX_BYTES}", digits.len() / 2)));
    }
    let bytes =
        from_digits(digits, MAX_TX_BYTES).ok_or_else(|| bad("hexadecimal digits expected".to_owned()))?;
    SignedTx::from_untrusted(&bytes).map_err(|e| bad(e.to_string()))
}

fn admit(
    shared: &Shared,
    begin: impl Fn(TxId) -> Result<Wait, RpcError>,
    txs: Vec<Result<SignedTx, RpcError>>,
) -> Vec<Result<Admitted, RpcError>> {
    let mut admitted: Vec<_> = txs.iter().map(|_| Err(internal())).collect();
    let (mut places, mut fresh) = (Vec::new(), Vec::new());
    for (place, tx) in txs.into_iter().enumerate() {
        let known = tx.and_then(|tx| {
            let id = tx.id();
            Ok((id, shared.store.outcome(id)?, tx))
        });
        match known {
            Err(error) => admitted[place] = Err(error),
            Ok((_, Some(outcome), _)) => admitted[place] = Ok(Admitted::Done(outcome)),
            Ok((id, None, tx)) => {
                places.push((place, id, tx.tx.sender));
                fresh.push((id, tx));
            }
        }
    }
    if shared.pool().stopped {
        for (place, ..) in places {
            admitted[place] = Err(RpcError::new(CODE_BUSY, "the node produces no blocks"));
        }
        return admitted;
    }
    for ((place, id, sender), result) in places.into_iter().zip(shared.submit(fresh)) {
        admitted[place] = match result {
            // It stays taken in where nobody may wait for it.
            Ok(waiting) => begin(id).map(|wait| Admitted::Waiting(waiting, wait)),
            Err(NotAdmitted::Rejected(reject)) => Err(reject.into()),
            Err(NotAdmitted::Mempool(MempoolError::Nonce { found, .. })) => {
                let expected = ACCOUNTS.get_or_default(shared.chain().state(), &sender).nonce;
                done_meanwhile(shared, id, Reject::Nonce { expected, found })
            }
            Err(NotAdmitted::Mempool(MempoolError::Refused(refusal))) => Err(refusal.into()),
            Err(NotAdmitted::Mempool(MempoolError::Reported { validator })) => {
                Err(PoolRefusal::Reported { validator }.into())
            }
            Err(error @ NotAdmitted::Mempool(MempoolError::Full)) => Err(RpcError::new(CODE_BUSY, error)),
        };
    }
    admitted
}

/// A block may have come between the first look and the mempool.
fn done_meanwhile(shared: &Shared, id: TxId, otherwise: Reject) -> Result<Admitted, RpcError> {
    let outcome = shared.store.outcome(id)?;
    outcome.map(Admitted::Done).ok_or_else(|| otherwise.into())
}

async fn wait(
    shared: &Shared,
    waiting: oneshot::Receiver<Answer>,
    deadline: Instant,
) -> Result<Box<RawValue>, RpcError> {
    match timeout_at(deadline, waiting).await {
        Ok(Ok(answer)) => show(answer?),
        Ok(Err(_)) if shared.pool().stopped => Err(RpcError::new(CODE_BUSY, "the node is stopping")),
        Ok(Err(_)) => {
            Err(RpcError::new(CODE_BUSY, "made room for, or was replaced by, a better paid transaction"))
        }
        Err(_) => {
            let seconds = TX_WAIT.as_secs();
            let message =
                format!("not in a block within {seconds} s; it may still be: ask again with the same bytes");
            Err(RpcError::new(CODE_BUSY, message))
        }
    }
}
