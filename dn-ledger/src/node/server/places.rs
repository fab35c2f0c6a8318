//! Connections' places: so many in all, and so many for one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::node::quota;

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPlace {
    /// All places are taken.
    #[error("{limit} connections are open")]
    Total {
        /// The most.
        limit: usize,
    },
    /// All places of one address are taken.
    #[error("{limit} connections of this address are open")]
    Address {
        /// The most.
        limit: usize,
    },
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Only of those who have a connection: never more than places.
    of: HashMap<IpAddr, usize>,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    of: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(total: usize, per_address: usize) -> Self {
        Self { total, per_address, taken: Mutex::default() }
    }

    /// A place for a connection from this address.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        let of = quota::key(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.total {
            return Err(NoPlace::Total { limit: self.total });
        }
        if let Some(of) = of {
            let count = taken.of.entry(of).or_default();
            if *count >= self.per_address {
                return Err(NoPlace::Address { limit: self.per_address });
            }
            *count += 1;
        }
        taken.total += 1;
        Ok(Place { places: Arc::clone(self), of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        let Some(of) = self.of else { return };
        if let Some(count) = taken.of.get_mut(&of) {
            *count -= 1;
            if *count == 0 {
                taken.of.remove(&of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nobody_takes_all_places() {
        let places = Arc::new(Places::new(4, 2));
        let own =
            [places.take(address("192.0.2.1")).unwrap(), places.take(address("::ffff:192.0.2.1")).unwrap()];
        let refused = places.take(address("192.0.2.1")).unwrap_err();
        assert_eq!(refused, NoPlace::Address { limit: 2 });
        let network = [places.take(address("2001:db8:1:1::1")), places.take(address("2001:db8:1:1::2"))];
        assert!(network.iter().all(Result::is_ok));
        assert_eq!(places.take(address("192.0.2.2")).unwrap_err(), NoPlace::Total { limit: 4 });
        drop(own);
        let refused = places.take(address("2001:db8:1:1:2::")).unwrap_err();
        assert_eq!(refused, NoPlace::Address { limit: 2 });
        drop(network);
        assert!(places.taken.lock().unwrap().of.is_empty());
        // The operator's own programs, or a proxy.
        let local: Vec<_> = (0..4).map(|_| places.take(address("127.0.0.1")).unwrap()).collect();
        assert_eq!(places.take(address("::1")).unwrap_err(), NoPlace::Total { limit: 4 });
        drop(local);
        assert_eq!(places.taken.lock().unwrap().total, 0);
    }
}
