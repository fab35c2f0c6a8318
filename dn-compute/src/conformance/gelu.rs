//! `gelu(x)`.

use crate::spec::Op;

use super::{Kind, Mismatch, Suite};

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Gelu, 8);
    for len in [1, 3, 16, 1000, 20_001] {
        for kind in Kind::ALL {
            let x = rng.vector(kind, len);
            gelu(suite, &x)?;
        }
    }
    // Every step of the fixed-point tail, and the cut.
    gelu(suite, &(-200_000..200_000).map(|i| i as f32 * 3.1e-5).collect::<Vec<_>>())?;
    let cut = 6f32.to_bits();
    gelu(
        suite,
        &(cut - 100..cut + 100).flat_map(|b| [b, b | 1 << 31]).map(f32::from_bits).collect::<Vec<_>>(),
    )?;
    gelu(suite, &[f32::MAX, f32::MIN, 0.0, -0.0])?;
    gelu(suite, &[])?;
    let mut x = rng.vector(Kind::Usual, 300);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        x[270] = value;
        gelu(suite, &x)?;
    }
    Ok(())
}

fn gelu(suite: &mut Suite<'_>, x: &[f32]) -> Result<(), Mismatch> {
    suite.compare(|backend| {
        let mut x = x.to_vec();
        backend.gelu(&mut x).map(|()| x)
    })
}
