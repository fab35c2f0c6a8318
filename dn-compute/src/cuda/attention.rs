//! Attention: see [`crate::spec::attention`].
//!
//! A cache's pages stay on the host, where a trace reads them. The device keeps the same integers as digits, in pages of its own
//! that the cache's mirror holds, and gets each position once.

use std::ops::Range;

use super::call::{Call, Faults, words};
use super::device::{Buf, Device};
use super::elements::{blame, bytes};
use super::quantise::{Digits, locate, quantise};
use crate::spec::{
    AttentionPlan, KvLayer, KvShape, Mask, NumericError, Op,
    attention::{KEY_BLOCK, KvRows},
    float::mul,
    quantise::no_overflow,
};

/// Columns to a multiple of which a head is padded.
pub(super) const PAD: usize = 16;
/// Queries of a block of threads.
const QUERIES: usize = 8;
/// Most blocks in the second and third dimension of a grid.
const MOST_BLOCKS: usize = 65_535;
/// Words that a query keeps of a block of keys: its scores and two maxima.
const KEPT: usize = KEY_BLOCK + 2;
/// Positions that are sent to the device at a time.
const SENT: usize = 16 * KEY_BLOCK;

pub(super) fn kv_append(device: &Device, kv: &mut KvLayer, k: &[f32], v: &[f32]) -> Result<(), NumericError> {
    let op = Op::KvAppend;
    let tokens = kv.check_append(k, v)?;
    let KvShape { heads, head_dim: d, .. } = kv.shape();
    let step = (device.most_words / (heads * d)).max(1) * heads * d;
    let (mut rows, mut fault) = (KvRows::default(), false);
    for (k, v) in k.chunks(step).zip(v.chunks(step)) {
        let call = Call::new(device, op)?;
        let (bk, bv) = (call.upload(k)?, call.upload(v)?);
        let quantised = Quantised::new(&call, &bk, &bv, k.len() / d, d)?;
        let mut part = quantised.host_rows();
        fault |= call.finish(&mut quantised.outs(&mut part))?.any();
        rows.k.extend(part.k);
        rows.v.extend(part.v);
        rows.ke.extend(part.ke);
        rows.ve.extend(part.ve);
    }
    if fault {
        return blame(device, op, locate(op, "k", k, d).and_then(|()| locate(op, "v", v, d)));
    }
    kv.append(tokens, &rows);
    Ok(())
}

/// Keys and values on the device as the integers that a cache keeps.
pub(super) struct Quantised {
    /// `[position][head][element]` of 16 bits.
    k: Buf,
    /// As `k`.
    v: Buf,
    /// `[position][head]`: exponents of the keys.
    ke: Buf,
    /// As `ke`, of the values.
    ve: Buf,
    /// Positions times heads.
    vectors: usize,
    head_dim: usize,
}

impl Quantised {
    pub(super) fn new(
        call: &Call<'_>,
        k: &Buf,
        v: &Buf,
        vectors: usize,
        d: usize,
    ) -> Result<Self, NumericError> {
        let [ok, ov] = [call.room(vectors * d / 2)?, call.room(vectors * d / 2)?];
        let [ke, ve] = [call.room(vectors)?, call.room(vectors)?];
        let addresses = [k.at(), v.at(), ok.at(), ov.at(), ke.at(), ve.at(), call.fault()];
        // A warp for each vector.
        let grid = [vectors.div_ceil(4), 2, 1];
        call.launch("kv_quantise", grid, 128, &addresses, &[vectors as u32, d as u32])?;
        Ok(Self { k: ok, v: ov, ke, ve, vectors, head_dim: d })
    }

    fn upload(call: &Call<'_>, rows: &KvRows, d: usize) -> Result<Self, NumericError> {
        let (k, v) = (call.upload(&rows.k)?, call.upload(&rows.v)?);
        let (ke, ve) = (call.upload(&rows.ke)?, call.upload(&rows.ve)?);
        Ok(Self { k, v, ke, ve, vectors: rows.ke.len(), head_dim: d })
    }

    /// Room for them on the host.
    pub(super) fn host_rows(&self) -> KvRows {
        let (values, exponents) = (vec![0; self.vectors * self.head_dim], vec![0; self.vectors]);
        KvRows { k: values.clone(), v: values, ke: exponents.clone(), ve: exponents }
    }

    /// What [`Call::finish`] is to fill.
    pub(super) fn outs<'a>(&'a self, rows: &'a mut KvRows) -> Vec<(&'a Buf, &'a mut [u8])> {
        vec![
            (&self.k, bytes(&mut rows.k)),
            (&self.v, bytes(&mut rows.v)),
            (&self.ke, bytes(&mut rows.ke)),
            (&self.ve, bytes(&mut rows.ve)),
        ]
    }

    /// Brings some of them, counted in positions from the first, to the pages of a cache, from position `at` on.
    pub(super) fn store(
        &self,
        call: &Call<'_>,
        pages: &Pages,
        shape: KvShape,
        rows: Range<usize>,
        at: usize,
    ) -> Result<(), NumericError> {
        let KvShape { heads, head_dim: d, .. } = shape;
        let (vectors, elements) = ((rows.start * heads) as u64, (rows.start * heads * d) as u64);
        let addresses = [
            self.k.at() + 2 * elements,
            self.v.at() + 2 * elements,
            self.ke.at() + 4 * vectors,
            self.ve.at() + 4 * vectors,
            pages.table.at(),
        ];
        let numbers = [at, heads, d, d.next_multiple_of(PAD)].map(|n| n as u32);
        call.launch("kv_store", [rows.len(), heads, 1], 64, &addresses, &numbers)
    }
}

/// The pages of a cache on the device.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    held: Vec<Buf>,
    /// Their addresses.
    table: Buf,
}

pub(super) fn page_bytes(shape: KvShape) -> usize {
    shape.heads * KEY_BLOCK * (4 * shape.head_dim.next_multiple_of(PAD) + 8)
}

/// The cache on the device, every position of it, with room for `held`.
pub(super) fn sent(call: &Call<'_>, kv: &KvLayer, held: usize) -> Result<Pages, NumericError> {
    let mut mirror = kv.mirror().lock();
    let kept = mirror.held.as_ref().and_then(|held| held.downcast_ref::<Pages>());
    let kept = kept.filter(|pages| call.device.owns(&pages.table));
    let needed = held.div_ceil(KEY_BLOCK);
    let pages = match kept {
        Some(pages) if pages.held.len() >= needed => pages.clone(),
        kept => {
            // A device that kept something else starts anew; new pages beside the old ones keep what these hold.
            let mut held = kept.map_or_else(Vec::new, |pages| pages.held.clone());
            if held.is_empty() {
                mirror.len = 0;
            }
            while held.len() < needed {
                held.push(call.room(page_bytes(kv.shape()) / 4)?);
            }
            let addresses: Vec<u64> = held.iter().map(Buf::at).collect();
            let pages = Pages { held, table: call.upload(&addresses)? };
            mirror.held = Some(Box::new(pages.clone()));
            pages
        }
    };
    for first in (mirror.len..kv.len()).step_by(SENT) {
        let positions = first..kv.len().min(first + SENT);
        let rows = rows_of(kv, positions.clone());
        let quantised = Quantised::upload(call, &rows, kv.shape().head_dim)?;
        quantised.store(call, &pages, kv.shape(), 0..positions.len(), first)?;
    }
    // What is launched later may still come to nothing: then it is sent again.
    if !call.is_repeated() {
        mirror.len = kv.len();
    }
    Ok(pages)
}

/// What a cache keeps of some positions.
fn rows_of(kv: &KvLayer, positions: Range<usize>) -> KvRows {
    let KvShape { heads, head_dim: d, .. } = kv.shape();
    let mut rows = KvRows::default();
    for position in positions {
        for head in 0..heads {
            rows.k.extend((0..d).map(|c| kv.key(head, position, c)));
            rows.v.extend((0..d).map(|c| kv.value(head, position, c)));
            rows.ke.push(kv.key_exponent(head, position));
            rows.ve.push(kv.value_exponent(head, position));
        }
    }
    rows
}

pub(super) fn attention(
    device: &Device,
    kv: &KvLayer,
    mask: Mask,
    heads: usize,
    first: usize,
    q: &[f32],
    out: &mut [f32],
) -> Result<(), NumericError> {
    let op = Op::Attention;
    let plan = AttentionPlan::new(kv, mask, heads, first, q, out)?;
    let row = heads * plan.head_dim;
    let blocks = span(&plan, 0..plan.tokens).len();
    let step = tokens_at_once(device, &plan, blocks).max(1);
    let mut faults = Faults::default();
    for start in (0..plan.tokens).step_by(step) {
        let tokens = start..plan.tokens.min(start + step);
        let within = tokens.start * row..tokens.end * row;
        let call = Call::new(device, op)?;
        let pages = sent(&call, kv, kv.len())?;
        let bq = call.upload(&q[within.clone()])?;
        let (queries, d) = (tokens.len() * heads, plan.head_dim);
        let a = quantise(&call, &bq, queries, d, PAD, Some(plan.scale))?;
        let bout = call.room(queries * d)?;
        record(&call, &plan, &pages, tokens, 0, &a, &bout)?;
        faults.0 |= call.finish(&mut [(&bout, bytes(&mut out[within]))])?.0;
    }
    let found = || {
        let scaled: Vec<f32> = q.iter().map(|q| mul(*q, plan.scale)).collect();
        locate(op, "q", &scaled, plan.head_dim).and_then(|()| no_overflow(op, out))
    };
    if faults.any() { blame(device, op, found()) } else { Ok(()) }
}

/// Rows of queries whose scores over so many blocks of keys a launch takes; 0 where not even one.
pub(super) fn tokens_at_once(device: &Device, plan: &AttentionPlan, blocks: usize) -> usize {
    let words = plan.heads * (blocks * KEPT).max(2 * plan.head_dim.next_multiple_of(PAD));
    (device.most_words / words).min(MOST_BLOCKS * QUERIES / plan.group)
}

/// The blocks of keys that some rows of queries see.
pub(super) fn span(plan: &AttentionPlan, tokens: Range<usize>) -> Range<usize> {
    let (start, end) = (plan.keys(tokens.start).start, plan.keys(tokens.end - 1).end);
    start / KEY_BLOCK..end.div_ceil(KEY_BLOCK)
}

/// Attention of some rows of a plan's queries, which are the rows from `first_row` on of `q` and `out`.
pub(super) fn record(
    call: &Call<'_>,
    plan: &AttentionPlan,
    pages: &Pages,
    tokens: Range<usize>,
    first_row: usize,
    q: &Digits,
    out: &Buf,
) -> Result<(), NumericError> {
    let (blocks, d, padded) =
        (span(plan, tokens.clone()), plan.head_dim, plan.head_dim.next_multiple_of(PAD));
    let (rows, kv_heads) = (tokens.len() * plan.heads, plan.heads / plan.group);
    let tiles = (tokens.len() * plan.group).div_ceil(QUERIES);
    let window = match plan.mask {
        Mask::Causal => u32::MAX,
        Mask::Window { positions } => u32::try_from(positions).unwrap_or(u32::MAX),
        Mask::Full => 0,
    };
    let (scores, block_tops) =
        (call.room(rows * blocks.len() * KEY_BLOCK)?, call.room(2 * rows * blocks.len())?);
    let (tops, num, den) = (call.room(2 * rows)?, call.room(2 * rows * d)?, call.room(2 * rows)?);
    let sums = [tops.at(), num.at(), den.at()];
    call.launch_items("attention_begin", rows * d, &sums, &[rows as u32, d as u32])?;
    // So many blocks of keys for a block of threads that all of the device is busy.
    let shares = (2 * call.device.driver().units()).div_ceil(kv_heads * tiles).clamp(1, blocks.len());
    let share = blocks.len().div_ceil(shares);
    let n = |n: usize| n as u32;
    let numbers = [
        n(tokens.len()),
        n(plan.heads),
        n(plan.group),
        n(padded),
        n(plan.first + tokens.start),
        n(plan.held),
        window,
        n(blocks.start),
        n(blocks.len()),
        n(first_row),
        n(d),
        n(share),
    ];
    let addresses = [
        q.high.at(),
        q.low.at(),
        q.exponents.at(),
        pages.table.at(),
        scores.at(),
        block_tops.at(),
        tops.at(),
        num.at(),
        den.at(),
    ];
    call.launch("scores", [blocks.len(), kv_heads, tiles], 2 * KEY_BLOCK as u32, &addresses, &numbers)?;
    let grid = [blocks.len().div_ceil(share), kv_heads, tiles];
    call.launch("sums", grid, padded.next_multiple_of(KEY_BLOCK) as u32, &addresses, &numbers)?;
    let ([low, high], [to_low, to_high]) = (words(rows * d), words(first_row * plan.heads * d));
    let [tops, num, den] = sums;
    let addresses = [tops, num, den, out.at(), call.fault()];
    call.launch_items("divide", rows * d, &addresses, &[low, high, d as u32, to_low, to_high])
}
