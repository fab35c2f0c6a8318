//! Proofs of single entries of a state, and of their absence, against the root that a header carries.
//!
//! Hashes are those of the Jellyfish Merkle tree (crate `jmt`) over Keccak-256: a leaf is `H("JMT::LeafNode" ‖ H(key) ‖ H(value))`, a
//! branch `H("JMT::IntrnalNode" ‖ left ‖ right)`, nothing the text `SPARSE_MERKLE_PLACEHOLDER_HASH__`.

use dn_core::{Hash32, canonical_enum, canonical_struct, keccak256};
use serde::{Deserialize, Serialize};

/// What stands where there is no entry.
pub(crate) const PLACEHOLDER: Hash32 = Hash32(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");

const MAX_DEPTH: usize = 256;

/// The hash of a leaf.
pub(crate) fn leaf_hash(key: Hash32, value: Hash32) -> Hash32 {
    Hash32(keccak256(&[b"JMT::LeafNode", &key.0, &value.0]))
}

/// The hash of a branch.
pub fn branch_hash(left: Hash32, right: Hash32) -> Hash32 {
    Hash32(keccak256(&[b"JMT::IntrnalNode", &left.0, &right.0]))
}

/// A bit of a key's hash, the highest first: which way its path goes at a depth below 256.
pub fn bit(key: &Hash32, depth: usize) -> bool {
    key.0[depth / 8] >> (7 - depth % 8) & 1 == 1
}

/// What a proof's path ends at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum ProofEnd {
    /// The entry of the key that is asked for.
    Entry {},
    /// Nothing: no key begins with these bits.
    Empty {},
    /// The only entry whose key's hash begins with these bits, which is another one.
    Other {
        /// Hash of its key.
        key: Hash32,
        /// Hash of its value.
        value: Hash32,
    },
}
canonical_enum!(ProofEnd {
    0 => Entry {},
    1 => Empty {},
    2 => Other { key: Hash32, value: Hash32 },
});

/// A proof that a state holds an entry, or that it holds none under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateProof {
    /// Where the path of the key's hash ends.
    pub end: ProofEnd,
    /// Roots of the subtrees beside the path, from the root down.
    pub siblings: Vec<Hash32>,
}
canonical_struct!(StateProof { end: ProofEnd, siblings: Vec<Hash32> });

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A path longer than a key's hash.
    #[error("a proof of {found} levels; at most {limit}")]
    Depth {
        /// The most.
        limit: usize,
        /// How many.
        found: usize,
    },
    /// A proof of an entry shown for its absence, or the other way round.
    #[error("the proof's path ends at {found:?}, which does not show what is claimed (entry: {claimed})")]
    End {
        /// Whether an entry was claimed.
        claimed: bool,
        /// What the path ends at.
        found: ProofEnd,
    },
    /// The other entry does not lie on the key's path, or is the key's own.
    #[error("the proof of absence ends at the entry {found}, which is not a neighbour of {key}")]
    Neighbour {
        /// Hash of the key.
        key: Hash32,
        /// Hash of the other key.
        found: Hash32,
    },
    /// The path leads to another root.
    #[error("the proof leads to state root {found}; the header's is {expected}")]
    Root {
        /// What the header says.
        expected: Hash32,
        /// Where the proof leads.
        found: Hash32,
    },
}

impl StateProof {
    /// Checks that the state with this root holds the value under the key, or, for `None`, nothing.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, root: Hash32, key: &[u8], value: Option<&[u8]>) -> Result<(), ProofError> {
        let depth = self.siblings.len();
        if depth > MAX_DEPTH {
            return Err(ProofError::Depth { limit: MAX_DEPTH, found: depth });
        }
        let key = Hash32(keccak256(&[key]));
        let mut hash = match (value, self.end) {
            (Some(value), ProofEnd::Entry {}) => leaf_hash(key, Hash32(keccak256(&[value]))),
            (None, ProofEnd::Empty {}) => PLACEHOLDER,
            (None, ProofEnd::Other { key: other, value }) => {
                if other == key || (0..depth).any(|at| bit(&other, at) != bit(&key, at)) {
                    return Err(ProofError::Neighbour { key, found: other });
                }
                leaf_hash(other, value)
            }
            (value, found) => return Err(ProofError::End { claimed: value.is_some(), found }),
        };
        for (at, sibling) in self.siblings.iter().enumerate().rev() {
            let goes_right = bit(&key, at);
            hash = if goes_right { branch_hash(*sibling, hash) } else { branch_hash(hash, *sibling) };
        }
        if hash == root { Ok(()) } else { Err(ProofError::Root { expected: root, found: hash }) }
    }
}
