//! What encoders need beyond a decoder: golden vectors and accuracy of layer normalisation, GELU and pooling.

use dn_compute::reference::Reference;
use dn_compute::spec::Backend;
use dn_compute::spec::pool::{ONE, Pooling, pool};
use serde::Deserialize;

use super::golden::{backends, bits, floats, golden};

#[derive(Deserialize)]
struct LayerNorm {
    weight: Vec<u32>,
    bias: Vec<u32>,
    eps: u32,
    x: Vec<u32>,
    out: Vec<u32>,
}

#[test]
fn layer_norm_is_golden() {
    let cases: Vec<LayerNorm> =
        golden("layer_norm", "0x273c7bb02bd8a27a3263826cca07fc2e3dfe9249b9f9e85697478f4c2549db92");
    assert!(cases.len() > 5);
    for case in cases {
        for backend in backends() {
            let mut out = vec![0.0; case.x.len()];
            let (weight, bias, eps) = (floats(&case.weight), floats(&case.bias), f32::from_bits(case.eps));
            backend.layer_norm(&weight, &bias, eps, &floats(&case.x), &mut out).expect("valid");
            assert_eq!(bits(&out), case.out, "{}", backend.info());
        }
    }
}

#[derive(Deserialize)]
struct Gelu {
    x: Vec<u32>,
    out: Vec<u32>,
}

#[test]
fn gelu_is_golden() {
    let golden: Gelu = golden("gelu", "0xe5d3e75e34739fd19134033a161fa385a5a348798a61dd091fc48e1143421349");
    for backend in backends() {
        let mut x = floats(&golden.x);
        backend.gelu(&mut x).expect("finite");
        assert_eq!(bits(&x), golden.out, "{}", backend.info());
    }
}

#[derive(Deserialize)]
struct Pool {
    mean: bool,
    cols: usize,
    x: Vec<u32>,
    out: Vec<i32>,
}

#[test]
fn pooling_is_golden() {
    let cases: Vec<Pool> =
        golden("pool", "0x7b763b3f940a4809a3ef1b42069cd67b839783c344a4d254e8e9a50b570e954b");
    assert!(cases.len() > 10);
    for case in cases {
        let pooling = if case.mean { Pooling::Mean } else { Pooling::First };
        assert_eq!(pool(pooling, case.cols, &floats(&case.x)).expect("valid"), case.out);
    }
}

/// Roughly normal numbers from a fixed seed.
fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..len).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

#[test]
fn layer_norm_errs_by_a_few_units_in_a_million_even_far_from_zero() {
    let cols = 384;
    let (weight, bias) = (normal(1, cols), normal(2, cols));
    // A common part of all elements, and the factor of one that stands out.
    for (offset, outlier, bound) in
        [(0.0, 1.0, 1e-6), (0.0, 300.0, 1e-5), (10.0, 1.0, 1e-6), (1000.0, 1.0, 5e-6), (-3e5, 1.0, 5e-6)]
    {
        let mut x = normal(3, cols);
        x[7] *= outlier;
        x.iter_mut().for_each(|x| *x += offset);
        let n = cols as f64;
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        let factor = 1.0 / (variance + 1e-12).sqrt();
        let mut out = vec![0.0; cols];
        Reference.layer_norm(&weight, &bias, 1e-12, &x, &mut out).expect("valid");
        let (mut difference, mut size) = (0f64, 0f64);
        for (((x, w), b), found) in x.iter().zip(&weight).zip(&bias).zip(&out) {
            let exact = (f64::from(*x) - mean) * factor * f64::from(*w) + f64::from(*b);
            difference += (f64::from(*found) - exact).powi(2);
            size += exact.powi(2);
        }
        let error = (difference / size).sqrt();
        println!("offset {offset}, outlier {outlier}: {error:e}");
        assert!(error < bound, "offset {offset}, outlier {outlier}: {error:e}");
    }
}

#[test]
fn pooling_errs_by_the_rounding_of_activations_alone() {
    let (rows, cols) = (40, 384);
    let x = normal(4, rows * cols);
    let mut exact: Vec<f64> =
        (0..cols).map(|c| x.iter().skip(c).step_by(cols).map(|x| f64::from(*x)).sum()).collect();
    let length = exact.iter().map(|v| v * v).sum::<f64>().sqrt();
    exact.iter_mut().for_each(|v| *v /= length);
    let found: Vec<f64> = pool(Pooling::Mean, cols, &x)
        .expect("valid")
        .iter()
        .map(|v| f64::from(*v) / f64::from(ONE))
        .collect();
    let length = found.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
    let error = exact.iter().zip(&found).map(|(e, f)| (e - f).powi(2)).sum::<f64>().sqrt();
    assert!(error < 5e-5, "{error:e}");
}
