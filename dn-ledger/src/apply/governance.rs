//! What becomes of proposals: deadlines, counting, execution.

use std::collections::BTreeMap;

use dn_core::Amount;

use super::Step;
use super::proposal::changed;
use crate::events::Event;
use crate::reject::{GovernanceFault, Reject};
use crate::state::{
    DEPOSITS, ENDED_PROPOSALS, ExecutionFault, OPEN_PROPOSALS, OVERRIDES, PARAMS, POOL_VOTES, POOLS,
    PROPOSALS, Pool, Proposal, ProposalStatus, SPENT_VOTES, UPGRADES, Upgrade,
};
use crate::tally::{outcome, tally};
use crate::tx::ProposalKind;

/// What proposals may still spend of each pool at this epoch's end.
type Spendable = BTreeMap<Pool, Amount>;

/// The most proposals that a block forgets.
const MAX_PRUNED: usize = 16;
/// The most delegators' votes that a block removes after they were counted.
const MAX_REMOVED_VOTES: usize = 256;

impl Step<'_> {
    /// Deadlines that passed: deposits that did not come together, votes to count. Then counted votes are removed, some
    /// in each block.
    pub(super) fn govern(&mut self) {
        let open: Vec<_> = OPEN_PROPOSALS.iter(self.state).collect();
        for (id, status) in open {
            match status {
                ProposalStatus::Deposit { until_height } if self.ctx.height > until_height => self.expire(id),
                ProposalStatus::Voting { until_height } if self.ctx.height > until_height => self.decide(id),
                _ => {}
            }
        }
        self.remove_spent_votes();
        self.prune_proposals();
    }

    /// Forgets proposals that ended long ago, some in each block. Who wants to know reads the events.
    fn prune_proposals(&mut self) {
        let params = &self.ctx.params;
        let kept_blocks = params.governance.kept_epochs.saturating_mul(params.epoch_blocks);
        let old = |ended: u64| ended.saturating_add(kept_blocks) < self.ctx.height;
        let due: Vec<_> = ENDED_PROPOSALS
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(ended, _)| old(*ended))
            .take(MAX_PRUNED)
            .collect();
        for (ended, id) in due {
            ENDED_PROPOSALS.remove(self.state, &(ended, id));
            PROPOSALS.remove(self.state, &id);
        }
    }

    fn expire(&mut self, id: u64) {
        let mut record = PROPOSALS.get(self.state, &id).expect("open proposals are recorded");
        record.status = ProposalStatus::Expired;
        let burned = self.end_deposits(id, &mut record, true);
        self.put_proposal(id, &record);
        self.events.push(Event::ProposalExpired { proposal: id, burned });
    }

    fn decide(&mut self, id: u64) {
        let mut record = PROPOSALS.get(self.state, &id).expect("open proposals are recorded");
        let rules = record.rules.expect("they were taken when voting began");
        let votes = tally(self.state, id);
        let delay_blocks = self.ctx.params.governance.execution_delay_blocks;
        let from_height = self.ctx.height.saturating_add(delay_blocks);
        let status = outcome(&votes, &rules, from_height);
        record.status = status;
        record.tally = Some(votes);
        let burned = self.end_deposits(id, &mut record, status == ProposalStatus::Vetoed);
        self.put_proposal(id, &record);
        let pools: Vec<_> = POOL_VOTES.iter_from(self.state, &id).map(|(key, _)| key).collect();
        for key in pools {
            POOL_VOTES.remove(self.state, &key);
        }
        SPENT_VOTES.put(self.state, &id, &true);
        self.events.push(Event::ProposalDecided { proposal: id, status, tally: votes, burned });
    }

    /// Returns a proposal's deposits, at most 64 and the proposer's, or burns them; says what was burned.
    fn end_deposits(&mut self, id: u64, record: &mut Proposal, burn: bool) -> Amount {
        let total = std::mem::take(&mut record.deposit);
        self.take_from_pool(Pool::Deposits, total);
        let deposits: Vec<_> = DEPOSITS.iter_from(self.state, &id).collect();
        for (key, amount) in deposits {
            DEPOSITS.remove(self.state, &key);
            if !burn {
                self.credit(key.1, amount);
            }
        }
        if !burn {
            return Amount::ZERO;
        }
        self.add_to_pool(Pool::Burned, total);
        total
    }

    /// There are as many of these as delegators voted, so they go in slices.
    fn remove_spent_votes(&mut self) {
        let Some((id, _)) = SPENT_VOTES.iter(self.state).next() else { return };
        let spent: Vec<_> =
            OVERRIDES.iter_from(self.state, &id).take(MAX_REMOVED_VOTES).map(|(key, _)| key).collect();
        if spent.len() < MAX_REMOVED_VOTES {
            SPENT_VOTES.remove(self.state, &id);
        }
        for key in spent {
            OVERRIDES.remove(self.state, &key);
        }
    }

    /// At the end of an epoch: executes what has passed and waited long enough, in the order of numbers. Parameters are in
    /// force from the next block on.
    pub(super) fn execute_proposals(&mut self) {
        let ready = |status: &ProposalStatus| matches!(status, ProposalStatus::Passed { from_height } if *from_height <= self.ctx.height);
        let due: Vec<_> =
            OPEN_PROPOSALS.iter(self.state).filter(|(_, status)| ready(status)).map(|(id, _)| id).collect();
        let mut spendable = Spendable::new();
        for id in due {
            let mut record = PROPOSALS.get(self.state, &id).expect("open proposals are recorded");
            match self.execute(id, &record.kind, &mut spendable) {
                Ok(false) => continue,
                Ok(true) => {
                    record.status = ProposalStatus::Executed { height: self.ctx.height };
                    self.events.push(Event::ProposalExecuted { proposal: id });
                }
                Err(fault) => {
                    record.status = ProposalStatus::Failed { fault };
                    self.events.push(Event::ProposalFailed { proposal: id, fault });
                }
            }
            self.put_proposal(id, &record);
        }
    }

    /// Whether it is done, or must wait for the next epoch's end, as others before it spend its pool.
    fn execute(
        &mut self,
        id: u64,
        kind: &ProposalKind,
        spendable: &mut Spendable,
    ) -> Result<bool, ExecutionFault> {
        match kind {
            ProposalKind::Text {} => {}
            ProposalKind::Params { changes } => {
                // Not the block's: another proposal of this epoch may have changed them.
                let now = PARAMS.get(self.state, &0).expect("the genesis sets the parameters");
                match changed(&now, changes) {
                    Ok(new) => PARAMS.put(self.state, &0, &new),
                    // Somebody else has made the same change: as good as done.
                    Err(Reject::NothingToChange {}) => {}
                    Err(_) => return Err(ExecutionFault::Params),
                }
            }
            ProposalKind::Spend { pool, to, amount } => {
                let first = !spendable.contains_key(pool);
                let left = spendable.entry(*pool).or_insert_with(|| {
                    self.ctx.params.governance.spend_limit(POOLS.get_or_default(self.state, pool))
                });
                match left.checked_sub(*amount) {
                    Ok(rest) => *left = rest,
                    // More than a whole epoch's part will not become less.
                    Err(_) if first => return Err(ExecutionFault::Pool),
                    Err(_) => {
                        // Nothing that comes later overtakes it.
                        *left = Amount::ZERO;
                        return Ok(false);
                    }
                }
                self.take_from_pool(*pool, *amount);
                self.credit(*to, *amount);
                self.events.push(Event::ProposalSpent { proposal: id, to: *to, amount: *amount });
            }
            ProposalKind::Upgrade { name, version, height } => {
                if *height <= self.ctx.height {
                    return Err(ExecutionFault::HeightPassed);
                }
                if UPGRADES.contains(self.state, height) {
                    return Err(ExecutionFault::HeightTaken);
                }
                let upgrade = Upgrade { name: name.clone(), version: *version, proposal: id };
                UPGRADES.put(self.state, height, &upgrade);
                self.events.push(Event::UpgradeScheduled { name: name.clone(), height: *height });
            }
        }
        Ok(true)
    }

    pub(super) fn proposal(&self, proposal: u64) -> Result<Proposal, Reject> {
        let unknown = GovernanceFault::UnknownProposal { proposal };
        PROPOSALS.get(self.state, &proposal).ok_or(unknown.into())
    }

    /// Stores a proposal, and keeps the list of the open ones.
    pub(super) fn put_proposal(&mut self, id: u64, record: &Proposal) {
        PROPOSALS.put(self.state, &id, record);
        if record.status.is_open() {
            OPEN_PROPOSALS.put(self.state, &id, &record.status);
        } else {
            OPEN_PROPOSALS.remove(self.state, &id);
            ENDED_PROPOSALS.put(self.state, &(self.ctx.height, id), &true);
        }
    }
}

#[cfg(test)]
mod tests {
    use dn_core::Address;

    use super::*;
    use crate::chain::tests::chain;
    use crate::tx::Choice;

    /// Counted votes go in slices, one proposal after the other, and the note about them with the last slice; those of a vote that runs stay.
    #[test]
    fn a_block_removes_so_many_counted_votes() {
        let (mut state, ctx) = (chain().state().clone(), chain().next_context(1));
        for (proposal, count) in [(3, 2 * MAX_REMOVED_VOTES + 10), (4, MAX_REMOVED_VOTES), (5, 7)] {
            for n in 0..count as u32 {
                let mut voter = Address([7; 20]);
                voter.0[..4].copy_from_slice(&n.to_be_bytes());
                OVERRIDES.put(&mut state, &(proposal, voter, Address([1; 20])), &Choice::Yes);
            }
        }
        SPENT_VOTES.put(&mut state, &3, &true);
        SPENT_VOTES.put(&mut state, &4, &true);
        let mut left = || {
            Step::new(&mut state, &ctx).govern();
            let votes = [3u64, 4, 5].map(|proposal| OVERRIDES.iter_from(&state, &proposal).count());
            (votes, SPENT_VOTES.iter(&state).map(|(proposal, _)| proposal).collect::<Vec<_>>())
        };
        assert_eq!(left(), ([MAX_REMOVED_VOTES + 10, MAX_REMOVED_VOTES, 7], vec![3, 4]));
        assert_eq!(left(), ([10, MAX_REMOVED_VOTES, 7], vec![3, 4]));
        assert_eq!(left(), ([0, MAX_REMOVED_VOTES, 7], vec![4]));
        // Exactly as many as a block removes: that there are no more is seen in the next one.
        assert_eq!(left(), ([0, 0, 7], vec![4]));
        assert_eq!(left(), ([0, 0, 7], vec![]));
        assert_eq!(left(), ([0, 0, 7], vec![]));
    }

    /// Proposals that ended together are forgotten in slices, the oldest first, and none before its time.
    #[test]
    fn a_block_forgets_so_many_proposals() {
        let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
        let count = MAX_PRUNED as u64 + 3;
        for id in 0..=count {
            let record = Proposal {
                proposer: Address([2; 20]),
                title: "t".into(),
                text: String::new(),
                kind: ProposalKind::Text {},
                submitted_height: 1,
                needed: Amount::ZERO,
                deposit: Amount::ZERO,
                status: ProposalStatus::Expired,
                rules: None,
                tally: None,
            };
            PROPOSALS.put(&mut state, &id, &record);
            ENDED_PROPOSALS.put(&mut state, &(5 + u64::from(id == count), id), &true);
        }
        let kept = ctx.params.governance.kept_epochs * ctx.params.epoch_blocks;
        let mut left_at = |height| {
            ctx.height = height;
            Step::new(&mut state, &ctx).govern();
            assert_eq!(PROPOSALS.iter(&state).count(), ENDED_PROPOSALS.iter(&state).count());
            PROPOSALS.iter(&state).map(|(id, _)| id).collect::<Vec<_>>()
        };
        let from = |first: u64| (first..=count).collect::<Vec<_>>();
        assert_eq!(left_at(5 + kept), from(0), "not old enough");
        assert_eq!(left_at(6 + kept), from(MAX_PRUNED as u64));
        assert_eq!(left_at(6 + kept), from(count), "the last one is not old enough");
        assert!(left_at(7 + kept).is_empty());
    }
}
