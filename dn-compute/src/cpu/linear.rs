//! Linear layers: the work is cut by rows, each piece passes all tokens by its rows.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
#[cfg(target_arch = "x86_64")]
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::spec::matrix::MIN_SHIFT;
use crate::spec::{BLOCK, LinearPlan, Matrix, NumericError, Op, Prepared, quantise::no_overflow};

#[cfg(target_arch = "x86_64")]
use super::acts::MANY;
use super::acts::{Acts, Form, TILE, Tile};
use super::isa::Level;
use super::pack::{self, Bits, GROUP, OCT, OCTS, Packed, half, oct_bytes};
use super::{Cpu, own};

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(test, target_arch = "x86_64"))]
mod cases;
#[cfg(target_arch = "aarch64")]
mod neon;

/// Tiles that stay in the second-level cache while the rows pass by.
const TILES_AT_ONCE: usize = 8;

/// Groups that a kernel takes together where one or two tokens pass: each is a stream of its own from memory, and one
/// stream at a time does not use the memory's whole bandwidth.
const STREAMS: usize = 4;

/// Exact sums of a tile, rounded and scaled: `[group][token]` of 16 rows each, at most two groups of eight tokens.
pub(crate) type Results = [[f32; GROUP]; 2 * TILE];

const _: () = assert!(STREAMS <= 2 * TILE);

/// Where a matrix's outputs go. Pieces write disjoint rows of it.
struct Out {
    at: *mut f32,
    rows: usize,
    tokens: usize,
}

// SAFETY: the pointer comes from one `&mut [f32]` that outlives the call, and pieces write disjoint elements.
unsafe impl Send for Out {}
// SAFETY: as above; nothing reads through it.
unsafe impl Sync for Out {}

impl Out {
    /// Where the outputs of some rows for one token go.
    #[cfg(target_arch = "x86_64")]
    fn place(&self, token: usize, row: usize, rows: usize) -> *mut f32 {
        assert!(token < self.tokens && row + rows <= self.rows);
        // SAFETY: in bounds by the assertion.
        unsafe { self.at.add(token * self.rows + row) }
    }

    /// Asks for the places of the outputs of a tile and some groups of rows: where there are many rows, each token's are on a page of its own.
    #[cfg(target_arch = "x86_64")]
    fn claim(&self, tile: Tile, groups: Range<usize>) {
        let rows = groups.start * GROUP..self.rows.min(groups.end * GROUP);
        for token in tile.first..tile.first + tile.width {
            let to = self.place(token, rows.start, rows.len());
            // SAFETY: it writes nothing and never faults; 64-bit processors without it take it for no operation.
            unsafe {
                asm!("prefetchw [{to}]", "prefetchw [{to} + 60]", to = in(reg) to,
                    options(nostack, preserves_flags));
            }
        }
    }

    /// Writes the outputs of some rows for one token.
    ///
    /// # Safety
    /// No other thread writes these rows at the same time.
    unsafe fn write(&self, token: usize, row: usize, values: &[f32]) {
        assert!(token < self.tokens && row + values.len() <= self.rows);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe {
            let to = self.at.add(token * self.rows + row);
            match <&[f32; GROUP]>::try_from(values) {
                Ok(whole) => to.cast::<[f32; GROUP]>().write_unaligned(*whole),
                Err(_) => std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len()),
            }
        }
    }
}

pub(super) fn linear(
    cpu: &Cpu,
    weights: &[&Matrix],
    x: &[f32],
    tokens: usize,
    out: &mut [&mut [f32]],
) -> Result<(), NumericError> {
    let shapes: Vec<&dyn Prepared> = weights.iter().map(|w| &***w).collect();
    let plan = LinearPlan::new(&shapes, x, tokens, out)?;
    let own: Vec<&Packed> = weights.iter().map(|w| own(Op::Linear, w)).collect::<Result<_, _>>()?;
    let form = form(cpu.level, tokens, &own);
    // What all weights of a block have in common is multiplied by these.
    let with_sums = own.iter().any(|w| w.minima || w.bits != Bits::Eight);
    let acts = Acts::new(cpu, form, with_sums, x, plan.cols)?;
    let targets: Vec<Out> = out
        .iter_mut()
        .zip(&plan.rows)
        .map(|(out, rows)| Out { at: out.as_mut_ptr(), rows: *rows, tokens })
        .collect();

    let overflow = AtomicBool::new(false);
    let pieces = pieces(cpu, &plan, form);
    cpu.threads.map(pieces, |(matrix, first, end)| {
        // SAFETY: pieces hold disjoint groups of rows of each matrix.
        if !unsafe { piece(cpu.level, own[matrix], &acts, first, end, &targets[matrix]) } {
            overflow.store(true, Ordering::Relaxed);
        }
    });
    if overflow.load(Ordering::Relaxed) {
        return out.iter().try_for_each(|out| no_overflow(Op::Linear, out));
    }
    Ok(())
}

/// How the kernels that will run want the activations.
fn form(level: Level, tokens: usize, weights: &[&Packed]) -> Form {
    let _for_some = (tokens, weights);
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Amx(_) if tokens >= amx::MIN_TOKENS => Form::Digits,
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot(_) if weights.iter().all(|w| neon::takes(w)) => Form::Digits,
        _ => Form::Pairs,
    }
}

/// Cuts the matrices into (matrix, first group, end group), about equal in work.
fn pieces(cpu: &Cpu, plan: &LinearPlan, form: Form) -> Vec<(usize, usize, usize)> {
    let groups: Vec<usize> = plan.rows.iter().map(|r| r.div_ceil(GROUP)).collect();
    let total: usize = groups.iter().sum();
    // A vector kernel takes several multiplications at once: a piece is worth handing over from about four times the
    // usual work.
    let work = total * GROUP * plan.cols * plan.tokens / 4;
    let (count, together) = match (form, plan.tokens) {
        (_, ..=TILE) => (cpu.threads.small_pieces(work), STREAMS),
        (Form::Pairs, _) => (cpu.threads.small_pieces(work), 2),
        (Form::Digits, _) => (cpu.threads.pieces(work), 1),
    };
    let size = total.div_ceil(count).next_multiple_of(together);
    let cut = |(i, groups): (usize, &usize)| {
        let groups = *groups;
        (0..groups).step_by(size).map(move |first| (i, first, groups.min(first + size))).collect::<Vec<_>>()
    };
    groups.iter().enumerate().flat_map(cut).collect()
}

/// Rows of groups `first..end` for all tokens; false where an output overflowed.
///
/// # Safety
/// No other thread writes these rows of `out` at the same time.
unsafe fn piece(level: Level, w: &Packed, acts: &Acts, first: usize, end: usize, out: &Out) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let (Level::Amx(token), Form::Digits) = (level, acts.form) {
        // SAFETY: the caller's promise.
        return unsafe { amx::piece(token, w, acts, first, end, out) };
    }
    #[cfg(target_arch = "x86_64")]
    if let (Level::Avx512(token), true) = (level, acts.et.len() >= MANY) {
        // SAFETY: the caller's promise.
        return unsafe { avx512::many::piece(token, w, acts, first..end, out) };
    }
    #[cfg(target_arch = "x86_64")]
    if let (Some(pairs), true) = (avx2::Pairs::of(level), acts.et.len() >= avx2::many::MIN_TOKENS) {
        // SAFETY: the caller's promise.
        return unsafe { avx2::many::piece(pairs, w, acts, first..end, out) };
    }
    let mut results: Results = [[0.0; GROUP]; 2 * TILE];
    let mut largest = 0u32;
    let together = match (acts.et.len(), acts.form) {
        (1 | 2, Form::Pairs) => STREAMS,
        (_, Form::Pairs) => 2,
        (1, Form::Digits) => STREAMS,
        (_, Form::Digits) => 1,
    };
    for tiles in acts.tiles.chunks(TILES_AT_ONCE) {
        let mut group = first;
        while group < end {
            let groups = together.min(end - group);
            let groups = if groups == 3 { 2 } else { groups };
            for tile in tiles {
                kernel(level, w, acts, group, groups, *tile, &mut results);
                for g in 0..groups {
                    let row = (group + g) * GROUP;
                    let valid = GROUP.min(w.rows - row);
                    for t in 0..tile.width {
                        let values = &results[g * tile.width + t];
                        largest = values.iter().fold(largest, |m, v| m.max(v.to_bits() & 0x7fff_ffff));
                        // SAFETY: the caller's promise.
                        unsafe { out.write(tile.first + t, row, &values[..valid]) };
                    }
                }
            }
            group += groups;
        }
    }
    largest < 0x7f80_0000
}

fn kernel(
    level: Level,
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    results: &mut Results,
) {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(token) => {
            avx2::kernel(avx2::Pairs::Avx2(token), w, acts, group, groups, tile, results);
        }
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni(token) => {
            avx2::kernel(avx2::Pairs::Vnni(token), w, acts, group, groups, tile, results);
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(token) => avx512::kernel(token, w, acts, group, groups, tile, results),
        #[cfg(target_arch = "x86_64")]
        Level::Amx(token) => avx512::kernel(token.avx512(), w, acts, group, groups, tile, results),
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot(token) if acts.form == Form::Digits => {
            neon::kernel_dot(token, w, acts, group, groups, tile, results);
        }
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot(token) if neon::takes(w) => {
            neon::kernel(token.neon(), w, acts, group, groups, tile, results);
        }
        #[cfg(target_arch = "aarch64")]
        Level::Neon(token) if neon::takes(w) => neon::kernel(token, w, acts, group, groups, tile, results),
        _ => {
            for g in 0..groups {
                for t in 0..tile.width {
                    results[g * tile.width + t] = scalar(w, acts, group + g, tile, t);
                }
            }
        }
    }
}

/// Sixteen rows by one token in plain integers.
fn scalar(w: &Packed, acts: &Acts, group: usize, tile: Tile, t: usize) -> [f32; GROUP] {
    let (weights, lines) = (w.group(group), acts.tile(tile));
    let mut sum = [0i64; GROUP];
    let octs: Vec<&[u8]> = weights.q.chunks_exact(oct_bytes(w.bits)).collect();
    for (span, octs) in octs.chunks(w.span()).enumerate() {
        let block = w.block_of_span(span);
        let mut dot = [0i32; GROUP];
        let mut total = 0i32;
        for (i, oct) in octs.iter().enumerate() {
            let at = span * w.span() + i;
            let line = &lines[at / OCTS * tile.width + t].0;
            let a: &[i16] = &line[at % OCTS * OCT..][..OCT];
            let a = [a[0], a[2], a[1], a[3], a[4], a[6], a[5], a[7]].map(i32::from);
            total += a.iter().sum::<i32>();
            for (lane, dot) in dot.iter_mut().enumerate() {
                let q = pack::eight(oct, lane, w.bits, weights.f.get(block));
                *dot += q.iter().zip(a).map(|(q, a)| i32::from(*q) * a).sum::<i32>();
            }
        }
        let Some((m, n)) = w.scales(weights, block) else { continue };
        for (lane, (sum, dot)) in sum.iter_mut().zip(&dot).enumerate() {
            *sum += i64::from(*dot) * i64::from(half(m, lane));
            if w.minima {
                *sum -= (i64::from(total) * i64::from(half(n, lane) as i16)) << MIN_SHIFT;
            }
        }
    }
    let et = acts.et[tile.first + t];
    std::array::from_fn(|lane| crate::spec::float::finish(sum[lane], w.er[group * GROUP + lane] + et))
}

/// Bytes ahead of the one in use that are asked for.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8192;

/// Asks for the lines that lie `AHEAD` of an oct at `at` of a group's weights, of which there are `len` bytes. A group's end is
/// followed by the same stream's next group, past those that the other streams are at; past the last one nothing happens.
#[cfg(target_arch = "x86_64")]
#[inline]
fn ask(oct: &[u8], streams: usize, len: usize, at: usize) {
    let ahead = if at + AHEAD < len { AHEAD } else { AHEAD + (streams - 1) * len };
    for line in (0..oct.len()).step_by(64) {
        // SAFETY: a prefetch reads nothing and never faults.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(
                oct.as_ptr().wrapping_add(ahead + line).cast(),
            )
        };
    }
}

/// `2^et` for the kernels that scale in f64.
#[cfg(target_arch = "x86_64")]
fn token_scale(acts: &Acts, tile: Tile, t: usize) -> f64 {
    crate::spec::float::pow2(acts.et[tile.first + t])
}

const _: () = assert!(BLOCK == 32 && GROUP == 16 && OCT == 8, "the kernels are written for these");
