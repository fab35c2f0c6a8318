//! Openings, the referee and disputes: how a wrong computation is pinned to one tile, and judged.
//!
//! `docs/verification.md` argues why this is sound.

pub mod choice;
pub mod claim;
pub mod dispute;
pub mod error;
mod meter;
pub mod plan;
pub mod record;
pub mod referee;
pub mod slice;
#[cfg(feature = "engine")]
pub mod witness;

#[cfg(all(test, feature = "engine"))]
mod tests;

pub use claim::{Claim, Opening, Subject};
pub use dispute::{Answer, Dispute, Due, MoveError, Outcome, Party, Pick};
pub use error::{Fault, RefereeError};
pub use plan::{OpName, Stage};
pub use record::{Move, Record, ResumeError};
pub use referee::{Verdict, referee};
#[cfg(feature = "engine")]
pub use witness::{ChoiceWitness, InputRow, OpenedValue, Place, Witness, WitnessError};
