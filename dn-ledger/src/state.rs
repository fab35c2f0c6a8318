//! The ledger's state: an ordered map of canonical keys to canonical values, with typed tables over it, a journal
//! that undoes refused changes, and an authenticated tree that follows every block.

mod map;
mod proof;
mod records;
mod tables;
mod tree;

pub use map::{Changes, Checkpoint, Pending, State};
pub use proof::{ProofEnd, ProofError, StateProof, bit, branch_hash};
pub use records::{
    Account, Audit, AuditPhase, AuditResult, AuditTask, Batch, BatchStatus, Channel, Commission,
    CommissionRaise, ExecutionFault, Identity, IdentityStatus, Model, Offer, Pool, PoolVote, Proposal,
    ProposalStatus, Session, Tally, Upgrade, VotingRules,
};
pub use records::{
    AuditLoad, ClassEpoch, Dispute, DisputeLoad, Election, FeedbackRecord, Heard, QualityRound, Reputation,
    SettledQuality, TrustedModel, Turns,
};
pub use records::{
    Domain, DomainCount, DrawWeight, EpochWork, Family, JobClaim, JobEscrow, ModelCommitment, ModelTerms,
    NextTerms, Spending,
};
pub use tables::{
    ACCOUNTS, AUDIT_TASKS, AUDITS, BATCHES, CHANNELS, COMMISSIONS, CorruptState, DEADLINES, DEPOSITS,
    DUE_BATCHES, EPOCH_WORK, IDENTITIES, Key, LANES, MODELS, NEXT_PROPOSAL, OFFERS, OPEN_PROPOSALS,
    OVERRIDES, PARAMS, POOL_VOTES, POOLS, PROPOSALS, REDELEGATION_POOLS, REDELEGATIONS, SESSIONS,
    SPENT_VOTES, STAKE_POOLS, STAKE_SHARES, Table, UNBONDING, UNBONDING_POOLS, UPGRADES, VALIDATOR_EPOCHS,
    VALIDATOR_SETS, VALIDATOR_TRUST, WORKER_BATCHES, WORKER_EPOCHS, WORKER_SEQUENCES, WORKER_TRUST,
    check_entry, table_name,
};
pub use tables::{
    AUDIT_LOAD, BASE_RULES, BEACON, BUSY_EPOCHS, CLASS_EPOCHS, DISPUTE_DUE, DISPUTE_LOAD, DISPUTE_MOVES,
    DISPUTES, DRAW_WEIGHTS, ELECTIONS, ENDED_BATCHES, ENDED_PROPOSALS, FEEDBACKS, HEARD, IN_ROLE,
    MODEL_EPOCHS, MODEL_REPUTATIONS, MODEL_TRUST, QUALITIES, QUALITY_DUE, QUALITY_ROUNDS, QUALITY_SUBJECTS,
    ROLE_COUNTS, TURN_SEEDS, TURNS, WORKER_FEEDBACK, WORKER_REPUTATIONS,
};
pub use tables::{
    BACKING_POOLS, BACKING_RELEASES, BACKING_SHARES, DOMAIN_COUNT, DOMAIN_NAMES, DOMAINS, DUE_COMMITMENTS,
    DUE_JOBS, FAMILIES, FAMILY_VERSIONS, JOB_CLAIMS, JOBS, MODEL_COMMITMENTS, MODEL_TERMS,
};
pub use tree::{Cut, LeafHash, Tree, subtree_hash};
