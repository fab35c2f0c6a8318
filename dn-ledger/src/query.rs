//! Queries: from the state to the views that clients see.

mod dispute;
mod governance;
mod registries;
mod registry;

use dn_core::{Address, Amount, BatchId, ChannelId, ModelId};
use dn_trust::Unit;

pub use governance::{proposal, proposal_record, proposals, session, sessions, upgrades};
pub use registry::{backing, domain, domains, family, job, jobs, model_terms};

use crate::power::{self_bond, voting_power};
use crate::state::{
    ACCOUNTS, AUDIT_TASKS, AUDITS, Audit, AuditPhase, AuditTask, BACKING_POOLS, BACKING_RELEASES, BATCHES,
    Batch, CHANNELS, COMMISSIONS, Commission, DEADLINES, DOMAINS, IDENTITIES, Identity, IdentityStatus, JOBS,
    LANES, MODELS, Model, OFFERS, PARAMS, POOLS, Pool, STAKE_POOLS, STAKE_SHARES, State, UNBONDING,
    UNBONDING_POOLS, VALIDATOR_TRUST, WORKER_BATCHES, WORKER_SEQUENCES, WORKER_TRUST,
};
use crate::supply::Supply;
use crate::tx::Role;
use crate::views::{
    AccountBalance, AccountView, AuditView, BalancesView, BatchBalance, BatchView, ChannelBalance,
    ChannelView, DomainBalance, FamilyBalance, IdentityView, IndicatorView, LaneView, ModelView, PoolBalance,
    ReleaseBalance, RoleBalance, StakeView, SupplyView, TrustView, UnbondingBalance, UnbondingView,
};

pub use dispute::{dispute, disputes};
pub use registries::{agent, agent_id, beacon, model_trust, quality_rounds, reputation, validations};

/// The most entries that a list answers with.
pub const MAX_LIST: usize = 1_000;
/// The most records of a state whose holdings are listed one by one.
pub const MAX_BALANCES: usize = 100_000;

/// An account; one that never existed has nothing and nonce 0.
pub fn account(state: &State, address: Address) -> AccountView {
    let account = ACCOUNTS.get_or_default(state, &address);
    let stakes = STAKE_SHARES.iter_from(state, &address).take(MAX_LIST).map(|((_, validator), shares)| {
        let value = STAKE_POOLS.get_or_default(state, &validator).value_of(shares.0);
        StakeView { validator, shares, value }
    });
    let unbonding = UNBONDING.iter_from(state, &address).take(MAX_LIST);
    let unbonding = unbonding.map(|((_, release_epoch, validator), shares)| {
        let pool = UNBONDING_POOLS.get_or_default(state, &(validator, release_epoch));
        UnbondingView { validator, value: pool.value_of(shares.0), release_epoch }
    });
    AccountView {
        address,
        balance: account.balance,
        nonce: account.nonce,
        pending_nonce: account.nonce,
        stakes: stakes.collect(),
        unbonding: unbonding.collect(),
        redelegating: governance::redelegations(state, address),
    }
}

/// An identity in a role.
pub fn identity(state: &State, role: Role, address: Address) -> Option<IdentityView> {
    IDENTITIES.get(state, &(role, address)).map(|record| identity_view(state, role, address, record))
}

/// The identities of a role, at most [`MAX_LIST`].
pub fn identities(state: &State, role: Role) -> Vec<IdentityView> {
    let all = IDENTITIES.iter_from(state, &role).take(MAX_LIST);
    all.map(|((_, address), record)| identity_view(state, role, address, record)).collect()
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

/// The published models, at most [`MAX_LIST`].
pub fn models(state: &State) -> Vec<ModelView> {
    MODELS.iter(state).take(MAX_LIST).map(|(id, record)| model_view(state, id, record)).collect()
}

fn model_view(state: &State, id: ModelId, record: Model) -> ModelView {
    let workers = OFFERS
        .iter_from(state, &id)
        .filter(|(_, offer)| offer.until_height.is_none())
        .map(|((_, worker), _)| worker)
        .filter(|worker| {
            IDENTITIES
                .get(state, &(Role::Worker, *worker))
                .is_some_and(|identity| identity.status == IdentityStatus::Active)
        })
        .take(MAX_LIST)
        .collect();
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
        status: batch.status,
        posted_height: batch.posted_height,
        window_end_height: batch.window_end_height,
        audits,
    })
}

/// The worker's newest batches, oldest first, at most `limit`; and the sequence of its next one.
pub fn batches(state: &State, worker: Address, limit: usize) -> Vec<BatchView> {
    let next = WORKER_SEQUENCES.get_or_default(state, &worker);
    let from = next.saturating_sub(limit.min(MAX_LIST) as u64);
    (from..next)
        .filter_map(|sequence| WORKER_BATCHES.get(state, &(worker, sequence)))
        .filter_map(|id| batch(state, id))
        .collect()
}

/// Auditors' tasks. `open` leaves only those whose auditor still has something to do; they are found by their deadlines, without
/// looking at the others.
pub fn audits(state: &State, auditor: Option<Address>, open: bool) -> Vec<AuditView> {
    let wanted = |who: &Address| auditor.is_none_or(|auditor| auditor == *who);
    let view = |(id, index, who): (BatchId, u32, Address), task: AuditTask| {
        let audit = AUDITS.get(state, &(id, index))?;
        let batch = BATCHES.get(state, &id)?;
        Some(audit_view(id, index, who, &batch, &audit, &task))
    };
    if !open {
        let tasks = AUDIT_TASKS.iter(state).filter(|((_, _, who), _)| wanted(who));
        return tasks.filter_map(|(key, task)| view(key, task)).take(MAX_LIST).collect();
    }
    let mut receipts: Vec<_> = DEADLINES.iter(state).map(|((_, id, index), _)| (id, index)).collect();
    receipts.sort_unstable();
    receipts.dedup();
    receipts
        .into_iter()
        .filter(|key| AUDITS.get(state, key).is_some_and(|audit| audit.result.is_none()))
        .flat_map(|key| AUDIT_TASKS.iter_from(state, &key))
        .filter(|((_, _, who), task)| {
            wanted(who) && matches!(task.phase, AuditPhase::Commit | AuditPhase::Reveal)
        })
        .filter_map(|(key, task)| view(key, task))
        .take(MAX_LIST)
        .collect()
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

/// Every holding that is not nothing.
pub fn balances(state: &State, height: u64) -> BalancesView {
    let held = |amount: &Amount| !amount.is_zero();
    let accounts = ACCOUNTS.iter(state).map(|(address, a)| AccountBalance { address, amount: a.balance });
    let collateral = IDENTITIES.iter(state).map(|((role, address), i)| RoleBalance {
        address,
        role,
        amount: i.collateral,
    });
    let stake = STAKE_POOLS.iter(state).map(|(address, p)| AccountBalance { address, amount: p.tokens() });
    let unbonding = UNBONDING_POOLS.iter(state).map(|((validator, release_epoch), p)| UnbondingBalance {
        validator,
        release_epoch,
        amount: p.tokens(),
    });
    let channels = CHANNELS.iter(state).map(|(channel, c)| ChannelBalance { channel, amount: c.balance() });
    let batches = BATCHES.iter(state).map(|(batch, b)| BatchBalance { batch, amount: b.escrow });
    let domains = DOMAINS.iter(state).map(|(domain, d)| DomainBalance { domain, amount: d.deposit });
    let backing = BACKING_POOLS.iter(state).map(|(family, p)| FamilyBalance { family, amount: p.tokens() });
    let releases = BACKING_RELEASES.iter(state).map(|((address, release_epoch, family), amount)| {
        ReleaseBalance { address, family, release_epoch, amount }
    });
    let jobs = JOBS.iter(state).map(|(channel, j)| ChannelBalance { channel, amount: j.amount });
    let pools = POOLS.iter(state).map(|(pool, amount)| PoolBalance { pool, amount });
    BalancesView {
        height,
        accounts: accounts.filter(|b| held(&b.amount)).collect(),
        collateral: collateral.filter(|b| held(&b.amount)).collect(),
        stake: stake.filter(|b| held(&b.amount)).collect(),
        unbonding: unbonding.filter(|b| held(&b.amount)).collect(),
        channels: channels.filter(|b| held(&b.amount)).collect(),
        batches: batches.filter(|b| held(&b.amount)).collect(),
        domains: domains.filter(|b| held(&b.amount)).collect(),
        backing: backing.filter(|b| held(&b.amount)).collect(),
        backing_releases: releases.filter(|b| held(&b.amount)).collect(),
        jobs: jobs.filter(|b| held(&b.amount)).collect(),
        pools: pools.filter(|b| b.pool != Pool::Burned && held(&b.amount)).collect(),
        burned: POOLS.get_or_default(state, &Pool::Burned),
        supply: dn_core::amount::SUPPLY_CAP,
    }
}
