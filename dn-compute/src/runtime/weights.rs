//! A model's weights in a backend's form.

use std::sync::Arc;

use dn_core::objects::{Hyperparameters, RopeScaling};
use rayon::prelude::*;

use crate::engine::EngineError;
use crate::model::Model;
use crate::model::Tensor;
use crate::model::layout::Slot;
use crate::spec::{Backend, Matrix};

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Matrix,
    pub(super) key: Matrix,
    pub(super) value: Matrix,
    /// Of query, key and value, where the architecture has them.
    pub(super) biases: Option<[Vec<f32>; 3]>,
    /// Of query and key heads, where the architecture has them.
    pub(super) head_norms: Option<[Vec<f32>; 2]>,
    pub(super) attention_output: Matrix,
    pub(super) output_bias: Option<Vec<f32>>,
    pub(super) ffn_norm: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

/// All weights.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) embedding: Matrix,
    pub(super) rope_factors: Option<Arc<[f32]>>,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Vec<f32>,
    pub(super) output: Matrix,
}

struct Loader<'a> {
    model: &'a Model,
    backend: &'a dyn Backend,
}

impl Weights {
    pub(super) fn prepare(model: &Model, backend: &dyn Backend) -> Result<Self, EngineError> {
        let load = Loader { model, backend };
        let h = model.front().hyperparameters();
        let embedding = load.matrix(Slot::Embedding)?;
        let output = if h.tied_embeddings { Arc::clone(&embedding) } else { load.matrix(Slot::Output)? };
        let rope_factors = match h.rope_scaling {
            RopeScaling::Factors {} => Some(load.vector(Slot::RopeFactors)?.into()),
            _ => None,
        };
        let layers: Result<Vec<_>, _> = (0..h.layers).into_par_iter().map(|l| load.layer(l, h)).collect();
        Ok(Self {
            embedding,
            rope_factors,
            layers: layers?,
            output_norm: load.vector(Slot::OutputNorm)?,
            output,
        })
    }
}

impl Loader<'_> {
    fn layer(&self, l: u32, h: &Hyperparameters) -> Result<Layer, EngineError> {
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
        Ok(Layer {
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

    fn matrix(&self, slot: Slot) -> Result<Matrix, EngineError> {
        match self.model.tensor(slot)? {
            Tensor::Matrix(matrix) => Ok(self.backend.prepare(matrix)?),
            Tensor::Vector(_) => unreachable!("the layout gives {slot:?} rows"),
        }
    }

    fn vector(&self, slot: Slot) -> Result<Vec<f32>, EngineError> {
        match self.model.tensor(slot)? {
            Tensor::Vector(values) => Ok(values),
            Tensor::Matrix(_) => unreachable!("the layout gives {slot:?} no rows"),
        }
    }
}
