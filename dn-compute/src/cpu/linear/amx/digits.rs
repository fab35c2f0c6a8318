//! Weights times their mantissas as byte digits, a few columns at a time.

use std::arch::asm;
use std::arch::x86_64::*;

use super::tiles::Digits;
use crate::cpu::acts::{STEP, UNIT};
use crate::cpu::pack::{Bits, GROUP, Group, HALVES, OCT, Packed, oct_bytes};

/// The digits of a step of a group; past the last column they are zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn make<const FOUR: bool, const MINIMA: bool>(
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

/// The upper halves of signed 16-bit products. The compiler makes products of 32 bits and shuffles of the intrinsic, because it
/// knows some bits of the operands; that takes three times as long.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn high_product(a: __m512i, b: __m512i) -> __m512i {
    let product;
    // SAFETY: the instruction is there and only writes its result.
    unsafe {
        asm!(
            "vpmulhw {product}, {a}, {b}",
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            product = lateout(zmm_reg) product,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    product
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
        let high = high_product(q, m);
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
