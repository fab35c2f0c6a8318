//! Linear layers.

use crate::reference::Reference;
use crate::spec::{
    Backend, BlockLength, Blocks, Matrix, NumericError, Op, QuantMatrix,
    limits::MAX_COLS,
    matrix::{MAX_Q_WITH_MINIMA, QuantParts},
};

use super::{Kind, Mismatch, Rng, Suite};

/// Rows, columns, tokens.
const SHAPES: [(usize, usize, usize); 13] = [
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
    (50, 1101, 31),
];

/// Rows, columns, tokens for the less usual forms of blocks.
const FEW_SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (17, 33, 3),
    (5, 15, 2),
    (16, 256, 8),
    (48, 160, 11),
    (31, 1001, 5),
    (33, 519, 9),
    (18, 128, 1),
    (34, 1101, 31),
];

/// Every form but the usual one, which has cases of its own.
pub(super) fn other_forms() -> impl Iterator<Item = Blocks> {
    let of = |length| [Blocks::plain(length), Blocks::with_minima(length)];
    BlockLength::ALL.into_iter().flat_map(of).filter(|blocks| *blocks != USUAL)
}

pub(super) const USUAL: Blocks = Blocks::plain(BlockLength::B32);

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Linear, 1);
    for (rows, cols, tokens) in SHAPES {
        for weights in Weights::ALL {
            let pair = both(suite, matrix(&mut rng, rows, cols, USUAL, weights))?;
            // Narrow values take a packed form of their own; what the input looks like is no concern of it.
            let kinds = if weights.narrow() { &Kind::ALL[..2] } else { &Kind::ALL[..] };
            for kind in kinds {
                let x = rng.vector(*kind, tokens * cols);
                compare(suite, &[&pair], &x, tokens)?;
            }
        }
    }
    for blocks in other_forms() {
        for (i, (rows, cols, tokens)) in FEW_SHAPES.into_iter().enumerate() {
            for (j, weights) in Weights::ALL.into_iter().enumerate() {
                let pair = both(suite, matrix(&mut rng, rows, cols, blocks, weights))?;
                let x = rng.vector(Kind::ALL[(i + j) % Kind::ALL.len()], tokens * cols);
                compare(suite, &[&pair], &x, tokens)?;
            }
        }
    }
    longest(suite, &mut rng)?;
    several(suite, &mut rng)?;
    refusals(suite, &mut rng)
}

/// The longest rows, everything at its largest: the sums come within a few bits of 2^53.
fn longest(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let usual = [
        (Weights::Extreme, Kind::Full, 25),
        (Weights::Random, Kind::Usual, 9),
        (Weights::Gaps, Kind::Outliers, 9),
        (Weights::Signed4Extreme, Kind::Full, 2),
        (Weights::Unsigned4, Kind::Full, 2),
    ];
    for (weights, kind, tokens) in usual {
        let pair = both(suite, matrix(rng, 18, MAX_COLS, USUAL, weights))?;
        let x = rng.vector(kind, tokens * MAX_COLS);
        compare(suite, &[&pair], &x, tokens)?;
        compare(suite, &[&pair], &x[..MAX_COLS], 1)?;
    }
    for blocks in other_forms() {
        for weights in [Weights::Extreme, Weights::Unsigned4] {
            let pair = both(suite, matrix(rng, 2, MAX_COLS, blocks, weights))?;
            // One sign over all columns, so that nothing cancels.
            let x = vec![32_639f32; MAX_COLS];
            compare(suite, &[&pair], &x, 1)?;
            let x = rng.vector(Kind::Full, MAX_COLS);
            compare(suite, &[&pair], &x, 1)?;
        }
    }
    Ok(())
}

/// Several matrices over one input, of one form and of several.
fn several(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    let mut pairs = Vec::new();
    for rows in [96, 1, 40] {
        pairs.push(both(suite, matrix(rng, rows, 72, USUAL, Weights::Floats))?);
    }
    let pairs: Vec<&Both> = pairs.iter().collect();
    for tokens in [1, 2, 3, 4, 5, 6, 7, 8, 9, 30] {
        let x = rng.vector(Kind::Usual, tokens * 72);
        compare(suite, &pairs, &x, tokens)?;
    }
    let mut mixed = Vec::new();
    for (i, blocks) in other_forms().enumerate() {
        mixed.push(both(suite, matrix(rng, 7 + 9 * i, 72, blocks, Weights::Random))?);
        mixed.push(both(suite, matrix(rng, 33, 72, USUAL, Weights::Signed4))?);
    }
    let mixed: Vec<&Both> = mixed.iter().collect();
    for tokens in [1, 3, 8, 17] {
        let x = rng.vector(Kind::Usual, tokens * 72);
        compare(suite, &mixed, &x, tokens)?;
        compare(suite, &mixed[tokens % 5..tokens % 5 + 3], &x, tokens)?;
    }
    Ok(())
}

fn refusals(suite: &mut Suite<'_>, rng: &mut Rng) -> Result<(), Mismatch> {
    for blocks in [USUAL].into_iter().chain(other_forms()) {
        let large = both(suite, matrix(rng, 40, 64, blocks, Weights::Large))?;
        let usual = both(suite, matrix(rng, 40, 64, USUAL, Weights::Large))?;
        let other = both(suite, matrix(rng, 40, 65, blocks, Weights::Floats))?;
        let mut x = rng.vector(Kind::Huge, 12 * 64);
        compare(suite, &[&large], &x, 12)?; // overflows
        compare(suite, &[&usual, &large], &x, 12)?;
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            x[700] = bad;
            x[701] = f32::NAN;
            compare(suite, &[&large], &x, 12)?;
        }
        x.fill(1.0);
        compare(suite, &[&large, &other], &x, 12)?;
        compare(suite, &[&large], &x, 11)?;
        compare(suite, &[&large], &[], 0)?;
        compare(suite, &[], &x, 12)?;
    }
    Ok(())
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

/// What the weights of a matrix look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// Quantised from floats (with minima: random).
    Floats,
    /// Any integers under any mantissas.
    Random,
    /// Largest integers, mantissas and minima of both signs.
    Extreme,
    /// Two of three blocks are zero.
    Gaps,
    /// Exponents near the largest.
    Large,
    /// Exponents near the smallest.
    Small,
    /// `-8..=7` in some blocks and `-7..=8` in others, as Q4_0 gives.
    Signed4,
    /// The ends of those.
    Signed4Extreme,
    /// `0..=15`, as Q4_K gives.
    Unsigned4,
    /// `-32..=31`, as Q6_K gives.
    Signed6,
}

impl Weights {
    pub(super) const ALL: [Self; 10] = [
        Self::Floats,
        Self::Random,
        Self::Extreme,
        Self::Gaps,
        Self::Large,
        Self::Small,
        Self::Signed4,
        Self::Signed4Extreme,
        Self::Unsigned4,
        Self::Signed6,
    ];

    fn narrow(self) -> bool {
        matches!(self, Self::Signed4 | Self::Signed4Extreme | Self::Unsigned4 | Self::Signed6)
    }

    /// The integer of a column in a block.
    fn q(self, rng: &mut Rng, block: usize, largest: i32) -> i32 {
        let odd = block % 2;
        match self {
            Self::Extreme => [largest, largest, largest, -largest][rng.below(4)],
            Self::Signed4 => rng.below(16) as i32 - 8 + odd as i32,
            Self::Signed4Extreme => [[-8, 7], [-7, 8]][odd][rng.below(2)],
            Self::Unsigned4 => rng.below(16) as i32,
            Self::Signed6 => rng.below(64) as i32 - 32,
            _ => rng.below(2 * largest as usize + 1) as i32 - largest,
        }
    }
}

/// A matrix of some form with weights of some kind.
pub(super) fn matrix(
    rng: &mut Rng,
    rows: usize,
    cols: usize,
    blocks: Blocks,
    weights: Weights,
) -> QuantMatrix {
    if weights == Weights::Floats && !blocks.minima {
        let w: Vec<f32> = (0..rows * cols).map(|_| rng.signed() * 0.1).collect();
        return QuantMatrix::from_f32_blocks(rows, cols, blocks.length, &w)
            .expect("finite weights of a valid shape");
    }
    let (count, length) = (blocks.count(cols), blocks.length.columns(cols));
    let largest = if blocks.minima { i32::from(MAX_Q_WITH_MINIMA) } else { 127 };
    let q = (0..rows * cols).map(|i| weights.q(rng, i % cols / length, largest) as i8).collect();
    let mut m: Vec<u16> = (0..rows * count).map(|_| rng.next() as u16).collect();
    let mut n: Vec<i16> = match blocks.minima {
        true => m.iter().map(|_| (rng.below(65_535) as i32 - 32_767) as i16).collect(),
        false => Vec::new(),
    };
    let mut er: Vec<i16> = (0..rows).map(|_| -30 + rng.below(6) as i16).collect();
    match weights {
        Weights::Extreme => {
            m.fill(65_535);
            n.iter_mut().enumerate().for_each(|(i, n)| *n = if i % 5 == 3 { 32_767 } else { -32_767 });
        }
        Weights::Gaps => {
            m.iter_mut().enumerate().for_each(|(i, m)| *m = if i % 3 == 0 { *m } else { 0 });
            n.iter_mut().enumerate().for_each(|(i, n)| *n = if i % 4 == 0 { *n } else { 0 });
        }
        Weights::Large => er.fill(99),
        Weights::Small => er.fill(-150),
        Weights::Unsigned4 => m.fill(65_535),
        _ => {}
    }
    canonical(QuantParts { rows, cols, blocks, q, m, n, er })
}

/// Brings random parts into the one form in which a matrix exists.
fn canonical(mut parts: QuantParts) -> QuantMatrix {
    let QuantParts { rows, cols, blocks, q, m, n, er } = &mut parts;
    let (count, length) = (blocks.count(*cols), blocks.length.columns(*cols));
    for row in 0..*rows {
        let m = &mut m[row * count..][..count];
        let minima = n.get(row * count..).unwrap_or_default();
        let minima = minima.iter().take(count).map(|n| n.unsigned_abs()).max().unwrap_or(0);
        for (q, m) in q[row * *cols..][..*cols].chunks_mut(length).zip(m.iter_mut()) {
            if *m == 0 {
                q.fill(0);
            }
            if q.iter().all(|q| *q == 0) {
                *m = 0;
            }
        }
        match m.iter_mut().max() {
            Some(top) if *top > 0 => *top |= 0x8000,
            _ if minima == 0 => er[row] = 0,
            _ if minima < 0x4000 => n[row * count] = 0x4000,
            _ => {}
        }
    }
    QuantMatrix::from_blocks(parts).expect("parts in their canonical form")
}
