//! The dispute about one receipt, as a state machine without clock, network or entropy.
//!
//! The accuser says that a receipt's trace or output is not the model's. The worker then opens its own commitment level by
//! level, and the accuser points to the first thing that differs from what it computed itself: a node of the trace's
//! tree, a position, a stage, an operation, a group of its output, an element, a part of the sum. What the worker
//! opens is checked against what already binds it; what does not fit is refused and changes nothing. At the end the
//! [`referee`](fn@super::referee) recomputes one tile. Whoever is silent loses: time is an input ([`Dispute::silence`]).

use dn_core::merkle::{fold, leaf_hash, root_hash};
use dn_core::{Hash32, canonical_enum};

use super::claim::{Claim, KeyBlock, KeyTerm, MAX_BYTES, Opening, Parts, Subject, Sum};
use super::error::RefereeError;
use super::plan::{Geometry, Kind, ManifestError, OpName, OpPlan, Source, Stage};
use super::referee::{Verdict, attention_parts, judge, ranges};
use super::slice::{self, CHUNK, Slice, SliceError};
use crate::trace::Leaf;

/// Levels of the trace's tree that are opened at a time (few in tests, so that small traces have several steps).
const LEVELS: u32 = if cfg!(test) { 3 } else { 9 };

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
});

/// What the accuser points to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "one at a time exists")]
pub enum Pick {
    /// One of the nodes, or of the groups, or an element of the group, or a block of keys.
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
}
canonical_enum!(Pick {
    0 => Index { index: u32 },
    1 => Stage { stage: Stage },
    2 => Op { op: u8 },
    3 => Tile { opening: Opening },
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
    /// The accuser: the tile.
    Tile,
    /// Nobody: it has ended.
    Nothing(Outcome),
}

impl Due {
    const fn name(&self) -> &'static str {
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

/// A dispute.
#[derive(Debug, Clone)]
pub struct Dispute {
    geometry: Geometry,
    due: Due,
    opened: Vec<Nodes>,
    /// The chosen node, until the leaf is open.
    node: Option<[u8; 32]>,
    leaf: Option<Leaf>,
    ops: Vec<OpPlan>,
    /// Hashes of the operations' outputs.
    hashes: Vec<Hash32>,
    claim: Claim,
}

impl Dispute {
    /// Opens a dispute about a receipt.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn open(subject: Subject) -> Result<Self, ManifestError> {
        let geometry = Geometry::new(&subject.manifest)?;
        if !(1..=u64::from(geometry.h.context)).contains(&subject.positions()) {
            return Err(ManifestError::Sizes { what: "context does not hold the receipt's positions" });
        }
        let mut level = 0;
        while subject.positions().div_ceil(1 << level) > 1 << LEVELS {
            level += 1;
        }
        let count = subject.positions().div_ceil(1 << level) as u32;
        let claim = Claim {
            subject,
            position: 0,
            token: 0,
            stage: Stage::Token,
            op: 0,
            inputs: Vec::new(),
            element: 0,
            value: 0,
            parts: Parts::None,
        };
        let due = Due::Nodes { level, first: 0, count };
        Ok(Self {
            geometry,
            due,
            opened: Vec::new(),
            node: None,
            leaf: None,
            ops: Vec::new(),
            hashes: Vec::new(),
            claim,
        })
    }

    /// What is due.
    pub const fn due(&self) -> &Due {
        &self.due
    }

    /// Whose turn it is; `None` when it has ended.
    pub const fn turn(&self) -> Option<Party> {
        match self.due {
            Due::Nodes { .. } | Due::Leaf { .. } | Due::Rows | Due::Groups | Due::Values { .. } => {
                Some(Party::Worker)
            }
            Due::Sums | Due::Blocks | Due::Keys { .. } => Some(Party::Worker),
            Due::Nothing(_) => None,
            _ => Some(Party::Accuser),
        }
    }

    /// How it has ended, if it has.
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.due {
            Due::Nothing(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// What has been pinned so far: all of it once the tile is due.
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The nodes of the trace's tree that the worker has opened, from above.
    pub fn opened(&self) -> &[Nodes] {
        &self.opened
    }

    /// The leaf, once it is open.
    pub const fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref()
    }

    /// The operations of the chosen stage with the hashes of their outputs, once they are stated.
    pub fn rows(&self) -> impl Iterator<Item = (OpName, Hash32)> {
        self.ops.iter().map(|op| op.name).zip(self.hashes.iter().copied())
    }

    /// The chosen operation.
    pub fn op_name(&self) -> Option<OpName> {
        self.ops.get(usize::from(self.claim.op)).map(|op| op.name)
    }

    /// The time of whoever is to move is over.
    pub fn silence(&mut self) {
        match self.turn() {
            Some(Party::Worker) => self.due = Due::Nothing(Outcome::WorkerSilent),
            Some(Party::Accuser) => self.due = Due::Nothing(Outcome::AccuserSilent),
            None => {}
        }
    }

    /// The worker opens.
    ///
    /// # Errors
    /// [`MoveError`]; nothing has changed then.
    pub fn answer(&mut self, answer: Answer) -> Result<(), MoveError> {
        self.due = match (&self.due, answer) {
            (Due::Nodes { level, first, count }, Answer::Nodes { nodes }) => {
                self.check_nodes(*count, &nodes)?;
                let (level, first) = (*level, *first);
                self.opened.push(Nodes { level, first, nodes: nodes.clone() });
                Due::Node { level, first, nodes }
            }
            (Due::Leaf { position }, Answer::Leaf { bytes }) => {
                let leaf = self.check_leaf(*position, &bytes)?;
                (self.claim.position, self.claim.token) = (leaf.position, leaf.token);
                self.leaf = Some(leaf);
                Due::Stage
            }
            (Due::Rows, Answer::Rows { hashes }) => {
                self.hashes = self.all_hashes(hashes)?;
                Due::Op
            }
            (Due::Groups, Answer::Groups { groups }) => {
                let op = &self.ops[usize::from(self.claim.op)];
                slice::check_list(&groups, self.hashes[usize::from(self.claim.op)], op.bytes())?;
                Due::Group { groups }
            }
            (Due::Values { group }, Answer::Values { slice }) => {
                self.check_values(*group, &slice)?;
                Due::Element { slice }
            }
            (Due::Sums, Answer::Sums { sums }) => {
                count("ranges", self.ranges().unwrap_or(0) as u64, sums.len())?;
                self.claim.parts = Parts::Sums { sums };
                Due::Tile
            }
            (Due::Blocks, Answer::Blocks { blocks }) => {
                let (expected, _) = self.keys(0);
                count("blocks of keys", expected.into(), blocks.len())?;
                Due::Block { blocks }
            }
            (Due::Keys { blocks, block }, Answer::Keys { keys }) => {
                let (_, expected) = self.keys(*block);
                count("keys", expected.into(), keys.len())?;
                self.claim.parts = Parts::Keys { blocks: blocks.clone(), block: *block, keys };
                Due::Tile
            }
            (due, _) => return Err(MoveError::Turn { expected: due.name() }),
        };
        Ok(())
    }

    /// The accuser points.
    ///
    /// # Errors
    /// [`MoveError`]; nothing has changed then.
    pub fn pick(&mut self, pick: Pick) -> Result<(), MoveError> {
        self.due = match (&self.due, pick) {
            (Due::Node { level, first, nodes }, Pick::Index { index }) => {
                let node = nodes.get(index as usize).ok_or_else(|| among("nodes", nodes.len(), index))?;
                let due = self.below(*level, first + u64::from(index));
                self.node = Some(node.0);
                due
            }
            (Due::Stage, Pick::Stage { stage }) => self.choose_stage(stage)?,
            (Due::Op, Pick::Op { op }) => {
                if usize::from(op) >= self.ops.len() {
                    return Err(among("operations", self.ops.len(), op.into()));
                }
                self.choose_op(op)
            }
            (Due::Group { groups }, Pick::Index { index }) => {
                if index as usize >= groups.len() {
                    return Err(among("groups", groups.len(), index));
                }
                Due::Values { group: index }
            }
            (Due::Element { slice }, Pick::Index { index }) => self.choose_element(&slice.clone(), index)?,
            (Due::Block { blocks }, Pick::Index { index }) => {
                if index as usize >= blocks.len() {
                    return Err(among("blocks of keys", blocks.len(), index));
                }
                Due::Keys { blocks: blocks.clone(), block: index }
            }
            (Due::Tile, Pick::Tile { opening }) => {
                let found = dn_core::Canonical::to_bytes(&opening).len() + self.claim.len_bytes();
                if found > MAX_BYTES {
                    return Err(RefereeError::TooLarge { limit: MAX_BYTES, found }.into());
                }
                Due::Nothing(match judge(&self.claim, &opening)? {
                    Verdict::Consistent => Outcome::Refuted,
                    verdict @ Verdict::Fraud { .. } => Outcome::Fraud { verdict },
                })
            }
            (due, _) => return Err(MoveError::Turn { expected: due.name() }),
        };
        Ok(())
    }

    fn check_nodes(&self, expected: u32, nodes: &[Hash32]) -> Result<(), MoveError> {
        count("nodes", expected.into(), nodes.len())?;
        let nodes: Vec<[u8; 32]> = nodes.iter().map(|node| node.0).collect();
        let top = fold(&nodes).unwrap_or_default();
        let Subject { trace_root, .. } = self.claim.subject;
        let holds = match self.node {
            None => root_hash(self.claim.subject.positions(), &top) == trace_root,
            Some(node) => node == top,
        };
        if holds { Ok(()) } else { Err(MoveError::Unbound { what: "the list of nodes" }) }
    }

    /// What is due below a node.
    fn below(&self, level: u32, index: u64) -> Due {
        if level == 0 {
            return Due::Leaf { position: index as u32 };
        }
        let lower = level.saturating_sub(LEVELS);
        let (first, step) = (index << (level - lower), 1u64 << (level - lower));
        let end = self.claim.subject.positions().div_ceil(1 << lower).min(first + step);
        Due::Nodes { level: lower, first, count: (end - first) as u32 }
    }

    fn check_leaf(&self, position: u32, bytes: &[u8]) -> Result<Leaf, MoveError> {
        let layers = self.geometry.h.layers as usize;
        let chooses = self.claim.subject.chooses(position);
        count("bytes of the leaf", Leaf::bytes(layers, chooses) as u64, bytes.len())?;
        let hash = blake3::hash(bytes);
        let leaf = Leaf::from_bytes(bytes).filter(|leaf| {
            leaf.position == position
                && leaf.entries.len() == layers
                && leaf.logits.is_some() == chooses
                && Some(leaf_hash(hash.as_bytes())) == self.node
        });
        leaf.ok_or(MoveError::Unbound { what: "the leaf" })
    }

    fn choose_stage(&mut self, stage: Stage) -> Result<Due, MoveError> {
        let exists = match stage {
            Stage::Token | Stage::Embedding => true,
            Stage::Layer { layer } => layer < self.geometry.h.layers,
            Stage::Logits | Stage::Choice => self.claim.subject.chooses(self.claim.position),
        };
        if !exists {
            return Err(MoveError::Unbound { what: "a stage that the position lacks" });
        }
        self.claim.stage = stage;
        self.ops = self.geometry.ops(stage);
        self.hashes.clear();
        Ok(match stage {
            Stage::Token => {
                self.claim.value = self.claim.token;
                Due::Tile
            }
            Stage::Choice => {
                self.claim.inputs = self.start().into_iter().collect();
                Due::Tile
            }
            Stage::Embedding => {
                self.hashes = self.all_hashes(Vec::new())?;
                self.choose_op(0)
            }
            Stage::Layer { .. } | Stage::Logits => Due::Rows,
        })
    }

    /// What the leaf binds of the stage's beginning.
    fn start(&self) -> Option<Hash32> {
        let leaf = self.leaf.as_ref()?;
        match self.claim.stage {
            Stage::Token | Stage::Embedding => None,
            Stage::Layer { layer } => leaf.boundaries.get(layer as usize).copied(),
            Stage::Logits => leaf.boundaries.last().copied(),
            Stage::Choice => leaf.logits,
        }
    }

    /// What the leaf binds of an operation's output.
    fn bound(&self, name: OpName) -> Option<Hash32> {
        let leaf = self.leaf.as_ref()?;
        match (self.claim.stage, name) {
            (Stage::Embedding, _) => leaf.boundaries.first().copied(),
            (Stage::Layer { layer }, OpName::CacheEntry) => leaf.entries.get(layer as usize).copied(),
            (Stage::Layer { layer }, _) => leaf.boundaries.get(layer as usize + 1).copied(),
            (Stage::Logits, _) => leaf.logits,
            _ => None,
        }
    }

    fn all_hashes(&self, stated: Vec<Hash32>) -> Result<Vec<Hash32>, MoveError> {
        let expected = self.ops.iter().filter(|op| !op.bound).count();
        count("hashes of rows", expected as u64, stated.len())?;
        let mut stated = stated.into_iter();
        let hash = |op: &OpPlan| if op.bound { self.bound(op.name) } else { stated.next() };
        let all: Option<Vec<Hash32>> = self.ops.iter().map(hash).collect();
        all.ok_or(MoveError::Unbound { what: "the leaf" })
    }

    fn choose_op(&mut self, op: u8) -> Due {
        self.claim.op = op;
        let plan = &self.ops[usize::from(op)];
        let hash = |source: &Source| match source {
            Source::Start => self.start(),
            Source::Op(name) => self.rows().find(|(own, _)| own == name).map(|(_, hash)| hash),
        };
        self.claim.inputs = plan.inputs.iter().filter_map(hash).collect();
        if slice::groups(plan.bytes()) == 0 { Due::Values { group: 0 } } else { Due::Groups }
    }

    fn check_values(&self, group: u32, slice: &Slice) -> Result<(), MoveError> {
        let op = &self.ops[usize::from(self.claim.op)];
        let (len, chunks) = (op.bytes(), slice::group_chunks(op.bytes()));
        let first = group as usize * chunks;
        count("first chunk", first as u64, slice.first as usize)?;
        let expected = len.min((first + chunks) * CHUNK) - first * CHUNK;
        count("bytes of values", expected as u64, slice.bytes.len())?;
        Ok(slice.verify(self.hashes[usize::from(self.claim.op)], len)?)
    }

    fn choose_element(&mut self, slice: &Slice, index: u32) -> Result<Due, MoveError> {
        let op = &self.ops[usize::from(self.claim.op)];
        let size = op.element_bytes();
        let at = index as usize * size;
        let Some(bytes) = slice.bytes.get(at..at + size) else {
            return Err(among("elements", slice.bytes.len() / size, index));
        };
        let mut value = [0; 4];
        value[..size].copy_from_slice(bytes);
        self.claim.element = (slice.first as usize * CHUNK / size) as u32 + index;
        self.claim.value = u32::from_le_bytes(value);
        self.claim.parts = Parts::None;
        Ok(match op.kind {
            Kind::Attention => Due::Blocks,
            _ => match self.ranges() {
                Some(2..) => Due::Sums,
                _ => Due::Tile,
            },
        })
    }

    /// Ranges of the chosen operation's sums, where it sums.
    fn ranges(&self) -> Option<usize> {
        match self.ops.get(usize::from(self.claim.op))?.kind {
            Kind::Linear { weight } | Kind::Norm { weight } => {
                Some(ranges(weight.shape(&self.geometry.h).0 as usize))
            }
            _ => None,
        }
    }

    /// Blocks of keys of the position, and keys of one of them.
    fn keys(&self, block: u32) -> (u32, u32) {
        let layer = match self.claim.stage {
            Stage::Layer { layer } => layer,
            _ => 0,
        };
        attention_parts(&self.geometry, layer, self.claim.position, block)
    }
}

fn count(what: &'static str, expected: u64, found: usize) -> Result<(), MoveError> {
    let found = found as u64;
    if expected == found { Ok(()) } else { Err(MoveError::Count { what, expected, found }) }
}

fn among(what: &'static str, count: usize, index: u32) -> MoveError {
    MoveError::Count { what, expected: count as u64 - 1, found: index.into() }
}
