//! Connections' places: so many in all, so many for one address or network, and some that only programs of this machine get.

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
    /// All places of an IPv6 network of 2^80 addresses are taken.
    #[error("{limit} connections of this network are open")]
    Network {
        /// The most.
        limit: usize,
    },
}

/// A network's places for one address's: a site with many customers' networks is many callers, but not all.
const ADDRESSES_PER_NETWORK: usize = 4;
/// One in so many places is kept for programs of this machine.
const KEPT: usize = 8;

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Of strangers.
    strangers: usize,
    /// Of addresses and, by their first addresses, networks; only of those who have a connection: never more than two for a place.
    of: HashMap<Key, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Network(IpAddr),
}

/// All places.
#[derive(Debug)]
pub(in crate::node) struct Places {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(in crate::node) struct Place {
    places: Arc<Places>,
    of: Option<IpAddr>,
}

impl Key {
    /// What a stranger's connection counts for.
    fn all(of: IpAddr) -> impl Iterator<Item = Self> {
        [Some(Self::Address(of)), quota::network(of).map(Self::Network)].into_iter().flatten()
    }
}

impl Places {
    pub(in crate::node) fn new(total: usize, per_address: usize) -> Self {
        Self { total, per_address, taken: Mutex::default() }
    }

    /// A place for a connection from this address.
    pub(in crate::node) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        let of = quota::key(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.total {
            return Err(NoPlace::Total { limit: self.total });
        }
        if let Some(of) = of {
            let limit = self.total - self.total / KEPT;
            if taken.strangers >= limit {
                return Err(NoPlace::Total { limit });
            }
            for key in Key::all(of) {
                let count = taken.of.get(&key).copied().unwrap_or_default();
                let limit = match key {
                    Key::Address(_) => self.per_address,
                    Key::Network(_) => self.per_address.saturating_mul(ADDRESSES_PER_NETWORK),
                };
                if count >= limit {
                    return Err(match key {
                        Key::Address(_) => NoPlace::Address { limit },
                        Key::Network(_) => NoPlace::Network { limit },
                    });
                }
            }
            for key in Key::all(of) {
                *taken.of.entry(key).or_default() += 1;
            }
            taken.strangers += 1;
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
        taken.strangers -= 1;
        for key in Key::all(of) {
            if let Some(count) = taken.of.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    taken.of.remove(&key);
                }
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

    #[test]
    fn a_site_with_many_networks_does_not_take_all_places() {
        let places = Arc::new(Places::new(1_000, 2));
        let of = |network: u16| places.take(address(&format!("2001:db8:1:{network:x}::1")));
        let taken: Vec<_> = (0..8).map(|network| of(network).unwrap()).collect();
        assert_eq!(of(9).unwrap_err(), NoPlace::Network { limit: 8 });
        let other = places.take(address("2001:db8:2:1::1")).unwrap();
        drop(taken);
        let again = of(9).unwrap();
        drop((other, again));
        assert!(places.taken.lock().unwrap().of.is_empty());
    }

    #[test]
    fn programs_of_this_machine_have_places_that_strangers_cannot_take() {
        let places = Arc::new(Places::new(16, 100));
        let strangers: Vec<_> = (0..14).map(|_| places.take(address("192.0.2.1")).unwrap()).collect();
        assert_eq!(places.take(address("192.0.2.1")).unwrap_err(), NoPlace::Total { limit: 14 });
        let own = [places.take(address("127.0.0.1")).unwrap(), places.take(address("::1")).unwrap()];
        assert_eq!(places.take(address("127.0.0.1")).unwrap_err(), NoPlace::Total { limit: 16 });
        drop(strangers);
        // And take of the others', where these are free.
        let more: Vec<_> = (0..14).map(|_| places.take(address("127.0.0.1")).unwrap()).collect();
        assert_eq!(places.take(address("192.0.2.1")).unwrap_err(), NoPlace::Total { limit: 16 });
        drop((own, more));
    }
}
