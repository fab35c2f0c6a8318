//! Who waits for the blocks of transactions: so many of all, of one caller, and for one transaction.
//!
//! Such a wait takes up to half a minute and costs the node next to nothing, so it takes no place of the requests that are at work; these
//! bounds take care that it costs next to nothing also when a stranger begins as many as it can.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dn_core::TxId;
use serde::Serialize;

use super::{CODE_BUSY, RpcError};
use crate::node::quota::Caller;
use crate::node::server::{NoPlace, Place, Places};

/// Transactions that are waited for at once. An eighth of the places is for programs of the same machine.
const MAX_WAITS: usize = 16_384;
/// Those of one caller, if it is on another machine: what it may send at once after a rest.
const MAX_OF_CALLER: usize = 1_000;
/// Those for one transaction. Whoever lost its connection asks again, a few relays may send the same; nobody needs more.
pub(super) const MAX_OF_TX: usize = 8;

/// Why a transaction that was taken in is not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub(super) enum NotWaited {
    /// All wait for enough already.
    #[error("{limit} transactions are waited for; this one was taken in: ask for it again")]
    TooManyWaits { limit: usize },
    /// An address does.
    #[error("{limit} transactions of this address are waited for; this one was taken in: ask for it again")]
    WaitsOfAddress { limit: usize },
    /// An IPv6 site does.
    #[error("{limit} transactions of this network are waited for; this one was taken in: ask for it again")]
    WaitsOfNetwork { limit: usize },
    /// Enough wait for this very transaction.
    #[error("{limit} requests wait for this transaction already: ask for it again")]
    WaitsOfTransaction { limit: usize },
}

impl From<NoPlace> for NotWaited {
    fn from(error: NoPlace) -> Self {
        match error {
            NoPlace::Total { limit } => Self::TooManyWaits { limit },
            NoPlace::Address { limit } => Self::WaitsOfAddress { limit },
            NoPlace::Network { limit } => Self::WaitsOfNetwork { limit },
        }
    }
}

impl From<NotWaited> for RpcError {
    fn from(error: NotWaited) -> Self {
        let data = serde_json::to_value(error).ok();
        Self { code: CODE_BUSY, message: error.to_string(), data }
    }
}

/// All waits.
#[derive(Debug)]
pub(super) struct Waits {
    places: Arc<Places>,
    /// How many wait for a transaction; only of those that somebody waits for.
    of: Mutex<HashMap<TxId, usize>>,
}

/// A wait, over when dropped.
#[derive(Debug)]
pub(super) struct Wait {
    waits: Arc<Waits>,
    id: TxId,
    _place: Place,
}

impl Default for Waits {
    fn default() -> Self {
        Self::new(MAX_WAITS, MAX_OF_CALLER)
    }
}

impl Waits {
    pub(super) fn new(total: usize, of_caller: usize) -> Self {
        Self { places: Arc::new(Places::new(total, of_caller)), of: Mutex::default() }
    }

    /// Begins to wait for a transaction.
    pub(super) fn begin(self: &Arc<Self>, caller: Caller, id: TxId) -> Result<Wait, NotWaited> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of.get(&id).copied().unwrap_or_default();
        if count >= MAX_OF_TX {
            return Err(NotWaited::WaitsOfTransaction { limit: MAX_OF_TX });
        }
        let place = self.places.take(caller.0)?;
        of.insert(id, count + 1);
        Ok(Wait { waits: Arc::clone(self), id, _place: place })
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.of.lock().unwrap().values().sum()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut of = self.waits.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(text: &str) -> Caller {
        Caller(text.parse().unwrap())
    }

    fn id(n: u8) -> TxId {
        TxId([n; 32])
    }

    #[test]
    fn waits_are_bounded_for_a_caller_and_strangers_do_not_take_all() {
        let waits = Arc::new(Waits::new(16, 4));
        let begin = |who: &str, n: u8| waits.begin(caller(who), id(n));
        let mut begun: Vec<_> = (0..4).map(|n| begin("192.0.2.1", n).unwrap()).collect();
        assert_eq!(begin("192.0.2.1", 4).unwrap_err(), NotWaited::WaitsOfAddress { limit: 4 });
        for (who, first) in [("192.0.2.2", 4), ("192.0.2.3", 8)] {
            begun.extend((first..first + 4).map(|n| begin(who, n).unwrap()));
        }
        begun.extend([12, 13].map(|n| begin("192.0.2.4", n).unwrap()));
        assert_eq!(begin("192.0.2.4", 14).unwrap_err(), NotWaited::TooManyWaits { limit: 14 });
        begun.extend([14, 15].map(|n| begin("127.0.0.1", n).unwrap()));
        assert_eq!(begin("::1", 16).unwrap_err(), NotWaited::TooManyWaits { limit: 16 });
        assert_eq!(waits.count(), 16);
        drop(begun);
        assert!(waits.of.lock().unwrap().is_empty());
        begin("192.0.2.1", 4).unwrap();
    }

    #[test]
    fn few_wait_for_one_transaction() {
        let waits = Arc::new(Waits::default());
        let begin = |n: u8| waits.begin(caller("127.0.0.1"), id(n));
        let mut begun: Vec<_> = (0..MAX_OF_TX).map(|_| begin(1).unwrap()).collect();
        assert_eq!(begin(1).unwrap_err(), NotWaited::WaitsOfTransaction { limit: MAX_OF_TX });
        let other = begin(2).unwrap();
        begun.pop();
        let again = begin(1).unwrap();
        assert_eq!(begin(1).unwrap_err(), NotWaited::WaitsOfTransaction { limit: MAX_OF_TX });
        drop((begun, again));
        assert_eq!(waits.count(), 1);
        drop(other);
    }
}
