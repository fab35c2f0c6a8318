//! Opaque bytes in transactions and records: length-prefixed in the canonical encoding, `0x…` in JSON.

use dn_core::encoding::{Canonical, DecodeError, Reader, encode_count};
use serde::{Deserialize, Serialize};

/// The most bytes of one opaque value: the largest move of a dispute.
pub const MAX_BYTES: usize = 64 * 1024;

/// At most [`MAX_BYTES`] bytes whose meaning is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Canonical for Bytes {
    const MIN_LEN: usize = 4;

    fn encode(&self, out: &mut Vec<u8>) {
        encode_count(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = r.count(1, MAX_BYTES)?;
        Ok(Self(r.take(count)?.to_vec()))
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 + 2 * self.0.len());
        text.push_str("0x");
        for byte in &self.0 {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).expect("four bits are a hexadecimal digit"));
            }
        }
        s.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        parse(&text).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "expected at most {MAX_BYTES} bytes as 0x and hexadecimal digits"
            ))
        })
    }
}

fn parse(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * MAX_BYTES {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_in_both_forms_and_are_bounded() {
        for bytes in [vec![], vec![0], vec![1, 0xab, 0xff]] {
            let value = Bytes(bytes);
            assert_eq!(Bytes::from_bytes(&value.to_bytes()), Ok(value.clone()));
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), value);
        }
        for bad in ["\"\"", "\"ab\"", "\"0xa\"", "\"0xzz\"", "\"0x€1\"", "3"] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
        let long = Bytes(vec![7; MAX_BYTES + 1]).to_bytes();
        assert!(matches!(Bytes::from_bytes(&long), Err(DecodeError::Count { limit: MAX_BYTES, .. })));
    }
}
