//! The host's clock. Only services read it; nothing that replicas execute does.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds; 0 when the clock stands before 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
