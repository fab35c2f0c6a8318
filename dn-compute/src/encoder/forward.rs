//! The way of some texts through the layers.

use std::ops::Range;

use super::trace::{Leaves, vector_leaf};
use super::weights::{Dense, Layer, Norm};
use super::{Embedding, Encoder};
use crate::spec::pool::pool;
use crate::spec::{Backend, KvShape, Mask, NumericError};

/// One pass's values.
struct Pass<'a> {
    backend: &'a dyn Backend,
    epsilon: f32,
    heads: usize,
    /// The positions of each text in the pass.
    texts: Vec<Range<usize>>,
    tokens: usize,
    /// The residual stream.
    x: Vec<f32>,
    /// What goes into and comes out of a block.
    h: Vec<f32>,
}

impl Encoder {
    /// Embeds texts in one pass. Their rows meet in the calls of linear layers, which keep rows apart; attention and
    /// pooling see one text at a time.
    pub(super) fn forward(&self, texts: &[&[u32]]) -> Result<Vec<Embedding>, NumericError> {
        let hyper = self.front.hyperparameters();
        let (width, backend) = (hyper.width as usize, self.backend.as_ref());
        let mut end = 0;
        let range = |text: &&[u32]| {
            end += text.len();
            end - text.len()..end
        };
        let ranges: Vec<Range<usize>> = texts.iter().map(range).collect();
        let tokens = texts.concat();
        let positions: Vec<u32> = texts.iter().flat_map(|text| 0..text.len() as u32).collect();
        let mut pass = Pass {
            backend,
            epsilon: f32::from_bits(hyper.norm_epsilon_bits),
            heads: hyper.heads as usize,
            texts: ranges,
            tokens: tokens.len(),
            x: vec![0.0; tokens.len() * width],
            h: vec![0.0; tokens.len() * width],
        };
        let mut leaves = Leaves::new(&tokens, &positions, hyper.layers + 1);
        let weights = &self.weights;
        backend.embed(&weights.word, &tokens, &mut pass.x)?;
        backend.embed(&weights.position, &positions, &mut pass.h)?;
        backend.add(&mut pass.x, &pass.h)?;
        backend.add(&mut pass.x, &weights.text_type)?;
        pass.norm(&weights.norm)?;
        leaves.boundary(&pass.x);
        for layer in &weights.layers {
            pass.attention(layer)?;
            pass.feed_forward(layer)?;
            leaves.boundary(&pass.x);
        }
        let embedding = |range: &Range<usize>| {
            let rows = &pass.x[range.start * width..range.end * width];
            let vector = pool(hyper.pooling, width, rows)?;
            let trace = leaves.finish(range.clone(), vector_leaf(hyper.pooling, &vector));
            Ok(Embedding { vector, trace })
        };
        pass.texts.iter().map(embedding).collect()
    }
}

impl Pass<'_> {
    /// `x = norm(x)`.
    fn norm(&mut self, norm: &Norm) -> Result<(), NumericError> {
        self.backend.layer_norm(&norm.weight, &norm.bias, self.epsilon, &self.x, &mut self.h)?;
        std::mem::swap(&mut self.x, &mut self.h);
        Ok(())
    }

    fn attention(&mut self, layer: &Layer) -> Result<(), NumericError> {
        let (b, len) = (self.backend, self.x.len());
        let (mut q, mut k, mut v) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        let [query, key, value] = [&layer.query, &layer.key, &layer.value];
        let weights = [&query.weight, &key.weight, &value.weight];
        b.linear(&weights, &self.x, self.tokens, &mut [&mut q, &mut k, &mut v])?;
        b.add(&mut q, &query.bias)?;
        b.add(&mut k, &key.bias)?;
        b.add(&mut v, &value.bias)?;
        let width = len / self.tokens;
        for text in &self.texts {
            let shape = KvShape { heads: self.heads, head_dim: width / self.heads, capacity: text.len() };
            let rows = text.start * width..text.end * width;
            let mut kv = b.kv_layer(shape)?;
            b.kv_append(&mut kv, &k[rows.clone()], &v[rows.clone()])?;
            b.attention(&kv, Mask::Full, self.heads, 0, &q[rows.clone()], &mut self.h[rows])?;
        }
        std::mem::swap(&mut q, &mut self.h);
        self.dense(&layer.attention_output, &q)?;
        self.norm(&layer.attention_norm)
    }

    fn feed_forward(&mut self, layer: &Layer) -> Result<(), NumericError> {
        let b = self.backend;
        let mut inner = vec![0.0; self.tokens * layer.up.bias.len()];
        b.linear(&[&layer.up.weight], &self.x, self.tokens, &mut [&mut inner])?;
        b.add(&mut inner, &layer.up.bias)?;
        b.gelu(&mut inner)?;
        self.dense(&layer.down, &inner)?;
        self.norm(&layer.output_norm)
    }

    /// `x = x + (input * weight^T + bias)`.
    fn dense(&mut self, dense: &Dense, input: &[f32]) -> Result<(), NumericError> {
        let b = self.backend;
        b.linear(&[&dense.weight], input, self.tokens, &mut [&mut self.h])?;
        b.add(&mut self.h, &dense.bias)?;
        b.add(&mut self.x, &self.h)
    }
}
