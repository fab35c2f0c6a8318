//! Transactions that wait for a block: by sender in the order of their nonces, bounded in number and bytes.

use std::collections::BTreeMap;

use dn_core::{Address, Canonical, TxId};

use crate::tx::SignedTx;

/// The most transactions that wait.
pub(super) const MAX_TXS: usize = 20_000;
/// The most bytes that wait.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How far a sender's nonces may run ahead of its account.
pub(super) const MAX_AHEAD: u64 = 256;

/// Why a transaction cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MempoolError {
    /// Too many wait.
    #[error("{MAX_TXS} transactions or {MAX_BYTES} bytes are waiting")]
    Full,
    /// Another transaction of the sender waits with this nonce.
    #[error("another transaction of the sender waits with nonce {nonce}")]
    NonceTaken { nonce: u64 },
    /// The nonce is behind the account's, or too far ahead of it.
    #[error("nonce {found}; {expected} is next and at most {MAX_AHEAD} may wait ahead of it")]
    Nonce { expected: u64, found: u64 },
}

#[derive(Debug)]
struct Waiting {
    id: TxId,
    bytes: usize,
    arrival: u64,
    tx: SignedTx,
}

/// The waiting transactions.
#[derive(Debug, Default)]
pub(super) struct Mempool {
    by_sender: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    count: usize,
    bytes: usize,
    arrivals: u64,
}

impl Mempool {
    /// Takes in a transaction whose signature was checked; false if it already waits.
    pub(super) fn insert(&mut self, tx: SignedTx, account_nonce: u64) -> Result<bool, MempoolError> {
        let (id, bytes) = (tx.id(), tx.to_bytes().len());
        let (sender, nonce) = (tx.tx.sender, tx.tx.nonce);
        if nonce < account_nonce || nonce - account_nonce >= MAX_AHEAD {
            return Err(MempoolError::Nonce { expected: account_nonce, found: nonce });
        }
        if let Some(waiting) = self.by_sender.get(&sender).and_then(|own| own.get(&nonce)) {
            return if waiting.id == id { Ok(false) } else { Err(MempoolError::NonceTaken { nonce }) };
        }
        if self.count >= MAX_TXS || self.bytes + bytes > MAX_BYTES {
            return Err(MempoolError::Full);
        }
        self.arrivals += 1;
        let waiting = Waiting { id, bytes, arrival: self.arrivals, tx };
        self.by_sender.entry(sender).or_default().insert(nonce, waiting);
        self.count += 1;
        self.bytes += bytes;
        Ok(true)
    }

    /// Whether this very transaction waits.
    pub(super) fn contains(&self, tx: &SignedTx, id: TxId) -> bool {
        let own = self.by_sender.get(&tx.tx.sender);
        own.and_then(|own| own.get(&tx.tx.nonce)).is_some_and(|waiting| waiting.id == id)
    }

    /// Up to `limit` transactions that arrived until this count of arrivals.
    pub(super) fn older_than(&self, arrivals: u64, limit: usize) -> Vec<SignedTx> {
        let all = self.by_sender.values().flat_map(BTreeMap::values);
        let old = all.filter(|waiting| waiting.arrival <= arrivals);
        old.take(limit).map(|waiting| waiting.tx.clone()).collect()
    }

    /// How many ever arrived.
    pub(super) const fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// The nonce after the sender's unbroken run of waiting transactions.
    pub(super) fn next_nonce(&self, sender: Address, account_nonce: u64) -> u64 {
        let own = self.by_sender.get(&sender);
        let waits = |nonce: &u64| own.is_some_and(|own| own.contains_key(nonce));
        (account_nonce..).find(|nonce| !waits(nonce)).unwrap_or(account_nonce)
    }

    /// Whether some transaction can apply now.
    pub(super) fn has_ready(&self, nonce_of: impl Fn(Address) -> u64) -> bool {
        self.by_sender.iter().any(|(sender, own)| own.contains_key(&nonce_of(*sender)))
    }

    /// Up to `limit` transactions that can apply now: of each sender its unbroken run, interleaved by arrival.
    pub(super) fn ready(&self, limit: usize, nonce_of: impl Fn(Address) -> u64) -> Vec<SignedTx> {
        let mut ready = Vec::new();
        for (sender, own) in &self.by_sender {
            let (mut nonce, mut after) = (nonce_of(*sender), 0);
            while let Some(waiting) = own.get(&nonce).filter(|_| ready.len() < MAX_TXS) {
                // Never before the same sender's earlier nonce, however they arrived.
                after = waiting.arrival.max(after);
                ready.push(((after, nonce), waiting));
                nonce += 1;
            }
        }
        ready.sort_by_key(|(order, _)| *order);
        ready.truncate(limit);
        ready.into_iter().map(|(_, waiting)| waiting.tx.clone()).collect()
    }

    /// Removes a transaction.
    pub(super) fn remove(&mut self, sender: Address, nonce: u64) {
        let Some(own) = self.by_sender.get_mut(&sender) else { return };
        if let Some(waiting) = own.remove(&nonce) {
            self.count -= 1;
            self.bytes -= waiting.bytes;
        }
        if own.is_empty() {
            self.by_sender.remove(&sender);
        }
    }

    /// Removes what can no longer apply at this height or later, and returns the ids.
    pub(super) fn purge(&mut self, height: u64, nonce_of: impl Fn(Address) -> u64) -> Vec<SignedTx> {
        let mut gone = Vec::new();
        for (sender, own) in &self.by_sender {
            let nonce = nonce_of(*sender);
            let stale = |w: &&Waiting| w.tx.tx.nonce < nonce || w.tx.tx.expires_height < height;
            gone.extend(own.values().filter(stale).map(|waiting| waiting.tx.clone()));
        }
        for tx in &gone {
            self.remove(tx.tx.sender, tx.tx.nonce);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use dn_core::{Amount, SecretKey};

    use super::*;
    use crate::tx::{Payload, Tx};

    fn tx(seed: u8, nonce: u64, expires_height: u64) -> SignedTx {
        let key = SecretKey::from_bytes(&[seed; 32]).unwrap();
        let (sender, fee) = (key.address(), Amount::ZERO);
        Tx { chain_id: 1, sender, nonce, expires_height, fee, payload: Payload::Withdraw {} }.sign(&key)
    }

    #[test]
    fn only_unbroken_runs_are_ready_and_senders_keep_their_order() {
        let mut pool = Mempool::default();
        let (a1, a0, a3, b0) = (tx(1, 1, 9), tx(1, 0, 9), tx(1, 3, 9), tx(2, 0, 9));
        for tx in [&a1, &a3, &b0, &a0] {
            pool.insert(tx.clone(), 0).unwrap();
        }
        assert_eq!(pool.ready(10, |_| 0), [b0.clone(), a0.clone(), a1.clone()]);
        assert_eq!(pool.ready(1, |_| 0), [b0]);
        assert!(pool.has_ready(|_| 0) && pool.has_ready(|_| 3) && !pool.has_ready(|_| 4));
        assert_eq!(pool.next_nonce(a0.tx.sender, 0), 2);
        assert_eq!(pool.len(), 4);
        // The same again is nothing new; another one with its nonce is refused.
        assert_eq!(pool.insert(a1.clone(), 0), Ok(false));
        assert!(pool.contains(&a1, a1.id()) && !pool.contains(&a1, a0.id()));
        assert_eq!(pool.insert(tx(1, 1, 8), 0), Err(MempoolError::NonceTaken { nonce: 1 }));
        assert_eq!(pool.len(), 4);
    }

    #[test]
    fn stale_and_far_nonces_are_refused_and_purged() {
        let mut pool = Mempool::default();
        assert_eq!(pool.insert(tx(1, 0, 9), 1), Err(MempoolError::Nonce { expected: 1, found: 0 }));
        assert!(pool.insert(tx(1, MAX_AHEAD, 9), 0).is_err());
        pool.insert(tx(1, 0, 5), 0).unwrap();
        pool.insert(tx(2, 1, 9), 0).unwrap();
        assert_eq!(pool.purge(6, |_| 0).len(), 1);
        assert_eq!(pool.purge(6, |_| 2).len(), 1);
        assert_eq!((pool.len(), pool.bytes), (0, 0));
    }
}
