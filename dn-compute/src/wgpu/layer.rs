//! A decoder's layer in one submission: the values between its operations stay on the device.
//!
//! Nothing here computes otherwise than the single operations: it records their dispatches after another. A layer that
//! notes a fault changes nothing, and the caller does it again operation by operation, which finds the element.

use super::call::{Buf, Call};
use super::device::Gpu;
use super::elements::bytes;
use super::kernels::TILE_TOKENS;
use super::quantise::{Digits, PIECE, quantise};
use super::{add, attention, linear, own, rms_norm, rope, silu};
use crate::spec::attention::{AttentionPlan, KvRows};
use crate::spec::{
    KvShape, LayerCall, LayerPart, LayerWeights, Mask, NumericError, Op, RopePlan, trig::score_scale,
};

/// The rows of a call and where they are on the device.
struct Rows<'a> {
    gpu: &'a Gpu,
    layer: &'a LayerCall<'a>,
    tokens: usize,
    width: usize,
    x: Buf,
}

/// Does a layer, unless it is too large for single dispatches or notes a fault: then nothing is changed.
pub(super) async fn layer(
    gpu: &Gpu,
    layer: &LayerCall<'_>,
    parts: &mut [LayerPart<'_>],
    x: &mut [f32],
) -> Result<bool, NumericError> {
    let tokens = layer.positions.len();
    let Some(shape) = parts.first().map(|part| part.kv.shape()) else { return Ok(false) };
    if !fits(gpu, layer, shape, parts, x) {
        return Ok(false);
    }
    let mut call = Call::new(gpu, Op::Attention)?;
    let rows = Rows { gpu, layer, tokens, width: x.len() / tokens, x: call.upload(x) };
    let (q, k, v) = rows.project(&mut call, shape)?;
    let kv_rows = tokens * shape.heads;
    let (k, v) = (
        quantise(&mut call, &k, kv_rows, shape.head_dim, attention::PAD, None),
        quantise(&mut call, &v, kv_rows, shape.head_dim, attention::PAD, None),
    );
    let attended = rows.attend(&mut call, shape, parts, &q, &k, &v)?;
    rows.rest(&mut call, &attended)?;
    let mut kept = attention::Readback::new(kv_rows, k.words);
    let mut outs = kept.outs(&k, &v);
    outs.push((&rows.x, bytes(x)));
    if call.finish(&mut outs, false).await?.any() {
        return Ok(false);
    }
    let all = kept.rows(k.words, shape.head_dim);
    let mut first = 0;
    for part in parts {
        part.kv.append(part.rows, &some(&all, shape, first..first + part.rows));
        part.kv.mirror().lock().len = part.kv.len();
        first += part.rows;
    }
    Ok(true)
}

/// Whether single dispatches take all of it, and the shapes are what the operations would accept.
fn fits(gpu: &Gpu, layer: &LayerCall<'_>, shape: KvShape, parts: &[LayerPart<'_>], x: &[f32]) -> bool {
    let (w, tokens) = (layer.weights, layer.positions.len());
    let matrices = [&w.query, &w.key, &w.value, &w.attention_output, &w.gate, &w.up, &w.down];
    let longest = matrices.iter().map(|m| m.rows().max(m.cols().next_multiple_of(PIECE))).max();
    let rows: usize = parts.iter().map(|part| part.rows).sum();
    let row = layer.heads * shape.head_dim;
    let kv_row = shape.heads * shape.head_dim;
    rows == tokens
        && tokens.div_ceil(TILE_TOKENS) <= linear::MOST_TOKENS / TILE_TOKENS
        && longest.is_some_and(|longest| 2 * tokens * longest <= gpu.most_words)
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
            part.kv.shape() == shape
                && part.rows > 0
                && part.kv.len() + part.rows <= shape.capacity
                && attention::fits(gpu, part.kv, part.rows, layer.heads)
        })
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

    fn norm(&self, call: &mut Call<'_>, x: &Buf, rows: usize, weight: &[f32]) -> Buf {
        let weight_buf = call.upload(weight);
        rms_norm::record(call, x, &weight_buf, rows, weight.len(), self.layer.eps)
    }

    fn quantise(&self, call: &mut Call<'_>, x: &Buf, cols: usize) -> Digits {
        quantise(call, x, self.tokens, cols, PIECE, None)
    }

    fn add_row(&self, call: &mut Call<'_>, x: &Buf, row: &[f32]) {
        let buf = call.upload(row);
        add::record(call, x, &buf, self.tokens * row.len(), row.len());
    }

    /// Queries, keys and values, turned to their positions.
    fn project(&self, call: &mut Call<'_>, shape: KvShape) -> Result<(Buf, Buf, Buf), NumericError> {
        let (w, tokens) = (self.weights(), self.tokens);
        let h = self.norm(call, &self.x, tokens, &w.attention_norm);
        let a = self.quantise(call, &h, self.width);
        let product = |call: &mut Call<'_>, w| {
            Ok::<_, NumericError>(linear::multiply(call, own(Op::Linear, w)?, &a, tokens))
        };
        let (mut q, mut k, v) = (product(call, &w.query)?, product(call, &w.key)?, product(call, &w.value)?);
        if let Some(biases) = &w.biases {
            for (x, bias) in [&q, &k, &v].into_iter().zip(biases) {
                self.add_row(call, x, bias);
            }
        }
        if let Some([query, key]) = &w.head_norms {
            q = self.norm(call, &q, tokens * self.layer.heads, query);
            k = self.norm(call, &k, tokens * shape.heads, key);
        }
        let spec = self.layer.rope.spec();
        let turns = rope::turns(call, self.layer.rope, self.layer.positions);
        for (x, heads) in [(&q, self.layer.heads), (&k, shape.heads)] {
            rope::record(call, x, &turns, spec, RopePlan { tokens, heads });
        }
        Ok((q, k, v))
    }

    /// Each part's new keys and values to its mirror, and its queries over them.
    fn attend(
        &self,
        call: &mut Call<'_>,
        shape: KvShape,
        parts: &[LayerPart<'_>],
        q: &Buf,
        k: &Digits,
        v: &Digits,
    ) -> Result<Buf, NumericError> {
        let (heads, d) = (self.layer.heads, shape.head_dim);
        let a = quantise(call, q, self.tokens * heads, d, attention::PAD, Some(score_scale(d)));
        let out = call.room(self.tokens * heads * d);
        let mut first = 0;
        for part in parts {
            let held = part.kv.len() + part.rows;
            let groups = attention::sent(self.gpu, part.kv, held)?;
            attention::mirror(call, &groups, part.kv.len(), [k, v], first..first + part.rows);
            let plan = AttentionPlan {
                tokens: part.rows,
                first: part.kv.len(),
                heads,
                group: heads / shape.heads,
                head_dim: d,
                scale: 0.0,
                mask: self.layer.mask,
                held,
            };
            attention::record(call, &plan, &groups, 0..part.rows, first, &a, &out);
            first += part.rows;
        }
        Ok(out)
    }

    /// From what attention gave to the layer's end.
    fn rest(&self, call: &mut Call<'_>, attended: &Buf) -> Result<(), NumericError> {
        let (w, tokens) = (self.weights(), self.tokens);
        let len = tokens * self.width;
        let a = self.quantise(call, attended, w.attention_output.cols());
        let h = linear::multiply(call, own(Op::Linear, &w.attention_output)?, &a, tokens);
        if let Some(bias) = &w.output_bias {
            self.add_row(call, &h, bias);
        }
        add::record(call, &self.x, &h, len, len);
        let h = self.norm(call, &self.x, tokens, &w.ffn_norm);
        let a = self.quantise(call, &h, self.width);
        let gate = linear::multiply(call, own(Op::Linear, &w.gate)?, &a, tokens);
        let up = linear::multiply(call, own(Op::Linear, &w.up)?, &a, tokens);
        silu::record(call, &gate, &up, tokens * w.gate.rows());
        let a = self.quantise(call, &gate, w.down.cols());
        let h = linear::multiply(call, own(Op::Linear, &w.down)?, &a, tokens);
        add::record(call, &self.x, &h, len, len);
        Ok(())
    }
}
