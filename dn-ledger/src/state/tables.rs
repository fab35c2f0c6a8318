//! The tables: one key prefix, key type and value type each.

use std::marker::PhantomData;

use dn_core::encoding::{Canonical, DecodeError};
use dn_core::{Address, Amount, BatchId, ChannelId, Hash32, ModelId};
use dn_powr::StakePool;
use dn_trust::{ModelEpoch, ValidatorEpoch, ValidatorTrust, WorkerEpoch, WorkerTrust};

use super::map::State;
use super::records::{
    Account, Audit, AuditTask, Batch, Channel, Commission, Identity, Model, Offer, Pool, PoolVote, Proposal,
    ProposalStatus, Session, Upgrade,
};
use super::records::{
    AuditLoad, ClassEpoch, Dispute, DisputeLoad, DrawWeight, Election, FeedbackRecord, Heard, QualityRound,
    Reputation, SettledQuality, TrustedModel, Turns,
};
use super::records::{
    Domain, DomainCount, EpochWork, Family, JobClaim, JobEscrow, ModelCommitment, ModelTerms,
};
use crate::params::Params;
use crate::referee::Played;
use crate::tx::{Choice, Role, Shares};
use crate::validators::ValidatorSet;

/// A key's place in the order: numbers are big-endian, so that ranges over heights and epochs come in order.
pub trait Key: Sized {
    /// Bytes of a key.
    const LEN: usize;
    /// Appends the key.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads the key from exactly [`LEN`](Self::LEN) bytes; `None` when they are none.
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! id_keys {
    ($($t:ident: $n:literal),*) => {$(
        impl Key for $t {
            const LEN: usize = $n;
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self(bytes.try_into().ok()?))
            }
        }
    )*};
}
id_keys!(Address: 20, BatchId: 32, ChannelId: 32, Hash32: 32, ModelId: 32);

macro_rules! number_keys {
    ($($t:ty),*) => {$(
        impl Key for $t {
            const LEN: usize = size_of::<$t>();
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}
number_keys!(u32, u64);

impl Key for Role {
    const LEN: usize = 1;
    fn write(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        Self::from_bytes(bytes).ok()
    }
}

impl Key for Pool {
    const LEN: usize = 5;
    fn write(&self, out: &mut Vec<u8>) {
        let domain = if let Self::Domain { domain } = self { *domain } else { 0 };
        out.push(self.to_bytes()[0]);
        domain.write(out);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (tag, domain) = bytes.split_first()?;
        let mut canonical = vec![*tag];
        if *tag == (Self::Domain { domain: 0 }).to_bytes()[0] {
            u32::read(domain)?.encode(&mut canonical);
        }
        Self::from_bytes(&canonical).ok()
    }
}

impl<A: Key, B: Key> Key for (A, B) {
    const LEN: usize = A::LEN + B::LEN;
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (a, b) = bytes.split_at_checked(A::LEN)?;
        Some((A::read(a)?, B::read(b)?))
    }
}

impl<A: Key, B: Key, C: Key> Key for (A, B, C) {
    const LEN: usize = A::LEN + B::LEN + C::LEN;
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
        self.2.write(out);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        let (a, bc) = bytes.split_at_checked(A::LEN)?;
        let (b, c) = bc.split_at_checked(B::LEN)?;
        Some((A::read(a)?, B::read(b)?, C::read(c)?))
    }
}

/// A table of the state.
#[derive(Debug)]
pub struct Table<K, V> {
    prefix: u8,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Canonical> Table<K, V> {
    const fn new(prefix: u8) -> Self {
        Self { prefix, types: PhantomData }
    }

    /// The first byte of the table's keys.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The key as it stands in the state.
    pub fn key(&self, key: &K) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + K::LEN);
        out.push(self.prefix);
        key.write(&mut out);
        out
    }

    /// Reads back a key as it stands in the state; none when it is not one of this table's.
    pub fn read_key(&self, key: &[u8]) -> Option<K> {
        let (prefix, rest) = key.split_first()?;
        (*prefix == self.prefix && rest.len() == K::LEN).then(|| K::read(rest))?
    }

    /// What the keys that start with `first` start with in the state.
    pub fn prefix_of<P: Key>(&self, first: &P) -> Vec<u8> {
        let mut prefix = vec![self.prefix];
        first.write(&mut prefix);
        prefix
    }

    /// Reads a record; none when this table did not write it.
    pub(crate) fn read(&self, value: &[u8]) -> Option<V> {
        V::from_bytes(value).ok()
    }

    /// The record of a key.
    ///
    /// # Panics
    /// Never for a state that was written through tables or checked with [`check_entry`].
    pub fn get(&self, state: &State, key: &K) -> Option<V> {
        state.get(&self.key(key)).map(|value| V::from_bytes(value).expect("written by this table"))
    }

    /// Whether a key has a record.
    pub fn contains(&self, state: &State, key: &K) -> bool {
        state.get(&self.key(key)).is_some()
    }

    /// Sets the record of a key.
    pub fn put(&self, state: &mut State, key: &K, value: &V) {
        state.put(self.key(key), value.to_bytes());
    }

    /// Removes the record of a key.
    pub fn remove(&self, state: &mut State, key: &K) {
        state.remove(&self.key(key));
    }

    /// Every record, in the order of the keys.
    pub fn iter<'a>(&self, state: &'a State) -> impl Iterator<Item = (K, V)> + use<'a, K, V> {
        self.read_all(state, vec![self.prefix])
    }

    /// The records whose key starts with `first`, in order.
    pub fn iter_from<'a, P: Key>(
        &self,
        state: &'a State,
        first: &P,
    ) -> impl Iterator<Item = (K, V)> + use<'a, K, V, P> {
        self.read_all(state, self.prefix_of(first))
    }

    /// The records whose key starts with `group` and comes at or after `(group, first)`, in order: what lies before is not
    /// looked at.
    pub fn iter_since<'a, P: Key, Q: Key>(
        &self,
        state: &'a State,
        group: &P,
        first: &Q,
    ) -> impl Iterator<Item = (K, V)> + use<'a, K, V, P, Q> {
        let mut prefix = vec![self.prefix];
        group.write(&mut prefix);
        let mut start = prefix.clone();
        first.write(&mut start);
        state.range_from(prefix, &start).map(|(key, value)| {
            let key = K::read(&key[1..]).expect("written by this table");
            (key, V::from_bytes(value).expect("written by this table"))
        })
    }

    fn read_all<'a>(
        &self,
        state: &'a State,
        prefix: Vec<u8>,
    ) -> impl Iterator<Item = (K, V)> + use<'a, K, V> {
        state.range(prefix).map(|(key, value)| {
            let key = K::read(&key[1..]).expect("written by this table");
            (key, V::from_bytes(value).expect("written by this table"))
        })
    }

    fn check(&self, key: &[u8], value: &[u8]) -> Result<(), CorruptState> {
        let corrupt = || CorruptState::Key { table: table_name(self.prefix), length: key.len() };
        if key.len() != 1 + K::LEN || K::read(&key[1..]).is_none() {
            return Err(corrupt());
        }
        let table = table_name(self.prefix);
        V::from_bytes(value).map(|_| ()).map_err(|source| CorruptState::Value { table, source })
    }
}

impl<K: Key, V: Canonical + Default> Table<K, V> {
    /// The record of a key, or its type's default.
    pub fn get_or_default(&self, state: &State, key: &K) -> V {
        self.get(state, key).unwrap_or_default()
    }

    /// Changes the record of a key, starting from its type's default.
    pub fn update(&self, state: &mut State, key: &K, change: impl FnOnce(&mut V)) {
        let mut value = self.get_or_default(state, key);
        change(&mut value);
        self.put(state, key, &value);
    }
}

/// An entry that no table wrote: the state was damaged outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorruptState {
    /// A key of no table.
    #[error("the state holds a key of unknown table {prefix:?}")]
    Table {
        /// Its first byte.
        prefix: Option<u8>,
    },
    /// A key that its table does not have.
    #[error("table {table}: a key of {length} bytes is not one of its keys")]
    Key {
        /// The table.
        table: &'static str,
        /// Bytes of the key.
        length: usize,
    },
    /// A value that its table cannot read.
    #[error("table {table}: {source}")]
    Value {
        /// The table.
        table: &'static str,
        /// Why.
        source: DecodeError,
    },
}

macro_rules! tables {
    ($($(#[$doc:meta])* $prefix:literal $name:ident $text:literal: $key:ty => $value:ty;)*) => {
        $($(#[$doc])* pub const $name: Table<$key, $value> = Table::new($prefix);)*

        /// The name of the table with this key prefix.
        pub fn table_name(prefix: u8) -> &'static str {
            match prefix { $($prefix => $text,)* _ => "unknown" }
        }

        /// Checks that an entry is one that its table can read.
        ///
        /// # Errors
        /// [`CorruptState`].
        pub fn check_entry(key: &[u8], value: &[u8]) -> Result<(), CorruptState> {
            match key.first() {
                $(Some($prefix) => $name.check(key, value),)*
                prefix => Err(CorruptState::Table { prefix: prefix.copied() }),
            }
        }
    };
}

tables! {
    /// Accounts by address.
    1 ACCOUNTS "accounts": Address => Account;
    /// Identities by role and address.
    2 IDENTITIES "identities": (Role, Address) => Identity;
    /// Stake pools by validator.
    3 STAKE_POOLS "stake_pools": Address => StakePool;
    /// Shares by delegator and validator.
    4 STAKE_SHARES "stake_shares": (Address, Address) => Shares;
    /// Unbonding stake by validator and release epoch: one pool for all who leave in the same epoch, so that a slash iterates
    /// over epochs and never over delegators.
    5 UNBONDING_POOLS "unbonding_pools": (Address, u64) => StakePool;
    /// Shares of unbonding pools by delegator, release epoch and validator.
    6 UNBONDING "unbonding": (Address, u64, Address) => Shares;
    /// Models by id.
    7 MODELS "models": ModelId => Model;
    /// Hosted models by model and worker.
    8 OFFERS "offers": (ModelId, Address) => Offer;
    /// Channels by id.
    9 CHANNELS "channels": ChannelId => Channel;
    /// Claimed amounts by channel and lane.
    10 LANES "lanes": (ChannelId, u32) => Amount;
    /// Batches by id.
    11 BATCHES "batches": BatchId => Batch;
    /// Batches by worker and sequence, those that are forgotten too: a sequence was taken once and for all.
    12 WORKER_BATCHES "worker_batches": (Address, u64) => BatchId;
    /// The next batch's sequence by worker.
    13 WORKER_SEQUENCES "worker_sequences": Address => u64;
    /// Batches to draw audits of, or to settle, by height. The value is always true.
    14 DUE_BATCHES "due_batches": (u64, BatchId) => bool;
    /// Audits by batch and receipt.
    15 AUDITS "audits": (BatchId, u32) => Audit;
    /// Auditors' tasks by batch, receipt and auditor.
    16 AUDIT_TASKS "audit_tasks": (BatchId, u32, Address) => AuditTask;
    /// Audits by the height after their reveal deadline. The value is always true.
    17 DEADLINES "deadlines": (u64, BatchId, u32) => bool;
    /// Pools of DN that belong to no account.
    18 POOLS "pools": Pool => Amount;
    /// Workers' trust.
    19 WORKER_TRUST "worker_trust": Address => WorkerTrust;
    /// What happened to workers in this epoch.
    20 WORKER_EPOCHS "worker_epochs": Address => WorkerEpoch;
    /// Validators' trust.
    21 VALIDATOR_TRUST "validator_trust": Address => ValidatorTrust;
    /// What happened to validators in this epoch.
    22 VALIDATOR_EPOCHS "validator_epochs": Address => ValidatorEpoch;
    /// Work that counts for an epoch's emission by epoch, domain, worker and model owner.
    23 EPOCH_WORK "epoch_work": (u64, u32, (Address, Address)) => EpochWork;
    /// The parameters in force, under key 0.
    24 PARAMS "params": u32 => Params;
    /// Who decides blocks: [`NEXT_SET`](crate::validators::NEXT_SET) and [`TIP_SET`](crate::validators::TIP_SET).
    25 VALIDATOR_SETS "validator_sets": u32 => ValidatorSet;
    /// What turns are drawn from, for the block after the tip and for the tip: [`NEXT_SET`](crate::validators::NEXT_SET) and
    /// [`TIP_SET`](crate::validators::TIP_SET). The beacon of the last block that the set before decided; nothing for the genesis' set.
    26 TURN_SEEDS "turn_seeds": u32 => Hash32;
    /// Who is in a role, suspended or not, and has not left. The value is always true.
    27 IN_ROLE "in_role": (Role, Address) => bool;
    /// How many they are.
    28 ROLE_COUNTS "role_counts": Role => u32;
    /// Who was elected at the last epoch's end and does not decide yet, under key 0.
    29 ELECTIONS "elections": u32 => Election;
    /// What validators are drawn by for audits and committees: voting power of an election, by validator.
    44 DRAW_WEIGHTS "draw_weights": Address => DrawWeight;
    /// Batches of which nothing is to come any more, by the height at which they ended. The value is always true.
    45 ENDED_BATCHES "ended_batches": (u64, BatchId) => bool;
    /// Audits that the batches of the newest block with any may bring, under key 0.
    46 AUDIT_LOAD "audit_load": u32 => AuditLoad;
    /// The rules that the chain started with, under key 0: [`RULES`](crate::upgrades::RULES).
    33 BASE_RULES "base_rules": u32 => u32;
    /// Domains by id.
    50 DOMAINS "domains": u32 => Domain;
    /// Open domains by the Keccak-256 of their name.
    51 DOMAIN_NAMES "domain_names": Hash32 => u32;
    /// How many domains there are, under key 0.
    52 DOMAIN_COUNT "domain_count": u32 => DomainCount;
    /// What models were published under.
    53 MODEL_TERMS "model_terms": ModelId => ModelTerms;
    /// Model families, by their first model.
    54 FAMILIES "families": ModelId => Family;
    /// Models by family and version.
    55 FAMILY_VERSIONS "family_versions": (ModelId, u32) => ModelId;
    /// Backers' pools by family.
    56 BACKING_POOLS "backing_pools": ModelId => StakePool;
    /// Shares by backer and family.
    57 BACKING_SHARES "backing_shares": (Address, ModelId) => Shares;
    /// Backing that was taken back, by backer, release epoch and family.
    58 BACKING_RELEASES "backing_releases": (Address, u64, ModelId) => Amount;
    /// Job escrows by id.
    59 JOBS "jobs": ChannelId => JobEscrow;
    /// Job escrows by the last height at which they can be claimed. The value is always true.
    60 DUE_JOBS "due_jobs": (u64, ChannelId) => bool;
    /// The jobs that batches claim, until their audits are drawn.
    61 JOB_CLAIMS "job_claims": BatchId => JobClaim;
    /// Commitments to models that are not published yet, by owner and commitment.
    62 MODEL_COMMITMENTS "model_commitments": (Address, Hash32) => ModelCommitment;
    /// Such commitments by the last height at which they can be used. The value is always true.
    63 DUE_COMMITMENTS "due_commitments": (u64, Address, Hash32) => bool;
    /// Commissions by validator.
    30 COMMISSIONS "commissions": Address => Commission;
    /// Redelegated stake by the pool that it left, release epoch and the pool that it is in: all lots that moved in the same
    /// epoch. Its "tokens" are shares of the new pool, which hold DN there; a slash of the old validator takes from them.
    31 REDELEGATION_POOLS "redelegation_pools": (Address, u64, Address) => StakePool;
    /// Shares of redelegation pools by delegator, release epoch, old and new validator.
    32 REDELEGATIONS "redelegations": (Address, u64, (Address, Address)) => Shares;
    /// Sessions by owner and session key.
    34 SESSIONS "sessions": (Address, Address) => Session;
    /// Proposals by number.
    35 PROPOSALS "proposals": u64 => Proposal;
    /// Proposals that something is still to come of, with their status.
    36 OPEN_PROPOSALS "open_proposals": u64 => ProposalStatus;
    /// The next proposal's number, under key 0.
    37 NEXT_PROPOSAL "next_proposal": u32 => u64;
    /// Deposits by proposal and depositor.
    38 DEPOSITS "deposits": (u64, Address) => Amount;
    /// How pools vote, by proposal and validator.
    39 POOL_VOTES "pool_votes": (u64, Address) => PoolVote;
    /// Delegators' own votes by proposal, delegator and pool.
    40 OVERRIDES "overrides": (u64, Address, Address) => Choice;
    /// Proposals whose delegators' votes are counted and not removed yet. The value is always true.
    41 SPENT_VOTES "spent_votes": u64 => bool;
    /// Proposals of which nothing is to come any more, by the height at which they ended. The value is always true.
    43 ENDED_PROPOSALS "ended_proposals": (u64, u64) => bool;
    /// Upgrades by their first height.
    42 UPGRADES "upgrades": u64 => Upgrade;
    /// Disputes by batch and receipt.
    80 DISPUTES "disputes": (BatchId, u32) => Dispute;
    /// Moves of open disputes by batch, receipt and step.
    81 DISPUTE_MOVES "dispute_moves": (BatchId, u32, u32) => Played;
    /// Open disputes by the height after their deadline. The value is always true.
    82 DISPUTE_DUE "dispute_due": (u64, BatchId, u32) => bool;
    /// Moves of disputes that the newest block with any has taken, under key 0.
    83 DISPUTE_LOAD "dispute_load": u32 => DisputeLoad;
    /// The randomness of the newest block, under key 0.
    84 BEACON "beacon": u32 => Hash32;
    /// Validators' turns in this epoch.
    85 TURNS "turns": Address => Turns;
    /// Owners whose models worked in an epoch, by domain. The value is always true.
    86 QUALITY_SUBJECTS "quality_subjects": (u32, Address) => bool;
    /// Open quality rounds by id.
    87 QUALITY_ROUNDS "quality_rounds": Hash32 => QualityRound;
    /// Open quality rounds by the height after their last deadline. The value is always true.
    88 QUALITY_DUE "quality_due": (u64, Hash32) => bool;
    /// What the last committee said, by domain and model owner.
    89 QUALITIES "qualities": (u32, Address) => SettledQuality;
    /// Feedback by batch and receipt.
    90 FEEDBACKS "feedbacks": (BatchId, u32) => FeedbackRecord;
    /// Feedback by worker, in the order in which it came.
    91 WORKER_FEEDBACK "worker_feedback": (Address, u64) => (BatchId, u32);
    /// Feedback on workers, added up.
    92 WORKER_REPUTATIONS "worker_reputations": Address => Reputation;
    /// Feedback on models, added up.
    93 MODEL_REPUTATIONS "model_reputations": ModelId => Reputation;
    /// What a payer's feedback on a model has counted in its last epoch.
    94 HEARD "heard": (ModelId, Address) => Heard;
    /// Trust in models that have worked.
    95 MODEL_TRUST "model_trust": ModelId => TrustedModel;
    /// What happened to models, by epoch, until that epoch of theirs is closed.
    96 MODEL_EPOCHS "model_epochs": (u64, ModelId) => ModelEpoch;
    /// In how many epochs a domain had paid work.
    97 BUSY_EPOCHS "busy_epochs": u32 => u64;
    /// What models are compared with, by ended epoch and domain, until all of them are closed.
    98 CLASS_EPOCHS "class_epochs": (u64, u32) => ClassEpoch;
}
