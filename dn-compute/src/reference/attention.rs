//! Attention: see [`crate::spec::attention`].

use std::ops::Range;

use crate::spec::{
    AttentionPlan, KvLayer, Mask, NumericError, Op,
    attention::{KEY_BLOCK, KvRows, MAX_P, merge, normalise, reciprocal, score},
    exp2::{exp2_q16, shift_round_u32},
    float::mul,
    quantise::{no_overflow, quantise, rebase},
};

pub(super) fn kv_append(kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
    let tokens = kv.check_append(k, v)?;
    let d = kv.shape().head_dim;
    let mut rows = KvRows { k: vec![0; k.len()], v: vec![0; v.len()], ..KvRows::default() };
    for (i, (x, a)) in k.chunks_exact(d).zip(rows.k.chunks_exact_mut(d)).enumerate() {
        rows.ke.push(quantise(Op::KvAppend, "k", x, a).map_err(|e| rebase(e, i * d))?);
    }
    for (i, (x, a)) in v.chunks_exact(d).zip(rows.v.chunks_exact_mut(d)).enumerate() {
        rows.ve.push(quantise(Op::KvAppend, "v", x, a).map_err(|e| rebase(e, i * d))?);
    }
    kv.append(tokens, &rows);
    Ok(())
}

pub(super) fn attention(
    kv: &KvLayer,
    mask: Mask,
    heads: usize,
    first: usize,
    q: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let plan = AttentionPlan::new(kv, mask, heads, first, q, out)?;
    let d = plan.head_dim;
    for (i, (q, out)) in q.chunks_exact(d).zip(out.chunks_exact_mut(d)).enumerate() {
        let (token, head) = (i / heads, i % heads);
        head_attention(kv, &plan, head / plan.group, plan.keys(token), q, out)
            .map_err(|e| rebase(e, i * d))?;
    }
    no_overflow(Op::Attention, out)
}

/// One query head over the keys that it sees.
fn head_attention(
    kv: &KvLayer,
    plan: &AttentionPlan,
    kv_head: usize,
    keys: Range<usize>,
    q: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let scaled: Vec<f32> = q.iter().map(|q| mul(*q, plan.scale)).collect();
    let mut a = vec![0i16; plan.head_dim];
    let eq = quantise(Op::Attention, "q", &scaled, &mut a)?;

    // Whole part and fixed-point power of every score.
    let (mut whole, mut power) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
    for position in keys.clone() {
        let key = |c: usize| i64::from(kv.key(kv_head, position, c));
        let dot: i64 = a.iter().enumerate().map(|(c, a)| i64::from(*a) * key(c)).sum();
        let s = score(dot, eq + kv.key_exponent(kv_head, position) + 16);
        whole.push(s >> 16);
        power.push(exp2_q16((s & 0xffff) as u32));
    }
    let from = keys.start;
    let whole = |position: usize| whole[position - from];
    let with_value = |position: usize| whole(position) + kv.value_exponent(kv_head, position);
    let top = keys.clone().map(whole).max().unwrap_or(0);
    let top_value = keys.clone().map(with_value).max().unwrap_or(0);

    let mut den = 0i64;
    let mut num = vec![0i64; plan.head_dim];
    for start in (from / KEY_BLOCK * KEY_BLOCK..keys.end).step_by(KEY_BLOCK) {
        let block = from.max(start)..keys.end.min(start + KEY_BLOCK);
        let block_top = block.clone().map(whole).max().unwrap_or(0);
        let block_top_value = block.clone().map(with_value).max().unwrap_or(0);
        let p = |n: usize, below: i32| shift_round_u32(power[n - from], below.unsigned_abs() + 3).min(MAX_P);
        let den_b: i64 = block.clone().map(|n| i64::from(p(n, block_top - whole(n)))).sum();
        den += merge(den_b, top - block_top);
        let weights: Vec<i64> =
            block.clone().map(|n| i64::from(p(n, block_top_value - with_value(n)))).collect();
        for (c, num) in num.iter_mut().enumerate() {
            let values = block.clone().map(|n| i64::from(kv.value(kv_head, n, c)));
            let num_b: i64 = weights.iter().zip(values).map(|(p, v)| p * v).sum();
            *num += merge(num_b, top_value - block_top_value);
        }
    }
    let factor = reciprocal(den);
    for (out, num) in out.iter_mut().zip(&num) {
        *out = normalise(*num, factor, top_value - top);
    }
    Ok(())
}
