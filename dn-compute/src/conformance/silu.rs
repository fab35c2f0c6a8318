//! `silu(gate) * up`.

use crate::spec::Op;

use super::{Kind, Mismatch, Suite};

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::SiluMul, 5);
    for len in [1, 3, 16, 1000, 20_001] {
        for kind in Kind::ALL {
            let (gate, up) = (rng.vector(kind, len), rng.vector(Kind::Usual, len));
            both(suite, &gate, &up)?;
            both(suite, &up, &gate)?;
        }
    }
    // Every step of the fixed-point exponent between -8 and 8, and the ends of its range.
    let fine: Vec<f32> = (-200_000..200_000).map(|i| i as f32 * 4e-5).collect();
    both(suite, &fine, &vec![1.0; fine.len()])?;
    let far: Vec<f32> = (0..100_000).map(|i| 60.0 + i as f32 * 1e-3).flat_map(|v| [v, -v]).collect();
    both(suite, &far, &vec![-0.7; far.len()])?;

    let mut gate = rng.vector(Kind::Usual, 100);
    both(suite, &gate, &gate[1..])?;
    gate[40] = f32::INFINITY;
    both(suite, &gate, &[1.0; 100])?;
    both(suite, &[1.0; 100], &gate)?;
    gate[40] = 3e38;
    both(suite, &gate, &[2.0; 100])?;
    both(suite, &[], &[])
}

fn both(suite: &mut Suite<'_>, gate: &[f32], up: &[f32]) -> Result<(), Mismatch> {
    suite.compare(|backend| {
        let mut gate = gate.to_vec();
        backend.silu_mul(&mut gate, up).map(|()| gate)
    })
}
