//! A commitment to the whole state that follows each change in constant time.
//!
//! LtHash: each entry becomes a vector of 1,024 16-bit lanes (BLAKE3 in extended output mode over its key and value);
//! the state's vector is the lane-wise sum, so entries can be added and removed in any order. A header carries Keccak-256
//! over the sum. Finding two states with the same sum is as hard as a short-integer-solution problem of that size.
//!
//! It proves nothing about single entries: proofs need the authenticated tree (jmt) that replaces it behind the
//! same header field.
//!
//! # Source
//! Lewi, Kim, Maykov, Weis, "Securing Update Propagation with Homomorphic Hashing" (IACR ePrint 2019/227), LtHash16.

use dn_core::{Hash32, keccak256};

const LANES: usize = 1_024;

/// The sum over all entries of a state.
#[derive(Clone, PartialEq, Eq)]
pub struct Commitment(Box<[u16; LANES]>);

impl Default for Commitment {
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl std::fmt::Debug for Commitment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Commitment({})", self.hash())
    }
}

impl Commitment {
    /// Adds an entry.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        let lanes = lanes(key, value);
        self.0.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum = sum.wrapping_add(lane));
    }

    /// Removes an entry that is in it.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        let lanes = lanes(key, value);
        self.0.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum = sum.wrapping_sub(lane));
    }

    /// What a header carries: Keccak-256 over the lanes, little-endian.
    pub fn hash(&self) -> Hash32 {
        let bytes: Vec<u8> = self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        Hash32(keccak256(&[&bytes]))
    }
}

fn lanes(key: &[u8], value: &[u8]) -> impl Iterator<Item = u16> {
    let mut hasher = blake3::Hasher::new_derive_key("DeepNode state entry v1");
    // The key's length separates it from the value.
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
    let mut bytes = [0; 2 * LANES];
    hasher.finalize_xof().fill(&mut bytes);
    (0..LANES).map(move |i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
}
