//! Products of 16-bit pairs added to 32-bit sums, as one instruction.
//!
//! For a processor that it knows nothing of, the compiler takes the intrinsics of `vpdpwssd` apart into a product and a sum: shorter
//! to wait for, but twice the work where many sums grow side by side. What is written in assembly stays as it is.

use std::arch::asm;
use std::arch::x86_64::{__m256i, __m512i};

/// `sum + a.even * b.even + a.odd * b.odd` in every 32-bit number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn add_pairs_512(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the instruction is of AVX-512-VNNI and works on registers.
    unsafe {
        asm!("vpdpwssd {sum}, {a}, {b}", sum = inout(zmm_reg) sum, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// The products of every other 32-bit number. The compiler makes two shifts and a product of 64 bits of the intrinsic where an operand was shifted.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn multiply_even_512(a: __m512i, b: __m512i) -> __m512i {
    let product;
    // SAFETY: the instruction is of AVX-512 and works on registers.
    unsafe {
        asm!("vpmuldq {product}, {a}, {b}", product = lateout(zmm_reg) product, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    product
}

/// `sum + a * b` in every 64-bit number, of factors without sign below `2^52` whose product is below it too.
///
/// # Safety
/// The processor has AVX-512-IFMA. It is no target feature here, since code that does without would be compiled anew for it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn multiply_add_512(mut sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the instruction is of AVX-512-IFMA, by the caller's promise, and works on registers.
    unsafe {
        asm!("vpmadd52luq {sum}, {a}, {b}", sum = inout(zmm_reg) sum, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// As [`add_pairs_512`] of 256 bits, by AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
pub(crate) fn add_pairs_256(mut sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the instruction is of AVX-VNNI and works on registers.
    unsafe {
        asm!("{{vex}} vpdpwssd {sum}, {a}, {b}", sum = inout(ymm_reg) sum, a = in(ymm_reg) a, b = in(ymm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}
