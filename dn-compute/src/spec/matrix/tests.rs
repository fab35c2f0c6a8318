use proptest::prelude::*;

use super::*;

/// Q8_0 bytes of blocks of (f16 scale bits, values).
fn q8(blocks: &[(half::f16, [i8; 32])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (d, q) in blocks {
        out.extend_from_slice(&d.to_le_bytes());
        out.extend(q.iter().map(|q| *q as u8));
    }
    out
}

proptest! {
    #[test]
    fn q8_0_is_exact_while_scales_are_within_two_to_the_five(
        q in proptest::collection::vec(-127i8..=127, 4 * 32),
        d in proptest::collection::vec((0x400u16..0x800, 0u16..5), 4),
        base in 0u16..20,
        negative in any::<bool>(),
    ) {
        // Four blocks of two rows: mantissas of 11 bits under exponents at most four apart.
        let blocks: Vec<_> = (0..4).map(|b| {
            let bits = ((base + d[b].1 + 1) << 10) | (d[b].0 & 0x3ff) | (u16::from(negative) << 15);
            (half::f16::from_bits(bits), <[i8; 32]>::try_from(&q[b * 32..][..32]).unwrap())
        }).collect();
        let w = QuantMatrix::from_q8_0(2, 64, &q8(&blocks)).unwrap();
        for (b, (d, q)) in blocks.iter().enumerate() {
            for (c, q) in q.iter().enumerate() {
                let exact = d.to_f64() * f64::from(*q);
                prop_assert_eq!(w.value(b / 2, b % 2 * 32 + c), exact);
            }
        }
        let again = QuantMatrix::from_tile_bytes(2, 64, &w.tile_bytes(0..2)).unwrap();
        prop_assert_eq!(&again, &w);
        let parts = QuantMatrix::from_parts(2, 64, w.q.clone(), w.m.clone(), w.er.clone());
        prop_assert_eq!(parts.unwrap(), w);
    }

    #[test]
    fn f32_weights_move_by_half_a_step_at_most(
        w in proptest::collection::vec(-1e3f32..1e3, 3 * 145),
        cols in 1usize..=145,
        length in 0usize..4,
        scale in -60i32..60,
    ) {
        let w: Vec<f32> = w[..3 * cols].iter().map(|v| v * 2f32.powi(scale)).collect();
        let m = QuantMatrix::from_f32_blocks(3, cols, BlockLength::ALL[length], &w).unwrap();
        for row in 0..3 {
            let length = m.block_columns();
            for (b, block) in w[row * cols..][..cols].chunks(length).enumerate() {
                let amax = block.iter().fold(0f32, |a, v| a.max(v.abs()));
                // Half a step, and half a unit of the row for each of up to 127 counts of the mantissa.
                let bound = f64::from(amax) / 254.0 * 1.02 + 63.5 * pow2(m.row_exponent(row));
                for (c, v) in block.iter().enumerate() {
                    let error = (m.value(row, b * length + c) - f64::from(*v)).abs();
                    prop_assert!(error <= bound);
                }
            }
        }
        prop_assert_eq!(QuantMatrix::from_tile_bytes(3, cols, &m.tile_bytes(0..3)).unwrap(), m);
    }

    #[test]
    fn parts_of_a_row_add_up(
        seed in any::<u64>(),
        cols in 1usize..400,
        length in 0usize..4,
        minima in any::<bool>(),
        cut in 0usize..400,
    ) {
        let blocks = Blocks { length: BlockLength::ALL[length], minima };
        let mut rng = crate::testing::Rng(seed);
        let count = blocks.count(cols);
        let q = (0..cols).map(|_| (rng.next() % 126) as i8 - 63).map(|q| if q == 0 { 1 } else { q }).collect();
        let m = (0..count).map(|_| rng.next() as u16 | 0x8000).collect();
        let n = (0..if minima { count } else { 0 }).map(|_| (rng.next() as i16).max(-32_767)).collect();
        let w = QuantMatrix::from_blocks(QuantParts { rows: 1, cols, blocks, q, m, n, er: vec![-3] }).unwrap();
        let a: Vec<i16> = (0..cols).map(|_| (rng.next() % 65_279) as i32 - 32_639).map(|a| a as i16).collect();
        // The sum of the weights' integers, one by one.
        let expected: i128 =
            (0..cols).map(|c| (w.value(0, c) / pow2(-3)) as i128 * i128::from(a[c])).sum();
        let sum = |row: QuantRow<'_>, a: &[i16]| i128::from(crate::spec::linear::exact_sum(row, a));
        prop_assert_eq!(sum(w.row(0), &a), expected);
        let row = w.row(0);
        // Anywhere in a row of one block, else at a block's start.
        let cut = if count == 1 { cut % (cols + 1) } else { cut % (cols + 1) / row.block * row.block };
        let parts = sum(row.columns(0..cut), &a[..cut]) + sum(row.columns(cut..cols), &a[cut..]);
        prop_assert_eq!(parts, expected);
        let mut out = vec![0.0; cols];
        crate::spec::embed::dequantise_row(row, &mut out);
        prop_assert!(out.iter().enumerate().all(|(c, v)| f64::from(*v) == w.value(0, c)));
    }

    #[test]
    fn any_bytes_are_a_matrix_or_an_error(
        code in prop_oneof![Just(0u8), Just(16), Just(32), Just(128), any::<u8>()],
        minima in 0u8..3,
        rows in 1usize..3,
        cols in 1usize..70,
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        fit in any::<bool>(),
    ) {
        let mut bytes = vec![code, minima];
        bytes.extend(noise);
        if let (true, Some(blocks)) = (fit, Blocks::from_header([code, minima])) {
            bytes.resize(2 + rows * blocks.row_bytes(cols), 1);
        }
        if let Ok(w) = QuantMatrix::from_tile_bytes(rows, cols, &bytes) {
            prop_assert_eq!(w.tile_bytes(0..rows), bytes);
        }
    }
}

#[test]
fn f32_of_q8_0_gives_the_same_matrix() {
    let q: [i8; 32] = std::array::from_fn(|i| (i as i8 - 16) * 7);
    let mut top = q;
    top[3] = 127;
    let blocks = [(half::f16::from_f32(0.01), top), (half::f16::from_f32(0.003), top)];
    let a = QuantMatrix::from_q8_0(1, 64, &q8(&blocks)).unwrap();
    let values: Vec<f32> = (0..64).map(|c| a.value(0, c) as f32).collect();
    assert_eq!(QuantMatrix::from_f32(1, 64, &values).unwrap(), a);
}

#[test]
fn zero_rows_and_zero_blocks_are_canonical() {
    let mut w = vec![0f32; 96];
    w[40] = -2.0;
    let m = QuantMatrix::from_f32(3, 32, &w).unwrap();
    assert_eq!((m.row_exponent(0), m.row_m(0), m.row_q(0)), (0, &[0u16][..], &[0i8; 32][..]));
    assert_eq!(m.value(1, 8), m.row_q(1)[8] as f64 * m.row_m(1)[0] as f64 * pow2(m.row_exponent(1)));
    assert_eq!(m.row_q(1)[8], -127);
    // A scale without values carries nothing; a tiny scale beside a large one vanishes with its values.
    let one = {
        let mut q = [0i8; 32];
        q[0] = 1;
        q
    };
    let w = QuantMatrix::from_q8_0(1, 64, &q8(&[(half::f16::MAX, [0; 32]), (half::f16::ONE, one)])).unwrap();
    assert_eq!(w.value(0, 32), 1.0);
    let w =
        QuantMatrix::from_q8_0(1, 64, &q8(&[(half::f16::MAX, one), (half::f16::from_bits(1), one)])).unwrap();
    assert_eq!((w.value(0, 0), w.value(0, 32), w.row_m(0)[1]), (65_504.0, 0.0, 0));
}

#[test]
fn what_cannot_be_a_matrix_is_named() {
    let mut w = vec![1f32; 70];
    w[47] = f32::NAN;
    let e = |r: Result<QuantMatrix, MatrixError>| r.unwrap_err();
    assert_eq!(e(QuantMatrix::from_f32(2, 35, &w)), MatrixError::NonFinite { row: 1, col: 12 });
    w[47] = 2f32.powi(100);
    assert_eq!(e(QuantMatrix::from_f32(2, 35, &w)), MatrixError::Range { row: 1, col: 12 });
    assert!(matches!(
        e(QuantMatrix::from_f32(2, 36, &w)),
        MatrixError::Length { expected: 72, found: 70, .. }
    ));
    assert!(matches!(e(QuantMatrix::from_f32(0, 36, &[])), MatrixError::Size { .. }));
    assert!(matches!(e(QuantMatrix::from_f32(1, 40_000, &[])), MatrixError::Size { .. }));
    assert_eq!(
        e(QuantMatrix::from_q8_0(1, 33, &[])),
        MatrixError::Columns { format: "Q8_0", cols: 33, multiple: 32 }
    );
    let mut q = [1i8; 32];
    q[9] = -128;
    assert_eq!(
        e(QuantMatrix::from_q8_0(1, 32, &q8(&[(half::f16::ONE, q)]))),
        MatrixError::Quant { row: 0, col: 9 }
    );
    assert_eq!(
        e(QuantMatrix::from_q8_0(1, 64, &q8(&[(half::f16::ONE, [1; 32]), (half::f16::INFINITY, [1; 32])]))),
        MatrixError::NonFinite { row: 0, col: 32 }
    );
    let parts = |q: i8, m: u16, er: i16| e(QuantMatrix::from_parts(1, 1, vec![q], vec![m], vec![er]));
    assert!(matches!(parts(1, 0, 0), MatrixError::NotCanonical { .. }));
    assert!(matches!(parts(0, 0x8000, 0), MatrixError::NotCanonical { .. }));
    assert!(matches!(parts(1, 0x7fff, 0), MatrixError::NotCanonical { .. }));
    assert!(matches!(parts(0, 0, 1), MatrixError::NotCanonical { .. }));
    assert!(matches!(parts(1, 0x8000, 101), MatrixError::NotCanonical { .. }));
    assert!(matches!(parts(-128, 0x8000, 0), MatrixError::Quant { .. }));
    let minima = |q: i8, m: u16, n: i16, er: i16| {
        let blocks = Blocks::with_minima(BlockLength::Row);
        let parts = QuantParts { rows: 1, cols: 1, blocks, q: vec![q], m: vec![m], n: vec![n], er: vec![er] };
        QuantMatrix::from_blocks(parts)
    };
    assert!(minima(63, 0x7fff, 0x4000, 0).is_ok() && minima(-63, 0x8000, -3, 0).is_ok());
    assert!(minima(0, 0, -0x4000, -7).is_ok());
    for (q, m, n, er) in [
        (64, 0x8000, 0, 0),
        (1, 0x8000, i16::MIN, 0),
        (1, 0x7fff, 0x3fff, 0),
        (0, 0, 1, 0),
        (0, 0, 0, 1),
        (1, 0x8000, 0, -161),
    ] {
        let error = minima(q, m, n, er).unwrap_err();
        assert!(matches!(error, MatrixError::NotCanonical { row: 0, .. }), "{q} {m} {n} {er}: {error}");
    }
    assert!(matches!(
        e(QuantMatrix::from_tile_bytes(1, 1, &[64, 0, 0, 0])),
        MatrixError::Header { found: [64, 0] }
    ));
    assert!(matches!(e(QuantMatrix::from_tile_bytes(1, 1, &[64])), MatrixError::Length { found: 1, .. }));
}
