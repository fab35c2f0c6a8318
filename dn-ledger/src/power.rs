//! What a validator's stake counts for: in consensus and audits, and when it is paid.

use std::collections::BTreeMap;

use dn_core::{Address, Amount};
use dn_powr::vote_weight;
use dn_trust::{Trust, Unit};

use crate::apply::in_role;
use crate::params::Params;
use crate::state::{
    DRAW_WEIGHTS, DrawWeight, IdentityStatus, STAKE_POOLS, STAKE_SHARES, State, VALIDATOR_TRUST,
};
use crate::tx::Role;

/// Voting power of a validator at this moment: stake × (½ + ½·trust), rounded down.
///
/// # Units
/// Atto of stake.
pub fn voting_power(state: &State, params: &Params, validator: Address) -> Amount {
    let stake = STAKE_POOLS.get_or_default(state, &validator).tokens();
    let trust = VALIDATOR_TRUST.get(state, &validator).map_or(0, |t| t.weight(&params.trust).value().bits());
    let one = u128::from(Unit::ONE.bits());
    stake.mul_div(one + u128::from(trust), 2 * one).expect("the factor is at most one")
}

/// What validators are drawn by at a height, for audits and committees, and count with in a vote on a receipt: those with any, by address, whether they are
/// active or not. See [`fix_draw_weights`].
///
/// # Units
/// Atto of stake.
pub(crate) fn draw_weights(state: &State, height: u64) -> Vec<(Address, Amount)> {
    let weights = DRAW_WEIGHTS.iter(state).map(|(address, record)| (address, record.at(height)));
    weights.filter(|(_, weight)| !weight.is_zero()).collect()
}

/// Takes the voting power of all active validators for draws from a height on, and forgets who has none any more.
///
/// Draws do not go by the power of the moment: who sees a draw's ticket before others do, having two turns in a row, could stake in between.
pub(crate) fn fix_draw_weights(state: &mut State, params: &Params, height: u64, from_height: u64) {
    let mut powers: BTreeMap<_, _> = in_role(state, Role::Validator)
        .filter(|(_, identity)| identity.status == IdentityStatus::Active)
        .map(|(address, _)| (address, voting_power(state, params, address)))
        .filter(|(_, power)| !power.is_zero())
        .collect();
    let old: Vec<_> = DRAW_WEIGHTS.iter(state).collect();
    for (address, record) in old {
        let (before, after) = (record.at(height), powers.remove(&address).unwrap_or(Amount::ZERO));
        if before.is_zero() && after.is_zero() {
            DRAW_WEIGHTS.remove(state, &address);
        } else if before != after || before != record.after {
            DRAW_WEIGHTS.put(state, &address, &DrawWeight { before, after, from_height });
        }
    }
    for (address, after) in powers {
        DRAW_WEIGHTS.put(state, &address, &DrawWeight { before: Amount::ZERO, after, from_height });
    }
}

/// What a validator has at stake of its own.
pub(crate) fn self_bond(state: &State, validator: Address) -> Amount {
    let shares = STAKE_SHARES.get_or_default(state, &(validator, validator)).0;
    STAKE_POOLS.get_or_default(state, &validator).value_of(shares)
}

/// What a validator's score counts in a committee: ⌊min(stake, cap) × trust⌋.
///
/// # Units
/// Atto of stake.
pub(crate) fn quality_weight(state: &State, params: &Params, validator: Address) -> u128 {
    let stake = STAKE_POOLS.get_or_default(state, &validator).tokens();
    vote_weight(stake, params.quality.stake_cap, trust_of(state, params, validator))
}

/// What a validator is paid by: stake × trust, rounded down; nothing without a record.
///
/// Not voting power, half of which needs no trust: paid by that, a validator that copies others or a cabal of liars keeps most of its income
/// (docs/adr/0010-validators-are-paid-by-stake-times-trust.md).
///
/// # Units
/// Atto of stake.
pub(crate) fn reward_weight(state: &State, params: &Params, validator: Address) -> u128 {
    let stake = STAKE_POOLS.get_or_default(state, &validator).tokens();
    // No cap: a stake's weight in votes may be capped, its pay is its delegators'.
    vote_weight(stake, stake, trust_of(state, params, validator))
}

/// Nothing without a record.
fn trust_of(state: &State, params: &Params, validator: Address) -> Trust {
    VALIDATOR_TRUST.get(state, &validator).map_or(Trust::new(Unit::ZERO), |t| t.weight(&params.trust))
}
