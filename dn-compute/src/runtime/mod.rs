//! The decoder: layers over any backend, or two that share them, keys and values of each sequence, and its trace.
//!
//! Every operation of a [`Backend`] gives each row bits that depend on that row and the positions before it only. So
//! how tokens are cut into chunks, and which sequences share a step, cannot matter: decoding one by one equals one pass
//! over all.

mod open;
mod pass;
mod places;
mod scratch;
mod session;
mod step;
mod weights;

use std::sync::{Arc, PoisonError, RwLock};

use dn_core::objects::Hyperparameters;

pub(crate) use places::Place;
pub use places::{Backends, Split};
pub use session::Session;
pub(crate) use session::SessionPage;
pub use step::{LogitsRow, OnRows, Part, StepError};

use crate::engine::EngineError;
use crate::model::{Model, ModelFront};
use crate::spec::attention::KEY_BLOCK;
use crate::spec::{Backend, BackendInfo, KvLayer, KvShape, Mask, NumericError, RopeTable};
use crate::tensors::rope_spec;
pub(crate) use open::{Observer, PositionRows, Stuck};
pub(crate) use scratch::scratch_bytes;
use scratch::{Pool, Scratch};
pub(crate) use step::logits_rows;
pub(crate) use weights::Ready;
use weights::Weights;

/// Most logits computed at a time: 64 rows of the largest common vocabularies, since a pass over the vocabulary's weights
/// costs about the same for one row as for sixteen.
const MAX_LOGITS: usize = 10 << 20;
/// Positions of the first rope table; it doubles whenever a sequence goes beyond it.
const FIRST_ROPE: usize = 1024;

/// What takes a row of logits: the position and the logits.
pub type OnLogits<'a> = dyn FnMut(u32, &[f32]) + Send + 'a;

/// A model on a backend.
#[derive(Debug)]
pub struct Decoder {
    backends: Backends,
    weights: Weights,
    rope: RwLock<Arc<RopeTable>>,
    hyper: Hyperparameters,
    scratch: Pool,
}

impl Decoder {
    /// Prepares a model's weights for a backend.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(model: &Model, backend: Box<dyn Backend>) -> Result<Self, EngineError> {
        Self::on(model, backend)
    }

    /// Prepares a model's weights for a backend, or for two that share it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn on(model: &Model, backends: impl Into<Backends>) -> Result<Self, EngineError> {
        let backends = backends.into().of_model(model.front().hyperparameters());
        let weights = Weights::prepare(model, &backends)?;
        Self::assemble(model.front(), weights, backends)
    }

    /// A decoder whose tensors are ready.
    pub(crate) fn collect(front: &ModelFront, ready: Ready, backends: Backends) -> Result<Self, EngineError> {
        Self::assemble(front, Weights::collect(front, ready)?, backends)
    }

    fn assemble(front: &ModelFront, weights: Weights, backends: Backends) -> Result<Self, EngineError> {
        let hyper = front.hyperparameters().clone();
        let rope = RopeTable::new(
            rope_spec(&hyper, weights.rope_factors.clone()),
            FIRST_ROPE.min(hyper.context as usize),
        )?;
        Ok(Self { backends, weights, rope: RwLock::new(Arc::new(rope)), hyper, scratch: Pool::default() })
    }

    /// What the backend is.
    pub fn info(&self) -> BackendInfo {
        self.backends.info()
    }

    /// What computes which part.
    pub const fn backends(&self) -> &Backends {
        &self.backends
    }

    /// Bytes that the weights take in the backend's form.
    ///
    /// # Units
    /// Bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.memory_bytes() as u64
    }

    /// Runs `job` close to the backend's threads.
    pub fn enter(&self, job: &mut (dyn FnMut() + Send)) {
        self.backends.enter(job);
    }

    /// An empty sequence of at most `positions`.
    ///
    /// # Errors
    /// [`NumericError`] for no positions, or more than the numeric spec allows.
    pub fn session(&self, positions: usize) -> Result<Session, NumericError> {
        self.empty_session(positions, true)
    }

    /// An empty sequence without a trace: nothing can be proved of what it computes.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub fn untraced_session(&self, positions: usize) -> Result<Session, NumericError> {
        self.empty_session(positions, false)
    }

    fn empty_session(&self, positions: usize, traced: bool) -> Result<Session, NumericError> {
        let h = &self.hyper;
        let (heads, head_dim) = (h.kv_heads as usize, h.head_size as usize);
        let shape = KvShape { heads, head_dim, capacity: positions };
        let kv: Result<Vec<_>, _> =
            (0..h.layers).map(|l| self.backends.at(Place::Layer(l)).kv_layer(shape)).collect();
        Ok(Session::new(kv?, traced))
    }

    /// Bytes that keys and values of so many positions take: whole pages.
    ///
    /// # Units
    /// Bytes.
    pub fn kv_bytes(&self, positions: usize) -> u64 {
        let h = &self.hyper;
        KvLayer::page_bytes(h.kv_heads as usize, h.head_size as usize)
            * u64::from(h.layers)
            * positions.div_ceil(KEY_BLOCK) as u64
    }

    /// Feeds tokens to one sequence; calls `on_logits` for each position from `logits_from` on.
    ///
    /// # Errors
    /// [`NumericError`]; the session then is as it was before.
    pub fn feed(
        &self,
        session: &mut Session,
        tokens: &[u32],
        logits_from: usize,
        on_logits: &mut OnLogits<'_>,
    ) -> Result<(), NumericError> {
        let vocabulary = self.hyper.vocabulary as usize;
        let part = Part { session, tokens, logits_from };
        let fed = self.step(&mut [part], &|| false, &mut |rows, logits| {
            for (row, logits) in rows.iter().zip(logits.chunks_exact(vocabulary)) {
                on_logits(row.position, logits);
            }
        });
        match fed {
            Ok(()) => Ok(()),
            Err(StepError::Numeric(error)) => Err(error),
            Err(StepError::Aborted) => unreachable!("nobody gave the step up"),
        }
    }

    /// Which keys a query sees.
    fn mask(&self) -> Mask {
        match self.hyper.window {
            Some(positions) => Mask::Window { positions: positions as usize },
            None => Mask::Causal,
        }
    }

    /// A table of at least `positions`, as far as the model's context goes: it grows with what is used.
    fn rope(&self, positions: usize) -> Result<Arc<RopeTable>, NumericError> {
        let table = Arc::clone(&self.rope.read().unwrap_or_else(PoisonError::into_inner));
        if positions <= table.positions() || table.positions() >= self.hyper.context as usize {
            return Ok(table);
        }
        let size = positions.next_power_of_two().min(self.hyper.context as usize);
        let grown = Arc::new(RopeTable::new(table.spec().clone(), size)?);
        let mut held = self.rope.write().unwrap_or_else(PoisonError::into_inner);
        if held.positions() < grown.positions() {
            *held = Arc::clone(&grown);
        }
        Ok(grown)
    }
}

#[cfg(test)]
mod tests;
