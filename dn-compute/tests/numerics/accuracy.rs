//! The specification against the same formulas in f64: what quantising the activations and the fixed-point recipes cost.

use dn_compute::cpu::Cpu;
use dn_compute::spec::{
    Backend, BlockLength, KvShape, Mask, Pairing, QuantMatrix, RopeScaling, RopeSpec, RopeTable,
};

/// Roughly normal numbers from a fixed seed.
struct Rng(u64);

impl Rng {
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }
}

/// Root-mean-square of the difference over that of the exact values.
fn relative(found: &[f32], exact: &[f64]) -> f64 {
    let difference: f64 = found.iter().zip(exact).map(|(f, e)| (f64::from(*f) - e).powi(2)).sum();
    (difference / exact.iter().map(|e| e * e).sum::<f64>()).sqrt()
}

fn cpu() -> Cpu {
    Cpu::new(dn_compute::cpu::Isa::Auto, 1).expect("one thread")
}

#[test]
fn linear_errs_by_the_rounding_of_activations_alone() {
    let (rows, cols, tokens) = (96, 896, 4);
    let mut rng = Rng(1);
    let w = QuantMatrix::from_f32(rows, cols, &rng.vector(rows * cols)).expect("finite");
    // Every hundredth channel, and by how much it stands out; the step of the integers is 2^-15 of the largest.
    for (outlier, bound) in [(1.0, 5e-5), (300.0, 4e-4)] {
        let mut x = rng.vector(tokens * cols);
        x.iter_mut().step_by(101).for_each(|x| *x *= outlier);
        let mut exact = Vec::new();
        for x in x.chunks_exact(cols) {
            exact.extend(
                (0..rows)
                    .map(|r| x.iter().enumerate().map(|(c, x)| f64::from(*x) * w.value(r, c)).sum::<f64>()),
            );
        }
        let cpu = cpu();
        let prepared = cpu.prepare(w.clone()).expect("valid");
        let mut out = vec![0.0; tokens * rows];
        cpu.linear(&[&prepared], &x, tokens, &mut [&mut out]).expect("valid");
        let error = relative(&out, &exact);
        assert!(error < bound, "outliers of {outlier}: {error:e}");
    }
}

#[test]
fn quantised_weights_err_as_eight_bits_do() {
    let (rows, cols) = (64, 960);
    let w = Rng(2).vector(rows * cols);
    let exact: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
    // A uniform step of amax / 127 over normal blocks: longer ones have larger maxima.
    for (length, bound) in BlockLength::ALL.into_iter().zip([5e-3, 6e-3, 7.5e-3, 9e-3]) {
        let m = QuantMatrix::from_f32_blocks(rows, cols, length, &w).expect("finite");
        let found: Vec<f32> = (0..rows * cols).map(|i| m.value(i / cols, i % cols) as f32).collect();
        let error = relative(&found, &exact);
        assert!(error < bound && error > bound / 2.0, "blocks of {length}: {error:e}");
    }
}

#[test]
fn rms_norm_errs_by_a_few_units_in_a_hundred_thousand() {
    let (cols, tokens) = (896, 5);
    let mut rng = Rng(3);
    let (x, weight) = (rng.vector(cols * tokens), rng.vector(cols));
    let mut exact = Vec::new();
    for x in x.chunks_exact(cols) {
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / cols as f64;
        exact
            .extend(x.iter().zip(&weight).map(|(x, w)| f64::from(*x) / (mean + 1e-6).sqrt() * f64::from(*w)));
    }
    let mut out = vec![0.0; x.len()];
    cpu().rms_norm(&weight, 1e-6, &x, &mut out).expect("valid");
    let error = relative(&out, &exact);
    assert!(error < 1e-6, "{error:e}");
}

#[test]
fn silu_errs_by_the_exponential_alone() {
    let mut rng = Rng(4);
    let (mut gate, up) = (rng.vector(5000), rng.vector(5000));
    let exact: Vec<f64> = gate
        .iter()
        .zip(&up)
        .map(|(g, u)| f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u))
        .collect();
    cpu().silu_mul(&mut gate, &up).expect("valid");
    let error = relative(&gate, &exact);
    assert!(error < 1.5e-5, "{error:e}");
}

#[test]
fn rope_is_as_good_as_f32_at_any_position() {
    for (theta, positions) in [(10_000.0f32, 8192), (1e6, 131_072)] {
        let spec = RopeSpec {
            head_dim: 64,
            rotary_dim: 64,
            theta,
            pairing: Pairing::HalfSplit,
            scaling: RopeScaling::None,
        };
        let table = RopeTable::new(spec, positions).expect("valid");
        for position in [0u32, 1, 7, 500, positions as u32 - 1] {
            let mut x = Rng(5).vector(64);
            let mut exact = vec![0.0; 64];
            for i in 0..32 {
                let angle = f64::from(position) * f64::from(theta).powf(-(i as f64) / 32.0);
                let (a, b) = (f64::from(x[i]), f64::from(x[i + 32]));
                exact[i] = a * angle.cos() - b * angle.sin();
                exact[i + 32] = a * angle.sin() + b * angle.cos();
            }
            cpu().rope(&table, &[position], &mut x).expect("valid");
            let error = relative(&x, &exact);
            assert!(error < 1e-7, "theta {theta}, position {position}: {error:e}");
        }
    }
}

/// Attention of one head in f64.
fn exact_attention(q: &[f32], k: &[f32], v: &[f32], d: usize) -> Vec<f64> {
    let dot = |k: &[f32]| q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
    let scores: Vec<f64> = k.chunks_exact(d).map(|k| dot(k) / (d as f64).sqrt()).collect();
    let top = scores.iter().copied().fold(f64::MIN, f64::max);
    let p: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let sum: f64 = p.iter().sum();
    (0..d)
        .map(|c| p.iter().zip(v.chunks_exact(d)).map(|(p, v)| p * f64::from(v[c])).sum::<f64>() / sum)
        .collect()
}

#[test]
fn attention_errs_below_a_thousandth_even_with_sinks() {
    let d = 64;
    for keys in [1usize, 20, 1000, 20_000] {
        // A spread of scores, a height of the first key in log2 units, a factor of its value.
        for (spread, sink, value) in
            [(0.3, 0.0, 1.0), (3.0, 0.0, 1.0), (1.0, 14.0, 1.0), (1.0, 14.0, 1e-3), (1.0, 22.0, 1e-3)]
        {
            let mut rng = Rng(6);
            let q = rng.vector(d);
            let mut k: Vec<f32> = rng.vector(keys * d).iter().map(|k| k * spread).collect();
            let mut v: Vec<f32> = rng.vector(keys * d).iter().map(|v| v + 0.3).collect();
            if sink > 0.0 {
                let norm: f32 = q.iter().map(|q| q * q).sum();
                for (k, q) in k.iter_mut().zip(&q) {
                    *k = q / norm * sink * std::f32::consts::LN_2 * (d as f32).sqrt();
                }
                v[..d].iter_mut().for_each(|v| *v *= value);
            }
            let cpu = cpu();
            let shape = KvShape { heads: 1, head_dim: d, capacity: keys };
            let mut kv = cpu.kv_layer(shape).expect("valid");
            cpu.kv_append(&mut kv, &k, &v).expect("room");
            let mut out = vec![0.0; d];
            cpu.attention(&kv, Mask::Causal, 1, keys - 1, &q, &mut out).expect("valid");
            let error = relative(&out, &exact_attention(&q, &k, &v, d));
            assert!(error < 1e-3, "{keys} keys, spread {spread}, sink {sink}, value {value}: {error:e}");
        }
    }
}
