//! Opaque bytes in transactions and records: length-prefixed in the canonical encoding, `0x…` in JSON.

use dn_core::encoding::{Canonical, DecodeError, Reader, encode_count};
use dn_core::hexadecimal::{from_hex, to_hex};
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
        s.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        from_hex(&text, MAX_BYTES).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "expected at most {MAX_BYTES} bytes as 0x and hexadecimal digits"
            ))
        })
    }
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
