//! Addresses: the last 20 bytes of Keccak-256 of a public key, printed in EIP-55 form.

use std::fmt;
use std::str::FromStr;

use crate::encoding::{Canonical, DecodeError, Reader};
use crate::hash::{ParseIdError, keccak256, parse_hex};

/// The address of an identity.
///
/// # Source
/// Ethereum yellow paper, appendix F; EIP-55 for the printed form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub [u8; 20]);

impl Address {
    /// All zero bytes: "nobody".
    pub const ZERO: Self = Self([0; 20]);

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex::encode(self.0);
        let checksum = keccak256(&[digits.as_bytes()]);
        let mut text = String::with_capacity(42);
        text.push_str("0x");
        for (i, c) in digits.chars().enumerate() {
            let nibble = (checksum[i / 2] >> (4 * (1 - i % 2))) & 15;
            text.push(if nibble >= 8 { c.to_ascii_uppercase() } else { c });
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = ParseIdError;

    /// Accepts all lower case, all upper case, or the exact EIP-55 form.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let address = Self(parse_hex(text)?);
        let mixed = text[2..].bytes().any(|b| b.is_ascii_lowercase())
            && text[2..].bytes().any(|b| b.is_ascii_uppercase());
        let expected = address.to_string();
        if mixed && text != expected {
            return Err(ParseIdError::Checksum { expected });
        }
        Ok(address)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Canonical for Address {
    const MIN_LEN: usize = 20;
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test cases printed in EIP-55.
    #[test]
    fn eip_55_vectors() {
        for text in [
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
            "0xde709f2102306220921060314715629080e2fb77",
            "0x27b1fdb04752bbc536007a920d24acb045561c26",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn wrong_capitals_are_refused_with_the_right_form() {
        let wrong = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        let expected = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".to_owned();
        assert_eq!(wrong.parse::<Address>(), Err(ParseIdError::Checksum { expected }));
        assert!(wrong.to_lowercase().parse::<Address>().is_ok());
    }
}
