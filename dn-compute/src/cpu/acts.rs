//! Quantised activations, cut into tiles as the kernels read them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::spec::{BLOCK, NumericError, Op, float::pow2, quantise};

use super::Cpu;
use super::isa::multiversioned;

/// Tokens of a full tile of pairs.
pub(crate) const TILE: usize = 8;
/// Tokens from which full tiles pay. The sums of half of one stay in registers while weights are widened for it.
pub(crate) const MANY: usize = 24;
/// Tokens of a full tile of digits.
pub(crate) const WIDE_TILE: usize = 16;
/// Columns of a line of digits.
pub(crate) const STEP: usize = 64;
/// Columns of a unit: what the kernels know the sums of.
pub(crate) const UNIT: usize = 16;

/// What a token gives in a line: 32 columns as 16-bit integers, or 64 columns of one digit.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [i16; 32]);

impl Line {
    const ZERO: Self = Self([0; 32]);

    /// As one digit of 64 columns.
    fn digits(&mut self) -> &mut [i8; STEP] {
        // SAFETY: as many bytes, of which every value is valid in either type, for as long.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }
}

/// How activations lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `[block of 32][token]` lines of 16-bit integers; of four columns the first and third, then the second and fourth.
    Pairs,
    /// `[64 columns][high, low][token]` lines of signed bytes: `A = 256 * high + low`.
    Digits,
}

/// Some tokens that a kernel takes together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    /// First token.
    pub(crate) first: usize,
    /// Tokens: 8, 4, 2 or 1 as pairs, 1 to 16 as digits.
    pub(crate) width: usize,
}

/// The lines of an earlier call, to be written anew: fresh memory of some megabytes would cost as much as filling it.
///
/// A backend keeps those of one call. Any thread of its pool may be the one that calls next, so a buffer for each thread would
/// in the end be as many times the memory.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Line>>);

impl Spare {
    fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the longer one of these lines and those that another call has left.
    fn give(&self, lines: Vec<Line>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.capacity() > kept.capacity() {
            *kept = lines;
        }
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).capacity() * size_of::<Line>()
    }
}

/// Quantised activations of a call.
#[derive(Debug)]
pub(crate) struct Acts {
    pub(crate) form: Form,
    pub(crate) tiles: Vec<Tile>,
    /// Lines of a token.
    pub(crate) lines_per_token: usize,
    /// Tile-major; more may follow.
    lines: Vec<Line>,
    /// Of pairs, if asked for, the sum of every 16 columns: tile-major, then `[unit][token]`.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "no kernel there asks for them"))]
    sums: Vec<i32>,
    /// `et` of every token.
    pub(crate) et: Vec<i32>,
    spare: Arc<Spare>,
}

impl Acts {
    /// Quantises `tokens` rows of `cols`; with the sums of pairs if `with_sums`.
    ///
    /// # Errors
    /// As [`quantise::quantise`], for the first element at fault.
    pub(crate) fn new(
        cpu: &Cpu,
        form: Form,
        with_sums: bool,
        x: &[f32],
        cols: usize,
    ) -> Result<Self, NumericError> {
        let Cpu { level, threads, spare } = cpu;
        let level = *level;
        let tokens = x.len() / cols;
        let (tiles, lines_per_token) = match form {
            Form::Pairs if tokens < MANY => (tiles(tokens, &[TILE / 2, 2, 1]), cols.div_ceil(BLOCK)),
            Form::Pairs => (tiles(tokens, &[TILE, 4, 2, 1]), cols.div_ceil(BLOCK)),
            Form::Digits => (wide_tiles(tokens), 2 * cols.div_ceil(STEP)),
        };
        let mut lines = spare.take();
        let needed = tokens * lines_per_token;
        if lines.len() < needed {
            lines.reserve_exact(needed - lines.len());
            lines.resize(needed, Line::ZERO);
        }
        let mut et = vec![0i32; tokens];
        let units_per_token = if with_sums && form == Form::Pairs { lines_per_token * UNITS } else { 0 };
        let mut sums = vec![0i32; tokens * units_per_token];
        let mut parts = Vec::with_capacity(tiles.len());
        let (mut rest, mut rest_et, mut rest_sums) = (&mut lines[..], &mut et[..], &mut sums[..]);
        for tile in &tiles {
            let (part, more) = rest.split_at_mut(tile.width * lines_per_token);
            let (part_et, more_et) = rest_et.split_at_mut(tile.width);
            let (part_sums, more_sums) = rest_sums.split_at_mut(tile.width * units_per_token);
            (rest, rest_et, rest_sums) = (more, more_et, more_sums);
            parts.push((*tile, part, part_et, part_sums));
        }
        let one = |(tile, lines, et, sums): (Tile, &mut [Line], &mut [i32], &mut [i32])| match form {
            Form::Pairs => pairs_tile(level, x, cols, tile, lines, et, sums),
            Form::Digits => digits_tile(level, x, cols, tile, lines, et),
        };
        let results = if threads.pieces(x.len()) > 1 {
            threads.map(parts, one)
        } else {
            parts.into_iter().map(one).collect()
        };
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(Self { form, tiles, lines_per_token, lines, sums, et, spare: Arc::clone(spare) })
    }

    /// The lines of a tile.
    pub(crate) fn tile(&self, tile: Tile) -> &[Line] {
        &self.lines[tile.first * self.lines_per_token..][..tile.width * self.lines_per_token]
    }

    /// The sums of a tile of pairs, `[unit][token]`; nothing where they were not asked for.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn sums(&self, tile: Tile) -> &[i32] {
        let per = self.sums.len() / self.et.len();
        &self.sums[tile.first * per..][..tile.width * per]
    }
}

impl Drop for Acts {
    fn drop(&mut self) {
        self.spare.give(std::mem::take(&mut self.lines));
    }
}

/// Units of a line of pairs.
const UNITS: usize = BLOCK / UNIT;

/// Tiles of these widths, as many of each as fit.
fn tiles(tokens: usize, widths: &[usize]) -> Vec<Tile> {
    let mut out = Vec::with_capacity(tokens / widths[0] + widths.len());
    let mut first = 0;
    for width in widths {
        while tokens - first >= *width {
            out.push(Tile { first, width: *width });
            first += width;
        }
    }
    out
}

/// Full tiles, and the rest in one.
fn wide_tiles(tokens: usize) -> Vec<Tile> {
    let tile = |first| Tile { first, width: WIDE_TILE.min(tokens - first) };
    (0..tokens).step_by(WIDE_TILE).map(tile).collect()
}

multiversioned! {
    fn pairs_tile(
        x: &[f32],
        cols: usize,
        tile: Tile,
        lines: &mut [Line],
        et: &mut [i32],
        sums: &mut [i32],
    ) -> Result<(), NumericError>
        = pairs_tile_body;
}
multiversioned! {
    fn digits_tile(x: &[f32], cols: usize, tile: Tile, lines: &mut [Line], et: &mut [i32]) -> Result<(), NumericError>
        = digits_tile_body;
}

/// Exponent of a token's row, and what to multiply it by; `None` for the zero vector.
#[inline(always)]
fn exponent(row: &[f32], base: usize, et: &mut i32) -> Result<Option<f32>, NumericError> {
    let amax = quantise::largest(Op::Linear, "x", row).map_err(|error| quantise::rebase(error, base))?;
    *et = quantise::exponent(amax);
    Ok((*et != quantise::ZERO_EXPONENT).then(|| pow2(-*et) as f32))
}

/// The integers of at most `N` values; beyond them 0.
#[inline(always)]
fn integers<const N: usize>(x: &[f32], factor: f32) -> [i16; N] {
    let mut a = [0i16; N];
    for (a, v) in a.iter_mut().zip(x) {
        *a = nearest(v * factor) as i16;
    }
    a
}

#[inline(always)]
fn pairs_tile_body(
    x: &[f32],
    cols: usize,
    tile: Tile,
    lines: &mut [Line],
    et: &mut [i32],
    sums: &mut [i32],
) -> Result<(), NumericError> {
    for (t, et) in et.iter_mut().enumerate() {
        let base = (tile.first + t) * cols;
        let row = &x[base..][..cols];
        let Some(factor) = exponent(row, base, et)? else {
            lines[t..].iter_mut().step_by(tile.width).for_each(|line| *line = Line::ZERO);
            continue;
        };
        let slots = lines[t..].iter_mut().step_by(tile.width);
        let mut units = sums.chunks_exact_mut(UNITS * tile.width);
        for (slot, x) in slots.zip(row.chunks(BLOCK)) {
            let a: [i16; BLOCK] = integers(x, factor);
            let units = units.next().unwrap_or_default();
            for (sums, a) in units.chunks_exact_mut(tile.width).zip(a.chunks_exact(UNIT)) {
                sums[t] = a.iter().map(|a| i32::from(*a)).sum();
            }
            for (to, from) in slot.0.chunks_exact_mut(4).zip(a.chunks_exact(4)) {
                (to[0], to[1], to[2], to[3]) = (from[0], from[2], from[1], from[3]);
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn digits_tile_body(
    x: &[f32],
    cols: usize,
    tile: Tile,
    lines: &mut [Line],
    et: &mut [i32],
) -> Result<(), NumericError> {
    for (t, et) in et.iter_mut().enumerate() {
        let base = (tile.first + t) * cols;
        let row = &x[base..][..cols];
        let Some(factor) = exponent(row, base, et)? else {
            lines[t..].iter_mut().step_by(tile.width).for_each(|line| *line = Line::ZERO);
            continue;
        };
        for (step, x) in lines.chunks_exact_mut(2 * tile.width).zip(row.chunks(STEP)) {
            let (high, low) = step.split_at_mut(tile.width);
            if x.len() < STEP {
                (high[t], low[t]) = (Line::ZERO, Line::ZERO);
            }
            for ((high, low), v) in high[t].digits().iter_mut().zip(low[t].digits()).zip(x) {
                let a = nearest(v * factor);
                (*high, *low) = (((a + 128) >> 8) as i8, a as i8);
            }
        }
    }
    Ok(())
}

/// Nearest even integer of `|v| < 2^22`, by adding 1.5 * 2^23: the sum's last bit is the unit.
#[inline(always)]
pub(crate) fn nearest(v: f32) -> i32 {
    ((v + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4b40_0000)
}
