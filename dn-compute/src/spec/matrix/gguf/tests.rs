use proptest::prelude::*;

use super::*;
use crate::spec::matrix::MIN_SHIFT;

/// A dequantiser that shares nothing with the decoders: a column at a time, in f64. Gives `d * scale`, `q` and the minimum.
fn element(format: &Format, block: &[u8], c: usize) -> (f64, f64, f64) {
    let f16 = |at: usize| half::f16::from_bits(u16::from_le_bytes([block[at], block[at + 1]])).to_f64();
    let bit_field = |at: usize, shift: usize, bits: u32| f64::from(block[at] >> shift & ((1 << bits) - 1));
    match format.name {
        "Q8_0" => (f16(0), f64::from(block[2 + c] as i8), 0.0),
        "Q4_0" => (f16(0), bit_field(2 + c % 16, c / 16 * 4, 4) - 8.0, 0.0),
        "Q6_K" => {
            let (half, part, i) = (c / 128, c / 32 % 4, c % 32);
            let q = bit_field(64 * half + 32 * (part & 1) + i, part / 2 * 4, 4)
                + 16.0 * bit_field(128 + 32 * half + i, 2 * part, 2)
                - 32.0;
            (f16(208) * f64::from(block[192 + c / 16] as i8), q, 0.0)
        }
        name => {
            let (b, i) = (c / 32, c % 32);
            let six = |at: usize| match b {
                0..4 => bit_field(4 + at + b, 0, 6),
                _ => bit_field(8 + b, at, 4) + 16.0 * bit_field(at + b, 6, 2),
            };
            let (fours, fifth) = match name {
                "Q4_K" => (16, 0.0),
                _ => (48, 16.0 * bit_field(16 + i, b, 1)),
            };
            let q = bit_field(fours + b / 2 * 32 + i, b % 2 * 4, 4) + fifth;
            (f16(0) * six(0), q, f16(2) * six(4))
        }
    }
}

const FORMATS: [&Format; 5] = [&Q8_0, &Q4_0, &Q4_K, &Q5_K, &Q6_K];

/// Makes random bytes a block whose f16 numbers are finite, with exponents up to `spread` apart.
fn mend(format: &Format, block: &mut [u8], base: u8, spread: u8) {
    let at: &[usize] = match format.name {
        "Q4_K" | "Q5_K" => &[0, 2],
        "Q6_K" => &[208],
        _ => &[0],
    };
    for at in at {
        let exponent = base + block[at + 1] % (spread + 1);
        block[at + 1] = block[at + 1] & 0x83 | exponent.min(30) << 2;
    }
    if format.name == "Q8_0" {
        block[2..].iter_mut().filter(|byte| **byte == 128).for_each(|byte| *byte = 7);
    }
}

const ROWS: usize = 2;

fn file(format: &Format, seed: &[u8], per_row: usize, base: u8, spread: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = seed.iter().copied().cycle().take(ROWS * per_row * format.bytes).collect();
    bytes.chunks_exact_mut(format.bytes).for_each(|block| mend(format, block, base, spread));
    bytes
}

proptest! {
    #[test]
    fn every_weight_is_near_what_the_file_says(
        seed in proptest::collection::vec(any::<u8>(), 211..900),
        per_row in 1usize..4,
        which in 0usize..5,
        base in 0u8..28,
        spread in 0u8..20,
    ) {
        let format = FORMATS[which];
        let bytes = file(format, &seed, per_row, base, spread);
        let cols = per_row * format.columns;
        let w = take_apart(ROWS, cols, &bytes, format).unwrap();
        for (row, data) in bytes.chunks_exact(per_row * format.bytes).enumerate() {
            let unit = 2f64.powi(w.row_exponent(row));
            for c in 0..cols {
                let block = &data[c / format.columns * format.bytes..][..format.bytes];
                let (scale, q, minimum) = element(format, block, c % format.columns);
                // Half a unit for each count of the mantissa, half of sixteen for the minimum.
                let bound = unit * (q.abs() / 2.0 + if w.blocks().minima { 8.0 } else { 0.0 });
                let error = (w.value(row, c) - (scale * q - minimum)).abs();
                prop_assert!(error <= bound, "{}, row {row}, column {c}: {error:e} > {bound:e}", format.name);
            }
        }
        prop_assert_eq!(&QuantMatrix::from_tile_bytes(ROWS, cols, &w.tile_bytes(0..ROWS)).unwrap(), &w);
        let narrow = w.range().bits();
        match format.name {
            "Q4_0" | "Q4_K" => prop_assert!(narrow <= 4),
            "Q5_K" => prop_assert!(narrow <= 5),
            "Q6_K" => prop_assert!(narrow <= 6),
            _ => {}
        }
    }

    #[test]
    fn weights_are_exact_where_sixteen_bits_hold_the_scales(
        seed in proptest::collection::vec(any::<u8>(), 300..900),
        which in 0usize..5,
        power in 6u8..20,
        apart in 0u8..5,
    ) {
        let format = FORMATS[which];
        let mut bytes = file(format, &seed, 3, 0, 0);
        let k = matches!(format.name, "Q4_K" | "Q5_K" | "Q6_K");
        for (b, block) in bytes.chunks_exact_mut(format.bytes).enumerate() {
            // Powers of two under the small integers of K-quants, eleven bits elsewhere; exponents a little apart.
            let exponent = power + if b % 2 == 0 { 0 } else { apart };
            let sign = block[1] & 0x80;
            match format.name {
                "Q4_K" | "Q5_K" => {
                    block[..4].copy_from_slice(&[0, exponent << 2 | sign, 0, exponent << 2]);
                    block[4] |= 63; // a scale of 63
                }
                "Q6_K" => block[208..].copy_from_slice(&[0, exponent << 2 | sign]),
                _ => block[1] = block[1] & 0x83 | exponent << 2,
            }
        }
        let cols = 3 * format.columns;
        let w = take_apart(ROWS, cols, &bytes, format).unwrap();
        for (row, data) in bytes.chunks_exact(3 * format.bytes).enumerate() {
            for c in 0..cols {
                let block = &data[c / format.columns * format.bytes..][..format.bytes];
                let (scale, q, minimum) = element(format, block, c % format.columns);
                prop_assert_eq!(w.value(row, c), scale * q - minimum, "{}, k {}", format.name, k);
            }
        }
    }
}

#[test]
fn what_a_format_cannot_hold_is_named() {
    for format in FORMATS {
        let cols = 2 * format.columns;
        let good = file(format, &[1, 2, 3, 200], 2, 9, 3);
        assert!(take_apart(ROWS, cols, &good, format).is_ok());
        let places: &[usize] = match format.name {
            "Q4_K" | "Q5_K" => &[0, 2],
            "Q6_K" => &[208],
            _ => &[0],
        };
        for at in places {
            for bits in [0x7c00u16, 0xfc00, 0x7e01] {
                let mut bad = good.clone();
                bad[3 * format.bytes + at..][..2].copy_from_slice(&bits.to_le_bytes());
                let error = take_apart(ROWS, cols, &bad, format).unwrap_err();
                assert_eq!(error, MatrixError::NonFinite { row: 1, col: format.columns });
            }
        }
        let error = take_apart(ROWS, cols + 1, &good, format).unwrap_err();
        assert!(error.to_string().contains(&format!("multiple of {}", format.columns)), "{error}");
        assert!(error.to_string().contains(format.name), "{error}");
        for bytes in [&good[1..], &[good.clone(), vec![0]].concat()] {
            let error = take_apart(ROWS, cols, bytes, format).unwrap_err();
            assert!(matches!(error, MatrixError::Length { expected, .. } if expected == good.len()));
        }
    }
}

#[test]
fn a_block_can_be_a_minimum_alone() {
    // All q zero: the scale carries nothing, the minimum does.
    let mut block = vec![0u8; 144];
    block[..4].copy_from_slice(&[0, 0x3c, 0, 0xbc]); // d = 1, minimum of -1 each
    block[4..8].fill(63);
    block[8..12].fill(3);
    let w = QuantMatrix::from_q4_k(1, 256, &block).unwrap();
    assert_eq!((w.value(0, 0), w.value(0, 255)), (3.0, 0.0));
    assert_eq!((w.row_m(0), w.row_n(0)[0]), (&[0u16; 8][..], -24_576));
    assert_eq!(w.row_exponent(0), 1 - 14 - MIN_SHIFT as i32);
    // Nothing at all.
    let w = QuantMatrix::from_q5_k(1, 256, &[0; 176]).unwrap();
    assert_eq!((w.row_exponent(0), w.range().bits()), (0, 0));
    // A minimum a thousand times the scales takes the exponent with it; the scales keep six bits.
    block[..4].copy_from_slice(&[0, 0x3c, 0, 0x64]); // d = 1, 2^10
    block[16..].fill(0x11);
    let w = QuantMatrix::from_q4_k(1, 256, &block).unwrap();
    assert_eq!(w.value(0, 0), 63.0 - 3072.0);
    assert!(w.row_m(0)[0] < 0x8000 && w.row_n(0)[0] >= 0x4000);
}

#[test]
fn four_bits_are_stated() {
    // The largest weight is -8 in one block and, under a negative scale, 8 in the next.
    let mut bytes = vec![0x08u8; 36];
    bytes[..2].copy_from_slice(&[0, 0x3c]);
    bytes[18..20].copy_from_slice(&[0, 0xbc]);
    bytes[20] = 0xf0;
    let w = QuantMatrix::from_q4_0(1, 64, &bytes).unwrap();
    assert_eq!((w.range().min, w.range().max, w.range().spread), (-8, 8, 15));
    assert_eq!((w.range().bits(), w.range().unsigned_4()), (4, false));
    let mut block = vec![0xf0u8; 144];
    block[..4].copy_from_slice(&[0, 0x3c, 0, 0x3c]);
    block[16] = 0x0f;
    let w = QuantMatrix::from_q4_k(1, 256, &block).unwrap();
    assert_eq!((w.range().bits(), w.range().unsigned_4()), (4, true));
}
