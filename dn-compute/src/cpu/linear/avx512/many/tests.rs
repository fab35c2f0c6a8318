use super::*;
use crate::cpu::acts::Form;
use crate::cpu::isa::Level;
use crate::cpu::{Cpu, Isa};
use crate::spec::matrix::QuantParts;
use crate::spec::{BlockLength, Blocks, QuantMatrix};

/// Weights and activations as large as they come, some of either sign.
fn matrix(blocks: Blocks, rows: usize, cols: usize) -> QuantMatrix {
    let count = rows * blocks.count(cols);
    let most: i8 = if blocks.minima { 63 } else { 127 };
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

/// One instruction for product and sum, two instructions, and plain integers: the same bits.
#[test]
fn ways_to_multiply_agree() {
    let Ok(cpu) = Cpu::new(Isa::Avx512, 1) else { return };
    let plain = Cpu::new(Isa::Scalar, 1).expect("plain code");
    let Level::Avx512(token) = cpu.level else { unreachable!("it was asked for") };
    let lengths = [BlockLength::B16, BlockLength::B32, BlockLength::B128, BlockLength::Row];
    for (blocks, cols) in lengths
        .into_iter()
        .flat_map(|length| [Blocks::plain(length), Blocks::with_minima(length)])
        .flat_map(|blocks| [32, 96, 640, 1056].map(|cols| (blocks, cols)))
    {
        let (rows, tokens) = (3 * GROUP + 5, 27);
        let w = Packed::new(cpu.level, &matrix(blocks, rows, cols), &cpu.threads);
        let x: Vec<f32> = (0..tokens * cols)
            .map(|i| match i / cols % 3 {
                0 => 1.99,
                1 => -1.99,
                _ => (i * 7919 % 2003) as f32 - 1001.0,
            })
            .collect();
        let acts = Acts::new(&cpu, Form::Pairs, true, &x, cols).expect("finite");
        let pass = |fused: Option<bool>| {
            let mut to = vec![f32::NAN; rows * tokens];
            let out = Out { at: to.as_mut_ptr(), rows, tokens };
            let groups = 0..rows.div_ceil(GROUP);
            // SAFETY: the token proves the features, the processor is asked for the one beyond; nobody else writes.
            let fine = unsafe {
                match fused {
                    None => crate::cpu::linear::piece(plain.level, &w, &acts, 0, groups.end, &out),
                    Some(fused) => {
                        let work = Work { w: &w, acts: &acts, out: &out, fused };
                        let mut scratch = Scratch::default();
                        match blocks.minima {
                            true => work.run::<false, true>(groups, &mut scratch),
                            false => work.run::<false, false>(groups, &mut scratch),
                        }
                    }
                }
            };
            assert!(fine, "nothing overflows");
            to.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let _proof = token;
        let wanted = pass(None);
        assert_eq!(pass(Some(false)), wanted, "{blocks:?}, {cols} columns, two instructions");
        if is_x86_feature_detected!("avx512ifma") {
            assert_eq!(pass(Some(true)), wanted, "{blocks:?}, {cols} columns, one instruction");
        }
    }
}
