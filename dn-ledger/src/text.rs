//! Bounds of the texts that identities and models show, and bytes as text.

use crate::reject::{Field, Reject};

/// Checks length in bytes and that nothing but printable characters is in it.
pub(crate) fn check_text(field: Field, text: &str, min: usize, max: usize) -> Result<(), Reject> {
    check_size(field, text.len(), min, max)?;
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(Reject::ControlCharacter { field, at: at as u64 }),
        None => Ok(()),
    }
}

/// Checks a size.
pub(crate) fn check_size(field: Field, found: usize, min: usize, max: usize) -> Result<(), Reject> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(Reject::Size { field, min: min as u64, max: max as u64, found: found as u64 })
}

/// `0x` and two digits a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads what [`to_hex`] writes, of either case; the `0x` may be left out.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
