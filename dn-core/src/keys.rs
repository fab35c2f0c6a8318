//! secp256k1 keys and recoverable signatures over 32-byte digests.

use std::fmt;

use k256::ecdsa::{SigningKey, VerifyingKey};
use rand_core::CryptoRngCore;

use crate::address::Address;
use crate::encoding::{Canonical, DecodeError, Reader};
use crate::hash::keccak256;

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret key must lie in 1..n.
    #[error("not a secp256k1 secret key: 32 bytes in the range 1..n expected")]
    SecretRange,
    /// A public key must be a curve point in SEC1 form.
    #[error("not a secp256k1 public key: a curve point in SEC1 form expected")]
    PublicPoint,
}

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// `s` is over n/2: the malleable twin of a valid signature.
    #[error("signature is malleable: s is over half of the group order")]
    HighS,
    /// `r` or `s` is 0 or not below n.
    #[error("signature scalar out of range")]
    Range,
    /// The last byte is neither 27 nor 28.
    #[error("recovery byte is {found}; 27 or 28 expected")]
    RecoveryByte {
        /// The byte.
        found: u8,
    },
    /// No public key gives this signature for this digest.
    #[error("no public key matches this signature")]
    Unrecoverable,
    /// Somebody else signed.
    #[error("signed by {found}; {expected} expected")]
    Signer {
        /// Who should have signed.
        expected: Address,
        /// Who signed.
        found: Address,
    },
}

/// A secret key. Never printed: `Debug` shows its address only. Wiped from memory on drop.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRngCore) -> Self {
        Self(SigningKey::random(rng))
    }

    /// A key from its 32 big-endian bytes.
    ///
    /// # Errors
    /// [`KeyError::SecretRange`] for 0 or a value not below the group order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        SigningKey::from_bytes(bytes.into()).map(Self).map_err(|_| KeyError::SecretRange)
    }

    /// The 32 big-endian bytes, in a buffer that is wiped on drop.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes().into())
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// The address.
    pub fn address(&self) -> Address {
        self.public().address()
    }

    /// Signs a digest: deterministic (RFC 6979), low-s, recoverable.
    pub fn sign(&self, digest: &[u8; 32]) -> Signature {
        let (signature, id) =
            self.0.sign_prehash_recoverable(digest).expect("a 32-byte digest can always be signed");
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&signature.to_bytes());
        bytes[64] = 27 + u8::from(id.is_y_odd());
        Signature(bytes)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.address())
    }
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Parses a compressed or uncompressed SEC1 point.
    ///
    /// # Errors
    /// [`KeyError::PublicPoint`].
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, KeyError> {
        // The parser below would also take the "compact" form, which leaves out the sign of y.
        if !matches!(bytes.first(), Some(2..=4)) {
            return Err(KeyError::PublicPoint);
        }
        VerifyingKey::from_sec1_bytes(bytes).map(Self).map_err(|_| KeyError::PublicPoint)
    }

    /// The 33-byte compressed SEC1 form.
    pub fn to_compressed(&self) -> [u8; 33] {
        self.0.to_encoded_point(true).as_bytes().try_into().expect("a compressed point has 33 bytes")
    }

    /// The address: last 20 bytes of Keccak-256 over the uncompressed point without its tag.
    pub fn address(&self) -> Address {
        let point = self.0.to_encoded_point(false);
        let hash = keccak256(&[&point.as_bytes()[1..]]);
        Address(hash[12..].try_into().expect("20 of 32 bytes"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey(0x{})", hex::encode(self.to_compressed()))
    }
}

/// A recoverable signature: `r ‖ s ‖ v`, 65 bytes, always low-s, `v` 27 or 28.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 65]);

impl Signature {
    /// Parses and checks the 65 bytes.
    ///
    /// # Errors
    /// [`SignatureError::HighS`], [`SignatureError::Range`] or [`SignatureError::RecoveryByte`].
    pub fn from_bytes(bytes: [u8; 65]) -> Result<Self, SignatureError> {
        let parsed = k256::ecdsa::Signature::from_slice(&bytes[..64]).map_err(|_| SignatureError::Range)?;
        if parsed.normalize_s().is_some() {
            return Err(SignatureError::HighS);
        }
        match bytes[64] {
            27 | 28 => Ok(Self(bytes)),
            found => Err(SignatureError::RecoveryByte { found }),
        }
    }

    /// The 65 bytes.
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// The address of the key that signed this digest.
    ///
    /// # Errors
    /// [`SignatureError::Unrecoverable`].
    pub fn recover(&self, digest: &[u8; 32]) -> Result<Address, SignatureError> {
        recovery::signer(&self.0, digest).ok_or(SignatureError::Unrecoverable)
    }

    /// Checks that `expected` signed this digest.
    ///
    /// # Errors
    /// [`SignatureError::Signer`] or [`SignatureError::Unrecoverable`].
    pub fn verify(&self, digest: &[u8; 32], expected: Address) -> Result<(), SignatureError> {
        let found = self.recover(digest)?;
        if found == expected { Ok(()) } else { Err(SignatureError::Signer { expected, found }) }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature(0x{})", hex::encode(self.0))
    }
}

impl serde::Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("0x{}", hex::encode(self.0)))
    }
}

impl<'de> serde::Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = crate::hash::parse_hex(&text).map_err(serde::de::Error::custom)?;
        Self::from_bytes(bytes).map_err(serde::de::Error::custom)
    }
}

impl Canonical for Signature {
    const MIN_LEN: usize = 65;
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = r.position();
        let what = "not a canonical low-s signature with recovery byte 27 or 28";
        Self::from_bytes(r.array()?).map_err(|_| DecodeError::Invalid { at, what })
    }
}

/// Recovery in Rust: for builds without a C compiler, WebAssembly among them, and to test the other one against.
#[cfg(any(test, not(feature = "libsecp256k1")))]
mod recovery_k256;
#[cfg(feature = "libsecp256k1")]
mod recovery_secp256k1;

#[cfg(not(feature = "libsecp256k1"))]
use recovery_k256 as recovery;
#[cfg(feature = "libsecp256k1")]
use recovery_secp256k1 as recovery;

#[cfg(test)]
mod tests;
