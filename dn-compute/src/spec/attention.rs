//! Attention over quantised keys and values: integer scores, fixed-point exponentials, integer sums.
//!
//! For one query head `q` of `d` values, over the keys that its [`Mask`] lets it see, in blocks of 64 aligned to position 0:
//!
//! 1. `q' = mul(q, log2(e) / sqrt(d))`, quantised to `Aq * 2^eq`. Keys and values are held as `Ak * 2^ek` and
//!    `Av * 2^ev` per head and position.
//! 2. Score in Q16, log2 units: `s = RNE((sum Aq * Ak) * 2^(eq + ek + 16))`, held to `-2^30..=2^30`; `i = s >> 16`,
//!    `y = exp2_q16(s & 65535)`; `j = i + ev`.
//! 3. Per block, with `ib = max i`, `jb = max j`: `p = min(RNE(y / 2^(ib - i + 3)), 16383)`, `den_b = sum p`;
//!    `p' = min(RNE(y / 2^(jb - j + 3)), 16383)`, `num_b[c] = sum p' * Av[c]`.
//! 4. With the maxima `it`, `jt` over all keys: `den = sum over blocks of RNE(den_b * 2^16 / 2^(it - ib))`,
//!    `num[c]` likewise with `jt - jb`.
//! 5. `out[c] = scale(mul(RNE_f32(num[c]), recip(RNE_f32(den))), jt - it)`.
//!
//! Every sum is exact, so neither the split of the keys nor the order matters. `den >= 2^29`, because the largest
//! score of all has `p >= 8192`. `|num_b| <= 64 * 16383 * 32639 < 2^35`; with 16 guard bits and 2,048 blocks `|num| < 2^62`.

use std::ops::Range;
use std::sync::Arc;

use super::error::{NumericError, Op};
use super::exp2::shift_round_i64;
use super::float::{mul, recip, scale};
use super::limits::{MAX_CONTEXT, MAX_HEAD_DIM};
use super::linear::{check, check_tokens};
use super::mask::Mask;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use super::mirror::Mirror;
use super::trig::score_scale;

/// Keys that share an exponent.
pub const KEY_BLOCK: usize = 64;

/// Scores are held to this magnitude: `2^14` in log2 units, in Q16.
pub const MAX_SCORE: i64 = 1 << 30;

/// Largest value of a fixed-point probability: 14 bits.
pub const MAX_P: u32 = 16_383;

/// The sizes of one layer's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Key and value heads.
    pub heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Most positions.
    pub capacity: usize,
}

/// Where a page keeps the key of a position (of 0 to 63): of each 32 first the even positions, then the odd ones.
///
/// So two vectors of sixteen scores interleave to 32 values of 16 bits in the order of the positions.
pub(crate) const fn slot(position: usize) -> usize {
    (position & 32) | (position & 1) << 4 | (position >> 1 & 15)
}

/// Elements that a value vector takes in a page.
pub(crate) const fn value_width(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

/// Quantised keys and values of 64 positions, all heads.
#[derive(Debug, Clone)]
pub(crate) struct KvPage {
    /// `[head][element / 2][slot][element % 2]`: a pair of elements of all 64 keys side by side, in the order of [`slot`].
    pub(crate) k: Vec<i16>,
    /// `[head][position / 2][element][position % 2]`: two positions side by side, as pair dot products read them, the
    /// elements padded with zeros to [`value_width`].
    pub(crate) v: Vec<i16>,
    /// `[head][slot]`.
    pub(crate) ke: Vec<i32>,
    /// `[head][slot]`.
    pub(crate) ve: Vec<i32>,
}

/// Keys and values of one layer and one sequence, in pages of 64 positions.
///
/// A clone shares the pages until one side writes: a common prefix costs its memory once.
#[derive(Debug, Clone)]
pub struct KvLayer {
    shape: KvShape,
    len: usize,
    pages: Vec<Arc<KvPage>>,
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    mirror: Mirror,
}

/// Quantised rows to append: `tokens x heads x head_dim` integers, `tokens x heads` exponents.
#[derive(Debug, Clone, Default)]
pub(crate) struct KvRows {
    pub(crate) k: Vec<i16>,
    pub(crate) ke: Vec<i32>,
    pub(crate) v: Vec<i16>,
    pub(crate) ve: Vec<i32>,
}

impl KvLayer {
    /// An empty cache. Memory grows a page at a time.
    ///
    /// # Errors
    /// A size outside the limits, an odd `head_dim`.
    pub fn new(shape: KvShape) -> Result<Self, NumericError> {
        let sizes = [
            ("heads", 4096, shape.heads),
            ("head_dim", MAX_HEAD_DIM, shape.head_dim),
            ("capacity", MAX_CONTEXT, shape.capacity),
        ];
        for (what, max, found) in sizes {
            if !(1..=max).contains(&found) {
                return Err(NumericError::Limit { op: Op::KvAppend, what, min: 1, max, found });
            }
        }
        if !shape.head_dim.is_multiple_of(2) {
            return Err(NumericError::Parameter { op: Op::KvAppend, what: "head_dim", expected: "even" });
        }
        Ok(Self {
            shape,
            len: 0,
            pages: Vec::new(),
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            mirror: Mirror::default(),
        })
    }

    /// The sizes.
    pub const fn shape(&self) -> KvShape {
        self.shape
    }

    /// Positions held.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the positions from `len` on; does nothing when fewer are held.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
            self.pages.truncate(len.div_ceil(KEY_BLOCK));
            #[cfg(any(feature = "cuda", feature = "wgpu"))]
            self.mirror.truncate(len);
        }
    }

    /// What a backend keeps of this cache on its device.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) const fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Bytes of memory that the held pages take, shared ones included.
    pub fn memory_bytes(&self) -> usize {
        self.pages.len() * Self::page_bytes(self.shape.heads, self.shape.head_dim) as usize
    }

    /// Bytes of a page of 64 positions.
    pub const fn page_bytes(heads: usize, head_dim: usize) -> u64 {
        (heads * KEY_BLOCK * (2 * head_dim + 2 * value_width(head_dim) + 8)) as u64
    }

    /// Checks an append of rows `k` and `v`; returns the number of tokens.
    ///
    /// # Errors
    /// Lengths that do not fit, or a cache that is full.
    pub fn check_append(&self, k: &[f32], v: &[f32]) -> Result<usize, NumericError> {
        let op = Op::KvAppend;
        let row = self.shape.heads * self.shape.head_dim;
        let tokens = k.len() / row;
        check(op, "elements of k", tokens * row, k.len())?;
        check(op, "elements of v", k.len(), v.len())?;
        check_tokens(op, tokens)?;
        if self.len + tokens > self.shape.capacity {
            let (len, capacity) = (self.len, self.shape.capacity);
            return Err(NumericError::CacheFull { len, capacity, adding: tokens });
        }
        Ok(tokens)
    }

    pub(crate) fn append(&mut self, tokens: usize, rows: &KvRows) {
        let KvShape { heads, head_dim: d, .. } = self.shape;
        let width = value_width(d);
        for t in 0..tokens {
            let (page, at) = (self.len / KEY_BLOCK, self.len % KEY_BLOCK);
            if page == self.pages.len() {
                let (keys, exponents) = (heads * KEY_BLOCK * d, heads * KEY_BLOCK);
                self.pages.push(Arc::new(KvPage {
                    k: vec![0; keys],
                    v: vec![0; heads * KEY_BLOCK * width],
                    ke: vec![0; exponents],
                    ve: vec![0; exponents],
                }));
            }
            let page = Arc::make_mut(&mut self.pages[page]);
            for h in 0..heads {
                let from = (t * heads + h) * d;
                let keys = page.k[h * KEY_BLOCK * d..][..KEY_BLOCK * d].chunks_exact_mut(2 * KEY_BLOCK);
                for (pairs, two) in keys.zip(rows.k[from..][..d].chunks_exact(2)) {
                    pairs[2 * slot(at)..][..2].copy_from_slice(two);
                }
                let pair = &mut page.v[(h * KEY_BLOCK + at / 2 * 2) * width..][..2 * d];
                for (two, v) in pair.chunks_exact_mut(2).zip(&rows.v[from..][..d]) {
                    two[at % 2] = *v;
                }
                page.ke[h * KEY_BLOCK + slot(at)] = rows.ke[t * heads + h];
                page.ve[h * KEY_BLOCK + slot(at)] = rows.ve[t * heads + h];
            }
            self.len += 1;
        }
    }

    /// A page to be shared with another sequence; `None` while it is not full.
    #[cfg(feature = "engine")]
    pub(crate) fn shared_page(&self, index: usize) -> Option<Arc<KvPage>> {
        if (index + 1) * KEY_BLOCK <= self.len { self.pages.get(index).cloned() } else { None }
    }

    /// Appends a page that another sequence of this shape filled.
    ///
    /// # Errors
    /// A cache that is full, or whose last page is not.
    #[cfg(feature = "engine")]
    pub(crate) fn append_page(&mut self, page: Arc<KvPage>) -> Result<(), NumericError> {
        let KvShape { heads, head_dim, capacity } = self.shape;
        if !self.len.is_multiple_of(KEY_BLOCK) || self.len + KEY_BLOCK > capacity {
            return Err(NumericError::CacheFull { len: self.len, capacity, adding: KEY_BLOCK });
        }
        check(Op::KvAppend, "elements of a page", heads * head_dim * KEY_BLOCK, page.k.len())?;
        self.pages.truncate(self.len / KEY_BLOCK);
        self.pages.push(page);
        self.len += KEY_BLOCK;
        Ok(())
    }

    #[cfg(feature = "engine")]
    pub(crate) fn page(&self, index: usize) -> &KvPage {
        &self.pages[index]
    }

    /// Appends the canonical bytes of what is kept of a position, of which a trace binds the hash.
    ///
    /// Per head: the key's exponent and the value's, then the key's integers, then the value's; all i16, little-endian.
    ///
    /// # Panics
    /// When the position is not held.
    pub fn entry(&self, position: usize, out: &mut Vec<u8>) {
        let (page, at, d) = (&self.pages[position / KEY_BLOCK], position % KEY_BLOCK, self.shape.head_dim);
        let (slot, width, from) = (slot(at), value_width(d), out.len());
        let write = |to: &mut [u8], n: i16| to.copy_from_slice(&n.to_le_bytes());
        out.resize(from + self.shape.heads * (4 + 4 * d), 0);
        for (head, bytes) in out[from..].chunks_exact_mut(4 + 4 * d).enumerate() {
            write(&mut bytes[..2], page.ke[head * KEY_BLOCK + slot] as i16);
            write(&mut bytes[2..4], page.ve[head * KEY_BLOCK + slot] as i16);
            let (k, v) = bytes[4..].split_at_mut(2 * d);
            let keys = page.k[head * KEY_BLOCK * d..][..KEY_BLOCK * d].chunks_exact(2 * KEY_BLOCK);
            for (to, pair) in k.chunks_exact_mut(4).zip(keys) {
                write(&mut to[..2], pair[2 * slot]);
                write(&mut to[2..], pair[2 * slot + 1]);
            }
            let values = &page.v[(head * KEY_BLOCK + at / 2 * 2) * width..][..2 * d];
            for (to, pair) in v.chunks_exact_mut(2).zip(values.chunks_exact(2)) {
                write(to, pair[at % 2]);
            }
        }
    }

    /// One integer of a key.
    pub fn key(&self, head: usize, position: usize, element: usize) -> i16 {
        let (page, at) = (&self.pages[position / KEY_BLOCK], position % KEY_BLOCK);
        let pair = head * self.shape.head_dim / 2 + element / 2;
        page.k[(pair * KEY_BLOCK + slot(at)) * 2 + element % 2]
    }

    /// The exponent of a key.
    pub fn key_exponent(&self, head: usize, position: usize) -> i32 {
        self.pages[position / KEY_BLOCK].ke[head * KEY_BLOCK + slot(position % KEY_BLOCK)]
    }

    /// One integer of a value vector.
    pub fn value(&self, head: usize, position: usize, element: usize) -> i16 {
        let (page, at) = (&self.pages[position / KEY_BLOCK], position % KEY_BLOCK);
        page.v[(head * KEY_BLOCK + at / 2 * 2) * value_width(self.shape.head_dim) + 2 * element + at % 2]
    }

    /// The exponent of a value vector.
    pub fn value_exponent(&self, head: usize, position: usize) -> i32 {
        self.pages[position / KEY_BLOCK].ve[head * KEY_BLOCK + slot(position % KEY_BLOCK)]
    }
}

/// The checked shapes of attention of `tokens` queries at positions `first..first + tokens`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionPlan {
    /// Query rows.
    pub tokens: usize,
    /// Position of the first query.
    pub first: usize,
    /// Query heads per row.
    pub heads: usize,
    /// Query heads that share one key and value head.
    pub group: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// `log2(e) / sqrt(head_dim)`.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Positions that the cache holds.
    pub held: usize,
}

impl AttentionPlan {
    /// Checks `q` and `out` as `tokens x heads x head_dim`, and that the cache holds every position asked about.
    ///
    /// # Errors
    /// Lengths that do not fit, heads that the cache's heads do not divide, positions not yet held, or a window of none.
    pub fn new(
        kv: &KvLayer,
        mask: Mask,
        heads: usize,
        first: usize,
        q: &[f32],
        out: &[f32],
    ) -> Result<Self, NumericError> {
        let op = Op::Attention;
        let KvShape { heads: kv_heads, head_dim, .. } = kv.shape;
        if heads == 0 || !heads.is_multiple_of(kv_heads) {
            let expected = heads.div_ceil(kv_heads).max(1) * kv_heads;
            return Err(NumericError::Shape { op, what: "query heads", expected, found: heads });
        }
        let tokens = q.len() / (heads * head_dim);
        check(op, "elements of q", tokens * heads * head_dim, q.len())?;
        check_tokens(op, tokens)?;
        check(op, "elements of the output", q.len(), out.len())?;
        if first > kv.len || tokens > kv.len - first {
            let found = first.saturating_add(tokens);
            return Err(NumericError::Limit { op, what: "last position + 1", min: 1, max: kv.len, found });
        }
        if mask == (Mask::Window { positions: 0 }) {
            return Err(NumericError::Parameter { op, what: "window", expected: "at least 1" });
        }
        let (group, scale) = (heads / kv_heads, score_scale(head_dim));
        Ok(Self { tokens, first, heads, group, head_dim, scale, mask, held: kv.len })
    }

    /// The keys that the query of row `token` sees: never none.
    pub fn keys(&self, token: usize) -> Range<usize> {
        self.mask.keys(self.first + token, self.held)
    }
}

/// Step 2: the exact dot product to a score in Q16, `shift = eq + ek + 16`.
#[inline]
pub fn score(dot: i64, shift: i32) -> i32 {
    // Beyond MAX_SCORE a left shift saturates whatever it is, so the operand can be held before it.
    let s = if shift >= 0 {
        dot.clamp(-MAX_SCORE, MAX_SCORE) << shift.min(31)
    } else {
        shift_round_i64(dot, shift.unsigned_abs())
    };
    s.clamp(-MAX_SCORE, MAX_SCORE) as i32
}

/// Step 4 for one block: 16 guard bits, then down to the global maximum, `down` steps above the block's.
#[inline]
pub fn merge(sum: i64, down: i32) -> i64 {
    shift_round_i64(sum << 16, down.unsigned_abs())
}

/// Step 5. `e = jt - it`; an infinity where the output overflows.
#[inline]
pub fn normalise(num: i64, recip_den: f32, e: i32) -> f32 {
    scale(mul(num as f32, recip_den), e)
}

/// Step 5: the factor shared by all elements of a head.
#[inline]
pub fn reciprocal(den: i64) -> f32 {
    recip(den as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_was_appended() {
        let shape = KvShape { heads: 3, head_dim: 6, capacity: 200 };
        let mut kv = KvLayer::new(shape).unwrap();
        let row = shape.heads * shape.head_dim;
        let numbers = |n: usize, from: usize| (0..n).map(|i| (from + i * 7) as i16).collect::<Vec<i16>>();
        let exponents = |n: usize, from: usize| (0..n).map(|i| (from + i) as i32 % 100 - 50).collect();
        let rows = KvRows {
            k: numbers(150 * row, 1),
            v: numbers(150 * row, 2),
            ke: exponents(150 * shape.heads, 3),
            ve: exponents(150 * shape.heads, 4),
        };
        kv.append(150, &rows);
        for position in 0..150 {
            let mut expected: Vec<i16> = Vec::new();
            for head in 0..shape.heads {
                let at = position * shape.heads + head;
                expected.extend([rows.ke[at] as i16, rows.ve[at] as i16]);
                expected.extend(&rows.k[at * shape.head_dim..][..shape.head_dim]);
                expected.extend(&rows.v[at * shape.head_dim..][..shape.head_dim]);
            }
            let mut found = Vec::new();
            kv.entry(position, &mut found);
            let expected: Vec<u8> = expected.iter().flat_map(|n| n.to_le_bytes()).collect();
            assert_eq!(found, expected, "position {position}");
        }
    }
}
