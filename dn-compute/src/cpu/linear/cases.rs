//! Many tokens through a kernel of one's choice, beside plain integers.

use super::*;
use crate::cpu::Isa;
use crate::spec::matrix::QuantParts;
use crate::spec::{BlockLength, Blocks, QuantMatrix};

/// One thread with this instruction set; nothing, and a word about it, where the machine has it not.
#[allow(clippy::print_stdout, reason = "a skip must be seen")]
pub(super) fn cpu(isa: Isa) -> Option<Cpu> {
    let cpu = Cpu::new(isa, 1).ok();
    if cpu.is_none() {
        println!("SKIPPED: this machine has no {isa}");
    }
    cpu
}

/// Weights and activations as large as they come, some of either sign; such that four bits hold them if `four`.
fn matrix(blocks: Blocks, four: bool, rows: usize, cols: usize) -> QuantMatrix {
    let count = rows * blocks.count(cols);
    let most: i8 = match (four, blocks.minima) {
        (true, _) => 7,
        (false, true) => 63,
        (false, false) => 127,
    };
    let q = (0..rows * cols)
        .map(|i| if (i / cols).is_multiple_of(2) || i % 7 < 3 { most } else { (i % 5) as i8 - most })
        .collect();
    let m = (0..count).map(|i| 0xffff - (i * 37 % 30_000) as u16).collect();
    let n = (0..if blocks.minima { count } else { 0 })
        .map(|i| (20_000 - (i * 991 % 40_000) as i32) as i16)
        .collect();
    QuantMatrix::from_blocks(QuantParts { rows, cols, blocks, q, m, n, er: vec![-30; rows] })
        .expect("canonical")
}

/// Compares what `multiply` writes with plain integers, bit for bit: 27 tokens (whole tiles and a rest), rows that fill no group, blocks of every length.
pub(super) fn check(cpu: &Cpu, name: &str, multiply: impl Fn(&Packed, &Acts, Range<usize>, &Out) -> bool) {
    let plain = Cpu::new(Isa::Scalar, 1).expect("plain code");
    let lengths = [BlockLength::B16, BlockLength::B32, BlockLength::B128, BlockLength::Row];
    for (blocks, cols, four) in lengths
        .into_iter()
        .flat_map(|length| [Blocks::plain(length), Blocks::with_minima(length)])
        .flat_map(|blocks| [32, 96, 640, 1056].map(|cols| (blocks, cols)))
        .flat_map(|(blocks, cols)| [false, true].map(|four| (blocks, cols, four)))
    {
        let (rows, tokens) = (3 * GROUP + 5, 27);
        let w = Packed::new(cpu.level, &matrix(blocks, four, rows, cols), &cpu.threads);
        assert_eq!(w.bits != Bits::Eight, four);
        let x: Vec<f32> = (0..tokens * cols)
            .map(|i| match i / cols % 3 {
                0 => 1.99,
                1 => -1.99,
                _ => (i * 7919 % 2003) as f32 - 1001.0,
            })
            .collect();
        let acts = Acts::new(cpu, Form::Pairs, true, &x, cols).expect("finite");
        let wanted = outputs(&w, &acts, (rows, tokens), |w, acts, groups, out| {
            // SAFETY: nobody else writes.
            unsafe { piece(plain.level, w, acts, groups.start, groups.end, out) }
        });
        let found = outputs(&w, &acts, (rows, tokens), &multiply);
        assert_eq!(found, wanted, "{name}: {blocks:?}, {cols} columns, four bits: {four}");
    }
}

/// The bits of all outputs.
fn outputs(
    w: &Packed,
    acts: &Acts,
    (rows, tokens): (usize, usize),
    multiply: impl Fn(&Packed, &Acts, Range<usize>, &Out) -> bool,
) -> Vec<u32> {
    let mut to = vec![f32::NAN; rows * tokens];
    let out = Out { at: to.as_mut_ptr(), rows, tokens };
    assert!(multiply(w, acts, 0..rows.div_ceil(GROUP), &out), "nothing overflows");
    to.into_iter().map(f32::to_bits).collect()
}
