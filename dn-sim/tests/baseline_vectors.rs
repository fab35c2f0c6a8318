//! Yuma 1, 2 and 3 beside vectors that `tools/golden/yuma.py` computes from the formulas, in floats.
#![allow(clippy::unwrap_used)]

use dn_sim::baseline::yuma::{Matrix, Number, Params, Version, Yuma};
use dn_sim::eval::answer;
use fixed::types::I32F32;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    params: Chosen,
    stake: Vec<f64>,
    weights_per_epoch: Vec<Vec<Vec<f64>>>,
    versions: Versions,
}

#[derive(Deserialize)]
struct Versions {
    #[serde(rename = "1")]
    one: Vec<Expected>,
    #[serde(rename = "2")]
    two: Vec<Expected>,
    #[serde(rename = "3")]
    three: Vec<Expected>,
}

#[derive(Deserialize)]
struct Chosen {
    kappa: f64,
    bond_penalty: f64,
    liquid_alpha: bool,
    alpha_low: f64,
    alpha_high: f64,
    alpha_steepness: f64,
    bond_rate: f64,
}

#[derive(Deserialize)]
struct Expected {
    consensus: Vec<f64>,
    incentive: Vec<f64>,
    validator_trust: Vec<f64>,
    dividends: Vec<f64>,
    bonds: Vec<Vec<f64>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("vectors/yuma.json")).unwrap()
}

fn close(found: &[f64], expected: &[f64], bound: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= bound, "{what}: {found}, expected {expected}");
    }
}

fn floats<N: Number>(numbers: &[N]) -> Vec<f64> {
    numbers.iter().map(|number| number.to_f64()).collect()
}

/// Computes all cases in one arithmetic; the largest difference must stay within `bound`.
fn check<N: Number>(bound: f64) {
    for (number, case) in cases().iter().enumerate() {
        let versions = [
            (Version::One, &case.versions.one),
            (Version::Two, &case.versions.two),
            (Version::Three, &case.versions.three),
        ];
        for (version, expected) in versions {
            let params = Params {
                version,
                kappa: case.params.kappa,
                bond_penalty: case.params.bond_penalty,
                bonds_moving_average: 1.0 - case.params.bond_rate,
                liquid_alpha: case.params.liquid_alpha && version != Version::One,
                alpha_low: case.params.alpha_low,
                alpha_high: case.params.alpha_high,
                alpha_steepness: case.params.alpha_steepness,
                ..Params::default()
            };
            let mut yuma = Yuma::<N>::new(params).unwrap();
            for (at, (rows, expected)) in case.weights_per_epoch.iter().zip(expected).enumerate() {
                let what = format!("case {number}, {version:?}, epoch {at}");
                let epoch = yuma.step(&case.stake, &Matrix::from_rows(rows).unwrap()).unwrap();
                close(&floats(&epoch.consensus), &expected.consensus, bound, &what);
                close(&floats(&epoch.incentive), &expected.incentive, bound, &what);
                close(&floats(&epoch.validator_trust), &expected.validator_trust, bound, &what);
                close(&floats(&epoch.dividends), &expected.dividends, bound, &what);
                for (found, expected) in yuma.bonds().unwrap().iter().zip(&expected.bonds) {
                    close(found, expected, bound, &what);
                }
            }
        }
    }
}

#[test]
fn floats_follow_the_formulas() {
    check::<f64>(1e-12);
}

/// 32 bits are kept of every product and quotient.
#[test]
fn the_chains_arithmetic_follows_the_formulas() {
    check::<I32F32>(2.0_f64.powi(-24));
}

#[test]
fn short_floats_follow_the_formulas() {
    check::<f32>(4e-6);
}

#[test]
fn the_operation_follows_the_formulas() {
    for case in cases() {
        let p = &case.params;
        let document = json!({
            "stake": case.stake, "weights_per_epoch": case.weights_per_epoch, "kappa": p.kappa,
            "bond_penalty": p.bond_penalty, "liquid_alpha": p.liquid_alpha, "alpha_low": p.alpha_low,
            "alpha_high": p.alpha_high, "alpha_steepness": p.alpha_steepness, "bond_rate": p.bond_rate,
        });
        let line = json!({ "id": 0, "op": "yuma3", "in": document }).to_string();
        let result = serde_json::from_str::<Value>(&answer(&line)).unwrap()["out"].take();
        let row = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
        for (at, expected) in case.versions.three.iter().enumerate() {
            close(&row(&result["dividends"][at]), &expected.dividends, 1e-12, "dividends");
            close(&row(&result["incentive"][at]), &expected.incentive, 1e-12, "incentive");
            close(&row(&result["consensus"][at]), &expected.consensus, 1e-12, "consensus");
            for (validator, expected) in expected.bonds.iter().enumerate() {
                close(&row(&result["bonds"][at][validator]), expected, 1e-12, "bonds");
            }
        }
    }
}
