//! Lists that an account or a model has, in pages. The answer about the account or model itself holds their beginning.

use dn_core::{Address, Amount, ModelId};

use super::page::{PageError, page_in};
use crate::state::{
    BACKING_POOLS, BACKING_RELEASES, BACKING_SHARES, IDENTITIES, IdentityStatus, MODEL_COMMITMENTS,
    ModelCommitment, OFFERS, Offer, REDELEGATION_POOLS, REDELEGATIONS, STAKE_POOLS, STAKE_SHARES, State,
    UNBONDING, UNBONDING_POOLS,
};
use crate::tx::{Role, Shares};
use crate::views::{
    BackingRelease, BackingView, ModelCommitmentView, OfferView, Page, PageRequest, RedelegationView,
    StakeView, UnbondingView,
};

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

/// Whether a worker hosts the model of its offer now.
pub(super) fn is_hosting(state: &State, worker: Address, offer: Offer) -> bool {
    let identity = IDENTITIES.get(state, &(Role::Worker, worker));
    let active = identity.is_some_and(|identity| identity.status == IdentityStatus::Active);
    offer.until_height.is_none() && active
}

fn offer_view((model, worker): (ModelId, Address), offer: Offer) -> OfferView {
    let Offer { since_height, until_height, price } = offer;
    OfferView { model, worker, price, since_height, until_height }
}

/// A worker's offer of a model; one that was taken back says until when its batches are taken.
pub fn offer(state: &State, model: ModelId, worker: Address) -> Option<OfferView> {
    OFFERS.get(state, &(model, worker)).map(|offer| offer_view((model, worker), offer))
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

pub(super) fn backing_view(state: &State, family: ModelId, shares: Shares) -> BackingView {
    let value = BACKING_POOLS.get_or_default(state, &family).value_of(shares.0);
    BackingView { family, shares, value }
}

pub(super) fn release_view(
    (_, release_epoch, family): (Address, u64, ModelId),
    amount: Amount,
) -> BackingRelease {
    BackingRelease { family, amount, release_epoch }
}

/// What an account has put behind models, by family.
///
/// # Errors
/// [`PageError`].
pub fn backings(state: &State, who: Address, request: &PageRequest) -> Result<Page<BackingView>, PageError> {
    let view = |(_, family), shares| Some(backing_view(state, family, shares));
    page_in(state, &BACKING_SHARES, &who, request, view)
}

/// Backing that an account has taken back, by release epoch.
///
/// # Errors
/// [`PageError`].
pub fn backing_releases(
    state: &State,
    who: Address,
    request: &PageRequest,
) -> Result<Page<BackingRelease>, PageError> {
    page_in(state, &BACKING_RELEASES, &who, request, |key, amount| Some(release_view(key, amount)))
}

/// An owner's commitments to models that are neither used nor forgotten.
///
/// # Errors
/// [`PageError`].
pub fn model_commitments(
    state: &State,
    owner: Address,
    request: &PageRequest,
) -> Result<Page<ModelCommitmentView>, PageError> {
    page_in(state, &MODEL_COMMITMENTS, &owner, request, |(_, commitment), record| {
        let ModelCommitment { height, expires_height } = record;
        Some(ModelCommitmentView { commitment, height, expires_height })
    })
}

/// The offers of the workers that host a model, by address.
///
/// # Errors
/// [`PageError`].
pub fn model_workers(
    state: &State,
    model: ModelId,
    request: &PageRequest,
) -> Result<Page<OfferView>, PageError> {
    page_in(state, &OFFERS, &model, request, |key, offer| {
        is_hosting(state, key.1, offer).then(|| offer_view(key, offer))
    })
}
