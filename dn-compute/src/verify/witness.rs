//! A computation that can be opened at any place: the worker's own, or the auditor's replay of it.
//!
//! Nothing finer than leaves is kept: the rows of a position are computed again when they are asked for.

pub use self::choice::ChoiceWitness;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use dn_core::merkle::{InclusionProof, MerkleTree};
use dn_core::objects::{Decoding, JobRequest};
use dn_core::{Canonical, Hash32};

use super::claim::{
    Claim, KeyBlock, KeyTerm, Opening, Parts, PastEntry, RANGE, RequestSlice, Subject, Sum, WeightSlice,
};
use super::dispute::{Answer, Dispute, Due, MoveError, Pick};
use super::plan::{Geometry, Kind, ManifestError, OpName, OpPlan, Source, Stage};
use super::referee::{attention as tiles, attention_parts, ranges, sums};
use super::slice::{CHUNK, Slice, group_chunks, list};
use crate::model::{Model, ModelError, Tensor};
use crate::runtime::{Decoder, Observer, PositionRows, Session, Stuck};
use crate::sampling::{Sampler, Scratch};
use crate::spec::NumericError;
use crate::spec::linear::exact_sum;
use crate::tensors::Slot;
use crate::trace::Leaf;

/// Why something cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The computation left the numbers that the spec allows.
    #[error(transparent)]
    Numeric(#[from] NumericError),
    /// The weights cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's sizes are outside what disputes handle.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A dispute refused what this computation moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The computation does not go so far.
    #[error("there is no {what} {found}: they go from 0 to {last}")]
    Place {
        /// What is counted.
        what: &'static str,
        /// What was asked for.
        found: u32,
        /// The last one.
        last: u64,
    },
    /// A position inside the prompt.
    #[error("position {position} chooses no token and has no logits: the first that does is {first}")]
    ChoosesNothing {
        /// The position.
        position: u32,
        /// The first position that chooses.
        first: u32,
    },
    /// A stage without that operation.
    #[error("{stage} has no operation `{op}`")]
    Operation {
        /// The stage.
        stage: Stage,
        /// The operation.
        op: OpName,
    },
    /// There is no such thing in the computation.
    #[error("the computation has no {what}")]
    Missing {
        /// What was asked for.
        what: &'static str,
    },
}

const fn missing(what: &'static str) -> WitnessError {
    WitnessError::Missing { what }
}

/// What a cheating worker does to its rows; an honest one has none.
type Cheat<'a> = dyn Fn(u32, Stage, OpName, &mut [f32]) + 'a;

/// A computation that can be opened.
pub struct Witness<'a> {
    model: &'a Model,
    decoder: &'a Decoder,
    geometry: Geometry,
    request: &'a JobRequest,
    output: &'a [u32],
    fed: Vec<u32>,
    session: Session,
    tree: MerkleTree,
    /// The rows asked for last.
    rows: Mutex<Option<(u32, PositionRows)>>,
    cheat: Option<&'a Cheat<'a>>,
    /// The first position whose choice is not the sampler's, where that is known.
    wrong_choice: Option<u32>,
    /// The position that could not be computed to its end, and where it ended.
    stuck: Option<(u32, Stuck)>,
}

impl std::fmt::Debug for Witness<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("positions", &self.fed.len()).finish_non_exhaustive()
    }
}

impl<'a> Witness<'a> {
    /// Computes prompt and output in one pass.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub(crate) fn replay(
        model: &'a Model,
        decoder: &'a Decoder,
        request: &'a JobRequest,
        output: &'a [u32],
        chunk: usize,
    ) -> Result<Self, WitnessError> {
        let fed = fed(request, output);
        let mut session = decoder.session(fed.len().max(1))?;
        session.detail();
        let (from, mut wrong_choice) = (request.prompt.len().saturating_sub(1), None);
        // What the referee can judge.
        let judged = super::choice::is_judged(&request.decoding).is_ok();
        let decoding = Decoding { logprobs: None, ..request.decoding.clone() };
        let vocabulary = model.front().vocabulary();
        let mut sampler = judged
            .then(|| Sampler::assemble(&request.prompt, &request.sampling, &decoding, None, vocabulary));
        let (mut scratch, mut chosen) = (Scratch::default(), from as u32);
        let mut judge = |position: u32, logits: &[f32]| {
            // A position that is fed again, because something after it failed, was judged.
            if position < chosen {
                return;
            }
            chosen = position + 1;
            let theirs = output.get(position as usize - from).copied();
            let right = match &mut sampler {
                None => true,
                // Settings that nobody serves have no right choice.
                Some(Err(_)) => false,
                Some(Ok(sampler)) => {
                    let own = sampler.choose(logits, &mut scratch).token;
                    theirs.into_iter().for_each(|token| {
                        sampler.accept(token);
                    });
                    theirs == Some(own)
                }
            };
            if !right && wrong_choice.is_none() {
                wrong_choice = Some(position);
            }
        };
        // A token that does not exist cannot be fed. The choice before it is wrong, or else the prompt is, and that is where a
        // dispute leads.
        let known = fed.iter().position(|token| *token >= vocabulary).unwrap_or(fed.len());
        for part in fed[..known].chunks(chunk) {
            match decoder.feed(&mut session, part, from, &mut judge) {
                Err(error) if leaves_range(&error) => {}
                fed => {
                    fed?;
                    continue;
                }
            }
            // One by one, to the position whose computation leaves the numbers that the spec allows: no worker can have
            // gone on from there.
            let alone =
                |token: &u32| decoder.feed(&mut session, std::slice::from_ref(token), from, &mut judge);
            if part.iter().map(alone).any(|fed| fed.is_err()) {
                break;
            }
        }
        let mut out = Self::assemble(model, decoder, request, output, session, None, wrong_choice)?;
        out.stuck = out.first_without_result(known);
        Ok(out)
    }

    /// The position that follows the last one computed, if it is among the `known` ones.
    fn first_without_result(&self, known: usize) -> Option<(u32, Stuck)> {
        let position = self.session.len();
        let token = *self.fed[..known].get(position)?;
        let with_logits = position + 1 >= self.request.prompt.len();
        let mut session = self.session.clone();
        let (_, stuck) = self.decoder.open_so_far(&mut session, token, with_logits, &mut |_, _, _, _| {});
        stuck.map(|(stuck, _)| (position as u32, stuck))
    }

    /// Computes as a worker that changes rows does, one position at a time, feeding `tokens`.
    #[cfg(test)]
    pub(crate) fn cheating(
        model: &'a Model,
        decoder: &'a Decoder,
        request: &'a JobRequest,
        output: &'a [u32],
        tokens: &[u32],
        cheat: &'a Cheat<'a>,
    ) -> Result<Self, WitnessError> {
        let mut session = decoder.session(tokens.len())?;
        session.detail();
        for (position, token) in tokens.iter().enumerate() {
            let with_logits = position + 1 >= request.prompt.len();
            decoder.open_position(&mut session, *token, with_logits, &mut |p, s, n, x| cheat(p, s, n, x))?;
        }
        let mut out = Self::assemble(model, decoder, request, output, session, Some(cheat), None)?;
        out.fed = tokens.to_vec();
        Ok(out)
    }

    /// A worker with a sequence that somebody else computed for it.
    #[cfg(test)]
    pub(crate) fn with_session(
        model: &'a Model,
        decoder: &'a Decoder,
        request: &'a JobRequest,
        output: &'a [u32],
        session: Session,
    ) -> Result<Self, WitnessError> {
        Self::assemble(model, decoder, request, output, session, None, None)
    }

    fn assemble(
        model: &'a Model,
        decoder: &'a Decoder,
        request: &'a JobRequest,
        output: &'a [u32],
        session: Session,
        cheat: Option<&'a Cheat<'a>>,
        wrong_choice: Option<u32>,
    ) -> Result<Self, WitnessError> {
        Ok(Self {
            geometry: Geometry::new(model.manifest())?,
            tree: session.trace().tree(),
            fed: fed(request, output),
            rows: Mutex::new(None),
            model,
            decoder,
            request,
            output,
            session,
            cheat,
            wrong_choice,
            stuck: None,
        })
    }

    /// The commitment.
    pub fn root(&self) -> Hash32 {
        self.tree.root()
    }

    /// The first position whose choice is not the sampler's; `None` also under a grammar, where the referee judges no choice.
    pub const fn wrong_choice(&self) -> Option<u32> {
        self.wrong_choice
    }

    /// The subject of a dispute about this computation, as its own receipt would bind it.
    pub fn subject(&self) -> Subject {
        Subject {
            manifest: self.model.manifest().clone(),
            trace_root: self.root(),
            job: self.request.id(),
            output_hash: dn_core::objects::token_hash(self.output),
            prompt_tokens: self.request.prompt.len() as u32,
            output_tokens: self.output.len() as u32,
        }
    }

    /// What the leaf of a position binds.
    ///
    /// # Errors
    /// [`WitnessError::Missing`] for a position that was not fed.
    pub fn leaf(&self, position: u32) -> Result<Leaf, WitnessError> {
        self.session.trace().leaf(position).ok_or(missing("such position"))
    }

    /// The operations of a stage with the hashes of what they give.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn hashes(&self, position: u32, stage: Stage) -> Result<Vec<(OpName, Hash32)>, WitnessError> {
        let hash = |op: &OpPlan| {
            let row = self.row(position, stage, op.name)?;
            Ok((op.name, Hash32(*blake3::hash(&row).as_bytes())))
        };
        self.geometry.ops(stage).iter().map(hash).collect()
    }

    /// The bytes of what an operation gives.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn row(&self, position: u32, stage: Stage, name: OpName) -> Result<Vec<u8>, WitnessError> {
        let mut kept = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(at, _)| *at != position) {
            let token = *self.fed.get(position as usize).ok_or(missing("such position"))?;
            if position as usize > self.session.len() {
                return Err(missing("such position"));
            }
            let mut session = self.session.prefix(position as usize);
            let with_logits = position as usize + 1 >= self.request.prompt.len();
            let mut honest = |_: u32, _: Stage, _: OpName, _: &mut [f32]| {};
            let mut cheat = |p: u32, s: Stage, n: OpName, x: &mut [f32]| {
                if let Some(cheat) = self.cheat {
                    cheat(p, s, n, x);
                }
            };
            let observe: &mut Observer<'_> = if self.cheat.is_some() { &mut cheat } else { &mut honest };
            let rows = match self.stuck {
                Some((at, _)) if at == position => {
                    self.decoder.open_so_far(&mut session, token, with_logits, observe).0
                }
                _ => self.decoder.open_position(&mut session, token, with_logits, observe)?,
            };
            *kept = Some((position, rows));
        }
        let rows = kept.as_ref().and_then(|(_, rows)| rows.get(stage, name));
        rows.map(<[u8]>::to_vec).ok_or(missing("such operation"))
    }

    /// The choice that a claim is about.
    fn choice(&self, claim: &Claim) -> Result<ChoiceWitness<'a>, WitnessError> {
        let logits = floats(&self.row(claim.position, Stage::Logits, OpName::Logits)?);
        let index = (claim.position + 1).checked_sub(self.request.prompt.len() as u32);
        let choice = index.and_then(|index| ChoiceWitness::new(self.request, self.output, index, logits));
        choice.ok_or(missing("such output token"))
    }

    fn values(&self, claim: &Claim, source: Source) -> Result<Vec<u8>, WitnessError> {
        match (source, claim.stage) {
            (Source::Op(name), stage) => self.row(claim.position, stage, name),
            (Source::Start, Stage::Layer { layer: 0 }) => {
                self.row(claim.position, Stage::Embedding, OpName::Embedding)
            }
            (Source::Start, Stage::Layer { layer }) => {
                self.row(claim.position, Stage::Layer { layer: layer - 1 }, OpName::FfnResidual)
            }
            (Source::Start, Stage::Choice) => self.row(claim.position, Stage::Logits, OpName::Logits),
            (Source::Start, _) => {
                let layer = self.geometry.h.layers - 1;
                self.row(claim.position, Stage::Layer { layer }, OpName::FfnResidual)
            }
        }
    }
}

/// Whether an error says that the numbers are too large, and not that the call is wrong.
const fn leaves_range(error: &NumericError) -> bool {
    matches!(
        error,
        NumericError::Overflow { .. } | NumericError::Range { .. } | NumericError::NonFinite { .. }
    )
}

/// The tokens that are fed for a request and its output.
fn fed(request: &JobRequest, output: &[u32]) -> Vec<u32> {
    [&request.prompt, &output[..output.len().saturating_sub(1)]].concat()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

mod answers;
mod choice;
mod open;
mod picks;

pub use open::{InputRow, OpenedValue, Place};
