//! The randomness beacon: a value that every block mixes anew with something that only its proposer could know, and could not choose.
//!
//! The proposer of a block proves its VRF at (chain, height, beacon before). There is one value for that, whatever is in the block, so nothing
//! can be tried out: a proposer can only leave its turn to the next one, and loses what the turn pays.
//! `docs/adr/0013-disputes-quality-beacon.md` states the bound; `tests/beacon.rs` measures it.

use dn_core::{
    Address, Canonical, Hash32, PublicKey, SecretKey, VrfError, VrfProof, canonical_struct, keccak256,
};
use serde::{Deserialize, Serialize};

/// Prefix of what the VRF is computed at.
const INPUT: &[u8] = b"DeepNode beacon input v1";

/// What a proposer adds to the beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The proposer's public key: an address alone verifies no proof.
    pub public: PublicKey,
    /// The proof of its value.
    pub proof: VrfProof,
}
canonical_struct!(Reveal { public: PublicKey, proof: VrfProof });

/// Why a reveal is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevealError {
    /// The chain wants one in every block.
    #[error("no reveal; this chain's blocks need one")]
    Missing,
    /// Somebody else's key.
    #[error("the reveal's key is that of {found}; the proposer is {expected}")]
    Key {
        /// The proposer.
        expected: Address,
        /// The key's address.
        found: Address,
    },
    /// A proof that does not hold.
    #[error(transparent)]
    Proof(#[from] VrfError),
}

/// What the proposer of a height computes its VRF at.
pub fn input(chain_id: u64, height: u64, beacon: Hash32) -> Vec<u8> {
    [INPUT, &chain_id.to_le_bytes(), &height.to_le_bytes(), &beacon.0].concat()
}

impl Reveal {
    /// The reveal of a proposer.
    ///
    /// # Errors
    /// [`VrfError`], which nobody will see.
    pub fn new(key: &SecretKey, chain_id: u64, height: u64, beacon: Hash32) -> Result<Self, VrfError> {
        let proof = VrfProof::new(key, &input(chain_id, height, beacon))?;
        Ok(Self { public: key.public(), proof })
    }

    /// Checks that it is the proposer's for this height after this beacon; gives its value.
    ///
    /// # Errors
    /// [`RevealError`].
    pub fn verify(
        &self,
        proposer: Address,
        chain_id: u64,
        height: u64,
        beacon: Hash32,
    ) -> Result<Hash32, RevealError> {
        let found = self.public.address();
        if found != proposer {
            return Err(RevealError::Key { expected: proposer, found });
        }
        Ok(self.proof.verify(&self.public, &input(chain_id, height, beacon))?)
    }
}

/// The beacon after a block: what it was, mixed with the proposer's value; without one, with the hash of the block before, which its proposer
/// can choose among many.
pub fn mix(beacon: Hash32, revealed: Option<Hash32>, parent: Hash32) -> Hash32 {
    let (kind, value): (&[u8], Hash32) = match revealed {
        Some(value) => (b"DeepNode beacon v1", value),
        None => (b"DeepNode beacon of a hash v1", parent),
    };
    Hash32(keccak256(&[kind, &beacon.to_bytes(), &value.0]))
}
