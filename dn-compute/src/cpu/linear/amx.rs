//! AMX: products of bytes in tiles of 16 rows by 16 tokens by 64 columns.
//!
//! A weight times its mantissa is an integer below `2^23`, so three byte digits, `W = 65536 * d2 + 256 * d1 + d0`, the top one
//! signed; an activation is two, `A = 256 * high + low`, both signed. The six products of digits run over the whole row without
//! interruption, in four sums by weight: `d2*high` for `2^24`, `d2*low + d1*high` for `2^16`, `d1*low + d0*high` for `2^8`,
//! `d0*low`. The largest of them over 32,768 columns, `32768 * 2 * 255 * 128`, is below `2^31`. Put together in f64 they are the
//! exact sum, whose every part is below `2^53`.
//!
//! The digits of some columns of a group, a [`Set`], are made once and used for all tokens. Beside the products of a tile, the
//! vector units put together the sums of the tile before; the places of the outputs and the weights that come next are asked
//! for. With a set's last tile the next set's digits are made: each step's take the place of those just used, which lie in the
//! first-level cache (a second set would lie in the second, whose bandwidth the tiles need).

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;
use std::slice::Chunks;

use super::Out;
use super::avx512::finish;
use crate::cpu::acts::{Acts, STEP, Tile};
use crate::cpu::isa::Amx;
use crate::cpu::pack::{Bits, GROUP, HALVES, OCT, Packed, oct_bytes};
use crate::spec::float::pow2;

mod digits;
mod tiles;

use tiles::{Digits, Shape, Sums, Tmm, multiply, start, store};

/// Tokens from which making digits pays.
pub(super) const MIN_TOKENS: usize = 11;

/// Steps of 64 columns whose digits are held at once: 48 KiB.
const STEPS: usize = 16;
/// Tiles of tokens that pass one set of digits.
const TILES: usize = 16;
/// Groups that take turns with the same activations, when a row needs several sets of digits.
const GROUPS: usize = 8;

/// What a thread works in.
struct Scratch {
    /// Those in use and those in the making, by turns.
    digits: Vec<Digits>,
    sums: Vec<Sums>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        digits: vec![[Tmm::ZERO; 3]; STEPS],
        sums: Vec::new(),
    });
}

/// Rows of groups `first..end` for all tokens; false where an output overflowed.
///
/// # Safety
/// No other thread writes these rows of `out` at the same time.
pub(super) unsafe fn piece(token: Amx, w: &Packed, acts: &Acts, first: usize, end: usize, out: &Out) -> bool {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut shape = Shape::new(token);
        let scales: Vec<f64> = acts.et.iter().map(|et| pow2(*et)).collect();
        let per = acts.tiles.len().div_ceil(acts.tiles.len().div_ceil(TILES));
        acts.tiles.chunks(per).fold(true, |fine, tiles| {
            let sets = sets(w, first..end, tiles.len());
            let work = Work { w, acts, tiles, scales: &scales, out };
            // SAFETY: the token proves the features; the caller promises the rows.
            fine & unsafe {
                match (w.bits, w.minima) {
                    (Bits::Eight, false) => work.run::<false, false>(&sets, scratch, &mut shape),
                    (Bits::Eight, true) => work.run::<false, true>(&sets, scratch, &mut shape),
                    (Bits::Four { .. }, false) => work.run::<true, false>(&sets, scratch, &mut shape),
                    (Bits::Four { .. }, true) => work.run::<true, true>(&sets, scratch, &mut shape),
                }
            }
        })
    })
}

/// What one set of digits serves: some steps of a group.
struct Set {
    group: usize,
    steps: Range<usize>,
    /// Whether the row ends with it.
    last: bool,
    /// Which of the groups that take turns it is.
    turn: usize,
}

impl Set {
    /// Whether it is all of the row.
    const fn whole(&self) -> bool {
        self.steps.start == 0 && self.last
    }

    /// Where the sums of a tile are kept: to be continued, or until the next tile's are complete.
    const fn slot(&self, tile: usize, tiles: usize) -> usize {
        if self.whole() { 0 } else { self.turn * tiles + tile }
    }
}

/// The sets of some groups in the order in which they are multiplied.
fn sets(w: &Packed, groups: Range<usize>, tiles: usize) -> Vec<Set> {
    let steps = w.octs().div_ceil(STEP / OCT);
    let per = if tiles == 1 { steps } else { steps.div_ceil(steps.div_ceil(STEPS)) };
    let at_once = if per == steps { 1 } else { GROUPS };
    let mut sets = Vec::new();
    for first in groups.clone().step_by(at_once) {
        for from in (0..steps).step_by(per) {
            for (turn, group) in (first..groups.end.min(first + at_once)).enumerate() {
                let end = steps.min(from + per);
                sets.push(Set { group, steps: from..end, last: end == steps, turn });
            }
        }
    }
    sets
}

/// One matrix and the tokens that pass.
struct Work<'a> {
    w: &'a Packed,
    acts: &'a Acts,
    tiles: &'a [Tile],
    /// `2^et` of every token.
    scales: &'a [f64],
    out: &'a Out,
}

/// What changes from one tile to the next.
struct State<'a> {
    digits: &'a mut [Digits],
    /// Digits of steps that were used once, by a single tile.
    used: usize,
    sums: &'a mut [Sums],
    done: Done<'a>,
    /// Lines of weights to be asked for, and how many with each step.
    ask: [(Chunks<'a, u8>, usize); 2],
    /// The largest magnitudes' bits so far.
    largest: __m512i,
}

impl<'a> Work<'a> {
    /// Multiplies all sets; false where an output overflowed.
    ///
    /// # Safety
    /// No other thread writes these rows of the output at the same time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn run<const FOUR: bool, const MINIMA: bool>(
        &self,
        sets: &[Set],
        scratch: &mut Scratch,
        shape: &mut Shape,
    ) -> bool {
        let tiles = self.tiles.len();
        let slots = sets.iter().map(|set| set.slot(tiles - 1, tiles) + 1).max().unwrap_or(0);
        if scratch.sums.len() < slots {
            scratch.sums.resize(slots, [Tmm::ZERO; 4]);
        }
        let mut state = State {
            digits: &mut scratch.digits,
            used: 0,
            sums: &mut scratch.sums,
            done: Done::NOTHING,
            ask: spread(Default::default(), 1),
            largest: _mm512_setzero_si512(),
        };
        for set in sets.iter().take(2) {
            self.weights(set).into_iter().flat_map(|bytes| bytes.chunks(64)).for_each(prefetch);
        }
        for set in sets.iter().take(1) {
            let steps = if tiles > 1 { set.steps.len() } else { 1 };
            self.make::<FOUR, MINIMA>(set, 0..steps, state.digits);
        }
        for (i, set) in sets.iter().enumerate() {
            let later = sets.get(i + 2).map_or_else(Default::default, |set| self.weights(set));
            state.ask = spread(later, tiles * set.steps.len());
            for (t, tile) in self.tiles.iter().enumerate() {
                shape.set(tile.width);
                // SAFETY: the shape is set for this tile; the caller promises the rows.
                unsafe { self.pass::<FOUR, MINIMA>(&sets[i..], t, &mut state) };
            }
            if let (Some(next), true) = (sets.get(i + 1), tiles > 1) {
                let more = set.steps.len().min(next.steps.len());
                self.make::<FOUR, MINIMA>(next, more..next.steps.len(), &mut state.digits[more..]);
            }
        }
        for _ in 0..state.done.scales.len() {
            // SAFETY: the caller's promise.
            state.largest = unsafe { state.done.token(state.sums, state.largest) };
        }
        _mm512_reduce_max_epu32(state.largest) < 0x7f80_0000
    }

    /// Multiplies a tile by the first of some sets, and does the work beside it.
    ///
    /// # Safety
    /// The shape is set for this tile, and no other thread writes these rows of the output at the same time.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn pass<const FOUR: bool, const MINIMA: bool>(
        &self,
        sets: &[Set],
        t: usize,
        state: &mut State<'a>,
    ) {
        let (set, tile) = (&sets[0], self.tiles[t]);
        let steps = set.steps.len();
        let lines = &self.acts.tile(tile)[set.steps.start * 2 * tile.width..];
        let slot = set.slot(t, self.tiles.len());
        if set.last {
            let later = match (self.tiles.get(t + 1), sets.get(1)) {
                (Some(tile), _) => (set, *tile),
                (None, Some(set)) => (set, self.tiles[0]),
                (None, None) => (set, tile),
            };
            state.done.ahead = [(set, tile), later].map(|(set, tile)| self.place(set, tile));
        }
        // SAFETY: the shape is set.
        unsafe { start(set.steps.start > 0, &state.sums[slot]) };
        let mut due = 0;
        for step in 0..steps {
            // To and fro: half of the digits are then still in the first-level cache.
            let step = if t.is_multiple_of(2) { step } else { steps - 1 - step };
            let lines = &lines[step * 2 * tile.width..][..2 * tile.width];
            let place = if self.tiles.len() > 1 { step } else { state.used % 2 };
            // SAFETY: the shape is set, and the lines are two tiles of that many rows.
            unsafe { multiply(lines, tile.width, &state.digits[place]) };
            if self.tiles.len() == 1 {
                // Each step's digits are used once: two places for them stay in the first-level cache.
                state.used += 1;
                let place = &mut state.digits[state.used % 2..][..1];
                if step + 1 < steps {
                    self.make::<FOUR, MINIMA>(set, step + 1..step + 2, place);
                } else if let Some(next) = sets.get(1) {
                    self.make::<FOUR, MINIMA>(next, 0..1, place);
                }
            } else if t + 1 == self.tiles.len() {
                // Nothing needs these any more, and they lie in the first-level cache.
                if let Some(next) = sets.get(1).filter(|next| step < next.steps.len()) {
                    self.make::<FOUR, MINIMA>(next, step..step + 1, &mut state.digits[step..]);
                }
            }
            for (lines, at_once) in &mut state.ask {
                lines.take(*at_once).for_each(prefetch);
            }
            due += state.done.scales.len();
            while due >= steps {
                due -= steps;
                // SAFETY: the caller's promise.
                state.largest = unsafe { state.done.token(state.sums, state.largest) };
            }
        }
        // SAFETY: the shape is set.
        unsafe { store(&mut state.sums[slot]) };
        state.done = if set.last { self.done(set.group, tile, slot) } else { Done::NOTHING };
    }

    /// Makes the digits of some steps of a set.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn make<const FOUR: bool, const MINIMA: bool>(&self, set: &Set, steps: Range<usize>, to: &mut [Digits]) {
        for (step, digits) in steps.zip(to) {
            digits::make::<FOUR, MINIMA>(self.w, set.group, set.steps.start + step, digits);
        }
    }

    /// The weights of a set and their mantissas, to be asked for line by line.
    fn weights(&self, set: &Set) -> [&'a [u8]; 2] {
        let group = self.w.group(set.group);
        let octs = set.steps.start * STEP / OCT..self.w.octs().min(set.steps.end * STEP / OCT);
        let bytes = oct_bytes(self.w.bits);
        // Octs that pad the row may lie past its last block.
        let half = |oct: usize| (self.w.block_of_span(oct / self.w.span()) * HALVES).min(group.m.len());
        let m = half(octs.start)..(half(octs.end - 1) + HALVES).min(group.m.len());
        [&group.q[octs.start * bytes..octs.end * bytes], &group.m[m]]
    }

    /// Where the outputs of a group's first row and a tile's first token go.
    fn place(&self, set: &Set, tile: Tile) -> *mut f32 {
        self.out.place(tile.first, set.group * GROUP, 1)
    }

    /// A tile whose sums are complete.
    fn done(&self, group: usize, tile: Tile, slot: usize) -> Done<'a> {
        let row = group * GROUP;
        let valid = GROUP.min(self.w.rows - row);
        let last = self.out.place(tile.first + tile.width - 1, row, valid);
        Done {
            slot,
            rows: &self.w.scale[row..][..GROUP],
            scales: &self.scales[tile.first..][..tile.width],
            next: 0,
            // The first token's, from the last one's, which lies inside the output.
            to: last.wrapping_sub((tile.width - 1) * self.out.rows),
            stride: self.out.rows,
            ahead: [std::ptr::null_mut(); 2],
            valid: u16::MAX >> (GROUP - valid),
        }
    }
}

/// The lines of weights, and how many of them to ask for at each of so many turns.
fn spread(weights: [&[u8]; 2], turns: usize) -> [(Chunks<'_, u8>, usize); 2] {
    weights.map(|bytes| (bytes.chunks(64), bytes.len().div_ceil(64 * turns)))
}

/// Asks for a line of weights.
#[inline]
fn prefetch(line: &[u8]) {
    // SAFETY: a prefetch reads nothing and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
}

/// A tile whose sums are put together, token by token.
struct Done<'a> {
    slot: usize,
    /// `2^er` of its rows.
    rows: &'a [f64],
    /// `2^et` of its tokens.
    scales: &'a [f64],
    /// The token whose turn it is, and where its outputs go.
    next: usize,
    to: *mut f32,
    stride: usize,
    /// Where those of the tile that is multiplied meanwhile go, and of the one after it.
    ahead: [*mut f32; 2],
    /// The rows that are there.
    valid: u16,
}

impl Done<'_> {
    /// A tile without tokens.
    const NOTHING: Self = Self {
        slot: 0,
        rows: &[0.0; GROUP],
        scales: &[],
        next: 0,
        to: std::ptr::null_mut(),
        stride: 0,
        ahead: [std::ptr::null_mut(); 2],
        valid: 0,
    };

    /// Puts the sums of the next token together, writes them; returns the largest magnitudes' bits so far.
    ///
    /// # Safety
    /// There is a next token, and no other thread writes these rows of the output at the same time.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn token(&mut self, sums: &[Sums], largest: __m512i) -> __m512i {
        let (sums, rows, t) = (&sums[self.slot], &self.rows[..GROUP], self.next);
        // SAFETY: the slice holds the sixteen values that the two loads read.
        let rows = unsafe { [_mm512_loadu_pd(rows.as_ptr()), _mm512_loadu_pd(rows.as_ptr().add(8))] };
        let token = _mm512_set1_pd(self.scales[t]);
        let mut halves = [_mm256_setzero_ps(); 2];
        for (half, (to, scale)) in halves.iter_mut().zip(rows).enumerate() {
            let part = |i: usize| {
                let bytes: &[u8] = &sums[i].0[t * 64 + half * 32..][..32];
                // SAFETY: the slice holds the 32 bytes that are read.
                _mm512_cvtepi32_pd(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
            };
            // Integers below 2^53 throughout: the fused product and sum is exact.
            let mut sum = part(0);
            for i in 1..4 {
                sum = _mm512_fmadd_pd(sum, _mm512_set1_pd(256.0), part(i));
            }
            *to = finish(sum, _mm512_mul_pd(scale, token));
        }
        let values = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(halves[0]), halves[1]);
        // SAFETY: the mask leaves the rows that are there, for which the place has room; no one else writes them.
        unsafe { _mm512_mask_storeu_ps(self.to, self.valid, values) };
        self.next = t + 1;
        self.to = self.to.wrapping_add(self.stride);
        let [soon, later] = &mut self.ahead;
        // SAFETY: a prefetch writes nothing and never faults.
        unsafe {
            asm!(
                "prefetchw [{soon}]", "prefetchw [{soon} + 60]", "prefetcht1 [{later}]", "prefetcht1 [{later} + 60]",
                soon = in(reg) *soon, later = in(reg) *later, options(nostack, preserves_flags),
            );
        }
        (*soon, *later) = (soon.wrapping_add(self.stride), later.wrapping_add(self.stride));
        _mm512_max_epu32(largest, _mm512_castps_si512(_mm512_abs_ps(values)))
    }
}
