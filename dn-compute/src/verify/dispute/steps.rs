//! The steps of a dispute: what an opening is checked against, and what is due after a pick.

use dn_core::Hash32;
use dn_core::merkle::{fold, leaf_hash, root_hash};

use super::{Dispute, Due, LEVELS, MoveError};
use crate::trace::Leaf;
use crate::verify::claim::{Parts, Subject};
use crate::verify::plan::{Kind, OpName, OpPlan, Source, Stage};
use crate::verify::referee::{attention_parts, ranges};
use crate::verify::slice::{self, CHUNK, Slice};

impl Dispute {
    pub(super) fn check_nodes(&self, expected: u32, nodes: &[Hash32]) -> Result<(), MoveError> {
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
    pub(super) fn below(&self, level: u32, index: u64) -> Due {
        if level == 0 {
            return Due::Leaf { position: index as u32 };
        }
        let lower = level.saturating_sub(LEVELS);
        let (first, step) = (index << (level - lower), 1u64 << (level - lower));
        let end = self.claim.subject.positions().div_ceil(1 << lower).min(first + step);
        Due::Nodes { level: lower, first, count: (end - first) as u32 }
    }

    pub(super) fn check_leaf(&self, position: u32, bytes: &[u8]) -> Result<Leaf, MoveError> {
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

    pub(super) fn choose_stage(&mut self, stage: Stage) -> Result<Due, MoveError> {
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
                Due::Settings
            }
            Stage::Embedding => {
                self.hashes = self.all_hashes(Vec::new())?;
                self.choose_op(0)
            }
            Stage::Layer { .. } | Stage::Logits => Due::Rows,
        })
    }

    /// What the leaf binds of the stage's beginning.
    pub(super) fn start(&self) -> Option<Hash32> {
        let leaf = self.leaf.as_ref()?;
        match self.claim.stage {
            Stage::Token | Stage::Embedding => None,
            Stage::Layer { layer } => leaf.boundaries.get(layer as usize).copied(),
            Stage::Logits => leaf.boundaries.last().copied(),
            Stage::Choice => leaf.logits,
        }
    }

    /// What the leaf binds of an operation's output.
    pub(super) fn bound(&self, name: OpName) -> Option<Hash32> {
        let leaf = self.leaf.as_ref()?;
        match (self.claim.stage, name) {
            (Stage::Embedding, _) => leaf.boundaries.first().copied(),
            (Stage::Layer { layer }, OpName::CacheEntry) => leaf.entries.get(layer as usize).copied(),
            (Stage::Layer { layer }, _) => leaf.boundaries.get(layer as usize + 1).copied(),
            (Stage::Logits, _) => leaf.logits,
            _ => None,
        }
    }

    pub(super) fn all_hashes(&self, stated: Vec<Hash32>) -> Result<Vec<Hash32>, MoveError> {
        let expected = self.ops.iter().filter(|op| !op.bound).count();
        count("hashes of rows", expected as u64, stated.len())?;
        let mut stated = stated.into_iter();
        let hash = |op: &OpPlan| if op.bound { self.bound(op.name) } else { stated.next() };
        let all: Option<Vec<Hash32>> = self.ops.iter().map(hash).collect();
        all.ok_or(MoveError::Unbound { what: "the leaf" })
    }

    pub(super) fn choose_op(&mut self, op: u8) -> Due {
        self.claim.op = op;
        let plan = &self.ops[usize::from(op)];
        let hash = |source: &Source| match source {
            Source::Start => self.start(),
            Source::Op(name) => self.rows().find(|(own, _)| own == name).map(|(_, hash)| hash),
        };
        self.claim.inputs = plan.inputs.iter().filter_map(hash).collect();
        if slice::groups(plan.bytes()) == 0 { Due::Values { group: 0 } } else { Due::Groups }
    }

    pub(super) fn check_values(&self, group: u32, slice: &Slice) -> Result<(), MoveError> {
        let op = &self.ops[usize::from(self.claim.op)];
        let (len, chunks) = (op.bytes(), slice::group_chunks(op.bytes()));
        let first = group as usize * chunks;
        count("first chunk", first as u64, slice.first as usize)?;
        let expected = len.min((first + chunks) * CHUNK) - first * CHUNK;
        count("bytes of values", expected as u64, slice.bytes.len())?;
        Ok(slice.verify(self.hashes[usize::from(self.claim.op)], len)?)
    }

    pub(super) fn choose_element(&mut self, slice: &Slice, index: u32) -> Result<Due, MoveError> {
        let op = &self.ops[usize::from(self.claim.op)];
        let size = op.element_bytes();
        let Some(bytes) = slice.bytes.chunks_exact(size).nth(index as usize) else {
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
    pub(super) fn ranges(&self) -> Option<usize> {
        match self.ops.get(usize::from(self.claim.op))?.kind {
            Kind::Linear { weight } | Kind::Norm { weight } => {
                Some(ranges(weight.shape(&self.geometry.h).0 as usize))
            }
            _ => None,
        }
    }

    /// Blocks of keys of the position, and keys of one of them.
    pub(super) fn keys(&self, block: u32) -> (u32, u32) {
        let layer = match self.claim.stage {
            Stage::Layer { layer } => layer,
            _ => 0,
        };
        attention_parts(&self.geometry, layer, self.claim.position, block)
    }
}

pub(super) fn count(what: &'static str, expected: u64, found: usize) -> Result<(), MoveError> {
    let found = found as u64;
    if expected == found { Ok(()) } else { Err(MoveError::Count { what, expected, found }) }
}

pub(super) fn among(what: &'static str, count: usize, index: u32) -> MoveError {
    MoveError::Count { what, expected: count as u64 - 1, found: index.into() }
}
