//! How much one caller may ask: calls a second for each address, with a bounded memory of addresses.
//!
//! Callers on the same machine are not counted: they are the operator's own programs, or a proxy that knows its callers better.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls a second that one address may go on asking.
pub(super) const CALLS_PER_SECOND: u32 = 200;
/// Calls that it may ask at once after a rest.
pub(super) const BURST: u32 = 1_000;
/// Addresses remembered; when more come, those that have rested are forgotten.
const MAX_CALLERS: usize = 65_536;
/// How long a call is paid off.
const CALL: Duration = Duration::from_millis(1_000 / CALLS_PER_SECOND as u64);
/// The longest that somebody waits for what large answers have cost.
const MAX_DEBT: Duration = Duration::from_secs(30);

/// Who sent a request. The server puts it beside each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) IpAddr);

/// The callers' quotas: for each who asked lately the moment at which all is paid off. (The generic cell rate algorithm; rate limiters of
/// others know no debt, and what an answer costs is known only when it is made.)
#[derive(Debug, Default)]
pub(super) struct Quotas {
    paid: Mutex<HashMap<IpAddr, Instant>>,
}

impl Quotas {
    /// Whether a caller may ask so many calls now; they are counted if it may.
    pub(super) fn allows(&self, caller: Caller, calls: NonZeroU32) -> bool {
        self.count(caller, calls.get(), Instant::now(), BURST * CALL, false)
    }

    /// Counts what a call has cost beyond itself: the caller may owe it for a while.
    pub(super) fn charge(&self, caller: Caller, calls: u32) {
        self.count(caller, calls, Instant::now(), BURST * CALL + MAX_DEBT, true);
    }

    /// Counts calls if they are paid off within a time, or as many as are.
    fn count(&self, Caller(address): Caller, calls: u32, now: Instant, within: Duration, part: bool) -> bool {
        let Some(key) = key(address) else { return true };
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        if paid.len() >= MAX_CALLERS && !paid.contains_key(&key) {
            paid.retain(|_, at| *at > now);
            // All of them asked lately: a flood from everywhere. Newcomers wait.
            if paid.len() >= MAX_CALLERS {
                return false;
            }
        }
        let from = paid.get(&key).map_or(now, |at| (*at).max(now));
        let (until, limit) = (from + CALL.saturating_mul(calls), now + within);
        if until > limit && !part {
            return false;
        }
        paid.insert(key, until.min(limit.max(from)));
        true
    }
}

/// What is counted as one caller, for calls and connections: an IPv4 address, or the network of 2^64 addresses that IPv6 gives to one customer.
pub(super) fn key(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    if address.is_loopback() {
        return None;
    }
    match address {
        IpAddr::V4(_) => Some(address),
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
    }
}

/// The site that a caller's network belongs to: what IPv6 gives to whoever has many customers or offices, 2^80 addresses.
pub(super) fn network(of: IpAddr) -> Option<IpAddr> {
    match of {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(text: &str) -> Caller {
        Caller(text.parse().unwrap())
    }

    const ONE: NonZeroU32 = NonZeroU32::new(1).expect("not zero");
    const ALL: NonZeroU32 = NonZeroU32::new(BURST).expect("not zero");

    #[test]
    fn one_caller_runs_out_and_no_other_does() {
        let quotas = Quotas::default();
        assert!(quotas.allows(caller("192.0.2.1"), ALL));
        let more = NonZeroU32::new(CALLS_PER_SECOND).unwrap();
        assert!(!quotas.allows(caller("192.0.2.1"), more));
        assert!(!quotas.allows(caller("::ffff:192.0.2.1"), more), "the same address in its other form");
        assert!(quotas.allows(caller("192.0.2.2"), ONE));
        // A customer's whole network is one caller.
        assert!(quotas.allows(caller("2001:db8:1:1::1"), ALL));
        assert!(!quotas.allows(caller("2001:db8:1:1:ffff::9"), more));
        assert!(quotas.allows(caller("2001:db8:1:2::1"), ONE));
    }

    #[test]
    fn calls_come_back_with_time() {
        let (quotas, who, start) = (Quotas::default(), caller("192.0.2.1"), Instant::now());
        let asks = |calls, after| quotas.count(who, calls, start + after, BURST * CALL, false);
        assert!(asks(BURST, Duration::ZERO));
        assert!(!asks(1, CALL / 2), "half a call");
        assert!(asks(1, CALL) && !asks(1, CALL));
        assert!(asks(CALLS_PER_SECOND, CALL + Duration::from_secs(1)));
        // A rest gives a burst, however long it is.
        let rested = Duration::from_secs(3_600);
        assert!(asks(BURST, rested) && !asks(1, rested));
    }

    /// Whoever has nothing left does not get one large answer after another, a call at a time.
    #[test]
    fn large_answers_are_owed() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let (who, other) = (caller("192.0.2.1"), caller("192.0.2.2"));
        let asks = |calls, after| quotas.count(who, calls, start + after, BURST * CALL, false);
        let owes = |calls, after| quotas.count(who, calls, start + after, BURST * CALL + MAX_DEBT, true);
        assert!(asks(1, Duration::ZERO));
        owes(BURST + 400, Duration::ZERO);
        assert!(!asks(1, 400 * CALL), "what it owes comes first");
        assert!(asks(1, 402 * CALL));
        // Never for more than a while.
        owes(u32::MAX, 402 * CALL);
        assert!(!asks(1, 402 * CALL + MAX_DEBT));
        assert!(asks(1, 403 * CALL + MAX_DEBT));
        assert!(quotas.allows(other, ALL));
        // What is charged is owed beyond a burst: a few calls later nothing has come back.
        quotas.charge(other, u32::MAX);
        std::thread::sleep(4 * CALL);
        assert!(!quotas.allows(other, ONE));
        quotas.charge(caller("127.0.0.1"), u32::MAX);
        assert!(quotas.allows(caller("127.0.0.1"), ALL));
    }

    #[test]
    fn only_so_many_callers_are_remembered() {
        let (quotas, start) = (Quotas::default(), Instant::now());
        let asks = |n: u32, after| {
            quotas.count(
                Caller(std::net::Ipv4Addr::from_bits(n).into()),
                1,
                start + after,
                BURST * CALL,
                false,
            )
        };
        let most = MAX_CALLERS as u32;
        assert!((0..most).all(|n| asks(0x0a00_0000 + n, Duration::ZERO)));
        assert!(!asks(0x0b00_0000, Duration::ZERO), "newcomers wait");
        assert!(asks(0x0a00_0000, Duration::ZERO), "others do not");
        assert!(asks(0x0b00_0000, 3 * CALL));
        assert_eq!(quotas.paid.lock().unwrap().len(), 1);
    }

    #[test]
    fn programs_on_the_same_machine_are_not_counted() {
        let quotas = Quotas::default();
        for _ in 0..3 {
            assert!(quotas.allows(caller("127.0.0.1"), ALL) && quotas.allows(caller("::1"), ALL));
        }
    }

    #[test]
    fn more_than_a_burst_at_once_is_never_allowed() {
        let quotas = Quotas::default();
        assert!(!quotas.allows(caller("192.0.2.1"), ALL.checked_add(1).unwrap()));
        assert!(quotas.allows(caller("192.0.2.1"), ALL), "and counts for nothing");
    }
}
