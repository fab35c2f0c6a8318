//! What consensus and the service share: the chain at its tip, waiting transactions, and who waits for them.

mod evidence;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use dn_core::{Address, Hash32, TxId};
use tokio::sync::{Notify, oneshot, watch};

use evidence::Funds;

use super::consensus::ConsensusError;
use super::consensus::evidence::Report;
use super::mempool::{Mempool, MempoolError};
use super::metrics::Metrics;
use super::store::Store;
use crate::apply::{MAX_AUDIT_LOAD, Signatures, audit_load, check_paid_and_signed, check_static};
use crate::block::Block;
use crate::chain::{Chain, Executed};
use crate::reject::Reject;
use crate::signatures::map_signatures;
use crate::state::{ACCOUNTS, Account, AuditLoad};
use crate::tx::{Payload, SignedTx};
use crate::views::TxOutcome;

/// The most transactions that are remembered as checked; the older half is forgotten first.
const MAX_CHECKED: usize = 60_000;
/// The most transactions that wait to be passed on to other nodes.
const MAX_OUTBOX: usize = 20_000;
/// Blocks that a transaction of this node's clients may wait for a proposer before this node looks at it again itself.
const PATIENCE_BLOCKS: u64 = 3;

/// The most validators that wait to be reported.
const MAX_EVIDENCE: usize = 64;

/// What became of a transaction.
pub(super) type Answer = Result<TxOutcome, Reject>;

/// Why a transaction does not wait here.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAdmitted {
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error(transparent)]
    Mempool(#[from] MempoolError),
}

#[derive(Debug)]
struct Waiters {
    tx: SignedTx,
    since_height: u64,
    senders: Vec<oneshot::Sender<Answer>>,
}

/// Waiting transactions and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) mempool: Mempool,
    /// Some waiting transaction can apply now; one behind a gap of nonces brings no block forward.
    pub(super) ready: bool,
    /// Reports that only their reward pays, by whom they are about; those that wait no longer are dropped with the next one.
    unpaid: BTreeMap<Address, SignedTx>,
    waiters: BTreeMap<TxId, Waiters>,
    /// To be passed on to other nodes.
    outbox: Vec<SignedTx>,
    /// No more blocks come: shut down, or failed.
    pub(super) stopped: bool,
}

/// Ids of transactions whose signatures were checked, in two generations.
#[derive(Debug, Default)]
struct Checked {
    young: HashSet<TxId>,
    old: HashSet<TxId>,
}

impl Checked {
    fn insert(&mut self, id: TxId) {
        if self.young.len() >= MAX_CHECKED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id);
    }

    fn contains(&self, id: &TxId) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }
}

/// What consensus and the service share. Locks are taken in the order pool, chain, checked.
#[derive(Debug)]
pub(super) struct Shared {
    chain: RwLock<Chain>,
    pool: Mutex<Pool>,
    checked: Mutex<Checked>,
    /// Something waits in the pool, or the node is to stop.
    pub(super) wake: Notify,
    /// Height of the tip, for those who wait for the next.
    heights: watch::Sender<u64>,
    pub(super) store: Store,
    pub(super) genesis: Hash32,
    /// The address of this node's key; none for a node that only follows.
    pub(super) own_key: Option<Address>,
    /// Whether there are others to pass transactions on to.
    passes_on: bool,
    evidence: Mutex<VecDeque<Report>>,
    /// Why consensus ended by itself.
    failure: OnceLock<ConsensusError>,
    pub(super) metrics: Metrics,
}

impl Shared {
    pub(super) fn new(
        chain: Chain,
        store: Store,
        genesis: Hash32,
        own_key: Option<Address>,
        passes_on: bool,
    ) -> Self {
        let heights = watch::Sender::new(chain.tip().height);
        let (chain, pool, checked) = (RwLock::new(chain), Mutex::default(), Mutex::default());
        let (wake, evidence, metrics) = (Notify::new(), Mutex::default(), Metrics::default());
        let failure = OnceLock::new();
        Self {
            chain,
            pool,
            checked,
            wake,
            heights,
            store,
            genesis,
            own_key,
            passes_on,
            evidence,
            failure,
            metrics,
        }
    }

    /// The height of the tip as it rises.
    pub(super) fn heights(&self) -> watch::Receiver<u64> {
        self.heights.subscribe()
    }

    /// The chain, for reading. What a panic left half done is taken back first: nobody reads it, and no block builds on it.
    pub(super) fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        loop {
            match self.chain.read() {
                Ok(chain) => return chain,
                Err(poisoned) => drop(poisoned),
            }
            drop(self.chain_mut());
        }
    }

    pub(super) fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(|poisoned| {
            let mut chain = poisoned.into_inner();
            chain.take_back();
            self.chain.clear_poison();
            tracing::error!(height = chain.tip().height, "a panic left a block half done: it is taken back");
            chain
        })
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self) -> MutexGuard<'_, Checked> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks clients' transactions and puts them into the mempool; the receivers get what became of each.
    pub(super) fn submit(
        &self,
        txs: Vec<(TxId, SignedTx)>,
    ) -> Vec<Result<oneshot::Receiver<Answer>, NotAdmitted>> {
        let checked = self.check(&txs);
        let mut pool = self.pool();
        let chain = self.chain();
        let admitted = txs.into_iter().zip(checked).map(|((id, tx), checked)| {
            let funds = checked?;
            let account = ACCOUNTS.get_or_default(chain.state(), &tx.tx.sender);
            if pool.admit(&tx, id, account, funds)? && self.passes_on && pool.outbox.len() < MAX_OUTBOX {
                pool.outbox.push(tx.clone());
            }
            Ok(pool.wait_for(id, tx, chain.tip().height))
        });
        let admitted = admitted.collect();
        drop((chain, pool));
        self.wake.notify_one();
        admitted
    }

    /// Takes in what another node passes on; what is refused is not worth an answer.
    pub(super) fn take_in(&self, txs: Vec<SignedTx>) {
        let fresh: Vec<_> = {
            let pool = self.pool();
            let with_id = txs.into_iter().map(|tx| (tx.id(), tx));
            with_id.filter(|(id, tx)| !pool.mempool.contains(tx, *id)).collect()
        };
        let checked = self.check(&fresh);
        let mut pool = self.pool();
        let chain = self.chain();
        for ((id, tx), checked) in fresh.iter().zip(checked) {
            if let Ok(funds) = checked {
                let account = ACCOUNTS.get_or_default(chain.state(), &tx.tx.sender);
                // Full, stale or another one with its nonce.
                let _ = pool.admit(tx, *id, account, funds);
            }
        }
        drop((chain, pool));
        self.wake.notify_one();
    }

    /// What waits to be passed on.
    pub(super) fn outgoing(&self) -> Vec<SignedTx> {
        std::mem::take(&mut self.pool().outbox)
    }

    fn check(&self, txs: &[(TxId, SignedTx)]) -> Vec<Result<Funds, Reject>> {
        let next = Arc::clone(self.chain().next());
        let mut checks: Vec<_> = txs.iter().map(|(_, tx)| check_static(tx, &next)).collect();
        let unknown: Vec<_> = {
            let checked = self.checked();
            (0..txs.len()).filter(|i| checks[*i].is_ok() && !checked.contains(&txs[*i].0)).collect()
        };
        // Outside of any lock: it takes most of the time of a transaction.
        let signed = signatures(&unknown.iter().map(|i| &txs[*i].1).collect::<Vec<_>>());
        let mut checked = self.checked();
        for (i, signed) in unknown.into_iter().zip(signed) {
            let (id, tx) = &txs[i];
            if signed {
                checked.insert(*id);
            } else {
                let object = crate::reject::SignedObject::Transaction;
                checks[i] = Err(Reject::Signature { object, expected: tx.tx.sender });
            }
        }
        drop(checked);
        let chain = self.chain();
        let paid = |tx| {
            check_paid_and_signed(chain.state(), tx, chain.next(), Signatures::Checked)?;
            Ok(Funds::of(chain.state(), tx))
        };
        let checks = checks.into_iter().zip(txs).map(|(check, (_, tx))| check.and_then(|()| paid(tx)));
        let checks = checks.collect();
        drop(chain);
        self.try_unpaid(txs, checks)
    }

    /// Whether all senders of a block signed; each signature is checked once in this node's life, on all cores.
    pub(super) fn check_block_signatures(&self, block: &Block) -> bool {
        let unknown: Vec<_> = {
            let checked = self.checked();
            block.txs.iter().filter(|tx| !checked.contains(&tx.id())).collect()
        };
        signatures(&unknown).into_iter().all(|signed| signed)
    }

    /// Transactions that can apply now, for a proposal.
    pub(super) fn candidates(&self) -> Vec<SignedTx> {
        let pool = self.pool();
        let chain = self.chain();
        let params = &chain.next().params;
        // More than a block takes: those that the rules refuse leave their places to others.
        let limit = 2 * params.max_block_txs as usize;
        // Batches that the block would refuse for their number take no place of others.
        let mut load = AuditLoad::default();
        let fits = |tx: &SignedTx| {
            let receipts = match &tx.tx.payload {
                Payload::PostBatch { batch, .. } | Payload::ClaimJob { batch, .. } => batch.body.count,
                _ => return true,
            };
            // As with all candidates, more than a block takes.
            load.take(audit_load(params, receipts), 2 * MAX_AUDIT_LOAD)
        };
        pool.mempool.ready(limit, |sender| ACCOUNTS.get_or_default(chain.state(), &sender).nonce, fits)
    }

    /// Tells those who wait what a decided block did with their transactions.
    pub(super) fn answer(&self, block: &Block, executed: &Executed) {
        let height = block.header.height;
        self.heights.send_replace(height);
        let mut pool = self.pool();
        block.txs.iter().for_each(|tx| pool.mempool.trust(tx.tx.sender));
        for (index, outcome) in (0u32..).zip(&executed.outcomes) {
            let tx_id = outcome.tx_id;
            pool.tell(tx_id, || Ok(TxOutcome { tx_id, height, index, events: outcome.events.clone() }));
        }
        let chain = self.chain();
        let nonce_of = |sender| ACCOUNTS.get_or_default(chain.state(), &sender).nonce;
        for tx in pool.mempool.purge(height + 1, nonce_of) {
            let (expires_height, found) = (tx.tx.expires_height, tx.tx.nonce);
            let reject = if expires_height <= height {
                Reject::Expired { expires_height, height: height + 1 }
            } else {
                Reject::Nonce { expected: nonce_of(tx.tx.sender), found }
            };
            pool.tell(tx.id(), || Err(reject));
        }
        pool.ready = pool.mempool.has_ready(nonce_of);
        self.metrics.mempool_txs.set(i64::try_from(pool.mempool.len()).unwrap_or(i64::MAX));
    }

    /// Drops what the rules refuse now, and says so. What only this block refuses stays for the next one, and so does what its sender sent after it.
    pub(super) fn reject(&self, rejected: &[(SignedTx, Reject)]) {
        let mut pool = self.pool();
        let mut waiting = HashSet::new();
        for (tx, reject) in rejected {
            let is_later = matches!(reject, Reject::Nonce { .. }) && waiting.contains(&tx.tx.sender);
            if reject.is_for_this_block() || is_later {
                waiting.insert(tx.tx.sender);
                continue;
            }
            if matches!(reject, Reject::Bug {}) {
                tracing::error!(tx = %tx.id(), "a bug: the rules panic with this transaction, which is dropped");
            }
            pool.mempool.remove(tx.tx.sender, tx.tx.nonce);
            // A nonce or a height may have been overtaken.
            if !matches!(reject, Reject::Nonce { .. } | Reject::Expired { .. }) {
                pool.mempool.distrust(tx.tx.sender);
            }
            pool.tell(tx.id(), || Err(reject.clone()));
        }
    }

    /// Looks at clients' transactions that no proposer took: the rules may refuse them, and only a proposer would notice.
    pub(super) fn look_again(&self, height: u64) {
        let waiting: Vec<_> = {
            let pool = self.pool();
            let due = pool.waiters.values().filter(|w| w.since_height + PATIENCE_BLOCKS < height);
            due.take(100).map(|w| w.tx.clone()).collect()
        };
        if waiting.is_empty() {
            return;
        }
        let mut chain = self.chain_mut();
        let mut rejected = Vec::new();
        for tx in waiting {
            let next = ACCOUNTS.get_or_default(chain.state(), &tx.tx.sender).nonce;
            if tx.tx.nonce == next
                && let Err(reject) = chain.try_tx(&tx, Signatures::Checked)
            {
                rejected.push((tx, reject));
            }
        }
        drop(chain);
        self.reject(&rejected);
    }

    /// Notes why consensus ended.
    pub(super) fn fail(&self, error: ConsensusError) {
        // The first reason stands.
        let _ = self.failure.set(error);
    }

    /// Why consensus ended by itself, if it did.
    pub(super) fn failure(&self) -> Option<&ConsensusError> {
        self.failure.get()
    }

    /// Ends consensus.
    pub(super) fn stop(&self) {
        self.pool().stopped = true;
        self.wake.notify_one();
    }

    /// Tells everybody who waits that no more blocks come.
    pub(super) fn abandon(&self) {
        let mut pool = self.pool();
        pool.stopped = true;
        // Dropped senders tell those who wait.
        pool.waiters.clear();
    }
}

impl Pool {
    fn take_in(&mut self, tx: &SignedTx, id: TxId, account: Account) -> Result<bool, MempoolError> {
        if self.mempool.contains(tx, id) {
            return Ok(false);
        }
        let (sender, own) = (tx.tx.sender, tx.tx.nonce);
        for gone in self.mempool.insert(tx.clone(), account)? {
            // Dropped senders tell those who wait.
            self.waiters.remove(&gone);
        }
        self.ready |= self.mempool.next_nonce(sender, account.nonce) > own;
        Ok(true)
    }

    /// A receiver of what becomes of a transaction.
    fn wait_for(&mut self, id: TxId, tx: SignedTx, since_height: u64) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        let waiters =
            self.waiters.entry(id).or_insert_with(|| Waiters { tx, since_height, senders: Vec::new() });
        // Those who gave up would pile up behind a transaction that waits for a gap in its nonces.
        waiters.senders.retain(|waiter| !waiter.is_closed());
        waiters.senders.push(sender);
        receiver
    }

    fn tell(&mut self, tx_id: TxId, answer: impl FnOnce() -> Answer) {
        let Some(waiters) = self.waiters.remove(&tx_id) else { return };
        let answer = answer();
        for waiter in waiters.senders {
            // Whoever stopped waiting can ask for the transaction's id.
            let _ = waiter.send(answer.clone());
        }
    }
}

/// Which senders signed. Few are checked right here: waking other threads takes longer.
fn signatures(txs: &[&SignedTx]) -> Vec<bool> {
    map_signatures(txs, |tx| tx.verify_signature().is_ok())
}

/// Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
