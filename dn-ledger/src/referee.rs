//! Who judges a disputed computation: the interface behind which the tile referee stands.
//!
//! The ledger keeps a dispute's receipt and moves and runs its clocks; what a move means, whether it fits what the worker is
//! bound to, and who is wrong at the end is for the referee. The ledger knows no model and no arithmetic: whoever builds a node
//! plugs the engine's referee in, and a chain names in its parameters which version of it judges. A node that has another
//! one, or none, executes no block of that chain: so two nodes that both go on cannot disagree.

use std::fmt::Debug;
use std::sync::Arc;

use dn_core::objects::{ModelManifest, Receipt};
use dn_core::{canonical_enum, canonical_struct};
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;

/// The most moves of a dispute.
pub const MAX_MOVES: u32 = 64;

/// A party of a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who signed the receipt.
    Worker,
    /// Who doubts it.
    Accuser,
}
canonical_enum!(Side { 0 => Worker {}, 1 => Accuser {} });

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Worker => "worker",
            Self::Accuser => "accuser",
        })
    }
}

/// The one value that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// Position in prompt and output.
    pub position: u32,
    /// Part of the position's computation, as the referee numbers them.
    pub stage: u32,
    /// Operation, as its place in the stage.
    pub op: u32,
    /// Element of its output.
    pub element: u32,
}
canonical_struct!(Finding { position: u32, stage: u32, op: u32, element: u32 });

/// How a dispute ends. Exactly one side loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// The worker's time ran out.
    WorkerSilent {},
    /// The accuser's time ran out.
    AccuserSilent {},
    /// The referee found the worker wrong.
    Fraud {
        /// Where.
        finding: Finding,
    },
    /// The receipt contradicts itself, the model, or its batch, no line of which can hold it: no computation can have given it.
    Impossible {},
    /// The referee found the worker right.
    Refuted {},
}
canonical_enum!(Ending {
    0 => WorkerSilent {},
    1 => AccuserSilent {},
    2 => Fraud { finding: Finding },
    3 => Impossible {},
    4 => Refuted {},
});

impl Ending {
    /// Who loses.
    pub const fn loser(&self) -> Side {
        match self {
            Self::WorkerSilent {} | Self::Fraud { .. } | Self::Impossible {} => Side::Worker,
            Self::AccuserSilent {} | Self::Refuted {} => Side::Accuser,
        }
    }

    /// The end of a dispute in which this side said nothing more.
    pub const fn silence_of(side: Side) -> Self {
        match side {
            Side::Worker => Self::WorkerSilent {},
            Side::Accuser => Self::AccuserSilent {},
        }
    }
}

/// Where a dispute stands after a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This side has to move.
    Turn(Side),
    /// It is over.
    Ended(Ending),
}

/// Why a move is refused. The dispute is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MoveFault {
    /// Its bytes are no move.
    #[error("its bytes are not the canonical encoding of a move")]
    Encoding,
    /// Another kind of move is due.
    #[error("another kind of move is due")]
    NotDue,
    /// What it opens is not what the worker or the accuser is bound to.
    #[error("what it opens is not what is bound")]
    Unbound,
    /// A list of the wrong length or order, or a pick outside what was opened.
    #[error("a list or an index does not fit what was opened")]
    Form,
    /// More bytes than the referee reads.
    #[error("it is larger than the referee reads")]
    TooLarge,
    /// Something that no tile judges.
    #[error("this cannot be judged by a tile")]
    Unjudged,
}

/// What a dispute is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case<'a> {
    /// The receipt, which stands in the batch.
    pub receipt: &'a Receipt,
    /// The manifest of its model, as published.
    pub manifest: &'a ModelManifest,
}

/// A move that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// By whom.
    pub side: Side,
    /// What, in the referee's encoding.
    pub bytes: Bytes,
}
canonical_struct!(Played { side: Side, bytes: Bytes });

/// A referee. Pure: the same arguments give the same result on every machine, in time bounded by their size (at most
/// [`MAX_MOVES`] moves of [`MAX_BYTES`](crate::bytes::MAX_BYTES), of which only the last is new; some milliseconds).
pub trait Referee: Debug + Send + Sync {
    /// The version of the rules by which it judges. Whatever could change any result gets another number; 0 is none.
    fn rules(&self) -> u32;

    /// Whether computations of this model are exact, so that tiles of them can be judged.
    fn judges(&self, manifest: &ModelManifest) -> bool;

    /// Opens a dispute: who moves first, or that the receipt is impossible on its face.
    fn open(&self, case: Case<'_>) -> Standing;

    /// Plays one more move after those that were taken, which it played before.
    ///
    /// # Errors
    /// [`MoveFault`]; it is then as if nothing had been tried.
    fn play(&self, case: Case<'_>, moves: &[Played], side: Side, bytes: &[u8])
    -> Result<Standing, MoveFault>;
}

/// A shared referee.
#[derive(Debug, Clone)]
pub struct RefereeHandle(Arc<dyn Referee>);

impl RefereeHandle {
    /// Shares a referee.
    pub fn new(referee: impl Referee + 'static) -> Self {
        Self(Arc::new(referee))
    }
}

impl std::ops::Deref for RefereeHandle {
    type Target = dyn Referee;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for RefereeHandle {
    /// Referees of the same rules are the same referee.
    fn eq(&self, other: &Self) -> bool {
        self.rules() == other.rules()
    }
}

impl Eq for RefereeHandle {}
