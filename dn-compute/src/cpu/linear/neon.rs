//! NEON: four columns of a row to a register through 16-bit multiply-add long, or sixteen bytes at a time through products of
//! four bytes, which take the activations as two digits. Sums over blocks are 64-bit integers.

#![allow(
    clippy::needless_range_loop,
    reason = "indices name tokens, rows and quads of several arrays at once"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::Results;
use crate::cpu::acts::{Acts, Line, Tile};
use crate::cpu::isa::{Neon, NeonDot};
use crate::cpu::pack::{GROUP, HALVES, Packed};
use crate::spec::{BLOCK, float::finish};

/// Columns of a row that lie side by side.
const QUAD: usize = 4;
/// Quads of a block.
const QUADS: usize = BLOCK / QUAD;
/// Bytes of a quad of columns of a group.
const QUAD_BYTES: usize = QUAD * GROUP;
/// Bytes of a block of columns of a group.
const BLOCK_BYTES: usize = BLOCK * GROUP;

/// Whether these kernels take a matrix: the usual form only.
pub(super) fn takes(w: &Packed) -> bool {
    w.is_usual()
}

/// `groups` groups of 16 rows from `group`, times a tile of pairs.
pub(super) fn kernel(
    _: Neon,
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    out: &mut Results,
) {
    for g in 0..groups {
        let out = &mut out[g * tile.width..][..tile.width];
        for half in 0..2 {
            for first in (0..tile.width).step_by(2) {
                // SAFETY: the token proves NEON; everything else is checked by slices inside.
                unsafe {
                    match tile.width - first {
                        1 => half_group::<1>(w, acts, group + g, half, tile, first, out),
                        _ => half_group::<2>(w, acts, group + g, half, tile, first, out),
                    }
                }
            }
        }
    }
}

/// The same times a tile of digits.
pub(super) fn kernel_dot(
    _: NeonDot,
    w: &Packed,
    acts: &Acts,
    group: usize,
    groups: usize,
    tile: Tile,
    out: &mut Results,
) {
    for g in 0..groups {
        let out = &mut out[g * tile.width..][..tile.width];
        for first in (0..tile.width).step_by(2) {
            // SAFETY: the token proves both features; everything else is checked by slices inside.
            unsafe {
                match tile.width - first {
                    1 => whole_group::<1>(w, acts, group + g, tile, first, out),
                    _ => whole_group::<2>(w, acts, group + g, tile, first, out),
                }
            }
        }
    }
}

/// Eight rows from `half`, times `T` tokens of the tile from `first`.
#[target_feature(enable = "neon")]
fn half_group<const T: usize>(
    w: &Packed,
    acts: &Acts,
    group: usize,
    half: usize,
    tile: Tile,
    first: usize,
    out: &mut [[f32; GROUP]],
) {
    let mut sum = [[0i64; 8]; T];
    let weights = w.group(group);
    let blocks = weights.q.chunks_exact(BLOCK_BYTES).zip(weights.m.chunks_exact(HALVES));
    for ((q, m), lines) in blocks.zip(acts.tile(tile).chunks_exact(tile.width)) {
        let lines = &lines[first..][..T];
        let mut dot = [[vdupq_n_s32(0); 8]; T];
        for p in 0..QUADS {
            let bytes: &[u8; 32] = q[p * QUAD_BYTES + half * 32..][..32].try_into().expect("32 of them");
            for pair in 0..2 {
                // SAFETY: the array holds the two times sixteen bytes that are read.
                let v = unsafe { vld1q_s8(bytes.as_ptr().add(16 * pair).cast()) };
                // Two rows each.
                let rows = [vmovl_s8(vget_low_s8(v)), vmovl_high_s8(v)];
                for t in 0..T {
                    let four: &[i16; QUAD] = lines[t].0[QUAD * p..][..QUAD].try_into().expect("four of them");
                    // SAFETY: the array holds the four values that are read.
                    let a = unsafe { vld1_s16(four.as_ptr()) };
                    // They lie as the first and third, then the second and fourth.
                    let a = vzip1_s16(a, vext_s16::<2>(a, a));
                    for (i, row) in rows.into_iter().enumerate() {
                        let at = 4 * pair + 2 * i;
                        dot[t][at] = vmlal_s16(dot[t][at], vget_low_s16(row), a);
                        dot[t][at + 1] = vmlal_s16(dot[t][at + 1], vget_high_s16(row), a);
                    }
                }
            }
        }
        let m: &[u8; 16] = m[half * 16..][..16].try_into().expect("16 of them");
        for t in 0..T {
            let d = &dot[t];
            let dots = [four_sums(&[d[0], d[1], d[2], d[3]]), four_sums(&[d[4], d[5], d[6], d[7]])];
            add_block(&mut sum[t], dots, m);
        }
    }
    write(w, acts, group, half * 8, tile, first, &sum, out);
}

/// The sums of four registers.
#[inline]
#[target_feature(enable = "neon")]
fn four_sums(v: &[int32x4_t; 4]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]))
}

/// `sum += dot * m` of eight rows.
#[inline]
#[target_feature(enable = "neon")]
fn add_block(sum: &mut [i64], dots: [int32x4_t; 2], m: &[u8; 16]) {
    let sum: &mut [i64; 8] = sum.try_into().expect("eight rows");
    // SAFETY: the array holds the sixteen bytes that are read; the machine is little-endian, as the bytes are.
    let m = unsafe { vld1q_u8(m.as_ptr()) };
    let m = vreinterpretq_u16_u8(m);
    let m = [vmovl_u16(vget_low_u16(m)), vmovl_high_u16(m)].map(|m| vreinterpretq_s32_u32(m));
    for part in 0..2 {
        let at = sum[4 * part..].as_mut_ptr();
        // SAFETY: four sums lie there.
        unsafe {
            let low = vmlal_s32(vld1q_s64(at), vget_low_s32(dots[part]), vget_low_s32(m[part]));
            let high = vmlal_high_s32(vld1q_s64(at.add(2)), dots[part], m[part]);
            vst1q_s64(at, low);
            vst1q_s64(at.add(2), high);
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
fn write<const R: usize, const T: usize>(
    w: &Packed,
    acts: &Acts,
    group: usize,
    row: usize,
    tile: Tile,
    first: usize,
    sum: &[[i64; R]; T],
    out: &mut [[f32; GROUP]],
) {
    for t in 0..T {
        let et = acts.et[tile.first + first + t];
        let er = &w.er[group * GROUP + row..][..R];
        for ((out, sum), er) in out[first + t][row..].iter_mut().zip(&sum[t]).zip(er) {
            *out = finish(*sum, er + et);
        }
    }
}

/// Sixteen rows, times `T` tokens of the tile from `first`.
#[target_feature(enable = "neon,dotprod")]
fn whole_group<const T: usize>(
    w: &Packed,
    acts: &Acts,
    group: usize,
    tile: Tile,
    first: usize,
    out: &mut [[f32; GROUP]],
) {
    let mut sum = [[0i64; GROUP]; T];
    let lines = acts.tile(tile);
    let weights = w.group(group);
    let blocks = weights.q.chunks_exact(BLOCK_BYTES).zip(weights.m.chunks_exact(HALVES));
    for (block, (q, m)) in blocks.enumerate() {
        // A line of digits holds two blocks.
        let lines = &lines[block / 2 * 2 * tile.width..][..2 * tile.width];
        let mut dot = [[[vdupq_n_s32(0); 4]; 2]; T];
        for part in 0..2 {
            let mut digits = [[vdupq_n_s8(0); 2]; T];
            for t in 0..T {
                for digit in 0..2 {
                    digits[t][digit] = sixteen(&lines[digit * tile.width + first + t], block % 2 * 2 + part);
                }
            }
            let q: &[u8; 4 * QUAD_BYTES] =
                q[part * 4 * QUAD_BYTES..][..4 * QUAD_BYTES].try_into().expect("half a block");
            four_quads(q, &digits, &mut dot);
        }
        for t in 0..T {
            let mut dots = [vdupq_n_s32(0); 4];
            for i in 0..4 {
                dots[i] = vaddq_s32(vshlq_n_s32::<8>(dot[t][0][i]), dot[t][1][i]);
            }
            for half in 0..2 {
                let m: &[u8; 16] = m[half * 16..][..16].try_into().expect("16 of them");
                add_block(&mut sum[t][8 * half..][..8], [dots[2 * half], dots[2 * half + 1]], m);
            }
        }
    }
    write(w, acts, group, 0, tile, first, &sum, out);
}

/// Sixteen of the 64 digits of a line.
#[inline]
#[target_feature(enable = "neon")]
fn sixteen(line: &Line, part: usize) -> int8x16_t {
    assert!(part < 4);
    // SAFETY: a line holds four times the sixteen bytes that are read.
    unsafe { vld1q_s8(line.0.as_ptr().cast::<i8>().add(16 * part)) }
}

/// Sixteen columns of sixteen rows: each lane of the digits meets its quad.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn four_quads<const T: usize>(
    q: &[u8; 4 * QUAD_BYTES],
    digits: &[[int8x16_t; 2]; T],
    dot: &mut [[[int32x4_t; 4]; 2]; T],
) {
    for i in 0..4 {
        let mut v = [vdupq_n_s8(0); 4];
        for (lane, v) in v.iter_mut().enumerate() {
            // SAFETY: the array holds four quads of 64 bytes.
            *v = unsafe { vld1q_s8(q.as_ptr().add(lane * QUAD_BYTES + 16 * i).cast()) };
        }
        for t in 0..T {
            for digit in 0..2 {
                let (a, sum) = (digits[t][digit], &mut dot[t][digit][i]);
                *sum = dot_lane::<0>(*sum, v[0], a);
                *sum = dot_lane::<1>(*sum, v[1], a);
                *sum = dot_lane::<2>(*sum, v[2], a);
                *sum = dot_lane::<3>(*sum, v[3], a);
            }
        }
    }
}

/// Adds products of four bytes: of each four of `v` with lane `LANE` of `a`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_lane<const LANE: i32>(sum: int32x4_t, v: int8x16_t, a: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the features are on; only the register of the sum changes.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {v:v}.16b, {a:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            v = in(vreg) v,
            a = in(vreg) a,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
