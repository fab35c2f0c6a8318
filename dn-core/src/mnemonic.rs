//! Keys from mnemonic phrases: BIP-39 words, BIP-32 derivation, BIP-44 paths.
//!
//! ```
//! use dn_core::mnemonic::{DerivationPath, Mnemonic, MnemonicError};
//!
//! # fn main() -> Result<(), MnemonicError> {
//! // The phrase that development tools share; never one for real value.
//! let phrase = Mnemonic::parse("test test test test test test test test test test test junk")?;
//! let key = phrase.derive("", DerivationPath::ethereum(0))?;
//! assert_eq!(key.address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
//! # Ok(())
//! # }
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bip32::{ChildNumber, XPrv};
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use crate::keys::SecretKey;

/// Why a phrase or a path gives no key. No message repeats a word of the phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MnemonicError {
    /// The number of words is not one of BIP-39's.
    #[error("the mnemonic phrase has {found} words; 12, 15, 18, 21 or 24 expected")]
    WordCount {
        /// Words in the phrase.
        found: usize,
    },
    /// A word is not in the English list.
    #[error("word {position} of the mnemonic phrase is not in the English BIP-39 list")]
    UnknownWord {
        /// Which word, counted from 1 as people do.
        position: usize,
    },
    /// All words exist, but the last one's checksum does not match.
    #[error("the mnemonic phrase's checksum is wrong: a word is mistaken or two are swapped")]
    Checksum,
    /// The entropy has a length that BIP-39 does not know.
    #[error("{found} bytes of entropy; 16, 20, 24, 28 or 32 expected")]
    EntropyLength {
        /// Bytes given.
        found: usize,
    },
    /// A path is not `m` and up to 255 numbers below 2^31.
    #[error(
        "step {position} of the derivation path is not a number below 2147483648, `'` after it if hardened"
    )]
    Path {
        /// Which step, `m` being step 0.
        position: usize,
    },
    /// A derivation falls outside the group, which has a probability below 2^-127; BIP-32 says to use the next index.
    #[error("this derivation path has no key; use the next index")]
    NoKey,
}

/// A BIP-39 phrase of English words. Never printed by `Debug`; wiped from memory on drop.
///
/// # Source
/// BIP-39.
#[derive(Clone)]
pub struct Mnemonic(bip39::Mnemonic);

impl Mnemonic {
    /// A fresh phrase of 12, 15, 18, 21 or 24 words: 11 bits a word, a thirty-third of them checksum.
    ///
    /// # Errors
    /// [`MnemonicError::WordCount`].
    pub fn generate(words: usize, rng: &mut impl CryptoRngCore) -> Result<Self, MnemonicError> {
        if !matches!(words, 12 | 15 | 18 | 21 | 24) {
            return Err(MnemonicError::WordCount { found: words });
        }
        let mut entropy = Zeroizing::new([0; 32]);
        let entropy = &mut entropy[..words / 3 * 4];
        rng.fill_bytes(entropy);
        Self::from_entropy(entropy)
    }

    /// The phrase for 16, 20, 24, 28 or 32 bytes of entropy.
    ///
    /// # Errors
    /// [`MnemonicError::EntropyLength`].
    pub fn from_entropy(entropy: &[u8]) -> Result<Self, MnemonicError> {
        bip39::Mnemonic::from_entropy(entropy)
            .map(Self)
            .map_err(|_| MnemonicError::EntropyLength { found: entropy.len() })
    }

    /// Reads a phrase: words of the English list, any white space between them, capitals or not.
    ///
    /// # Errors
    /// [`MnemonicError::WordCount`], [`MnemonicError::UnknownWord`] or [`MnemonicError::Checksum`].
    pub fn parse(phrase: &str) -> Result<Self, MnemonicError> {
        let lower = Zeroizing::new(phrase.to_ascii_lowercase());
        // The English list is ASCII, so it needs no normalisation.
        bip39::Mnemonic::parse_in_normalized(bip39::Language::English, &lower).map(Self).map_err(|error| {
            match error {
                bip39::Error::BadWordCount(found) => MnemonicError::WordCount { found },
                bip39::Error::UnknownWord(index) => MnemonicError::UnknownWord { position: index + 1 },
                _ => MnemonicError::Checksum,
            }
        })
    }

    /// The words, one space between them.
    pub fn phrase(&self) -> Zeroizing<String> {
        // The longest English word has 8 letters: no reallocation leaves a copy behind.
        let mut out = Zeroizing::new(String::with_capacity(24 * 9));
        for word in self.0.words() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
        out
    }

    /// The 64-byte seed under an extra passphrase, which may be empty.
    pub fn seed(&self, passphrase: &str) -> Zeroizing<[u8; 64]> {
        let mut normalized = Cow::Borrowed(passphrase);
        bip39::Mnemonic::normalize_utf8_cow(&mut normalized);
        let seed = Zeroizing::new(self.0.to_seed_normalized(&normalized));
        if let Cow::Owned(text) = normalized {
            drop(Zeroizing::new(text));
        }
        seed
    }

    /// The key at a path, under an extra passphrase, which may be empty.
    ///
    /// # Errors
    /// [`MnemonicError::Path`] or [`MnemonicError::NoKey`].
    pub fn derive(&self, passphrase: &str, path: DerivationPath) -> Result<SecretKey, MnemonicError> {
        path.key(self.seed(passphrase).as_slice())
    }
}

impl fmt::Debug for Mnemonic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mnemonic({} words)", self.0.word_count())
    }
}

impl FromStr for Mnemonic {
    type Err = MnemonicError;
    fn from_str(phrase: &str) -> Result<Self, MnemonicError> {
        Self::parse(phrase)
    }
}

/// One step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    index: u32,
    hardened: bool,
}

/// The way from a seed to a key, such as `m/44'/60'/0'/0/0`.
///
/// # Source
/// BIP-32 for the notation, BIP-44 for the meaning of the steps, SLIP-44 for coin type 60.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivationPath(Vec<Step>);

impl DerivationPath {
    /// `m/44'/60'/0'/0/index`: where ordinary wallets keep their keys.
    ///
    /// An index of 2^31 or more has no key: [`Mnemonic::derive`] refuses it.
    pub fn ethereum(index: u32) -> Self {
        let hardened = |index| Step { index, hardened: true };
        let plain = |index| Step { index, hardened: false };
        Self(vec![hardened(44), hardened(60), hardened(0), plain(0), plain(index)])
    }

    /// The key at this path under a seed of 16, 32 or 64 bytes.
    fn key(&self, seed: &[u8]) -> Result<SecretKey, MnemonicError> {
        let mut key = XPrv::new(seed).map_err(|_| MnemonicError::NoKey)?;
        for (at, step) in self.0.iter().enumerate() {
            let path_error = |_| MnemonicError::Path { position: at + 1 };
            let child = ChildNumber::new(step.index, step.hardened).map_err(path_error)?;
            key = key.derive_child(child).map_err(|_| MnemonicError::NoKey)?;
        }
        let bytes = Zeroizing::new(key.to_bytes());
        SecretKey::from_bytes(&bytes).map_err(|_| MnemonicError::NoKey)
    }
}

impl fmt::Display for DerivationPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("m")?;
        for step in &self.0 {
            write!(f, "/{}{}", step.index, if step.hardened { "'" } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for DerivationPath {
    type Err = MnemonicError;

    /// Parses `m`, then `/` and a number for each step, `'` or `h` after it if hardened.
    fn from_str(text: &str) -> Result<Self, MnemonicError> {
        let mut parts = text.split('/');
        if parts.next() != Some("m") {
            return Err(MnemonicError::Path { position: 0 });
        }
        let mut steps = Vec::new();
        for (at, part) in parts.enumerate() {
            let bad = MnemonicError::Path { position: at + 1 };
            let digits = part.strip_suffix(['\'', 'h']);
            let (digits, hardened) = (digits.unwrap_or(part), digits.is_some());
            // `u32::from_str` alone would take a plus sign.
            if at == 255 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad);
            }
            let index = digits.parse().ok().filter(|index| *index < 1 << 31).ok_or(bad)?;
            steps.push(Step { index, hardened });
        }
        Ok(Self(steps))
    }
}

#[cfg(test)]
mod tests;
