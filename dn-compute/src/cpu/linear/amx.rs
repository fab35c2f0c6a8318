//! AMX: products of bytes in tiles of 16 rows by 16 tokens by 64 columns.
//!
//! A weight times its mantissa is an integer below `2^23`, so three byte digits, `W = 65536 * d2 + 256 * d1 + d0`, the top one
//! signed; an activation is two, `A = 256 * high + low`, both signed. The six products of digits run over the whole row without
//! interruption, in four sums by weight: `d2*high` for `2^24`, `d2*low + d1*high` for `2^16`, `d1*low + d0*high` for `2^8`,
//! `d0*low`. The largest of them over 32,768 columns, `32768 * 2 * 255 * 128`, is below `2^31`. Put together in f64 they are the
//! exact sum, whose every part is below `2^53`.
//!
//! The digits of some columns of a group are made once and used for all tokens.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;

use super::avx512::finish;
use super::{Out, token_scale};
use crate::cpu::acts::{Acts, Line, STEP, Tile, UNIT, WIDE_TILE};
use crate::cpu::isa::Amx;
use crate::cpu::pack::{Bits, GROUP, Group, HALVES, OCT, Packed, oct_bytes};

/// Tokens from which making digits pays.
pub(super) const MIN_TOKENS: usize = 12;

/// Steps of 64 columns whose digits are held at once: 48 KiB.
const STEPS: usize = 16;
/// Tiles of tokens that pass one set of digits.
const TILES: usize = 16;
/// Groups that take turns with the same activations, when a row needs several sets of digits.
const GROUPS: usize = 8;

/// A tile register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Tmm([u8; 1024]);

/// The three digits of 64 columns of a group: `[digit, highest first][quad][row][column]`.
type Digits = [Tmm; 3];
/// The four sums of a tile, by weight, highest first: `[token][row]` as i32.
type Sums = [Tmm; 4];

/// What a thread works in.
struct Scratch {
    digits: Vec<Digits>,
    sums: Vec<Sums>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        digits: vec![[Tmm([0; 1024]); 3]; STEPS],
        sums: Vec::new(),
    });
}

/// Rows of groups `first..end` for all tokens; false where an output overflowed.
///
/// # Safety
/// No other thread writes these rows of `out` at the same time.
pub(super) unsafe fn piece(token: Amx, w: &Packed, acts: &Acts, first: usize, end: usize, out: &Out) -> bool {
    SCRATCH.with_borrow_mut(|scratch| {
        let groups = if steps_of(w) <= STEPS { 1 } else { GROUPS };
        let sums = groups * TILES.min(acts.tiles.len());
        if scratch.sums.len() < sums {
            scratch.sums.resize(sums, [Tmm([0; 1024]); 4]);
        }
        let mut shape = Shape::new(token);
        let mut fine = true;
        for tiles in acts.tiles.chunks(TILES) {
            for group in (first..end).step_by(groups) {
                let work = Work { w, acts, tiles, out };
                // SAFETY: the token proves the features; the caller promises the rows.
                fine &= unsafe { work.groups(group, end.min(group + groups), scratch, &mut shape) };
            }
        }
        fine
    })
}

/// Steps of a row.
const fn steps_of(w: &Packed) -> usize {
    (w.octs() * OCT).div_ceil(STEP)
}

/// One matrix and the tokens that pass.
struct Work<'a> {
    w: &'a Packed,
    acts: &'a Acts,
    tiles: &'a [Tile],
    out: &'a Out,
}

impl Work<'_> {
    /// # Safety
    /// No other thread writes these rows of the output at the same time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn groups(&self, first: usize, end: usize, scratch: &mut Scratch, shape: &mut Shape) -> bool {
        let steps = steps_of(self.w);
        let sets = steps.div_ceil(STEPS);
        let per = steps.div_ceil(sets);
        let mut largest = _mm512_setzero_si512();
        for from in (0..steps).step_by(per) {
            let range = from..steps.min(from + per);
            for group in first..end {
                let digits = &mut scratch.digits[..range.len()];
                let sums = &mut scratch.sums[(group - first) * self.tiles.len()..][..self.tiles.len()];
                let last = range.end == steps;
                let mut next = Next::new(self, group + 1, range.clone());
                for i in 0..=self.tiles.len() {
                    // While tile i is multiplied, the sums of the one before are put together.
                    let (done, rest) = sums.split_at_mut(i);
                    let previous =
                        if i > 0 && last { done.last().map(|s| (self.tiles[i - 1], s)) } else { None };
                    let mut finished = 0;
                    if let Some(tile) = self.tiles.get(i) {
                        shape.set(tile.width);
                        let lines = self.acts.tile(*tile);
                        if last {
                            self.claim(group, *tile);
                        }
                        // SAFETY: the shape is set for this tile.
                        unsafe { start(from > 0, &rest[0]) };
                        let share = WIDE_TILE.div_ceil(range.len());
                        for (s, digits) in digits.iter_mut().enumerate() {
                            if i == 0 {
                                // Made as they are first used, so that the vector units work while the tiles do.
                                make_digits(self.w, group, range.start + s, digits);
                            }
                            let lines = &lines[(range.start + s) * 2 * tile.width..][..2 * tile.width];
                            // SAFETY: the shape is set, and the lines are two tiles of that many rows.
                            unsafe { step(lines, tile.width, digits) };
                            next.ask();
                            if let Some((tile, sums)) = previous {
                                let until = tile.width.min(finished + share);
                                // SAFETY: the caller's promise.
                                largest = unsafe { self.finish(group, tile, sums, finished..until, largest) };
                                finished = until;
                            }
                        }
                        // SAFETY: the shape is set.
                        unsafe { store(&mut rest[0]) };
                    }
                    if let Some((tile, sums)) = previous {
                        // SAFETY: the caller's promise.
                        largest = unsafe { self.finish(group, tile, sums, finished..tile.width, largest) };
                    }
                }
            }
        }
        _mm512_reduce_max_epu32(largest) < 0x7f80_0000
    }

    /// Asks for the lines that a tile's outputs go to, which are used one tile later.
    #[inline]
    fn claim(&self, group: usize, tile: Tile) {
        let row = group * GROUP;
        for t in 0..tile.width {
            let at = self.out.place(tile.first + t, row, 1);
            // SAFETY: a prefetch writes nothing and never faults.
            unsafe {
                asm!("prefetchw [{0}]", "prefetchw [{0} + 60]", in(reg) at, options(nostack, preserves_flags))
            };
        }
    }

    /// Puts the sums of some tokens together, writes them; returns the largest magnitudes' bits so far.
    ///
    /// # Safety
    /// No other thread writes these rows of the output at the same time.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn finish(
        &self,
        group: usize,
        tile: Tile,
        sums: &Sums,
        tokens: std::ops::Range<usize>,
        mut largest: __m512i,
    ) -> __m512i {
        let row = group * GROUP;
        let rows: &[f64] = &self.w.scale[row..][..GROUP];
        // SAFETY: the slice holds the sixteen values that the two loads read.
        let rows = unsafe { [_mm512_loadu_pd(rows.as_ptr()), _mm512_loadu_pd(rows.as_ptr().add(8))] };
        let valid = GROUP.min(self.w.rows - row);
        let mask = u16::MAX >> (GROUP - valid);
        for t in tokens {
            let token = _mm512_set1_pd(token_scale(self.acts, tile, t));
            let mut halves = [_mm256_setzero_ps(); 2];
            for (half, (to, scale)) in halves.iter_mut().zip(rows).enumerate() {
                let mut sum = _mm512_setzero_pd();
                for part in sums {
                    let bytes: &[u8] = &part.0[t * 64 + half * 32..][..32];
                    // SAFETY: the slice holds the 32 bytes that are read.
                    let part = _mm512_cvtepi32_pd(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) });
                    // Integers below 2^53 throughout: the fused product and sum is exact.
                    sum = _mm512_fmadd_pd(sum, _mm512_set1_pd(256.0), part);
                }
                *to = finish(sum, _mm512_mul_pd(scale, token));
            }
            let values = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(halves[0]), halves[1]);
            let bits = _mm512_castps_si512(_mm512_abs_ps(values));
            largest = _mm512_max_epu32(largest, bits);
            let to = self.out.place(tile.first + t, row, valid);
            // SAFETY: the mask leaves the rows that are there, for which the place has room; no one else writes them.
            unsafe { _mm512_mask_storeu_ps(to, mask, values) };
        }
        largest
    }
}

/// Weights that are needed next, asked for a few lines at a time.
struct Next<'a> {
    lines: std::slice::Chunks<'a, u8>,
    at_once: usize,
}

impl<'a> Next<'a> {
    /// Those of some steps of a group; if it is the last, nothing.
    fn new(work: &Work<'a>, group: usize, steps: std::ops::Range<usize>) -> Self {
        let none: &[u8] = &[];
        let bytes = if group * GROUP < work.w.rows {
            let octs = steps.start * STEP / OCT..work.w.octs().min(steps.end * STEP / OCT);
            let bytes = oct_bytes(work.w.bits);
            &work.w.group(group).q[octs.start * bytes..octs.end * bytes]
        } else {
            none
        };
        let at_once = (STEP / OCT * oct_bytes(work.w.bits) / 64).div_ceil(work.tiles.len());
        Self { lines: bytes.chunks(64), at_once }
    }

    fn ask(&mut self) {
        for line in self.lines.by_ref().take(self.at_once) {
            // SAFETY: a prefetch reads nothing and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
        }
    }
}

/// The digits of a step of a group; past the last column they are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn make_digits(w: &Packed, group: usize, step: usize, digits: &mut Digits) {
    match (w.bits, w.minima) {
        (Bits::Eight, false) => digits_of::<false, false>(w, group, step, digits),
        (Bits::Eight, true) => digits_of::<false, true>(w, group, step, digits),
        (Bits::Four { .. }, false) => digits_of::<true, false>(w, group, step, digits),
        (Bits::Four { .. }, true) => digits_of::<true, true>(w, group, step, digits),
    }
}

/// What the weights of a group have in common in 16 columns, twice in each lane.
#[derive(Clone, Copy)]
struct Common {
    /// The mantissa, unsigned.
    m: __m512i,
    /// The minimum.
    n: __m512i,
    /// 256 times the least value.
    least: __m512i,
}

impl Common {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn new(w: &Packed, weights: Group<'_>, block: usize) -> Self {
        let zero = _mm512_setzero_si512();
        let Some((m, n)) = w.scales(weights, block) else { return Self { m: zero, n: zero, least: zero } };
        let twice = |halves: &[u8]| {
            let bytes: &[u8] = &halves[..HALVES];
            // SAFETY: the slice holds the 32 bytes that are read.
            let v = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) });
            _mm512_or_si512(v, _mm512_slli_epi32::<16>(v))
        };
        let least = match (w.bits, weights.f.get(block)) {
            (Bits::Four { base }, Some(f)) => {
                let least = |base: i8| _mm512_set1_epi16(i16::from(base) << 8);
                _mm512_mask_mov_epi32(least(base), *f, least(base.wrapping_add(1)))
            }
            _ => zero,
        };
        Self { m: twice(m), n: if w.minima { twice(n) } else { zero }, least }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn digits_of<const FOUR: bool, const MINIMA: bool>(
    w: &Packed,
    group: usize,
    step: usize,
    digits: &mut Digits,
) {
    let oct_bytes = oct_bytes(w.bits);
    let weights = w.group(group);
    // A block, or the part of a row that stands for one, begins with a unit of 16 columns.
    for unit in 0..STEP / UNIT {
        let first = (step * STEP + unit * UNIT) / OCT;
        if first >= w.octs() {
            digits.iter_mut().for_each(|tile| tile.0[unit * UNIT * GROUP..].fill(0));
            break;
        }
        let common = Common::new(w, weights, w.block_of_span(first / w.span()));
        for i in 0..UNIT / OCT {
            let oct = &weights.q[(first + i) * oct_bytes..][..oct_bytes];
            for (j, [even, odd]) in times_256::<FOUR>(oct, common).into_iter().enumerate() {
                let at = (unit * UNIT + i * OCT + j * OCT / 2) * GROUP;
                for (tile, v) in digits.iter_mut().zip(split::<MINIMA>(even, odd, common)) {
                    let to: &mut [u8] = &mut tile.0[at..][..64];
                    // SAFETY: the slice holds the 64 bytes that are written.
                    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) };
                }
            }
        }
    }
}

/// 256 times the values of an oct: of each four columns the even ones and the odd ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn times_256<const FOUR: bool>(oct: &[u8], common: Common) -> [[__m512i; 2]; 2] {
    let line = |i: usize| {
        let bytes: &[u8] = &oct[i * 64..][..64];
        // SAFETY: the slice holds the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    };
    if FOUR {
        let v = line(0);
        let value = |v| {
            let above = _mm512_and_si512(v, _mm512_set1_epi16(0x0f00));
            _mm512_add_epi16(above, common.least)
        };
        [
            [value(_mm512_slli_epi16::<8>(v)), value(_mm512_slli_epi16::<4>(v))],
            [value(v), value(_mm512_srli_epi16::<4>(v))],
        ]
    } else {
        let values =
            |v| [_mm512_slli_epi16::<8>(v), _mm512_and_si512(v, _mm512_set1_epi16(0xff00u16 as i16))];
        [values(line(0)), values(line(1))]
    }
}

/// The digits, highest first, of the weights of four columns of every row, whose values come times 256.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn split<const MINIMA: bool>(even: __m512i, odd: __m512i, common: Common) -> [__m512i; 3] {
    let upper = _mm512_set1_epi16(0xff00u16 as i16);
    let m = common.m;
    // The multiplication takes the mantissa for signed; where it is `2^15` or more that lacks `2^16` times the value.
    let large = _mm512_movepi16_mask(m);
    // The product in two halves: `q * m >> 8`, and its lowest byte in an upper one.
    let product = |q: __m512i| {
        let high = _mm512_mulhi_epi16(q, m);
        let (high, low) = (_mm512_mask_add_epi16(high, large, high, q), _mm512_mullo_epi16(q, m));
        if !MINIMA {
            return [high, low];
        }
        // Less `16 * n`, whose lowest byte is the lowest four bits of `n`.
        let less = _mm512_slli_epi16::<12>(common.n);
        let borrow = _mm512_cmplt_epu16_mask(low, less);
        let high = _mm512_sub_epi16(high, _mm512_srai_epi16::<4>(common.n));
        [_mm512_mask_sub_epi16(high, borrow, high, _mm512_set1_epi16(1)), _mm512_sub_epi16(low, less)]
    };
    let ([eh, el], [oh, ol]) = (product(even), product(odd));
    // `upper ? odd : even`, bit by bit.
    let pick = |even: __m512i, odd: __m512i| _mm512_ternarylogic_epi32::<0xca>(upper, odd, even);
    [
        pick(_mm512_srli_epi16::<8>(eh), oh),
        pick(eh, _mm512_slli_epi16::<8>(oh)),
        _mm512_or_si512(_mm512_srli_epi16::<8>(el), ol),
    ]
}

/// The shape of this thread's tile registers; gives them back when dropped.
struct Shape {
    width: usize,
}

impl Shape {
    const fn new(_: Amx) -> Self {
        Self { width: 0 }
    }

    /// Tiles 0 to 5 (sums, activations) have `width` rows of 64 bytes, 6 and 7 (digits) sixteen.
    fn set(&mut self, width: usize) {
        #[repr(C, align(64))]
        struct Config([u8; 64]);

        if self.width == width {
            return;
        }
        self.width = width;
        let mut config = Config([0; 64]);
        config.0[0] = 1; // the palette
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = if tile < 6 { width as u8 } else { 16 };
        }
        // SAFETY: a token exists, so the instruction does; the configuration is valid: at most 16 rows of 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags)) };
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        // SAFETY: a token exists, so the instruction does. Nothing else uses the tiles.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
    }
}

// Tile registers keep their values from one block of assembly to the next: no code that the compiler emits uses them,
// and the system saves them when it switches threads.

/// Sets the sums to zero, or to what they were.
///
/// # Safety
/// The shape of the tiles is set.
#[inline(always)]
unsafe fn start(again: bool, sums: &Sums) {
    if again {
        // SAFETY: four tiles of 1024 bytes are read; the instructions exist, since a `Shape` does.
        unsafe {
            asm!(
                "tileloadd tmm0, [{at} + {stride}]",
                "tileloadd tmm1, [{at} + {stride} + 1024]",
                "tileloadd tmm2, [{at} + {stride} + 2048]",
                "tileloadd tmm3, [{at} + {stride} + 3072]",
                at = in(reg) sums.as_ptr(),
                stride = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    } else {
        // SAFETY: the instructions exist, since a `Shape` does.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem, preserves_flags),
            );
        }
    }
}

/// Adds the products of 64 columns.
///
/// # Safety
/// The shape of the tiles is set to `width`, and `lines` are `2 * width`.
#[inline(always)]
unsafe fn step(lines: &[Line], width: usize, digits: &Digits) {
    debug_assert_eq!(lines.len(), 2 * width);
    let high = lines.as_ptr();
    // SAFETY: two tiles of `width` lines and three of 1024 bytes are read.
    unsafe {
        asm!(
            "tileloadd tmm4, [{high} + {stride}]",
            "tileloadd tmm6, [{digits} + {stride}]",
            "tileloadd tmm5, [{low} + {stride}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{digits} + {stride} + 1024]",
            "tdpbssd tmm1, tmm5, tmm6",
            "tileloadd tmm6, [{digits} + {stride} + 2048]",
            "tdpbsud tmm2, tmm5, tmm7",
            "tdpbsud tmm1, tmm4, tmm7",
            "tdpbsud tmm3, tmm5, tmm6",
            "tdpbsud tmm2, tmm4, tmm6",
            high = in(reg) high,
            low = in(reg) high.add(width),
            digits = in(reg) digits.as_ptr(),
            stride = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly, preserves_flags),
        );
    }
}

/// Writes the sums out.
///
/// # Safety
/// The shape of the tiles is set.
#[inline(always)]
unsafe fn store(sums: &mut Sums) {
    // SAFETY: at most 1024 bytes of each of the four tiles are written.
    unsafe {
        asm!(
            "tilestored [{at} + {stride}], tmm0",
            "tilestored [{at} + {stride} + 1024], tmm1",
            "tilestored [{at} + {stride} + 2048], tmm2",
            "tilestored [{at} + {stride} + 3072], tmm3",
            at = in(reg) sums.as_mut_ptr(),
            stride = in(reg) 64usize,
            options(nostack, preserves_flags),
        );
    }
}
