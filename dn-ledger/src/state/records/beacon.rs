//! Turns in proposing blocks, and the set that takes them next.

use dn_core::canonical_struct;

use crate::validators::ValidatorSet;

/// A validator's turns in this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turns {
    /// Blocks that it proposed.
    pub made: u32,
    /// Rounds in which it should have and did not.
    pub missed: u32,
}
canonical_struct!(Turns { made: u32, missed: u32 });

/// The outcome of an epoch's election, until it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// The last block that the set before decides. Its beacon seeds the turns of the new one.
    pub last_height: u64,
    /// Who decides from the next block on; empty if nobody could be elected, and the set before goes on.
    pub set: ValidatorSet,
}
canonical_struct!(Election { last_height: u64, set: ValidatorSet });
