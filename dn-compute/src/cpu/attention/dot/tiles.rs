//! AMX: the product by tiles of bytes. Both factors are cut into two digits, four products of digits are added up in three
//! sums of 32 bits.
//!
//! A page is brought into the order of the tiles once and serves all rows of a piece. One tile product takes sixteen cycles for
//! 16 x 16 outputs over 64 terms.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::cpu::isa::{Amx, Level};

use super::{LANES, Product};

/// From this many rows on the tiles beat vectors, which need no new order of the page.
const MIN_ROWS: usize = 12;

/// Rows of a tile.
const ROWS: usize = 16;

/// Terms of a tile product.
const DEPTH: usize = 64;

/// A row of a tile.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; DEPTH]);

const ZERO: Line = Line([0; DEPTH]);

/// How the tiles are cut: all eight as 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

const CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1; // the palette
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = DEPTH as u8;
        bytes[48 + tile] = ROWS as u8;
        tile += 1;
    }
    Config(bytes)
};

/// The sign of the lower digit of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cpu::attention) enum Digits {
    /// Both digits in `-128..=127`.
    Signed,
    /// Both digits in `0..=255`.
    Unsigned,
}

/// Digits of rows and of one page in the order of the tiles.
#[derive(Default)]
pub(in crate::cpu::attention) struct Tiles {
    token: Option<Amx>,
    /// Depth of the product in tiles.
    depth: usize,
    /// `[row][depth]`.
    row_high: Vec<Line>,
    row_low: Vec<Line>,
    /// `[depth][column / 16][term / 4]`: lines of 16 columns of four terms.
    page_high: Vec<Line>,
    page_low: Vec<Line>,
    /// The sum of the mixed products, `[row][column]`.
    mixed: Vec<i32>,
}

impl Tiles {
    /// Prepares this thread's tiles if that pays; else [`ready`](Self::ready) stays false.
    pub(in crate::cpu::attention) fn begin(&mut self, level: Level, rows: usize) {
        self.token = match level {
            Level::Amx(token) if rows >= MIN_ROWS => Some(token),
            _ => None,
        };
        if self.token.is_some() {
            // SAFETY: the token proves that the machine has tiles and the system grants them; the instruction reads the 64
            // bytes of the configuration.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, preserves_flags, readonly)) };
        }
    }

    /// Whether the tiles are in use.
    pub(in crate::cpu::attention) const fn ready(&self) -> bool {
        self.token.is_some()
    }

    /// Gives the tiles back, so that the system need not save them.
    pub(in crate::cpu::attention) fn end(&mut self) {
        if self.token.take().is_some() {
            // SAFETY: the token proves that the machine has tiles.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
        }
    }

    /// Takes rows of digits, `[row][step]` as halves of an i32.
    pub(in crate::cpu::attention) fn rows(&mut self, high: &[i32], low: &[i32], steps: usize) {
        assert!(self.token.is_some() && high.len() == low.len());
        self.depth = (2 * steps).div_ceil(DEPTH);
        let lines = (high.len() / steps).next_multiple_of(ROWS) * self.depth;
        for (lines_of, digits) in [(&mut self.row_high, high), (&mut self.row_low, low)] {
            lines_of.resize(lines, ZERO);
            for (row, digits) in digits.chunks_exact(steps).enumerate() {
                let lines = &mut lines_of[row * self.depth..][..self.depth];
                for (line, digits) in lines.iter_mut().zip(digits.chunks(DEPTH / 2)) {
                    // SAFETY: the token, checked above, stands for these features too.
                    unsafe { narrow(digits, line) };
                }
            }
        }
    }

    /// Takes a page, `[step][column][half]`.
    pub(in crate::cpu::attention) fn page(&mut self, values: &[i16], width: usize) {
        assert!(self.token.is_some() && width.is_multiple_of(LANES));
        let steps = values.len() / (2 * width);
        let groups = width / LANES;
        let lines = (2 * steps).div_ceil(DEPTH) * groups * ROWS;
        self.page_high.resize(lines, ZERO);
        self.page_low.resize(lines, ZERO);
        for line in 0..lines {
            let (tile, row) = (line / ROWS, line % ROWS);
            let (depth, group) = (tile / groups, tile % groups);
            let step = depth * DEPTH / 2 + 2 * row;
            let at = |step: usize| {
                (step < steps).then(|| &values[2 * (step * width + group * LANES)..][..2 * LANES])
            };
            // SAFETY: the token, checked above, stands for these features too.
            unsafe {
                interleave(at(step), at(step + 1), &mut self.page_high[line], &mut self.page_low[line]);
            }
        }
    }

    /// Multiplies rows taken before, from `first` on, by the page: as [`super::multiply`] does.
    pub(in crate::cpu::attention) fn multiply(
        &mut self,
        p: &Product<'_>,
        first: usize,
        digits: Digits,
        out_high: &mut [i32],
        out_low: &mut [i32],
    ) {
        let (groups, outputs) = (p.width / LANES, ROWS * p.width);
        assert!(self.token.is_some() && p.rows <= ROWS);
        assert!(out_high.len() >= outputs && out_low.len() >= outputs);
        assert!(
            self.row_high.len() >= (first + ROWS) * self.depth && self.row_low.len() == self.row_high.len()
        );
        assert!(
            self.page_high.len() == self.depth * groups * ROWS && self.page_low.len() == self.page_high.len()
        );
        self.mixed.resize(outputs.max(self.mixed.len()), 0);
        for group in 0..groups {
            // SAFETY: the token proves AMX, `begin` has configured this thread; sixteen rows of each operand from these
            // addresses on are inside the vectors, as checked above.
            unsafe {
                let block = Block {
                    row_high: self.row_high.as_ptr().add(first * self.depth),
                    row_low: self.row_low.as_ptr().add(first * self.depth),
                    page_high: self.page_high.as_ptr().add(group * ROWS),
                    page_low: self.page_low.as_ptr().add(group * ROWS),
                    depth: self.depth,
                    groups,
                    high: out_high.as_mut_ptr().add(group * LANES),
                    mixed: self.mixed.as_mut_ptr().add(group * LANES),
                    low: out_low.as_mut_ptr().add(group * LANES),
                };
                match digits {
                    Digits::Signed => block.signed(),
                    Digits::Unsigned => block.unsigned(),
                }
            }
        }
        // SAFETY: the token stands for these features too.
        unsafe { join(&mut out_high[..outputs], &self.mixed[..outputs]) };
    }
}

/// Operands and outputs of sixteen rows by sixteen columns.
struct Block {
    row_high: *const Line,
    row_low: *const Line,
    page_high: *const Line,
    page_low: *const Line,
    depth: usize,
    groups: usize,
    high: *mut i32,
    mixed: *mut i32,
    low: *mut i32,
}

/// One body per sign: the instruction differs.
macro_rules! block {
    ($name:ident, $product:literal) => {
        /// # Safety
        /// Tiles are configured; from every pointer on there are sixteen rows, those of the operands `depth` deep.
        #[inline]
        unsafe fn $name(&self) {
            // SAFETY: the caller's promise; only tiles and the outputs are written.
            unsafe {
                asm!(
                    "tilezero tmm4",
                    "tilezero tmm5",
                    "tilezero tmm6",
                    "tilezero tmm7",
                    "2:",
                    "tileloadd tmm0, [{row_high} + {row_stride}*1]",
                    "tileloadd tmm2, [{page_high} + {line}*1]",
                    "tileloadd tmm3, [{page_low} + {line}*1]",
                    "tileloadd tmm1, [{row_low} + {row_stride}*1]",
                    concat!($product, " tmm4, tmm0, tmm2"),
                    concat!($product, " tmm5, tmm0, tmm3"),
                    concat!($product, " tmm6, tmm1, tmm3"),
                    concat!($product, " tmm5, tmm1, tmm2"),
                    "add {row_high}, 64",
                    "add {row_low}, 64",
                    "add {page_high}, {deeper}",
                    "add {page_low}, {deeper}",
                    "dec {depth}",
                    "jnz 2b",
                    "tilestored [{high} + {out_stride}*1], tmm4",
                    "tilestored [{mixed} + {out_stride}*1], tmm5",
                    "tilestored [{low} + {out_stride}*1], tmm6",
                    row_high = inout(reg) self.row_high => _,
                    row_low = inout(reg) self.row_low => _,
                    page_high = inout(reg) self.page_high => _,
                    page_low = inout(reg) self.page_low => _,
                    depth = inout(reg) self.depth => _,
                    row_stride = in(reg) self.depth * size_of::<Line>(),
                    deeper = in(reg) self.groups * ROWS * size_of::<Line>(),
                    line = in(reg) size_of::<Line>(),
                    high = in(reg) self.high,
                    mixed = in(reg) self.mixed,
                    low = in(reg) self.low,
                    out_stride = in(reg) self.groups * LANES * size_of::<i32>(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

impl Block {
    block!(signed, "tdpbssd");
    block!(unsigned, "tdpbusd");
}

/// Up to 64 digits, as halves of up to 32 integers, to bytes; zeros beyond.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn narrow(digits: &[i32], line: &mut Line) {
    for (half, to) in line.0.chunks_exact_mut(32).enumerate() {
        let left = digits.len().saturating_sub(16 * half).min(16);
        let mask = ((1u32 << left) - 1) as __mmask16;
        // SAFETY: only the lanes that exist are read; the chunk holds the 32 bytes that are written.
        unsafe {
            let from = digits.as_ptr().wrapping_add(16 * half);
            let words = _mm512_maskz_loadu_epi32(mask, from);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi16_epi8(words));
        }
    }
}

/// Two steps of sixteen columns to four terms of each column, as balanced digits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn interleave(first: Option<&[i16]>, second: Option<&[i16]>, high: &mut Line, low: &mut Line) {
    let load = |values: Option<&[i16]>| match values {
        // SAFETY: every slice holds the 32 values that are read.
        Some(values) if values.len() >= 32 => unsafe { _mm512_loadu_si512(values.as_ptr().cast()) },
        _ => _mm512_setzero_si512(),
    };
    let (a, b) = (load(first), load(second));
    // Of each four bytes the upper or the lower of both halves, to the front or to the back.
    let upper_front = _mm512_set4_epi32(
        0x8080_0f0du32 as i32,
        0x8080_0b09u32 as i32,
        0x8080_0705u32 as i32,
        0x8080_0301u32 as i32,
    );
    let upper_back = _mm512_set4_epi32(0x0f0d_8080, 0x0b09_8080, 0x0705_8080, 0x0301_8080);
    let lower_front = _mm512_set4_epi32(
        0x8080_0e0cu32 as i32,
        0x8080_0a08u32 as i32,
        0x8080_0604u32 as i32,
        0x8080_0200u32 as i32,
    );
    let lower_back = _mm512_set4_epi32(0x0e0c_8080, 0x0a08_8080, 0x0604_8080, 0x0200_8080);
    let round = _mm512_set1_epi16(128);
    let (up_a, up_b) = (_mm512_add_epi16(a, round), _mm512_add_epi16(b, round));
    let h = _mm512_or_si512(_mm512_shuffle_epi8(up_a, upper_front), _mm512_shuffle_epi8(up_b, upper_back));
    let l = _mm512_or_si512(_mm512_shuffle_epi8(a, lower_front), _mm512_shuffle_epi8(b, lower_back));
    // SAFETY: a line holds the 64 bytes that are written.
    unsafe {
        _mm512_store_si512(high.0.as_mut_ptr().cast(), h);
        _mm512_store_si512(low.0.as_mut_ptr().cast(), l);
    }
}

/// `high = 256 * high + mixed`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn join(high: &mut [i32], mixed: &[i32]) {
    for (high, mixed) in high.iter_mut().zip(mixed) {
        *high = (*high << 8) + mixed;
    }
}
