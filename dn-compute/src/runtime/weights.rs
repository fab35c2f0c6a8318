//! A model's weights in a backend's form.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dn_core::objects::{Hyperparameters, RopeScaling};
use rayon::prelude::*;

use super::Backends;
use crate::engine::EngineError;
use crate::model::layout::Slot;
use crate::model::{Model, ModelError, ModelFront, Tensor};
use crate::spec::{LayerWeights, Matrix, Vector};

/// All weights.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) embedding: Matrix,
    pub(super) rope_factors: Option<Arc<[f32]>>,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) output_norm: Vector,
    pub(super) output: Matrix,
}

/// Tensors in a backend's form, until all are there.
#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<HashMap<Slot, ReadyTensor>>);

#[derive(Debug)]
enum ReadyTensor {
    Matrix(Matrix),
    Vector(Vec<f32>),
}

impl Ready {
    /// Every tensor of a model.
    fn all(model: &Model, backends: &Backends) -> Result<Self, EngineError> {
        let (ready, slots) = (Self::default(), model.slots().collect::<Vec<_>>());
        slots.into_par_iter().try_for_each(|slot| ready.add(backends, slot, model.tensor(slot)?))?;
        Ok(ready)
    }

    /// Brings a tensor into the form of the backend that has it.
    pub(crate) fn add(&self, backends: &Backends, slot: Slot, tensor: Tensor) -> Result<(), EngineError> {
        let tensor = match tensor {
            Tensor::Matrix(matrix) => ReadyTensor::Matrix(backends.at(slot.place()).prepare(matrix)?),
            Tensor::Vector(values) => ReadyTensor::Vector(values),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, tensor);
        Ok(())
    }
}

struct Loader {
    tensors: HashMap<Slot, ReadyTensor>,
}

impl Weights {
    /// Bytes that the backend's form takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let layer = |l: &LayerWeights| {
            let matrices = [&l.query, &l.key, &l.value, &l.attention_output, &l.gate, &l.up, &l.down];
            matrices.iter().map(|m| m.memory_bytes()).sum::<usize>()
        };
        let ends = self.embedding.memory_bytes()
            + if Arc::ptr_eq(&self.embedding, &self.output) { 0 } else { self.output.memory_bytes() };
        ends + self.layers.iter().map(layer).sum::<usize>()
    }

    pub(super) fn prepare(model: &Model, backends: &Backends) -> Result<Self, EngineError> {
        Self::collect(model.front(), Ready::all(model, backends)?)
    }

    /// Puts each tensor in its place.
    pub(super) fn collect(front: &ModelFront, ready: Ready) -> Result<Self, EngineError> {
        let mut load = Loader { tensors: ready.0.into_inner().unwrap_or_else(PoisonError::into_inner) };
        let h = front.hyperparameters();
        let embedding = load.matrix(Slot::Embedding)?;
        let output = if h.tied_embeddings { Arc::clone(&embedding) } else { load.matrix(Slot::Output)? };
        let rope_factors = match h.rope_scaling {
            RopeScaling::Factors {} => Some(load.vector(Slot::RopeFactors)?.to_vec().into()),
            _ => None,
        };
        let layers: Result<Vec<_>, _> = (0..h.layers).map(|l| load.layer(l, h)).collect();
        Ok(Self {
            embedding,
            rope_factors,
            layers: layers?,
            output_norm: load.vector(Slot::OutputNorm)?,
            output,
        })
    }
}

impl Loader {
    fn layer(&mut self, l: u32, h: &Hyperparameters) -> Result<LayerWeights, EngineError> {
        let biases = if h.attention_bias {
            Some([
                self.vector(Slot::QueryBias(l))?,
                self.vector(Slot::KeyBias(l))?,
                self.vector(Slot::ValueBias(l))?,
            ])
        } else {
            None
        };
        let head_norms = if h.head_norms {
            Some([self.vector(Slot::QueryNorm(l))?, self.vector(Slot::KeyNorm(l))?])
        } else {
            None
        };
        let output_bias = if h.output_bias { Some(self.vector(Slot::OutputBias(l))?) } else { None };
        Ok(LayerWeights {
            attention_norm: self.vector(Slot::AttentionNorm(l))?,
            query: self.matrix(Slot::Query(l))?,
            key: self.matrix(Slot::Key(l))?,
            value: self.matrix(Slot::Value(l))?,
            biases,
            head_norms,
            output_bias,
            attention_output: self.matrix(Slot::AttentionOutput(l))?,
            ffn_norm: self.vector(Slot::FfnNorm(l))?,
            gate: self.matrix(Slot::Gate(l))?,
            up: self.matrix(Slot::Up(l))?,
            down: self.matrix(Slot::Down(l))?,
        })
    }

    fn matrix(&mut self, slot: Slot) -> Result<Matrix, EngineError> {
        match self.take(slot)? {
            ReadyTensor::Matrix(matrix) => Ok(matrix),
            ReadyTensor::Vector(_) => unreachable!("the layout gives {slot:?} rows"),
        }
    }

    fn vector(&mut self, slot: Slot) -> Result<Vector, EngineError> {
        match self.take(slot)? {
            ReadyTensor::Vector(values) => Ok(values.into()),
            ReadyTensor::Matrix(_) => unreachable!("the layout gives {slot:?} no rows"),
        }
    }

    fn take(&mut self, slot: Slot) -> Result<ReadyTensor, ModelError> {
        self.tensors.remove(&slot).ok_or_else(|| ModelError::MissingTensor { name: format!("{slot:?}") })
    }
}
