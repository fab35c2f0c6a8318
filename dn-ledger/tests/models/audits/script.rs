//! A referee that finds what the moves say, so that who writes the moves knows what it finds.

use dn_core::objects::{ModelManifest, Receipt};
use dn_ledger::Referee;
use dn_ledger::referee::{Case, Ending, Finding, MoveFault, Played, Side, Standing};

pub(super) const RULES: u32 = 9;

/// The architecture that the referee does not know.
pub(super) const UNKNOWN: &str = "unknown";

#[derive(Debug)]
pub(super) struct Scripted;

pub(super) fn judges(manifest: &ModelManifest) -> bool {
    manifest.architecture != UNKNOWN
}

/// The receipt's trace root says how its dispute opens.
pub(super) fn opened(receipt: &Receipt) -> Standing {
    match receipt.trace_root.0[0] {
        0..=4 => Standing::Turn(Side::Worker),
        5 => Standing::Turn(Side::Accuser),
        6 => Standing::Ended(Ending::Impossible {}),
        _ => Standing::Ended(Ending::Refuted {}),
    }
}

/// A move says where the dispute stands after it.
pub(super) fn played(side: Side, bytes: &[u8]) -> Result<Standing, MoveFault> {
    let other = if side == Side::Worker { Side::Accuser } else { Side::Worker };
    match bytes {
        [0] => Ok(Standing::Turn(other)),
        [1] => Ok(Standing::Turn(side)),
        [2] => Ok(Standing::Ended(Ending::Fraud {
            finding: Finding { position: 3, stage: 2, op: 1, element: 4 },
        })),
        [3] => Ok(Standing::Ended(Ending::Refuted {})),
        [4] => Ok(Standing::Ended(Ending::Impossible {})),
        _ => Err(MoveFault::Unbound),
    }
}

impl Referee for Scripted {
    fn rules(&self) -> u32 {
        RULES
    }

    fn judges(&self, manifest: &ModelManifest) -> bool {
        judges(manifest)
    }

    fn open(&self, case: Case<'_>) -> Standing {
        opened(case.receipt)
    }

    /// It is handed the moves that were taken, in their order, and asked only on the turn that the last of them gave.
    fn play(
        &self,
        case: Case<'_>,
        moves: &[Played],
        side: Side,
        bytes: &[u8],
    ) -> Result<Standing, MoveFault> {
        let mut standing = opened(case.receipt);
        for taken in moves {
            assert_eq!(standing, Standing::Turn(taken.side));
            standing = played(taken.side, &taken.bytes.0)?;
        }
        assert_eq!(standing, Standing::Turn(side));
        played(side, bytes)
    }
}
