//! One value of the computation, with everything that binds it.

use super::*;
use crate::verify::error::RefereeError;
use crate::verify::referee::{Verdict, judge};

/// One value of a computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The position in prompt and output.
    pub position: u32,
    /// The part of the position's computation.
    pub stage: Stage,
    /// The operation.
    pub op: OpName,
    /// The element of what the operation gives.
    pub element: u32,
}

/// A row that an operation reads.
#[derive(Debug, Clone, PartialEq)]
pub struct InputRow {
    /// What gives it: `None` for what the stage starts with.
    pub from: Option<OpName>,
    /// Hash of the row.
    pub hash: Hash32,
    /// The first of the values that the element is made of.
    pub first: usize,
    /// The values.
    pub values: Vec<f32>,
}

/// A value, opened.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedValue {
    /// Where it stands.
    pub place: Place,
    /// The rows that it is made of.
    pub inputs: Vec<InputRow>,
    /// Which keys it attends to, where it does.
    pub keys: Option<Range<u32>>,
    /// What the position's leaf binds.
    pub leaf: Leaf,
    /// The leaf's proof to the trace root.
    pub proof: InclusionProof,
    /// The value, as a dispute would pin it.
    pub claim: Claim,
    /// What the referee needs to judge it.
    pub opening: Opening,
    /// What the referee says.
    pub verdict: Result<Verdict, RefereeError>,
}

impl Witness<'_> {
    /// The operations of a stage, with the lengths of what they give.
    pub fn operations(&self, stage: Stage) -> Vec<(OpName, usize)> {
        self.geometry.ops(stage).iter().map(|op| (op.name, op.len)).collect()
    }

    /// Opens a value of this computation, and has it judged.
    ///
    /// # Errors
    /// [`WitnessError::Place`] for a place that the computation lacks, and what computing the position again may bring.
    pub fn open(&self, place: &Place) -> Result<OpenedValue, WitnessError> {
        let dispute = self.lead(place)?;
        let (claim, opening) = (dispute.claim().clone(), self.tile(&dispute)?);
        let op = self.op(&dispute)?;
        let keys = match (op.kind, place.stage) {
            (Kind::Attention, Stage::Layer { layer }) => {
                Some(self.geometry.first_key(layer, place.position)..place.position + 1)
            }
            _ => None,
        };
        let inputs = op.inputs.iter().enumerate().filter_map(|(i, source)| {
            let range = self.reads(&op, i, place.element as usize)?;
            Some(self.values(&claim, *source).map(|row| InputRow {
                from: match source {
                    Source::Op(name) => Some(*name),
                    Source::Start => None,
                },
                hash: Hash32(*blake3::hash(&row).as_bytes()),
                first: range.start,
                values: floats(&row[range.start * 4..range.end * 4]),
            }))
        });
        Ok(OpenedValue {
            place: *place,
            inputs: inputs.collect::<Result<_, _>>()?,
            keys,
            leaf: self.leaf(place.position)?,
            proof: self.tree.prove(place.position.into()).ok_or(missing("such position"))?,
            verdict: judge(&claim, &opening),
            claim,
            opening,
        })
    }

    /// A dispute with oneself that ends at a place.
    fn lead(&self, place: &Place) -> Result<Dispute, WitnessError> {
        let index = self.check(place)?;
        let mut dispute = Dispute::open(self.subject())?;
        while !matches!(dispute.due(), Due::Tile | Due::Nothing(_)) {
            if let Some(answer) = self.answer(&dispute)? {
                dispute.answer(answer)?;
                continue;
            }
            let to = |index: usize| Pick::Index { index: index as u32 };
            let size = self.op(&dispute).map_or(4, |op| op.element_bytes());
            let at = place.element as usize * size;
            let pick = match dispute.due() {
                Due::Node { level, first, .. } => to((place.position >> level) as usize - *first as usize),
                Due::Stage => Pick::Stage { stage: place.stage },
                Due::Op => Pick::Op { op: index },
                Due::Group { .. } => to(at / CHUNK / group_chunks(self.op(&dispute)?.bytes())),
                Due::Element { slice } => to((at - slice.first as usize * CHUNK) / size),
                Due::Block { .. } => to(0),
                _ => self.pick(&dispute)?.ok_or(missing("such choice"))?,
            };
            dispute.pick(pick)?;
        }
        Ok(dispute)
    }

    /// The operation's place in its stage.
    fn check(&self, place: &Place) -> Result<u8, WitnessError> {
        let within = |what, found: u32, count: usize| match (found as usize) < count {
            true => Ok(()),
            false => Err(WitnessError::Place { what, found, last: count.saturating_sub(1) as u64 }),
        };
        within("position", place.position, self.fed.len())?;
        match place.stage {
            Stage::Layer { layer } => within("layer", layer, self.geometry.h.layers as usize)?,
            Stage::Logits | Stage::Choice if !self.subject().chooses(place.position) => {
                let first = self.request.prompt.len().saturating_sub(1) as u32;
                return Err(WitnessError::ChoosesNothing { position: place.position, first });
            }
            _ => {}
        }
        let ops = self.geometry.ops(place.stage);
        let index = ops.iter().position(|op| op.name == place.op);
        let index = index.ok_or(WitnessError::Operation { stage: place.stage, op: place.op })?;
        within("element", place.element, ops[index].len)?;
        Ok(index as u8)
    }

    /// Which values of its input `i` an element reads; `None` where it reads none, or not values.
    fn reads(&self, op: &OpPlan, i: usize, element: usize) -> Option<Range<usize>> {
        let d = self.geometry.h.head_size as usize;
        let head = |head: usize| head * d..(head + 1) * d;
        Some(match op.kind {
            Kind::Norm { weight } => {
                let cols = weight.shape(&self.geometry.h).0 as usize;
                let base = element / cols * cols;
                base..base + cols
            }
            Kind::Linear { weight } => 0..weight.shape(&self.geometry.h).0 as usize,
            Kind::Bias { .. } | Kind::Add | Kind::SiluMul => element..element + 1,
            Kind::Rope | Kind::Attention => head(element / d),
            Kind::Entry => {
                let (at, field) = (element / (2 + 2 * d), element % (2 + 2 * d));
                let input = if field < 2 { field } else { (field - 2) / d };
                (input == i).then(|| head(at))?
            }
            // A choice looks at every logit.
            Kind::Choice => 0..self.geometry.h.vocabulary as usize,
            Kind::Token | Kind::Embed { .. } => return None,
        })
    }
}
