//! Addresses for nodes on one machine.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpSocket;

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
    free_in(RANGE, &NEXT, count)
}

/// Takes an address for a moment, as the engine will: bound, and not listening, so that nobody is answered who then hears no more.
///
/// # Errors
/// It is taken, or not this machine's.
pub(super) fn check_free(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a node that just ended keep nobody from its address; elsewhere the option would share the address.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// So many free ports of a range, from a counter on.
fn free_in(range: Range<u32>, next: &AtomicU32, count: usize) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    if count > range.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more addresses than ports"));
    }
    let mut last = None;
    for _ in range.clone() {
        if found.len() == count {
            break;
        }
        let port = range.start + next.fetch_add(1, Ordering::Relaxed) % range.len() as u32;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port as u16)).and_then(|bound| bound.local_addr()) {
            Ok(address) => found.push(address),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if found.len() < count => Err(error),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_where_somebody_listens_is_not_free() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let taken = listener.local_addr().unwrap();
            assert_eq!(check_free(taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(listener);
            check_free(taken).unwrap();
        }
    }

    #[test]
    fn addresses_differ_are_free_and_out_of_the_way_of_outgoing_connections() {
        let mut found: Vec<_> =
            [0, 1, 4, 20].into_iter().flat_map(|count| free_addrs(count).unwrap()).collect();
        assert_eq!(found.len(), 25);
        assert!(found.iter().all(|address| RANGE.contains(&u32::from(address.port()))), "{found:?}");
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 25, "one twice");
        for address in found {
            TcpListener::bind(address).unwrap();
        }
    }

    /// In a range of its own, which nobody else binds in passing: above what systems give.
    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let range = 61_700..61_708;
        let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let ports = |next: u32, count: usize| {
            let found = free_in(range.clone(), &AtomicU32::new(next), count);
            found.map(|found| found.iter().map(SocketAddr::port).collect::<Vec<_>>())
        };
        let taken = [bind(61_701), bind(61_702)];
        assert_eq!(ports(0, 3).unwrap(), [61_700, 61_703, 61_704]);
        assert_eq!(ports(7, 2).unwrap(), [61_707, 61_700]);
        assert_eq!(ports(0, 7).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        assert_eq!(ports(0, 8).unwrap().len(), 8);
        assert_eq!(ports(0, 9).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
