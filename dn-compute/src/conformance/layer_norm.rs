//! Layer normalisation.

use crate::spec::{Op, limits::MAX_COLS};

use super::{Kind, Mismatch, Suite};

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::LayerNorm, 9);
    for (cols, tokens) in [(1, 1), (7, 5), (64, 8), (384, 3), (257, 200), (MAX_COLS, 2)] {
        for kind in Kind::ALL {
            for eps in [1e-12, 1e-5, f32::MIN_POSITIVE, 1.0] {
                let mut x = rng.vector(kind, tokens * cols);
                // Rows far from zero: all alike but for a few bits.
                if eps == 1e-5 {
                    x.iter_mut().for_each(|x| *x = *x * 1e-3 + 700.0);
                }
                let (weight, bias) = (rng.vector(Kind::Usual, cols), rng.vector(Kind::Usual, cols));
                norm(suite, &weight, &bias, eps, &x, x.len())?;
            }
        }
    }
    let (x, mut weight, bias) =
        (rng.vector(Kind::Usual, 640), rng.vector(Kind::Usual, 64), rng.vector(Kind::Usual, 64));
    for eps in [0.0, 1e-39, -1.0, 2.0, f32::NAN] {
        norm(suite, &weight, &bias, eps, &x, x.len())?;
    }
    norm(suite, &weight, &bias, 1e-5, &x, 639)?;
    norm(suite, &weight, &bias[1..], 1e-5, &x, 640)?;
    norm(suite, &weight, &bias, 1e-5, &x[..639], 639)?;
    norm(suite, &[], &[], 1e-5, &x, 640)?;
    let mut bad = x.clone();
    for value in [f32::NAN, f32::INFINITY, -3e38, 1.2e30] {
        bad[500] = value;
        norm(suite, &weight, &bias, 1e-5, &bad, 640)?;
    }
    // Every element fits, their distance from the mean does not.
    let mut wide = vec![-1.2e30; 640];
    wide[70] = 1.2e30;
    norm(suite, &weight, &bias, 1e-5, &wide, 640)?;
    weight[3] = f32::NAN;
    norm(suite, &weight, &bias, 1e-5, &x, 640)?;
    norm(suite, &bias, &weight, 1e-5, &x, 640)?;
    // Largest weights: the outputs overflow.
    weight.fill(f32::MAX);
    norm(suite, &weight, &bias, 1e-30, &x, 640)
}

fn norm(
    suite: &mut Suite<'_>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    x: &[f32],
    len: usize,
) -> Result<(), Mismatch> {
    suite.compare(|backend| {
        let mut out = vec![9.0; len];
        backend.layer_norm(weight, bias, eps, x, &mut out).map(|()| out)
    })
}
