//! Queries: from the state to the views that clients see.

mod balances;
mod dispute;
mod governance;
mod lists;
mod page;
mod registries;
mod registry;

use dn_core::{Address, Amount, BatchId, ChannelId, ModelId};
use dn_trust::Unit;

pub use governance::{proposal, proposal_record, proposals, session, sessions, upgrades};
pub use registry::{backing, domain, domains, family, job, jobs, model_terms};

use crate::power::{self_bond, voting_power};
use crate::state::{
    ACCOUNTS, AUDIT_TASKS, AUDITS, Audit, AuditPhase, AuditTask, BATCHES, Batch, CHANNELS, COMMISSIONS,
    Commission, DEADLINES, IDENTITIES, Identity, IdentityStatus, LANES, MODELS, Model, OFFERS, PARAMS,
    REDELEGATIONS, STAKE_POOLS, STAKE_SHARES, State, UNBONDING, VALIDATOR_TRUST, WORKER_BATCHES,
    WORKER_SEQUENCES, WORKER_TRUST,
};
use crate::supply::Supply;
use crate::tx::Role;
use crate::views::{
    AccountView, AuditView, BatchView, ChannelView, Cursor, IdentityView, IndicatorView, LaneView, ModelView,
    Page, PageRequest, SupplyView, TrustView,
};
use page::{newest, page, page_in};

pub use balances::{balances, balances_page, pools};
pub use dispute::{dispute, disputes};
pub use lists::{
    backing_releases, backings, model_commitments, model_workers, offer, redelegations, stakes, unbonding,
};
pub use page::{DEFAULT_LIMIT, MAX_SCAN, PageError};
pub use registries::{agent, agent_id, beacon, model_trust, quality_rounds, reputation, validations};

/// The most entries of a page, and of a list within an answer.
pub const MAX_LIST: usize = 1_000;

/// An account; one that never existed has nothing and nonce 0. Of its lists the first [`MAX_LIST`] entries; [`stakes`],
/// [`unbonding`] and [`redelegations`] have all of them in pages.
pub fn account(state: &State, address: Address) -> AccountView {
    let account = ACCOUNTS.get_or_default(state, &address);
    let stakes = STAKE_SHARES.iter_from(state, &address).take(MAX_LIST);
    let stakes = stakes.map(|((_, validator), shares)| lists::stake_view(state, validator, shares));
    let unbonding = UNBONDING.iter_from(state, &address).take(MAX_LIST);
    let unbonding = unbonding.map(|(key, shares)| lists::unbonding_view(state, key, shares));
    let redelegating = REDELEGATIONS.iter_from(state, &address).take(MAX_LIST);
    let redelegating = redelegating.map(|(key, part)| lists::redelegation_view(state, key, part));
    AccountView {
        address,
        balance: account.balance,
        nonce: account.nonce,
        pending_nonce: account.nonce,
        stakes: stakes.collect(),
        unbonding: unbonding.collect(),
        redelegating: redelegating.collect(),
    }
}

/// An identity in a role.
pub fn identity(state: &State, role: Role, address: Address) -> Option<IdentityView> {
    IDENTITIES.get(state, &(role, address)).map(|record| identity_view(state, role, address, record))
}

/// The identities of a role, by address.
///
/// # Errors
/// [`PageError`].
pub fn identities(state: &State, role: Role, request: &PageRequest) -> Result<Page<IdentityView>, PageError> {
    page_in(state, &IDENTITIES, &role, request, |(_, address), record| {
        Some(identity_view(state, role, address, record))
    })
}

fn identity_view(state: &State, role: Role, address: Address, record: Identity) -> IdentityView {
    let validator = role == Role::Validator;
    let params = PARAMS.get(state, &0).expect("the genesis sets the parameters");
    let commission = COMMISSIONS.get_or_default(state, &address);
    let counts = validator && record.status == IdentityStatus::Active;
    IdentityView {
        address,
        role,
        status: record.status,
        name: record.name,
        endpoint: record.endpoint,
        collateral: record.collateral,
        open_batches: record.open_batches,
        registered_height: record.registered_height,
        trust: trust(state, role, address).map(|view| view.trust),
        stake: if validator { STAKE_POOLS.get_or_default(state, &address).tokens() } else { Amount::ZERO },
        self_bond: if validator { self_bond(state, address) } else { Amount::ZERO },
        commission: if validator { commission } else { Commission::default() },
        voting_power: if counts { voting_power(state, &params, address) } else { Amount::ZERO },
    }
}

/// Trust in an identity; none for roles without trust and for identities that never registered.
pub fn trust(state: &State, role: Role, address: Address) -> Option<TrustView> {
    let params = PARAMS.get(state, &0).expect("the genesis sets the parameters").trust;
    let view = |trust, indicators: &[(&str, Unit)]| TrustView {
        address,
        role,
        trust,
        indicators: indicators
            .iter()
            .map(|(name, value)| IndicatorView { name: (*name).to_owned(), value: *value })
            .collect(),
    };
    match role {
        Role::Worker => WORKER_TRUST.get(state, &address).map(|record| {
            let i = record.indicators(&params);
            let named = [
                ("completion", i.completion),
                ("accuracy", i.accuracy),
                ("stability", i.stability),
                ("speed", i.speed),
                ("history", i.history),
            ];
            view(record.weight(&params), &named)
        }),
        Role::Validator => VALIDATOR_TRUST.get(state, &address).map(|record| {
            let i = record.indicators(&params);
            let named = [
                ("canary", i.canary),
                ("alignment", i.alignment),
                ("timeliness", i.timeliness),
                ("history", i.history),
            ];
            view(record.weight(&params), &named)
        }),
        _ => None,
    }
}

/// A channel with its lanes.
pub fn channel(state: &State, id: ChannelId) -> Option<ChannelView> {
    let channel = CHANNELS.get(state, &id)?;
    let lanes = LANES.iter_from(state, &id).map(|((_, lane), claimed)| LaneView { lane, claimed }).collect();
    Some(ChannelView {
        id,
        payer: channel.payer,
        payee: channel.payee,
        spender: channel.spender,
        deposit: channel.deposit,
        claimed: channel.claimed,
        balance: channel.balance(),
        lanes,
        finish_height: channel.finish_height,
    })
}

/// A model with the workers that host it.
pub fn model(state: &State, id: ModelId) -> Option<ModelView> {
    MODELS.get(state, &id).map(|record| model_view(state, id, record))
}

/// The published models, by id.
///
/// # Errors
/// [`PageError`].
pub fn models(state: &State, request: &PageRequest) -> Result<Page<ModelView>, PageError> {
    page(state, &MODELS, request, |id, record| Some(model_view(state, id, record)))
}

fn model_view(state: &State, id: ModelId, record: Model) -> ModelView {
    let offers = OFFERS.iter_from(state, &id);
    let hosting = offers.filter(|((_, worker), offer)| lists::is_hosting(state, *worker, *offer));
    let workers = hosting.map(|((_, worker), _)| worker).take(MAX_LIST).collect();
    ModelView {
        id,
        owner: record.owner,
        name: record.name,
        price: record.price,
        domain: record.domain,
        manifest: record.manifest,
        published_height: record.published_height,
        retired_height: record.retired_height,
        workers,
    }
}

/// A batch with its audits.
pub fn batch(state: &State, id: BatchId) -> Option<BatchView> {
    let batch = BATCHES.get(state, &id)?;
    let audits = AUDIT_TASKS
        .iter_from(state, &id)
        .filter_map(|((_, index, auditor), task)| {
            let audit = AUDITS.get(state, &(id, index))?;
            Some(audit_view(id, index, auditor, &batch, &audit, &task))
        })
        .collect();
    Some(BatchView {
        id,
        worker: batch.body.worker,
        gateway: batch.body.gateway,
        sequence: batch.body.sequence,
        root: batch.body.root,
        count: batch.body.count,
        fees: batch.body.total_fees().unwrap_or_default(),
        lines: batch.body.lines.clone(),
        escrow: batch.escrow,
        bond: batch.bond,
        status: batch.status,
        posted_height: batch.posted_height,
        window_end_height: batch.window_end_height,
        audits,
    })
}

/// A worker's batches, the newest first.
///
/// # Errors
/// [`PageError`].
pub fn batches(state: &State, worker: Address, request: &PageRequest) -> Result<Page<BatchView>, PageError> {
    let next = WORKER_SEQUENCES.get_or_default(state, &worker);
    newest(
        &WORKER_BATCHES,
        &WORKER_BATCHES.prefix_of(&worker),
        |(_, sequence)| *sequence,
        |sequence| (worker, sequence),
        (next, MAX_LIST),
        request,
        |sequence| batch(state, WORKER_BATCHES.get(state, &(worker, sequence))?),
    )
}

/// Auditors' tasks, by batch, receipt and auditor. `open` leaves only those whose auditor still has something to do; they are found by
/// their deadlines, without looking at the others.
///
/// # Errors
/// [`PageError`].
pub fn audits(
    state: &State,
    auditor: Option<Address>,
    open: bool,
    request: &PageRequest,
) -> Result<Page<AuditView>, PageError> {
    let wanted = |who: Address| auditor.is_none_or(|auditor| auditor == who);
    let view = |(id, index, who): (BatchId, u32, Address), task: AuditTask| {
        let audit = AUDITS.get(state, &(id, index))?;
        let batch = BATCHES.get(state, &id)?;
        wanted(who).then(|| audit_view(id, index, who, &batch, &audit, &task))
    };
    if !open {
        return page(state, &AUDIT_TASKS, request, view);
    }
    let limit = request.limit(MAX_LIST)?;
    let after = request.after(&AUDIT_TASKS, &[])?;
    let mut receipts: Vec<_> = DEADLINES
        .iter(state)
        .map(|((_, id, index), _)| (id, index))
        .filter(|receipt| after.is_none_or(|(id, index, _)| *receipt >= (id, index)))
        .collect();
    receipts.sort_unstable();
    receipts.dedup();
    let mut tasks = receipts
        .into_iter()
        .filter(|key| AUDITS.get(state, key).is_some_and(|audit| audit.result.is_none()))
        .flat_map(|key| AUDIT_TASKS.iter_from(state, &key))
        .filter(|(key, task)| {
            let ahead = after.is_none_or(|after| *key > after);
            ahead && wanted(key.2) && matches!(task.phase, AuditPhase::Commit | AuditPhase::Reveal)
        })
        .peekable();
    let (mut items, mut last) = (Vec::new(), None);
    for (key, task) in tasks.by_ref().take(limit) {
        items.extend(view(key, task));
        last = Some(key);
    }
    let next = tasks.peek().and(last).map(|key| Cursor(AUDIT_TASKS.key(&key)));
    Ok(Page { items, next })
}

fn audit_view(
    id: BatchId,
    index: u32,
    auditor: Address,
    batch: &Batch,
    audit: &Audit,
    task: &AuditTask,
) -> AuditView {
    let disputed = audit.accuser.is_some();
    // With nobody to copy from, the single auditor may reveal at once; so may all once everyone has committed.
    let waits = disputed && audit.uncommitted > 0;
    AuditView {
        batch: id,
        index,
        auditor,
        disputed,
        phase: task.phase,
        commit_deadline: audit.commit_deadline,
        reveal_from: if waits { audit.commit_deadline + 1 } else { 0 },
        reveal_deadline: audit.reveal_deadline,
        outcome: task.outcome,
        result: audit.result,
        worker: batch.body.worker,
        gateway: batch.body.gateway,
        root: batch.body.root,
        count: batch.body.count,
    }
}

/// The supply equation, of sums as [`Chain::supply`](crate::Chain::supply) keeps them or [`supply`](crate::supply::supply) adds them up.
pub fn supply_view(s: &Supply, height: u64) -> SupplyView {
    SupplyView {
        height,
        accounts: s.accounts,
        collateral: s.collateral,
        stake: s.stake,
        unbonding: s.unbonding,
        channels: s.channels,
        batches: s.batches,
        domains: s.domains,
        backing: s.backing,
        jobs: s.jobs,
        pools: s.pools,
        burned: s.burned,
        total: s.total(),
        supply: dn_core::amount::SUPPLY_CAP,
    }
}
