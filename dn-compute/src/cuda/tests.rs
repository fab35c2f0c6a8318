//! The backend over the emulated card: the conformance suite, whole layers, a whole model, and memory that is used up.

use std::time::Instant;

use super::emulation::{Emulation, emulated};
use super::{Cuda, CudaError};
use crate::conformance;
use crate::reference::Reference;
use crate::spec::{
    Backend, DeviceFault, KvLayer, KvShape, LayerWeights, Mask, NumericError, Pairing, PassCall, PassPart,
    PassValues, QuantMatrix, RopeScaling, RopeSpec, RopeTable,
};
use crate::verdict::{Refusal, Subject};

fn suite(card: &Cuda, every: usize, what: &str) -> conformance::Report {
    let started = Instant::now();
    match conformance::sample(card, every) {
        Ok(report) => {
            println!("{what}, one of {every}: {report:?} in {:.1?}", started.elapsed());
            report
        }
        Err(mismatch) => panic!("{what}: {mismatch}"),
    }
}

#[test]
fn every_case_with_tiles() {
    let Some(card) = emulated(Emulation::default()) else { return };
    let report = suite(&card, 1, "with tiles");
    assert!(report.outputs > 1_000_000 && report.refusals > 50 && report.layers > 10, "{report:?}");
}

#[test]
fn an_older_card_without_tiles() {
    let Some(card) = emulated(Emulation { tiles: false, ..Emulation::default() }) else { return };
    suite(&card, 3, "without tiles");
}

/// Small limits: every call in many parts.
#[test]
fn parts_give_the_same_bits() {
    let options = Emulation { max_launch_words: Some(1 << 10), ..Emulation::default() };
    let Some(card) = emulated(options) else { return };
    suite(&card, 5, "in parts");
}

#[test]
fn a_full_card_is_an_error_of_its_own_and_the_next_call_works() {
    let Some(card) = emulated(Emulation { memory: 1 << 20, ..Emulation::default() }) else { return };
    // Values of eight bits: of four it would hold twice as many.
    let weights = |rows| (0..rows * 64).map(|i| (i % 64) as f32 - 31.0).collect::<Vec<f32>>();
    let matrix = |rows| QuantMatrix::from_f32(rows, 64, &weights(rows)).unwrap();
    let (small, same) = (card.prepare(matrix(100)).unwrap(), Reference.prepare(matrix(100)).unwrap());
    let product = |backend: &dyn Backend, weights, tokens: usize| {
        let mut out = vec![0.0; tokens * 100];
        backend.linear(&[weights], &vec![1.0; tokens * 64], tokens, &mut [&mut out]).map(|()| out)
    };
    let full = |result: Result<(), NumericError>| match result {
        Err(NumericError::Device { device, fault, .. }) => {
            assert_eq!((&*device, fault), ("emulated card", DeviceFault::OutOfMemory));
        }
        other => panic!("{other:?}"),
    };
    full(card.prepare(matrix(20_000)).map(|_| ()));
    let multiply = |tokens| {
        let found = product(&card, &small, tokens)?;
        assert_eq!(found, product(&Reference, &same, tokens)?);
        Ok(())
    };
    full(multiply(5000));
    multiply(7).unwrap();
    // What an earlier call left over makes room for a later one of another size.
    for tokens in [150, 230, 310, 390, 470] {
        multiply(tokens).unwrap();
    }
    assert_eq!(card.failure(), None, "a call's want of memory is the call's");
}

/// Lost at any launch, a card is named; what was not done is not there.
#[test]
fn a_lost_card_fails_the_call_and_leaves_the_cache() {
    let shape = KvShape { heads: 2, head_dim: 8, capacity: 10 };
    let values = [0.25; 3 * 2 * 8];
    for lost_after in 0..9 {
        let Some(card) = emulated(Emulation { lost_after, ..Emulation::default() }) else { return };
        let mut kv = card.kv_layer(shape).unwrap();
        let mut out = [9.0; 3 * 2 * 8];
        let appended = card.kv_append(&mut kv, &values, &values);
        assert_eq!(kv.len(), if appended.is_ok() { 3 } else { 0 });
        let attended = appended.and_then(|()| card.attention(&kv, Mask::Causal, 2, 0, &values, &mut out));
        // One launch quantises what is appended, six do the rest.
        match attended {
            Err(NumericError::Device { device, fault, .. }) if lost_after < 7 => {
                assert_eq!((&*device, fault), ("emulated card", DeviceFault::Lost));
            }
            Ok(()) if lost_after >= 7 => assert!(out.iter().all(|v| (v - 0.25).abs() < 1e-3), "{out:?}"),
            other => panic!("{lost_after}: {other:?}"),
        }
        let failure = card.failure().map(|failure| failure.fault);
        assert_eq!(failure, (lost_after < 7).then_some(DeviceFault::Lost), "what is lost stays so");
    }
}

/// What the emulated card is for: mistakes that a real one may hide are seen. (Others end the program: an address out of range, a
/// barrier that not all threads reach, a shift too far.)
#[test]
fn mistakes_are_seen() {
    for change in [
        // The maximum of a row is read before all warps have written theirs.
        ("room[threadIdx.x / LANES] = v;\n  __syncthreads();", "room[threadIdx.x / LANES] = v;"),
        // A tile is multiplied before it is there.
        ("__syncthreads();\n    if (chunk + 1 < chunks) {", "if (chunk + 1 < chunks) {"),
        // The words of a fragment in another order.
        ("to[1] = from[(row + 8) * (LINE / 4) + word];", "to[1] = from[row * (LINE / 4) + word + 4];"),
        // Weights of the keys are used before all threads have computed theirs.
        ("__syncthreads();\n    if (c < n.padded) {", "if (c < n.padded) {"),
        // Of values of four bits: all blocks count from the same; halves of bytes change places; a carry goes to the next byte.
        ("block / 32] >> (block % 32) & 1", "block / 32] & 0"),
        ("bytes_of(v.x, v.y, least_of", "bytes_of(v.y, v.x, least_of"),
        ("(fours + (least & 0x7f7f7f7fu)) ^ (least & 0x80808080u)", "fours + least"),
        // The same on their way to a tile, and of a looked-up row.
        ("smaller(piece >> a.n[3], a.n[4] - 1)", "0"),
        ("place % 8 < 4 ? four & 15 : four >> 4", "four & 15"),
    ] {
        let Some(card) = emulated(Emulation { change: Some(change), ..Emulation::default() }) else { return };
        let seen = conformance::sample(&card, 11);
        assert!(seen.is_err(), "{change:?}");
    }
}

/// The verdict is the card's own, by everything that it depends on.
#[test]
fn a_card_is_compared_once_and_refused_for_one_wrong_bit() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Some(dir.path());
    let subject = |code: &str| Subject {
        backend: "cuda",
        device: "emulated card".into(),
        driver: "none".into(),
        code: code.into(),
    };
    let change =
        Some(("to[1] = from[(row + 8) * (LINE / 4) + word];", "to[1] = from[row * (LINE / 4) + word + 4];"));
    let Some(wrong) = emulated(Emulation { change, ..Emulation::default() }) else { return };
    let Err(CudaError::Refused(Refusal::Differs { device, driver, source })) =
        wrong.judge(cache, &subject("1"), false)
    else {
        panic!("a wrong card qualified")
    };
    assert_eq!((&*device, &*driver), ("emulated card", "none"));
    // Said again without being compared: this one would be right.
    let right = emulated(Emulation::default()).unwrap();
    let known = right.judge(cache, &subject("1"), false).unwrap_err();
    let text = known.to_string();
    assert!(matches!(known, CudaError::Refused(Refusal::Known { .. })), "{known:?}");
    assert!(
        text.contains("emulated card") && text.contains("none") && text.contains(&source.to_string()),
        "{text}"
    );
    assert!(text.contains("dn backends"), "{text}");
    // Other kernels are compared; after that a card that would be wrong is not compared either.
    right.judge(cache, &subject("2"), false).unwrap();
    wrong.judge(cache, &subject("2"), false).unwrap();
    let anew = wrong.judge(cache, &subject("2"), true);
    assert!(matches!(anew, Err(CudaError::Refused(Refusal::Differs { .. }))), "{anew:?}");
}

/// A value that a later layer cannot take: the pass says that it was not done, and nothing of the earlier layers stays.
#[test]
fn a_fault_in_a_later_layer_leaves_the_caches() {
    let Some(card) = emulated(Emulation::default()) else { return };
    let matrix = || {
        let w: Vec<f32> = (0..32 * 32).map(|i| (i % 7) as f32 * 0.01 - 0.03).collect();
        card.prepare(QuantMatrix::from_f32(32, 32, &w).unwrap()).unwrap()
    };
    let layer = |norm: f32| LayerWeights {
        attention_norm: vec![1.0; 32].into(),
        query: matrix(),
        key: matrix(),
        value: matrix(),
        biases: None,
        head_norms: None,
        attention_output: matrix(),
        output_bias: None,
        ffn_norm: vec![norm; 32].into(),
        gate: matrix(),
        up: matrix(),
        down: matrix(),
    };
    let pairing = Pairing::HalfSplit;
    let spec = RopeSpec { head_dim: 16, rotary_dim: 16, theta: 1e4, pairing, scaling: RopeScaling::None };
    let rope = RopeTable::new(spec, 8).unwrap();
    let shape = KvShape { heads: 2, head_dim: 16, capacity: 8 };
    let mut caches: Vec<KvLayer> = (0..3).map(|_| card.kv_layer(shape).unwrap()).collect();
    let before: Vec<f32> = (0..3 * 32).map(|i| (i % 5) as f32 - 2.0).collect();
    let mut pass = |bad: Option<usize>, positions: &[u32]| {
        let norm = |l| if bad == Some(l) { 3e38 } else { 1.0 };
        let layers: Vec<LayerWeights> = (0..3).map(|l| layer(norm(l))).collect();
        let (mask, rope) = (Mask::Causal, &rope);
        let call = PassCall {
            embedding: None,
            layers: &layers,
            output: None,
            eps: 1e-5,
            heads: 2,
            mask,
            rope,
            positions,
        };
        let mut x = before[..positions.len() * 32].to_vec();
        let mut parts = [PassPart { kv: &mut caches, rows: positions.len() }];
        let mut values = PassValues { stream: &mut x, boundaries: None, logits: &mut [] };
        let done = card.pass(&call, &mut parts, &mut values).unwrap();
        let lengths: Vec<usize> = caches.iter().map(KvLayer::len).collect();
        (done, x == before[..x.len()], lengths)
    };
    assert_eq!(pass(None, &[0, 1]), (true, false, vec![2; 3]));
    for bad in 0..3 {
        assert_eq!(pass(Some(bad), &[2, 3, 4]), (false, true, vec![2; 3]), "layer {bad}");
    }
    assert_eq!(pass(None, &[2, 3, 4]), (true, false, vec![5; 3]));
}

/// Values of four bits take half a byte, and a bit of a block where blocks count from two places.
#[test]
fn values_of_four_bits_stay_four_bits() {
    let Some(card) = emulated(Emulation::default()) else { return };
    let bytes = |least: i8, most: i8| {
        let q = (0..64 * 256).map(|i| if i / 32 % 2 == 0 { least } else { most } - (i % 2) as i8).collect();
        let matrix = QuantMatrix::from_parts(64, 256, q, vec![1 << 15; 64 * 8], vec![-20; 64]).unwrap();
        card.prepare(matrix).unwrap().memory_bytes()
    };
    let scales = 64 * (8 * 2 + 4);
    assert_eq!(bytes(5, 7), 64 * 256 / 2 + scales);
    assert_eq!(bytes(-7, 8), 64 * 256 / 2 + scales + 64 * 4, "-8 to 8");
    assert_eq!(bytes(-7, 9), 64 * 256 + scales, "-8 to 9");
}

#[cfg(feature = "embedded-model")]
#[path = "../../tests/common/model.rs"]
mod model;

#[cfg(feature = "embedded-model")]
#[test]
fn the_embedded_model_answers_as_on_the_cpu() {
    use std::sync::Arc;

    use crate::{Engine, EngineOptions};

    let Some(card) = emulated(Emulation::default()) else { return };
    let card: Arc<dyn Backend> = Arc::new(card);
    model::answers_as_on_the_cpu(|model| Engine::on(model, card, EngineOptions::default()), [12, 4]);
}
