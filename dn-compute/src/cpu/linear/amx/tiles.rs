//! Tile registers: their shape, and the products of a step.
//!
//! They keep their values from one block of assembly to the next: no code that the compiler emits uses them, and the system
//! saves them when it switches threads.

use std::arch::asm;

use crate::cpu::acts::Line;
use crate::cpu::isa::Amx;

/// A tile register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tmm(pub(super) [u8; 1024]);

impl Tmm {
    /// A tile of zeros.
    pub(super) const ZERO: Self = Self([0; 1024]);
}

/// The three digits of 64 columns of a group: `[digit, highest first][quad][row][column]`.
pub(super) type Digits = [Tmm; 3];
/// The four sums of a tile, by weight, highest first: `[token][row]` as i32.
pub(super) type Sums = [Tmm; 4];

/// The shape of this thread's tile registers; gives them back when dropped.
pub(super) struct Shape {
    width: usize,
}

impl Shape {
    pub(super) const fn new(_: Amx) -> Self {
        Self { width: 0 }
    }

    /// Tiles 0 to 5 (sums, activations) have `width` rows of 64 bytes, 6 and 7 (digits) sixteen.
    pub(super) fn set(&mut self, width: usize) {
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

/// Sets the sums to zero, or to what they were.
///
/// # Safety
/// The shape of the tiles is set.
#[inline(always)]
pub(super) unsafe fn start(again: bool, sums: &Sums) {
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
pub(super) unsafe fn multiply(lines: &[Line], width: usize, digits: &Digits) {
    debug_assert_eq!(lines.len(), 2 * width);
    let high = lines.as_ptr();
    // SAFETY: two tiles of `width` lines and three of 1024 bytes are read.
    unsafe {
        asm!(
            "tileloaddt1 tmm4, [{high} + {stride}]",
            "tileloadd tmm6, [{digits} + {stride}]",
            "tileloaddt1 tmm5, [{low} + {stride}]",
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
pub(super) unsafe fn store(sums: &mut Sums) {
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
