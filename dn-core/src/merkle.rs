//! Keccak-256 Merkle trees with inclusion proofs.
//!
//! A leaf hashes as `keccak(0x00 ‖ data)`, an inner node as `keccak(0x01 ‖ left ‖ right)`; a level of odd length
//! promotes its last node unchanged (as in RFC 6962), so no leaf is ever counted twice. The root commits to the
//! number of leaves: `keccak(0x02 ‖ count as u64 little-endian ‖ top)`. The root of no leaves has `top` = 32 zero bytes.

use crate::canonical_struct;
use crate::hash::{Hash32, keccak256};

/// Why an inclusion proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The index is not below the number of leaves.
    #[error("leaf {index} of {count} leaves does not exist")]
    Index {
        /// Index in the proof.
        index: u64,
        /// Leaves in the tree.
        count: u64,
    },
    /// The path has the wrong number of siblings for this index and count.
    #[error("path has {found} siblings; {expected} expected")]
    PathLength {
        /// Siblings that the shape of the tree needs.
        expected: usize,
        /// Siblings in the proof.
        found: usize,
    },
    /// The path leads to another root.
    #[error("proof leads to root {found}; {expected} expected")]
    Root {
        /// The committed root.
        expected: Hash32,
        /// The root that the path gives.
        found: Hash32,
    },
}

/// A Merkle tree that keeps all its levels, so that any leaf can be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    levels: Vec<Vec<[u8; 32]>>,
}

/// The way from one leaf to the root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InclusionProof {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// Number of leaves in the tree.
    pub count: u64,
    /// Siblings from the leaf upwards; a promoted node has none on its level.
    pub path: Vec<Hash32>,
}
canonical_struct!(InclusionProof { index: u64, count: u64, path: Vec<Hash32> });

/// The hash of a leaf's data.
pub fn leaf_hash(data: &[u8]) -> [u8; 32] {
    keccak256(&[&[0], data])
}

fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    keccak256(&[&[1], left, right])
}

/// The root of a tree of `count` leaves whose uppermost node is `top`.
pub fn root_hash(count: u64, top: &[u8; 32]) -> Hash32 {
    Hash32(keccak256(&[&[2], &count.to_le_bytes(), top]))
}

/// The node over neighbouring nodes of one level that start at a multiple of a power of two and either number that
/// power or end the level; `None` of none. Over a whole level it is the uppermost node.
pub fn fold(nodes: &[[u8; 32]]) -> Option<[u8; 32]> {
    let mut level = nodes.to_vec();
    while level.len() > 1 {
        level = level_above(&level);
    }
    level.pop()
}

fn level_above(level: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let above = |pair: &[[u8; 32]]| match pair {
        [left, right] => node_hash(left, right),
        single => single[0],
    };
    level.chunks(2).map(above).collect()
}

impl MerkleTree {
    /// A tree over the data of its leaves.
    pub fn new<D: AsRef<[u8]>>(leaves: impl IntoIterator<Item = D>) -> Self {
        Self::from_leaf_hashes(leaves.into_iter().map(|data| leaf_hash(data.as_ref())).collect())
    }

    /// A tree over hashes made by [`leaf_hash`].
    pub fn from_leaf_hashes(leaves: Vec<[u8; 32]>) -> Self {
        let mut levels = vec![leaves];
        while levels[levels.len() - 1].len() > 1 {
            let level = level_above(&levels[levels.len() - 1]);
            levels.push(level);
        }
        Self { levels }
    }

    /// Number of leaves.
    pub fn len(&self) -> u64 {
        self.levels[0].len() as u64
    }

    /// True for a tree of no leaves.
    pub fn is_empty(&self) -> bool {
        self.levels[0].is_empty()
    }

    /// The nodes of a level, from the leaves' hashes (level 0) up to the single node at the top.
    pub fn level(&self, level: usize) -> Option<&[[u8; 32]]> {
        self.levels.get(level).map(Vec::as_slice)
    }

    /// The root, which commits to the count too.
    pub fn root(&self) -> Hash32 {
        let top = self.levels[self.levels.len() - 1].first().copied().unwrap_or_default();
        root_hash(self.len(), &top)
    }

    /// The proof for one leaf, or `None` when there is no such leaf.
    pub fn prove(&self, index: u64) -> Option<InclusionProof> {
        if index >= self.len() {
            return None;
        }
        let mut path = Vec::new();
        let mut at = usize::try_from(index).ok()?;
        for level in &self.levels[..self.levels.len() - 1] {
            if let Some(sibling) = level.get(at ^ 1) {
                path.push(Hash32(*sibling));
            }
            at /= 2;
        }
        Some(InclusionProof { index, count: self.len(), path })
    }
}

impl InclusionProof {
    /// Checks that a leaf with this data stands at `self.index` in the tree with this root.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, root: Hash32, data: &[u8]) -> Result<(), ProofError> {
        if self.index >= self.count {
            return Err(ProofError::Index { index: self.index, count: self.count });
        }
        let (mut hash, mut used) = (leaf_hash(data), 0);
        let (mut at, mut width) = (self.index, self.count);
        while width > 1 {
            if at ^ 1 < width {
                if let Some(sibling) = self.path.get(used) {
                    hash =
                        if at % 2 == 0 { node_hash(&hash, &sibling.0) } else { node_hash(&sibling.0, &hash) };
                }
                used += 1;
            }
            (at, width) = (at / 2, width.div_ceil(2));
        }
        if used != self.path.len() {
            return Err(ProofError::PathLength { expected: used, found: self.path.len() });
        }
        let found = root_hash(self.count, &hash);
        if found == root { Ok(()) } else { Err(ProofError::Root { expected: root, found }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_leaf_is_proved_and_nothing_else(leaves in prop::collection::vec(any::<[u8; 3]>(), 1..40), pick: usize, flip: u8) {
            let tree = MerkleTree::new(&leaves);
            let index = pick % leaves.len();
            let proof = tree.prove(index as u64).expect("in range");
            prop_assert_eq!(proof.verify(tree.root(), &leaves[index]), Ok(()));
            let mut wrong = leaves[index];
            wrong[usize::from(flip % 3)] ^= 1 << (flip % 8);
            prop_assert!(proof.verify(tree.root(), &wrong).is_err());
            for count in [proof.count - 1, proof.count + 1] {
                let other = InclusionProof { count, ..proof.clone() };
                prop_assert!(other.verify(tree.root(), &leaves[index]).is_err());
            }
            let mut longer = proof.clone();
            longer.path.push(Hash32::ZERO);
            for index in (0..proof.count).filter(|index| *index != proof.index) {
                let moved = InclusionProof { index, ..proof.clone() };
                prop_assert!(moved.verify(tree.root(), &leaves[proof.index as usize]).is_err());
            }
            for at in 0..proof.path.len() {
                let mut damaged = proof.clone();
                damaged.path[at].0[usize::from(flip) % 32] ^= 1;
                prop_assert!(damaged.verify(tree.root(), &leaves[index]).is_err());
            }
            let is_path_error = matches!(
                longer.verify(tree.root(), &leaves[index]),
                Err(ProofError::PathLength { .. })
            );
            prop_assert!(is_path_error);
        }
    }

    #[test]
    fn what_is_not_there_is_not_proved() {
        let tree = MerkleTree::new([b"a", b"b", b"c"]);
        assert_eq!(tree.prove(3), None);
        assert_eq!(tree.prove(u64::MAX), None);
        assert_eq!(MerkleTree::from_leaf_hashes(Vec::new()).prove(0), None);
        let (index, count) = (7, 7);
        let beyond = InclusionProof { index, count, path: Vec::new() };
        assert_eq!(beyond.verify(tree.root(), b"a"), Err(ProofError::Index { index, count }));
        let absurd = InclusionProof { index: 0, count: u64::MAX, path: Vec::new() };
        let error = Err(ProofError::PathLength { expected: 64, found: 0 });
        assert_eq!(absurd.verify(tree.root(), b"a"), error);
    }

    #[test]
    fn a_node_is_the_fold_of_what_it_covers() {
        for count in 1..40u8 {
            let tree = MerkleTree::new((0..count).map(|n| [n]));
            let leaves = tree.level(0).expect("there are leaves");
            assert_eq!(root_hash(count.into(), &fold(leaves).expect("not empty")), tree.root());
            for (level, nodes) in (0..).map_while(|level| tree.level(level).map(|nodes| (level, nodes))) {
                for (node, covered) in nodes.iter().zip(leaves.chunks(1 << level)) {
                    assert_eq!(fold(covered), Some(*node), "level {level} of {count} leaves");
                }
            }
        }
        assert_eq!(fold(&[]), None);
    }

    #[test]
    fn a_leaf_is_not_a_node() {
        let tree = MerkleTree::new([b"a", b"b"]);
        let inner = [[1u8].as_slice(), &leaf_hash(b"a"), &leaf_hash(b"b")].concat();
        assert_ne!(MerkleTree::new([&inner]).root(), tree.root());
        assert_ne!(MerkleTree::new([&inner[1..]]).root(), tree.root());
    }
}
