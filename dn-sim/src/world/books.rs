//! Who is paid and charged what, in exact amounts, by the functions that the ledger books with.

use dn_core::Amount;
use dn_powr::{FeeSplit, Offence, SlashParams, payout};

use super::UNIT_OPS;
use super::population::{Roster, Worker};
use super::run::Ledger;
use crate::border::{add, dn, in_dn, share, whole};
use crate::policy::{Epoch, Payment, WorkerSeen};
use crate::scenario::{Rewards, Scenario};

/// What one side was paid and charged so far; [`Ledger`] is the same in floats.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) emission: Amount,
    pub(super) dividends: Amount,
    pub(super) fees: Amount,
    pub(super) costs: Amount,
    pub(super) bought: Amount,
    pub(super) computing: Amount,
}

impl From<Account> for Ledger {
    fn from(account: Account) -> Self {
        Self {
            emission: in_dn(account.emission),
            dividends: in_dn(account.dividends),
            fees: in_dn(account.fees),
            costs: in_dn(account.costs),
            bought: in_dn(account.bought),
            computing: in_dn(account.computing),
        }
    }
}

/// The books of a run.
#[derive(Clone)]
pub(super) struct Books {
    rewards: Rewards,
    split: FeeSplit,
    slash: SlashParams,
    least_collateral: Amount,
    pub(super) attackers: Account,
    pub(super) honest: Account,
    /// Emission of each worker in the measured epochs.
    pub(super) earned: Vec<Amount>,
    ids: Vec<u32>,
    points: Vec<u128>,
    shares: Vec<Amount>,
    fees: Vec<Amount>,
}

/// The fee of a worker's work.
pub(super) fn fee(worker: &Worker, ops: u64) -> Amount {
    worker.fee.mul_div(ops.into(), UNIT_OPS as u128).unwrap_or(Amount::from_atto(u128::MAX))
}

/// A worker's money in an epoch besides emission.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bill {
    /// Its part of others' fees.
    fees: Amount,
    slashed: Amount,
    /// What did not come back of fees that it paid itself.
    bought: Amount,
    computing: Amount,
    /// What validators get out of its fees.
    validators: Amount,
}

impl Books {
    pub(super) fn new(scenario: &Scenario, slash: SlashParams, workers: usize) -> Self {
        Self {
            rewards: scenario.rewards.clone(),
            split: FeeSplit::default(),
            slash,
            least_collateral: dn(scenario.workers.min_collateral),
            attackers: Account::default(),
            honest: Account::default(),
            earned: vec![Amount::ZERO; workers],
            ids: Vec::new(),
            points: Vec::new(),
            shares: Vec::new(),
            fees: Vec::new(),
        }
    }

    fn side(&mut self, member: Option<usize>) -> &mut Account {
        if member.is_some() { &mut self.attackers } else { &mut self.honest }
    }

    /// Books an epoch: emission by points, fees, slashes; validators stake again. Returns the emission of the attackers and of all.
    pub(super) fn close(
        &mut self,
        roster: &mut Roster,
        epoch: &Epoch,
        payment: &Payment,
        measured: bool,
    ) -> (Amount, Amount) {
        let (mut group, mut total, mut fees) = (Amount::ZERO, Amount::ZERO, Amount::ZERO);
        self.divide(share(dn(self.rewards.workers), payment.part), &payment.workers);
        for (i, worker) in roster.workers.iter_mut().enumerate() {
            let (amount, bill) = (self.shares[i], self.settle(worker, &epoch.workers[i]));
            add(&mut fees, bill.validators);
            add(&mut total, amount);
            if worker.member.is_some() {
                add(&mut group, amount);
            }
            if measured {
                add(&mut self.earned[i], amount);
                let account = self.side(worker.member);
                add(&mut account.emission, amount);
                add(&mut account.fees, bill.fees);
                add(&mut account.costs, bill.slashed);
                add(&mut account.bought, bill.bought);
                add(&mut account.computing, bill.computing);
            }
        }
        self.divide(fees, &payment.validators);
        self.fees.clone_from(&self.shares);
        self.divide(share(dn(self.rewards.validators), payment.part), &payment.validators);
        for (i, validator) in roster.validators.iter_mut().enumerate() {
            let (amount, fees) = (self.shares[i], self.fees[i]);
            let mut slashed = Amount::ZERO;
            let (_, fraction) = self.slash.fractions(Offence::FalseVerdict);
            for _ in 0..epoch.validators[i].false_verdicts {
                add(&mut slashed, validator.pool.slash(fraction));
            }
            // Refused by a pool without stake, and where there would be more than can be.
            let _ = validator.pool.reward(share(amount, self.rewards.restake));
            add(&mut total, amount);
            if validator.member.is_some() {
                add(&mut group, amount);
            }
            if measured {
                let account = self.side(validator.member);
                add(&mut account.dividends, amount);
                add(&mut account.fees, fees);
                add(&mut account.costs, slashed);
            }
        }
        (group, total)
    }

    /// Divides a pot by points into `shares`, as an epoch's emission is divided.
    fn divide(&mut self, pot: Amount, points: &[f64]) {
        whole(points, &mut self.points);
        self.ids.clear();
        self.ids.extend(0..points.len() as u32);
        self.shares.clear();
        self.shares.resize(points.len(), Amount::ZERO);
        payout(pot, &self.ids, &self.points, &mut self.shares)
            .expect("columns of one length, points of 64 bits");
    }

    /// Settles a worker's epoch, which is one batch. A proven fraud or an audit that was not opened voids it: no fees, and a slash.
    fn settle(&self, worker: &mut Worker, seen: &WorkerSeen) -> Bill {
        let fee = |ops: u64| fee(worker, ops);
        let mut computing = share(fee(seen.delivered - seen.wrong), self.rewards.cost);
        add(&mut computing, share(fee(seen.wrong), self.rewards.cost * self.rewards.cheap));
        let own = self.split.split(fee(seen.bought));
        let mut bought = own.validators;
        add(&mut bought, own.burn);
        add(&mut bought, own.foundation);
        add(&mut bought, own.reinforcement);
        let mut bill = Bill { bought, computing, ..Bill::default() };
        if seen.frauds == 0 && seen.audits_failed == 0 {
            let others = self.split.split(fee(seen.delivered - seen.bought));
            (bill.fees, bill.validators) = (others.worker, others.validators);
            add(&mut bill.validators, own.validators);
        } else if seen.frauds > 0 {
            // For an audit that could not be opened the gateway answers, not the worker (docs/adr/0006).
            let bond = share_of_jobs(fee(seen.defrauded), self.rewards.job_bond);
            let penalty = self.slash.penalty(Offence::WorkerFraud, bond, worker.collateral);
            worker.collateral = worker.collateral.saturating_sub(penalty.from_collateral);
            worker.suspended = worker.collateral < self.least_collateral;
            bill.slashed = penalty.from_bond;
            add(&mut bill.slashed, penalty.from_collateral);
        }
        bill
    }
}

/// A multiple of the fees of some jobs.
fn share_of_jobs(fees: Amount, multiple: f64) -> Amount {
    let mut whole = fees.checked_mul(multiple as u64).unwrap_or(Amount::from_atto(u128::MAX));
    add(&mut whole, share(fees, multiple.fract()));
    whole
}
