//! The dispute about one receipt, as a state machine without clock, network or entropy.
//!
//! The accuser says that a receipt's trace or output is not the model's. The worker then opens its own commitment level by
//! level, and the accuser points to the first thing that differs from what it computed itself: a node of the trace's
//! tree, a position, a stage, an operation, a group of its output, an element, a part of the sum. What the worker
//! opens is checked against what already binds it; what does not fit is refused and changes nothing. At the end the
//! [`referee`](fn@super::referee) recomputes one tile. Whoever is silent loses: time is an input ([`Dispute::silence`]).

mod choice;
mod moves;
mod steps;

use dn_core::{Canonical, Hash32};

use self::steps::{among, count};
use super::choice::Settings;
use super::claim::{Claim, MAX_BYTES, Parts, Subject};
use super::error::RefereeError;
use super::plan::{Geometry, ManifestError, OpName, OpPlan, Stage};
use super::record::Move;
use super::referee::{Verdict, judge};
use super::slice;
use crate::trace::Leaf;

#[cfg(feature = "engine")]
pub(crate) use self::choice::stated;
pub use self::moves::{Answer, Due, MoveError, Nodes, Outcome, Party, Pick};

/// Levels of the trace's tree that are opened at a time (few in tests, so that small traces have several steps).
const LEVELS: u32 = if cfg!(test) { 3 } else { 9 };

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
    /// What decides the choice, once it is open.
    settings: Option<Settings>,
    claim: Claim,
    /// All moves so far: what the rest follows from.
    moves: Vec<Move>,
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
            settings: None,
            claim,
            moves: Vec::new(),
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
            Due::Choice | Due::Shares | Due::Seen | Due::Counts => Some(Party::Worker),
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

    /// The settings that decide the choice, once they are open.
    pub const fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// The operations of the chosen stage with the hashes of their outputs, once they are stated.
    pub fn rows(&self) -> impl Iterator<Item = (OpName, Hash32)> {
        self.ops.iter().map(|op| op.name).zip(self.hashes.iter().copied())
    }

    /// The chosen operation.
    pub fn op_name(&self) -> Option<OpName> {
        self.ops.get(usize::from(self.claim.op)).map(|op| op.name)
    }

    /// All moves so far.
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// The time of whoever is to move is over.
    pub fn silence(&mut self) {
        self.due = match self.turn() {
            Some(Party::Worker) => Due::Nothing(Outcome::WorkerSilent),
            Some(Party::Accuser) => Due::Nothing(Outcome::AccuserSilent),
            None => return,
        };
        self.moves.push(Move::Silence);
    }

    /// The worker opens.
    ///
    /// # Errors
    /// [`MoveError`]; nothing has changed then.
    pub fn answer(&mut self, answer: Answer) -> Result<(), MoveError> {
        let kept = Move::Answer { answer: answer.clone() };
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
            (Due::Choice, Answer::Choice { cuts, shares }) => self.take_choice(cuts, shares)?,
            (Due::Shares, Answer::Shares { shares }) => self.take_shares(shares)?,
            (Due::Seen, Answer::Seen { tokens }) => self.take_seen(tokens)?,
            (Due::Counts, Answer::Counts { counts }) => self.take_counts(counts)?,
            (due, _) => return Err(MoveError::Turn { expected: due.name() }),
        };
        self.moves.push(kept);
        Ok(())
    }

    /// The accuser points.
    ///
    /// # Errors
    /// [`MoveError`]; nothing has changed then.
    pub fn pick(&mut self, pick: Pick) -> Result<(), MoveError> {
        let kept = Move::Pick { pick: pick.clone() };
        // What is kept of a dispute is bounded: a pick may show more than is needed, but not any number of bytes.
        let found = kept.to_bytes().len();
        if found > MAX_BYTES {
            return Err(RefereeError::TooLarge { limit: MAX_BYTES, found }.into());
        }
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
            (Due::Settings, Pick::Settings { request, output }) => self.take_settings(&request, &output)?,
            (Due::Range, Pick::Index { index }) => self.choose_range(index)?,
            (Due::Token, Pick::Index { index }) => self.choose_token(index)?,
            (Due::Tile | Due::Range | Due::Token, Pick::Tile { opening }) => {
                let found = opening.to_bytes().len() + self.claim.len_bytes();
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
        self.moves.push(kept);
        Ok(())
    }
}
