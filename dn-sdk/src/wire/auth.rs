//! Each side proves its key to the other, bound to both nonces, so that a proof is worth nothing elsewhere.

use dn_core::encoding::Canonical;
use dn_core::keys::SignatureError;
use dn_core::{Address, Signature, keccak256};

use super::{Abilities, ToGateway, ToWorker, VERSION};

const HELLO: &[u8] = b"DeepNode worker hello v2";
const WELCOME: &[u8] = b"DeepNode gateway welcome v1";

/// Why a greeting is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Another message was due.
    #[error("unexpected message during the greeting")]
    Unexpected,
    /// The other side speaks another version.
    #[error("protocol version {found}; {VERSION} expected")]
    Version {
        /// Its version.
        found: u16,
    },
    /// The signature is not the sender's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// What a worker signs: both nonces, the gateway, and everything the hello says.
pub fn hello_digest(
    chain_id: u64,
    gateway: Address,
    challenge: &[u8; 32],
    nonce: &[u8; 32],
    abilities: &Abilities,
) -> [u8; 32] {
    let chain = chain_id.to_le_bytes();
    keccak256(&[HELLO, &chain, &gateway.0, challenge, nonce, &abilities.to_bytes()])
}

/// What a gateway signs in return.
pub fn welcome_digest(chain_id: u64, worker: Address, challenge: &[u8; 32], nonce: &[u8; 32]) -> [u8; 32] {
    keccak256(&[WELCOME, &chain_id.to_le_bytes(), &worker.0, challenge, nonce])
}

/// Checks a hello against the challenge that it answers; returns the worker and what it can do.
///
/// # Errors
/// [`HelloError`].
pub fn verify_hello(
    chain_id: u64,
    gateway: Address,
    challenge: &[u8; 32],
    hello: &ToGateway,
) -> Result<(Address, Abilities), HelloError> {
    let ToGateway::Hello { version, worker, nonce, abilities, signature } = hello else {
        return Err(HelloError::Unexpected);
    };
    if *version != VERSION {
        return Err(HelloError::Version { found: *version });
    }
    let digest = hello_digest(chain_id, gateway, challenge, nonce, abilities);
    signature.verify(&digest, *worker)?;
    Ok((*worker, abilities.clone()))
}

/// Checks that `gateway` welcomes this worker.
///
/// # Errors
/// [`HelloError`].
pub fn verify_welcome(
    chain_id: u64,
    gateway: Address,
    worker: Address,
    challenge: &[u8; 32],
    nonce: &[u8; 32],
    signature: &Signature,
) -> Result<(), HelloError> {
    let digest = welcome_digest(chain_id, worker, challenge, nonce);
    Ok(signature.verify(&digest, gateway)?)
}

impl ToWorker {
    /// The challenge's version, when this is a challenge of another version.
    #[cfg(feature = "worker")]
    pub(crate) const fn other_version(&self) -> Option<u16> {
        match self {
            Self::Challenge { version, .. } if *version != VERSION => Some(*version),
            _ => None,
        }
    }
}
