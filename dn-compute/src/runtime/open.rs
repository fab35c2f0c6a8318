//! One position, operation by operation: the values behind what its leaf binds.

use std::collections::BTreeMap;

use dn_core::Hash32;

use super::{Decoder, Place, Session};
use crate::spec::{Backend, KvLayer, Matrix, NumericError, Op};
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

/// Where a computation left the numbers that the spec allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stuck {
    /// The part of the position.
    pub(crate) stage: Stage,
    /// The operation that has no result on what it reads.
    pub(crate) op: OpName,
    /// An element of its output that has none.
    pub(crate) element: u32,
}

struct Step<'a, 'b> {
    decoder: &'a Decoder,
    position: u32,
    observe: &'a mut Observer<'b>,
    rows: PositionRows,
    /// What is being computed.
    now: (Stage, OpName),
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
        let (rows, stuck) = self.open_so_far(session, token, with_logits, observe);
        if let Some((_, error)) = stuck {
            return Err(error);
        }
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

    /// Feeds one token and keeps every row up to the operation that has no result, if there is one. The session then holds the
    /// position, or part of it, but not its leaf.
    pub(crate) fn open_so_far(
        &self,
        session: &mut Session,
        token: u32,
        with_logits: bool,
        observe: &mut Observer<'_>,
    ) -> (PositionRows, Option<(Stuck, NumericError)>) {
        let now = (Stage::Embedding, OpName::Embedding);
        let position = session.len() as u32;
        let mut step = Step { decoder: self, position, observe, rows: PositionRows::default(), now };
        let done = step.position(session, token, with_logits);
        let stuck = done.err().map(|error| {
            let (stage, op) = step.now;
            let element = self.element(op, &error);
            (Stuck { stage, op, element }, error)
        });
        (step.rows, stuck)
    }

    /// An element of an operation's output that an error is about: where the whole output has no value, the first.
    fn element(&self, op: OpName, error: &NumericError) -> u32 {
        let head_size = self.hyper.head_size as usize;
        (match (op, error) {
            // Of an entry the index is that of a key or value; each has an exponent for every head.
            (OpName::CacheEntry, NumericError::Range { input, index, .. }) => {
                index / head_size * (2 + 2 * head_size) + usize::from(*input == "v")
            }
            (_, NumericError::Overflow { index, .. }) => *index,
            // A norm and attention read as many values as they give; each value of a linear layer reads them all.
            (_, NumericError::Range { op: Op::RmsNorm | Op::Attention, index, .. }) => *index,
            _ => 0,
        }) as u32
    }
}

impl<'a> Step<'a, '_> {
    /// The backend, for an operation that begins.
    fn at(&mut self, stage: Stage, name: OpName) -> &'a dyn Backend {
        self.now = (stage, name);
        self.decoder.backends.at(match stage {
            Stage::Token | Stage::Embedding => Place::Embedding,
            Stage::Layer { layer } => Place::Layer(layer),
            Stage::Logits | Stage::Choice => Place::Output,
        })
    }

    /// Takes the output of an operation.
    fn take(&mut self, stage: Stage, name: OpName, x: &mut [f32]) {
        (self.observe)(self.position, stage, name, x);
        let bytes = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.rows.rows.insert((stage, name), bytes);
    }

    fn position(&mut self, session: &mut Session, token: u32, with_logits: bool) -> Result<(), NumericError> {
        let decoder = self.decoder;
        let width = decoder.hyper.width as usize;
        let mut x = vec![0.0; width];
        self.at(Stage::Embedding, OpName::Embedding).embed(&decoder.weights.embedding, &[token], &mut x)?;
        self.take(Stage::Embedding, OpName::Embedding, &mut x);
        for (l, kv) in session.kv.iter_mut().enumerate() {
            self.attention(l, kv, &mut x)?;
            self.feed_forward(l, &mut x)?;
        }
        if with_logits {
            let (stage, weights) = (Stage::Logits, &decoder.weights);
            let mut normed = vec![0.0; width];
            let backend = self.at(stage, OpName::OutputNorm);
            backend.rms_norm(&weights.output_norm, decoder.epsilon(), &x, &mut normed)?;
            self.take(stage, OpName::OutputNorm, &mut normed);
            let mut logits = vec![0.0; decoder.hyper.vocabulary as usize];
            self.at(stage, OpName::Logits).linear(&[&weights.output], &normed, 1, &mut [&mut logits])?;
            self.take(stage, OpName::Logits, &mut logits);
        }
        Ok(())
    }

    /// A linear layer of one row.
    fn linear(
        &mut self,
        (stage, name): (Stage, OpName),
        weight: &Matrix,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), NumericError> {
        self.at(stage, name).linear(&[weight], x, 1, &mut [&mut *out])?;
        self.take(stage, name, out);
        Ok(())
    }

    fn attention(&mut self, l: usize, kv: &mut KvLayer, x: &mut [f32]) -> Result<(), NumericError> {
        let (decoder, stage) = (self.decoder, Stage::Layer { layer: l as u32 });
        let (layer, h) = (&decoder.weights.layers[l], &decoder.hyper);
        let (query_width, kv_width) = ((h.heads * h.head_size) as usize, (h.kv_heads * h.head_size) as usize);
        let rope = decoder.rope(self.position as usize + 1)?;
        let mut normed = vec![0.0; x.len()];
        self.at(stage, OpName::AttentionNorm).rms_norm(
            &layer.attention_norm,
            decoder.epsilon(),
            x,
            &mut normed,
        )?;
        self.take(stage, OpName::AttentionNorm, &mut normed);
        let (mut q, mut k, mut v) = (vec![0.0; query_width], vec![0.0; kv_width], vec![0.0; kv_width]);
        self.linear((stage, OpName::Query), &layer.query, &normed, &mut q)?;
        self.linear((stage, OpName::Key), &layer.key, &normed, &mut k)?;
        self.linear((stage, OpName::Value), &layer.value, &normed, &mut v)?;
        if let Some([query, key, value]) = &layer.biases {
            let biased = [
                (&mut q, query, OpName::QueryBias),
                (&mut k, key, OpName::KeyBias),
                (&mut v, value, OpName::ValueBias),
            ];
            for (row, bias, name) in biased {
                self.at(stage, name).add(row, bias)?;
                self.take(stage, name, row);
            }
        }
        if let Some([query, key]) = &layer.head_norms {
            let (mut by_head, mut key_by_head) = (vec![0.0; query_width], vec![0.0; kv_width]);
            self.at(stage, OpName::QueryNorm).rms_norm(query, decoder.epsilon(), &q, &mut by_head)?;
            self.take(stage, OpName::QueryNorm, &mut by_head);
            self.at(stage, OpName::KeyNorm).rms_norm(key, decoder.epsilon(), &k, &mut key_by_head)?;
            self.take(stage, OpName::KeyNorm, &mut key_by_head);
            (q, k) = (by_head, key_by_head);
        }
        self.at(stage, OpName::QueryRope).rope(&rope, &[self.position], &mut q)?;
        self.take(stage, OpName::QueryRope, &mut q);
        self.at(stage, OpName::KeyRope).rope(&rope, &[self.position], &mut k)?;
        self.take(stage, OpName::KeyRope, &mut k);
        self.append(stage, kv, k, v)?;
        let mut a = vec![0.0; query_width];
        let (mask, heads, first) = (decoder.mask(), h.heads as usize, self.position as usize);
        self.at(stage, OpName::Attention).attention(kv, mask, heads, first, &q, &mut a)?;
        self.take(stage, OpName::Attention, &mut a);
        self.linear((stage, OpName::AttentionOutput), &layer.attention_output, &a, &mut normed)?;
        if let Some(bias) = &layer.output_bias {
            self.at(stage, OpName::AttentionOutputBias).add(&mut normed, bias)?;
            self.take(stage, OpName::AttentionOutputBias, &mut normed);
        }
        self.at(stage, OpName::AttentionResidual).add(x, &normed)?;
        self.take(stage, OpName::AttentionResidual, x);
        Ok(())
    }

    /// Appends a position to a layer's cache.
    fn append(
        &mut self,
        stage: Stage,
        kv: &mut KvLayer,
        k: Vec<f32>,
        v: Vec<f32>,
    ) -> Result<(), NumericError> {
        let width = k.len();
        let mut both = [k, v].concat();
        (self.observe)(self.position, stage, OpName::CacheEntry, &mut both);
        let (k, v) = both.split_at(width);
        self.at(stage, OpName::CacheEntry).kv_append(kv, k, v)?;
        let mut entry = Vec::new();
        kv.entry(self.position as usize, &mut entry);
        self.rows.rows.insert((stage, OpName::CacheEntry), entry);
        Ok(())
    }

    fn feed_forward(&mut self, l: usize, x: &mut [f32]) -> Result<(), NumericError> {
        let (decoder, stage) = (self.decoder, Stage::Layer { layer: l as u32 });
        let layer = &decoder.weights.layers[l];
        let ffn = decoder.hyper.ffn_width as usize;
        let mut normed = vec![0.0; x.len()];
        self.at(stage, OpName::FfnNorm).rms_norm(&layer.ffn_norm, decoder.epsilon(), x, &mut normed)?;
        self.take(stage, OpName::FfnNorm, &mut normed);
        let (mut gate, mut up) = (vec![0.0; ffn], vec![0.0; ffn]);
        self.linear((stage, OpName::Gate), &layer.gate, &normed, &mut gate)?;
        self.linear((stage, OpName::Up), &layer.up, &normed, &mut up)?;
        self.at(stage, OpName::SiluMul).silu_mul(&mut gate, &up)?;
        self.take(stage, OpName::SiluMul, &mut gate);
        self.linear((stage, OpName::Down), &layer.down, &gate, &mut normed)?;
        self.at(stage, OpName::FfnResidual).add(x, &normed)?;
        self.take(stage, OpName::FfnResidual, x);
        Ok(())
    }
}
