//! An encoder's weights in a backend's form.

use super::EncoderError;
use crate::model::Tensor;
use crate::spec::{Backend, Matrix, NumericError, QuantMatrix};

/// A matrix and what is added to its product.
#[derive(Debug)]
pub(super) struct Dense {
    pub(super) weight: Matrix,
    pub(super) bias: Vec<f32>,
}

/// Weight and bias of a layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) query: Dense,
    pub(super) key: Dense,
    pub(super) value: Dense,
    pub(super) attention_output: Dense,
    pub(super) attention_norm: Norm,
    pub(super) up: Dense,
    pub(super) down: Dense,
    pub(super) output_norm: Norm,
}

/// All weights.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) word: Matrix,
    pub(super) position: Matrix,
    /// The embedding of token type 0.
    pub(super) text_type: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

impl Weights {
    /// Prepares tensors that come in the layout's order.
    pub(super) fn prepare(
        tensors: Vec<Tensor>,
        layers: u32,
        backend: &dyn Backend,
    ) -> Result<Self, EncoderError> {
        let mut load = Loader { tensors: tensors.into_iter(), backend };
        let (word, position) = (load.matrix()?, load.matrix()?);
        let types = load.backend.prepare(load.quantised())?;
        let mut text_type = vec![0.0; types.cols()];
        backend.embed(&types, &[0], &mut text_type)?;
        let norm = load.norm();
        let layers: Result<Vec<_>, _> = (0..layers).map(|_| load.layer()).collect();
        Ok(Self { word, position, text_type, norm, layers: layers? })
    }
}

struct Loader<'a> {
    tensors: std::vec::IntoIter<Tensor>,
    backend: &'a dyn Backend,
}

impl Loader<'_> {
    fn layer(&mut self) -> Result<Layer, NumericError> {
        Ok(Layer {
            query: self.dense()?,
            key: self.dense()?,
            value: self.dense()?,
            attention_output: self.dense()?,
            attention_norm: self.norm(),
            up: self.dense()?,
            down: self.dense()?,
            output_norm: self.norm(),
        })
    }

    fn dense(&mut self) -> Result<Dense, NumericError> {
        Ok(Dense { weight: self.matrix()?, bias: self.vector() })
    }

    fn norm(&mut self) -> Norm {
        Norm { weight: self.vector(), bias: self.vector() }
    }

    fn matrix(&mut self) -> Result<Matrix, NumericError> {
        let matrix = self.quantised();
        self.backend.prepare(matrix)
    }

    fn quantised(&mut self) -> QuantMatrix {
        match self.tensors.next() {
            Some(Tensor::Matrix(matrix)) => matrix,
            _ => unreachable!("the layout has a matrix here"),
        }
    }

    fn vector(&mut self) -> Vec<f32> {
        match self.tensors.next() {
            Some(Tensor::Vector(values)) => values,
            _ => unreachable!("the layout has a vector here"),
        }
    }
}
