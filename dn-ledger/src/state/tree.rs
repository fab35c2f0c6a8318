//! The authenticated tree over all entries of a state.
//!
//! A sparse Merkle tree over the hashes of the keys, two ways at each node, in which a subtree of one entry is that entry's leaf.
//! Nodes are hashed as the Jellyfish Merkle tree of the crate `jmt` hashes them, so that its roots and proofs are ours; the
//! nodes themselves are kept in memory and shared between versions: a version is a pointer, changing *n* entries makes about
//! *n*·log₂(entries) new nodes and leaves the old version as it was (docs/adr/0015-authenticated-state.md).

use std::ops::Range;
use std::sync::Arc;

use dn_core::{Hash32, keccak256};

use super::proof::{PLACEHOLDER, ProofEnd, StateProof, bit, branch_hash, leaf_hash};

/// What stands for an entry in the tree: the hash of its key and the hash of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafHash {
    /// Keccak-256 of the key: the leaf's place.
    pub key: Hash32,
    /// Keccak-256 of the value.
    pub value: Hash32,
}

impl LeafHash {
    /// The leaf of an entry.
    pub fn of(key: &[u8], value: &[u8]) -> Self {
        Self { key: Hash32(keccak256(&[key])), value: Hash32(keccak256(&[value])) }
    }

    fn hash(&self) -> Hash32 {
        leaf_hash(self.key, self.value)
    }
}

/// A changed key's hash with the hash of its new value; `None` removes it.
type Change = (Hash32, Option<Hash32>);

type Link = Option<Arc<Node>>;

/// Changes below a branch from which on its sides are hashed on two threads: some hundred microseconds of work.
#[cfg(feature = "node")]
const WORTH_A_THREAD: usize = 128;

#[derive(Debug)]
enum Node {
    Leaf(LeafHash),
    Branch { hash: Hash32, left: Link, right: Link },
}

/// A version of the tree. Clones share all nodes.
#[derive(Clone, Default)]
pub struct Tree(Link);

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for Tree {}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree({})", self.hash())
    }
}

impl Tree {
    /// The tree of these leaves, of which no two may have the same key.
    pub fn of_leaves(mut leaves: Vec<LeafHash>) -> Self {
        leaves.sort_unstable_by_key(|leaf| leaf.key);
        Self(build(&leaves, 0))
    }

    /// The root: what a header carries.
    pub fn hash(&self) -> Hash32 {
        hash_of(&self.0)
    }

    /// The next version: entries put (`Some` value) or removed (`None`). The last change of a key counts.
    pub fn update<'a>(&self, changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Self {
        let hashed = changes
            .into_iter()
            .map(|(key, value)| (Hash32(keccak256(&[key])), value.map(|value| Hash32(keccak256(&[value])))));
        let mut changes: Vec<Change> = hashed.collect();
        // Stable, and searched from the end: of several changes of one key the last one stays.
        changes.reverse();
        changes.sort_by_key(|(key, _)| *key);
        changes.dedup_by_key(|(key, _)| *key);
        Self(update(&self.0, 0, &changes))
    }

    /// Proves what the tree holds under a key: an entry, or none.
    pub fn prove(&self, key: &[u8]) -> StateProof {
        let key = Hash32(keccak256(&[key]));
        let (mut at, mut siblings) = (&self.0, Vec::new());
        let end = loop {
            match at.as_deref() {
                None => break ProofEnd::Empty {},
                Some(Node::Leaf(leaf)) if leaf.key == key => break ProofEnd::Entry {},
                Some(Node::Leaf(leaf)) => break ProofEnd::Other { key: leaf.key, value: leaf.value },
                Some(Node::Branch { left, right, .. }) => {
                    let goes_right = bit(&key, siblings.len());
                    let (next, sibling) = if goes_right { (right, left) } else { (left, right) };
                    siblings.push(hash_of(sibling));
                    at = next;
                }
            }
        };
        StateProof { end, siblings }
    }

    /// The subtrees, from left to right, into which the tree falls when every branch that is too large is taken apart. `keys` are the
    /// hashes of all keys, sorted; `too_large` sees the range of them that a branch holds.
    pub fn cut(&self, keys: &[Hash32], too_large: &dyn Fn(Range<usize>) -> bool) -> Vec<Cut> {
        let mut cuts = Vec::new();
        cut(&self.0, 0, keys, 0..keys.len(), too_large, &mut cuts);
        cuts
    }

    /// Nodes in memory that only this version holds or shares, for measurements.
    pub fn nodes(&self) -> usize {
        fn count(link: &Link) -> usize {
            match link.as_deref() {
                None => 0,
                Some(Node::Leaf(_)) => 1,
                Some(Node::Branch { left, right, .. }) => 1 + count(left) + count(right),
            }
        }
        count(&self.0)
    }
}

/// A subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Branches above it.
    pub depth: u16,
    /// Its root.
    pub hash: Hash32,
    /// Which of the sorted keys it holds.
    pub keys: Range<usize>,
}

/// The root of the subtree at a depth that holds these leaves, which must be sorted and share their first `depth` bits.
pub fn subtree_hash(leaves: &[LeafHash], depth: u16) -> Hash32 {
    hash_of(&build(leaves, usize::from(depth)))
}

fn cut(
    link: &Link,
    depth: usize,
    keys: &[Hash32],
    range: Range<usize>,
    too_large: &dyn Fn(Range<usize>) -> bool,
    cuts: &mut Vec<Cut>,
) {
    match link.as_deref() {
        Some(Node::Branch { left, right, .. }) if too_large(range.clone()) => {
            let middle = range.start + keys[range.clone()].partition_point(|key| !bit(key, depth));
            cut(left, depth + 1, keys, range.start..middle, too_large, cuts);
            cut(right, depth + 1, keys, middle..range.end, too_large, cuts);
        }
        _ => {
            let depth = u16::try_from(depth).expect("a key's hash has 256 bits");
            cuts.push(Cut { depth, hash: hash_of(link), keys: range });
        }
    }
}

fn hash_of(link: &Link) -> Hash32 {
    match link.as_deref() {
        None => PLACEHOLDER,
        Some(Node::Leaf(leaf)) => leaf.hash(),
        Some(Node::Branch { hash, .. }) => *hash,
    }
}

/// A branch, unless one side alone says it all.
fn join(left: Link, right: Link) -> Link {
    match (left.as_deref(), right.as_deref()) {
        (None, None) => None,
        (Some(Node::Leaf(_)), None) => left,
        (None, Some(Node::Leaf(_))) => right,
        _ => {
            let hash = branch_hash(hash_of(&left), hash_of(&right));
            Some(Arc::new(Node::Branch { hash, left, right }))
        }
    }
}

/// The subtree of sorted leaves below a depth that they share. Two different hashes differ in one of their 256 bits, so it ends.
fn build(leaves: &[LeafHash], depth: usize) -> Link {
    match leaves {
        [] => None,
        [leaf] => Some(Arc::new(Node::Leaf(*leaf))),
        _ => {
            let (l, r) = leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key, depth)));
            join(build(l, depth + 1), build(r, depth + 1))
        }
    }
}

fn update(link: &Link, depth: usize, changes: &[Change]) -> Link {
    if changes.is_empty() {
        return link.clone();
    }
    match link.as_deref() {
        Some(Node::Branch { left, right, .. }) => {
            let (l, r) = changes.split_at(changes.partition_point(|(key, _)| !bit(key, depth)));
            let (left, right) =
                both(changes.len(), || update(left, depth + 1, l), || update(right, depth + 1, r));
            join(left, right)
        }
        other => {
            let put = |(key, value): &Change| value.map(|value| LeafHash { key: *key, value });
            let mut leaves: Vec<_> = changes.iter().filter_map(put).collect();
            if let Some(Node::Leaf(old)) = other
                && let Err(_) = changes.binary_search_by_key(&old.key, |(key, _)| *key)
            {
                leaves.insert(leaves.partition_point(|leaf| leaf.key < old.key), *old);
            }
            build(&leaves, depth)
        }
    }
}

/// Both sides of a branch; on two threads, where there are any, if so many changes are worth it.
#[cfg_attr(not(feature = "node"), allow(unused_variables, reason = "only a node has threads"))]
fn both(
    changes: usize,
    left: impl FnOnce() -> Link + Send,
    right: impl FnOnce() -> Link + Send,
) -> (Link, Link) {
    #[cfg(feature = "node")]
    if changes >= WORTH_A_THREAD {
        return rayon::join(left, right);
    }
    (left(), right())
}

#[cfg(test)]
mod tests;
