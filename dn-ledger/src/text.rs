//! Bounds of the texts that identities and models show.

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
