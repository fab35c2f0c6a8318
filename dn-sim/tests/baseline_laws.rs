//! What holds for every Yuma whatever the input.
#![allow(clippy::unwrap_used)]

use dn_sim::baseline::yuma::{BondStorage, Epoch, Matrix, Number, Params, Version, Yuma};
use fixed::types::I32F32;
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Subnet {
    params: Params,
    stake: Vec<f64>,
    epochs: Vec<Vec<Vec<f64>>>,
}

impl Subnet {
    fn run<N: Number>(&self) -> Vec<(Epoch<N>, Vec<Vec<f64>>)> {
        let mut yuma = Yuma::<N>::new(self.params.clone()).unwrap();
        let step = |rows: &Vec<Vec<f64>>| {
            let epoch = yuma.step(&self.stake, &Matrix::from_rows(rows).unwrap()).unwrap();
            (epoch, yuma.bonds().unwrap())
        };
        self.epochs.iter().map(step).collect()
    }
}

fn params() -> impl Strategy<Value = Params> {
    let version = prop_oneof![Just(Version::One), Just(Version::Two), Just(Version::Three)];
    let storage = prop_oneof![Just(BondStorage::U16), Just(BondStorage::Full)];
    let shares = (0.3..0.9, 0.0..=1.0, 0.0..=1.0, 0.0..0.5, 0.5..=1.0);
    (version, storage, shares, any::<bool>(), 0.0..30.0).prop_map(
        |(version, storage, shares, liquid_alpha, steepness)| {
            let (kappa, bond_penalty, bonds_moving_average, alpha_low, alpha_high) = shares;
            Params {
                version,
                storage,
                kappa,
                bond_penalty,
                bonds_moving_average,
                liquid_alpha,
                alpha_low,
                alpha_high,
                alpha_steepness: steepness,
                reveal_lag_epochs: 0,
            }
        },
    )
}

/// Weights are integers up to 16, one in four zero; stakes have no common measure, so that no sum meets a majority exactly.
fn subnet() -> impl Strategy<Value = Subnet> {
    (1_usize..7, 1_usize..7, 1_usize..4).prop_flat_map(|(validators, miners, epochs)| {
        let weight = prop_oneof![Just(0.0), (1_u8..=16).prop_map(f64::from)];
        let stake = prop_oneof![1 => Just(0.0), 5 => 0.5..1000.0];
        let rows = prop::collection::vec(prop::collection::vec(weight, miners), validators);
        let stakes = prop::collection::vec(stake, validators);
        (params(), stakes, prop::collection::vec(rows, epochs)).prop_map(|(params, stake, epochs)| Subnet {
            params,
            stake,
            epochs,
        })
    })
}

fn floats<N: Number>(numbers: &[N]) -> Vec<f64> {
    numbers.iter().map(|number| number.to_f64()).collect()
}

fn apart(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f64::max)
}

fn permuted<T: Clone>(items: &[T], shift: usize) -> Vec<T> {
    let mut items = items.to_vec();
    let len = items.len();
    items.rotate_left(shift % len);
    items
}

fn check_shares<N: Number>(subnet: &Subnet, slack: f64) -> Result<(), TestCaseError> {
    for (epoch, bonds) in subnet.run::<N>() {
        for shares in [&epoch.dividends, &epoch.incentive] {
            let shares = floats(shares);
            let sum: f64 = shares.iter().sum();
            prop_assert!(shares.iter().all(|share| *share >= 0.0));
            prop_assert!(sum == 0.0 || (sum - 1.0).abs() < slack, "{sum}");
        }
        prop_assert!(floats(&epoch.validator_trust).iter().all(|trust| (0.0..=1.0 + slack).contains(trust)));
        prop_assert!(bonds.iter().flatten().all(|bond| (0.0..=1.0 + slack).contains(bond)));
    }
    Ok(())
}

proptest! {
    #[test]
    fn payments_are_shares(subnet in subnet()) {
        check_shares::<f64>(&subnet, 1e-12)?;
        check_shares::<f32>(&subnet, 1e-5)?;
        check_shares::<I32F32>(&subnet, 1e-8)?;
    }

    #[test]
    fn order_does_not_matter(subnet in subnet(), miners in 0_usize..7, validators in 0_usize..7) {
        let mut other = subnet.clone();
        other.stake = permuted(&subnet.stake, validators);
        for rows in &mut other.epochs {
            *rows = permuted(rows, validators);
            rows.iter_mut().for_each(|row| *row = permuted(row, miners));
        }
        // In fixed point sums do not depend on their order, so the results are the same to the bit.
        for ((left, left_bonds), (right, right_bonds)) in subnet.run::<I32F32>().iter().zip(other.run::<I32F32>()) {
            prop_assert_eq!(permuted(&left.dividends, validators), right.dividends);
            prop_assert_eq!(permuted(&left.incentive, miners), right.incentive);
            prop_assert_eq!(permuted(&left.consensus, miners), right.consensus);
            let turned: Vec<_> = permuted(left_bonds, validators).iter().map(|row| permuted(row, miners)).collect();
            prop_assert_eq!(turned, right_bonds);
        }
    }

    #[test]
    fn scale_does_not_matter(subnet in subnet(), power in 1_i32..10) {
        let mut other = subnet.clone();
        other.stake.iter_mut().for_each(|stake| *stake *= 2.0_f64.powi(power));
        for cell in other.epochs.iter_mut().flatten().flatten() {
            *cell *= 2.0_f64.powi(power);
        }
        prop_assert_eq!(subnet.run::<f64>(), other.run::<f64>());
        prop_assert_eq!(subnet.run::<I32F32>(), other.run::<I32F32>());
    }

    /// Whatever validators with less than kappa of all stake say, no miner's consensus exceeds the largest weight that another gives it.
    #[test]
    fn a_minority_cannot_raise_consensus(subnet in subnet(), size in 1_usize..6) {
        let total: f64 = subnet.stake.iter().sum();
        let size = size.min(subnet.stake.len());
        prop_assume!(subnet.stake[..size].iter().sum::<f64>() < (subnet.params.kappa - 1e-6) * total);
        let rows = &subnet.epochs[0];
        let single = Subnet { epochs: vec![rows.clone()], ..subnet.clone() };
        let consensus = &single.run::<I32F32>()[0].0.consensus;
        for (miner, agreed) in consensus.iter().enumerate() {
            let most = rows[size..].iter().zip(&subnet.stake[size..]).filter(|(_, stake)| **stake > 0.0);
            let share = |row: &Vec<f64>| row[miner] / row.iter().sum::<f64>().max(1.0);
            let most = most.map(|(row, _)| share(row)).fold(0.0, f64::max);
            prop_assert!(agreed.to_f64() <= most + 1e-9);
        }
    }

    /// Consensus is the largest weight that a share kappa of stake gives at least.
    #[test]
    fn consensus_is_the_largest_with_support(subnet in subnet()) {
        let total: f64 = subnet.stake.iter().sum();
        prop_assume!(total > 0.0);
        let rows = &subnet.epochs[0];
        let single = Subnet { epochs: vec![rows.clone()], ..subnet.clone() };
        let consensus = &single.run::<f64>()[0].0.consensus;
        for (miner, agreed) in consensus.iter().enumerate() {
            let share = |row: &Vec<f64>| row[miner] * (1.0 / row.iter().sum::<f64>().max(1.0));
            let support = |least: f64| -> f64 {
                rows.iter().zip(&subnet.stake).filter(|(row, _)| share(row) >= least).map(|(_, stake)| stake / total).sum()
            };
            prop_assert!(support(agreed - 1e-12) >= subnet.params.kappa - 1e-12);
            prop_assert!(support(agreed + 1e-12) < subnet.params.kappa + 1e-12);
        }
    }

    /// The chain's arithmetic stays near the formulas, and liquid alpha without a range is the plain average.
    #[test]
    fn arithmetics_agree(subnet in subnet()) {
        let full = Subnet { params: Params { storage: BondStorage::Full, ..subnet.params.clone() }, ..subnet };
        for ((fixed, _), (float, _)) in full.run::<I32F32>().iter().zip(full.run::<f64>()) {
            if apart(&floats(&fixed.consensus), &float.consensus) > 1e-6 {
                // A tie at the majority fell the other way.
                break;
            }
            prop_assert!(apart(&floats(&fixed.incentive), &float.incentive) < 2.0_f64.powi(-18));
            prop_assert!(apart(&floats(&fixed.dividends), &float.dividends) < 2.0_f64.powi(-18));
        }
    }

    /// Subtensor's `test_liquid_alpha_equal_values_against_itself`, for any weights.
    #[test]
    fn liquid_alpha_without_a_range_is_the_plain_average(subnet in subnet(), rate in 0.01..0.99) {
        let params = Params { alpha_low: rate, alpha_high: rate, bonds_moving_average: 1.0 - rate, ..subnet.params.clone() };
        let with = |liquid_alpha| Subnet { params: Params { liquid_alpha, ..params.clone() }, ..subnet.clone() };
        for ((liquid, _), (plain, _)) in with(true).run::<f64>().iter().zip(with(false).run::<f64>()) {
            prop_assert!(apart(&liquid.dividends, &plain.dividends) < 1e-4);
        }
    }
}
