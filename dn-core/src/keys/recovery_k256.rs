//! The signer of a recoverable signature, by `k256`.

use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};

use super::PublicKey;
use crate::address::Address;

/// The signer of `r ‖ s ‖ v`, if there is one.
pub(super) fn signer(bytes: &[u8; 65], digest: &[u8; 32]) -> Option<Address> {
    let signature = Signature::from_slice(&bytes[..64]).ok()?;
    let id = RecoveryId::new(bytes[64] == 28, false);
    let key = VerifyingKey::recover_from_prehash(digest, &signature, id).ok()?;
    Some(PublicKey(key).address())
}
