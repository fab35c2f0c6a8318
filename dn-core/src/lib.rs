//! The common ground of DeepNode: identities and keys, amounts of DN, hashes, the canonical encoding, Merkle
//! trees, EIP-712 signatures, and the typed objects that cross crates.
//!
//! This crate is pure: no clock, no network, no files. Functions that need randomness take a generator.
#![forbid(unsafe_code)]

pub mod address;
pub mod amount;
pub mod eip712;
pub mod encoding;
pub mod hash;
pub mod hexadecimal;
pub mod keys;
pub mod keystore;
pub mod merkle;
pub mod mnemonic;
pub mod objects;
#[cfg(feature = "schema")]
pub mod schema;
pub mod signed;
#[cfg(test)]
mod testing;
pub mod vrf;
pub mod wide;

pub use address::Address;
pub use amount::{Amount, AmountError};
pub use encoding::{Canonical, DecodeError};
pub use hash::{
    BatchId, BlockHash, ChannelId, Hash32, JobId, ModelId, ReceiptId, TxId, blake3_256, keccak256,
};
pub use keys::{PublicKey, SecretKey, Signature};
pub use signed::{Signable, Signed, VerifyError};
pub use vrf::{VrfError, VrfProof};

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
