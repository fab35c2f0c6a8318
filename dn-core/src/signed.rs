//! Objects with the EIP-712 signature of one identity.

use crate::address::Address;
use crate::eip712::{Domain, TypedData};
use crate::encoding::{Canonical, DecodeError, Reader};
use crate::keys::{SecretKey, Signature, SignatureError};

/// An object that one identity signs for one chain, for a limited time.
pub trait Signable: TypedData {
    /// The chain it is for.
    fn chain_id(&self) -> u64;

    /// Last millisecond (Unix time) at which it may still be accepted.
    fn expires_ms(&self) -> u64;

    /// Who has to sign it.
    fn signer(&self) -> Address;
}

/// Why a signed object is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It is for another chain.
    #[error("signed for chain {found}; this is chain {expected}")]
    ChainId {
        /// This chain.
        expected: u64,
        /// The chain in the object.
        found: u64,
    },
    /// Its time is over.
    #[error("expired at {expires_ms} ms; it is now {now_ms} ms")]
    Expired {
        /// When it ended, Unix milliseconds.
        expires_ms: u64,
        /// The time of the check, Unix milliseconds.
        now_ms: u64,
    },
    /// The signature is not its signer's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A body and its signer's signature.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Signed<T> {
    /// What was signed.
    pub body: T,
    /// The signature over the EIP-712 digest of the body.
    pub signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// Signs a body. Whoever checks will compare the key's address with [`Signable::signer`].
    pub fn sign(body: T, key: &SecretKey) -> Self {
        let digest = Domain::deepnode(body.chain_id()).digest(&body);
        Self { signature: key.sign(&digest), body }
    }

    /// Checks chain, time and signature.
    ///
    /// # Errors
    /// [`VerifyError`], in the order chain, time, signature.
    pub fn verify(&self, chain_id: u64, now_ms: u64) -> Result<(), VerifyError> {
        let expires_ms = self.body.expires_ms();
        if now_ms > expires_ms && self.body.chain_id() == chain_id {
            return Err(VerifyError::Expired { expires_ms, now_ms });
        }
        self.verify_any_time(chain_id)
    }

    /// Checks chain and signature, for objects that were accepted in time and are looked at later.
    ///
    /// # Errors
    /// [`VerifyError`] but never `Expired`.
    pub fn verify_any_time(&self, chain_id: u64) -> Result<(), VerifyError> {
        let found = self.body.chain_id();
        if found != chain_id {
            return Err(VerifyError::ChainId { expected: chain_id, found });
        }
        let digest = Domain::deepnode(chain_id).digest(&self.body);
        Ok(self.signature.verify(&digest, self.body.signer())?)
    }
}

impl<T: Canonical> Canonical for Signed<T> {
    const MIN_LEN: usize = T::MIN_LEN + 65;
    fn encode(&self, out: &mut Vec<u8>) {
        self.body.encode(out);
        self.signature.encode(out);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { body: T::decode(r)?, signature: Signature::decode(r)? })
    }
}
