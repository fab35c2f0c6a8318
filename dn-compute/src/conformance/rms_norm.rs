//! Root-mean-square normalisation.

use crate::spec::{Op, limits::MAX_COLS};

use super::{Kind, Mismatch, Suite};

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::RmsNorm, 3);
    for (cols, tokens) in [(1, 1), (7, 5), (64, 8), (896, 3), (257, 200), (MAX_COLS, 2)] {
        for kind in Kind::ALL {
            for eps in [1e-6, 1e-5, f32::MIN_POSITIVE, 1.0] {
                let (x, weight) = (rng.vector(kind, tokens * cols), rng.vector(Kind::Usual, cols));
                norm(suite, &weight, eps, &x, x.len())?;
            }
        }
    }
    let (x, mut weight) = (rng.vector(Kind::Usual, 640), rng.vector(Kind::Usual, 64));
    for eps in [0.0, 1e-39, -1.0, 2.0, f32::NAN] {
        norm(suite, &weight, eps, &x, x.len())?;
    }
    norm(suite, &weight, 1e-5, &x, 639)?;
    norm(suite, &weight, 1e-5, &x[..639], 639)?;
    norm(suite, &[], 1e-5, &x, 640)?;
    let mut bad = x.clone();
    for value in [f32::NAN, f32::INFINITY, -3e38] {
        bad[500] = value;
        norm(suite, &weight, 1e-5, &bad, 640)?;
    }
    weight[3] = f32::NAN;
    norm(suite, &weight, 1e-5, &x, 640)?;
    // Largest weights: the outputs overflow.
    weight.fill(f32::MAX);
    norm(suite, &weight, 1e-30, &x, 640)
}

fn norm(suite: &mut Suite<'_>, weight: &[f32], eps: f32, x: &[f32], len: usize) -> Result<(), Mismatch> {
    suite.compare(|backend| {
        let mut out = vec![9.0; len];
        backend.rms_norm(weight, eps, x, &mut out).map(|()| out)
    })
}
