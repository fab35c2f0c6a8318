//! A decoder's pass by single operations, as the decoder calls them: what [`Backend::pass`] must equal.

use crate::spec::{Backend, LayerWeights, NumericError, PassCall, PassPart, PassValues};

/// Does what a pass does, operation by operation: the stream, boundaries where they are asked for, logits, and what the caches
/// keep are those of [`Backend::pass`].
///
/// # Errors
/// Those of the operations. What was done until then stays.
pub fn one_by_one(
    b: &dyn Backend,
    call: &PassCall<'_>,
    parts: &mut [PassPart<'_>],
    values: &mut PassValues<'_>,
) -> Result<(), NumericError> {
    let stream = &mut *values.stream;
    let mut boundaries =
        values.boundaries.as_deref_mut().map(|all| all.chunks_exact_mut(stream.len().max(1)));
    let mut boundary = |stream: &[f32]| {
        if let Some(out) = boundaries.as_mut().and_then(Iterator::next) {
            out.copy_from_slice(stream);
        }
    };
    if let Some((table, tokens)) = call.embedding {
        b.embed(table, tokens, stream)?;
        boundary(stream);
    }
    for (l, weights) in call.layers.iter().enumerate() {
        layer(b, call, l, weights, parts, stream)?;
        boundary(stream);
    }
    if let Some(output) = &call.output {
        let width = output.norm.len();
        let picked: Vec<f32> =
            output.rows.iter().flat_map(|row| &stream[row * width..][..width]).copied().collect();
        let mut normed = vec![0.0; picked.len()];
        b.rms_norm(output.norm, call.eps, &picked, &mut normed)?;
        b.linear(&[output.matrix], &normed, output.rows.len(), &mut [&mut *values.logits])?;
    }
    Ok(())
}

fn layer(
    b: &dyn Backend,
    call: &PassCall<'_>,
    l: usize,
    w: &LayerWeights,
    parts: &mut [PassPart<'_>],
    x: &mut [f32],
) -> Result<(), NumericError> {
    let (eps, tokens, ffn) = (call.eps, call.positions.len(), w.gate.rows());
    let (row, kv_row) = (w.query.rows(), w.key.rows());
    let (mut h, mut a) = (vec![0.0; x.len()], vec![0.0; tokens * row]);
    let (mut q, mut k, mut v) = (a.clone(), vec![0.0; tokens * kv_row], vec![0.0; tokens * kv_row]);
    b.rms_norm(&w.attention_norm, eps, x, &mut h)?;
    b.linear(&[&w.query, &w.key, &w.value], &h, tokens, &mut [&mut q, &mut k, &mut v])?;
    if let Some(biases) = &w.biases {
        for (x, bias) in [&mut q, &mut k, &mut v].into_iter().zip(biases) {
            b.add(x, bias)?;
        }
    }
    if let Some(norms) = &w.head_norms {
        for (x, norm) in [&mut q, &mut k].into_iter().zip(norms) {
            let before = x.clone();
            b.rms_norm(norm, eps, &before, x)?;
        }
    }
    b.rope(call.rope, call.positions, &mut q)?;
    b.rope(call.rope, call.positions, &mut k)?;
    let mut at = 0;
    for part in parts {
        let (own, own_kv) = (at * row..(at + part.rows) * row, at * kv_row..(at + part.rows) * kv_row);
        let kv = &mut part.kv[l];
        let first = kv.len();
        b.kv_append(kv, &k[own_kv.clone()], &v[own_kv])?;
        b.attention(kv, call.mask, call.heads, first, &q[own.clone()], &mut a[own])?;
        at += part.rows;
    }
    b.linear(&[&w.attention_output], &a, tokens, &mut [&mut h])?;
    if let Some(bias) = &w.output_bias {
        b.add(&mut h, bias)?;
    }
    b.add(x, &h)?;
    let (mut gate, mut up) = (vec![0.0; tokens * ffn], vec![0.0; tokens * ffn]);
    b.rms_norm(&w.ffn_norm, eps, x, &mut h)?;
    b.linear(&[&w.gate, &w.up], &h, tokens, &mut [&mut gate, &mut up])?;
    b.silu_mul(&mut gate, &up)?;
    b.linear(&[&w.down], &gate, tokens, &mut [&mut h])?;
    b.add(x, &h)
}
