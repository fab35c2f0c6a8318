//! 128-bit counts as decimal strings in JSON, so that no reader rounds them; for `#[serde(with = "dn_trust::decimal")]`.

use serde::{Deserialize, Deserializer, Serializer};

/// Writes the number as a decimal string.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &u128, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

/// Reads a decimal string without sign or leading zeros.
///
/// # Errors
/// When the text is anything else, or over 128 bits.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
    let text = String::deserialize(d)?;
    // Only the canonical text prints back as itself.
    let value = text.parse::<u128>().ok().filter(|value| value.to_string() == text);
    value.ok_or_else(|| serde::de::Error::custom("expected a decimal string of at most 128 bits"))
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    use super::*;

    struct Shown(u128);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            serialize(&self.0, f)
        }
    }

    #[test]
    fn only_the_canonical_text_is_read() {
        let read = |text: &'static str| {
            let d: StrDeserializer<'static, Error> = text.into_deserializer();
            deserialize(d).ok()
        };
        for value in [0, 7, u128::MAX] {
            let text: &'static str = Shown(value).to_string().leak();
            assert_eq!(read(text), Some(value));
        }
        for text in ["", "+1", "-1", "01", "1.0", "1e3", " 1", "340282366920938463463374607431768211456"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
