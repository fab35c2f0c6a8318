//! What can be asked about, and what is left of an answer when its proofs hold.

use std::collections::BTreeMap;

use dn_core::merkle::InclusionProof;
use dn_core::{Address, Amount, BatchId, ChannelId, Hash32, ModelId};
use serde::{Deserialize, Serialize};

use super::block::LightBlock;
use super::client::LightError;
use crate::block::Header;
use crate::query::MAX_LIST;
use crate::state::{
    ACCOUNTS, AUDIT_TASKS, AUDITS, BATCHES, CHANNELS, COMMISSIONS, CorruptState, IDENTITIES, LANES, MODELS,
    OFFERS, PARAMS, STAKE_POOLS, STAKE_SHARES, State, StateProof, Tree, UNBONDING, UNBONDING_POOLS,
    VALIDATOR_TRUST, WORKER_BATCHES, WORKER_SEQUENCES, WORKER_TRUST, check_entry, table_name,
};
use crate::tx::Role;

/// The most keys that one answer proves.
pub const MAX_PROVEN_KEYS: usize = 4 * MAX_LIST;

/// Something that a node can be asked about with a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
            Self::Batch { id } => vec![BATCHES.key(id)],
            Self::BatchSequence { worker } => vec![WORKER_SEQUENCES.key(worker)],
            Self::BatchAt { worker, sequence } => vec![WORKER_BATCHES.key(&(*worker, *sequence))],
            Self::Params {} => vec![PARAMS.key(&0)],
        }
    }

    /// Keys of the lists that belong to it, as a node's state has them.
    fn listed(&self, state: &State) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        match self {
            Self::Account { address } => {
                for (key, _) in STAKE_SHARES.iter_from(state, address).take(MAX_LIST) {
                    keys.extend([STAKE_SHARES.key(&key), STAKE_POOLS.key(&key.1)]);
                }
                for (key, _) in UNBONDING.iter_from(state, address).take(MAX_LIST) {
                    keys.extend([UNBONDING.key(&key), UNBONDING_POOLS.key(&(key.2, key.1))]);
                }
            }
            Self::Channel { id } => keys.extend(LANES.iter_from(state, id).map(|(key, _)| LANES.key(&key))),
            Self::Model { id } => {
                for (key, _) in OFFERS.iter_from(state, id).take(MAX_LIST) {
                    keys.extend([OFFERS.key(&key), IDENTITIES.key(&(Role::Worker, key.1))]);
                }
            }
            Self::Batch { id } => {
                for (key, _) in AUDIT_TASKS.iter_from(state, id).take(MAX_LIST) {
                    keys.extend([AUDIT_TASKS.key(&key), AUDITS.key(&(key.0, key.1))]);
                }
            }
            Self::Identity { .. } | Self::BatchSequence { .. } | Self::BatchAt { .. } | Self::Params {} => {}
        }
        keys
    }
}

/// An entry, or its absence, with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenEntry {
    /// The key, hexadecimal.
    #[serde(with = "hexadecimal")]
    pub key: Vec<u8>,
    /// The value, hexadecimal; none when there is no such entry.
    #[serde(with = "hexadecimal_option")]
    pub value: Option<Vec<u8>>,
    /// Why.
    pub proof: StateProof,
}

/// `dn_prove`: entries with their proofs, and the block whose state holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofView {
    /// The block.
    pub block: LightBlock,
    /// The entries.
    pub entries: Vec<ProvenEntry>,
}

/// Why an answer is not one to what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// A header or a proof.
    #[error(transparent)]
    Light(#[from] LightError),
    /// The answer is about another block than the one that was checked.
    #[error("the proofs are for header {found}; {expected} was verified")]
    Header {
        /// The verified state root's height.
        expected: u64,
        /// The answer's.
        found: u64,
    },
    /// A record that must be proven is missing.
    #[error("the answer says nothing about table {table}")]
    Missing {
        /// The record's table.
        table: &'static str,
    },
    /// A record that no table can read, though it is proven.
    #[error(transparent)]
    Corrupt(#[from] CorruptState),
    /// A channel's lanes do not add up to what was claimed.
    #[error("the lanes of channel {channel} add up to {found}; {expected} was claimed")]
    Lanes {
        /// The channel.
        channel: ChannelId,
        /// What the channel's record says.
        expected: Amount,
        /// What the lanes say.
        found: Amount,
    },
    /// A receipt that the batch does not hold.
    #[error("receipt {index} is not in batch {batch}")]
    Receipt {
        /// The batch.
        batch: BatchId,
        /// The claimed place.
        index: u64,
    },
}

impl ProofView {
    /// What a node answers: the subject's records under the state's sealed tree, which is that of the block.
    pub fn answer(subject: &Subject, state: &State, block: LightBlock) -> Self {
        let mut keys = subject.required();
        keys.extend(subject.listed(state));
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(MAX_PROVEN_KEYS);
        Self { block, entries: keys.into_iter().map(|key| prove(state.sealed(), state, key)).collect() }
    }
}

fn prove(tree: &Tree, state: &State, key: Vec<u8>) -> ProvenEntry {
    let (value, proof) = (state.get(&key).map(<[u8]>::to_vec), tree.prove(&key));
    ProvenEntry { key, value, proof }
}

/// The part of a state that was proven. Queries over it see nothing that the node made up.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Height of the block.
    pub height: u64,
    state: State,
}

impl Proven {
    /// Checks an answer against a verified header.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn open(header: &Header, subject: &Subject, answer: &ProofView) -> Result<Self, SubjectError> {
        let height = header.height;
        if answer.block.header != *header {
            return Err(SubjectError::Header { expected: height, found: answer.block.header.height });
        }
        let (mut entries, mut absent) = (BTreeMap::new(), Vec::new());
        for entry in &answer.entries {
            let table = entry.key.first().map_or("unknown", |prefix| table_name(*prefix));
            entry
                .proof
                .verify(header.state, &entry.key, entry.value.as_deref())
                .map_err(|source| LightError::Proof { table, height, source })?;
            match &entry.value {
                Some(value) => {
                    check_entry(&entry.key, value)?;
                    entries.insert(entry.key.clone(), value.clone());
                }
                None => absent.push(&entry.key),
            }
        }
        for key in subject.required() {
            if !entries.contains_key(&key) && !absent.contains(&&key) {
                return Err(SubjectError::Missing { table: table_name(key[0]) });
            }
        }
        if let Some((key, _)) = entries.keys().find_map(|key| owner_of(key, &entries)) {
            return Err(SubjectError::Missing { table: table_name(key[0]) });
        }
        let proven = Self { height, state: State::from_proven(entries) };
        if let Subject::Channel { id } = subject {
            proven.check_lanes(*id)?;
        }
        Ok(proven)
    }

    /// The proven records.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// A channel's lanes are all there when they add up to what was claimed.
    fn check_lanes(&self, channel: ChannelId) -> Result<(), SubjectError> {
        let Some(record) = CHANNELS.get(&self.state, &channel) else { return Ok(()) };
        let lanes = LANES.iter_from(&self.state, &channel).map(|(_, claimed)| claimed);
        let found = Amount::sum(lanes).unwrap_or(Amount::from_atto(u128::MAX));
        let expected = record.claimed;
        if found == expected { Ok(()) } else { Err(SubjectError::Lanes { channel, expected, found }) }
    }
}

/// A record that another one needs to be valued, and that was left out: the pool of a share.
fn owner_of<'a>(key: &'a [u8], entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<(Vec<u8>, &'a [u8])> {
    let needed = match key.first() {
        Some(p) if *p == STAKE_SHARES.prefix() => {
            let (_, validator) = STAKE_SHARES.read_key(key)?;
            STAKE_POOLS.key(&validator)
        }
        Some(p) if *p == UNBONDING.prefix() => {
            let (_, release, validator) = UNBONDING.read_key(key)?;
            UNBONDING_POOLS.key(&(validator, release))
        }
        _ => return None,
    };
    (!entries.contains_key(&needed)).then_some((needed, key))
}

/// Checks that a batch, proven in a state, holds a receipt.
///
/// # Errors
/// [`SubjectError`].
pub fn verify_receipt(
    proven: &Proven,
    batch: BatchId,
    receipt: &[u8],
    proof: &InclusionProof,
) -> Result<(), SubjectError> {
    let index = proof.index;
    let missing = SubjectError::Receipt { batch, index };
    let record = BATCHES.get(&proven.state, &batch).ok_or_else(|| missing.clone())?;
    let root: Hash32 = record.body.root;
    if proof.count != u64::from(record.body.count) || proof.verify(root, receipt).is_err() {
        return Err(missing);
    }
    Ok(())
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ptr_arg, reason = "serde gives what the field is")]
    pub(super) fn serialize<S: Serializer>(bytes: &Vec<u8>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&crate::text::to_hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        crate::text::from_hex(&text)
            .ok_or_else(|| serde::de::Error::custom("0x and hexadecimal digits expected"))
    }
}

mod hexadecimal_option {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => s.serialize_some(&crate::text::to_hex(bytes)),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
        let bytes = crate::text::from_hex(&text);
        bytes.map(Some).ok_or_else(|| serde::de::Error::custom("0x and hexadecimal digits expected"))
    }
}
