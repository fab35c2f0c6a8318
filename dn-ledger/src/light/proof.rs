//! Answers with their proofs, and what is left of them when the proofs hold.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::merkle::InclusionProof;
use dn_core::{Amount, BatchId, ChannelId, Hash32};
use serde::{Deserialize, Serialize};

use super::block::LightBlock;
use super::client::LightError;
use super::subject::{Subject, needed};
use crate::block::Header;
use crate::query::MAX_LIST;
use crate::state::{
    BATCHES, CHANNELS, CorruptState, LANES, PARAMS, State, StateProof, Tree, check_entry, table_name,
};

/// The most keys that one answer proves.
pub const MAX_PROVEN_KEYS: usize = 4 * MAX_LIST;

/// An entry, or its absence, with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProvenEntry {
    /// The key, hexadecimal.
    #[serde(with = "hex_bytes")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::bytes::Bytes"))]
    pub key: Vec<u8>,
    /// The value, hexadecimal; none when there is no such entry.
    #[serde(with = "hex_bytes_option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::bytes::Bytes>"))]
    pub value: Option<Vec<u8>>,
    /// Why.
    pub proof: StateProof,
}

/// `dn_prove`: entries with their proofs, and the block whose state holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
        let mut keys = BTreeSet::new();
        for key in subject.required().into_iter().chain(subject.listed(state)) {
            let needed = state.get(&key).map(|value| needed(&key, value)).unwrap_or_default();
            let new: BTreeSet<_> =
                needed.into_iter().chain([key]).filter(|key| !keys.contains(key)).collect();
            // A record goes with all that it needs, or not at all.
            if keys.len() + new.len() > MAX_PROVEN_KEYS {
                break;
            }
            keys.extend(new);
        }
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
        let (mut entries, mut absent) = (BTreeMap::new(), BTreeSet::new());
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
                None => {
                    absent.insert(&entry.key);
                }
            }
        }
        let missing = |key: &[u8]| Err(SubjectError::Missing { table: table_name(key[0]) });
        let is_proven = |key: &Vec<u8>| entries.contains_key(key) || absent.contains(&key);
        let also = entries.iter().flat_map(|(key, value)| needed(key, value));
        if let Some(key) = subject.required().into_iter().chain(also).find(|key| !is_proven(key)) {
            return missing(&key);
        }
        // There is no chain without parameters, and nothing can be valued without them.
        if absent.contains(&&PARAMS.key(&0)) {
            return missing(&PARAMS.key(&0));
        }
        let proven = Self { height, state: State::from_proven(entries) };
        if let Subject::Channel { id } = subject {
            proven.check_lanes(*id)?;
        }
        Ok(proven)
    }

    /// The epoch of the next block; 0 where the parameters were not asked for.
    pub fn epoch(&self) -> u64 {
        let params = PARAMS.get(&self.state, &0);
        params.and_then(|params| self.height.saturating_add(1).checked_div(params.epoch_blocks)).unwrap_or(0)
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

/// Bytes in JSON. Their number is bounded by that of the answer.
mod hex_bytes {
    use dn_core::hexadecimal::{from_hex, to_hex};
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ptr_arg, reason = "serde gives what the field is")]
    pub(super) fn serialize<S: Serializer>(bytes: &Vec<u8>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&to_hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = from_hex(&text, text.len());
        bytes.ok_or_else(|| serde::de::Error::custom("0x and hexadecimal digits expected"))
    }
}

mod hex_bytes_option {
    use dn_core::hexadecimal::{from_hex, to_hex};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => s.serialize_some(&to_hex(bytes)),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
        let bytes = from_hex(&text, text.len());
        bytes.map(Some).ok_or_else(|| serde::de::Error::custom("0x and hexadecimal digits expected"))
    }
}
