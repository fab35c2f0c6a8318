//! The most products of 16 by 16 bits that this machine's threads make: chains of the kernels' own instruction, and nothing else.

#![allow(unsafe_code, reason = "one instruction many times over, which no library has")]

use std::arch::asm;

/// An instruction set's way to multiply, and how many products a thousand rounds of it are.
pub(crate) struct Products {
    pub(crate) name: &'static str,
    pub(crate) in_a_thousand: u64,
    pub(crate) run: fn(thousands: u64),
}

/// The best one that this processor has.
pub(crate) fn best() -> Option<Products> {
    if is_x86_feature_detected!("avx512vnni") {
        let run = |thousands| {
            // SAFETY: the feature was found, and all registers that are written are named.
            unsafe { vpdpwssd(thousands) }
        };
        // Twelve instructions a round, sixteen sums of two products each.
        return Some(Products { name: "vpdpwssd_512", in_a_thousand: 1_000 * 12 * 32, run });
    }
    if is_x86_feature_detected!("avx2") {
        let run = |thousands| {
            // SAFETY: as above.
            unsafe { vpmaddwd(thousands) }
        };
        // Six pairs of a product and its sum a round, eight sums of two products each.
        return Some(Products { name: "vpmaddwd_vpaddd_256", in_a_thousand: 1_000 * 6 * 16, run });
    }
    None
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn vpdpwssd(thousands: u64) {
    // SAFETY: reads and writes nothing but the registers that are named.
    unsafe {
        asm!(
            "2:",
            "vpdpwssd zmm0, zmm12, zmm13",
            "vpdpwssd zmm1, zmm12, zmm13",
            "vpdpwssd zmm2, zmm12, zmm13",
            "vpdpwssd zmm3, zmm12, zmm13",
            "vpdpwssd zmm4, zmm12, zmm13",
            "vpdpwssd zmm5, zmm12, zmm13",
            "vpdpwssd zmm6, zmm12, zmm13",
            "vpdpwssd zmm7, zmm12, zmm13",
            "vpdpwssd zmm8, zmm12, zmm13",
            "vpdpwssd zmm9, zmm12, zmm13",
            "vpdpwssd zmm10, zmm12, zmm13",
            "vpdpwssd zmm11, zmm12, zmm13",
            "sub {rounds}, 1",
            "jnz 2b",
            rounds = inout(reg) thousands.max(1) * 1_000 => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _,
            options(nomem, nostack),
        );
    }
}

#[target_feature(enable = "avx2")]
fn vpmaddwd(thousands: u64) {
    // SAFETY: reads and writes nothing but the registers that are named.
    unsafe {
        asm!(
            "2:",
            "vpmaddwd ymm6, ymm12, ymm13",
            "vpaddd ymm0, ymm0, ymm6",
            "vpmaddwd ymm7, ymm12, ymm13",
            "vpaddd ymm1, ymm1, ymm7",
            "vpmaddwd ymm8, ymm12, ymm13",
            "vpaddd ymm2, ymm2, ymm8",
            "vpmaddwd ymm9, ymm12, ymm13",
            "vpaddd ymm3, ymm3, ymm9",
            "vpmaddwd ymm10, ymm12, ymm13",
            "vpaddd ymm4, ymm4, ymm10",
            "vpmaddwd ymm11, ymm12, ymm13",
            "vpaddd ymm5, ymm5, ymm11",
            "sub {rounds}, 1",
            "jnz 2b",
            rounds = inout(reg) thousands.max(1) * 1_000 => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _,
            options(nomem, nostack),
        );
    }
}
