//! Records of proposals and votes.

use dn_core::{Address, Amount, Hash32, canonical_enum, canonical_struct};
use serde::{Deserialize, Serialize};

use crate::tx::{Choice, ProposalKind, Shares};

/// Why a proposal that passed did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExecutionFault {
    /// With what else had changed, parameters would have been out of bounds.
    Params,
    /// The pool no longer held the amount.
    Pool,
    /// The upgrade's height had passed.
    HeightPassed,
    /// Another upgrade had the height.
    HeightTaken,
}
canonical_enum!(ExecutionFault { 0 => Params {}, 1 => Pool {}, 2 => HeightPassed {}, 3 => HeightTaken {} });

/// Where a proposal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ProposalStatus {
    /// Its deposit is coming together.
    Deposit {
        /// Last height for it.
        until_height: u64,
    },
    /// It is voted on.
    Voting {
        /// Last height for votes.
        until_height: u64,
    },
    /// It waits for its execution.
    Passed {
        /// It is executed at the first epoch's end from this height on.
        from_height: u64,
    },
    /// It was executed.
    Executed {
        /// When.
        height: u64,
    },
    /// It passed, but could not be executed any more.
    Failed {
        /// Why.
        fault: ExecutionFault,
    },
    /// Its deposit did not come together and was burned.
    Expired,
    /// Too little stake voted; the deposit went back.
    NoQuorum,
    /// Not enough said yes; the deposit went back.
    Rejected,
    /// It was vetoed; the deposit was burned.
    Vetoed,
}
canonical_enum!(ProposalStatus {
    0 => Deposit { until_height: u64 },
    1 => Voting { until_height: u64 },
    2 => Passed { from_height: u64 },
    3 => Executed { height: u64 },
    4 => Failed { fault: ExecutionFault },
    5 => Expired {},
    6 => NoQuorum {},
    7 => Rejected {},
    8 => Vetoed {},
});

impl ProposalStatus {
    /// Whether something is still to come.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Deposit { .. } | Self::Voting { .. } | Self::Passed { .. })
    }
}

/// Votes in atto of stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tally {
    /// For it.
    pub yes: Amount,
    /// Against it.
    pub no: Amount,
    /// Neither.
    pub abstain: Amount,
    /// Against it, with veto.
    pub no_with_veto: Amount,
    /// All stake with active validators, whether it voted or not, and what others voted.
    pub total: Amount,
}
canonical_struct!(Tally { yes: Amount, no: Amount, abstain: Amount, no_with_veto: Amount, total: Amount });

/// What decides a vote: as in force when voting began, so that what another proposal changes meanwhile moves no vote that runs.
///
/// # Units
/// Basis points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VotingRules {
    /// Part of all stake that must vote.
    pub quorum: u16,
    /// Part of the votes that do not abstain that must be exceeded by yes.
    pub pass: u16,
    /// Part of all votes that vetoes when exceeded.
    pub veto: u16,
}
canonical_struct!(VotingRules { quorum: u16, pass: u16, veto: u16 });

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Who proposed it.
    pub proposer: Address,
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// What it does.
    pub kind: ProposalKind,
    /// When it was submitted.
    pub submitted_height: u64,
    /// The deposit that it needs to be voted on.
    pub needed: Amount,
    /// Its deposit; all of it until the vote ends, then none.
    pub deposit: Amount,
    /// Where it stands.
    pub status: ProposalStatus,
    /// What decides the vote; none before voting.
    pub rules: Option<VotingRules>,
    /// The votes when voting ended.
    pub tally: Option<Tally>,
}
canonical_struct!(Proposal {
    proposer: Address,
    title: String,
    text: String,
    kind: ProposalKind,
    submitted_height: u64,
    needed: Amount,
    deposit: Amount,
    status: ProposalStatus,
    rules: Option<VotingRules>,
    tally: Option<Tally>,
});

/// How the stake of one pool votes on one proposal.
///
/// Shares are counted, not DN, and follow their holders: each share counts once, with whoever holds it when voting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolVote {
    /// The validator's vote, for all shares that nobody overrides.
    pub validator: Option<Choice>,
    /// Shares whose holders vote themselves: yes.
    pub yes: Shares,
    /// No.
    pub no: Shares,
    /// Abstain.
    pub abstain: Shares,
    /// No, with veto.
    pub no_with_veto: Shares,
}
canonical_struct!(PoolVote {
    validator: Option<Choice>,
    yes: Shares,
    no: Shares,
    abstain: Shares,
    no_with_veto: Shares,
});

impl PoolVote {
    /// Shares whose holders vote themselves, by their choice.
    pub const fn of(&self, choice: Choice) -> Shares {
        match choice {
            Choice::Yes => self.yes,
            Choice::No => self.no,
            Choice::Abstain => self.abstain,
            Choice::NoWithVeto => self.no_with_veto,
        }
    }

    /// Replaces `before` shares of a holder by `after`.
    pub(crate) fn replace(&mut self, choice: Choice, before: u128, after: u128) {
        let held = match choice {
            Choice::Yes => &mut self.yes,
            Choice::No => &mut self.no,
            Choice::Abstain => &mut self.abstain,
            Choice::NoWithVeto => &mut self.no_with_veto,
        };
        let others = held.0.checked_sub(before).expect("a holder's shares are part of the tally");
        held.0 = others.checked_add(after).expect("a tally's shares are shares of one pool");
    }
}

/// An upgrade that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Upgrade {
    /// Its name.
    pub name: String,
    /// Hash of the version.
    pub version: Hash32,
    /// The proposal that decided it.
    pub proposal: u64,
}
canonical_struct!(Upgrade { name: String, version: Hash32, proposal: u64 });
