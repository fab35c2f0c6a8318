//! Rotary position embedding.

use crate::spec::{Op, Pairing, RopeScaling, RopeSpec, RopeTable};

use super::{Kind, Mismatch, Suite};

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Rope, 4);
    for pairing in [Pairing::Interleaved, Pairing::HalfSplit] {
        for (head_dim, rotary_dim, heads, tokens) in
            [(2, 2, 1, 1), (64, 64, 3, 9), (80, 32, 2, 5), (128, 128, 14, 40), (6, 4, 5, 3)]
        {
            let yarn = RopeScaling::Yarn {
                factor: 4.0,
                original: 64,
                beta_fast: 8.0,
                beta_slow: 1.0,
                attention: 1.138_629_4,
            };
            let scaling = if heads == 3 { yarn } else { RopeScaling::None };
            let spec = RopeSpec { head_dim, rotary_dim, theta: 10_000.0, pairing, scaling };
            let table = RopeTable::new(spec, 300).expect("a valid table");
            for kind in Kind::ALL {
                let x = rng.vector(kind, tokens * heads * head_dim);
                let positions: Vec<u32> = (0..tokens).map(|_| rng.below(300) as u32).collect();
                rotate(suite, &table, &positions, &x)?;
            }
            let mut x = rng.vector(Kind::Usual, tokens * heads * head_dim);
            let mut positions: Vec<u32> = (0..tokens as u32).collect();
            rotate(suite, &table, &positions[1..], &x)?;
            rotate(suite, &table, &positions, &x[1..])?;
            rotate(suite, &table, &[], &x)?;
            positions[0] = 300;
            rotate(suite, &table, &positions, &x)?;
            positions[0] = 299;
            x[1] = f32::NAN;
            rotate(suite, &table, &positions, &x)?;
            x.fill(f32::MAX);
            rotate(suite, &table, &positions, &x)?;
        }
    }
    Ok(())
}

fn rotate(suite: &mut Suite<'_>, table: &RopeTable, positions: &[u32], x: &[f32]) -> Result<(), Mismatch> {
    suite.compare(|backend| {
        let mut x = x.to_vec();
        backend.rope(table, positions, &mut x).map(|()| x)
    })
}
