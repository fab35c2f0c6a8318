//! Attention: see [`crate::spec::attention`].
//!
//! The cache's pages stay on the host, where a trace reads them. The device keeps the same integers as digits in the cache's
//! mirror, in a layout of its own, and gets each position once.

use std::ops::Range;

use super::call::{Buf, Call, Faults};
use super::device::{Gpu, Use};
use super::elements::{blame, bytes};
use super::kernels::Kernel;
use super::quantise::{Digits, locate, quantise};
use super::upload::Write;
use crate::spec::{
    AttentionPlan, DeviceFault, KvLayer, KvShape, Mask, NumericError, Op,
    attention::{KEY_BLOCK, KvRows},
    float::mul,
    quantise::no_overflow,
};

/// Columns to a multiple of which a head is padded.
pub(super) const PAD: usize = 16;
/// Words that the kernel keeps of a block: its scores and two maxima.
const KEPT: usize = KEY_BLOCK + 2;

pub(super) async fn kv_append(gpu: &Gpu, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
    let op = Op::KvAppend;
    let tokens = kv.check_append(k, v)?;
    let KvShape { heads, head_dim: d, .. } = kv.shape();
    let row = heads * d;
    let step = (gpu.most_words / (heads * d.next_multiple_of(PAD))).max(1) * row;
    let mut rows = KvRows::default();
    let mut fault = false;
    for (k, v) in k.chunks(step).zip(v.chunks(step)) {
        let vectors = k.len() / d;
        let mut call = Call::new(gpu, op)?;
        let (bk, bv) = (call.upload(k), call.upload(v));
        let a = quantise(&mut call, &bk, vectors, d, PAD, None);
        let b = quantise(&mut call, &bv, vectors, d, PAD, None);
        let mut back = Readback::new(vectors, a.words);
        fault |= call.finish(&mut back.outs(&a, &b), false).await?.any();
        let part = back.rows(d);
        rows.k.extend(part.k);
        rows.v.extend(part.v);
        rows.ke.extend(part.ke);
        rows.ve.extend(part.ve);
    }
    if fault {
        return blame(gpu, op, locate(op, "k", k, d).and_then(|()| locate(op, "v", v, d)));
    }
    kv.append(tokens, &rows);
    Ok(())
}

/// Room on the host for quantised keys and values.
pub(super) struct Readback {
    k: Vec<u32>,
    v: Vec<u32>,
    ke: Vec<i32>,
    ve: Vec<i32>,
}

impl Readback {
    pub(super) fn new(vectors: usize, words: usize) -> Self {
        let (digits, exponents) = (vec![0; 2 * vectors * words], vec![0; vectors]);
        Self { k: digits.clone(), v: digits, ke: exponents.clone(), ve: exponents }
    }

    /// What [`Call::finish`] is to fill.
    pub(super) fn outs<'a>(&'a mut self, k: &'a Digits, v: &'a Digits) -> Vec<(&'a Buf, &'a mut [u8])> {
        vec![
            (&k.digits, bytemuck::cast_slice_mut(&mut self.k)),
            (&v.digits, bytemuck::cast_slice_mut(&mut self.v)),
            (&k.exponents, bytemuck::cast_slice_mut(&mut self.ke)),
            (&v.exponents, bytemuck::cast_slice_mut(&mut self.ve)),
        ]
    }

    /// The integers.
    pub(super) fn rows(self, d: usize) -> KvRows {
        let [k, v] = [&self.k, &self.v].map(|digits| integers(bytemuck::cast_slice(digits), d));
        KvRows { k, v, ke: self.ke, ve: self.ve }
    }
}

/// Exponents, of their bytes.
pub(super) fn exponents(bytes: &[u8]) -> Vec<i32> {
    bytes.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word)).collect()
}

/// Rows of digits, as their bytes, to integers of `d` columns, without the padding.
pub(super) fn integers(digits: &[u8], d: usize) -> Vec<i16> {
    let row_bytes = 2 * d.next_multiple_of(PAD);
    let integer = |row: &[u8], c: usize| {
        // Four high digits, then the four low ones.
        let [high, low] = [0, 4].map(|digit| i16::from(row[c / 4 * 8 + digit + c % 4] as i8));
        256 * high + low
    };
    digits.chunks_exact(row_bytes).flat_map(|row| (0..d).map(move |c| integer(row, c))).collect()
}

pub(super) async fn attention(
    gpu: &Gpu,
    kv: &KvLayer,
    mask: Mask,
    heads: usize,
    first: usize,
    q: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let op = Op::Attention;
    let plan = AttentionPlan::new(kv, mask, heads, first, q, out)?;
    let groups = sent(gpu, kv, kv.len())?;
    let row = heads * plan.head_dim;
    let blocks = blocks_seen(&plan, 0..plan.tokens).len();
    let query = words_of_a_query(gpu, blocks, plan.head_dim).max(plan.head_dim.next_multiple_of(PAD));
    let step = (gpu.most_words / (heads * query)).max(1);
    let mut faults = Faults::default();
    for start in (0..plan.tokens).step_by(step) {
        let tokens = start..plan.tokens.min(start + step);
        let within = tokens.start * row..tokens.end * row;
        let (q, out) = (&q[within.clone()], &mut out[within]);
        faults.0 |= queries(gpu, &plan, &groups, tokens, q, out).await?.0;
    }
    let found = || {
        let scaled: Vec<f32> = q.iter().map(|q| mul(*q, plan.scale)).collect();
        locate(op, "q", &scaled, plan.head_dim).and_then(|()| no_overflow(op, out))
    };
    if faults.any() { blame(gpu, op, found()) } else { Ok(()) }
}

/// The blocks of keys that some rows of queries see.
fn blocks_seen(plan: &AttentionPlan, tokens: Range<usize>) -> Range<usize> {
    let (start, end) = (plan.keys(tokens.start).start, plan.keys(tokens.end - 1).end);
    start / KEY_BLOCK..end.div_ceil(KEY_BLOCK)
}

/// Some rows of queries, all heads.
async fn queries(
    gpu: &Gpu,
    plan: &AttentionPlan,
    groups: &[Group],
    tokens: Range<usize>,
    q: &[f32],
    out: &mut [f32],
) -> Result<Faults, NumericError> {
    let mut call = Call::new(gpu, Op::Attention)?;
    let bq = call.upload(q);
    let a = quantise(&mut call, &bq, tokens.len() * plan.heads, plan.head_dim, PAD, Some(plan.scale));
    let out_buf = call.room(q.len());
    record(&mut call, plan, groups, tokens, 0, &a, &out_buf);
    call.finish(&mut [(&out_buf, bytes(out))], true).await
}

/// Records some rows of a plan's queries, which are the rows from `first_row` on of `q` and `out`.
pub(super) fn record(
    call: &mut Call<'_>,
    plan: &AttentionPlan,
    groups: &[Group],
    tokens: Range<usize>,
    first_row: usize,
    q: &Digits,
    out: &Buf,
) {
    let blocks = blocks_seen(plan, tokens.clone());
    let span = call.blocks_per_group();
    let fault = call.fault();
    let window = match plan.mask {
        Mask::Causal => u32::MAX,
        Mask::Window { positions } => u32::try_from(positions).unwrap_or(u32::MAX),
        Mask::Full => 0,
    };
    for group in groups {
        let own_heads = group.heads.len() * plan.group;
        let count = tokens.len() * own_heads;
        let scores = call.room(count * blocks.len() * KEPT);
        let n = |n: usize| n as u32;
        let params = [
            [n(count), n(own_heads), n(plan.group), n(q.words)],
            [n(plan.head_dim), n(group.heads.len()), n(plan.first + tokens.start), n(plan.held)],
            [window, n(blocks.start), n(blocks.len()), n(plan.heads)],
            [n(group.heads.start * plan.group), n(first_row), n(group.values()), n(span)],
        ];
        let params = params.as_flattened();
        if blocks.len() <= span {
            let bufs = [&q.digits, &q.exponents, &group.k, &group.v, &group.e, &scores, out, &fault];
            call.dispatch(Kernel::Attention, &bufs, params, count, 1);
            continue;
        }
        let groups = count * blocks.len().div_ceil(span);
        let sums = call.room(groups * (4 + 8 * q.words));
        let bufs = [&q.digits, &q.exponents, &group.k, &group.e, &scores];
        call.dispatch(Kernel::AttentionScores, &bufs, params, groups, 1);
        call.dispatch(Kernel::AttentionSums, &[&group.v, &group.e, &scores, &sums], params, groups, 1);
        call.dispatch(Kernel::AttentionEnd, &[&sums, out, &fault], params, count, 1);
    }
}

/// Words of the largest buffer that a query over so many blocks needs: its scores, or what its workgroups leave.
pub(super) fn words_of_a_query(gpu: &Gpu, blocks: usize, head_dim: usize) -> usize {
    let left = 4 + 2 * head_dim.next_multiple_of(PAD);
    (blocks * KEPT).max(blocks.div_ceil(gpu.blocks_per_group) * left)
}

/// Whether one dispatch takes `rows` more queries of a cache, and one buffer its keys.
pub(super) fn fits(gpu: &Gpu, kv: &KvLayer, rows: usize, heads: usize) -> bool {
    let held = kv.len() + rows;
    let words = rows * heads * words_of_a_query(gpu, held.div_ceil(KEY_BLOCK), kv.shape().head_dim);
    words <= gpu.most_words && heads_at_once(gpu, kv.shape(), room_for(held)) == kv.shape().heads
}

/// Some key and value heads of a cache on the device.
#[derive(Debug, Clone)]
pub(super) struct Group {
    heads: Range<usize>,
    /// Positions that there is room for.
    room: usize,
    /// `[position][head][word]`: high digits, low digits.
    k: Buf,
    /// As `k`.
    v: Buf,
    /// `[position][head]`: exponents of the keys, then those of the values.
    e: Buf,
}

impl Group {
    /// Where the exponents of values begin.
    fn values(&self) -> usize {
        self.room * self.heads.len()
    }
}

/// What the mirror holds.
#[derive(Debug)]
struct Kept(Vec<Group>);

/// The cache on the device, every position of it, with room for `held`.
pub(super) fn sent(gpu: &Gpu, kv: &KvLayer, held: usize) -> Result<Vec<Group>, NumericError> {
    let mut mirror = kv.mirror().lock();
    let kept = mirror.held.as_ref().and_then(|held| held.downcast_ref::<Kept>());
    let groups = match kept {
        Some(Kept(groups)) if groups.iter().all(|group| group.room >= held) => groups.clone(),
        _ => {
            // What it held until now is not needed beside the new one.
            (mirror.held, mirror.len) = (None, 0);
            let groups =
                rooms(gpu, kv.shape(), room_for(held)).map_err(|fault| gpu.fault(Op::Attention, fault))?;
            gpu.check(Op::Attention)?;
            mirror.held = Some(Box::new(Kept(groups.clone())));
            groups
        }
    };
    let missing = mirror.len..kv.len();
    for group in groups.iter().filter(|_| !missing.is_empty()) {
        send(gpu, kv, group, missing.clone()).map_err(|fault| gpu.fault(Op::Attention, fault))?;
    }
    mirror.len = kv.len();
    Ok(groups)
}

/// Records that quantised rows of keys and values go to position `at` on.
pub(super) fn mirror(
    call: &mut Call<'_>,
    groups: &[Group],
    at: usize,
    [k, v]: [&Digits; 2],
    rows: Range<usize>,
) {
    // All heads are in one group: `fits` saw to it.
    for group in groups {
        let heads = group.heads.len();
        let (from, to, count) = (rows.start * heads, at * heads, rows.len() * heads);
        let words = 2 * k.words;
        call.copy((&k.digits, from * words), (&group.k, to * words), count * words);
        call.copy((&v.digits, from * words), (&group.v, to * words), count * words);
        call.copy((&k.exponents, from), (&group.e, to), count);
        call.copy((&v.exponents, from), (&group.e, group.values() + to), count);
    }
}

pub(super) fn room_for(positions: usize) -> usize {
    positions.next_power_of_two().max(KEY_BLOCK)
}

/// Heads whose keys at so many positions fit a buffer.
pub(super) fn heads_at_once(gpu: &Gpu, shape: KvShape, room: usize) -> usize {
    let head_bytes = 2 * room * shape.head_dim.next_multiple_of(PAD);
    (gpu.max_binding as usize / head_bytes).clamp(1, shape.heads)
}

fn rooms(gpu: &Gpu, shape: KvShape, room: usize) -> Result<Vec<Group>, DeviceFault> {
    let buf = |bytes: usize| {
        gpu.create(Use::Storage, bytes as u64).map(|buffer| Buf { buffer, bytes: bytes as u64 })
    };
    let step = heads_at_once(gpu, shape, room);
    (0..shape.heads)
        .step_by(step)
        .map(|first| {
            let heads = first..shape.heads.min(first + step);
            let bytes = 2 * room * shape.head_dim.next_multiple_of(PAD) * heads.len();
            let e = buf(8 * room * heads.len())?;
            Ok(Group { k: buf(bytes)?, v: buf(bytes)?, e, heads, room })
        })
        .collect()
}

fn send(gpu: &Gpu, kv: &KvLayer, group: &Group, positions: Range<usize>) -> Result<(), DeviceFault> {
    let d = kv.shape().head_dim;
    let vectors = positions.len() * group.heads.len();
    let words = d.next_multiple_of(PAD) / 4;
    let (mut k, mut v) = (vec![[0u32; 2]; vectors * words], vec![[0u32; 2]; vectors * words]);
    let (mut ke, mut ve) = (Vec::with_capacity(vectors), Vec::with_capacity(vectors));
    let all = positions.clone().flat_map(|p| group.heads.clone().map(move |h| (p, h)));
    let to = k.chunks_exact_mut(words).zip(v.chunks_exact_mut(words));
    for ((position, head), (k, v)) in all.zip(to) {
        for c in 0..d {
            put(&mut k[c / 4], c % 4, kv.key(head, position, c));
            put(&mut v[c / 4], c % 4, kv.value(head, position, c));
        }
        ke.push(kv.key_exponent(head, position));
        ve.push(kv.value_exponent(head, position));
    }
    let at = (positions.start * group.heads.len()) as u64;
    gpu.send(&[
        Write { buffer: &group.k.buffer, at: at * 8 * words as u64, bytes: bytemuck::cast_slice(&k) },
        Write { buffer: &group.v.buffer, at: at * 8 * words as u64, bytes: bytemuck::cast_slice(&v) },
        Write { buffer: &group.e.buffer, at: 4 * at, bytes: bytemuck::cast_slice(&ke) },
        Write {
            buffer: &group.e.buffer,
            at: 4 * (at + group.values() as u64),
            bytes: bytemuck::cast_slice(&ve),
        },
    ])
}

/// Sets the two digits of an integer.
fn put(word: &mut [u32; 2], byte: usize, a: i16) {
    let high = (i32::from(a) + 128) >> 8;
    let low = i32::from(a) - 256 * high;
    word[0] |= u32::from(high as u8) << (8 * byte);
    word[1] |= u32::from(low as u8) << (8 * byte);
}
