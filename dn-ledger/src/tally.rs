//! Counting votes: each share counts once, with whoever holds it now.

use dn_core::{Address, Amount};

use crate::apply::in_role;
use crate::state::{
    IDENTITIES, IdentityStatus, POOL_VOTES, PoolVote, ProposalStatus, STAKE_POOLS, State, Tally, VotingRules,
};
use crate::tx::{Choice, Role};

/// Basis points in one.
const BASIS: u128 = 10_000;

/// The votes on a proposal as they stand: over pools, never over delegators. All stake with active validators counts, and what
/// delegators of others voted themselves.
///
/// It looks at who is a validator now (at most `max_in_role`) and at pools with a vote on this proposal, each of which somebody paid for with a
/// transaction since voting began; not at who ever was a validator.
pub fn tally(state: &State, proposal: u64) -> Tally {
    let mut tally = Tally::default();
    for (validator, identity) in in_role(state, Role::Validator) {
        if identity.status != IdentityStatus::Active {
            continue;
        }
        let pool = STAKE_POOLS.get_or_default(state, &validator);
        add(&mut tally.total, pool.tokens());
        let Some(vote) = POOL_VOTES.get(state, &(proposal, validator)) else { continue };
        for choice in Choice::ALL {
            let weight = pool.value_of(shares_of(&vote, choice, pool.shares()));
            add(side(&mut tally, choice), weight);
        }
    }
    // A validator that leaves takes its own vote along, not those of its delegators.
    for ((_, validator), vote) in POOL_VOTES.iter_from(state, &proposal) {
        if is_active(state, validator) {
            continue;
        }
        let pool = STAKE_POOLS.get_or_default(state, &validator);
        for choice in Choice::ALL {
            let weight = pool.value_of(vote.of(choice).0);
            add(side(&mut tally, choice), weight);
            add(&mut tally.total, weight);
        }
    }
    tally
}

fn is_active(state: &State, validator: Address) -> bool {
    IDENTITIES
        .get(state, &(Role::Validator, validator))
        .is_some_and(|identity| identity.status == IdentityStatus::Active)
}

/// Shares of a pool behind a choice: of those who vote themselves and, if it is the validator's vote, of all others.
fn shares_of(vote: &PoolVote, choice: Choice, all: u128) -> u128 {
    let own = vote.of(choice).0;
    if vote.validator != Some(choice) {
        return own;
    }
    let others = Choice::ALL.iter().filter(|c| **c != choice).map(|c| vote.of(*c).0).sum();
    all.checked_sub(others).expect("votes are of shares of the pool")
}

const fn side(tally: &mut Tally, choice: Choice) -> &mut Amount {
    match choice {
        Choice::Yes => &mut tally.yes,
        Choice::No => &mut tally.no,
        Choice::Abstain => &mut tally.abstain,
        Choice::NoWithVeto => &mut tally.no_with_veto,
    }
}

fn add(sum: &mut Amount, more: Amount) {
    *sum = sum.checked_add(more).expect("stake is part of the supply, which fits 128 bits");
}

/// How voting ends with these votes.
pub(crate) fn outcome(tally: &Tally, rules: &VotingRules, from_height: u64) -> ProposalStatus {
    let [yes, no, abstain, veto, total] =
        [tally.yes, tally.no, tally.abstain, tally.no_with_veto, tally.total].map(Amount::atto);
    // All stake is under 2^87 atto: a ten-thousandfold fits.
    let decided = yes + no + veto;
    let cast = decided + abstain;
    let over = |part: u128, whole: u128, bps: u16| part * BASIS > whole * u128::from(bps);
    if cast == 0 || cast * BASIS < total * u128::from(rules.quorum) {
        ProposalStatus::NoQuorum
    } else if over(veto, cast, rules.veto) {
        ProposalStatus::Vetoed
    } else if over(yes, decided, rules.pass) {
        ProposalStatus::Passed { from_height }
    } else {
        ProposalStatus::Rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;

    fn of(votes: [u128; 4], total: u128) -> ProposalStatus {
        let [yes, no, abstain, no_with_veto] = votes.map(Amount::from_atto);
        let tally = Tally { yes, no, abstain, no_with_veto, total: Amount::from_atto(total) };
        outcome(&tally, &Params::devnet().governance.voting_rules(), 9)
    }

    #[test]
    fn the_bounds_by_hand() {
        let passed = ProposalStatus::Passed { from_height: 9 };
        assert_eq!(of([0, 0, 0, 0], 0), ProposalStatus::NoQuorum);
        assert_eq!(of([499, 0, 0, 0], 1_000), ProposalStatus::NoQuorum);
        // Half of all stake suffices, abstentions included.
        assert_eq!(of([1, 0, 499, 0], 1_000), passed);
        assert_eq!(of([0, 0, 500, 0], 1_000), ProposalStatus::Rejected);
        // Half of those who decide does not.
        assert_eq!(of([300, 300, 0, 0], 1_000), ProposalStatus::Rejected);
        assert_eq!(of([301, 300, 0, 0], 1_000), passed);
        // 33.4 % of all votes is not more than 33.4 %.
        assert_eq!(of([666, 0, 0, 334], 1_000), passed);
        assert_eq!(of([665, 0, 0, 335], 1_000), ProposalStatus::Vetoed);
        assert_eq!(of([100, 0, 565, 335], 1_000), ProposalStatus::Vetoed);
        // Of all votes, abstentions included: three tenths are no veto, though half of those who decide.
        assert_eq!(of([300, 0, 400, 300], 1_000), ProposalStatus::Rejected);
        // Who votes with a veto that fails decides, against: 301 of 635.
        assert_eq!(of([301, 0, 365, 334], 1_000), ProposalStatus::Rejected);
    }

    #[test]
    fn the_whole_supply_fits() {
        let all = dn_core::amount::SUPPLY_CAP.atto();
        assert_eq!(of([all, 0, 0, 0], all), ProposalStatus::Passed { from_height: 9 });
        assert_eq!(of([0, 0, 0, all], all), ProposalStatus::Vetoed);
    }
}
