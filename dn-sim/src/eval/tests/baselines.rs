//! The published policies.

use super::*;

fn three() -> Value {
    json!({ "stake": [8, 1, "1"], "weights_per_epoch": [[[1, 0], [1, 0], [0, "1.0"]]] })
}

fn with(key: &str, value: Value) -> Value {
    let mut document = three();
    document[key] = value;
    document
}

#[test]
fn results_are_nested_by_epoch() {
    let result = out("yuma3", three());
    assert_eq!(result["incentive"], json!([[1.0, 0.0]]));
    assert_eq!(result["consensus"], json!([[1.0, 0.0]]));
    let dividends = result["dividends"][0].as_array().unwrap();
    assert!((dividends[0].as_f64().unwrap() - 8.0 / 9.0).abs() < 1e-12);
    assert_eq!(dividends[2], json!(0.0));
    assert_eq!(result["bonds"][0][2], json!([0.0, 0.0]));
}

#[test]
fn the_chains_units_are_read() {
    let chain = with("kappa", json!(32_767));
    assert_eq!(out("yuma3", chain), out("yuma3", three()));
    let liquid = |steepness: f64, low: f64, high: f64| {
        let mut document = with("liquid_alpha", json!(true));
        document["alpha_steepness"] = json!(steepness);
        document["alpha_low"] = json!(low);
        document["alpha_high"] = json!(high);
        out("yuma3", document)["bonds"].clone()
    };
    assert_eq!(liquid(1000.0, 13_107.0, 1.0), liquid(10.0, 0.2, 1.0));
    assert_ne!(liquid(1000.0, 0.1, 0.3), liquid(5.0, 0.1, 0.3));
}

#[test]
fn the_chains_arithmetic_is_on_request() {
    let mut document = with("weights_per_epoch", json!([[[1, 2], [1, 2], [2, 1]]]));
    document["bond_rate"] = json!("0.3");
    let float = out("yuma3", document.clone());
    document["arithmetic"] = json!("i32f32");
    let fixed = out("yuma3", document.clone());
    assert_eq!(fixed["consensus"][0][0], json!(1_431_655_765.0 / 4_294_967_296.0));
    let bond = |result: &Value| result["bonds"][0][0][1].as_f64().unwrap();
    assert!((bond(&float) - 0.2).abs() < 1e-15);
    assert!(bond(&float) != bond(&fixed) && (bond(&float) - bond(&fixed)).abs() < 1e-8);
    document["bond_storage"] = json!("u16");
    let stored = out("yuma3", document.clone());
    assert!((bond(&stored) * 65_535.0 - 13_106.0).abs() < 1e-4);
}

#[test]
fn stakes_may_change() {
    let rows = json!([[1, 0], [1, 0], [1, 0]]);
    let mut document = with("weights_per_epoch", json!([rows, rows]));
    document["stake"] = json!([[8, 1, 1], [0, 1, 3]]);
    let result = out("yuma3", document);
    let dividends = result["dividends"][1].as_array().unwrap();
    for (found, expected) in dividends.iter().zip([0.0, 0.25, 0.75]) {
        assert!((found.as_f64().unwrap() - expected).abs() < 1e-12);
    }
}

#[test]
fn errors_say_where() {
    let cases = [
        (
            with("kapa", json!(0.5)),
            "in: unknown key `kapa`; known are stake, weights_per_epoch, bonds0, kappa",
        ),
        (
            with("kappa", json!(-0.5)),
            "in.kappa: expected a share from 0 to 1, or a whole number of parts of 65535 above, found -0.5",
        ),
        (
            with("kappa", json!(1.5)),
            "in.kappa: expected a share from 0 to 1, or a whole number of parts of 65535 above, found 1.5",
        ),
        (
            with("kappa", json!("NaN")),
            "in.kappa: expected a share from 0 to 1, or a whole number of parts of 65535 above, found \"NaN\"",
        ),
        (
            with("bonds0", json!([[0, 0], [0, 0], [0, 2]])),
            "in.bonds0[2][1]: expected a bond from 0 to 1, found 2",
        ),
        (with("bonds0", json!([[0, 0], [0, 0]])), "in.bonds0: expected a list of 3, found a list of 2"),
        (
            with("weights_per_epoch", json!([])),
            "in.weights_per_epoch: expected a list of 1 to 1048576, found a list of 0",
        ),
        (
            with("weights_per_epoch", json!([[]])),
            "in.weights_per_epoch[0]: expected a list of 1 to 1048576, found a list of 0",
        ),
        (
            with("weights_per_epoch", json!([[[], [], []]])),
            "in.weights_per_epoch[0][0]: expected a list of 1 to",
        ),
        (
            with("weights_per_epoch", json!([[[1], [1], [1]], [[1], [1, 2], [1]]])),
            "in.weights_per_epoch[1][1]: expected a list of 1, found a list of 2",
        ),
        (
            with("weights_per_epoch", json!([[[1, 2], [1, -2], [1, 1]]])),
            "in.weights_per_epoch[0][1][1]: expected a weight from 0, not beyond the arithmetic, found -2",
        ),
        (with("stake", json!([[1, 2, 3], [1, 2, 3]])), "in.stake: expected a list of 1, found a list of 2"),
        (with("stake", json!([[1, 2, "x"]])), "in.stake[0][2]: expected a number from 0, found \"x\""),
        (with("stake", json!([1, 2])), "in.weights_per_epoch[0]: expected a list of 2, found a list of 3"),
        (with("stake", json!([1, 2, null])), "in.stake[2]: expected a number from 0, found null"),
        (with("liquid_alpha", json!(1)), "in.liquid_alpha: expected true or false, found 1"),
        (with("alpha_low", json!(0.95)), "in.alpha_low: expected at most alpha_high, found 0.95"),
        (with("arithmetic", json!("f16")), "in.arithmetic: expected f64 or i32f32, found \"f16\""),
        (json!([]), "in: expected an object, found a list of 0"),
    ];
    for (document, expected) in cases {
        let error = error("yuma3", document);
        assert!(error.starts_with(expected), "{error}");
    }
    let median = json!({ "stake": [1, 2], "values": [1], "support": 1 });
    assert_eq!(error("weighted_median", median), "in.values: expected a list of 2, found a list of 1");
    let trust = json!({ "pretrust": [1, 2], "local_trust": [[0, 1], [-1, 0]], "alpha": 0.5 });
    assert_eq!(error("eigentrust", trust), "in.local_trust[1][0]: expected a number from 0, found -1");
    let none = json!({ "pretrust": [0], "local_trust": [[0]], "alpha": 0.5 });
    assert_eq!(error("eigentrust", none), "in: pretrust sums to 0, expected a finite sum above 0");
}

#[test]
fn size_is_limited_before_anything_is_computed() {
    let mut epochs = vec![json!([]); 16_384];
    epochs[0] = json!([vec![1; 1025]]);
    let document = json!({ "stake": [1], "weights_per_epoch": epochs });
    assert_eq!(error("yuma3", document), "in.weights_per_epoch: 16793600 cells, at most 16777216");
}

/// The README of Karma3Labs/go-eigentrust, peers EK, VM and SD.
#[test]
fn eigentrust_takes_a_document() {
    let input = json!({
        "pretrust": [50, "100", 0], "local_trust": [[0, 75, 100], [0, 0, 100], [0, 0, 0]], "alpha": "0.5"
    });
    let trust = out("eigentrust", input)["trust"].clone();
    for (trust, exact) in trust.as_array().unwrap().iter().zip([28.0, 62.0, 39.0]) {
        assert!((trust.as_f64().unwrap() - exact / 129.0).abs() < 1e-14);
    }
}
