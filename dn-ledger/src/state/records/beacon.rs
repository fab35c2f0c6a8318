//! Turns in proposing blocks.

use dn_core::canonical_struct;

/// A validator's turns in this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turns {
    /// Blocks that it proposed.
    pub made: u32,
    /// Rounds in which it should have and did not.
    pub missed: u32,
}
canonical_struct!(Turns { made: u32, missed: u32 });
