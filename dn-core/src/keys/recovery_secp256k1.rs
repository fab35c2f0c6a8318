//! The signer of a recoverable signature, by libsecp256k1.

use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};

use crate::address::Address;
use crate::hash::keccak256;

/// The signer of `r ‖ s ‖ v`, if there is one.
pub(super) fn signer(bytes: &[u8; 65], digest: &[u8; 32]) -> Option<Address> {
    let id = if bytes[64] == 28 { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(&bytes[..64], id).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(*digest), &signature).ok()?;
    // An address is the end of the hash of the point's coordinates, without the form byte before them.
    let hash = keccak256(&[&key.serialize_uncompressed()[1..]]);
    Some(Address(hash[12..].try_into().expect("20 of 32 bytes")))
}
