//! What can be asked about with a proof, and which records belong to it.

use dn_core::{Address, BatchId, ChannelId, Hash32, ModelId};
use serde::{Deserialize, Serialize};

use crate::query::MAX_LIST;
use crate::state::Key;
use crate::state::{
    ACCOUNTS, AUDIT_TASKS, AUDITS, BACKING_POOLS, BACKING_RELEASES, BACKING_SHARES, BATCHES, CHANNELS,
    COMMISSIONS, DOMAINS, FAMILIES, FAMILY_VERSIONS, IDENTITIES, JOBS, LANES, MODEL_COMMITMENTS,
    MODEL_REPUTATIONS, MODEL_TERMS, MODEL_TRUST, MODELS, OFFERS, PARAMS, POOLS, PROPOSALS, Pool,
    REDELEGATION_POOLS, REDELEGATIONS, SESSIONS, STAKE_POOLS, STAKE_SHARES, State, Table, UNBONDING,
    UNBONDING_POOLS, VALIDATOR_TRUST, WORKER_BATCHES, WORKER_SEQUENCES, WORKER_TRUST,
};
use crate::tx::Role;

/// Something that a node can be asked about with a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// An account with its stakes.
    Account {
        /// The account.
        address: Address,
    },
    /// An identity with its stake and trust.
    Identity {
        /// The identity.
        address: Address,
        /// Its role.
        role: Role,
    },
    /// A channel with its lanes.
    Channel {
        /// The channel.
        id: ChannelId,
    },
    /// A model with the workers that host it.
    Model {
        /// The model.
        id: ModelId,
    },
    /// A worker's offer of a model.
    Offer {
        /// The model.
        model: ModelId,
        /// The worker.
        worker: Address,
    },
    /// A batch.
    Batch {
        /// The batch.
        id: BatchId,
    },
    /// The sequence of a worker's next batch.
    BatchSequence {
        /// The worker.
        worker: Address,
    },
    /// The batch that took a sequence of a worker.
    BatchAt {
        /// The worker.
        worker: Address,
        /// The sequence.
        sequence: u64,
    },
    /// The chain's parameters.
    Params {},
    /// A domain with its treasury.
    Domain {
        /// The domain.
        id: u32,
    },
    /// What a model was published under.
    ModelTerms {
        /// The model.
        id: ModelId,
    },
    /// An owner's commitment to a model that it will publish.
    ModelCommitment {
        /// The owner.
        owner: Address,
        /// The commitment.
        commitment: Hash32,
    },
    /// An owner's commitments to models that are not published yet.
    ModelCommitments {
        /// The owner.
        owner: Address,
    },
    /// A model family with its versions and its backers' pool.
    Family {
        /// The family: its first model.
        id: ModelId,
    },
    /// What an account put behind models.
    Backing {
        /// The account.
        address: Address,
    },
    /// How far a model is trusted.
    ModelTrust {
        /// The model.
        id: ModelId,
    },
    /// A job that is neither claimed nor returned.
    Job {
        /// The escrow.
        id: ChannelId,
    },
    /// What one key may spend.
    Session {
        /// Whose channels are spent from.
        owner: Address,
        /// The key.
        session: Address,
    },
    /// What all keys of an owner may spend.
    Sessions {
        /// Whose channels are spent from.
        owner: Address,
    },
    /// A proposal; votes that are still counted are not part of it.
    Proposal {
        /// Its number.
        id: u64,
    },
}

impl Subject {
    /// Keys that an answer must prove, as entries or as absent.
    pub fn required(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Account { address } => vec![ACCOUNTS.key(address)],
            Self::Identity { address, role } => {
                let mut keys = vec![IDENTITIES.key(&(*role, *address)), PARAMS.key(&0)];
                match role {
                    Role::Validator => {
                        let own = STAKE_SHARES.key(&(*address, *address));
                        keys.extend([STAKE_POOLS.key(address), own, COMMISSIONS.key(address)]);
                        keys.push(VALIDATOR_TRUST.key(address));
                    }
                    Role::Worker => keys.push(WORKER_TRUST.key(address)),
                    _ => {}
                }
                keys
            }
            Self::Channel { id } => vec![CHANNELS.key(id)],
            Self::Model { id } => vec![MODELS.key(id)],
            Self::Offer { model, worker } => vec![OFFERS.key(&(*model, *worker))],
            Self::Batch { id } => vec![BATCHES.key(id)],
            Self::BatchSequence { worker } => vec![WORKER_SEQUENCES.key(worker)],
            Self::BatchAt { worker, sequence } => vec![WORKER_BATCHES.key(&(*worker, *sequence))],
            Self::Params {} => vec![PARAMS.key(&0)],
            Self::Domain { id } => {
                vec![DOMAINS.key(id), POOLS.key(&Pool::Domain { domain: *id }), PARAMS.key(&0)]
            }
            Self::ModelTerms { id } => vec![MODEL_TERMS.key(id)],
            Self::ModelCommitment { owner, commitment } => {
                vec![MODEL_COMMITMENTS.key(&(*owner, *commitment))]
            }
            Self::Family { id } => vec![FAMILIES.key(id), BACKING_POOLS.key(id)],
            Self::ModelTrust { id } => vec![MODEL_TRUST.key(id), MODEL_REPUTATIONS.key(id), PARAMS.key(&0)],
            Self::Job { id } => vec![JOBS.key(id)],
            Self::Session { owner, session } => vec![SESSIONS.key(&(*owner, *session))],
            Self::Proposal { id } => vec![PROPOSALS.key(id)],
            Self::Backing { .. } | Self::Sessions { .. } | Self::ModelCommitments { .. } => Vec::new(),
        }
    }

    /// Keys of the lists that belong to it, as a node's state has them.
    pub(super) fn listed(&self, state: &State) -> Vec<Vec<u8>> {
        match self {
            Self::Account { address } => {
                let mut keys = list(state, &STAKE_SHARES, address);
                keys.extend(list(state, &UNBONDING, address));
                keys.extend(list(state, &REDELEGATIONS, address));
                keys
            }
            // All of them: their sum is checked, and the parameters bound their number.
            Self::Channel { id } => LANES.iter_from(state, id).map(|(key, _)| LANES.key(&key)).collect(),
            Self::Model { id } => list(state, &OFFERS, id),
            Self::Batch { id } => list(state, &AUDIT_TASKS, id),
            Self::Backing { address } => {
                let mut keys = list(state, &BACKING_SHARES, address);
                keys.extend(list(state, &BACKING_RELEASES, address));
                keys
            }
            Self::Sessions { owner } => list(state, &SESSIONS, owner),
            Self::ModelCommitments { owner } => list(state, &MODEL_COMMITMENTS, owner),
            _ => Vec::new(),
        }
    }
}

fn list<K: Key, V: dn_core::Canonical, P: Key>(state: &State, table: &Table<K, V>, of: &P) -> Vec<Vec<u8>> {
    table.iter_from(state, of).take(MAX_LIST).map(|(key, _)| table.key(&key)).collect()
}

/// Keys of the records without which a record says nothing, or not everything: an answer must prove them along with it, as entries or
/// as absent.
pub(super) fn needed(key: &[u8], value: &[u8]) -> Vec<Vec<u8>> {
    read_needed(key, value).unwrap_or_default()
}

fn read_needed(key: &[u8], value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let prefix = key.first().copied()?;
    Some(if prefix == STAKE_SHARES.prefix() {
        vec![STAKE_POOLS.key(&STAKE_SHARES.read_key(key)?.1)]
    } else if prefix == UNBONDING.prefix() {
        let (_, release, validator) = UNBONDING.read_key(key)?;
        vec![UNBONDING_POOLS.key(&(validator, release))]
    } else if prefix == REDELEGATIONS.prefix() {
        let (_, release, (from, to)) = REDELEGATIONS.read_key(key)?;
        vec![REDELEGATION_POOLS.key(&(from, release, to)), STAKE_POOLS.key(&to)]
    } else if prefix == BACKING_SHARES.prefix() {
        vec![BACKING_POOLS.key(&BACKING_SHARES.read_key(key)?.1)]
    } else if prefix == OFFERS.prefix() {
        vec![IDENTITIES.key(&(Role::Worker, OFFERS.read_key(key)?.1))]
    } else if prefix == AUDIT_TASKS.prefix() {
        let (batch, index, _) = AUDIT_TASKS.read_key(key)?;
        vec![AUDITS.key(&(batch, index))]
    } else if prefix == WORKER_BATCHES.prefix() {
        vec![BATCHES.key(&WORKER_BATCHES.read(value)?)]
    } else if prefix == FAMILIES.prefix() {
        let (family, record) = (FAMILIES.read_key(key)?, FAMILIES.read(value)?);
        let versions = (0..record.versions).take(MAX_LIST);
        versions.map(|version| FAMILY_VERSIONS.key(&(family, version))).collect()
    } else {
        Vec::new()
    })
}
