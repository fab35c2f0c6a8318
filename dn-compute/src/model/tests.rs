use std::io::Write;

use dn_core::blake3_256;
use dn_core::objects::RopeScaling;

use super::*;
use crate::formats::gguf::{GgufError, GgufWriter, TensorType, Value, ValueType};
use crate::testing::{Shape, encode};

fn id(shape: &Shape, seed: u64) -> ModelId {
    Model::from_bytes(shape.file(seed)).unwrap().id()
}

#[test]
fn identity_is_of_the_values_and_of_everything_else() {
    let shape = Shape::default();
    let model = Model::from_bytes(shape.file(1)).unwrap();
    assert_eq!(model.id(), id(&shape, 1));
    assert_ne!(model.id(), id(&shape, 2));
    assert_ne!(model.id(), id(&Shape { context: 64, ..shape.clone() }, 1));
    assert_eq!(model.manifest().hyperparameters.vocabulary, 131);
    assert!(model.manifest().hyperparameters.tied_embeddings);
    assert_eq!(model.front().name(), Some("random"));
    let untied = Model::from_bytes(Shape { tied: false, ..shape.clone() }.file(1)).unwrap();
    assert!(!untied.manifest().hyperparameters.tied_embeddings);
    // The name is not part of what a model is.
    let mut renamed = shape.metadata();
    renamed.string("general.description", "other");
    shape.tensors(&mut renamed, 1);
    assert_eq!(Model::from_bytes(renamed.finish()).unwrap().id(), model.id());
    // Nor is the type that the same values were stored in.
    let exact = Shape { kinds: &[TensorType::F16], ..shape.clone() };
    let as_f32 = Shape { kinds: &[TensorType::F32], ..shape };
    let halves = exact.file(1);
    let gguf = crate::formats::gguf::Gguf::parse(&halves).unwrap();
    let mut w = as_f32.metadata();
    for t in gguf.tensors() {
        let bytes = &halves[t.start as usize..(t.start + t.size) as usize];
        let numbers = weights::vector(t.kind, t.shape.iter().product::<u64>() as usize, bytes).unwrap();
        w.tensor(&t.name, &t.shape, TensorType::F32, encode(TensorType::F32, &numbers));
    }
    assert_eq!(Model::from_bytes(w.finish()).unwrap().id(), Model::from_bytes(halves).unwrap().id());
}

#[test]
fn every_format_of_blocks_gives_near_weights() {
    let kinds = &[TensorType::Q4K, TensorType::Q6K, TensorType::Q5K, TensorType::Q4_0, TensorType::Q8_0];
    let shape = Shape { width: 256, ffn: 512, heads: 4, head_size: 64, kinds, ..Shape::default() };
    let quantised = Model::from_bytes(shape.file(8)).unwrap();
    let exact = Model::from_bytes(Shape { kinds: &[TensorType::F32], ..shape }.file(8)).unwrap();
    let mut minima = 0;
    for entry in exact.files.entries.iter() {
        let (Tensor::Matrix(a), Tensor::Matrix(b)) =
            (exact.tensor(entry.slot).unwrap(), quantised.tensor(entry.slot).unwrap())
        else {
            continue;
        };
        minima += usize::from(b.blocks().minima);
        let (mut error, mut size) = (0.0, 0.0);
        for (row, col) in (0..a.rows()).flat_map(|r| (0..a.cols()).map(move |c| (r, c))) {
            error += (a.value(row, col) - b.value(row, col)).powi(2);
            size += a.value(row, col).powi(2);
        }
        let relative = f64::sqrt(error / size);
        assert!(relative < 0.1, "{:?}: {relative}", entry.slot);
    }
    assert!(minima > 3, "{minima}");
    let root = quantised.manifest().tensors_root;
    let (tile, proof) = quantised.prove_tile(0).unwrap();
    assert_eq!(proof.verify(root, &tile.to_bytes()), Ok(()));
    assert_ne!(quantised.coarsened(3).unwrap().id(), quantised.id());
}

#[test]
fn a_file_is_read_as_bytes_in_memory_are() {
    let bytes = Shape::default().file(5);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let model = Model::load(file.path()).unwrap();
    assert_eq!(model.id(), Model::from_bytes(bytes.clone()).unwrap().id());
    let front = ModelFront::load(file.path()).unwrap();
    assert_eq!((front.context(), front.vocabulary(), front.architecture()), (128, 131, "llama"));
    assert!(matches!(front.chat_prompt(&[]), Err(crate::ChatError::Missing)));
    // A header longer than the first read.
    let mut long = Shape::default().metadata();
    long.string("long", &"x".repeat(3 << 20));
    Shape::default().tensors(&mut long, 5);
    std::fs::write(file.path(), long.finish()).unwrap();
    assert_eq!(Model::load(file.path()).unwrap().id(), model.id());
    // One bit of a length, in a file long enough for it: the header is not read for as long as it says.
    let mut damaged = bytes.clone();
    let name = damaged.windows(6).position(|w| w == b"random").unwrap();
    damaged[name - 5] ^= 0x40;
    std::fs::write(file.path(), damaged).unwrap();
    file.as_file().set_len(2 << 30).unwrap();
    let refused = Model::load(file.path()).unwrap_err();
    assert!(matches!(refused, ModelError::Gguf(GgufError::HeaderSize { .. })), "{refused}");
    // Every prefix is refused, as a file too.
    for cut in [0, 3, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(file.path(), &bytes[..cut]).unwrap();
        assert!(matches!(Model::load(file.path()), Err(ModelError::Gguf(_))), "{cut}");
    }
    let missing = Model::load(Path::new("no/such/file.gguf")).unwrap_err();
    assert!(missing.to_string().contains("no/such/file.gguf"), "{missing}");
    let empty = tempfile::tempdir().unwrap();
    let refused = Model::load(empty.path()).unwrap_err();
    assert!(refused.to_string().contains("holds 0 model files"), "{refused}");
}

#[test]
fn a_file_that_changes_after_loading_is_refused() {
    let bytes = Shape::default().file(5);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let model = Model::load(file.path()).unwrap();
    assert!(model.tensor(Slot::Output).is_err(), "a tied model has none");
    assert!(model.tensor(Slot::Embedding).is_ok());
    let mut other = bytes.clone();
    let at = model.files.entries[0].start as usize + 10;
    other[at] ^= 0x40;
    std::fs::write(file.path(), &other).unwrap();
    assert!(
        matches!(model.tensor(Slot::Embedding), Err(ModelError::Changed { name }) if name == "token_embd.weight")
    );
    assert!(model.tensor(Slot::Query(0)).is_ok());
    std::fs::write(file.path(), &bytes[..200]).unwrap();
    assert!(matches!(model.tensor(Slot::Query(0)), Err(ModelError::Read { .. })));
}

#[test]
fn tiles_open_against_the_identity() {
    let shape = Shape { vocabulary: 3001, ..Shape::default() };
    let model = Model::from_bytes(shape.file(6)).unwrap();
    let root = model.manifest().tensors_root;
    let mut count = 0;
    while let Some((tile, proof)) = model.prove_tile(count) {
        assert_eq!(proof.verify(root, &tile.to_bytes()), Ok(()));
        count += 1;
    }
    // Rows of 64 columns take 70 bytes: 468 to a tile. 18 tensors come in one tile, the embedding in 7.
    assert_eq!(count, 7 + 19);
    let (tile, _) = model.prove_tile(1).unwrap();
    assert_eq!((tile.tensor, tile.first_row, tile.rows, tile.cols), (0, 468, 468, 64));
    let Tensor::Matrix(embedding) = model.tensor(Slot::Embedding).unwrap() else { panic!("a matrix") };
    assert_eq!(tile.hash.0, blake3_256(&[&embedding.tile_bytes(468..936)]));
}

#[test]
fn coarser_weights_are_other_weights_near_by() {
    let model = Model::from_bytes(Shape::default().file(7)).unwrap();
    for bits in [0, 1, 8] {
        assert!(matches!(model.coarsened(bits), Err(ModelError::Bits { .. })));
    }
    let values = |m: &Model| match m.tensor(Slot::Gate(1)).unwrap() {
        Tensor::Matrix(m) => {
            (0..96).flat_map(|r| (0..64).map(move |c| (r, c))).map(|(r, c)| m.value(r, c)).collect()
        }
        Tensor::Vector(_) => Vec::new(),
    };
    let exact = values(&model);
    let distance = |bits| {
        let coarse = model.coarsened(bits).unwrap();
        assert_ne!(coarse.id(), model.id());
        assert_eq!(coarse.front().name(), model.front().name());
        let square: f64 = exact.iter().zip(values(&coarse)).map(|(a, b)| (a - b).powi(2)).sum();
        (square / exact.iter().map(|a| a * a).sum::<f64>()).sqrt()
    };
    let (four, two) = (distance(4), distance(2));
    assert!(four > 0.005 && four < 0.15 && two > 2.0 * four, "{four} {two}");
}

/// A file with a change to its metadata or tensors.
fn altered(change: impl FnOnce(&mut GgufWriter)) -> ModelError {
    let shape = Shape::default();
    let mut w = shape.metadata();
    shape.tensors(&mut w, 1);
    change(&mut w);
    Model::from_bytes(w.finish()).unwrap_err()
}

fn with_key(name: &str, value: Value) -> ModelError {
    // The first of two equal keys would be an error of its own: leave the old one out.
    let shape = Shape::default();
    let mut full = shape.metadata();
    shape.tensors(&mut full, 1);
    let mut w = full.without_key(name);
    w.key(name, value);
    Model::from_bytes(w.finish()).unwrap_err()
}

fn number(n: u64) -> Value {
    Value::Unsigned(ValueType::U32, n)
}

#[test]
fn parameters_that_make_no_sense_are_named() {
    let key = |name: &str, value: Value| match with_key(name, value) {
        ModelError::Parameter { key, .. } => assert_eq!(key, name),
        other => panic!("{name}: {other}"),
    };
    key("llama.block_count", number(0));
    key("llama.block_count", number(1 << 30));
    key("llama.embedding_length", number(1 << 20));
    key("llama.attention.head_count", number(0));
    key("llama.attention.head_count_kv", number(3));
    key("llama.attention.value_length", number(8));
    key("llama.rope.dimension_count", number(15));
    key("llama.rope.dimension_count", number(32));
    key("llama.rope.freq_base", Value::F32(f32::NAN));
    key("llama.rope.freq_base", Value::F32(0.5));
    key("llama.attention.layer_norm_rms_epsilon", Value::F32(f32::INFINITY));
    key("llama.attention.layer_norm_rms_epsilon", Value::F32(0.0));
    let kind = with_key("llama.context_length", Value::Bool(true));
    assert!(matches!(kind, ModelError::Gguf(GgufError::KeyType { .. })));
    let arch = with_key("general.architecture", Value::String("gpt9".into()));
    assert!(matches!(arch, ModelError::Architecture { found } if found == "gpt9"));
    assert!(matches!(Model::from_bytes(GgufWriter::new().finish()), Err(ModelError::Gguf(_))));
}

#[test]
fn what_would_be_ignored_is_refused() {
    let feature = |error: ModelError| match error {
        ModelError::Feature { key, .. } => key,
        other => panic!("{other}"),
    };
    feature(with_key("llama.expert_count", number(8)));
    feature(with_key("llama.attention.sliding_window_pattern", number(6)));
    feature(with_key("llama.rope.scaling.yarn_ext_factor", Value::F32(0.5)));
    feature(with_key("llama.logit_scale", Value::F32(0.5)));
    for key in ["llama.attn_logit_softcapping", "llama.final_logit_softcapping"] {
        assert_eq!(feature(with_key(key, Value::F32(1.0))), key);
    }
    assert_eq!(feature(with_key("llama.attention.causal", Value::Bool(false))), "llama.attention.causal");
    let mut neutral = Shape::default().metadata();
    neutral.bool("llama.attention.causal", true).f32("llama.final_logit_softcapping", 0.0);
    Shape::default().tensors(&mut neutral, 1);
    assert_eq!(Model::from_bytes(neutral.finish()).unwrap().id(), id(&Shape::default(), 1));
    let both = altered(|w| {
        w.tensor("rope_freqs.weight", &[8], TensorType::F32, encode(TensorType::F32, &[1.0; 8]));
        w.f32("llama.rope.scale_linear", 4.0);
    });
    assert_eq!(feature(both), "llama.rope.scaling.type");
    let kind = with_key("llama.rope.scaling.type", Value::String("longrope".into()));
    assert!(matches!(kind, ModelError::Gguf(GgufError::MissingKey { .. })));
    let none = with_key("llama.rope.scale_linear", Value::F32(1e30));
    assert!(matches!(none, ModelError::Rope(_)), "{none}");
    let extra = altered(|w| {
        w.tensor("blk.0.ffn_up.bias", &[96], TensorType::F32, vec![0; 384]);
    });
    assert!(matches!(extra, ModelError::UnexpectedTensor { name, .. } if name == "blk.0.ffn_up.bias"));
    let one_bias = altered(|w| {
        w.tensor("blk.0.attn_q.bias", &[64], TensorType::F32, vec![0; 256]);
    });
    assert!(matches!(one_bias, ModelError::MissingTensor { name } if name == "blk.0.attn_k.bias"));
}

#[test]
fn positions_are_stretched_as_the_file_says() {
    let scaling = |change: &dyn Fn(&mut GgufWriter)| {
        let shape = Shape { layers: 1, ..Shape::default() };
        let mut w = shape.metadata();
        shape.tensors(&mut w, 1);
        change(&mut w);
        let model = Model::from_bytes(w.finish()).unwrap();
        (model.manifest().hyperparameters.clone(), model)
    };
    let linear = RopeScaling::Linear { factor_bits: 4f32.to_bits() };
    let (old, _) = scaling(&|w| {
        w.f32("llama.rope.scale_linear", 4.0);
    });
    let (new, _) = scaling(&|w| {
        w.string("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 4.0);
    });
    assert_eq!((old.rope_scaling, new.rope_scaling), (linear, linear));
    let (yarn, _) = scaling(&|w| {
        w.string("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 2.0);
        w.u32("llama.rope.scaling.original_context_length", 64).u32("llama.attention.sliding_window", 16);
    });
    assert!(matches!(yarn.rope_scaling, RopeScaling::Yarn { original_context: 64, .. }));
    assert_eq!(yarn.window, Some(16));
    let factors = [1.0, 1.0, 1.5, 2.0, 8.0, 8.0, 8.0, 1e30];
    let (h, model) = scaling(&|w| {
        w.tensor("rope_freqs.weight", &[8], TensorType::F32, encode(TensorType::F32, &factors));
    });
    assert_eq!(h.rope_scaling, RopeScaling::Factors {});
    let Ok(Tensor::Vector(found)) = model.tensor(Slot::RopeFactors) else { panic!("a vector") };
    assert_eq!(found, factors);
    // Another factor is another model.
    let (_, other) = scaling(&|w| {
        w.tensor("rope_freqs.weight", &[8], TensorType::F32, encode(TensorType::F32, &[1.0; 8]));
    });
    assert_ne!(other.id(), model.id());
    let logits = |model: Model| {
        let engine = crate::Engine::new(Arc::new(model), crate::EngineOptions::default()).unwrap();
        engine.logits(&[1, 2, 3, 4]).unwrap()
    };
    let (other, stretched) = (logits(other), logits(model));
    assert_eq!(other[..131], stretched[..131], "the first position does not turn");
    assert_ne!(other[131..], stretched[131..]);
    let (_, bad) = scaling(&|w| {
        w.tensor("rope_freqs.weight", &[8], TensorType::F32, encode(TensorType::F32, &[0.0; 8]));
    });
    let engine = crate::Engine::new(Arc::new(bad), crate::EngineOptions::default());
    assert!(matches!(engine, Err(crate::EngineError::Numeric(_))));
}

#[test]
fn tensors_are_there_and_of_the_right_shape_and_finite() {
    let shape = Shape::default();
    let missing = Model::from_bytes(Shape { layers: 1, ..shape.clone() }.metadata().finish()).unwrap_err();
    assert!(matches!(missing, ModelError::MissingTensor { name } if name == "token_embd.weight"));
    let wider = with_key("llama.feed_forward_length", number(128));
    assert!(matches!(wider, ModelError::TensorShape { name, .. } if name == "blk.0.ffn_gate.weight"));
    let fewer = with_key("llama.block_count", number(3));
    assert!(matches!(fewer, ModelError::MissingTensor { name } if name == "blk.2.attn_norm.weight"));
    let good = Shape { kinds: &[TensorType::F32], ..shape }.file(3);
    let gguf = crate::formats::gguf::Gguf::parse(&good).unwrap();
    for (name, bits) in [("blk.1.ffn_up.weight", f32::NAN), ("token_embd.weight", f32::NEG_INFINITY)] {
        let mut bad = good.clone();
        let at = gguf.tensor(name).unwrap().start as usize + 4 * 70;
        bad[at..at + 4].copy_from_slice(&bits.to_le_bytes());
        let error = Model::from_bytes(bad).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("tensor `{name}`: weight at row 1, column 6 is not a finite number")
        );
    }
    let mut bad = good;
    let at = gguf.tensor("output_norm.weight").unwrap().start as usize + 4 * 3;
    bad[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = Model::from_bytes(bad).unwrap_err();
    assert!(matches!(error, ModelError::NonFinite { index: 3, .. }), "{error}");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    /// What the fuzz target runs: no change of a file makes loading panic.
    #[test]
    fn no_changed_file_panics(changes in proptest::collection::vec((0usize..4000, proptest::prelude::any::<u8>()), 1..6)) {
        let mut bytes = Shape { layers: 1, vocabulary: 40, ..Shape::default() }.file(1);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Ok(model) = Model::from_bytes(bytes) {
            proptest::prop_assert_eq!(model.front().vocabulary(), 40);
        }
    }
}
