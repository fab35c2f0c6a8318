//! EigenTrust: trust flows along what peers say of each other, and a part of it always starts again at the pretrusted.

use thiserror::Error;

/// The most cells of a matrix of local trust.
pub const MAX_CELLS: usize = 1 << 24;

/// The most steps that are taken; fewer in a network whose steps are long, so that all of them together walk at most 2^34 ways.
pub const MAX_STEPS: u64 = 100_000;

const MAX_WALKS: u64 = 1 << 34;

/// Trust has settled when a step changes all of it together by no more than this.
pub const TOLERANCE: f64 = 1e-14;

/// It has also settled when the changes are at most this and have not become smaller for [`PATIENCE`] steps: only rounding is left.
const ROUNDING: f64 = 1e-12;
const PATIENCE: u64 = 64;

/// Why trust cannot be computed.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum EigenTrustError {
    /// No peers, or too many.
    #[error("{peers} peers, expected 1 to 4096")]
    Size {
        /// How many.
        peers: usize,
    },
    /// Not one row for each peer.
    #[error("{found} rows of local trust, expected {expected}")]
    Rows {
        /// How many rows.
        found: usize,
        /// How many peers there are.
        expected: usize,
    },
    /// A row that does not say something of each peer.
    #[error("row {row} of local trust: {found} entries, expected {expected}")]
    Row {
        /// Which.
        row: usize,
        /// Its length.
        found: usize,
        /// How many peers there are.
        expected: usize,
    },
    /// Pretrust that is negative or no number.
    #[error("pretrust of peer {peer}: {value}, expected a number from 0")]
    Pretrust {
        /// Whose.
        peer: usize,
        /// What it is.
        value: f64,
    },
    /// Nobody is pretrusted, or sums overflow.
    #[error("pretrust sums to {sum}, expected a finite sum above 0")]
    PretrustSum {
        /// The sum.
        sum: f64,
    },
    /// Local trust that is negative or no number.
    #[error("local trust of peer {from} in peer {to}: {value}, expected a number from 0")]
    Local {
        /// Who trusts.
        from: usize,
        /// Whom.
        to: usize,
        /// How much.
        value: f64,
    },
    /// A row whose sum overflows.
    #[error("local trust of peer {from} sums to more than a float holds")]
    LocalSum {
        /// Whose row.
        from: usize,
    },
    /// A strength of pretrust outside [0, 1].
    #[error("alpha = {alpha}, expected a number from 0 to 1")]
    Alpha {
        /// What it is.
        alpha: f64,
    },
    /// Trust goes round in circles: possible only when alpha is zero or next to it.
    #[error(
        "trust has not settled after {steps} steps: the last changed {change}, expected at most {TOLERANCE:e}"
    )]
    Unsettled {
        /// How many were taken.
        steps: u64,
        /// How much the last step changed.
        change: f64,
    },
}

/// Global trust t with t = (1 − alpha)·Cᵀt + alpha·p, where C is `local` with each row divided by its sum and p is `pretrust` divided by its sum.
///
/// Peers who trust nobody trust as p does. Trust starts at p and each step takes it through the equation, until the changes of all peers
/// together are at most [`TOLERANCE`], or nothing but rounding; the result sums to one but for rounding. Only sums, products and quotients are taken, in the order of the peers, so that every
/// machine finds the same bits.
///
/// ```
/// use dn_sim::baseline::eigentrust::eigentrust;
/// let trust = eigentrust(&[1.0, 1.0], &[[0.0, 1.0], [0.0, 0.0]], 0.5)?;
/// assert!((trust[0] - 0.4).abs() < 1e-14 && (trust[1] - 0.6).abs() < 1e-14);
/// # Ok::<(), dn_sim::baseline::eigentrust::EigenTrustError>(())
/// ```
///
/// # Errors
/// No peers or more than 4,096, rows of another length, a negative number or none at all, no pretrust, sums that overflow, or trust that does not settle.
///
/// # Source
/// Kamvar, Schlosser, Garcia-Molina, "The EigenTrust Algorithm for Reputation Management in P2P Networks" (2003), algorithm 2.
pub fn eigentrust<R: AsRef<[f64]>>(
    pretrust: &[f64],
    local: &[R],
    alpha: f64,
) -> Result<Vec<f64>, EigenTrustError> {
    let peers = pretrust.len();
    if peers == 0 || peers.checked_mul(peers).is_none_or(|cells| cells > MAX_CELLS) {
        return Err(EigenTrustError::Size { peers });
    }
    if local.len() != peers {
        return Err(EigenTrustError::Rows { found: local.len(), expected: peers });
    }
    if !(0.0..=1.0).contains(&alpha) {
        return Err(EigenTrustError::Alpha { alpha });
    }
    let pretrust = prior(pretrust)?;
    let rows = local.iter().enumerate().map(|(from, row)| opinions(from, row.as_ref(), peers));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;

    let mut trust = pretrust.clone();
    let mut next = vec![0.0; peers];
    let mut change = f64::INFINITY;
    let walks: u64 = rows.iter().map(|row| row.len() as u64 + 1).sum();
    let steps = MAX_STEPS.min(MAX_WALKS / walks);
    let (mut least, mut since) = (f64::INFINITY, 0);
    for _ in 0..steps {
        step(&rows, &pretrust, alpha, &trust, &mut next);
        change = trust.iter().zip(&next).map(|(old, new)| (new - old).abs()).sum();
        std::mem::swap(&mut trust, &mut next);
        (least, since) = if change < least { (change, 0) } else { (least, since + 1) };
        if change <= TOLERANCE || (change <= ROUNDING && since >= PATIENCE) {
            return Ok(trust);
        }
    }
    Err(EigenTrustError::Unsettled { steps, change })
}

fn prior(pretrust: &[f64]) -> Result<Vec<f64>, EigenTrustError> {
    if let Some(peer) = pretrust.iter().position(|value| bad(*value)) {
        return Err(EigenTrustError::Pretrust { peer, value: pretrust[peer] });
    }
    let sum: f64 = pretrust.iter().sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return Err(EigenTrustError::PretrustSum { sum });
    }
    Ok(pretrust.iter().map(|value| value / sum).collect())
}

/// What a peer thinks of whom, as shares; nothing if it trusts nobody.
fn opinions(from: usize, row: &[f64], peers: usize) -> Result<Vec<(usize, f64)>, EigenTrustError> {
    if row.len() != peers {
        return Err(EigenTrustError::Row { row: from, found: row.len(), expected: peers });
    }
    if let Some(to) = row.iter().position(|value| bad(*value)) {
        return Err(EigenTrustError::Local { from, to, value: row[to] });
    }
    let sum: f64 = row.iter().sum();
    if !sum.is_finite() {
        return Err(EigenTrustError::LocalSum { from });
    }
    let trusted = row.iter().enumerate().filter(|(_, value)| **value > 0.0);
    Ok(trusted.map(|(to, value)| (to, value / sum)).collect())
}

fn step(rows: &[Vec<(usize, f64)>], pretrust: &[f64], alpha: f64, trust: &[f64], next: &mut [f64]) {
    next.fill(0.0);
    let mut undirected = 0.0;
    for (row, trust) in rows.iter().zip(trust) {
        if row.is_empty() {
            undirected += trust;
        }
        for (to, share) in row {
            next[*to] += share * trust;
        }
    }
    for (next, prior) in next.iter_mut().zip(pretrust) {
        *next = (1.0 - alpha) * (*next + undirected * prior) + alpha * prior;
    }
}

fn bad(value: f64) -> bool {
    !(value.is_finite() && value >= 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The README of Karma3Labs/go-eigentrust: peers EK, VM and SD, alpha 0.5. It stops at a tolerance of 1e-6 ÷ 3 by default.
    #[test]
    fn go_eigentrusts_example() {
        let local = [[0.0, 75.0, 100.0], [0.0, 0.0, 100.0], [0.0; 3]];
        let trust = eigentrust(&[50.0, 100.0, 0.0], &local, 0.5).unwrap();
        let published = [0.217_054_279_071_664_72, 0.480_620_178_018_013_4, 0.302_325_542_910_321_8];
        for (trust, published) in trust.iter().zip(published) {
            assert!((trust - published).abs() < 1e-6);
        }
        // Solved by hand: x = ½·⅓·z + ⅙ and so on, over 129.
        for (trust, exact) in trust.iter().zip([28.0, 62.0, 39.0]) {
            assert!((trust - exact / 129.0).abs() < 1e-14);
        }
    }

    /// Two peers that trust each other alone: the steps swing by 1 − alpha, and end in rounding above [`TOLERANCE`].
    #[test]
    fn a_small_alpha_settles() {
        let (first, second) = (0.068_787_564_031_738_69, 0.433_188_276_332_965_2);
        let alpha = 0.001;
        let trust = eigentrust(&[first, second], &[[0.0, 592.0], [45.0, 0.0]], alpha).unwrap();
        // t = (1 − alpha)·(1 − t) + alpha·p.
        let exact = (1.0 - alpha + alpha * first / (first + second)) / (2.0 - alpha);
        assert!((trust[0] - exact).abs() < 1e-11 && (trust[0] + trust[1] - 1.0).abs() < 1e-12, "{trust:?}");
        // Without pretrust they swing for ever.
        assert!(eigentrust(&[first, second], &[[0.0, 1.0], [1.0, 0.0]], 0.0).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        let fails =
            |pretrust: &[f64], local: &[Vec<f64>], alpha| eigentrust(pretrust, local, alpha).unwrap_err();
        let calm = vec![vec![0.0, 1.0], vec![1.0, 0.0]];
        assert_eq!(fails(&[], &[], 0.5), EigenTrustError::Size { peers: 0 });
        assert_eq!(fails(&[1.0; 4097], &[], 0.5), EigenTrustError::Size { peers: 4097 });
        assert_eq!(fails(&[0.0, 0.0], &calm, 0.5), EigenTrustError::PretrustSum { sum: 0.0 });
        assert_eq!(fails(&[1.0, -1.0], &calm, 0.5), EigenTrustError::Pretrust { peer: 1, value: -1.0 });
        assert_eq!(fails(&[1.0, 1.0], &calm[..1], 0.5), EigenTrustError::Rows { found: 1, expected: 2 });
        assert_eq!(fails(&[1.0, 1.0], &calm, 1.5), EigenTrustError::Alpha { alpha: 1.5 });
        let ragged = vec![vec![0.0, 1.0], vec![1.0]];
        assert_eq!(fails(&[1.0, 1.0], &ragged, 0.5), EigenTrustError::Row { row: 1, found: 1, expected: 2 });
        let negative = vec![vec![0.0, 1.0], vec![-1.0, 0.0]];
        let error = EigenTrustError::Local { from: 1, to: 0, value: -1.0 };
        assert_eq!(fails(&[1.0, 1.0], &negative, 0.5), error);
        let huge = vec![vec![0.0, 1.0], vec![f64::MAX, f64::MAX]];
        assert_eq!(fails(&[1.0, 1.0], &huge, 0.5), EigenTrustError::LocalSum { from: 1 });
        assert!(matches!(fails(&[1.0, 0.0], &calm, 0.0), EigenTrustError::Unsettled { .. }));
    }

    fn network() -> impl Strategy<Value = (Vec<f64>, Vec<Vec<f64>>, f64)> {
        (1_usize..8).prop_flat_map(|peers| {
            let number = prop_oneof![Just(0.0), 0.0..100.0];
            let local = prop::collection::vec(prop::collection::vec(number, peers), peers);
            (prop::collection::vec(0.1..10.0, peers), local, 0.05..1.0)
        })
    }

    proptest! {
        #[test]
        fn trust_is_a_share_and_solves_the_equation((pretrust, local, alpha) in network()) {
            let trust = eigentrust(&pretrust, &local, alpha).unwrap();
            let peers = trust.len();
            prop_assert!(trust.iter().all(|trust| *trust >= 0.0));
            prop_assert!((trust.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let total: f64 = pretrust.iter().sum();
            for to in 0..peers {
                let mut flow = 0.0;
                for from in 0..peers {
                    let sum: f64 = local[from].iter().sum();
                    let share = if sum > 0.0 { local[from][to] / sum } else { pretrust[to] / total };
                    flow += share * trust[from];
                }
                let expected = (1.0 - alpha) * flow + alpha * pretrust[to] / total;
                prop_assert!((trust[to] - expected).abs() < 1e-12);
            }
        }

        #[test]
        fn order_and_scale_do_not_matter((pretrust, local, alpha) in network()) {
            let trust = eigentrust(&pretrust, &local, alpha).unwrap();
            let turned = |row: &Vec<f64>| row.iter().rev().map(|value| value * 4.0).collect::<Vec<_>>();
            let rows: Vec<_> = local.iter().rev().map(turned).collect();
            let other = eigentrust(&turned(&pretrust), &rows, alpha).unwrap();
            for (left, right) in trust.iter().zip(other.iter().rev()) {
                prop_assert!((left - right).abs() < 1e-12);
            }
        }
    }
}
