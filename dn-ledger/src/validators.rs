//! The validators whose quorum decides blocks: elected at the end of an epoch, weighted by stake and trust.

use dn_core::{Address, Canonical, Hash32, canonical_struct, keccak256};
use serde::{Deserialize, Serialize};

use crate::apply::in_role;
use crate::params::Params;
use crate::power::{fix_draw_weights, self_bond, voting_power};
use crate::state::{
    BEACON, ELECTIONS, Election, IDENTITIES, IdentityStatus, State, TURN_SEEDS, VALIDATOR_SETS,
};
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
    /// The members who had no turn yet stand side by side in the order of their *addresses*, each as wide as its power. The ticket is the high
    /// half of the product of their total and the first sixteen bytes, a little-endian number, of
    /// `keccak256("DeepNode proposer v3" ‖ chain id ‖ seed ‖ height ‖ turn)`, where turn counts from 0 to the round's remainder by the number of
    /// members and all numbers have eight bytes, little-endian. So a ticket is a fixed part of the whole, and stake that moves by a part ε of it
    /// gives its own side ε of the turns (and moves others' as the borders behind it move): a remainder would draw all of them anew, and so
    /// would an order by strength. A validator's chance differs from its share by less
    /// than 2⁻¹²⁷.
    ///
    /// # Panics
    /// If the set is empty, which no chain's is.
    pub fn proposer(&self, chain_id: u64, seed: Hash32, height: u64, round: u32) -> Address {
        let mut left = self.members.clone();
        left.sort_unstable_by_key(|m| m.address);
        let turns = round as usize % left.len();
        for turn in 0..=turns {
            let total: u128 = left.iter().map(|m| u128::from(m.power)).sum();
            let seed: &[&[u8]] = &[
                b"DeepNode proposer v3",
                &chain_id.to_le_bytes(),
                seed.as_bytes(),
                &height.to_le_bytes(),
                &(turn as u64).to_le_bytes(),
            ];
            let digest = keccak256(seed);
            let (head, _) = digest.split_at(16);
            let drawn = u128::from_le_bytes(head.try_into().expect("16 bytes"));
            let mut ticket = high_product(drawn, total);
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

/// The high half of the product of two numbers of 128 bits.
pub(crate) const fn high_product(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let ((a1, a0), (b1, b0)) = ((a >> 64, a & LOW), (b >> 64, b & LOW));
    // None of these sums overflows: (2^64 − 1)² + 2^64 − 1 < 2^128.
    let middle = a1 * b0 + ((a0 * b0) >> 64);
    let other = a0 * b1 + (middle & LOW);
    a1 * b1 + (middle >> 64) + (other >> 64)
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

/// Makes the next set the tip's, hands over to an elected one whose time has come, and elects at an epoch's end. If nobody can be
/// elected the old set goes on: a chain without validators could never have others.
///
/// An election holds `beacon.delay_blocks` blocks after its epoch's end, together with a new seed of turns: the beacon of the last of these blocks.
/// The old set decides them under the old seed. So powers are fixed when nobody knows what their turns are drawn from, unless all those blocks, and the
/// epoch's last, were its own; and their proposers could not choose to be that, since their turns come from powers and a seed that are an
/// epoch old. The weights of audits and committees are fixed and hold at the same heights.
pub(crate) fn rotate(state: &mut State, params: &Params, height: u64) {
    let seed = TURN_SEEDS.get_or_default(state, &NEXT_SET);
    if TURN_SEEDS.get_or_default(state, &TIP_SET) != seed {
        TURN_SEEDS.put(state, &TIP_SET, &seed);
    }
    let next = VALIDATOR_SETS.get_or_default(state, &NEXT_SET);
    if VALIDATOR_SETS.get_or_default(state, &TIP_SET) != next {
        VALIDATOR_SETS.put(state, &TIP_SET, &next);
    }
    let due = ELECTIONS.get(state, &0).filter(|election| election.last_height <= height);
    if due.is_some() {
        ELECTIONS.remove(state, &0);
        let beacon = BEACON.get_or_default(state, &0);
        TURN_SEEDS.put(state, &NEXT_SET, &beacon);
    }
    // If all of those elected are out, the set before goes on without those of it that are.
    let elected = due.map(|election| without_jailed(state, &election.set));
    let elected = elected.filter(|set| !set.members.is_empty());
    let after = elected.unwrap_or_else(|| without_jailed(state, &next));
    if after != next && !after.members.is_empty() {
        VALIDATOR_SETS.put(state, &NEXT_SET, &after);
    }
    if (height + 1).is_multiple_of(params.epoch_blocks) {
        let last_height = height.saturating_add(params.beacon.delay_blocks);
        ELECTIONS.put(state, &0, &Election { last_height, set: elect(state, params) });
        fix_draw_weights(state, params, height, last_height.saturating_add(1));
    }
}

/// Who signed conflicting messages decides nothing more, not even until the epoch's end.
fn without_jailed(state: &State, set: &ValidatorSet) -> ValidatorSet {
    let mut left = set.clone();
    left.members.retain(|member| !is_jailed(state, member.address));
    if left.members.len() == set.members.len() {
        return left;
    }
    // With less power in all, somebody may have a third of what is left.
    cap(&mut left.members);
    ValidatorSet::new(left.members.iter().map(|m| (m.address, m.power)))
}

fn is_jailed(state: &State, validator: Address) -> bool {
    IDENTITIES
        .get(state, &(Role::Validator, validator))
        .is_some_and(|identity| matches!(identity.status, IdentityStatus::Jailed { .. }))
}

#[cfg(test)]
mod tests;
