//! Row lookup.

use crate::spec::{Op, QuantMatrix};

use super::linear::{USUAL, Weights, both, matrix, other_forms};
use super::{Mismatch, Rng, Suite};

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Embed, 2);
    for (rows, cols) in [(1, 1), (40, 33), (100, 256), (17, 64)] {
        for weights in Weights::ALL {
            for blocks in [USUAL].into_iter().chain(other_forms()) {
                let table = matrix(&mut rng, rows, cols, blocks, weights);
                lookups(suite, &mut rng, table)?;
            }
        }
    }
    Ok(())
}

fn lookups(suite: &mut Suite<'_>, rng: &mut Rng, table: QuantMatrix) -> Result<(), Mismatch> {
    let (rows, cols) = (table.rows(), table.cols());
    let pair = both(suite, table)?;
    let tokens: Vec<u32> = (0..9).map(|_| rng.below(rows) as u32).collect();
    let beyond = [0, rows as u32];
    for (tokens, len) in [(&tokens[..], 9 * cols), (&beyond, 2 * cols), (&[], 0), (&[0], cols + 1)] {
        suite.compare(|backend| {
            let mut out = vec![9.0; len];
            backend.embed(pair.of(backend), tokens, &mut out).map(|()| out)
        })?;
    }
    Ok(())
}
