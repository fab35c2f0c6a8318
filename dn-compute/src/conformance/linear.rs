//! Linear layers.

use crate::reference::Reference;
use crate::spec::{BLOCK, Backend, Matrix, NumericError, Op, QuantMatrix, limits::MAX_COLS};

use super::{Kind, Mismatch, Rng, Suite};

/// Rows, columns, tokens.
const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (16, 32, 1),
    (17, 33, 3),
    (5, 31, 2),
    (32, 64, 8),
    (64, 896, 8),
    (48, 160, 11),
    (33, 4864, 1),
    (130, 96, 77),
    (200, 65, 7),
    (512, 256, 15),
    (31, 1000, 5),
];

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Linear, 1);
    for (rows, cols, tokens) in SHAPES {
        for weights in 0..WEIGHTS {
            let pair = both(suite, matrix(&mut rng, rows, cols, weights))?;
            for kind in Kind::ALL {
                let x = rng.vector(kind, tokens * cols);
                compare(suite, &[&pair], &x, tokens)?;
            }
        }
    }
    // The longest rows, everything at its largest: the sums come within a few bits of 2^53.
    for (weights, kind) in [(2, Kind::Full), (1, Kind::Usual), (3, Kind::Outliers)] {
        let pair = both(suite, matrix(&mut rng, 18, MAX_COLS, weights))?;
        let x = rng.vector(kind, 9 * MAX_COLS);
        compare(suite, &[&pair], &x, 9)?;
        compare(suite, &[&pair], &x[..MAX_COLS], 1)?;
    }
    several(suite, &mut rng)?;
    refusals(suite, &mut rng)
}

/// Several matrices over one input.
fn several(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let mut pairs = Vec::new();
    for rows in [96, 1, 40] {
        pairs.push(both(suite, matrix(rng, rows, 72, 0))?);
    }
    let pairs: Vec<&Both> = pairs.iter().collect();
    for tokens in [1, 2, 3, 4, 5, 6, 7, 8, 9, 30] {
        let x = rng.vector(Kind::Usual, tokens * 72);
        compare(suite, &pairs, &x, tokens)?;
    }
    Ok(())
}

fn refusals(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let large = both(suite, matrix(rng, 40, 64, LARGE))?;
    let other = both(suite, matrix(rng, 40, 65, 0))?;
    let mut x = rng.vector(Kind::Huge, 12 * 64);
    compare(suite, &[&large], &x, 12)?; // overflows
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        x[700] = bad;
        x[701] = f32::NAN;
        compare(suite, &[&large], &x, 12)?;
    }
    x.fill(1.0);
    compare(suite, &[&large, &other], &x, 12)?;
    compare(suite, &[&large], &x, 11)?;
    compare(suite, &[&large], &[], 0)?;
    compare(suite, &[], &x, 12)
}

/// A matrix as the reference and as the backend hold it.
pub(super) struct Both {
    reference: Matrix,
    backend: Matrix,
}

impl Both {
    pub(super) fn of(&self, backend: &dyn Backend) -> &Matrix {
        if backend.info().name == Reference.info().name { &self.reference } else { &self.backend }
    }
}

pub(super) fn both(suite: &Suite<'_>, matrix: QuantMatrix) -> Result<Both, Mismatch> {
    let refused = |source| Mismatch::Prepare { op: suite.op, case: suite.case, source };
    Ok(Both {
        reference: Reference.prepare(matrix.clone()).map_err(refused)?,
        backend: suite.backend.prepare(matrix).map_err(refused)?,
    })
}

fn compare(suite: &mut Suite<'_>, weights: &[&Both], x: &[f32], tokens: usize) -> Result<(), Mismatch> {
    suite.compare(|backend| {
        let weights: Vec<&Matrix> = weights.iter().map(|w| w.of(backend)).collect();
        linear(backend, &weights, x, tokens)
    })
}

/// The outputs of all matrices, one after another.
fn linear(
    backend: &dyn Backend,
    weights: &[&Matrix],
    x: &[f32],
    tokens: usize,
) -> Result<Vec<f32>, NumericError> {
    let mut out: Vec<Vec<f32>> = weights.iter().map(|w| vec![9.0; tokens * w.rows()]).collect();
    let mut slices: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
    backend.linear(weights, x, tokens, &mut slices)?;
    Ok(out.concat())
}

const WEIGHTS: usize = 6;
const LARGE: usize = 4;

/// Weights of one of six kinds.
pub(super) fn matrix(rng: &mut Rng, rows: usize, cols: usize, kind: usize) -> QuantMatrix {
    let blocks = cols.div_ceil(BLOCK);
    let mut q: Vec<i8> = (0..rows * cols).map(|_| (rng.below(255) as i32 - 127) as i8).collect();
    let mut m: Vec<u16> = (0..rows * blocks).map(|_| rng.next() as u16).collect();
    let mut er: Vec<i16> = (0..rows).map(|_| -30 + rng.below(6) as i16).collect();
    match kind {
        0 => {
            let w: Vec<f32> = (0..rows * cols).map(|_| rng.unit() * 0.1).collect();
            return QuantMatrix::from_f32(rows, cols, &w).expect("finite weights of a valid shape");
        }
        2 => {
            q.iter_mut().enumerate().for_each(|(i, q)| *q = if i / 7 % 5 == 0 { -127 } else { 127 });
            m.fill(65_535);
        }
        3 => m.iter_mut().enumerate().for_each(|(i, m)| *m = if i % 3 == 0 { *m } else { 0 }),
        4 => er.fill(99),
        5 => er.fill(-150),
        _ => {}
    }
    canonical(rows, cols, q, m, er)
}

/// Brings random parts into the one form in which a matrix exists.
fn canonical(rows: usize, cols: usize, mut q: Vec<i8>, mut m: Vec<u16>, mut er: Vec<i16>) -> QuantMatrix {
    let blocks = cols.div_ceil(BLOCK);
    for row in 0..rows {
        let m = &mut m[row * blocks..][..blocks];
        for (q, m) in q[row * cols..][..cols].chunks_mut(BLOCK).zip(m.iter_mut()) {
            if *m == 0 {
                q.fill(0);
            }
            if q.iter().all(|q| *q == 0) {
                *m = 0;
            }
        }
        match m.iter_mut().max() {
            Some(top) if *top > 0 => *top |= 0x8000,
            _ => er[row] = 0,
        }
    }
    QuantMatrix::from_parts(rows, cols, q, m, er).expect("parts in their canonical form")
}
