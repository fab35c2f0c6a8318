//! What the parties of a dispute say, what is due, and how it ends.

use dn_core::{Hash32, canonical_enum};

use crate::verify::choice::{Cuts, SeenToken, Share};
use crate::verify::claim::{KeyBlock, KeyTerm, Opening, RequestSlice, Sum};
use crate::verify::error::RefereeError;
use crate::verify::plan::Stage;
use crate::verify::referee::Verdict;
use crate::verify::slice::{Slice, SliceError};

/// Who is to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Who signed the receipt.
    Worker,
    /// Who doubts it.
    Accuser,
}

/// What the worker opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nodes of the trace's tree.
    Nodes {
        /// The nodes of one level below the one that is asked about.
        nodes: Vec<Hash32>,
    },
    /// A position's leaf.
    Leaf {
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The rows of a stage.
    Rows {
        /// Hashes of the outputs that the leaf does not bind, in the order of the operations.
        hashes: Vec<Hash32>,
    },
    /// The groups of a row.
    Groups {
        /// Their nodes.
        groups: Vec<Hash32>,
    },
    /// A group's bytes.
    Values {
        /// The group.
        slice: Slice,
    },
    /// The ranges of an element's sum.
    Sums {
        /// All of them.
        sums: Vec<Sum>,
    },
    /// The blocks of keys of an element.
    Blocks {
        /// All of them.
        blocks: Vec<KeyBlock>,
    },
    /// The keys of a block.
    Keys {
        /// All of them.
        keys: Vec<KeyTerm>,
    },
    /// The ranges of the vocabulary, of a choice.
    Choice {
        /// What top-k and top-p cut off.
        cuts: Cuts,
        /// All ranges.
        shares: Vec<Share>,
    },
    /// The ranges of a range of tokens.
    Shares {
        /// All of them.
        shares: Vec<Share>,
    },
    /// What the penalties see of a range of tokens.
    Seen {
        /// Its tokens that stand in their window, ascending.
        tokens: Vec<SeenToken>,
    },
    /// How often a token stands in the window of the penalties.
    Counts {
        /// In each run of the prompt, then in each of the output.
        counts: Vec<u32>,
    },
}
canonical_enum!(Answer {
    0 => Nodes { nodes: Vec<Hash32> },
    1 => Leaf { bytes: Vec<u8> },
    2 => Rows { hashes: Vec<Hash32> },
    3 => Groups { groups: Vec<Hash32> },
    4 => Values { slice: Slice },
    5 => Sums { sums: Vec<Sum> },
    6 => Blocks { blocks: Vec<KeyBlock> },
    7 => Keys { keys: Vec<KeyTerm> },
    8 => Choice { cuts: Cuts, shares: Vec<Share> },
    9 => Shares { shares: Vec<Share> },
    10 => Seen { tokens: Vec<SeenToken> },
    11 => Counts { counts: Vec<u32> },
});

/// What the accuser points to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time exists")]
pub enum Pick {
    /// One of the nodes, or of the groups, or an element of the group, or a block of keys, or a range of tokens or one of its
    /// tokens.
    Index {
        /// Its index among those opened.
        index: u32,
    },
    /// A stage of the position.
    Stage {
        /// The stage.
        stage: Stage,
    },
    /// An operation of the stage.
    Op {
        /// Its place.
        op: u8,
    },
    /// What the referee needs.
    Tile {
        /// The opening.
        opening: Opening,
    },
    /// What decides a choice.
    Settings {
        /// The request from the settings of its sampler to the kind of its grammar.
        request: RequestSlice,
        /// The output token.
        output: Slice,
    },
}
canonical_enum!(Pick {
    0 => Index { index: u32 },
    1 => Stage { stage: Stage },
    2 => Op { op: u8 },
    3 => Tile { opening: Opening },
    4 => Settings { request: RequestSlice, output: Slice },
});

/// How a dispute ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The worker did not move in time.
    WorkerSilent,
    /// The accuser did not move in time.
    AccuserSilent,
    /// The referee found the worker wrong.
    Fraud {
        /// Where and how.
        verdict: Verdict,
    },
    /// The referee found the worker right.
    Refuted,
}
canonical_enum!(Outcome {
    0 => WorkerSilent {},
    1 => AccuserSilent {},
    2 => Fraud { verdict: Verdict },
    3 => Refuted {},
});

impl Outcome {
    /// Who loses.
    pub const fn loser(self) -> Party {
        match self {
            Self::WorkerSilent | Self::Fraud { .. } => Party::Worker,
            Self::AccuserSilent | Self::Refuted => Party::Accuser,
        }
    }
}

/// Why a move is refused. The dispute is as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// It is the other's turn, or another kind of move is due.
    #[error("{expected} is due")]
    Turn {
        /// What is due.
        expected: &'static str,
    },
    /// A number of things that does not fit.
    #[error("{what}: {found} came, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// What fits.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// What is opened is not what is bound.
    #[error("{what} is not what the worker is bound to")]
    Unbound {
        /// What was opened.
        what: &'static str,
    },
    /// A list that nothing can be rightly said in.
    #[error("{what}: out of order, or more than there can be")]
    Form {
        /// The list.
        what: &'static str,
    },
    /// A slice is not what is bound.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// The referee cannot judge.
    #[error(transparent)]
    Referee(#[from] RefereeError),
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// The worker: the nodes `first..first + count` of a level of the trace's tree.
    Nodes {
        /// The level; 0 is that of the leaves.
        level: u32,
        /// Index of the first.
        first: u64,
        /// How many.
        count: u32,
    },
    /// The accuser: one of these nodes.
    Node {
        /// Their level.
        level: u32,
        /// Index of the first.
        first: u64,
        /// The nodes.
        nodes: Vec<Hash32>,
    },
    /// The worker: the leaf of a position.
    Leaf {
        /// The position.
        position: u32,
    },
    /// The accuser: a stage of this leaf.
    Stage,
    /// The worker: hashes of the stage's rows.
    Rows,
    /// The accuser: an operation.
    Op,
    /// The worker: the groups of the operation's row.
    Groups,
    /// The accuser: one of these groups.
    Group {
        /// Their nodes.
        groups: Vec<Hash32>,
    },
    /// The worker: the values of a group.
    Values {
        /// Its index.
        group: u32,
    },
    /// The accuser: an element of these values.
    Element {
        /// The values.
        slice: Slice,
    },
    /// The worker: the ranges of the element's sum.
    Sums,
    /// The worker: the blocks of keys of the element.
    Blocks,
    /// The accuser: a block.
    Block {
        /// All of them.
        blocks: Vec<KeyBlock>,
    },
    /// The worker: the keys of a block.
    Keys {
        /// All blocks.
        blocks: Vec<KeyBlock>,
        /// The block.
        block: u32,
    },
    /// The accuser: the settings of the request, and the token that was chosen.
    Settings,
    /// The worker: the ranges of the vocabulary.
    Choice,
    /// The worker: the ranges of the chosen range.
    Shares,
    /// The accuser: a range, or the tile where the ranges do not make the token.
    Range,
    /// The worker: what the penalties see of the range.
    Seen,
    /// The accuser: one of the range's tokens, whose counts it doubts, or the tile.
    Token,
    /// The worker: how often the token stands in the window of the penalties.
    Counts,
    /// The accuser: the tile.
    Tile,
    /// Nobody: it has ended.
    Nothing(Outcome),
}

impl Due {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Nodes { .. } => "nodes of the trace's tree",
            Self::Node { .. } => "a node of the trace's tree",
            Self::Leaf { .. } => "a leaf",
            Self::Stage => "a stage",
            Self::Rows => "hashes of rows",
            Self::Op => "an operation",
            Self::Groups => "groups of a row",
            Self::Group { .. } => "a group",
            Self::Values { .. } => "values",
            Self::Element { .. } => "an element",
            Self::Sums => "ranges of a sum",
            Self::Blocks => "blocks of keys",
            Self::Block { .. } => "a block of keys",
            Self::Keys { .. } => "keys",
            Self::Settings => "the settings of a choice",
            Self::Choice => "the ranges of a choice",
            Self::Shares => "the ranges of a range",
            Self::Range => "a range or a tile",
            Self::Seen => "seen tokens",
            Self::Token => "a token or a tile",
            Self::Counts => "counts of a token",
            Self::Tile => "a tile",
            Self::Nothing(_) => "nothing",
        }
    }
}

/// Neighbouring nodes of one level of the trace's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// The level; 0 is that of the leaves.
    pub level: u32,
    /// Index of the first.
    pub first: u64,
    /// The nodes.
    pub nodes: Vec<Hash32>,
}
