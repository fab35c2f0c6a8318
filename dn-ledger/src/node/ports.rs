//! Addresses for nodes on one machine.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below what systems give outgoing connections (Linux from 32,768, others from 49,152): a port that was free a moment ago, or whose
/// node restarts, is not taken in passing.
const RANGE: Range<u32> = 12_000..32_000;

/// `count` different loopback addresses on which nothing listens, for nodes that must know each other's before they start. No two calls
/// of one process give the same until the range of some 20,000 ports is through.
///
/// # Errors
/// All ports of the range are taken, or the system lets none be bound.
pub fn free_addrs(count: usize) -> io::Result<Vec<SocketAddr>> {
    // Other processes begin elsewhere.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| {
        AtomicU32::new((RandomState::new().build_hasher().finish() % RANGE.len() as u64) as u32)
    });
    let mut found = Vec::new();
    let mut last = None;
    for _ in RANGE {
        if found.len() == count {
            return Ok(found);
        }
        let port = RANGE.start + NEXT.fetch_add(1, Ordering::Relaxed) % RANGE.len() as u32;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port as u16)).and_then(|bound| bound.local_addr()) {
            Ok(address) => found.push(address),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "more addresses than ports")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn addresses_differ_are_free_and_out_of_the_way_of_outgoing_connections() {
        let mut seen = HashSet::new();
        for count in [0, 1, 4, 100] {
            let found = free_addrs(count).unwrap();
            assert_eq!(found.len(), count);
            for address in found {
                assert!(RANGE.contains(&u32::from(address.port())), "{address}");
                assert!(seen.insert(address), "{address} twice");
                TcpListener::bind(address).unwrap();
            }
        }
        assert!(free_addrs(RANGE.len() + 1).is_err());
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let next = free_addrs(1).unwrap()[0].port() + 1;
        // By this test, or, where this fails, by another.
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, next));
        assert!(free_addrs(3).unwrap().iter().all(|address| address.port() != next));
    }
}
