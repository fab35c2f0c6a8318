//! Proposals: made, paid for, voted on.

use dn_core::{Address, Amount};

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::params::Params;
use crate::reject::{Field, GovernanceFault, Reject};
use crate::state::{
    DEPOSITS, NEXT_PROPOSAL, OPEN_PROPOSALS, OVERRIDES, POOL_VOTES, POOLS, Pool, Proposal, ProposalStatus,
    STAKE_SHARES, UPGRADES,
};
use crate::text::{check_size, check_text};
use crate::tx::{Choice, MAX_NAME_BYTES, MAX_TITLE_BYTES, ParamChange, ProposalKind, Role, Scalar};

/// Proposals after whose number the needed deposit doubles.
const DOUBLES_AFTER: u32 = 4;
/// An addition to a deposit is at least this part of what is needed, so that as many depositors suffice.
const MAX_DEPOSITORS: u128 = 64;
/// How many times more or less DN an amount can be after one proposal.
const STEP: u128 = 10;
/// The most that an amount of nothing becomes at once.
const FIRST_STEP: Amount = Amount::from_atto(10_000_000_000_000_000);
/// How many times larger or smaller a number can be after one proposal.
const NUMBER_STEP: u64 = 2;
/// The most that a number that is nothing becomes at once.
const FIRST_NUMBER: u64 = 100;
/// No proposal lets fewer validators than these decide blocks: with four, one may fail.
const LEAST_VALIDATORS: u64 = 4;
/// Basis points in one.
const BASIS: u128 = 10_000;

impl Step<'_> {
    pub(super) fn propose(
        &mut self,
        proposer: Address,
        title: &str,
        text: &str,
        kind: &ProposalKind,
        deposit: Amount,
    ) -> Result<(), Reject> {
        let rules = self.ctx.params.governance;
        check_text(Field::Title, title, 1, MAX_TITLE_BYTES)?;
        check_size(Field::Text, text.len(), 0, rules.max_text_bytes as usize)?;
        let open = OPEN_PROPOSALS.iter(self.state).count();
        let open = u32::try_from(open).expect("at most 16 proposals are open");
        if open >= rules.max_open {
            return Err(GovernanceFault::TooManyOpen { limit: rules.max_open }.into());
        }
        let needed = needed_deposit(rules.min_deposit, open)?;
        let minimum = part_up(needed, rules.initial_deposit.into(), BASIS);
        if deposit < minimum {
            return Err(GovernanceFault::DepositTooLow { minimum, needed, found: deposit }.into());
        }
        self.check_kind(kind)?;
        let proposal = NEXT_PROPOSAL.get_or_default(self.state, &0);
        NEXT_PROPOSAL.put(self.state, &0, &(proposal + 1));
        let until_height = self.ctx.height.saturating_add(rules.deposit_blocks);
        let mut record = Proposal {
            proposer,
            title: title.to_owned(),
            text: text.to_owned(),
            kind: kind.clone(),
            submitted_height: self.ctx.height,
            needed,
            deposit: Amount::ZERO,
            status: ProposalStatus::Deposit { until_height },
            rules: None,
            tally: None,
        };
        self.take_deposit(proposal, &mut record, proposer, deposit)?;
        let (title, status) = (record.title.clone(), record.status);
        self.put_proposal(proposal, &record);
        self.events.push(Event::Proposed { proposal, proposer, title, deposit, status });
        Ok(())
    }

    pub(super) fn deposit(
        &mut self,
        depositor: Address,
        proposal: u64,
        amount: Amount,
    ) -> Result<(), Reject> {
        let mut record = self.proposal(proposal)?;
        let status = record.status;
        if !matches!(status, ProposalStatus::Deposit { until_height } if self.ctx.height <= until_height) {
            return Err(GovernanceFault::NotInDeposit { proposal, status }.into());
        }
        let minimum = part_up(record.needed, 1, MAX_DEPOSITORS);
        if amount < minimum {
            return Err(Reject::AmountTooSmall { minimum, found: amount });
        }
        self.take_deposit(proposal, &mut record, depositor, amount)?;
        self.put_proposal(proposal, &record);
        let status = record.status;
        self.events.push(Event::ProposalDeposit { proposal, depositor, amount, status });
        Ok(())
    }

    /// Takes a deposit; voting begins when it is enough.
    fn take_deposit(
        &mut self,
        proposal: u64,
        record: &mut Proposal,
        depositor: Address,
        amount: Amount,
    ) -> Result<(), Reject> {
        self.debit(depositor, amount)?;
        self.add_to_pool(Pool::Deposits, amount);
        DEPOSITS.update(self.state, &(proposal, depositor), |held| *held = sum(*held, amount));
        record.deposit = sum(record.deposit, amount);
        if record.deposit >= record.needed {
            let rules = &self.ctx.params.governance;
            let until_height = self.ctx.height.saturating_add(rules.voting_blocks);
            record.status = ProposalStatus::Voting { until_height };
            record.rules = Some(rules.voting_rules());
        }
        Ok(())
    }

    /// The validator of a pool votes with every share that nobody overrides; a delegator overrides with its own.
    pub(super) fn vote(
        &mut self,
        voter: Address,
        proposal: u64,
        pool: Address,
        choice: Choice,
    ) -> Result<(), Reject> {
        let status = self.proposal(proposal)?.status;
        if !matches!(status, ProposalStatus::Voting { until_height } if self.ctx.height <= until_height) {
            return Err(GovernanceFault::NotInVoting { proposal, status }.into());
        }
        let key = (proposal, pool);
        let mut votes = POOL_VOTES.get_or_default(self.state, &key);
        let before = if voter == pool {
            self.active(Role::Validator, voter)?;
            votes.validator.replace(choice)
        } else {
            let shares = STAKE_SHARES.get_or_default(self.state, &(voter, pool)).0;
            if shares == 0 {
                return Err(GovernanceFault::NoShares { voter, pool }.into());
            }
            let before = OVERRIDES.get(self.state, &(proposal, voter, pool));
            if let Some(before) = before {
                votes.replace(before, shares, 0);
            }
            votes.replace(choice, 0, shares);
            OVERRIDES.put(self.state, &(proposal, voter, pool), &choice);
            before
        };
        if before == Some(choice) {
            return Err(Reject::NothingToChange {});
        }
        POOL_VOTES.put(self.state, &key, &votes);
        self.events.push(Event::Voted { proposal, voter, pool, choice });
        Ok(())
    }

    /// Keeps the votes of a delegator in step with its shares: at most 16 proposals are open.
    pub(super) fn move_votes(&mut self, delegator: Address, pool: Address, before: u128, after: u128) {
        let voting: Vec<u64> = OPEN_PROPOSALS
            .iter(self.state)
            .filter(|(_, status)| matches!(status, ProposalStatus::Voting { .. }))
            .map(|(proposal, _)| proposal)
            .collect();
        for proposal in voting {
            if let Some(choice) = OVERRIDES.get(self.state, &(proposal, delegator, pool)) {
                POOL_VOTES
                    .update(self.state, &(proposal, pool), |votes| votes.replace(choice, before, after));
            }
        }
    }

    /// What a proposal must be for it to be voted on. It is checked again when it is executed.
    fn check_kind(&self, kind: &ProposalKind) -> Result<(), Reject> {
        match kind {
            ProposalKind::Text {} => Ok(()),
            ProposalKind::Params { changes } => {
                let most = self.ctx.params.governance.max_changes as usize;
                check_size(Field::Changes, changes.len(), 1, most)?;
                changed(&self.ctx.params, changes).map(|_| ())
            }
            ProposalKind::Spend { pool, amount, .. } => self.check_spend(*pool, *amount),
            ProposalKind::Upgrade { name, height, .. } => {
                check_text(Field::Name, name, 1, MAX_NAME_BYTES)?;
                let (rules, found) = (&self.ctx.params.governance, *height);
                let blocks = [rules.deposit_blocks, rules.voting_blocks, rules.execution_delay_blocks];
                let wait = blocks.into_iter().fold(self.ctx.params.epoch_blocks, u64::saturating_add);
                let earliest = self.ctx.height.saturating_add(wait).saturating_add(1);
                if found < earliest {
                    return Err(GovernanceFault::UpgradeTooSoon { earliest, found }.into());
                }
                if UPGRADES.contains(self.state, height) {
                    return Err(GovernanceFault::UpgradeTaken { height: *height }.into());
                }
                Ok(())
            }
        }
    }

    fn check_spend(&self, pool: Pool, needed: Amount) -> Result<(), Reject> {
        if needed.is_zero() {
            return Err(Reject::AmountTooSmall { minimum: Amount::from_atto(1), found: needed });
        }
        match pool {
            Pool::Reserve | Pool::Foundation => {}
            // A domain that somebody owns is the owner's to spend.
            Pool::Domain { domain } if self.open_domain(domain)?.owner.is_none() => {}
            // Emission, the validators' pay, deposits and what is burned are nobody's to give.
            _ => return Err(GovernanceFault::PoolNotSpendable { pool }.into()),
        }
        let available = POOLS.get_or_default(self.state, &pool);
        if available < needed {
            return Err(GovernanceFault::PoolInsufficient { pool, available, needed }.into());
        }
        let limit = self.ctx.params.governance.spend_limit(available);
        if needed > limit {
            return Err(GovernanceFault::SpendTooLarge { pool, limit, found: needed }.into());
        }
        Ok(())
    }
}

/// The deposit for a proposal when so many are open: filling every place costs far more than sixteen deposits.
fn needed_deposit(minimum: Amount, open: u32) -> Result<Amount, Reject> {
    Ok(minimum.checked_mul(1 << (open / DOUBLES_AFTER))?)
}

/// A fraction of an amount, rounded up.
fn part_up(amount: Amount, numerator: u128, denominator: u128) -> Amount {
    let part = amount.mul_div(numerator, denominator).expect("a part of an amount fits");
    // Rounded up without leaving 128 bits: what is missing to the whole is rounded down.
    let rest = amount.mul_div(denominator - numerator, denominator).expect("a part of an amount fits");
    part.max(amount.saturating_sub(rest))
}

/// Refuses to move a value too far at once, so that whoever is not heard in one vote is heard before it is prohibitive.
fn check_step(params: &Params, change: &ParamChange) -> Result<(), Reject> {
    match change.scalars(params) {
        Some((Scalar::Amount(current), Scalar::Amount(found))) => check_amount(change, current, found),
        Some((Scalar::Number(current), Scalar::Number(found))) => check_number(change, current, found),
        // What is switched on protects those who are outvoted.
        Some((Scalar::Switch(true), Scalar::Switch(false))) => {
            Err(GovernanceFault::OnForGood { parameter: change.path().to_owned() }.into())
        }
        _ => Ok(()),
    }
}

/// At most ten times more or less. From nothing the first step is a hundredth of a DN at most.
fn check_amount(change: &ParamChange, current: Amount, found: Amount) -> Result<(), Reject> {
    let (least, most) = match current.atto() {
        0 => (Amount::ZERO, FIRST_STEP),
        // Down to nothing only from what is almost nothing.
        1..10 => (Amount::ZERO, Amount::from_atto(100)),
        now => (Amount::from_atto(now / STEP), Amount::from_atto(now.saturating_mul(STEP))),
    };
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let parameter = change.path().to_owned();
    Err(GovernanceFault::StepTooLarge { parameter, current, least, most, found }.into())
}

/// At most twice or half as much.
fn check_number(change: &ParamChange, current: u64, found: u64) -> Result<(), Reject> {
    let floor = if matches!(change, ParamChange::MaxValidators { .. }) { LEAST_VALIDATORS } else { 0 };
    let least = (current / NUMBER_STEP).max(floor.min(current));
    let most = if current == 0 { FIRST_NUMBER } else { current.saturating_mul(NUMBER_STEP) };
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let parameter = change.path().to_owned();
    Err(GovernanceFault::NumberStepTooLarge { parameter, current, least, most, found }.into())
}

/// The parameters with all changes, if they are valid together.
pub(super) fn changed(params: &Params, changes: &[ParamChange]) -> Result<Params, Reject> {
    let mut new = params.clone();
    changes.iter().for_each(|change| change.apply(&mut new));
    if new == *params {
        return Err(Reject::NothingToChange {});
    }
    if let Err(error) = new.validate() {
        return Err(GovernanceFault::InvalidParams { detail: error.to_string() }.into());
    }
    changes.iter().try_for_each(|change| check_step(params, change))?;
    Ok(new)
}
