//! Layers of a decoder, and its ends, in one submission: the values between operations stay on the device.
//!
//! Nothing here computes otherwise than the single operations: it records their dispatches one after another. A pass that
//! notes a fault changes nothing, and the caller does it again operation by operation, which finds the element.

use super::call::{Buf, Call};
use super::device::Gpu;
use super::quantise::{Digits, PIECE, quantise};
use super::rope::Turns;
use super::{add, attention, embed, linear, own, rms_norm, rope, silu};
use crate::spec::attention::{AttentionPlan, KvRows};
use crate::spec::{
    KvLayer, KvShape, LayerWeights, Mask, NumericError, Op, PassCall, PassOutput, PassPart, PassValues,
    RopePlan, Vector, trig::score_scale,
};

/// The rows of a pass and where they are on the device.
struct Rows<'a> {
    gpu: &'a Gpu,
    pass: &'a PassCall<'a>,
    shape: KvShape,
    tokens: usize,
    width: usize,
    /// The residual stream.
    x: Buf,
    turns: Turns,
}

/// Does a pass, unless it is too large for single dispatches or notes a fault: then nothing is changed.
pub(super) async fn pass(
    gpu: &Gpu,
    pass: &PassCall<'_>,
    parts: &mut [PassPart<'_>],
    values: &mut PassValues<'_>,
) -> Result<bool, NumericError> {
    let Some(shape) = parts.first().and_then(|part| part.kv.first()).map(KvLayer::shape) else {
        return Ok(false);
    };
    if !fits(gpu, pass, shape, parts, values) {
        return Ok(false);
    }
    let mut call = Call::new(gpu, Op::Attention)?;
    let tokens = pass.positions.len();
    let (width, kv_rows) = (values.stream.len() / tokens, tokens * shape.heads);
    let words = shape.head_dim.next_multiple_of(attention::PAD) / 4;
    let back = Back { stream: 4 * values.stream.len(), digits: 8 * kv_rows * words, exponents: 4 * kv_rows };
    call.expect(back.bytes(pass, values) as u64);
    let x = match pass.embedding {
        Some((table, ids)) => embed::record(&mut call, own(Op::Embed, table)?, ids),
        None => call.upload(values.stream),
    };
    let turns = rope::turns(&mut call, pass.rope, pass.positions);
    let rows = Rows { gpu, pass, shape, tokens, width, x, turns };
    let traced = values.boundaries.is_some();
    if traced && pass.embedding.is_some() {
        call.fetch(&rows.x, back.stream as u64);
    }
    for (l, weights) in pass.layers.iter().enumerate() {
        let mark = call.mark();
        rows.layer(&mut call, weights, l, parts, &back)?;
        if traced {
            call.fetch(&rows.x, back.stream as u64);
        }
        call.recycle(mark);
    }
    match &pass.output {
        Some(output) => {
            let logits = rows.output(&mut call, output)?;
            call.fetch(&logits, 4 * values.logits.len() as u64);
        }
        None if traced => {}
        None => call.fetch(&rows.x, back.stream as u64),
    }
    call.submit(|faults, bytes| {
        if faults.any() {
            return false;
        }
        back.take(bytes, pass, shape, parts, values);
        true
    })
    .await
}

/// What comes back: a stream where one is asked for, keys and values of each layer, logits.
///
/// # Units
/// Bytes.
struct Back {
    stream: usize,
    /// Of the keys, or of the values, of a layer.
    digits: usize,
    exponents: usize,
}

impl Back {
    fn bytes(&self, pass: &PassCall<'_>, values: &PassValues<'_>) -> usize {
        let streams = match &values.boundaries {
            Some(_) => pass.layers.len() + usize::from(pass.embedding.is_some()),
            None => usize::from(pass.output.is_none()),
        };
        streams * self.stream
            + pass.layers.len() * 2 * (self.digits + self.exponents)
            + 4 * values.logits.len()
    }

    /// Puts everything where it belongs, in the order in which it was fetched.
    fn take(
        &self,
        mut from: &[u8],
        pass: &PassCall<'_>,
        shape: KvShape,
        parts: &mut [PassPart<'_>],
        values: &mut PassValues<'_>,
    ) {
        let mut next = |bytes: usize| {
            let own;
            (own, from) = from.split_at(bytes);
            own
        };
        let copy =
            |to: &mut [f32], from: &[u8]| bytemuck::cast_slice_mut::<f32, u8>(to).copy_from_slice(from);
        let mut boundaries =
            values.boundaries.iter_mut().flat_map(|all| all.chunks_exact_mut(self.stream / 4));
        if pass.embedding.is_some()
            && let Some(to) = boundaries.next()
        {
            copy(to, next(self.stream));
        }
        for l in 0..pass.layers.len() {
            let [k, v] = [0; 2].map(|_| attention::integers(next(self.digits), shape.head_dim));
            let [ke, ve] = [0; 2].map(|_| attention::exponents(next(self.exponents)));
            let all = KvRows { k, v, ke, ve };
            let mut first = 0;
            for part in parts.iter_mut() {
                let kv = &mut part.kv[l];
                kv.append(part.rows, &some(&all, shape, first..first + part.rows));
                kv.mirror().lock().len = kv.len();
                first += part.rows;
            }
            if let Some(to) = boundaries.next() {
                copy(to, next(self.stream));
                if pass.output.is_none() && l + 1 == pass.layers.len() {
                    values.stream.copy_from_slice(to);
                }
            }
        }
        if pass.output.is_some() {
            let bytes = 4 * values.logits.len();
            copy(values.logits, next(bytes));
        } else if values.boundaries.is_none() {
            copy(values.stream, next(self.stream));
        }
    }
}

/// Whether single dispatches take all of it, and the shapes are what the operations would accept.
fn fits(
    gpu: &Gpu,
    pass: &PassCall<'_>,
    shape: KvShape,
    parts: &[PassPart<'_>],
    values: &PassValues<'_>,
) -> bool {
    let (tokens, layers) = (pass.positions.len(), pass.layers.len());
    let (Some(first), rows) = (pass.layers.first(), parts.iter().map(|part| part.rows).sum::<usize>()) else {
        return false;
    };
    let width = first.query.cols();
    let streams = layers + usize::from(pass.embedding.is_some());
    let table = |(table, ids): (&crate::spec::Matrix, &[u32])| {
        table.cols() == width && ids.len() == tokens && ids.iter().all(|id| (*id as usize) < table.rows())
    };
    let ends = |output: &PassOutput<'_>| {
        let (rows, longest) = (output.rows.len(), output.matrix.rows().max(width.next_multiple_of(PIECE)));
        output.matrix.cols() == width
            && output.norm.len() == width
            && rows > 0
            && output.rows.iter().all(|row| *row < tokens)
            && values.logits.len() == rows * output.matrix.rows()
            && 2 * rows * longest <= gpu.most_words
    };
    rows == tokens
        && tokens <= linear::MOST_TOKENS
        && (f32::MIN_POSITIVE..=1.0).contains(&pass.eps)
        && pass.mask != (Mask::Window { positions: 0 })
        && pass.mask != Mask::Full
        && pass.heads.is_multiple_of(shape.heads)
        && values.stream.len() == tokens * width
        && values.boundaries.as_ref().is_none_or(|all| all.len() == streams * values.stream.len())
        // All that comes back, at once.
        && streams * values.stream.len() <= gpu.most_words
        && 2 * layers * tokens * shape.heads * shape.head_dim <= gpu.most_words
        && pass.embedding.is_none_or(table)
        && pass.output.as_ref().is_none_or(ends)
        && pass.layers.iter().all(|weights| fits_layer(gpu, pass, shape, weights, tokens, width))
        && pass.rope.spec().head_dim == shape.head_dim
        && pass.positions.iter().all(|p| (*p as usize) < pass.rope.positions())
        && parts.iter().all(|part| {
            part.kv.len() == layers
                && part.rows > 0
                && part.kv.iter().all(|kv| {
                    kv.shape() == shape
                        && kv.len() == part.kv[0].len()
                        && kv.len() + part.rows <= shape.capacity
                        && attention::fits(gpu, kv, part.rows, pass.heads)
                })
        })
}

fn fits_layer(
    gpu: &Gpu,
    pass: &PassCall<'_>,
    shape: KvShape,
    w: &LayerWeights,
    tokens: usize,
    width: usize,
) -> bool {
    let matrices = [&w.query, &w.key, &w.value, &w.attention_output, &w.gate, &w.up, &w.down];
    let longest = matrices.iter().map(|m| m.rows().max(m.cols().next_multiple_of(PIECE))).max();
    let (row, kv_row) = (pass.heads * shape.head_dim, shape.heads * shape.head_dim);
    longest.is_some_and(|longest| 2 * tokens * longest <= gpu.most_words)
        && [&w.query, &w.key, &w.value, &w.gate, &w.up].into_iter().all(|m| m.cols() == width)
        && (w.query.rows(), w.key.rows(), w.value.rows()) == (row, kv_row, kv_row)
        && (w.attention_output.cols(), w.attention_output.rows()) == (row, width)
        && (w.gate.rows(), w.down.rows()) == (w.down.cols(), width)
        && w.up.rows() == w.gate.rows()
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
    /// Records a layer, and has its keys and values come back.
    fn layer(
        &self,
        call: &mut Call<'_>,
        w: &LayerWeights,
        l: usize,
        parts: &[PassPart<'_>],
        back: &Back,
    ) -> Result<(), NumericError> {
        let (q, k, v) = self.project(call, w)?;
        let (rows, d) = (self.tokens * self.shape.heads, self.shape.head_dim);
        let [k, v] = [&k, &v].map(|x| quantise(call, x, rows, d, attention::PAD, None));
        for (buf, bytes) in [
            (&k.digits, back.digits),
            (&v.digits, back.digits),
            (&k.exponents, back.exponents),
            (&v.exponents, back.exponents),
        ] {
            call.fetch(buf, bytes as u64);
        }
        let attended = self.attend(call, l, parts, &q, &k, &v)?;
        self.rest(call, w, &attended)
    }

    fn norm(&self, call: &mut Call<'_>, x: &Buf, rows: usize, weight: &Vector) -> Buf {
        let weight_buf = call.constant(weight, weight.kept());
        rms_norm::record(call, x, &weight_buf, rows, weight.len(), self.pass.eps)
    }

    fn quantise(&self, call: &mut Call<'_>, x: &Buf, cols: usize) -> Digits {
        quantise(call, x, self.tokens, cols, PIECE, None)
    }

    fn add_row(&self, call: &mut Call<'_>, x: &Buf, row: &Vector) {
        let buf = call.constant(row, row.kept());
        add::record(call, x, &buf, self.tokens * row.len(), row.len());
    }

    /// Queries, keys and values, turned to their positions.
    fn project(&self, call: &mut Call<'_>, w: &LayerWeights) -> Result<(Buf, Buf, Buf), NumericError> {
        let (tokens, heads, kv_heads) = (self.tokens, self.pass.heads, self.shape.heads);
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
            q = self.norm(call, &q, tokens * heads, query);
            k = self.norm(call, &k, tokens * kv_heads, key);
        }
        let spec = self.pass.rope.spec();
        for (x, heads) in [(&q, heads), (&k, kv_heads)] {
            rope::record(call, x, &self.turns, spec, RopePlan { tokens, heads });
        }
        Ok((q, k, v))
    }

    /// Each part's new keys and values to its mirror, and its queries over them.
    fn attend(
        &self,
        call: &mut Call<'_>,
        l: usize,
        parts: &[PassPart<'_>],
        q: &Buf,
        k: &Digits,
        v: &Digits,
    ) -> Result<Buf, NumericError> {
        let (heads, d) = (self.pass.heads, self.shape.head_dim);
        let a = quantise(call, q, self.tokens * heads, d, attention::PAD, Some(score_scale(d)));
        let out = call.room(self.tokens * heads * d);
        let mut first = 0;
        for part in parts {
            let kv = &part.kv[l];
            let held = kv.len() + part.rows;
            let groups = attention::sent(self.gpu, kv, held)?;
            attention::mirror(call, &groups, kv.len(), [k, v], first..first + part.rows);
            let plan = AttentionPlan {
                tokens: part.rows,
                first: kv.len(),
                heads,
                group: heads / self.shape.heads,
                head_dim: d,
                scale: 0.0,
                mask: self.pass.mask,
                held,
            };
            attention::record(call, &plan, &groups, 0..part.rows, first, &a, &out);
            first += part.rows;
        }
        Ok(out)
    }

    /// From what attention gave to the layer's end.
    fn rest(&self, call: &mut Call<'_>, w: &LayerWeights, attended: &Buf) -> Result<(), NumericError> {
        let tokens = self.tokens;
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

    /// The logits of some rows.
    fn output(&self, call: &mut Call<'_>, output: &PassOutput<'_>) -> Result<Buf, NumericError> {
        let (count, width) = (output.rows.len(), self.width);
        let picked = call.room(count * width);
        for (to, row) in output.rows.iter().enumerate() {
            call.copy((&self.x, row * width), (&picked, to * width), width);
        }
        let h = self.norm(call, &picked, count, output.norm);
        let a = quantise(call, &h, count, width, PIECE, None);
        Ok(linear::multiply(call, own(Op::Linear, output.matrix)?, &a, count))
    }
}
