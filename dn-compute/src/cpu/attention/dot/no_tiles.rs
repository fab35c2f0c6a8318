//! Where there are no tile registers: never ready.

use crate::cpu::isa::Level;

use super::Product;

#[derive(Debug, Clone, Copy)]
pub(in crate::cpu::attention) enum Digits {
    Signed,
    Unsigned,
}

#[derive(Default)]
pub(in crate::cpu::attention) struct Tiles;

#[allow(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "the shape of the real one")]
impl Tiles {
    pub(in crate::cpu::attention) fn begin(&mut self, _: Level, _: usize) {}

    pub(in crate::cpu::attention) const fn ready(&self) -> bool {
        false
    }

    pub(in crate::cpu::attention) fn end(&mut self) {}

    pub(in crate::cpu::attention) fn rows(&mut self, _: &[i32], _: &[i32], _: usize) {}

    pub(in crate::cpu::attention) fn page(&mut self, _: &[i16], _: usize) {}

    pub(in crate::cpu::attention) fn multiply(
        &mut self,
        _: &Product<'_>,
        _: usize,
        _: Digits,
        _: &mut [i32],
        _: &mut [i32],
    ) {
        unreachable!("tiles are never ready here");
    }
}
