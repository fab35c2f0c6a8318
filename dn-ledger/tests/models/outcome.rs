//! What becomes of fees that are held, and what an epoch emits: the second half of the naive specification.
//!
//! Sources: `docs/economics.md`, sections 4 to 6 and 8, ADR 6 and 12. Rounding is said where it happens: a sum's parts are rounded down and one named
//! receiver gets the rest, a division in proportion goes by largest remainders.

use std::collections::BTreeMap;

use dn_core::objects::BatchLine;
use dn_core::{Address, Amount, BatchId};
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::state::{AuditResult, Pool};
use dn_ledger::{Params, Role};

use super::spec::{Model, Spec, Stage};

/// One whole, in basis points.
const WHOLE: u128 = 10_000;
/// The work that the reference price is for.
const PRICED_WORK: u128 = 1_000_000_000_000;
/// ln 2, in units of 10⁻¹⁸.
const LN_2: u128 = 693_147_180_559_945_309;
const UNIT: u128 = 1_000_000_000_000_000_000;

/// Basis points of a fee: worker, owner, validators, domain, foundation, burn, reinforcement.
fn fee_shares(params: &Params, model: &Model, terms: &dn_ledger::tx::DomainTerms) -> [u128; 7] {
    let chain = &params.fees;
    let first = match (model.fees, terms.fees) {
        (Some(own), _) | (None, Some(own)) => [own.worker, own.owner, own.validators, own.domain],
        (None, None) => [chain.worker, chain.owner, chain.validators, chain.domain],
    };
    let rest = [chain.foundation, chain.burn, chain.reinforcement];
    let all: Vec<u128> = first.into_iter().chain(rest).map(u128::from).collect();
    all.try_into().unwrap()
}

/// Divides a pot in proportion: everybody's exact part rounded down, what is left one atto each to the largest remainders, the
/// smaller id first where they are equal.
pub(super) fn in_proportion<Id: Ord + Copy>(pot: u128, points: &BTreeMap<Id, u128>) -> BTreeMap<Id, u128> {
    let all: u128 = points.values().sum();
    if all == 0 {
        return BTreeMap::new();
    }
    let exact = |p: u128| pot.checked_mul(p).unwrap();
    let mut parts: BTreeMap<Id, u128> = points.iter().map(|(id, p)| (*id, exact(*p) / all)).collect();
    let mut order: Vec<(u128, Id)> = points.iter().map(|(id, p)| (exact(*p) % all, *id)).collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = pot - parts.values().sum::<u128>();
    for (_, id) in order.iter().take(usize::try_from(left).unwrap()) {
        *parts.get_mut(id).unwrap() += 1;
    }
    parts
}

impl Spec {
    /// Follows what happened: audits come and go, then whatever is due is settled.
    pub(super) fn hear(&mut self, events: &[Event]) {
        for (n, event) in events.iter().enumerate() {
            match event {
                Event::AuditAssigned { batch, index, .. } => {
                    let record = self.batches.get_mut(batch).unwrap();
                    let exact = |line: &BatchLine| self.models[&line.model].numeric_spec > 0;
                    assert!(record.body.lines.iter().all(exact), "nobody can audit {batch}");
                    record.open_audits.insert(*index);
                }
                Event::AuditClosed { batch, index, result } => {
                    let record = self.batches.get_mut(batch).unwrap();
                    record.open_audits.remove(index);
                    match result {
                        AuditResult::Passed | AuditResult::Refuted => record.passed += 1,
                        AuditResult::NoAudit => record.undone += 1,
                        _ => {}
                    }
                    let reporter = events[n..].iter().find_map(|event| match event {
                        Event::Slashed { reporter, cause, .. } if *cause != SlashCause::FalseVerdict => {
                            *reporter
                        }
                        _ => None,
                    });
                    match result {
                        AuditResult::Fraud => self.throw_out(*batch, Role::Worker, reporter.unwrap()),
                        AuditResult::Unavailable => self.throw_out(*batch, Role::Gateway, reporter.unwrap()),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let due = |batch: &super::spec::Batch| {
            batch.stage == Stage::Held && batch.open_audits.is_empty() && self.height >= batch.window_end
        };
        let due: Vec<BatchId> = self.batches.iter().filter(|(_, b)| due(b)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.settle(id));
    }

    /// The start of a block: jobs whose time is over go back, terms of a new epoch hold.
    pub(super) fn begin_block(&mut self, height: u64, time_ms: u64) {
        (self.height, self.time_ms) = (height, time_ms);
        if height.is_multiple_of(self.params.epoch_blocks) {
            self.domains.values_mut().for_each(|domain| domain.terms = domain.next);
        }
        // The longest overdue first; what is more than a block's share follows in the next.
        let over = self.jobs.iter().filter(|(_, job)| height > job.expires);
        let mut over: Vec<_> = over.map(|(id, job)| (job.expires, *id)).collect();
        over.sort_unstable();
        over.truncate(self.params.registry.max_job_refunds as usize);
        for (_, id) in over {
            let job = self.jobs.remove(&id).unwrap();
            self.give(job.payer, job.amount);
        }
    }

    fn settle(&mut self, id: BatchId) {
        let batch = self.batches.get_mut(&id).unwrap();
        batch.stage = Stage::Settled;
        let (passed, undone) = (batch.passed, batch.undone);
        let (body, price) = (batch.body.clone(), self.params.emission.reference_price.atto());
        let bond = batch.bond;
        self.give(body.worker, bond);
        for line in &body.lines {
            let model = self.models[&line.model].clone();
            let shares = fee_shares(&self.params, &model, &self.domains[&line.domain].terms);
            let fee = line.fees.atto();
            let [_, owner, validators, domain, foundation, burn, reinforcement] =
                shares.map(|share| fee * share / WHOLE);
            let others = owner + validators + domain + foundation + burn + reinforcement;
            self.give(body.worker, fee - others);
            self.give(model.owner, owner);
            self.fill(Pool::Validators, validators);
            self.fill(Pool::Domain { domain: line.domain }, domain);
            self.fill(Pool::Foundation, foundation);
            self.fill(Pool::Burned, burn);
            self.fill(Pool::Community, reinforcement);
            // What counts for emission: no more than the fee pays for; weighted with what paying oneself loses.
            let done =
                u128::from(line.prompt_tokens) * model.ops.0 + u128::from(line.output_tokens) * model.ops.1;
            let mut counted = done.min(fee * PRICED_WORK / price);
            if model.numeric_spec == 0 {
                counted = counted * u128::from(self.params.registry.inexact_work_bps) / WHOLE;
            }
            // Of work that was to be audited, the part that was.
            let drawn = passed + undone;
            let counted = (counted * passed).checked_div(drawn).unwrap_or(counted);
            let lost = shares[2] + shares[4] + shares[5];
            let work = self.work.entry((line.domain, body.worker, model.owner)).or_default();
            *work = (work.0 + counted, work.1 + counted * lost);
        }
    }

    /// Fees go back where they came from; whose fault it is loses a part of the collateral, a worker also what it put up for the job, a quarter of all to
    /// the reporter. What a worker put up for a job that is not its fault goes back.
    fn throw_out(&mut self, id: BatchId, role: Role, reporter: Address) {
        let batch = self.batches.get_mut(&id).unwrap();
        assert_eq!(batch.stage, Stage::Held, "fees go back once");
        batch.stage = Stage::Voided;
        batch.open_audits.clear();
        let batch = batch.clone();
        for (line, payer) in batch.body.lines.iter().zip(&batch.payers) {
            match self.channels.get_mut(&line.channel) {
                Some(channel) => channel.deposit += line.fees.atto(),
                None => self.give(*payer, line.fees.atto()),
            }
        }
        let (who, percent) =
            if role == Role::Worker { (batch.body.worker, 20) } else { (batch.body.gateway, 1) };
        let collateral = self.bonds.get_mut(&(role, who)).unwrap();
        let mut cut = (*collateral * percent).div_ceil(100);
        *collateral -= cut;
        if role == Role::Worker {
            cut += batch.bond;
        } else {
            self.give(batch.body.worker, batch.bond);
        }
        self.give(reporter, cut / 4);
        self.fill(Pool::Burned, cut - cut / 4);
    }

    /// The end of an epoch, given everybody's trust in 2⁻³² and what the validators were paid out of their pool.
    ///
    /// `decay` is what the ledger takes for `pool · (1 − 2^(−1/h))`.
    pub(super) fn end_epoch(&mut self, decay: Amount, trust: &BTreeMap<Address, u128>, paid: u128) {
        let pool = self.pools[&Pool::Community];
        check_decay(pool, self.params.emission.half_life_epochs, decay.atto());
        let price = self.params.emission.reference_price.atto();
        let mut points = BTreeMap::<(u32, Address, Address), (u128, u128)>::new();
        for ((domain, worker, owner), (counted, weighted)) in std::mem::take(&mut self.work) {
            if self.is_active(Role::Worker, worker) {
                let trusted = |work: u128| (work * trust[&worker]) >> 32;
                points.insert((domain, worker, owner), (trusted(counted), trusted(weighted)));
            }
        }
        let mut demand = BTreeMap::<u32, u128>::new();
        points.iter().for_each(|((domain, ..), p)| *demand.entry(*domain).or_default() += p.0);
        for (domain, part) in in_proportion(decay.atto(), &demand) {
            let own = || points.iter().filter(|((of, ..), _)| *of == domain);
            let weighted: u128 = own().map(|(_, p)| p.1).sum();
            // What all its tasks together lost, at the reference price.
            let bound = rational_floor(weighted, price, PRICED_WORK * WHOLE);
            let emission = part.min(bound);
            *self.pools.get_mut(&Pool::Community).unwrap() -= emission;
            let terms = self.domains[&domain].terms;
            let split = terms.emission.unwrap_or(self.params.domain_split);
            let parts = [split.validators, split.stakers, split.creators, split.treasury, split.foundation];
            let [validators, stakers, creators, treasury, foundation] =
                parts.map(|bps| emission * u128::from(bps) / WHOLE);
            let workers = emission - validators - stakers - creators - treasury - foundation;
            let (mut by_worker, mut by_owner) = (BTreeMap::new(), BTreeMap::new());
            for ((_, worker, owner), p) in own() {
                *by_worker.entry(*worker).or_default() += p.1;
                *by_owner.entry(*owner).or_default() += p.1;
            }
            for (pot, shares) in [(workers, by_worker), (creators, by_owner)] {
                in_proportion(pot, &shares).into_iter().for_each(|(who, amount)| self.give(who, amount));
            }
            self.fill(Pool::Validators, validators + stakers);
            self.fill(Pool::Domain { domain }, treasury);
            self.fill(Pool::Foundation, foundation);
        }
        *self.pools.get_mut(&Pool::Validators).unwrap() -= paid;
    }
}

/// `⌊a·b/c⌋` by long multiplication: the rest of a stays below c at each step.
fn rational_floor(a: u128, b: u128, c: u128) -> u128 {
    let (mut quotient, mut rest) = (0u128, 0u128);
    // Bit by bit of b, from the highest: (quotient·c + rest) doubles, and takes a where the bit is set.
    for bit in (0..u128::BITS).rev() {
        (quotient, rest) = (quotient * 2, rest * 2);
        if (b >> bit) & 1 == 1 {
            (quotient, rest) = (quotient + a / c, rest + a % c);
        }
        (quotient, rest) = (quotient + rest / c, rest % c);
    }
    quotient
}

/// The decay against the series of 1 − 2^(−1/h): one half for h = 1, else x − x²/2 + x³/6 with x = ln 2 / h, close enough where h is large.
fn check_decay(pool: u128, half_life: u64, decay: u128) {
    let near = |expected: u128| {
        assert!(decay.abs_diff(expected) <= expected / 1_000_000_000 + 1_000, "{decay}, not {expected}")
    };
    if half_life == 1 {
        return near(pool / 2);
    }
    assert!(half_life >= 1_000, "the series is cut");
    let x =
        |amount: u128| Amount::from_atto(amount).mul_div(LN_2, UNIT * u128::from(half_life)).unwrap().atto();
    near(x(pool) - x(x(pool)) / 2 + x(x(x(pool))) / 6);
}
