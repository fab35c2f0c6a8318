//! Consensus weight: what a validator's stake counts for.

use dn_core::{Address, Amount};
use dn_trust::Unit;

use crate::params::Params;
use crate::state::{STAKE_POOLS, State, VALIDATOR_TRUST};

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
