//! The referee: recomputes one tile from opened bytes and says whether the worker's claim holds.
//!
//! It reads nothing but its arguments, uses the reference's arithmetic only, and its work is bounded by the size of its
//! input and by constants of the numeric spec; so a ledger can run it inside a transaction.

pub(crate) mod attention;
pub(crate) mod choice;
mod glue;
pub(crate) mod sums;

use std::ops::Range;

use dn_core::{Canonical, Hash32, canonical_enum};

use super::claim::{Claim, MAX_BYTES, Opening, Parts};
use super::error::RefereeError;
use super::meter;
use super::plan::{Geometry, Kind, OpName, OpPlan, Stage};
use super::slice::Slice;
use crate::spec::QuantMatrix;
use crate::tensors::Slot;

/// What is wrong with an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is not what the operation gives, or the operation has no result on what it reads.
    Value,
    /// The parts that the worker states do not make it.
    Combination,
    /// The picked part is not what the operation gives.
    Part {
        /// Index of the part.
        index: u32,
    },
}
canonical_enum!(Wrong { 0 => Value {}, 1 => Combination {}, 2 => Part { index: u32 } });

/// Who is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The worker: the tile is what the operation gives.
    Consistent,
    /// The accuser.
    Fraud {
        /// Position in prompt and output.
        position: u32,
        /// Part of the position's computation.
        stage: Stage,
        /// Operation, as its place in the stage.
        op: u8,
        /// Element of its output.
        element: u32,
        /// What is wrong with it.
        wrong: Wrong,
    },
}
canonical_enum!(Verdict {
    0 => Consistent {},
    1 => Fraud { position: u32, stage: Stage, op: u8, element: u32, wrong: Wrong },
});

/// Judges a claim by an opening, both in their canonical encodings.
///
/// A verdict speaks about the worker only if whoever keeps the dispute took the claim from what binds the worker.
///
/// # Errors
/// [`RefereeError`]; [`RefereeError::fault`] says who is to blame.
pub fn referee(claim: &[u8], opening: &[u8]) -> Result<Verdict, RefereeError> {
    let found = claim.len().saturating_add(opening.len());
    if found > MAX_BYTES {
        return Err(RefereeError::TooLarge { limit: MAX_BYTES, found });
    }
    let claim = Claim::from_bytes(claim).map_err(RefereeError::ClaimEncoding)?;
    let opening = Opening::from_bytes(opening).map_err(RefereeError::OpeningEncoding)?;
    judge(&claim, &opening)
}

/// [`referee`] of values that are in memory.
///
/// # Errors
/// [`RefereeError`].
pub fn judge(claim: &Claim, opening: &Opening) -> Result<Verdict, RefereeError> {
    let geometry = Geometry::new(&claim.subject.manifest)?;
    let (positions, context) = (claim.subject.positions(), u64::from(geometry.h.context));
    if !(1..=context).contains(&positions) {
        return Err(wrong_claim("number of positions", context, positions));
    }
    if let Stage::Layer { layer } = claim.stage
        && layer >= geometry.h.layers
    {
        return Err(wrong_claim("layer", u64::from(geometry.h.layers) - 1, layer.into()));
    }
    let mut ops = geometry.ops(claim.stage);
    if usize::from(claim.op) >= ops.len() {
        return Err(wrong_claim("operation", ops.len() as u64 - 1, claim.op.into()));
    }
    let op = ops.swap_remove(claim.op.into());
    let expected = op.inputs.len() as u64;
    if claim.inputs.len() as u64 != expected {
        return Err(wrong_claim("number of inputs", expected, claim.inputs.len() as u64));
    }
    if claim.element as usize >= op.len {
        return Err(wrong_claim("element", op.len as u64 - 1, claim.element.into()));
    }
    if u64::from(claim.position) >= positions {
        return Err(wrong_claim("position", positions - 1, claim.position.into()));
    }
    let bench = Bench { claim, opening, geometry: &geometry, op: &op };
    let wrong = match op.kind {
        Kind::Token => bench.token(),
        Kind::Embed { table } => bench.embed(table),
        Kind::Norm { weight } => bench.norm(weight),
        Kind::Linear { weight } => bench.linear(weight),
        Kind::Bias { weight } => bench.bias(weight),
        Kind::Rope => bench.rope(),
        Kind::Entry => bench.entry(),
        Kind::Attention => bench.attention(),
        Kind::Add => bench.add(),
        Kind::SiluMul => bench.silu_mul(),
        Kind::Choice => bench.choice(),
    }?;
    Ok(match wrong {
        None => Verdict::Consistent,
        Some(wrong) => {
            let Claim { position, stage, op, element, .. } = *claim;
            Verdict::Fraud { position, stage, op, element, wrong }
        }
    })
}

impl Verdict {
    /// The operation that a verdict of fraud names.
    pub fn op_name(&self, claim: &Claim) -> Option<OpName> {
        let Self::Fraud { stage, op, .. } = self else { return None };
        let geometry = Geometry::new(&claim.subject.manifest).ok()?;
        geometry.ops(*stage).get(usize::from(*op)).map(|op| op.name)
    }
}

/// Ranges in which a row of `cols` values is summed.
pub(crate) const fn ranges(cols: usize) -> usize {
    cols.div_ceil(super::claim::RANGE)
}

/// How many blocks of keys a position attends to, and how many keys of one of them.
pub(crate) fn attention_parts(geometry: &Geometry, layer: u32, position: u32, block: u32) -> (u32, u32) {
    let first = geometry.first_key(layer, position);
    (attention::blocks(first, position), attention::keys_of(first, position, block).len() as u32)
}

/// `None`: the tile is as claimed.
type Finding = Result<Option<Wrong>, RefereeError>;

/// A case with everything in reach.
struct Bench<'a> {
    claim: &'a Claim,
    opening: &'a Opening,
    geometry: &'a Geometry,
    op: &'a OpPlan,
}

pub(super) fn wrong_claim(what: &'static str, expected: u64, found: u64) -> RefereeError {
    RefereeError::Claim { what, expected, found }
}

fn wrong_opening(what: &'static str, expected: u64, found: u64) -> RefereeError {
    RefereeError::Opening { what, expected, found }
}

/// Bytes of a slice, once it is checked.
fn shown<'a>(
    what: &'static str,
    slice: &'a Slice,
    hash: Hash32,
    len: usize,
    range: Range<usize>,
) -> Result<&'a [u8], RefereeError> {
    slice.verify(hash, len).map_err(|source| RefereeError::Slice { what, source })?;
    let (start, end) = (range.start, range.end);
    slice.get(range).ok_or(RefereeError::Elsewhere { what, start, end })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    meter::steps(bytes.len() / 4);
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

impl<'a> Bench<'a> {
    /// Compares the claimed value with what the operation gives; a result that is not finite is none.
    fn value(&self, expected: f32) -> Option<Wrong> {
        let holds = expected.is_finite() && expected.to_bits() == self.claim.value;
        (!holds).then_some(Wrong::Value)
    }

    fn element(&self) -> usize {
        self.claim.element as usize
    }

    fn expect_rows(&self, expected: usize) -> Result<(), RefereeError> {
        match self.opening.rows.len() == expected {
            true => Ok(()),
            false => Err(wrong_opening("number of rows", expected as u64, self.opening.rows.len() as u64)),
        }
    }

    /// Values of an input row of `len` values, from the opening's row `row`.
    fn input(
        &self,
        row: usize,
        input: usize,
        len: usize,
        range: Range<usize>,
    ) -> Result<Vec<f32>, RefereeError> {
        let bytes = range.start * 4..range.end * 4;
        let slice = &self.opening.rows[row];
        shown("a row of values", slice, self.claim.inputs[input], len * 4, bytes).map(floats)
    }

    /// The opened tile of a tensor, checked against the model, and the hash of its bytes.
    fn tile(&self, slot: Slot) -> Result<(&'a crate::tensors::Tile, &'a Slice), RefereeError> {
        let Some(weights) = &self.opening.weights else {
            return Err(wrong_opening("number of weight tiles", 1, 0));
        };
        let tile = &weights.tile;
        let tensor = self.geometry.tensor(slot).unwrap_or(u32::MAX);
        if tile.tensor != tensor {
            return Err(wrong_opening("tensor", tensor.into(), tile.tensor.into()));
        }
        let (cols, _) = slot.shape(&self.geometry.h);
        if tile.cols != cols {
            return Err(wrong_opening("columns of the tile", cols.into(), tile.cols.into()));
        }
        let root = self.claim.subject.manifest.tensors_root;
        meter::hashed(64 * (weights.proof.path.len() + 2));
        let proof = weights.proof.verify(root, &tile.to_bytes());
        proof.map_err(|source| RefereeError::Proof { what: "the tile of weights", source })?;
        Ok((tile, &weights.slice))
    }

    /// A matrix's tile that holds a row, and the row's index in it.
    fn matrix_row(&self, slot: Slot, row: usize) -> Result<(QuantMatrix, usize), RefereeError> {
        let (tile, slice) = self.tile(slot)?;
        let first = tile.first_row as usize;
        let local = row.checked_sub(first).filter(|local| *local < tile.rows as usize);
        let local = local.ok_or_else(|| wrong_opening("first row of the tile", row as u64, first as u64))?;
        let len = slice.bytes.len();
        let bytes = shown("the tile of weights", slice, tile.hash, len, 0..len)?;
        meter::steps(len);
        let matrix = QuantMatrix::from_tile_bytes(tile.rows as usize, tile.cols as usize, bytes);
        Ok((matrix.map_err(RefereeError::Weights)?, local))
    }

    /// Some values of a vector of weights.
    fn vector(&self, slot: Slot, range: Range<usize>) -> Result<Vec<f32>, RefereeError> {
        let (tile, slice) = self.tile(slot)?;
        let len = tile.cols as usize * 4;
        shown("the vector of weights", slice, tile.hash, len, range.start * 4..range.end * 4).map(floats)
    }

    /// One value of a vector of weights.
    fn vector_value(&self, slot: Slot, index: usize) -> Result<f32, RefereeError> {
        Ok(self.vector(slot, index..index + 1)?[0])
    }

    fn no_parts(&self) -> Result<(), RefereeError> {
        match self.claim.parts {
            Parts::None => Ok(()),
            _ => Err(wrong_claim("number of parts", 0, 1)),
        }
    }
}
