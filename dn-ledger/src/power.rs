//! What a validator's stake counts for: in consensus and audits, and when it is paid.

use dn_core::{Address, Amount};
use dn_powr::vote_weight;
use dn_trust::{Trust, Unit};

use crate::params::Params;
use crate::state::{STAKE_POOLS, STAKE_SHARES, State, VALIDATOR_TRUST};

/// Voting power of a validator: stake × (½ + ½·trust), rounded down.
///
/// # Units
/// Atto of stake.
pub fn voting_power(state: &State, params: &Params, validator: Address) -> Amount {
    let stake = STAKE_POOLS.get_or_default(state, &validator).tokens();
    let trust = VALIDATOR_TRUST.get(state, &validator).map_or(0, |t| t.weight(&params.trust).value().bits());
    let one = u128::from(Unit::ONE.bits());
    stake.mul_div(one + u128::from(trust), 2 * one).expect("the factor is at most one")
}

/// What a validator has at stake of its own.
pub(crate) fn self_bond(state: &State, validator: Address) -> Amount {
    let shares = STAKE_SHARES.get_or_default(state, &(validator, validator)).0;
    STAKE_POOLS.get_or_default(state, &validator).value_of(shares)
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
    let trust =
        VALIDATOR_TRUST.get(state, &validator).map_or(Trust::new(Unit::ZERO), |t| t.weight(&params.trust));
    // No cap: a stake's weight in votes may be capped, its pay is its delegators'.
    vote_weight(stake, stake, trust)
}
