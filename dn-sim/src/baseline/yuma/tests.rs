use fixed::types::I32F32;
use proptest::prelude::*;

use super::number::exp;
use super::*;

fn fixed(numbers: &[f64]) -> Vec<I32F32> {
    numbers.iter().map(|number| I32F32::from_num(*number)).collect()
}

/// Subtensor, `pallets/subtensor/src/tests/math.rs`, `test_math_weighted_median_col`.
#[test]
fn subtensors_majorities() {
    let columns = [fixed(&[0.0, 0.0, 0.0, 0.0]), fixed(&[0.1, 0.2, 0.3, 0.4]), fixed(&[0.0, 0.4, 0.1, 0.5])];
    let majorities = |stake: &[f64], kappa: f64| {
        let mut majority = Majority::new(&fixed(stake), I32F32::from_num(kappa));
        columns.iter().map(|column| majority.of(column)).collect::<Vec<_>>()
    };
    assert_eq!(majorities(&[0.0, 0.75, 0.25, 0.0], 0.24), fixed(&[0.0, 0.3, 0.4]));
    assert_eq!(majorities(&[0.0, 0.75, 0.25, 0.0], 0.26), fixed(&[0.0, 0.2, 0.4]));
    assert_eq!(majorities(&[0.0, 0.75, 0.25, 0.0], 0.76), fixed(&[0.0, 0.2, 0.1]));
    assert_eq!(majorities(&[0.0; 4], 0.5), fixed(&[0.0; 3]));
    let mut majority = Majority::new(&fixed(&[0.0, 0.3, 0.2, 0.5]), I32F32::from_num(0.51));
    assert_eq!(majority.of(&fixed(&[0.1, 0.2, 0.3, 0.0])), I32F32::ZERO);
    assert_eq!(majority.of(&fixed(&[0.0, 0.4, 0.1, 0.5])), I32F32::from_num(0.4));
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
        let long = f64::sigmoid(x / 20.0, 10.0);
        prop_assert!((long - 1.0 / (1.0 + libm::exp(5.0 - x / 2.0))).abs() < 1e-15);
        prop_assert!((f64::from(f32::sigmoid((x / 20.0) as f32, 10.0)) - long).abs() < 1e-6);
    }
}

#[test]
fn threads_change_no_bit() {
    let (validators, miners) = (5, 700);
    let cell = |i: usize, epoch: usize| ((i * 7919 + epoch * 104_729) % 1009) as f64;
    for version in [Version::One, Version::Two, Version::Three] {
        let params = Params { version, liquid_alpha: true, ..Params::default() };
        let mut alone = Yuma::<f32>::new(params.clone()).unwrap();
        let mut shared = Yuma::<f32>::new(params).unwrap().with_threads(3);
        for epoch in 0..3 {
            let row = |v: usize| (0..miners).map(|m| cell(v * miners + m, epoch)).collect::<Vec<_>>();
            let weights = Matrix::from_rows(&(0..validators).map(row).collect::<Vec<_>>()).unwrap();
            let stake = [3.0, 1.0, 4.0, 1.0, 5.0];
            assert_eq!(alone.step(&stake, &weights).unwrap(), shared.step(&stake, &weights).unwrap());
        }
        assert_eq!(alone.bonds(), shared.bonds());
    }
}
