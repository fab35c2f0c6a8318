//! How much one caller may ask: calls a second for each address, with a bounded memory of addresses.
//!
//! Callers on the same machine are not counted: they are the operator's own programs, or a proxy that knows its callers better.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Calls a second that one address may go on asking.
pub(super) const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");
/// Calls that it may ask at once after a rest.
pub(super) const BURST: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");
/// Addresses remembered; when more come, those that asked little lately are forgotten.
const MAX_CALLERS: usize = 65_536;

/// Who sent a request. The server puts it beside each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) IpAddr);

/// The callers' quotas.
#[derive(Debug)]
pub(super) struct Quotas {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_second(CALLS_PER_SECOND).allow_burst(BURST)) }
    }
}

impl Quotas {
    /// Whether a caller may ask so many calls now; they are counted if it may.
    pub(super) fn allows(&self, Caller(address): Caller, calls: NonZeroU32) -> bool {
        let Some(key) = key(address) else { return true };
        if self.limiter.len() >= MAX_CALLERS {
            self.limiter.retain_recent();
            // All of them asked lately: a flood from everywhere. Newcomers wait.
            if self.limiter.len() >= MAX_CALLERS {
                return false;
            }
        }
        matches!(self.limiter.check_key_n(&key, calls), Ok(Ok(())))
    }

    /// Counts an answer's size: so many calls, or as many as the caller has left.
    pub(super) fn charge(&self, Caller(address): Caller, calls: u32) {
        let Some(key) = key(address) else { return };
        // The limiter takes all or nothing: in parts, the largest first.
        let mut owed = calls.min(BURST.get());
        let mut part = BURST.get().next_power_of_two();
        while part > 0 {
            let taken = |calls| matches!(self.limiter.check_key_n(&key, calls), Ok(Ok(())));
            if owed >= part && NonZeroU32::new(part).is_some_and(taken) {
                owed -= part;
            } else {
                part /= 2;
            }
        }
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

    #[test]
    fn one_caller_runs_out_and_no_other_does() {
        let quotas = Quotas::default();
        assert!(quotas.allows(caller("192.0.2.1"), BURST));
        let more = NonZeroU32::new(CALLS_PER_SECOND.get()).unwrap();
        assert!(!quotas.allows(caller("192.0.2.1"), more));
        assert!(!quotas.allows(caller("::ffff:192.0.2.1"), more), "the same address in its other form");
        assert!(quotas.allows(caller("192.0.2.2"), ONE));
        // A customer's whole network is one caller.
        assert!(quotas.allows(caller("2001:db8:1:1::1"), BURST));
        assert!(!quotas.allows(caller("2001:db8:1:1:ffff::9"), more));
        assert!(quotas.allows(caller("2001:db8:1:2::1"), ONE));
    }

    #[test]
    fn large_answers_use_a_quota_up() {
        let quotas = Quotas::default();
        let (who, other) = (caller("192.0.2.1"), caller("192.0.2.2"));
        quotas.charge(who, BURST.get() / 2);
        assert!(quotas.allows(who, ONE));
        // More than is left takes what is left, and never more: others have theirs. A few calls come back meanwhile.
        quotas.charge(who, u32::MAX);
        assert!(!quotas.allows(who, NonZeroU32::new(BURST.get() / 5).unwrap()));
        assert!(quotas.allows(other, BURST));
        quotas.charge(caller("127.0.0.1"), u32::MAX);
        assert!(quotas.allows(caller("127.0.0.1"), BURST));
    }

    #[test]
    fn programs_on_the_same_machine_are_not_counted() {
        let quotas = Quotas::default();
        for _ in 0..3 {
            assert!(quotas.allows(caller("127.0.0.1"), BURST) && quotas.allows(caller("::1"), BURST));
        }
    }

    #[test]
    fn more_than_a_burst_at_once_is_never_allowed() {
        let quotas = Quotas::default();
        assert!(!quotas.allows(caller("192.0.2.1"), BURST.checked_add(1).unwrap()));
    }
}
