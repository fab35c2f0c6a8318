//! Golden vectors from `tools/golden`, an independent generator in Python integers. Each file is pinned by its hash: a
//! changed vector is a new numeric specification.

use dn_compute::cpu::{Cpu, Isa};
use dn_compute::reference::Reference;
use dn_compute::spec::{
    Backend, BlockLength, KvShape, Mask, Op, Pairing, QuantMatrix, RopeScaling, RopeSpec, RopeTable,
    exp2::exp2_q16, float, quantise,
};
use dn_core::hash::{Hash32, blake3_256};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads a file and checks its hash.
pub(super) fn golden<T: DeserializeOwned>(name: &str, hash: &str) -> T {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).expect("a committed file");
    assert_eq!(Hash32(blake3_256(&[&bytes])).to_string(), hash, "{name}: pinned hash");
    serde_json::from_slice(&bytes).expect("the generator's form")
}

pub(super) fn backends() -> Vec<Box<dyn Backend>> {
    let cpus = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    let mut all: Vec<Box<dyn Backend>> = vec![Box::new(Reference)];
    all.extend(cpus.map(|isa| Box::new(Cpu::new(isa, 1).expect("available")) as Box<dyn Backend>));
    all
}

pub(super) fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|b| f32::from_bits(*b)).collect()
}

pub(super) fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|v| v.to_bits()).collect()
}

#[derive(Deserialize)]
struct Quantise {
    x: Vec<u32>,
    a: Vec<i16>,
    et: i32,
}

#[test]
fn activations() {
    let cases: Vec<Quantise> =
        golden("quantise", "0xd144a7097f2a557da5cfb9f152fefcf6df62204f4c5db127f31a046f38a6af14");
    assert!(cases.len() > 10);
    for case in cases {
        let mut a = vec![0; case.x.len()];
        let et = quantise::quantise(Op::Linear, "x", &floats(&case.x), &mut a).expect("in range");
        assert_eq!((a, et), (case.a, case.et));
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let nibble = |c: u8| (c as char).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes().chunks_exact(2).map(|c| nibble(c[0]) << 4 | nibble(c[1])).collect()
}

#[derive(Deserialize)]
struct Weights {
    from: String,
    block: u8,
    rows: usize,
    cols: usize,
    input: String,
    tile: String,
}

#[test]
fn weights() {
    let cases: Vec<Weights> =
        golden("matrix", "0xe416ce5be6d6d1573e91e0648541dd4068e9fd0bf5aa1bd8b51449bd21594b06");
    assert!(cases.len() > 40);
    for Weights { from, block, rows, cols, input, tile } in cases {
        let input = unhex(&input);
        let matrix = match from.as_str() {
            "f32" => {
                let length = BlockLength::from_code(block).expect("a block length");
                QuantMatrix::from_f32_blocks(rows, cols, length, &words(&input)).expect("valid")
            }
            format => from_gguf(format, rows, cols, &input),
        };
        assert_eq!(matrix.tile_bytes(0..rows), unhex(&tile), "{from}, {rows} x {cols}");
    }
}

fn words(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn from_gguf(format: &str, rows: usize, cols: usize, bytes: &[u8]) -> QuantMatrix {
    let matrix = match format {
        "q8_0" => QuantMatrix::from_q8_0(rows, cols, bytes),
        "q4_0" => QuantMatrix::from_q4_0(rows, cols, bytes),
        "q4_k" => QuantMatrix::from_q4_k(rows, cols, bytes),
        "q5_k" => QuantMatrix::from_q5_k(rows, cols, bytes),
        "q6_k" => QuantMatrix::from_q6_k(rows, cols, bytes),
        other => panic!("{other}"),
    };
    matrix.expect("valid")
}

#[derive(Deserialize)]
struct Dequantised {
    from: String,
    rows: usize,
    cols: usize,
    input: String,
    values: String,
}

/// From the `gguf` package, which computes in f32: equal but for its rounding and that of 16 bits per scale.
#[test]
fn blocks_mean_what_the_gguf_package_says() {
    let cases: Vec<Dequantised> =
        golden("gguf_blocks", "0xf5665751acc3b1009aec7633011db5eace0348656a13864e4ca3c8005f92e8e0");
    assert_eq!(cases.len(), 5);
    for Dequantised { from, rows, cols, input, values } in cases {
        let (input, values) = (unhex(&input), words(&unhex(&values)));
        let w = from_gguf(&from, rows, cols, &input);
        let largest = f64::from(w.range().min.unsigned_abs().max(w.range().max.unsigned_abs()));
        let units = largest / 2.0 + if w.blocks().minima { 8.0 } else { 0.0 };
        for (i, value) in values.into_iter().enumerate() {
            let (row, col, value) = (i / cols, i % cols, f64::from(value));
            let bound = units * 2f64.powi(w.row_exponent(row)) + value.abs() / f64::from(1 << 23);
            let error = (w.value(row, col) - value).abs();
            assert!(error <= bound, "{from}, row {row}, column {col}: {value:e}, {error:e} > {bound:e}");
        }
    }
}

#[derive(Deserialize)]
struct Linear {
    rows: usize,
    cols: usize,
    tokens: usize,
    tile: String,
    x: serde_json::Value,
    out: Vec<u32>,
    /// The rows as f32, row-major; nothing for the longest.
    embedded: Vec<u32>,
}

#[test]
fn linear() {
    let cases: Vec<Linear> =
        golden("linear", "0x4feefe8f6390395d4f1c8fe6937621bc4966e65e9f40315b0781b659e900fe89");
    assert!(cases.len() > 25);
    for case in cases {
        let matrix =
            QuantMatrix::from_tile_bytes(case.rows, case.cols, &unhex(&case.tile)).expect("canonical");
        let x: Vec<u32> = match serde_json::from_value(case.x.clone()) {
            Ok(x) => x,
            Err(_) => {
                // Per token a value, and which multiples of a count are negated (0 is one of them, unless it is all).
                let short: Vec<(u32, usize)> = serde_json::from_value(case.x).expect("pairs");
                let sign = |i: usize, n: usize| u32::from(n < case.cols && i.is_multiple_of(n)) << 31;
                short.iter().flat_map(|(v, n)| (0..case.cols).map(move |i| v ^ sign(i, *n))).collect()
            }
        };
        for backend in backends() {
            let w = backend.prepare(matrix.clone()).expect("valid");
            let mut out = vec![0.0; case.out.len()];
            backend.linear(&[&w], &floats(&x), case.tokens, &mut [&mut out]).expect("valid");
            assert_eq!(bits(&out), case.out, "{}, {} x {}", backend.info(), case.rows, case.cols);
            if !case.embedded.is_empty() {
                let tokens: Vec<u32> = (0..case.rows as u32).collect();
                let mut out = vec![0.0; case.embedded.len()];
                backend.embed(&w, &tokens, &mut out).expect("valid");
                assert_eq!(bits(&out), case.embedded, "{}, {} x {}", backend.info(), case.rows, case.cols);
            }
        }
    }
}

#[derive(Deserialize)]
struct Exp2 {
    samples: Vec<(u32, u32)>,
    checksum: String,
}

#[test]
fn powers_of_two() {
    let golden: Exp2 = golden("exp2", "0x75681f216e0387fa7a2f26600030ab928e00e1b3258f6f323cb6eff46dd1562b");
    for (f, y) in golden.samples {
        assert_eq!(exp2_q16(f), y);
    }
    let step = |sum: u64, f| sum.wrapping_mul(0x100_0000_01b3).wrapping_add(u64::from(exp2_q16(f)));
    assert_eq!((0..65_536).fold(0, step).to_string(), golden.checksum);
}

#[derive(Deserialize)]
struct Roots {
    x: Vec<u32>,
    recip: Vec<u32>,
    rsqrt: Vec<u32>,
}

#[test]
fn reciprocals_and_roots() {
    let golden: Roots = golden("roots", "0x9c6b1c2faa32abe284f34e946d216bc32e21eb99e6ab4a87deea5801ed70b571");
    for (i, x) in floats(&golden.x).into_iter().enumerate() {
        assert_eq!(float::recip(x).to_bits(), golden.recip[i], "1 / {x}");
        assert_eq!(float::rsqrt(x).to_bits(), golden.rsqrt[i], "1 / sqrt({x})");
    }
}

#[test]
fn additions_and_multiplications() {
    let golden: Vec<[u32; 5]> =
        golden("float_glue", "0x707b38707c3a09fbc2dc92866e687506e28b5b5827d2a611b2ba45f183dc2100");
    assert!(golden.len() > 200);
    for [a, b, sum, difference, product] in golden {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        assert_eq!(float::add(x, y).to_bits(), sum, "{a:#x} + {b:#x}");
        assert_eq!(float::sub(x, y).to_bits(), difference, "{a:#x} - {b:#x}");
        assert_eq!(float::mul(x, y).to_bits(), product, "{a:#x} * {b:#x}");
    }
}

#[derive(Deserialize)]
struct RmsNorm {
    weight: Vec<u32>,
    eps: u32,
    x: Vec<u32>,
    out: Vec<u32>,
}

#[test]
fn rms_norm() {
    let cases: Vec<RmsNorm> =
        golden("rms_norm", "0x5e3bd9ef5829a0f6138b003e2e270e3d27a7fd6077c5522a30f36f4c2990114a");
    assert!(cases.len() > 5);
    for case in cases {
        for backend in backends() {
            let mut out = vec![0.0; case.x.len()];
            let eps = f32::from_bits(case.eps);
            backend.rms_norm(&floats(&case.weight), eps, &floats(&case.x), &mut out).expect("valid");
            assert_eq!(bits(&out), case.out, "{}", backend.info());
        }
    }
}

#[derive(Deserialize)]
struct Silu {
    gate: Vec<u32>,
    up: Vec<u32>,
    out: Vec<u32>,
}

#[test]
fn silu() {
    let golden: Silu = golden("silu", "0x7ae2930a39582edabef7a592da5e8ecd1dae9588801d14c11ccec77b6b7ab660");
    for backend in backends() {
        let mut gate = floats(&golden.gate);
        backend.silu_mul(&mut gate, &floats(&golden.up)).expect("finite");
        assert_eq!(bits(&gate), golden.out, "{}", backend.info());
    }
}

#[derive(Deserialize)]
struct Rope {
    head_dim: usize,
    rotary_dim: usize,
    theta: u32,
    interleaved: bool,
    position: u32,
    cos: Vec<u32>,
    sin: Vec<u32>,
    x: Vec<u32>,
    out: Vec<u32>,
}

#[test]
fn rope() {
    let cases: Vec<Rope> =
        golden("rope", "0x32e57fa17f49b6e711437966c456e0454502316bc3d3d4dcf80712169effcc62");
    assert!(cases.len() > 10);
    for case in cases {
        let pairing = if case.interleaved { Pairing::Interleaved } else { Pairing::HalfSplit };
        let (head_dim, rotary_dim, theta) = (case.head_dim, case.rotary_dim, f32::from_bits(case.theta));
        let table = RopeTable::new(
            RopeSpec { head_dim, rotary_dim, theta, pairing, scaling: RopeScaling::None },
            4096,
        )
        .expect("valid");
        for (i, [cos, sin]) in table.row(case.position).iter().enumerate() {
            assert_eq!([cos.to_bits(), sin.to_bits()], [case.cos[i], case.sin[i]]);
        }
        for backend in backends() {
            let mut x = floats(&case.x);
            backend.rope(&table, &[case.position], &mut x).expect("finite");
            assert_eq!(bits(&x), case.out, "{}", backend.info());
        }
    }
}

#[derive(Deserialize)]
struct Masks {
    d: usize,
    k: Vec<u32>,
    v: Vec<u32>,
    calls: Vec<Masked>,
}

#[derive(Deserialize)]
struct Masked {
    /// 0 for no mask.
    window: usize,
    position: usize,
    q: Vec<u32>,
    out: Vec<u32>,
}

#[test]
fn attention_masks() {
    let cases: Vec<Masks> =
        golden("attention_masks", "0x8c83592cd13341e392825d4f4437edcb27e439213063fc7a7c6f14f73d7a98be");
    for case in &cases {
        assert!(case.calls.len() > 50);
        for backend in backends() {
            let shape = KvShape { heads: 1, head_dim: case.d, capacity: 1000 };
            let mut kv = backend.kv_layer(shape).expect("valid");
            backend.kv_append(&mut kv, &floats(&case.k), &floats(&case.v)).expect("room");
            for Masked { window, position, q, out } in &case.calls {
                let mask = if *window == 0 { Mask::Full } else { Mask::Window { positions: *window } };
                let mut found = vec![0.0; case.d];
                backend.attention(&kv, mask, 1, *position, &floats(q), &mut found).expect("valid");
                assert_eq!(bits(&found), *out, "{}, {mask:?}, position {position}", backend.info());
            }
        }
    }
}

#[derive(Deserialize)]
struct Attention {
    d: usize,
    keys: usize,
    q: Vec<u32>,
    k: Vec<u32>,
    v: Vec<u32>,
    out: Vec<u32>,
}

#[test]
fn attention() {
    let cases: Vec<Attention> =
        golden("attention", "0xb66baf30409c4bfe284bbbb51f73f731e41fae8d7fdb937bd51cd7f25c075df9");
    assert!(cases.len() > 5);
    for case in cases {
        for backend in backends() {
            let shape = KvShape { heads: 1, head_dim: case.d, capacity: case.keys };
            let mut kv = backend.kv_layer(shape).expect("valid");
            backend.kv_append(&mut kv, &floats(&case.k), &floats(&case.v)).expect("room");
            let mut out = vec![0.0; case.d];
            backend
                .attention(&kv, Mask::Causal, 1, case.keys - 1, &floats(&case.q), &mut out)
                .expect("valid");
            assert_eq!(bits(&out), case.out, "{}, {} keys", backend.info(), case.keys);
        }
    }
}
