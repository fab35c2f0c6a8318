//! Element-wise addition.

use crate::spec::Op;

use super::{Kind, Mismatch, Suite};

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Add, 6);
    for (len, rows) in [(1, 1), (7, 3), (896, 1), (896, 100), (33, 5)] {
        for kind in Kind::ALL {
            for other in [Kind::Usual, kind] {
                let (x, y) = (rng.vector(kind, rows * len), rng.vector(other, len));
                add(suite, &x, &y)?;
            }
        }
    }
    let mut x = rng.vector(Kind::Usual, 60);
    add(suite, &x, &x[..7])?;
    add(suite, &x, &[])?;
    x[50] = f32::NEG_INFINITY;
    add(suite, &x, &[1.0; 60])?;
    add(suite, &[1.0; 60], &x)?;
    x[50] = f32::MAX;
    add(suite, &x, &x)
}

fn add(suite: &mut Suite<'_>, x: &[f32], y: &[f32]) -> Result<(), Mismatch> {
    suite.compare(|backend| {
        let mut x = x.to_vec();
        backend.add(&mut x, y).map(|()| x)
    })
}
