//! Transactions that wait for a block: by sender in the order of their nonces, the best paid first, bounded in number and bytes.
//!
//! What a stranger can fill is bounded by what it can pay: the fees of all waiting transactions of a sender are within its
//! balance (but for a validator's report of another one, which was tried and pays by its reward), few may wait behind a gap in its nonces, and when
//! there is no room the worst paid last transaction of some sender makes it, those behind gaps first. A fee that the rules then refuse is never paid:
//! whoever promised one to a proposer comes after all others there, until it has paid or a while has passed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};

use dn_core::{Address, Amount, Canonical, TxId};

use crate::state::Account;
use crate::tx::SignedTx;
use crate::views::PoolRefusal;

/// The most transactions that wait.
pub(super) const MAX_TXS: usize = 20_000;
/// The most bytes that wait.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How far a sender's nonces may run ahead of its account.
pub(super) const MAX_AHEAD: u64 = 256;
/// The most transactions of a sender behind a gap in its nonces.
pub(super) const MAX_GAPPED: u64 = 16;
/// How much more than the one before a replacement has to pay, in percent.
pub(super) const REPLACE_PERCENT: u128 = 10;

/// Most senders that are remembered for what the rules refused.
const MAX_DISTRUSTED: usize = 65_536;
/// For how many blocks they are, at least, unless there are too many; at most twice as many.
const DISTRUST_BLOCKS: u64 = 300;

/// Why a transaction cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MempoolError {
    /// Too many wait, and all of them pay at least as well.
    #[error("{MAX_TXS} transactions or {MAX_BYTES} bytes are waiting, none at a lower fee per byte")]
    Full,
    /// The nonce is behind the account's.
    #[error("nonce {found}; {expected} is next")]
    Nonce { expected: u64, found: u64 },
    /// There may be room, but not for this one.
    #[error(transparent)]
    Refused(#[from] PoolRefusal),
    /// Another validator's report, paid by its reward, says the same.
    #[error("a report of {validator} waits already, and nobody is punished twice")]
    Reported { validator: Address },
}

#[derive(Debug)]
struct Waiting {
    id: TxId,
    bytes: usize,
    arrival: u64,
    tx: SignedTx,
}

impl Waiting {
    /// Atto of fee per byte.
    fn rate(&self) -> u128 {
        self.tx.tx.fee.atto() / self.bytes as u128
    }
}

/// How good a sender's last transaction is: the least of all makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// It waits behind no gap, and its sender is not distrusted.
    reachable: bool,
    rate: u128,
    arrival: Reverse<u64>,
}

/// What waits of one sender.
#[derive(Debug, Default)]
struct Own {
    /// The account's nonce when last seen.
    next: u64,
    /// The rules have refused what it sent.
    distrusted: bool,
    txs: BTreeMap<u64, Waiting>,
}

impl Own {
    /// The nonce after the unbroken run.
    fn run_end(&self) -> u64 {
        (self.next..).find(|nonce| !self.txs.contains_key(nonce)).unwrap_or(self.next)
    }

    fn fees(&self) -> u128 {
        self.txs.values().fold(0, |sum, w| sum.saturating_add(w.tx.tx.fee.atto()))
    }

    fn last_rank(&self) -> Option<Rank> {
        let (nonce, last) = self.txs.last_key_value()?;
        let reachable = !self.distrusted && *nonce < self.run_end();
        Some(Rank { reachable, rate: last.rate(), arrival: Reverse(last.arrival) })
    }
}

/// The waiting transactions.
#[derive(Debug, Default)]
pub(super) struct Mempool {
    by_sender: BTreeMap<Address, Own>,
    /// The rank of each sender's last transaction, the first to make room first.
    last: BTreeSet<(Rank, Address)>,
    count: usize,
    bytes: usize,
    arrivals: u64,
    distrusted: Distrusted,
}

/// Senders whose transactions the rules refused, in two generations.
#[derive(Debug, Default)]
struct Distrusted {
    young: HashSet<Address>,
    old: HashSet<Address>,
    /// When the young ones began.
    since_height: u64,
}

impl Distrusted {
    fn insert(&mut self, sender: Address) {
        if self.young.len() >= MAX_DISTRUSTED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(sender);
    }

    /// Whether it was among them.
    fn remove(&mut self, sender: Address) -> bool {
        let young = self.young.remove(&sender);
        self.old.remove(&sender) || young
    }

    fn contains(&self, sender: Address) -> bool {
        self.young.contains(&sender) || self.old.contains(&sender)
    }

    fn pass(&mut self, height: u64) {
        if height >= self.since_height + DISTRUST_BLOCKS {
            self.old = std::mem::take(&mut self.young);
            self.since_height = height;
        }
    }
}

impl Mempool {
    /// A transaction of this sender is in a block: it has paid.
    pub(super) fn trust(&mut self, sender: Address) {
        if self.distrusted.remove(sender) && self.by_sender.contains_key(&sender) {
            self.change(sender, |own| own.distrusted = false);
        }
    }

    /// The rules have refused a transaction of this sender: its others come after those of all others, and make room first.
    pub(super) fn distrust(&mut self, sender: Address) {
        self.distrusted.insert(sender);
        if self.by_sender.contains_key(&sender) {
            self.change(sender, |own| own.distrusted = true);
        }
    }

    /// Takes in a transaction whose signature was checked, and returns the ids of those that made room for it or were
    /// replaced. One that already waits changes nothing.
    pub(super) fn insert(&mut self, tx: SignedTx, account: Account) -> Result<Vec<TxId>, MempoolError> {
        let (id, bytes) = (tx.id(), tx.to_bytes().len());
        let (sender, nonce, fee) = (tx.tx.sender, tx.tx.nonce, tx.tx.fee);
        let (expected, found) = (account.nonce, nonce);
        if nonce < expected {
            return Err(MempoolError::Nonce { expected, found });
        }
        if nonce - expected >= MAX_AHEAD {
            return Err(PoolRefusal::TooFarAhead { expected, limit: MAX_AHEAD, found }.into());
        }
        let none = Own::default();
        let own = self.by_sender.get(&sender).unwrap_or(&none);
        let replaced = own.txs.get(&nonce);
        if let Some(waiting) = replaced {
            if waiting.id == id {
                return Ok(Vec::new());
            }
            let old = waiting.tx.tx.fee.atto();
            let minimum = Amount::from_atto(old.saturating_add((old * REPLACE_PERCENT / 100).max(1)));
            if fee < minimum {
                return Err(PoolRefusal::Underpriced { nonce, minimum, found: fee }.into());
            }
        }
        let old_fee = replaced.map_or(0, |waiting| waiting.tx.tx.fee.atto());
        let needed = Amount::from_atto(own.fees().saturating_sub(old_fee).saturating_add(fee.atto()));
        if needed > account.balance {
            return Err(PoolRefusal::Unfunded { available: account.balance, needed }.into());
        }
        let missing = (account.nonce..).find(|n| !own.txs.contains_key(n)).unwrap_or(nonce);
        let gapped = own.txs.range(missing..).count() as u64;
        if nonce > missing && replaced.is_none() && gapped >= MAX_GAPPED {
            return Err(PoolRefusal::Gapped { missing, limit: MAX_GAPPED, found }.into());
        }
        self.arrivals += 1;
        let waiting = Waiting { id, bytes, arrival: self.arrivals, tx };
        let reachable = nonce <= missing && !self.distrusted.contains(sender);
        let rank = Rank { reachable, rate: waiting.rate(), arrival: Reverse(waiting.arrival) };
        let mut gone = Vec::new();
        if let Some(old) = self.take(sender, nonce) {
            gone.push(old.id);
        } else {
            gone.extend(self.make_room(bytes, rank, sender)?);
        }
        self.put(sender, nonce, account.nonce, waiting);
        Ok(gone)
    }

    /// Drops worse last transactions of other senders until one more of this rank fits.
    fn make_room(&mut self, bytes: usize, rank: Rank, sender: Address) -> Result<Vec<TxId>, MempoolError> {
        let (mut count, mut freed, mut victims) = (self.count, 0, Vec::new());
        for (worse, other) in &self.last {
            if count < MAX_TXS && self.bytes - freed + bytes <= MAX_BYTES {
                break;
            }
            if (worse.reachable, worse.rate) >= (rank.reachable, rank.rate) {
                return Err(MempoolError::Full);
            }
            let last = self.by_sender[other].txs.last_key_value();
            let (nonce, waiting) = last.expect("every sender has a transaction");
            if *other != sender {
                victims.push((*other, *nonce));
                (count, freed) = (count - 1, freed + waiting.bytes);
            }
        }
        if count >= MAX_TXS || self.bytes - freed + bytes > MAX_BYTES {
            return Err(MempoolError::Full);
        }
        Ok(victims.into_iter().filter_map(|(other, nonce)| Some(self.take(other, nonce)?.id)).collect())
    }

    fn put(&mut self, sender: Address, nonce: u64, next: u64, waiting: Waiting) {
        self.count += 1;
        self.bytes += waiting.bytes;
        let distrusted = self.distrusted.contains(sender);
        self.change(sender, |own| {
            (own.next, own.distrusted) = (next, distrusted);
            own.txs.insert(nonce, waiting)
        });
    }

    fn take(&mut self, sender: Address, nonce: u64) -> Option<Waiting> {
        let waiting = self.change(sender, |own| own.txs.remove(&nonce))?;
        self.count -= 1;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Changes what waits of a sender, and keeps its rank in step.
    fn change<T>(&mut self, sender: Address, change: impl FnOnce(&mut Own) -> T) -> T {
        let own = self.by_sender.entry(sender).or_default();
        let before = own.last_rank();
        let result = change(own);
        let after = own.last_rank();
        if before != after {
            if let Some(rank) = before {
                self.last.remove(&(rank, sender));
            }
            if let Some(rank) = after {
                self.last.insert((rank, sender));
            }
        }
        if own.txs.is_empty() {
            self.by_sender.remove(&sender);
        }
        result
    }

    /// Whether this very transaction waits.
    pub(super) fn contains(&self, tx: &SignedTx, id: TxId) -> bool {
        let own = self.by_sender.get(&tx.tx.sender);
        own.and_then(|own| own.txs.get(&tx.tx.nonce)).is_some_and(|waiting| waiting.id == id)
    }

    /// Up to `limit` transactions that arrived until this count of arrivals.
    pub(super) fn older_than(&self, arrivals: u64, limit: usize) -> Vec<SignedTx> {
        let all = self.by_sender.values().flat_map(|own| own.txs.values());
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
        let waits = |nonce: &u64| own.is_some_and(|own| own.txs.contains_key(nonce));
        (account_nonce..).find(|nonce| !waits(nonce)).unwrap_or(account_nonce)
    }

    /// Whether some transaction can apply now.
    pub(super) fn has_ready(&self, nonce_of: impl Fn(Address) -> u64) -> bool {
        self.by_sender.iter().any(|(sender, own)| own.txs.contains_key(&nonce_of(*sender)))
    }

    /// Up to `limit` transactions that can apply now: each sender's in the order of its nonces, of different senders the better
    /// paid first, then the earlier, and last of all those of distrusted senders. One that does not fit stays, and so do its sender's later ones.
    pub(super) fn ready(
        &self,
        limit: usize,
        nonce_of: impl Fn(Address) -> u64,
        mut fits: impl FnMut(&SignedTx) -> bool,
    ) -> Vec<SignedTx> {
        let head = |sender: &Address, nonce: u64| {
            let own = self.by_sender.get(sender)?;
            let waiting = own.txs.get(&nonce)?;
            Some((!own.distrusted, waiting.rate(), Reverse(waiting.arrival), *sender, nonce))
        };
        let heads = self.by_sender.keys().filter_map(|sender| head(sender, nonce_of(*sender)));
        let mut heads: BinaryHeap<_> = heads.collect();
        let mut ready = Vec::new();
        while let Some((_, _, _, sender, nonce)) = heads.pop().filter(|_| ready.len() < limit) {
            let tx = &self.by_sender[&sender].txs[&nonce].tx;
            if !fits(tx) {
                continue;
            }
            ready.push(tx.clone());
            heads.extend(head(&sender, nonce + 1));
        }
        ready
    }

    /// Removes a transaction.
    pub(super) fn remove(&mut self, sender: Address, nonce: u64) {
        self.take(sender, nonce);
    }

    /// Removes what can no longer apply at this height or later, and returns it.
    pub(super) fn purge(&mut self, height: u64, nonce_of: impl Fn(Address) -> u64) -> Vec<SignedTx> {
        self.distrusted.pass(height);
        let mut gone = Vec::new();
        let senders: Vec<_> = self.by_sender.keys().copied().collect();
        for sender in senders {
            let (next, distrusted) = (nonce_of(sender), self.distrusted.contains(sender));
            self.change(sender, |own| (own.next, own.distrusted) = (next, distrusted));
            let stale = |w: &&Waiting| w.tx.tx.nonce < next || w.tx.tx.expires_height < height;
            gone.extend(self.by_sender[&sender].txs.values().filter(stale).map(|w| w.tx.clone()));
        }
        for tx in &gone {
            self.remove(tx.tx.sender, tx.tx.nonce);
        }
        gone
    }
}

#[cfg(test)]
mod tests;
