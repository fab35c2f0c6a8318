//! The validators whose quorum decides blocks: elected at the end of an epoch, weighted by stake and trust.

use dn_core::{Address, Canonical, Hash32, canonical_struct, keccak256};
use serde::{Deserialize, Serialize};

use crate::apply::in_role;
use crate::params::Params;
use crate::power::{self_bond, voting_power};
use crate::state::{BEACON, IDENTITIES, IdentityStatus, State, TURN_SEEDS, VALIDATOR_SETS};
use crate::tx::Role;

/// Atto of voting power for one unit of power in consensus: a millionth of a DN. All DN together stay far under the engine's
/// bound of a third of 2^64.
pub const ATTO_PER_POWER: u128 = 1_000_000_000_000;

/// Key of [`VALIDATOR_SETS`]: the set that decides the block after the tip.
pub const NEXT_SET: u32 = 0;
/// Key of [`VALIDATOR_SETS`]: the set that decided the tip.
pub const TIP_SET: u32 = 1;

/// A validator in consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetMember {
    /// The validator.
    pub address: Address,
    /// Its power, at least 1.
    pub power: u64,
}
canonical_struct!(SetMember { address: Address, power: u64 });

/// Who decides a block: the strongest first, equals by address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ValidatorSet {
    /// The validators.
    pub members: Vec<SetMember>,
}
canonical_struct!(ValidatorSet { members: Vec<SetMember> });

impl ValidatorSet {
    /// The set of these powers, without those of none.
    pub fn new(powers: impl IntoIterator<Item = (Address, u64)>) -> Self {
        let mut members: Vec<_> =
            powers.into_iter().map(|(address, power)| SetMember { address, power }).collect();
        members.retain(|m| m.power > 0);
        members.sort_by_key(|m| (std::cmp::Reverse(m.power), m.address));
        Self { members }
    }

    /// What a header carries: Keccak-256 of the canonical bytes.
    pub fn hash(&self) -> Hash32 {
        Hash32(self.keccak())
    }

    /// All power together.
    pub fn total(&self) -> u128 {
        self.members.iter().map(|m| u128::from(m.power)).sum()
    }

    /// A validator's power; 0 of others.
    pub fn power(&self, address: Address) -> u64 {
        self.members.iter().find(|m| m.address == address).map_or(0, |m| m.power)
    }

    /// Whether this power is a quorum: more than two thirds of all.
    pub fn is_quorum(&self, power: u128) -> bool {
        3 * power > 2 * self.total()
    }

    /// Who proposes in a round: drawn by power from a seed (see [`TURN_SEEDS`]), and nobody twice before everybody had a turn, so that
    /// one silent validator costs a height one round.
    ///
    /// # Panics
    /// If the set is empty, which no chain's is.
    pub fn proposer(&self, chain_id: u64, seed: Hash32, height: u64, round: u32) -> Address {
        let mut left = self.members.clone();
        let turns = round as usize % left.len();
        for turn in 0..=turns {
            let total: u128 = left.iter().map(|m| u128::from(m.power)).sum();
            let seed: &[&[u8]] = &[
                b"DeepNode proposer v2",
                &chain_id.to_le_bytes(),
                seed.as_bytes(),
                &height.to_le_bytes(),
                &(turn as u64).to_le_bytes(),
            ];
            let digest = keccak256(seed);
            let (head, _) = digest.split_at(16);
            let mut ticket = u128::from_le_bytes(head.try_into().expect("16 bytes")) % total;
            let drawn = left.iter().position(|m| {
                let hit = ticket < u128::from(m.power);
                ticket = ticket.saturating_sub(u128::from(m.power));
                hit
            });
            let member = left.remove(drawn.expect("the ticket is under the sum of all powers"));
            if turn == turns {
                return member.address;
            }
        }
        unreachable!("the loop ends in its last turn")
    }
}

/// The set that the state elects: active validators that published where their node is reached and have enough stake of
/// their own, the strongest first, at most
/// `max_validators`; each capped below a third of all power where at least four make that possible. A validator without
/// an endpoint audits and is paid, but decides no blocks.
pub fn elect(state: &State, params: &Params) -> ValidatorSet {
    let power = |address| {
        let scaled = voting_power(state, params, address).atto() / ATTO_PER_POWER;
        u64::try_from(scaled).expect("the supply is 10^14 units of power")
    };
    let running = in_role(state, Role::Validator)
        .filter(|(_, identity)| identity.status == IdentityStatus::Active && !identity.endpoint.is_empty())
        .filter(|(address, _)| self_bond(state, *address) >= params.staking.min_self_bond);
    let mut set = ValidatorSet::new(running.map(|(address, _)| (address, power(address))));
    set.members.truncate(params.max_validators as usize);
    cap(&mut set.members);
    // A cap moves the strong down to the same power: the order among them is by address.
    ValidatorSet::new(set.members.into_iter().map(|m| (m.address, m.power)))
}

/// Lowers the strongest, and if need be the second, so that nobody has a third of all.
///
/// With `k` members capped at `c` and `rest` power below them, `3c < kc + rest`: `c = (rest − 1) / (3 − k)`. Two are always enough,
/// since with three at the same power each has less than a third once a fourth has any.
fn cap(members: &mut [SetMember]) {
    if members.len() < 4 {
        return;
    }
    let total: u64 = members.iter().map(|m| m.power).sum();
    if 3 * u128::from(members[0].power) < u128::from(total) {
        return;
    }
    let rest = total - members[0].power;
    let one = (rest - 1) / 2;
    if one >= members[1].power {
        members[0].power = one;
        return;
    }
    let two = rest - members[1].power - 1;
    members[..2].iter_mut().for_each(|m| m.power = m.power.min(two));
}

/// Makes the next set the tip's and, at an epoch's end, elects a new next one. If nobody can be elected the old set goes on:
/// a chain without validators could never have others.
///
/// Turns are drawn anew from the beacon of an epoch's first block, when nobody can change the powers of that epoch any more: whoever
/// knew the seed while powers are still made could try stakes until it liked its turns.
pub(crate) fn rotate(state: &mut State, params: &Params, height: u64) {
    let ends_epoch = (height + 1).is_multiple_of(params.epoch_blocks);
    let seed = TURN_SEEDS.get_or_default(state, &NEXT_SET);
    if TURN_SEEDS.get_or_default(state, &TIP_SET) != seed {
        TURN_SEEDS.put(state, &TIP_SET, &seed);
    }
    if height.is_multiple_of(params.epoch_blocks) {
        let beacon = BEACON.get_or_default(state, &0);
        TURN_SEEDS.put(state, &NEXT_SET, &beacon);
    }
    let next = VALIDATOR_SETS.get_or_default(state, &NEXT_SET);
    if VALIDATOR_SETS.get_or_default(state, &TIP_SET) != next {
        VALIDATOR_SETS.put(state, &TIP_SET, &next);
    }
    let elected = if ends_epoch { elect(state, params) } else { ValidatorSet::default() };
    let mut after = if elected.members.is_empty() { next.clone() } else { elected };
    // Who signed conflicting messages decides nothing more, not even until the epoch's end.
    let elected = after.members.len();
    after.members.retain(|member| !is_jailed(state, member.address));
    if after.members.len() < elected {
        // With less power in all, somebody may have a third of what is left.
        cap(&mut after.members);
        after = ValidatorSet::new(after.members.iter().map(|m| (m.address, m.power)));
    }
    if after != next && !after.members.is_empty() {
        VALIDATOR_SETS.put(state, &NEXT_SET, &after);
    }
}

fn is_jailed(state: &State, validator: Address) -> bool {
    IDENTITIES
        .get(state, &(Role::Validator, validator))
        .is_some_and(|identity| matches!(identity.status, IdentityStatus::Jailed { .. }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(powers: &[u64]) -> ValidatorSet {
        let address = |i: usize| Address([u8::try_from(i).unwrap(); 20]);
        ValidatorSet::new(powers.iter().enumerate().map(|(i, power)| (address(i), *power)))
    }

    fn capped(powers: &[u64]) -> Vec<u64> {
        let mut members = set(powers).members;
        cap(&mut members);
        members.iter().map(|m| m.power).collect()
    }

    #[test]
    fn a_cap_takes_no_more_than_it_must() {
        assert_eq!(capped(&[10, 9, 9, 9]), [10, 9, 9, 9]);
        assert_eq!(capped(&[100, 10, 10, 10]), [14, 10, 10, 10]);
        assert_eq!(capped(&[100, 100, 10, 10]), [19, 19, 10, 10]);
        assert_eq!(capped(&[100, 100, 100, 1]), [100, 100, 100, 1]);
        assert_eq!(capped(&[7, 1, 1]), [7, 1, 1]);
    }

    /// Who is jailed takes its power along; what is left is capped again.
    #[test]
    fn nobody_has_a_third_after_a_jailing() {
        let mut state = State::default();
        let params = Params::devnet();
        let before = set(&[30, 18, 18, 18, 18]);
        VALIDATOR_SETS.put(&mut state, &NEXT_SET, &before);
        rotate(&mut state, &params, 5);
        assert_eq!(VALIDATOR_SETS.get_or_default(&state, &NEXT_SET), before);
        let identity = crate::state::Identity {
            name: "v".into(),
            endpoint: "v".into(),
            collateral: dn_core::Amount::ZERO,
            status: IdentityStatus::Jailed { release_epoch: 9 },
            registered_height: 0,
            open_batches: 0,
        };
        IDENTITIES.put(&mut state, &(Role::Validator, before.members[4].address), &identity);
        rotate(&mut state, &params, 6);
        let after = VALIDATOR_SETS.get_or_default(&state, &NEXT_SET);
        assert_eq!(after.members.iter().map(|m| m.power).collect::<Vec<_>>(), [26, 18, 18, 18]);
    }

    /// The seed of an epoch's turns is the beacon of its first block: powers were fixed the block before.
    #[test]
    fn turns_are_drawn_after_powers_are_fixed() {
        let (mut state, params) = (State::default(), Params::devnet());
        VALIDATOR_SETS.put(&mut state, &NEXT_SET, &set(&[3, 2, 1]));
        let seeds = |state: &State| [NEXT_SET, TIP_SET].map(|key| TURN_SEEDS.get_or_default(state, &key));
        let beacon = |height: u8| Hash32([height; 32]);
        for height in 1..=2 * params.epoch_blocks {
            BEACON.put(&mut state, &0, &beacon(height as u8));
            rotate(&mut state, &params, height);
            let expected = match height {
                ..20 => [Hash32::ZERO, Hash32::ZERO],
                20 => [beacon(20), Hash32::ZERO],
                21..40 => [beacon(20), beacon(20)],
                _ => [beacon(40), beacon(20)],
            };
            assert_eq!(seeds(&state), expected, "height {height}");
        }
        let turns =
            |seed| (0..64).map(|height| set(&[1, 1, 1]).proposer(7, seed, height, 0)).collect::<Vec<_>>();
        assert_ne!(turns(beacon(20)), turns(beacon(40)));
    }

    #[test]
    fn a_quorum_is_more_than_two_thirds() {
        let set = set(&[1, 1, 1]);
        assert!(!set.is_quorum(2) && set.is_quorum(3));
    }

    proptest! {
        /// Nobody has a third, nobody gains, and one unit more for the strongest would be too much.
        #[test]
        fn nobody_has_a_third(powers in prop::collection::vec(1u64..1_000_000, 4..12)) {
            let before: Vec<_> = set(&powers).members.iter().map(|m| m.power).collect();
            let after = capped(&powers);
            let total: u64 = after.iter().sum();
            prop_assert!(after.iter().all(|power| 3 * power < total));
            prop_assert!(after.iter().zip(&before).all(|(a, b)| a <= b && *a > 0));
            prop_assert!(after.is_sorted_by(|a, b| a >= b));
            let lowered = after.iter().zip(&before).filter(|(a, b)| a < b).count() as u64;
            if lowered > 0 {
                prop_assert!(3 * (after[0] + 1) >= total + lowered);
            }
        }

        /// Everybody has one turn in as many rounds as there are validators.
        #[test]
        fn turns_go_around(powers in prop::collection::vec(1u64..1_000, 1..8), height in 0u64..1_000) {
            let set = set(&powers);
            let rounds = u32::try_from(powers.len()).unwrap();
            let mut turns: Vec<_> = (0..rounds).map(|round| set.proposer(7, Hash32::ZERO, height, round)).collect();
            prop_assert_eq!(set.proposer(7, Hash32::ZERO, height, rounds), turns[0]);
            turns.sort();
            turns.dedup();
            prop_assert_eq!(turns.len(), powers.len());
        }
    }

    #[test]
    fn turns_follow_power() {
        let set = set(&[60, 30, 10]);
        let first = (0..10_000).map(|height| set.proposer(7, Hash32::ZERO, height, 0));
        let mut turns = [0u32; 3];
        first.for_each(|address| turns[usize::from(address.0[0])] += 1);
        // Four standard deviations of 10,000 draws.
        for (turns, expected) in turns.into_iter().zip([6_000u32, 3_000, 1_000]) {
            assert!(turns.abs_diff(expected) < 200, "{turns} turns; about {expected} expected");
        }
    }
}
