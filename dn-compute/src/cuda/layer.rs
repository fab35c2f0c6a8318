//! A decoder's layer in one sequence of launches: the values between its operations stay on the device.
//!
//! Nothing here computes otherwise than the single operations: it launches the same kernels one after another. A layer that
//! notes a fault changes nothing, and the caller does it again operation by operation, which finds the element.

use super::call::Call;
use super::device::{Buf, Device};
use super::elements::bytes;
use super::quantise::{CHUNK, Digits, quantise};
use super::{add, attention, embed, linear, own, rms_norm, rope, silu};
use crate::spec::attention::{KvLayer, KvRows};
use crate::spec::{
    AttentionPlan, KvShape, LayerWeights, Mask, NumericError, Op, PassCall, PassPart, PassValues, RopePlan,
    RopeTable, trig::score_scale,
};

/// Up to so many rows the launches are given to the device together: what they compute takes less than launching them.
const REPEATED_TOKENS: usize = 8;

/// A layer over the rows of some sequences, one after another.
struct LayerCall<'a> {
    weights: &'a LayerWeights,
    eps: f32,
    heads: usize,
    mask: Mask,
    rope: &'a RopeTable,
    positions: &'a [u32],
}

/// A sequence's share of the rows.
struct LayerPart<'a> {
    kv: &'a mut KvLayer,
    rows: usize,
}

/// Goes through layers, and the decoder's ends where the call has them, unless one of them cannot be done whole: then nothing is
/// changed.
pub(super) fn pass(
    device: &Device,
    call: &PassCall<'_>,
    parts: &mut [PassPart<'_>],
    values: &mut PassValues<'_>,
) -> Result<bool, NumericError> {
    let lengths: Vec<Vec<usize>> =
        parts.iter().map(|part| part.kv.iter().map(KvLayer::len).collect()).collect();
    let mut stream = values.stream.to_vec();
    let done = match through(device, call, parts, &mut stream, values) {
        // A fault of the values: operation by operation it is found.
        Err(error) if !matches!(error, NumericError::Device { .. }) => Ok(false),
        other => other,
    };
    if matches!(done, Ok(true)) {
        values.stream.copy_from_slice(&stream);
    } else {
        for (part, lengths) in parts.iter_mut().zip(&lengths) {
            part.kv.iter_mut().zip(lengths).for_each(|(kv, len)| kv.truncate(*len));
        }
    }
    done
}

fn through(
    device: &Device,
    call: &PassCall<'_>,
    parts: &mut [PassPart<'_>],
    x: &mut [f32],
    values: &mut PassValues<'_>,
) -> Result<bool, NumericError> {
    let mut boundaries = values.boundaries.as_deref_mut().map(|all| all.chunks_exact_mut(x.len().max(1)));
    let mut boundary = |x: &[f32]| {
        if let Some(out) = boundaries.as_mut().and_then(Iterator::next) {
            out.copy_from_slice(x);
        }
    };
    if let Some((table, tokens)) = call.embedding {
        embed::embed(device, table, tokens, x)?;
        boundary(x);
    }
    let PassCall { eps, heads, mask, rope, positions, .. } = *call;
    for (l, weights) in call.layers.iter().enumerate() {
        let call = LayerCall { weights, eps, heads, mask, rope, positions };
        let mut parts: Vec<LayerPart<'_>> =
            parts.iter_mut().map(|part| LayerPart { kv: &mut part.kv[l], rows: part.rows }).collect();
        if !layer(device, &call, &mut parts, x)? {
            return Ok(false);
        }
        boundary(x);
    }
    if let Some(output) = &call.output {
        let width = output.norm.len();
        let rows: Vec<f32> =
            output.rows.iter().flat_map(|row| &x[row * width..(row + 1) * width]).copied().collect();
        let mut normed = vec![0.0; rows.len()];
        rms_norm::rms_norm(device, output.norm, eps, &rows, &mut normed)?;
        linear::linear(device, &[output.matrix], &normed, output.rows.len(), &mut [values.logits])?;
    }
    Ok(true)
}

/// The rows of a call and where they are on the device.
struct Rows<'a> {
    call: Call<'a>,
    layer: &'a LayerCall<'a>,
    tokens: usize,
    width: usize,
    x: Buf,
}

/// Does a layer, unless it is too large for single launches or notes a fault: then nothing is changed.
fn layer(
    device: &Device,
    layer: &LayerCall<'_>,
    parts: &mut [LayerPart<'_>],
    x: &mut [f32],
) -> Result<bool, NumericError> {
    let tokens = layer.positions.len();
    let Some(shape) = parts.first().map(|part| part.kv.shape()) else { return Ok(false) };
    if !fits(device, layer, shape, parts, x) {
        return Ok(false);
    }
    let mut call = Call::new(device, Op::Layer)?;
    if tokens <= REPEATED_TOKENS {
        // Each layer has weights of its own; the same kernels run for every token.
        call = call.repeated(own(Op::Layer, &layer.weights.query)?.q.at());
    }
    let uploaded = call.upload(x)?;
    let rows = Rows { call, layer, tokens, width: x.len() / tokens, x: uploaded };
    let (q, k, v) = rows.project(shape)?;
    let kept = attention::Quantised::new(&rows.call, &k, &v, tokens * shape.heads, shape.head_dim)?;
    let attended = rows.attend(shape, parts, &q, &kept)?;
    rows.rest(&attended)?;
    let mut all = kept.host_rows();
    let mut changed = vec![0f32; x.len()];
    let mut outs = kept.outs(&mut all);
    outs.push((&rows.x, bytes(&mut changed)));
    if rows.call.finish(&mut outs)?.any() {
        return Ok(false);
    }
    x.copy_from_slice(&changed);
    let mut first = 0;
    for part in parts {
        part.kv.append(part.rows, &some(&all, shape, first..first + part.rows));
        part.kv.mirror().lock().len = part.kv.len();
        first += part.rows;
    }
    Ok(true)
}

/// Whether single launches take all of it, and the shapes are what the operations would accept.
fn fits(device: &Device, layer: &LayerCall<'_>, shape: KvShape, parts: &[LayerPart<'_>], x: &[f32]) -> bool {
    let (w, tokens) = (layer.weights, layer.positions.len());
    let matrices = [&w.query, &w.key, &w.value, &w.attention_output, &w.gate, &w.up, &w.down];
    let longest = matrices.iter().map(|m| m.rows().max(m.cols().next_multiple_of(CHUNK))).max();
    let rows: usize = parts.iter().map(|part| part.rows).sum();
    let row = layer.heads * shape.head_dim;
    let kv_row = shape.heads * shape.head_dim;
    rows == tokens
        && tokens <= linear::MOST_TOKENS
        && longest.is_some_and(|longest| tokens * longest <= device.most_words)
        && (f32::MIN_POSITIVE..=1.0).contains(&layer.eps)
        && layer.mask != (Mask::Window { positions: 0 })
        && layer.heads.is_multiple_of(shape.heads)
        && x.len() == tokens * w.query.cols()
        && [&w.key, &w.value, &w.gate, &w.up].into_iter().all(|m| m.cols() == w.query.cols())
        && (w.query.rows(), w.key.rows(), w.value.rows()) == (row, kv_row, kv_row)
        && (w.attention_output.cols(), w.attention_output.rows()) == (row, w.query.cols())
        && (w.gate.rows(), w.down.rows()) == (w.down.cols(), w.query.cols())
        && w.up.rows() == w.gate.rows()
        && layer.rope.spec().head_dim == shape.head_dim
        && layer.positions.iter().all(|p| (*p as usize) < layer.rope.positions())
        && parts.iter().all(|part| {
            let plan = plan(layer, shape, part);
            part.kv.shape() == shape
                && part.rows > 0
                && part.kv.len() + part.rows <= shape.capacity
                && attention::tokens_at_once(device, &plan, attention::span(&plan, 0..part.rows).len())
                    >= part.rows
        })
}

/// The queries of a part, once its keys are there.
fn plan(layer: &LayerCall<'_>, shape: KvShape, part: &LayerPart<'_>) -> AttentionPlan {
    AttentionPlan {
        tokens: part.rows,
        first: part.kv.len(),
        heads: layer.heads,
        group: layer.heads / shape.heads,
        head_dim: shape.head_dim,
        scale: score_scale(shape.head_dim),
        mask: layer.mask,
        held: part.kv.len() + part.rows,
    }
}

/// The quantised rows of one part.
fn some(all: &KvRows, shape: KvShape, tokens: std::ops::Range<usize>) -> KvRows {
    let vectors = tokens.start * shape.heads..tokens.end * shape.heads;
    let values = vectors.start * shape.head_dim..vectors.end * shape.head_dim;
    KvRows {
        k: all.k[values.clone()].to_vec(),
        v: all.v[values].to_vec(),
        ke: all.ke[vectors.clone()].to_vec(),
        ve: all.ve[vectors].to_vec(),
    }
}

impl Rows<'_> {
    fn weights(&self) -> &LayerWeights {
        self.layer.weights
    }

    fn norm(&self, x: &Buf, rows: usize, weight: &[f32]) -> Result<Buf, NumericError> {
        let uploaded = self.call.upload(weight)?;
        rms_norm::record(&self.call, x, &uploaded, rows, weight.len(), self.layer.eps)
    }

    fn quantise(&self, x: &Buf, cols: usize) -> Result<Digits, NumericError> {
        quantise(&self.call, x, self.tokens, cols, CHUNK, None)
    }

    fn product(&self, w: &crate::spec::Matrix, a: &Digits) -> Result<Buf, NumericError> {
        linear::multiply(&self.call, own(Op::Linear, w)?, a, self.tokens)
    }

    fn add_row(&self, x: &Buf, row: &[f32]) -> Result<(), NumericError> {
        let uploaded = self.call.upload(row)?;
        add::record(&self.call, x, &uploaded, self.tokens * row.len(), row.len())
    }

    /// Queries, keys and values, turned to their positions.
    fn project(&self, shape: KvShape) -> Result<(Buf, Buf, Buf), NumericError> {
        let (w, tokens) = (self.weights(), self.tokens);
        let h = self.norm(&self.x, tokens, &w.attention_norm)?;
        let a = self.quantise(&h, self.width)?;
        let (mut q, mut k) = (self.product(&w.query, &a)?, self.product(&w.key, &a)?);
        let v = self.product(&w.value, &a)?;
        if let Some(biases) = &w.biases {
            for (x, bias) in [&q, &k, &v].into_iter().zip(biases) {
                self.add_row(x, bias)?;
            }
        }
        if let Some([query, key]) = &w.head_norms {
            q = self.norm(&q, tokens * self.layer.heads, query)?;
            k = self.norm(&k, tokens * shape.heads, key)?;
        }
        let spec = self.layer.rope.spec();
        let turns = rope::turns(&self.call, self.layer.rope, self.layer.positions)?;
        for (x, heads) in [(&q, self.layer.heads), (&k, shape.heads)] {
            rope::record(&self.call, x, &turns, spec, RopePlan { tokens, heads })?;
        }
        Ok((q, k, v))
    }

    /// Each part's new keys and values to its pages, and its queries over them.
    fn attend(
        &self,
        shape: KvShape,
        parts: &[LayerPart<'_>],
        q: &Buf,
        kept: &attention::Quantised,
    ) -> Result<Buf, NumericError> {
        let (heads, d) = (self.layer.heads, shape.head_dim);
        let a = quantise(&self.call, q, self.tokens * heads, d, attention::PAD, Some(score_scale(d)))?;
        let out = self.call.room(self.tokens * heads * d)?;
        let mut first = 0;
        for part in parts {
            let plan = plan(self.layer, shape, part);
            let pages = attention::sent(&self.call, part.kv, plan.held)?;
            kept.store(&self.call, &pages, shape, first..first + part.rows, part.kv.len())?;
            attention::record(&self.call, &plan, &pages, 0..part.rows, first, &a, &out)?;
            first += part.rows;
        }
        Ok(out)
    }

    /// From what attention gave to the layer's end.
    fn rest(&self, attended: &Buf) -> Result<(), NumericError> {
        let (w, tokens) = (self.weights(), self.tokens);
        let len = tokens * self.width;
        let a = self.quantise(attended, w.attention_output.cols())?;
        let h = self.product(&w.attention_output, &a)?;
        if let Some(bias) = &w.output_bias {
            self.add_row(&h, bias)?;
        }
        add::record(&self.call, &self.x, &h, len, len)?;
        let h = self.norm(&self.x, tokens, &w.ffn_norm)?;
        let a = self.quantise(&h, self.width)?;
        let (gate, up) = (self.product(&w.gate, &a)?, self.product(&w.up, &a)?);
        silu::record(&self.call, &gate, &up, tokens * w.gate.rows())?;
        let a = self.quantise(&gate, w.down.cols())?;
        let h = self.product(&w.down, &a)?;
        add::record(&self.call, &self.x, &h, len, len)
    }
}
