//! Bytes as hexadecimal text.

/// `0x` and two lower-case digits a byte.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    text.push_str(&to_digits(bytes));
    text
}

/// Two lower-case digits a byte, without the `0x`.
pub fn to_digits(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// Reads `0x` and two digits a byte, of either case; none when the text is anything else, or more than `max_bytes`.
pub fn from_hex(text: &str, max_bytes: usize) -> Option<Vec<u8>> {
    from_digits(text.strip_prefix("0x")?, max_bytes)
}

/// Reads two digits a byte, of either case, without `0x`; none when the text is anything else, or more than `max_bytes`.
pub fn from_digits(digits: &str, max_bytes: usize) -> Option<Vec<u8>> {
    // Looked at before anything is allocated for it.
    if digits.len() / 2 > max_bytes {
        return None;
    }
    hex::decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_hexadecimal_is_refused_and_its_length_bounded() {
        assert_eq!(to_hex(&[0, 0xab, 255]), "0x00abff");
        assert_eq!(to_digits(&[]), "");
        assert_eq!(from_hex("0x00fF", 2), Some(vec![0, 255]));
        assert_eq!(from_hex("0x", 0), Some(vec![]));
        for bad in ["", "00ff", "0x0", "0x0g", "0x000000", "0xé", "0X00", "0x 0", "0x+1"] {
            assert_eq!(from_hex(bad, 2), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn bytes_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let (text, limit) = (to_hex(&bytes), bytes.len());
            prop_assert_eq!(from_hex(&text, limit), Some(bytes.clone()));
            prop_assert_eq!(from_digits(&text[2..].to_uppercase(), limit), Some(bytes));
            if limit > 0 {
                prop_assert_eq!(from_hex(&text, limit - 1), None);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Some(bytes) = from_hex(&text, 20) {
                prop_assert_eq!(to_hex(&bytes), text.to_lowercase());
            }
        }
    }
}
