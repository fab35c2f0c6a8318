//! The ledger's state: an ordered map of canonical keys to canonical values, with typed tables over it, a journal
//! that undoes refused changes, and a commitment that follows every change.

mod commitment;
mod map;
mod records;
mod tables;

pub use commitment::Commitment;
pub use map::{Changes, Checkpoint, State};
pub use records::{
    Account, Audit, AuditPhase, AuditResult, AuditTask, Batch, BatchStatus, Channel, Dispute, DisputeLoad,
    FeedbackRecord, Heard, Identity, IdentityStatus, Model, Offer, Pool, QualityRound, Reputation,
    SettledQuality, Turns,
};
pub use tables::{
    ACCOUNTS, AUDIT_TASKS, AUDITS, BATCHES, BEACON, CHANNELS, CorruptState, DEADLINES, DISPUTE_DUE,
    DISPUTE_LOAD, DISPUTE_MOVES, DISPUTES, DUE_BATCHES, EPOCH_WORK, FEEDBACKS, HEARD, IDENTITIES, Key, LANES,
    MODEL_EPOCHS, MODEL_REPUTATIONS, MODEL_TRUST, MODELS, OFFERS, PARAMS, POOLS, QUALITIES, QUALITY_DUE,
    QUALITY_ROUNDS, QUALITY_SUBJECTS, STAKE_POOLS, STAKE_SHARES, TURNS, Table, UNBONDING, UNBONDING_POOLS,
    VALIDATOR_EPOCHS, VALIDATOR_SETS, VALIDATOR_TRUST, WORKER_BATCHES, WORKER_EPOCHS, WORKER_FEEDBACK,
    WORKER_REPUTATIONS, WORKER_SEQUENCES, WORKER_TRUST, check_entry, table_name,
};
