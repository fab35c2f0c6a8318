//! Stretched rotary positions: golden vectors, nearness to the published formulas, and what is refused.

use dn_compute::spec::rope::yarn_attention;
use dn_compute::spec::{NumericError, Pairing, RopeScaling, RopeSpec, RopeTable};
use serde::Deserialize;

use crate::golden::golden;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    attention: Vec<Attention>,
}

#[derive(Deserialize)]
struct Case {
    rotary_dim: usize,
    theta: u32,
    scaling: String,
    parameters: Vec<u32>,
    position: u32,
    cos: Vec<u32>,
    sin: Vec<u32>,
}

#[derive(Deserialize)]
struct Attention {
    factor: u32,
    out: u32,
}

fn spec(rotary_dim: usize, theta: f32, scaling: RopeScaling) -> RopeSpec {
    RopeSpec { head_dim: rotary_dim, rotary_dim, theta, pairing: Pairing::HalfSplit, scaling }
}

#[test]
fn stretched_positions_are_those_of_the_generator() {
    let golden: Golden =
        golden("rope_scaling", "0x97e6821173ec68debdf92f9d86ad3927313ff88eb583bc0fbe637520781bf03c");
    assert!(golden.cases.len() > 40 && golden.attention.len() > 5);
    for case in golden.cases {
        let p: Vec<f32> = case.parameters.iter().map(|b| f32::from_bits(*b)).collect();
        let scaling = match case.scaling.as_str() {
            "linear" => RopeScaling::Linear { factor: p[0] },
            "llama3" => {
                RopeScaling::Llama3 { factor: p[0], low: p[1], high: p[2], original: case.parameters[3] }
            }
            "yarn" => {
                let original = case.parameters[1];
                RopeScaling::Yarn {
                    factor: p[0],
                    original,
                    beta_fast: p[2],
                    beta_slow: p[3],
                    attention: p[4],
                }
            }
            "factors" => RopeScaling::Factors(p.into()),
            other => panic!("{other}"),
        };
        let spec = spec(case.rotary_dim, f32::from_bits(case.theta), scaling);
        for pair in 0..case.rotary_dim / 2 {
            let [cos, sin] = spec.rotation(case.position, pair).expect("valid");
            assert_eq!([cos.to_bits(), sin.to_bits()], [case.cos[pair], case.sin[pair]], "{spec:?} {pair}");
        }
    }
    for case in golden.attention {
        assert_eq!(yarn_attention(f32::from_bits(case.factor)).to_bits(), case.out);
    }
}

/// Frequencies and the factor of cosine and sine as the published formulas have them.
fn exact(spec: &RopeSpec) -> (Vec<f64>, f64) {
    let (dim, theta) = (spec.rotary_dim as f64, f64::from(spec.theta));
    let tau = std::f64::consts::TAU;
    let plain: Vec<f64> = (0..spec.rotary_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / dim)).collect();
    match &spec.scaling {
        RopeScaling::Linear { factor } => (plain.iter().map(|f| f / f64::from(*factor)).collect(), 1.0),
        RopeScaling::Factors(factors) => {
            (plain.iter().zip(factors.iter()).map(|(f, by)| f / f64::from(*by)).collect(), 1.0)
        }
        RopeScaling::Llama3 { factor, low, high, original } => {
            let (factor, low, high) = (f64::from(*factor), f64::from(*low), f64::from(*high));
            let scale = |f: &f64| {
                let rotations = f64::from(*original) * f / tau;
                let smooth = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - smooth) * f / factor + smooth * f
            };
            (plain.iter().map(scale).collect(), 1.0)
        }
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention } => {
            let find =
                |beta: f32| dim * (f64::from(*original) / (f64::from(beta) * tau)).ln() / (2.0 * theta.ln());
            let low = find(*beta_fast).floor().max(0.0);
            let high = find(*beta_slow).ceil().min(dim - 1.0);
            let scale = |(i, f): (usize, &f64)| {
                let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                ramp * f / f64::from(*factor) + (1.0 - ramp) * f
            };
            (plain.iter().enumerate().map(scale).collect(), f64::from(*attention))
        }
        _ => (plain, 1.0),
    }
}

#[test]
fn stretched_positions_are_near_the_published_formulas() {
    let yarn = |factor: f32, original, beta_fast, beta_slow| {
        let attention = yarn_attention(factor);
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention }
    };
    let cases = [
        (64, 10_000.0, RopeScaling::Linear { factor: 8.0 }),
        (128, 500_000.0, RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192 }),
        (64, 500_000.0, RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192 }),
        (128, 1e6, yarn(4.0, 32_768, 32.0, 1.0)),
        (64, 10_000.0, yarn(16.0, 4096, 32.0, 1.0)),
        (4, 10_000.0, RopeScaling::Factors([1.5, 1e30].into())),
    ];
    for (dim, theta, scaling) in cases {
        let spec = spec(dim, theta, scaling);
        let (frequencies, attention) = exact(&spec);
        for position in [1u32, 900, 131_071] {
            for (pair, f) in frequencies.iter().enumerate() {
                let [cos, sin] = spec.rotation(position, pair).expect("valid");
                let angle = f64::from(position) * f;
                let error = (f64::from(cos) - attention * angle.cos()).abs();
                let error = error.max((f64::from(sin) - attention * angle.sin()).abs());
                assert!(error < 2e-7, "{:?} at {position}, pair {pair}: {error:e}", spec.scaling);
            }
        }
        let table = RopeTable::new(spec.clone(), 40).expect("valid");
        for pair in 0..dim / 2 {
            assert_eq!(table.row(39)[pair], spec.rotation(39, pair).expect("valid"));
        }
    }
    for factor in [1.0f32, 1.25, 4.0, 31.9, 65_536.0] {
        let exact = 0.1 * f64::from(factor).ln() + 1.0;
        assert!((f64::from(yarn_attention(factor)) - exact).abs() <= exact * 6e-8, "{factor}");
    }
}

#[test]
fn a_stretch_of_nothing_changes_nothing() {
    let plain = RopeTable::new(spec(64, 10_000.0, RopeScaling::None), 300).expect("valid");
    let same = [
        RopeScaling::Linear { factor: 1.0 },
        RopeScaling::Llama3 { factor: 1.0, low: 1.0, high: 4.0, original: 100 },
        RopeScaling::Factors([1.0; 32].into()),
        RopeScaling::Yarn { factor: 1.0, original: 100, beta_fast: 32.0, beta_slow: 1.0, attention: 1.0 },
    ];
    for scaling in same {
        let table = RopeTable::new(spec(64, 10_000.0, scaling), 300).expect("valid");
        for position in 0..300 {
            assert_eq!(table.row(position), plain.row(position));
        }
    }
}

#[test]
fn scalings_without_a_meaning_are_refused() {
    let yarn = |factor, original, beta_fast, beta_slow, attention| RopeScaling::Yarn {
        factor,
        original,
        beta_fast,
        beta_slow,
        attention,
    };
    let refused = [
        RopeScaling::Linear { factor: 0.0 },
        RopeScaling::Linear { factor: f32::NAN },
        RopeScaling::Linear { factor: 1e30 },
        RopeScaling::Llama3 { factor: 0.5, low: 1.0, high: 4.0, original: 1 },
        RopeScaling::Llama3 { factor: 8.0, low: 4.0, high: 4.0, original: 1 },
        RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: f32::INFINITY, original: 1 },
        RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 0 },
        yarn(4.0, 1 << 25, 32.0, 1.0, 1.0),
        yarn(4.0, 100, 1.0, 32.0, 1.0),
        yarn(4.0, 100, 32.0, 1e-9, 1.0),
        yarn(4.0, 100, 32.0, 1.0, 0.0),
        yarn(f32::NAN, 100, 32.0, 1.0, 1.0),
        RopeScaling::Factors([1.0; 31].into()),
        RopeScaling::Factors([f32::INFINITY; 32].into()),
        RopeScaling::Factors([-1.0; 32].into()),
    ];
    for scaling in refused {
        let error = RopeTable::new(spec(64, 10_000.0, scaling.clone()), 10).unwrap_err();
        assert!(matches!(error, NumericError::Parameter { .. }), "{scaling:?}: {error}");
    }
    assert!(matches!(
        spec(64, 10_000.0, RopeScaling::None).rotation(0, 32),
        Err(NumericError::Limit { what: "pair + 1", .. })
    ));
}
