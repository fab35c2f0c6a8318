//! Secret keys in files: Web3 Secret Storage ("keystore v3"), encrypted with a password.
//!
//! ```
//! use dn_core::SecretKey;
//! use dn_core::keystore::{Kdf, Keystore, KeystoreError};
//! use rand_core::OsRng;
//!
//! # fn main() -> Result<(), KeystoreError> {
//! let key = SecretKey::random(&mut OsRng);
//! let text = Keystore::encrypt(&key, b"correct horse", Kdf::scrypt_light(), &mut OsRng)?.to_json();
//!
//! let keystore = Keystore::from_json(&text)?;
//! assert_eq!(keystore.address(), Some(key.address()));
//! assert!(matches!(keystore.decrypt(b"wrong"), Err(KeystoreError::WrongPassword)));
//! assert_eq!(keystore.decrypt(b"correct horse")?.address(), key.address());
//! # Ok(())
//! # }
//! ```

use aes::cipher::{KeyIvInit, StreamCipher};
use rand_core::CryptoRngCore;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::hash::keccak256;
use crate::keys::{KeyError, SecretKey};

mod json;
mod kdf;
mod scrypt;

pub use kdf::{Kdf, MAX_PBKDF2_ROUNDS, MAX_SCRYPT_MEMORY_BYTES, MAX_SCRYPT_WORK};

/// The longest keystore file that is read, in bytes. Real ones have about 500.
pub const MAX_FILE_BYTES: usize = 16 * 1024;

/// Why a keystore is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// The file is longer than any keystore.
    #[error("the keystore has {found} bytes; at most {MAX_FILE_BYTES} expected")]
    TooLong {
        /// Bytes in the file.
        found: usize,
    },
    /// Not JSON, or a field is missing, repeated or of another type.
    #[error("not a keystore: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version of the format.
    #[error("keystore version {found}; 3 expected")]
    Version {
        /// The version in the file.
        found: u64,
    },
    /// A name that this format version does not have.
    #[error("keystore field `{field}` is `{found}`; {expected} expected")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// What is known.
        expected: &'static str,
        /// What the file says, cut at 64 characters.
        found: String,
    },
    /// A field is not hexadecimal digits of the right number.
    #[error("keystore field `{field}`: {expected} hexadecimal digits expected")]
    Hex {
        /// The field.
        field: &'static str,
        /// Digits expected, in words.
        expected: &'static str,
    },
    /// A parameter of the key derivation is out of the range that this program is willing to compute.
    #[error("keystore field `{field}` is {found}; {expected} expected")]
    KdfParameter {
        /// The field.
        field: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What the file says.
        found: u64,
    },
    /// The parameters together ask for more memory than allowed.
    #[error("scrypt would take {found} bytes of memory; at most {MAX_SCRYPT_MEMORY_BYTES} allowed")]
    KdfMemory {
        /// Bytes that `n`, `r` and `p` ask for.
        found: u64,
    },
    /// The parameters together ask for more work than allowed.
    #[error("scrypt would take n·r·p = {found} steps; at most {MAX_SCRYPT_WORK} allowed")]
    KdfWork {
        /// `n · r · p`.
        found: u64,
    },
    /// The authentication code does not match.
    #[error("wrong password (or the keystore is damaged)")]
    WrongPassword,
    /// The password is right, but what it decrypts is not a secret key.
    #[error("the keystore holds no key: {0}")]
    Key(#[from] KeyError),
    /// The password is right, but the file names another address than its key has.
    #[error("the keystore names address {named}, its key has {actual}")]
    AddressMismatch {
        /// The address in the file.
        named: Address,
        /// The address of the decrypted key.
        actual: Address,
    },
}

/// An encrypted secret key, as it lies in a file.
///
/// # Source
/// Ethereum "Web3 Secret Storage Definition", version 3, with cipher `aes-128-ctr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keystore {
    address: Option<Address>,
    id: [u8; 16],
    iv: [u8; 16],
    /// 32 bytes; fewer when the writer dropped leading zeros of the key, as early programs did.
    ciphertext: Vec<u8>,
    kdf: Kdf,
    salt: Vec<u8>,
    mac: [u8; 32],
}

impl Keystore {
    /// Encrypts a key under a password; salt, initialisation vector and file id come from the generator.
    ///
    /// Takes as long as `kdf` says, see [`Kdf`].
    ///
    /// # Errors
    /// [`KeystoreError::KdfParameter`], [`KeystoreError::KdfMemory`] or [`KeystoreError::KdfWork`] for a `kdf` out of bounds.
    pub fn encrypt(
        key: &SecretKey,
        password: &[u8],
        kdf: Kdf,
        rng: &mut impl CryptoRngCore,
    ) -> Result<Self, KeystoreError> {
        let (mut salt, mut iv, mut id) = (vec![0; 32], [0; 16], [0; 16]);
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut iv);
        rng.fill_bytes(&mut id);
        // A random (version 4) UUID of RFC 9562.
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;

        let derived = kdf.derive(password, &salt)?;
        let mut ciphertext = key.to_bytes().to_vec();
        apply_cipher(&derived, &iv, &mut ciphertext);
        let mac = authentication_code(&derived, &ciphertext);
        Ok(Self { address: Some(key.address()), id, iv, ciphertext, kdf, salt, mac })
    }

    /// Decrypts the key.
    ///
    /// # Errors
    /// [`KeystoreError::WrongPassword`]; [`KeystoreError::Key`] or [`KeystoreError::AddressMismatch`] for a file
    /// whose content contradicts itself; [`KeystoreError::KdfParameter`], [`KeystoreError::KdfMemory`] or
    /// [`KeystoreError::KdfWork`] are found when the file is read.
    pub fn decrypt(&self, password: &[u8]) -> Result<SecretKey, KeystoreError> {
        let derived = self.kdf.derive(password, &self.salt)?;
        let mac = authentication_code(&derived, &self.ciphertext);
        if !bool::from(mac.ct_eq(&self.mac)) {
            return Err(KeystoreError::WrongPassword);
        }
        let mut secret = Zeroizing::new([0; 32]);
        let start = secret.len() - self.ciphertext.len();
        secret[start..].copy_from_slice(&self.ciphertext);
        apply_cipher(&derived, &self.iv, &mut secret[start..]);
        let key = SecretKey::from_bytes(&secret)?;
        match self.address {
            Some(named) if named != key.address() => {
                Err(KeystoreError::AddressMismatch { named, actual: key.address() })
            }
            _ => Ok(key),
        }
    }

    /// Parses a keystore file. Nothing is derived or decrypted yet.
    ///
    /// Fields at the top that the definition does not know (some wallets add their own) are ignored;
    /// inside `crypto` they are refused.
    ///
    /// # Errors
    /// [`KeystoreError`] naming the field.
    pub fn from_json(text: &str) -> Result<Self, KeystoreError> {
        json::parse(text)
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        json::write(self)
    }

    /// The address that the file names. The definition leaves it optional, and it is not
    /// authenticated before [`decrypt`](Self::decrypt) has compared it.
    pub const fn address(&self) -> Option<Address> {
        self.address
    }

    /// How the password is stretched.
    pub const fn kdf(&self) -> Kdf {
        self.kdf
    }
}

/// AES-128 in counter mode under the first half of the derived key; the same call encrypts and decrypts.
fn apply_cipher(derived: &[u8; 32], iv: &[u8; 16], bytes: &mut [u8]) {
    let (key, _) = derived.split_at(16);
    ctr::Ctr128BE::<aes::Aes128>::new(key.into(), iv.into()).apply_keystream(bytes);
}

/// Keccak-256 over the second half of the derived key and the ciphertext.
fn authentication_code(derived: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    keccak256(&[&derived[16..], ciphertext])
}

#[cfg(test)]
mod tests;
