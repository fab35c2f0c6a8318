//! Lists that an account or a model has, in pages. The answer about the account or model itself holds their beginning.

use dn_core::{Address, ModelId};

use super::page::{PageError, page_in};
use crate::state::{
    IDENTITIES, IdentityStatus, OFFERS, Offer, REDELEGATION_POOLS, REDELEGATIONS, STAKE_POOLS, STAKE_SHARES,
    State, UNBONDING, UNBONDING_POOLS,
};
use crate::tx::{Role, Shares};
use crate::views::{Page, PageRequest, RedelegationView, StakeView, UnbondingView};

pub(super) fn stake_view(state: &State, validator: Address, shares: Shares) -> StakeView {
    let value = STAKE_POOLS.get_or_default(state, &validator).value_of(shares.0);
    StakeView { validator, shares, value }
}

pub(super) fn unbonding_view(
    state: &State,
    (_, release_epoch, validator): (Address, u64, Address),
    shares: Shares,
) -> UnbondingView {
    let pool = UNBONDING_POOLS.get_or_default(state, &(validator, release_epoch));
    UnbondingView { validator, value: pool.value_of(shares.0), release_epoch }
}

pub(super) fn redelegation_view(
    state: &State,
    (_, release_epoch, (from, to)): (Address, u64, (Address, Address)),
    part: Shares,
) -> RedelegationView {
    let shares = REDELEGATION_POOLS.get_or_default(state, &(from, release_epoch, to)).value_of(part.0);
    let value = STAKE_POOLS.get_or_default(state, &to).value_of(shares.atto());
    RedelegationView { from, to, value, release_epoch }
}

/// The worker of an offer, if it hosts the model now.
pub(super) fn hosting(state: &State, worker: Address, offer: Offer) -> Option<Address> {
    let identity = IDENTITIES.get(state, &(Role::Worker, worker))?;
    (offer.until_height.is_none() && identity.status == IdentityStatus::Active).then_some(worker)
}

/// What an account has delegated, by validator.
///
/// # Errors
/// [`PageError`].
pub fn stakes(state: &State, who: Address, request: &PageRequest) -> Result<Page<StakeView>, PageError> {
    let view = |(_, validator), shares| Some(stake_view(state, validator, shares));
    page_in(state, &STAKE_SHARES, &who, request, view)
}

/// What an account has unbonded, by release epoch.
///
/// # Errors
/// [`PageError`].
pub fn unbonding(
    state: &State,
    who: Address,
    request: &PageRequest,
) -> Result<Page<UnbondingView>, PageError> {
    page_in(state, &UNBONDING, &who, request, |key, shares| Some(unbonding_view(state, key, shares)))
}

/// What an account has moved between pools, by release epoch.
///
/// # Errors
/// [`PageError`].
pub fn redelegations(
    state: &State,
    who: Address,
    request: &PageRequest,
) -> Result<Page<RedelegationView>, PageError> {
    page_in(state, &REDELEGATIONS, &who, request, |key, part| Some(redelegation_view(state, key, part)))
}

/// The workers that host a model, by address.
///
/// # Errors
/// [`PageError`].
pub fn model_workers(
    state: &State,
    model: ModelId,
    request: &PageRequest,
) -> Result<Page<Address>, PageError> {
    page_in(state, &OFFERS, &model, request, |(_, worker), offer| hosting(state, worker, offer))
}
