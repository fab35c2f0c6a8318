//! What the examples share.

use std::path::Path;

use dn_core::SecretKey;

/// Reads a secret key of 64 hexadecimal digits from a file.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn read_key(path: impl AsRef<Path>) -> Result<SecretKey, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(path)?;
    let digits = text.trim().trim_start_matches("0x");
    if digits.len() != 64 || !digits.is_ascii() {
        return Err("64 hexadecimal digits expected".into());
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16)?;
    }
    Ok(SecretKey::from_bytes(&bytes)?)
}

/// Compiles the program in the developers' guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guides/developers.md")]
struct DevelopersGuide;
