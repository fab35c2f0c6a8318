//! 32-byte hashes, the typed identifiers made of them, Keccak-256 and BLAKE3.

use std::fmt;
use std::str::FromStr;

use sha3::{Digest, Keccak256};

/// Why a text is not an identifier or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text does not start with `0x`.
    #[error("expected a value that starts with `0x`")]
    MissingPrefix,
    /// The number of hexadecimal digits is wrong.
    #[error("expected {expected} hexadecimal digits after `0x`, found {found}")]
    Length {
        /// Digits that the type needs.
        expected: usize,
        /// Digits in the text.
        found: usize,
    },
    /// A character is not a hexadecimal digit.
    #[error("`{found}` at position {position} is not a hexadecimal digit")]
    Digit {
        /// The character.
        found: char,
        /// Its byte offset in the text.
        position: usize,
    },
    /// A mixed-case address whose capitals do not match EIP-55.
    #[error("the capitals do not match the EIP-55 checksum; expected {expected}")]
    Checksum {
        /// The address in its right form.
        expected: String,
    },
}

/// Parses `0x` followed by exactly `2 * N` hexadecimal digits.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let digits = text.strip_prefix("0x").ok_or(ParseIdError::MissingPrefix)?;
    if let Some((at, found)) = digits.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(ParseIdError::Digit { found, position: at + 2 });
    }
    let mut out = [0u8; N];
    hex::decode_to_slice(digits, &mut out)
        .map_err(|_| ParseIdError::Length { expected: 2 * N, found: digits.len() })?;
    Ok(out)
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// All zero bytes: "none".
            pub const ZERO: Self = Self([0; 32]);

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(0x{})"), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl $crate::encoding::Canonical for $name {
            const MIN_LEN: usize = 32;
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
            fn decode(r: &mut $crate::encoding::Reader<'_>) -> Result<Self, $crate::encoding::DecodeError> {
                r.array().map(Self)
            }
        }
    };
}

hash_type!(
    /// A hash with no more specific meaning: Keccak-256 or BLAKE3, as the field that holds it says.
    Hash32
);
hash_type!(
    /// Keccak-256 of a canonical [`ModelManifest`](crate::objects::ModelManifest).
    ModelId
);
hash_type!(
    /// BLAKE3 of a canonical [`JobRequest`](crate::objects::JobRequest).
    JobId
);
hash_type!(
    /// Keccak-256 of a canonical [`Receipt`](crate::objects::Receipt).
    ReceiptId
);
hash_type!(
    /// A payment channel: Keccak-256 over payer, payee and the payer's nonce.
    ChannelId
);
hash_type!(
    /// Keccak-256 of a canonical [`BatchRoot`](crate::objects::BatchRoot).
    BatchId
);
hash_type!(
    /// Keccak-256 of a canonical signed transaction.
    TxId
);
hash_type!(
    /// Keccak-256 of a canonical block header.
    BlockHash
);

/// Keccak-256 (the variant of Ethereum, not NIST SHA3-256) of the parts, one after another.
pub fn keccak256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// BLAKE3 of the parts, one after another: for bulk data such as weights, activations and files.
pub fn blake3_256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        assert_eq!(
            hex::encode(keccak256(&[b""])),
            "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        );
        assert_eq!(
            hex::encode(keccak256(&[b"a", b"bc"])),
            "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
        );
        assert_eq!(
            hex::encode(blake3_256(&[b""])),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn ids_parse_what_they_print_and_name_what_is_wrong() {
        let id = ModelId(keccak256(&[b"x"]));
        assert_eq!(id.to_string().parse::<ModelId>(), Ok(id));
        assert_eq!("12".parse::<ModelId>(), Err(ParseIdError::MissingPrefix));
        assert_eq!("0x12".parse::<ModelId>(), Err(ParseIdError::Length { expected: 64, found: 2 }));
        assert_eq!("0x1g".parse::<ModelId>(), Err(ParseIdError::Digit { found: 'g', position: 3 }));
        assert_eq!("0xé".parse::<ModelId>(), Err(ParseIdError::Digit { found: 'é', position: 2 }));
    }
}
