//! Which backend has which part of a decoder.

use std::sync::Arc;

use dn_core::objects::Hyperparameters;
use serde::Serialize;

use crate::spec::{Backend, BackendInfo, DeviceFailure};
use crate::tensors::Slot;

/// A part of a decoder that one backend computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Tokens to the residual stream.
    Embedding,
    /// A layer.
    Layer(u32),
    /// The residual stream to logits.
    Output,
}

impl Slot {
    /// The part that a tensor belongs to.
    pub(crate) const fn place(self) -> Place {
        match self {
            // The factors are the host's in any case.
            Self::Embedding | Self::RopeFactors => Place::Embedding,
            Self::OutputNorm | Self::Output => Place::Output,
            Self::AttentionNorm(l)
            | Self::Query(l)
            | Self::Key(l)
            | Self::Value(l)
            | Self::QueryBias(l)
            | Self::KeyBias(l)
            | Self::ValueBias(l)
            | Self::QueryNorm(l)
            | Self::KeyNorm(l)
            | Self::AttentionOutput(l)
            | Self::OutputBias(l)
            | Self::FfnNorm(l)
            | Self::Gate(l)
            | Self::Up(l)
            | Self::Down(l) => Place::Layer(l),
        }
    }
}

/// What of a model is a device's; the rest is the CPU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Split {
    /// The first so many layers.
    pub layers: u32,
    /// The lookup of tokens.
    pub embedding: bool,
    /// The logits.
    pub output: bool,
}

impl Split {
    /// Nothing.
    pub const NONE: Self = Self { layers: 0, embedding: false, output: false };

    /// Everything of a model.
    pub const fn whole(h: &Hyperparameters) -> Self {
        Self { layers: h.layers, embedding: true, output: true }
    }

    /// As a model can have it: no more layers than there are, and a matrix that is embedding and output at once in one place.
    #[must_use]
    pub const fn of(self, h: &Hyperparameters) -> Self {
        let layers = if self.layers < h.layers { self.layers } else { h.layers };
        let embedding = if h.tied_embeddings { self.output } else { self.embedding };
        Self { layers, embedding, output: self.output }
    }

    /// Whether a part is the device's.
    pub(crate) const fn has(&self, place: Place) -> bool {
        match place {
            Place::Embedding => self.embedding,
            Place::Layer(layer) => layer < self.layers,
            Place::Output => self.output,
        }
    }
}

/// One backend for a whole decoder, or two that share it. That every backend gives the same bits is what makes sharing free of
/// consequences.
#[derive(Debug)]
pub struct Backends {
    first: Arc<dyn Backend>,
    rest: Option<(Split, Arc<dyn Backend>)>,
}

impl From<Arc<dyn Backend>> for Backends {
    fn from(first: Arc<dyn Backend>) -> Self {
        Self { first, rest: None }
    }
}

impl From<Box<dyn Backend>> for Backends {
    fn from(first: Box<dyn Backend>) -> Self {
        Arc::<dyn Backend>::from(first).into()
    }
}

impl Backends {
    /// `device` has what `split` says, `cpu` the rest.
    pub fn split(device: Arc<dyn Backend>, cpu: Arc<dyn Backend>, split: Split) -> Self {
        Self { first: device, rest: Some((split, cpu)) }
    }

    /// As a model can have them.
    pub(super) fn of_model(mut self, h: &Hyperparameters) -> Self {
        if let Some((split, _)) = &mut self.rest {
            *split = split.of(h);
        }
        self
    }

    /// Where parts are split between two backends: how.
    pub fn shared(&self) -> Option<Split> {
        self.rest.as_ref().map(|(split, _)| *split)
    }

    /// What of a model the first of them has.
    pub(crate) const fn share(&self, h: &Hyperparameters) -> Split {
        match &self.rest {
            Some((split, _)) => *split,
            None => Split::whole(h),
        }
    }

    /// The backend of a part.
    pub(crate) fn at(&self, place: Place) -> &dyn Backend {
        match &self.rest {
            Some((split, rest)) if !split.has(place) => rest.as_ref(),
            _ => self.first.as_ref(),
        }
    }

    /// What computes: of two backends the device, with the threads of both.
    pub(super) fn info(&self) -> BackendInfo {
        let info = self.first.info();
        match &self.rest {
            Some((_, rest)) => BackendInfo { threads: info.threads.max(rest.info().threads), ..info },
            None => info,
        }
    }

    /// Why nothing can be computed any more.
    pub(crate) fn failure(&self) -> Option<DeviceFailure> {
        self.first.failure().or_else(|| self.rest.as_ref()?.1.failure())
    }

    /// Runs a job close to the threads of that which has some.
    pub(crate) fn enter(&self, job: &mut (dyn FnMut() + Send)) {
        match &self.rest {
            Some((_, rest)) => rest.enter(job),
            None => self.first.enter(job),
        }
    }
}
