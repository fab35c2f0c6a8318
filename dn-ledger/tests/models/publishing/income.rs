//! What becomes of a model's income: fees are held until nothing is audited any more, then split; the owner's share goes to ancestors, backers and owner.
//!
//! Sources: sections 5 and 7 of `docs/economics.md`, ADR 12. Every part is rounded down; of a fee the worker gets what is left, of a model's income its
//! owner. What a batch brings a model is one income.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::objects::{BatchLine, BatchRoot};
use dn_core::wide::mul_div;
use dn_core::{Address, BatchId, ModelId};
use dn_ledger::Role;
use dn_ledger::events::Event;
use dn_ledger::state::{IdentityStatus, Pool};
use dn_ledger::tx::FeeMove;

use super::publishing_domains::is_allowed;
use super::publishing_models::INCOME;
use super::publishing_spec::{Model, Spec, Verdict, WHOLE, must};

/// Backers of a family: what they have together, and everybody's shares of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backers {
    pub(super) tokens: u128,
    pub(super) shares: BTreeMap<Address, u128>,
}

impl Backers {
    pub(super) fn all_shares(&self) -> u128 {
        self.shares.values().sum()
    }
}

/// The one channel that everything is paid from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) deposit: u128,
    pub(super) lanes: BTreeMap<u32, u128>,
}

impl Channel {
    pub(super) fn claimed(&self) -> u128 {
        self.lanes.values().sum()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) worker: Address,
    pub(super) lines: Vec<BatchLine>,
    pub(super) window_end: u64,
    pub(super) open_audits: BTreeSet<u32>,
    pub(super) settled: bool,
}

impl Spec {
    // --- backing ---

    pub(super) fn back(&mut self, backer: Address, family: ModelId, amount: u128) -> Verdict {
        let terms = self.families.get(&family).ok_or("no such family")?.backing;
        let cap = terms.ok_or("it takes no backing")?.cap.atto();
        must(amount >= self.params.registry.min_backing.atto(), "too little backing")?;
        self.take(backer, amount)?;
        let pool = self.backers.entry(family).or_default();
        must(pool.tokens + amount <= cap, "over the cap")?;
        let all = pool.all_shares();
        let bought = if all == 0 { amount } else { mul_div(amount, all, pool.tokens).unwrap() };
        must(bought > 0, "worth no share")?;
        pool.tokens += amount;
        *pool.shares.entry(backer).or_default() += bought;
        Ok(())
    }

    /// At today's price, free some epochs later; so much stays that shares are fine, or nothing.
    pub(super) fn unback(&mut self, backer: Address, family: ModelId, shares: u128) -> Verdict {
        must(self.families.contains_key(&family), "no such family")?;
        let (minimum, wait) =
            (self.params.registry.min_backing.atto(), self.params.registry.unbacking_epochs);
        let free = self.epoch() + wait;
        let pool = self.backers.get_mut(&family).ok_or("no such shares")?;
        let all = pool.all_shares();
        let held = pool.shares.get_mut(&backer).ok_or("no such shares")?;
        must(shares > 0 && shares <= *held, "no such shares")?;
        let amount = mul_div(shares, pool.tokens, all).unwrap();
        must(amount > 0, "shares worth nothing")?;
        *held -= shares;
        pool.tokens -= amount;
        let left = *held;
        if left > 0 {
            let worth = mul_div(left, pool.tokens, all - shares).unwrap();
            must(worth >= minimum, "too little stays")?;
        } else {
            pool.shares.remove(&backer);
        }
        if pool.shares.is_empty() {
            self.backers.remove(&family);
            self.seen.insert("the last backer leaves");
        }
        *self.releases.entry((backer, free, family)).or_default() += amount;
        Ok(())
    }

    // --- batches ---

    pub(super) fn open_batches(&self, worker: Address) -> u64 {
        self.batches.values().filter(|batch| batch.worker == worker && !batch.settled).count() as u64
    }

    /// The form of a batch is specified elsewhere; here it is right, and the question is whose models it may be of.
    pub(super) fn post(&mut self, worker: Address, body: &BatchRoot) -> Verdict {
        must(self.is_active(Role::Worker, worker), "no active worker")?;
        let gateway = self.identities.get(&(Role::Gateway, body.gateway)).ok_or("nobody in the role")?;
        let release = gateway.status.release_epoch();
        must(release.is_none_or(|release| self.epoch() < release), "the gateway's bond is free")?;
        if gateway.status != IdentityStatus::Active {
            self.seen.insert("a bonded gateway's word");
        }
        for line in &body.lines {
            self.check_served(line.model, worker)?;
            must(!line.fees.is_zero(), "a line without fees")?;
            *self.channel.lanes.entry(line.lane).or_default() += line.fees.atto();
        }
        must(self.channel.claimed() <= self.channel.deposit, "the channel is empty")?;
        *self.sequences.entry(worker).or_default() += 1;
        let window_end =
            self.height + self.params.beacon.delay_blocks + self.params.audit_times.window_blocks;
        let (lines, open_audits, settled) = (body.lines.clone(), BTreeSet::new(), false);
        self.batches.insert(body.id(), Batch { worker, lines, window_end, open_audits, settled });
        Ok(())
    }

    /// The start of a block, up to what audits decide: terms of a new epoch hold, what is too old is forgotten.
    pub(super) fn begin_block(&mut self, height: u64) {
        let before = self.epoch();
        self.height = height;
        if self.epoch() > before {
            self.domains.iter_mut().for_each(|domain| domain.terms = domain.next);
        }
        self.forget_commitments();
    }

    /// Which receipts are audited, and until when, is taken from the ledger; then what is due is settled.
    pub(super) fn hear(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::AuditAssigned { batch, index, .. } => {
                    let record = self.batches.get_mut(batch).unwrap();
                    record.open_audits.insert(*index);
                }
                Event::AuditClosed { batch, index, .. } => {
                    let record = self.batches.get_mut(batch).unwrap();
                    assert!(record.open_audits.remove(index), "an audit that nobody has");
                }
                _ => {}
            }
        }
        let height = self.height;
        let due =
            |batch: &Batch| !batch.settled && batch.open_audits.is_empty() && height >= batch.window_end;
        let due: Vec<_> = self.batches.iter().filter(|(_, batch)| due(batch)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.settle(id));
    }

    /// How the fees of a model's tasks are split: by itself, else by its domain, else by the chain. What a vote has moved out of bounds since gives way.
    pub(super) fn split(&self, own: Option<FeeMove>, domain: u32) -> [u128; 7] {
        let chain = &self.params.fees;
        let allowed = |to: &FeeMove| is_allowed(&self.params, *to);
        let first = own.filter(allowed).or_else(|| self.domains[domain as usize].terms.fees.filter(allowed));
        let first = first.map_or([chain.worker, chain.owner, chain.validators, chain.domain], |to| {
            [to.worker, to.owner, to.validators, to.domain]
        });
        let [worker, owner, validators, domain] = first.map(u128::from);
        let [foundation, burn, emission] =
            [chain.foundation, chain.burn, chain.reinforcement].map(u128::from);
        [worker, owner, validators, domain, foundation, burn, emission]
    }

    fn settle(&mut self, id: BatchId) {
        let batch = self.batches.get_mut(&id).unwrap();
        batch.settled = true;
        let batch = batch.clone();
        let mut incomes = BTreeMap::<ModelId, u128>::new();
        for line in &batch.lines {
            let own = self.models[&line.model].fees;
            if own.is_some_and(|own| !is_allowed(&self.params, own)) {
                self.seen.insert("a model's split gives way");
            }
            let fee = line.fees.atto();
            let [_, owner, others @ ..] = self.split(own, line.domain).map(|share| fee * share / WHOLE);
            let [validators, treasury, foundation, burn, emission] = others;
            self.give(batch.worker, fee - owner - others.iter().sum::<u128>());
            // A closed domain has no treasury any more.
            let open = self.domains[line.domain as usize].closed.is_none();
            if !open {
                self.seen.insert("fees for a closed domain");
            }
            self.fill(if open { Pool::Domain { domain: line.domain } } else { Pool::Community }, treasury);
            self.fill(Pool::Validators, validators);
            self.fill(Pool::Foundation, foundation);
            self.fill(Pool::Burned, burn);
            self.fill(Pool::Community, emission);
            *incomes.entry(line.model).or_default() += owner;
        }
        incomes.into_iter().for_each(|(model, income)| self.earn(model, income));
    }

    /// The ancestors' parts go to them, the rest to the model that was used.
    fn earn(&mut self, model: ModelId, income: u128) {
        let mut rest = income;
        for (ancestor, share) in self.models[&model].royalties.clone() {
            let part = mul_div(income, share, INCOME).unwrap();
            rest -= part;
            if self.models[&ancestor].retired.is_some() {
                self.seen.insert("a retired ancestor earns");
            }
            self.pay(ancestor, part);
        }
        self.pay(model, rest);
    }

    /// The backers of its family have their part, if there are any; the owner has the rest.
    fn pay(&mut self, model: ModelId, amount: u128) {
        let Model { owner, family, .. } = self.models[&model];
        let mut part = 0;
        if let (Some(terms), Some(pool)) = (self.families[&family].backing, self.backers.get_mut(&family)) {
            part = amount * u128::from(terms.share_bps) / WHOLE;
            pool.tokens += part;
            self.seen.insert(if family == model { "backers earn" } else { "backers earn with a version" });
        }
        self.give(owner, amount - part);
    }
}
