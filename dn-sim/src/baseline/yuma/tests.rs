use fixed::types::I32F32;
use proptest::prelude::*;

use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::consensus::Majority;
use super::isa::Work;
use super::lanes::{Group, Row, grouped};
use super::number::{Liquid, exp};
use super::pack::Pack;
use super::*;

fn fixed(numbers: &[f64]) -> Vec<I32F32> {
    numbers.iter().map(|number| I32F32::from_num(*number)).collect()
}

struct Search<'a, N: Number> {
    majority: &'a Majority<N>,
    votes: &'a [Group<Row<N>>],
}

impl<N: Number> Work<N> for Search<'_, N> {
    type Output = Row<N>;

    #[inline(always)]
    fn call<P: Pack<N>>(self, p: P) -> Row<N> {
        let mut found = Row::ZERO;
        for part in 0..P::PARTS {
            let mut most = p.all(N::ZERO);
            for votes in self.votes.iter().flatten() {
                most = p.higher(most, p.load(votes, part));
            }
            p.store(&mut found, part, self.majority.of(p, part, self.votes, most));
        }
        found
    }
}

/// The majority values of up to sixteen columns, by every instruction set that the processor has.
fn majorities<N: Number>(stake: &[N], kappa: N, columns: &[Vec<N>]) -> Vec<N> {
    let row = |validator: usize| {
        Row(std::array::from_fn(|lane| columns.get(lane).map_or(N::ZERO, |c| c[validator])))
    };
    let rows: Vec<_> = (0..stake.len()).map(row).collect();
    let (majority, votes) = (Majority::new(stake, kappa), grouped(&rows, Row::ZERO));
    let found: Vec<_> =
        Isa::all().into_iter().map(|isa| isa.run(Search { majority: &majority, votes: &votes })).collect();
    assert!(found.iter().all(|row| *row == found[0]), "{found:?}");
    found[0].0[..columns.len()].to_vec()
}

/// Subtensor, `pallets/subtensor/src/tests/math.rs`, `test_math_weighted_median_col`.
#[test]
fn subtensors_majorities() {
    let columns = [fixed(&[0.0, 0.0, 0.0, 0.0]), fixed(&[0.1, 0.2, 0.3, 0.4]), fixed(&[0.0, 0.4, 0.1, 0.5])];
    let of = |stake: &[f64], kappa: f64, columns: &[Vec<I32F32>]| {
        majorities(&fixed(stake), I32F32::from_num(kappa), columns)
    };
    assert_eq!(of(&[0.0, 0.75, 0.25, 0.0], 0.24, &columns), fixed(&[0.0, 0.3, 0.4]));
    assert_eq!(of(&[0.0, 0.75, 0.25, 0.0], 0.26, &columns), fixed(&[0.0, 0.2, 0.4]));
    assert_eq!(of(&[0.0, 0.75, 0.25, 0.0], 0.76, &columns), fixed(&[0.0, 0.2, 0.1]));
    assert_eq!(of(&[0.0; 4], 0.5, &columns), fixed(&[0.0; 3]));
    let columns = [fixed(&[0.1, 0.2, 0.3, 0.0]), fixed(&[0.0, 0.4, 0.1, 0.5])];
    assert_eq!(of(&[0.0, 0.3, 0.2, 0.5], 0.51, &columns), fixed(&[0.0, 0.4]));
}

#[test]
fn weights_wait_for_their_reveal() {
    let params = Params { reveal_lag_epochs: 2, ..Params::default() };
    let mut late = Yuma::<f64>::new(params).unwrap();
    let mut prompt = Yuma::<f64>::new(Params::default()).unwrap();
    let stake = [2.0, 1.0];
    let epochs: Vec<_> = (0..6_u8)
        .map(|i| Matrix::from_rows(&[[f64::from(i), 1.0], [1.0, f64::from(i % 2)]]).unwrap())
        .collect();
    for (number, weights) in epochs.iter().enumerate() {
        let epoch = late.step(&stake, weights).unwrap();
        if number < 2 {
            assert_eq!(epoch.incentive, [0.0, 0.0]);
            assert_eq!(epoch.dividends, [0.0, 0.0]);
        } else {
            assert_eq!(epoch, prompt.step(&stake, &epochs[number - 2]).unwrap());
        }
    }
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let mut yuma = Yuma::<I32F32>::new(Params::default()).unwrap();
    let weights = Matrix::from_rows(&[[1.0, 2.0], [2.0, 1.0]]).unwrap();
    yuma.step(&[1.0, 2.0], &weights).unwrap();
    let bonds = yuma.bonds();
    for stake in [vec![1.0], vec![1.0, f64::NAN], vec![-1.0, 1.0], vec![1.0, f64::INFINITY], vec![1e18, 9e18]]
    {
        assert!(yuma.step(&stake, &weights).is_err(), "{stake:?}");
    }
    let wide = Matrix::from_rows(&[[1.0; 3]; 2]).unwrap();
    let expected = YumaError::Shape { what: "weights", found: (2, 3), expected: (2, 2) };
    assert_eq!(yuma.step(&[1.0, 2.0], &wide), Err(expected));
    assert_eq!(yuma.bonds(), bonds);

    type Fixed = Matrix<I32F32>;
    assert_eq!(Fixed::from_rows::<[f64; 1]>(&[]), Err(YumaError::Size { validators: 0, miners: 0 }));
    assert_eq!(Fixed::zeros(4097, 4096), Err(YumaError::Size { validators: 4097, miners: 4096 }));
    assert!(Fixed::zeros(usize::MAX, 2).is_err());
    let ragged = Fixed::from_rows(&[vec![1.0], vec![1.0, 2.0]]);
    assert_eq!(ragged, Err(YumaError::Row { validator: 1, found: 2, expected: 1 }));
    for value in [-1.0, f64::NAN, 2e9] {
        assert!(matches!(
            Fixed::from_rows(&[[0.0, value]]),
            Err(YumaError::Cell { validator: 0, miner: 1, .. })
        ));
    }
    assert!(matches!(Fixed::from_rows(&[[6e8, 6e8]]), Err(YumaError::RowSum { validator: 0, .. })));
    let above = Fixed::from_rows(&[[1.0, 1.5]]).unwrap();
    let expected = YumaError::Bond { validator: 0, miner: 1, value: 1.5 };
    assert_eq!(Yuma::with_bonds(Params::default(), above).err(), Some(expected));
}

#[test]
fn parameters_have_bounds() {
    let refused = |change: fn(&mut Params)| {
        let mut params = Params::default();
        change(&mut params);
        Yuma::<f64>::new(params).is_err()
    };
    assert!(refused(|params| params.kappa = 1.1));
    assert!(refused(|params| params.bond_penalty = -0.1));
    assert!(refused(|params| params.bonds_moving_average = f64::NAN));
    assert!(refused(|params| params.alpha_low = 0.95));
    assert!(refused(|params| params.alpha_steepness = f64::INFINITY));
    assert!(refused(|params| params.reveal_lag_epochs = 65));
    assert!(!refused(|params| params.kappa = 1.0));
}

proptest! {
    #[test]
    fn quotients_are_cut_exactly(numerator in 0_i64..=1 << 48, divisor in 1_i64..1 << 62) {
        let numerator = if numerator >> 16 > divisor { divisor } else { numerator };
        let (numerator, divisor) = (I32F32::from_bits(numerator), I32F32::from_bits(divisor));
        let Some(expected) = numerator.checked_div(divisor).filter(|quotient| *quotient <= 65_535) else {
            return Ok(());
        };
        prop_assert_eq!(numerator.over(Number::divisor(divisor)), expected);
        prop_assert_eq!(divisor.over(Number::divisor(divisor)), I32F32::ONE);
        prop_assert_eq!(numerator.over(Number::divisor(I32F32::ZERO)), numerator);
    }

    #[test]
    fn exponentials_are_right(x in -20.0_f64..=20.0) {
        let expected = libm::exp(x);
        prop_assert!((exp(x) - expected).abs() <= expected * 2.0_f64.powi(-50));
    }

    #[test]
    fn rates_are_right(difference in 0.0_f64..=1.0, steepness in 0.0_f64..=100.0) {
        let exponent = (steepness * (0.5 - difference)).clamp(-20.0, 20.0);
        let expected = 0.1 + 0.8 / (1.0 + libm::exp(exponent));
        let long = f64::rate(difference, &Liquid { low: 0.1, high: 0.9, steepness });
        prop_assert!((long - expected).abs() < 1e-15);
        let short = f32::rate(difference as f32, &Liquid { low: 0.1, high: 0.9, steepness });
        // An exponent is off by half a unit in its last place or in the difference's, times the steepness.
        prop_assert!((f64::from(short) - expected).abs() < 2e-7 + 1e-8 * steepness, "{short}, {expected}");
    }

}

/// Stake that is exactly the majority is one in `f64`, whatever it is counted in: all triples of small integers, whole, in tenths and in thirds.
#[test]
fn ties_are_majorities_at_every_scale() {
    for (a, b, c) in (1..8).flat_map(|a| (1..8).flat_map(move |b| (1..8).map(move |c| (a, b, c)))) {
        let stake = [a, b, c];
        let all: u32 = stake.iter().sum();
        for (support, of) in [(1, 2), (1, 3), (2, 3), (3, 5)] {
            let votes = [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0]];
            let expected = votes.map(|votes| {
                let behind: u32 = stake.iter().zip(votes).filter(|(_, v)| *v > 0.0).map(|(s, _)| s).sum();
                f64::from(u8::from(behind * of >= support * all))
            });
            for scale in [1.0, 0.1, 1.0 / 3.0, 7e20] {
                let stakes = stake.map(|stake| f64::from(stake) * scale);
                let shares = <f64 as Number>::shares(&stakes).expect("finite");
                let kappa = f64::from(support) / f64::from(of);
                let found = searched::<f64>(&shares, kappa, &votes.map(|votes| votes.to_vec()));
                assert_eq!(found, expected, "{stakes:?} {kappa}");
            }
        }
    }
}

// Slow without optimisation, and all of it on every instruction set.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Shares of stake and kappa are parts of a power of two, so that all arithmetics hold them exactly and ties are ties.
    /// Votes are few, or far apart, or so close together that only their last bits differ.
    #[test]
    fn the_search_finds_what_counting_finds(
        mut stake in prop::collection::vec(prop_oneof![2 => Just(0_u32), 3 => 1_u32..200], 1..70),
        columns in prop::collection::vec((0_usize..4, prop::collection::vec(0_u32..1 << 20, 70)), 1..=16),
        kappa in 0_u32..=4096,
    ) {
        let sum: u32 = stake.iter().sum();
        let all = (sum + 1).next_power_of_two();
        stake.push(all - sum);
        let support = (kappa * (all / 16).max(1) / 256).clamp(1, all);
        let vote = |kind: usize, number: u32| match kind {
            0 => f64::from(number % 3) / 4.0,
            1 => f64::from(number) / f64::from(1 << 20),
            2 => 0.5 + f64::from(number % 64) / f64::from(1 << 22),
            _ => f64::from(number % 2) * f64::from(number) / f64::from(1 << 28),
        };
        let columns: Vec<Vec<f64>> = columns
            .iter()
            .map(|(kind, numbers)| (0..stake.len()).map(|at| vote(*kind, numbers[at % 70])).collect())
            .collect();
        let expected: Vec<f64> = columns.iter().map(|votes| counted(votes, &stake, support)).collect();
        let shares: Vec<f64> = stake.iter().map(|stake| f64::from(*stake) / f64::from(all)).collect();
        let kappa = f64::from(support) / f64::from(all);
        prop_assert_eq!(searched::<f32>(&shares, kappa, &columns), &expected[..]);
        prop_assert_eq!(searched::<f64>(&shares, kappa, &columns), &expected[..]);
        prop_assert_eq!(searched::<I32F32>(&shares, kappa, &columns), &expected[..]);
    }

    /// The same bits from every instruction set and any number of threads.
    #[test]
    fn no_machine_changes_a_bit(
        (version, storage) in (0_usize..3, any::<bool>()),
        (liquid_alpha, steepness, filled) in (any::<bool>(), 0.0..100.0, 1_u64..=100),
        (validators, miners, seed) in (1_usize..10, 1_usize..600, any::<u64>()),
    ) {
        let version = [Version::One, Version::Two, Version::Three][version];
        let storage = if storage { BondStorage::U16 } else { BondStorage::Full };
        let params = Params { version, storage, liquid_alpha, alpha_steepness: steepness, bond_penalty: 0.7, ..Params::default() };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut rows = || -> Vec<Vec<f64>> {
            let mut cell = || {
                let bits = rng.next_u64();
                if bits % 100 < filled { (bits >> 32) as f64 } else { 0.0 }
            };
            (0..validators).map(|_| (0..miners).map(|_| cell()).collect()).collect()
        };
        let stake: Vec<f64> = rows().iter().map(|row| row[0]).collect();
        let epochs = [rows(), rows()];
        let plain = bits(&params, Means { threads: 1, isa: Isa::Baseline }, &stake, &epochs);
        for isa in Isa::all() {
            prop_assert_eq!(&bits(&params, Means { threads: 1, isa }, &stake, &epochs), &plain, "{:?}", isa);
        }
        for threads in [2, 3, 5] {
            let means = Means { threads, isa: Isa::widest() };
            prop_assert_eq!(&bits(&params, means, &stake, &epochs), &plain, "{} threads", threads);
        }
    }
}

/// The largest vote that stakes of `support` and more stand behind, by trying them all.
fn counted(votes: &[f64], stake: &[u32], support: u32) -> f64 {
    let behind = |least: f64| {
        votes.iter().zip(stake).filter(|(vote, _)| **vote >= least).map(|(_, stake)| stake).sum::<u32>()
    };
    votes.iter().copied().filter(|vote| behind(*vote) >= support).fold(0.0, f64::max)
}

fn searched<N: Number>(shares: &[f64], kappa: f64, columns: &[Vec<f64>]) -> Vec<f64> {
    let numbers = |numbers: &[f64]| numbers.iter().map(|number| N::of(*number)).collect::<Vec<_>>();
    let columns: Vec<Vec<N>> = columns.iter().map(|column| numbers(column)).collect();
    majorities(&numbers(shares), N::of(kappa), &columns).into_iter().map(N::to_f64).collect()
}

/// All that comes out of some epochs in `f32`.
fn bits(params: &Params, means: Means, stake: &[f64], epochs: &[Vec<Vec<f64>>]) -> Vec<Vec<u32>> {
    let mut yuma = Yuma { means, ..Yuma::<f32>::new(params.clone()).unwrap() };
    let mut found = Vec::new();
    for rows in epochs {
        let epoch = yuma.step(stake, &Matrix::from_rows(rows).unwrap()).unwrap();
        let bonds = yuma.bonds.as_ref().unwrap().to_rows().concat();
        let bonds = bonds.into_iter().map(|bond| bond as f32).collect();
        let all =
            [epoch.stake, epoch.consensus, epoch.incentive, epoch.validator_trust, epoch.dividends, bonds];
        found.extend(all.map(|numbers| numbers.into_iter().map(f32::to_bits).collect()));
    }
    found
}

#[test]
fn threads_change_no_bit() {
    let (validators, miners) = (5, 700);
    let cell = |i: usize, epoch: usize| ((i * 7919 + epoch * 104_729) % 1009) as f64;
    for version in [Version::One, Version::Two, Version::Three] {
        let params = Params { version, liquid_alpha: true, ..Params::default() };
        let mut alone = Yuma::<f64>::new(params.clone()).unwrap();
        let mut shared = Yuma::<f64>::new(params).unwrap().with_threads(3);
        for epoch in 0..3 {
            let row = |v: usize| (0..miners).map(|m| cell(v * miners + m, epoch)).collect::<Vec<_>>();
            let weights = Matrix::from_rows(&(0..validators).map(row).collect::<Vec<_>>()).unwrap();
            let stake = [3.0, 1.0, 4.0, 1.0, 5.0];
            assert_eq!(alone.step(&stake, &weights).unwrap(), shared.step(&stake, &weights).unwrap());
        }
        assert_eq!(alone.bonds(), shared.bonds());
    }
}
