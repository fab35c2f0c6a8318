//! One position, operation by operation: the values behind what its leaf binds.

use std::collections::BTreeMap;

use dn_core::Hash32;

use super::{Decoder, Session};
use crate::spec::{KvLayer, NumericError};
use crate::trace::Leaf;
use crate::verify::plan::{OpName, Stage};

/// Sees the output of every operation as it comes, and may change it: tests play a cheating worker so. For a cache entry
/// it sees the key and then the value before they are quantised.
pub(crate) type Observer<'a> = dyn FnMut(u32, Stage, OpName, &mut [f32]) + 'a;

/// The outputs of all operations of a position, as the bytes that are hashed.
#[derive(Debug, Clone, Default)]
pub(crate) struct PositionRows {
    rows: BTreeMap<(Stage, OpName), Vec<u8>>,
}

impl PositionRows {
    /// The bytes of one.
    pub(crate) fn get(&self, stage: Stage, name: OpName) -> Option<&[u8]> {
        self.rows.get(&(stage, name)).map(Vec::as_slice)
    }

    fn hash(&self, stage: Stage, name: OpName) -> Hash32 {
        Hash32(*blake3::hash(self.get(stage, name).unwrap_or_default()).as_bytes())
    }
}

struct Step<'a, 'b> {
    decoder: &'a Decoder,
    position: u32,
    observe: &'a mut Observer<'b>,
    rows: PositionRows,
}

impl Step<'_, '_> {
    /// Takes the output of an operation.
    fn take(&mut self, stage: Stage, name: OpName, x: &mut [f32]) {
        (self.observe)(self.position, stage, name, x);
        let bytes = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.rows.rows.insert((stage, name), bytes);
    }
}

impl Decoder {
    /// Feeds one token, keeps every row, and adds the position to the session and to its trace.
    ///
    /// # Errors
    /// [`NumericError`]; the session then holds part of the position and is of no further use.
    pub(crate) fn open_position(
        &self,
        session: &mut Session,
        token: u32,
        with_logits: bool,
        observe: &mut Observer<'_>,
    ) -> Result<PositionRows, NumericError> {
        let position = session.len() as u32;
        let width = self.hyper.width as usize;
        let mut step = Step { decoder: self, position, observe, rows: PositionRows::default() };
        let mut x = vec![0.0; width];
        self.backend.embed(&self.weights.embedding, &[token], &mut x)?;
        step.take(Stage::Embedding, OpName::Embedding, &mut x);
        for (l, kv) in session.kv.iter_mut().enumerate() {
            step.attention(l, kv, &mut x)?;
            step.feed_forward(l, &mut x)?;
        }
        if with_logits {
            let mut normed = vec![0.0; width];
            self.backend.rms_norm(&self.weights.output_norm, self.epsilon(), &x, &mut normed)?;
            step.take(Stage::Logits, OpName::OutputNorm, &mut normed);
            let mut logits = vec![0.0; self.hyper.vocabulary as usize];
            self.backend.linear(&[&self.weights.output], &normed, 1, &mut [&mut logits])?;
            step.take(Stage::Logits, OpName::Logits, &mut logits);
        }
        let rows = step.rows;
        let layers = 0..self.hyper.layers;
        let residual = |layer| rows.hash(Stage::Layer { layer }, OpName::FfnResidual);
        let first = rows.hash(Stage::Embedding, OpName::Embedding);
        let leaf = Leaf {
            position,
            token,
            boundaries: std::iter::once(first).chain(layers.clone().map(residual)).collect(),
            entries: layers.map(|layer| rows.hash(Stage::Layer { layer }, OpName::CacheEntry)).collect(),
            logits: with_logits.then(|| rows.hash(Stage::Logits, OpName::Logits)),
        };
        session.push_leaf(&leaf);
        Ok(rows)
    }
}

impl Step<'_, '_> {
    fn attention(&mut self, l: usize, kv: &mut KvLayer, x: &mut [f32]) -> Result<(), NumericError> {
        let (decoder, stage) = (self.decoder, Stage::Layer { layer: l as u32 });
        let (b, layer, h) = (&decoder.backend, &decoder.weights.layers[l], &decoder.hyper);
        let (query_width, kv_width) = ((h.heads * h.head_size) as usize, (h.kv_heads * h.head_size) as usize);
        let rope = decoder.rope(self.position as usize + 1)?;
        let mut normed = vec![0.0; x.len()];
        b.rms_norm(&layer.attention_norm, decoder.epsilon(), x, &mut normed)?;
        self.take(stage, OpName::AttentionNorm, &mut normed);
        let (mut q, mut k, mut v) = (vec![0.0; query_width], vec![0.0; kv_width], vec![0.0; kv_width]);
        b.linear(&[&layer.query, &layer.key, &layer.value], &normed, 1, &mut [&mut q, &mut k, &mut v])?;
        self.take(stage, OpName::Query, &mut q);
        self.take(stage, OpName::Key, &mut k);
        self.take(stage, OpName::Value, &mut v);
        if let Some([query, key, value]) = &layer.biases {
            let biased = [
                (&mut q, query, OpName::QueryBias),
                (&mut k, key, OpName::KeyBias),
                (&mut v, value, OpName::ValueBias),
            ];
            for (row, bias, name) in biased {
                b.add(row, bias)?;
                self.take(stage, name, row);
            }
        }
        if let Some([query, key]) = &layer.head_norms {
            let (mut by_head, mut key_by_head) = (vec![0.0; query_width], vec![0.0; kv_width]);
            b.rms_norm(query, decoder.epsilon(), &q, &mut by_head)?;
            b.rms_norm(key, decoder.epsilon(), &k, &mut key_by_head)?;
            (q, k) = (by_head, key_by_head);
            self.take(stage, OpName::QueryNorm, &mut q);
            self.take(stage, OpName::KeyNorm, &mut k);
        }
        b.rope(&rope, &[self.position], &mut q)?;
        self.take(stage, OpName::QueryRope, &mut q);
        b.rope(&rope, &[self.position], &mut k)?;
        self.take(stage, OpName::KeyRope, &mut k);
        let mut both = [k, v].concat();
        (self.observe)(self.position, stage, OpName::CacheEntry, &mut both);
        let (k, v) = both.split_at(kv_width);
        b.kv_append(kv, k, v)?;
        let mut entry = Vec::new();
        kv.entry(self.position as usize, &mut entry);
        self.rows.rows.insert((stage, OpName::CacheEntry), entry);
        let mut a = vec![0.0; query_width];
        b.attention(kv, decoder.mask(), h.heads as usize, self.position as usize, &q, &mut a)?;
        self.take(stage, OpName::Attention, &mut a);
        b.linear(&[&layer.attention_output], &a, 1, &mut [&mut normed])?;
        self.take(stage, OpName::AttentionOutput, &mut normed);
        if let Some(bias) = &layer.output_bias {
            b.add(&mut normed, bias)?;
            self.take(stage, OpName::AttentionOutputBias, &mut normed);
        }
        b.add(x, &normed)?;
        self.take(stage, OpName::AttentionResidual, x);
        Ok(())
    }

    fn feed_forward(&mut self, l: usize, x: &mut [f32]) -> Result<(), NumericError> {
        let (decoder, stage) = (self.decoder, Stage::Layer { layer: l as u32 });
        let (b, layer) = (&decoder.backend, &decoder.weights.layers[l]);
        let ffn = decoder.hyper.ffn_width as usize;
        let mut normed = vec![0.0; x.len()];
        b.rms_norm(&layer.ffn_norm, decoder.epsilon(), x, &mut normed)?;
        self.take(stage, OpName::FfnNorm, &mut normed);
        let (mut gate, mut up) = (vec![0.0; ffn], vec![0.0; ffn]);
        b.linear(&[&layer.gate, &layer.up], &normed, 1, &mut [&mut gate, &mut up])?;
        self.take(stage, OpName::Gate, &mut gate);
        self.take(stage, OpName::Up, &mut up);
        b.silu_mul(&mut gate, &up)?;
        self.take(stage, OpName::SiluMul, &mut gate);
        b.linear(&[&layer.down], &gate, 1, &mut [&mut normed])?;
        self.take(stage, OpName::Down, &mut normed);
        b.add(x, &normed)?;
        self.take(stage, OpName::FfnResidual, x);
        Ok(())
    }
}
