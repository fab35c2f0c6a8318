//! One row of a matrix.

use std::ops::Range;

use super::MIN_SHIFT;

/// A row, or a part of one that starts with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantRow<'a> {
    /// The signed bytes.
    pub q: &'a [i8],
    /// A mantissa per started block.
    pub m: &'a [u16],
    /// A minimum per started block, or nothing.
    pub n: &'a [i16],
    /// The exponent.
    pub er: i32,
    /// Columns of a full block.
    pub block: usize,
}

impl<'a> QuantRow<'a> {
    /// Some columns of the row.
    ///
    /// # Panics
    /// When the range leaves the row, or starts inside a block that is not the row's only one.
    pub fn columns(self, range: Range<usize>) -> Self {
        let first = range.start / self.block;
        assert!(range.start.is_multiple_of(self.block) || self.m.len() == 1, "starts inside a block");
        let blocks = first..if range.is_empty() { first } else { (range.end - 1) / self.block + 1 };
        let n = if self.n.is_empty() { self.n } else { &self.n[blocks.clone()] };
        Self { q: &self.q[range], m: &self.m[blocks], n, ..self }
    }

    /// The blocks: their signed bytes, mantissa and minimum (0 without minima).
    pub fn blocks(self) -> impl Iterator<Item = (&'a [i8], u16, i16)> {
        let n = self.n.iter().copied().chain(std::iter::repeat(0));
        self.q.chunks(self.block).zip(self.m).zip(n).map(|((q, m), n)| (q, *m, n))
    }

    /// The weights as integers of the unit `2^er`: `q * m - 16 * n`, below `2^23` in magnitude.
    pub fn integers(self) -> impl Iterator<Item = i32> + use<'a> {
        self.blocks().flat_map(|(q, m, n)| {
            let minimum = i32::from(n) << MIN_SHIFT;
            q.iter().map(move |q| i32::from(*q) * i32::from(m) - minimum)
        })
    }
}
