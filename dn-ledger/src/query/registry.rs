//! Queries of domains, model families, backers and jobs.

use dn_core::{Address, ChannelId, ModelId};

use super::page::{PageError, page};
use super::{MAX_LIST, lists};
use crate::apply::{domain_emission, domain_fees};
use crate::state::{
    BACKING_POOLS, BACKING_RELEASES, BACKING_SHARES, DOMAINS, Domain, FAMILIES, FAMILY_VERSIONS, JOBS,
    JobEscrow, MODEL_TERMS, PARAMS, POOLS, Pool, Spending, State,
};
use crate::tx::Shares;
use crate::views::{BackingsView, DomainView, FamilyView, JobView, ModelTermsView, Page, PageRequest};

/// A domain as it is in an epoch.
pub fn domain(state: &State, id: u32, epoch: u64) -> Option<DomainView> {
    DOMAINS.get(state, &id).map(|record| domain_view(state, id, record, epoch))
}

/// The domains, closed ones included, by number.
///
/// # Errors
/// [`PageError`].
pub fn domains(state: &State, epoch: u64, request: &PageRequest) -> Result<Page<DomainView>, PageError> {
    page(state, &DOMAINS, request, |id, record| Some(domain_view(state, id, record, epoch)))
}

fn domain_view(state: &State, id: u32, record: Domain, epoch: u64) -> DomainView {
    let params = PARAMS.get(state, &0).expect("the genesis sets the parameters");
    let treasury = POOLS.get_or_default(state, &Pool::Domain { domain: id });
    let Spending { epoch: spent_in, limit, spent } = record.spending;
    let fresh = params.registry.spend_limit(treasury);
    let begun = spent_in == epoch && !limit.is_zero();
    let terms = record.terms_in(epoch);
    DomainView {
        id,
        name: record.name,
        owner: record.owner,
        deposit: record.deposit,
        treasury,
        spendable: if begun { limit.saturating_sub(spent).min(treasury) } else { fresh },
        models: record.models,
        created_height: record.created_height,
        closed_height: record.closed_height,
        terms,
        next: record.next.filter(|next| next.from_epoch > epoch),
        fees: domain_fees(&params, &terms),
        emission: domain_emission(&params, &terms),
    }
}

/// What a model was published under.
pub fn model_terms(state: &State, model: ModelId) -> Option<ModelTermsView> {
    MODEL_TERMS.get(state, &model).map(|terms| ModelTermsView {
        model,
        family: terms.family,
        version: terms.version,
        licence: terms.licence,
        parents: terms.parents,
        royalties: terms.royalties,
        fees: terms.fees,
    })
}

/// A model family, named by its first model.
pub fn family(state: &State, id: ModelId) -> Option<FamilyView> {
    let family = FAMILIES.get(state, &id)?;
    let pool = BACKING_POOLS.get_or_default(state, &id);
    Some(FamilyView {
        id,
        owner: family.owner,
        versions: FAMILY_VERSIONS.iter_from(state, &id).take(MAX_LIST).map(|(_, model)| model).collect(),
        backing: family.backing,
        backed: pool.tokens(),
        shares: Shares(pool.shares()),
    })
}

/// Backing of an account: of its lists the first [`MAX_LIST`] entries; [`backings`](super::backings) and
/// [`backing_releases`](super::backing_releases) have all of them in pages.
pub fn backing(state: &State, address: Address) -> BackingsView {
    let held = BACKING_SHARES.iter_from(state, &address).take(MAX_LIST);
    let backing = held.map(|((_, family), shares)| lists::backing_view(state, family, shares));
    let waiting = BACKING_RELEASES.iter_from(state, &address).take(MAX_LIST);
    let releases = waiting.map(|(key, amount)| lists::release_view(key, amount));
    BackingsView { address, backing: backing.collect(), releases: releases.collect() }
}

/// A job that is neither claimed nor returned.
pub fn job(state: &State, escrow: ChannelId) -> Option<JobView> {
    JOBS.get(state, &escrow).map(|record| job_view(escrow, record))
}

/// Such jobs that a worker may take, or all, by escrow.
///
/// # Errors
/// [`PageError`].
pub fn jobs(
    state: &State,
    worker: Option<Address>,
    request: &PageRequest,
) -> Result<Page<JobView>, PageError> {
    page(state, &JOBS, request, |escrow, job| {
        let open_to = worker.is_none_or(|w| job.worker.is_none_or(|named| named == w));
        open_to.then(|| job_view(escrow, job))
    })
}

fn job_view(escrow: ChannelId, record: JobEscrow) -> JobView {
    let JobEscrow { payer, worker, gateway, model, job, price, amount, expires_height, bond } = record;
    JobView { escrow, payer, worker, gateway, model, job, price, amount, expires_height, bond }
}
