//! Openings of hashed bytes: some pieces of 1 KiB and the BLAKE3 tree's nodes beside them.
//!
//! BLAKE3 hashes its input as a binary tree over chunks of 1 KiB; the left side of a node has the largest power of two of
//! chunks that leaves something for the right. A chunk's value binds its index, and the root's differs in kind from every
//! other node's; so what a slice shows stands at its offset in the bytes that were hashed, whatever length is claimed.

use std::ops::Range;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use dn_core::{Hash32, canonical_struct};

use super::meter;

/// Bytes of a chunk.
pub const CHUNK: usize = 1024;

/// Most groups of chunks that are listed at a time (few in tests, so that short rows have several).
pub const FANOUT: usize = if cfg!(test) { 4 } else { 1024 };

/// Neighbouring chunks of some hashed bytes, with the nodes that lead to the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Index of the first chunk.
    pub first: u32,
    /// The chunks' bytes; only the last chunk of all may be short.
    pub bytes: Vec<u8>,
    /// Nodes beside the way to the root, in the order of the bytes that they cover.
    pub siblings: Vec<Hash32>,
}
canonical_struct!(Slice { first: u32, bytes: Vec<u8>, siblings: Vec<Hash32> });

/// Why a slice is not what the hash binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// The bytes are not whole chunks of the hashed bytes.
    #[error("a slice of {found} bytes from chunk {first} does not cut {len} bytes at chunks")]
    Shape {
        /// First chunk.
        first: u32,
        /// Bytes of the slice.
        found: usize,
        /// Bytes that were hashed.
        len: usize,
    },
    /// Too few or too many nodes.
    #[error("a slice with {found} nodes beside its way; another number is needed")]
    Siblings {
        /// Nodes that came.
        found: usize,
    },
    /// It leads to another hash.
    #[error("the slice leads to {found}; {expected} expected")]
    Hash {
        /// The bound hash.
        expected: Hash32,
        /// What the slice gives.
        found: Hash32,
    },
}

impl Slice {
    /// Opens the chunks that a range of bytes touches.
    ///
    /// # Panics
    /// When the range is empty or leaves the data.
    pub fn cut(data: &[u8], range: Range<usize>) -> Self {
        assert!(range.start < range.end && range.end <= data.len(), "a slice shows some of the data");
        let (first, end) = (range.start / CHUNK, range.end.div_ceil(CHUNK));
        let bytes = data[first * CHUNK..data.len().min(end * CHUNK)].to_vec();
        let mut siblings = Vec::new();
        beside(data, 0, data.len().div_ceil(CHUNK), &(first..end), &mut siblings);
        Self { first: first as u32, bytes, siblings }
    }

    /// Checks that these are chunks of `len` bytes with this hash.
    ///
    /// # Errors
    /// [`SliceError`].
    pub fn verify(&self, expected: Hash32, len: usize) -> Result<(), SliceError> {
        let first = self.first as usize;
        let chunks = len.div_ceil(CHUNK);
        let shape = SliceError::Shape { first: self.first, found: self.bytes.len(), len };
        if self.bytes.is_empty() {
            return Err(shape);
        }
        let end = first.checked_add(self.bytes.len().div_ceil(CHUNK)).ok_or(shape)?;
        let fits = end <= chunks
            && end.checked_mul(CHUNK).is_some_and(|end| self.bytes.len() == len.min(end) - first * CHUNK);
        if !fits {
            return Err(shape);
        }
        // Each node that is met is hashed with its neighbour.
        meter::hashed(self.bytes.len() + 64 * (end - first + self.siblings.len()));
        let wrong = SliceError::Siblings { found: self.siblings.len() };
        let mut siblings = self.siblings.iter();
        let found = if chunks == 1 {
            Hash32(*blake3::hash(&self.bytes).as_bytes())
        } else {
            let half = left(chunks);
            let a = self.node(0, half, end, &mut siblings).ok_or(wrong)?;
            let b = self.node(half, chunks - half, end, &mut siblings).ok_or(wrong)?;
            Hash32(*merge_subtrees_root(&a, &b, Mode::Hash).as_bytes())
        };
        if siblings.next().is_some() {
            return Err(wrong);
        }
        if found == expected { Ok(()) } else { Err(SliceError::Hash { expected, found }) }
    }

    fn node(
        &self,
        start: usize,
        chunks: usize,
        end: usize,
        siblings: &mut std::slice::Iter<'_, Hash32>,
    ) -> Option<ChainingValue> {
        let first = self.first as usize;
        if start >= end || start + chunks <= first {
            return siblings.next().map(|node| node.0);
        }
        if chunks == 1 {
            let from = (start - first) * CHUNK;
            return Some(value(&self.bytes[from..self.bytes.len().min(from + CHUNK)], start));
        }
        let half = left(chunks);
        let a = self.node(start, half, end, siblings)?;
        let b = self.node(start + half, chunks - half, end, siblings)?;
        Some(merge_subtrees_non_root(&a, &b, Mode::Hash))
    }

    /// Some of the opened bytes, by their offset in all that were hashed.
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        let base = (self.first as usize).checked_mul(CHUNK)?;
        self.bytes.get(range.start.checked_sub(base)?..range.end.checked_sub(base)?)
    }
}

/// Chunks in the left side of a node over `chunks`, at least 2.
const fn left(chunks: usize) -> usize {
    1 << (chunks - 1).ilog2()
}

/// The value of a node over `data`, which starts at a chunk.
fn value(data: &[u8], chunk: usize) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset((chunk * CHUNK) as u64);
    hasher.update(data).finalize_non_root()
}

fn beside(data: &[u8], start: usize, chunks: usize, shown: &Range<usize>, out: &mut Vec<Hash32>) {
    if start >= shown.end || start + chunks <= shown.start {
        let end = data.len().min((start + chunks) * CHUNK);
        out.push(Hash32(value(&data[start * CHUNK..end], start)));
    } else if chunks > 1 {
        let half = left(chunks);
        beside(data, start, half, shown, out);
        beside(data, start + half, chunks - half, shown, out);
    }
}

/// Chunks of a group, a power of two: of `len` bytes at most [`FANOUT`] groups are listed.
pub fn group_chunks(len: usize) -> usize {
    len.div_ceil(CHUNK).div_ceil(FANOUT).next_power_of_two()
}

/// How many groups are listed of `len` bytes: none where there is one only.
pub fn groups(len: usize) -> usize {
    match len.div_ceil(CHUNK).div_ceil(group_chunks(len)) {
        1 => 0,
        n => n,
    }
}

/// The node of each group of chunks.
pub fn list(data: &[u8]) -> Vec<Hash32> {
    let size = group_chunks(data.len()) * CHUNK;
    if groups(data.len()) == 0 {
        return Vec::new();
    }
    data.chunks(size).enumerate().map(|(i, part)| Hash32(value(part, i * size / CHUNK))).collect()
}

/// Checks that these are the groups of `len` bytes with this hash.
///
/// # Errors
/// [`SliceError`].
pub fn check_list(list: &[Hash32], expected: Hash32, len: usize) -> Result<(), SliceError> {
    if list.len() != groups(len) {
        return Err(SliceError::Siblings { found: list.len() });
    }
    if list.is_empty() {
        return Ok(());
    }
    let (a, b) = list.split_at(left(list.len()));
    let found = Hash32(*merge_subtrees_root(&merged(a), &merged(b), Mode::Hash).as_bytes());
    if found == expected { Ok(()) } else { Err(SliceError::Hash { expected, found }) }
}

fn merged(nodes: &[Hash32]) -> ChainingValue {
    match nodes {
        [one] => one.0,
        _ => {
            let (a, b) = nodes.split_at(left(nodes.len()));
            merge_subtrees_non_root(&merged(a), &merged(b), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(data: &[u8]) -> Hash32 {
        Hash32(*blake3::hash(data).as_bytes())
    }

    proptest! {
        #[test]
        fn a_slice_shows_what_was_hashed_and_nothing_else(
            len in 1usize..40_000, a: usize, b: usize, seed: u8, flip: usize,
        ) {
            let data: Vec<u8> = (0..len).map(|i| (i * 31 + i / 256 + usize::from(seed)) as u8).collect();
            let (a, b) = (a % len, b % len);
            let range = a.min(b)..a.max(b) + 1;
            let slice = Slice::cut(&data, range.clone());
            prop_assert_eq!(slice.verify(hash(&data), len), Ok(()));
            prop_assert_eq!(slice.get(range.clone()), Some(&data[range]));
            let mut wrong = slice.clone();
            let at = flip % wrong.bytes.len();
            wrong.bytes[at] ^= 1 << (flip % 8);
            prop_assert!(wrong.verify(hash(&data), len).is_err());
            for at in 0..slice.siblings.len() {
                let mut wrong = slice.clone();
                wrong.siblings[at].0[flip % 32] ^= 1;
                prop_assert!(wrong.verify(hash(&data), len).is_err());
            }
            // At another place, or of another length: the bytes never pass for others.
            for first in (0..=len.div_ceil(CHUNK) as u32 + 1).filter(|first| *first != slice.first) {
                let moved = Slice { first, ..slice.clone() };
                prop_assert!(moved.verify(hash(&data), len).is_err());
                prop_assert!(moved.verify(hash(&data), len + CHUNK).is_err());
            }
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(
            first: u32, bytes in 0usize..4000, siblings in 0usize..20, len: usize, small in 0usize..9000,
        ) {
            let slice = Slice { first, bytes: vec![7; bytes], siblings: vec![Hash32::ZERO; siblings] };
            for len in [len, small] {
                prop_assert!(slice.verify(Hash32::ZERO, len).is_err());
                for first in 0..12 {
                    let near = Slice { first, ..slice.clone() };
                    prop_assert!(near.verify(Hash32::ZERO, len).is_err());
                    let none = Slice { first, bytes: Vec::new(), siblings: Vec::new() };
                    prop_assert!(none.verify(Hash32::ZERO, len).is_err());
                }
            }
            let _any = slice.get(small..len);
        }
    }

    #[test]
    fn lists_of_groups_merge_to_the_hash() {
        for chunks in [1usize, 2, 3, 5, 8, 1023, 1024, 1025, 2048, 2049, 4099] {
            let data = vec![5u8; chunks * CHUNK - 3];
            let nodes = list(&data);
            assert!(nodes.len() <= FANOUT && nodes.len() == groups(data.len()));
            assert_eq!(check_list(&nodes, hash(&data), data.len()), Ok(()), "{chunks}");
            if let Some(first) = nodes.first() {
                let mut other = nodes.clone();
                other[0].0[0] ^= 1;
                assert_ne!(first, &other[0]);
                assert!(check_list(&other, hash(&data), data.len()).is_err());
                assert!(check_list(&nodes[1..], hash(&data), data.len()).is_err());
            }
        }
    }
}
