//! Chances and quantiles, as plainly as they can be computed.

use dn_core::{Address, Hash32, keccak256};
use dn_trust::Unit;

/// `⌊hash · bound / 2^256⌋` byte by byte, the hash read from its lowest one on.
pub(super) fn part_of(hash: &[u8; 32], bound: u128) -> u128 {
    hash.iter().fold(0, |carry, byte| (u128::from(*byte) * bound + carry) >> 8)
}

/// The least score such that the votes up to it have so many quarters of all weight.
pub(super) fn quantile(votes: &[(Unit, u128)], quarters: u128) -> Unit {
    let all: u128 = votes.iter().map(|(_, weight)| weight).sum();
    let up_to = |v: Unit| votes.iter().filter(|(score, _)| *score <= v).map(|(_, w)| w).sum::<u128>();
    let enough = votes.iter().map(|(score, _)| *score).filter(|score| 4 * up_to(*score) >= quarters * all);
    enough.min().expect("all votes together have all weight")
}

pub(super) fn id_of(chain_id: u64, epoch: u64, domain: u32, owner: Address) -> Hash32 {
    let (chain_id, epoch, domain) = (chain_id.to_le_bytes(), epoch.to_le_bytes(), domain.to_le_bytes());
    Hash32(keccak256(&[b"DeepNode quality round v1", &chain_id, &epoch, &domain, &owner.0]))
}

/// What the setter's VRF is computed at.
pub(super) fn canary_input(round: &Hash32) -> Vec<u8> {
    [b"DeepNode canary v1".as_slice(), &round.0].concat()
}

/// With a chance of so many basis points, by a hash that has the setter's value in it.
pub(super) fn is_canary(value: &Hash32, beacon: &Hash32, round: &Hash32, rate: u16) -> bool {
    let hash = keccak256(&[b"DeepNode canary choice v1", &value.0, &beacon.0, &round.0]);
    part_of(&hash, 10_000) < rate.into()
}
