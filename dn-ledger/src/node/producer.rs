//! Block production: the engine of a chain with one producer.
//!
//! It drives [`Chain`] exactly as the BFT engine will: propose, make durable, commit, answer. A waiting transaction may bring a
//! block forward to a quarter of the interval and no further, since deadlines of audits and channels count blocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dn_core::{Address, Hash32, SecretKey, TxId};
use tokio::sync::{oneshot, watch};

use super::mempool::{Mempool, MempoolError};
use super::store::{Store, StoreError};
use crate::block::Certificate;
use crate::chain::{BlockError, Chain, Proposal};
use crate::reject::Reject;
use crate::state::ACCOUNTS;
use crate::tx::SignedTx;
use crate::views::TxOutcome;

/// What became of a transaction.
pub(super) type Answer = Result<TxOutcome, Reject>;

/// Why no more blocks are produced.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProducerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// Waiting transactions and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) mempool: Mempool,
    /// Some waiting transaction can apply now; one behind a gap of nonces brings no block forward.
    ready: bool,
    waiters: BTreeMap<TxId, Vec<oneshot::Sender<Answer>>>,
    /// No more blocks are produced: shut down, or failed.
    pub(super) stopped: bool,
}

/// What the producer and the service share. Locks are taken in the order pool, chain.
#[derive(Debug)]
pub(super) struct Shared {
    chain: RwLock<Chain>,
    pool: Mutex<Pool>,
    wake: Condvar,
    /// Height of the tip, for those who wait for the next.
    heights: watch::Sender<u64>,
    pub(super) store: Store,
    pub(super) genesis: Hash32,
    pub(super) producer: Address,
}

impl Shared {
    pub(super) fn new(chain: Chain, store: Store, genesis: Hash32, producer: Address) -> Self {
        let heights = watch::Sender::new(chain.tip().height);
        let (chain, pool, wake) = (RwLock::new(chain), Mutex::default(), Condvar::new());
        Self { chain, pool, wake, heights, store, genesis, producer }
    }

    /// The height of the tip as it rises.
    pub(super) fn heights(&self) -> watch::Receiver<u64> {
        self.heights.subscribe()
    }

    /// The chain, for reading. A panic elsewhere leaves it usable: what it interrupted was rolled back or never sealed, and the
    /// producer has stopped.
    pub(super) fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a checked transaction into the mempool; the receiver gets what became of it.
    pub(super) fn submit(&self, tx: SignedTx) -> Result<oneshot::Receiver<Answer>, MempoolError> {
        let mut pool = self.pool();
        let account = ACCOUNTS.get_or_default(self.chain().state(), &tx.tx.sender);
        let (id, sender, own) = (tx.id(), tx.tx.sender, tx.tx.nonce);
        for gone in pool.mempool.insert(tx, account)? {
            // Dropped senders tell those who wait.
            pool.waiters.remove(&gone);
        }
        pool.ready |= pool.mempool.next_nonce(sender, account.nonce) > own;
        let (sender, receiver) = oneshot::channel();
        let waiters = pool.waiters.entry(id).or_default();
        // Those who gave up would pile up behind a transaction that waits for a gap in its nonces.
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(sender);
        self.wake.notify_all();
        Ok(receiver)
    }

    /// Ends block production after the block in progress.
    pub(super) fn stop(&self) {
        self.pool().stopped = true;
        self.wake.notify_all();
    }
}

/// Tells everybody who waits that no more blocks come, also when production ends in a panic.
struct StopOnDrop<'a>(&'a Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        let mut pool = self.0.pool();
        pool.stopped = true;
        // Dropped senders tell those who wait.
        pool.waiters.clear();
    }
}

/// Produces blocks until it is stopped or fails.
pub(super) fn run(shared: &Arc<Shared>, key: &SecretKey, interval: Duration) {
    let _stop = StopOnDrop(shared);
    let mut last = Instant::now();
    while wait(shared, last, interval) {
        last = Instant::now();
        if let Err(error) = produce(shared, key) {
            tracing::error!(%error, "block production has stopped");
            break;
        }
    }
}

/// Waits until the next block is due; false when production ends.
fn wait(shared: &Shared, last: Instant, interval: Duration) -> bool {
    let mut pool = shared.pool();
    loop {
        if pool.stopped {
            return false;
        }
        let due = last + if pool.ready { interval / 4 } else { interval };
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        (pool, _) = shared.wake.wait_timeout(pool, left).unwrap_or_else(PoisonError::into_inner);
    }
}

fn produce(shared: &Shared, key: &SecretKey) -> Result<(), ProducerError> {
    let candidates = {
        let pool = shared.pool();
        let chain = shared.chain();
        let limit = chain.next_context(0).params.max_block_txs as usize;
        pool.mempool.ready(limit, |sender| ACCOUNTS.get_or_default(chain.state(), &sender).nonce)
    };
    let proposal = shared.chain_mut().propose(key.address(), now_ms(), &candidates)?;
    let certificate = Certificate::sign(&proposal.block.header, 0, [key]);
    // On disk first: nothing is answered, or visible to queries, that a crash could take back.
    shared.store.commit(&proposal.block, &certificate, &proposal.executed)?;
    shared.chain_mut().commit(&proposal.block.header, certificate, &proposal.executed);
    shared.heights.send_replace(proposal.block.header.height);
    answer(shared, &proposal);
    Ok(())
}

fn answer(shared: &Shared, proposal: &Proposal) {
    let mut pool = shared.pool();
    let height = proposal.block.header.height;
    for (index, outcome) in (0u32..).zip(&proposal.executed.outcomes) {
        let (tx_id, events) = (outcome.tx_id, outcome.events.clone());
        pool.tell(tx_id, &Ok(TxOutcome { tx_id, height, index, events }));
    }
    for (tx, reject) in &proposal.rejected {
        pool.mempool.remove(tx.tx.sender, tx.tx.nonce);
        pool.tell(tx.id(), &Err(reject.clone()));
    }
    let chain = shared.chain();
    let gone = pool.mempool.purge(height + 1, |sender| ACCOUNTS.get_or_default(chain.state(), &sender).nonce);
    pool.ready = pool.mempool.has_ready(|sender| ACCOUNTS.get_or_default(chain.state(), &sender).nonce);
    for tx in gone {
        let expected = ACCOUNTS.get_or_default(chain.state(), &tx.tx.sender).nonce;
        let (expires_height, found) = (tx.tx.expires_height, tx.tx.nonce);
        let reject = if expires_height <= height {
            Reject::Expired { expires_height, height: height + 1 }
        } else {
            Reject::Nonce { expected, found }
        };
        pool.tell(tx.id(), &Err(reject));
    }
}

impl Pool {
    fn tell(&mut self, tx_id: TxId, answer: &Answer) {
        for waiter in self.waiters.remove(&tx_id).unwrap_or_default() {
            // Whoever stopped waiting can ask for the transaction's id.
            let _ = waiter.send(answer.clone());
        }
    }
}

/// Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
