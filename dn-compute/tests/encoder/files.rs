//! Files: forms that mean the same, and files that must be refused.

use dn_compute::EngineOptions;
use dn_compute::encoder::{Encoder, EncoderError, EncoderFiles, EncoderModel, Pooling};
use dn_compute::spec::BlockLength;
use proptest::prelude::*;
use safetensors::Dtype;

use super::random::{Files, Rng};

fn changed(change: impl Fn(&mut Files)) -> EncoderError {
    let mut files = Files::new(6);
    change(&mut files);
    files.model().expect_err("refused")
}

#[test]
fn a_gguf_file_is_the_same_model_with_the_same_texts() {
    let files = Files::new(6);
    let plain = files.model().unwrap();
    let gguf = EncoderModel::from_gguf(&files.gguf().finish(), BlockLength::B32).unwrap();
    let (a, b) = (plain.front(), gguf.front());
    assert_eq!(a.manifest().tensors_root, b.manifest().tensors_root);
    assert_eq!(a.hyperparameters(), b.hyperparameters());
    assert_ne!(a.id(), b.id(), "the tokenizers come from other bytes");
    let options = EngineOptions::default();
    let (a, b) = (Encoder::new(plain, options).unwrap(), Encoder::new(gguf, options).unwrap());
    for text in ["", "The networks, proofs!", "zebra ☂ 人 [CLS] É", &"word ".repeat(20)] {
        let tokens = a.tokens_cut(text).unwrap();
        assert_eq!(tokens, b.tokens_cut(text).unwrap(), "{text}");
        assert_eq!(a.embed(&[&tokens]).unwrap(), b.embed(&[&tokens]).unwrap());
    }
}

#[test]
fn names_of_other_writers_are_the_same_model() {
    let files = Files::new(6);
    let id = files.model().unwrap().front().id();
    let mut headed = files.clone();
    headed.tensors = files.tensors.iter().map(|(k, v)| (format!("bert.{k}"), v.clone())).collect();
    headed.tensors.insert("cls.predictions.bias".to_owned(), (vec![3], vec![0.5; 3]));
    assert_eq!(headed.model().unwrap().front().id(), id);
    let mut old = files.clone();
    let rename = |k: &str| {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    };
    old.tensors = files.tensors.iter().map(|(k, v)| (rename(k), v.clone())).collect();
    old.tensors.insert("pooler.dense.bias".to_owned(), (vec![3], vec![0.5; 3]));
    assert_eq!(old.model().unwrap().front().id(), id);
}

#[test]
fn everything_that_changes_the_output_is_in_the_identity() {
    let id = |files: &Files| files.model().unwrap().front().id();
    let files = Files::new(6);
    let first = r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#.to_owned();
    let pooled = Files { pooling: Some(first), ..files.clone() };
    assert_eq!(pooled.model().unwrap().front().hyperparameters().pooling, Pooling::First);
    assert_ne!(id(&pooled), id(&files));
    for name in files.tensors.keys() {
        let mut other = files.clone();
        let values = &mut other.tensors.get_mut(name).unwrap().1;
        values[5] += 0.25;
        assert_ne!(id(&other), id(&files), "{name}");
    }
    let mut other = files.clone();
    other.tokenizer = other.tokenizer.replace("\"lowercase\":true", "\"lowercase\":false");
    assert_ne!(id(&other), id(&files));
    for block in [BlockLength::B128, BlockLength::Row] {
        let blocks = EncoderModel::from_gguf(&files.gguf().finish(), block).unwrap();
        let usual = EncoderModel::from_gguf(&files.gguf().finish(), BlockLength::B32).unwrap();
        assert_ne!(blocks.front().id(), usual.front().id(), "{block}");
    }
    let model = files.model().unwrap();
    let (tile, proof) = model.front().prove_tile(3).unwrap();
    let leaf = dn_core::Canonical::to_bytes(&tile);
    proof.verify(model.front().manifest().tensors_root, &leaf).unwrap();
    assert!(model.front().prove_tile(1 << 40).is_none());
}

#[test]
fn configurations_that_mean_something_else_are_refused() {
    let config = |from: &'static str, to: &'static str| {
        changed(move |f| {
            assert!(f.config.contains(from), "{from}");
            f.config = f.config.replace(from, to);
        })
    };
    assert!(
        matches!(config("\"bert\"", "\"roberta\""), EncoderError::Architecture { found } if found == "roberta")
    );
    for (from, to) in [
        ("\"gelu\"", "\"gelu_new\""),
        ("\"absolute\"", "\"relative_key\""),
        ("\"num_attention_heads\":4", "\"num_attention_heads\":5"),
        ("\"num_attention_heads\":4", "\"num_attention_heads\":16"),
        ("\"num_hidden_layers\":2", "\"num_hidden_layers\":0"),
        ("\"num_hidden_layers\":2", "\"num_hidden_layers\":4000000000"),
        ("\"hidden_size\":48", "\"hidden_size\":-1"),
        ("\"hidden_size\":48", "\"hidden_size\":1e300"),
        ("\"hidden_size\":48", "\"hidden_sizes\":48"),
        ("1e-12", "0"),
        ("1e-12", "1e-60"),
        ("1e-12", "2.5"),
        ("{\"model_type\"", "{\"is_decoder\":true,\"model_type\""),
    ] {
        assert!(
            matches!(config(from, to), EncoderError::Parameter { .. }),
            "{from} {to}: {}",
            config(from, to)
        );
    }
    for pooling in ["{}", "[]", r#"{"pooling_mode_max_tokens":true}"#] {
        let error = changed(|f| f.pooling = Some(pooling.to_owned()));
        assert!(matches!(error, EncoderError::Parameter { key: "pooling_mode", .. }), "{error}");
    }
    assert!(matches!(
        changed(|f| f.pooling = Some("{".to_owned())),
        EncoderError::Json { file: "1_Pooling/config.json", .. }
    ));
    assert!(matches!(changed(|f| f.config.truncate(40)), EncoderError::Json { file: "config.json", .. }));
    assert!(matches!(changed(|f| f.tokenizer.truncate(40)), EncoderError::Tokenizer(_)));
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let query = "encoder.layer.1.attention.self.query.weight";
    let of = |name: &str, f: fn(&mut (Vec<usize>, Vec<f32>))| {
        let name = name.to_owned();
        changed(move |files| f(files.tensors.get_mut(&name).unwrap()))
    };
    let missing = changed(|f| drop(f.tensors.remove(query)));
    assert!(matches!(missing, EncoderError::MissingTensor { name } if name == query));
    let shape = of(query, |t| t.0 = vec![24, 96]);
    assert!(matches!(shape, EncoderError::TensorShape { name, expected, found }
        if name == query && expected == [48, 48] && found == [24, 96]));
    for value in [f32::NAN, f32::INFINITY] {
        let mut files = Files::new(6);
        files.tensors.get_mut(query).unwrap().1[100] = value;
        assert!(matches!(files.model(), Err(EncoderError::Matrix { name, .. }) if name == query));
        let bias = "embeddings.LayerNorm.bias";
        files = Files::new(6);
        files.tensors.get_mut(bias).unwrap().1[7] = value;
        assert!(matches!(files.model(), Err(EncoderError::NonFinite { name, index: 7 }) if name == bias));
    }
    let other = changed(|f| drop(f.tensors.insert("encoder.layer.2.extra".to_owned(), (vec![1], vec![0.0]))));
    assert!(matches!(other, EncoderError::UnexpectedTensor { name } if name == "encoder.layer.2.extra"));
    assert!(matches!(changed(|f| f.dtype = Dtype::I64), EncoderError::TensorType { .. }));
    let small = changed(|f| {
        f.config = f
            .config
            .replace(&format!("\"vocab_size\":{}", super::random::words().len()), "\"vocab_size\":20");
        let word = f.tensors.get_mut("embeddings.word_embeddings.weight").unwrap();
        *word = (vec![20, 48], word.1[..20 * 48].to_vec());
    });
    assert!(matches!(small, EncoderError::Vocabulary { rows: 20, .. }), "{small}");
}

#[test]
fn gguf_files_that_mean_something_else_are_refused() {
    let files = Files::new(6);
    let with = |change: fn(&mut dn_compute::formats::gguf::GgufWriter)| {
        let mut w = files.gguf();
        change(&mut w);
        EncoderModel::from_gguf(&w.finish(), BlockLength::B32).expect_err("refused")
    };
    let mut w = files.gguf().without_key("general.architecture");
    w.string("general.architecture", "nomic-bert");
    assert!(matches!(
        EncoderModel::from_gguf(&w.finish(), BlockLength::B32),
        Err(EncoderError::Architecture { .. })
    ));
    for key in
        ["bert.block_count", "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.cls_token_id"]
    {
        assert!(
            EncoderModel::from_gguf(&files.gguf().without_key(key).finish(), BlockLength::B32).is_err(),
            "{key}"
        );
    }
    let mut w = files.gguf().without_key("bert.pooling_type");
    w.u32("bert.pooling_type", 3);
    let error = EncoderModel::from_gguf(&w.finish(), BlockLength::B32).expect_err("refused");
    assert!(matches!(error, EncoderError::Parameter { key: "bert.pooling_type", .. }), "{error}");
    let error = with(|w| {
        w.tensor("cls.weight", &[32], dn_compute::formats::gguf::TensorType::F32, vec![0; 128]);
    });
    assert!(matches!(error, EncoderError::UnexpectedTensor { .. }), "{error}");
}

#[test]
fn a_directory_is_loaded_and_a_missing_file_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(6);
    std::fs::write(dir.path().join("config.json"), &files.config).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), &files.tokenizer).unwrap();
    let error = EncoderModel::load(dir.path()).expect_err("no tensors");
    assert!(matches!(error, EncoderError::Read { path, .. } if path.ends_with("model.safetensors")));
    std::fs::write(dir.path().join("model.safetensors"), files.safetensors()).unwrap();
    let id = files.model().unwrap().front().id();
    assert_eq!(EncoderModel::load(dir.path()).unwrap().front().id(), id);
    let gguf = dir.path().join("model.gguf");
    std::fs::write(&gguf, files.gguf().finish()).unwrap();
    assert!(EncoderModel::load(&gguf).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_never_panic(seed in any::<u64>(), which in 0usize..4, cut in any::<bool>()) {
        let files = Files::new(6);
        let mut parts = [files.config.clone().into_bytes(), files.tokenizer.clone().into_bytes(), files.safetensors(),
            files.gguf().finish()];
        let mut rng = Rng(seed);
        let part = &mut parts[which];
        // Mostly in the first bytes, where the structure is.
        let span = if rng.next().is_multiple_of(4) { part.len() } else { part.len().min(4000) };
        if cut {
            part.truncate((rng.next() % span as u64) as usize);
        }
        for _ in 0..1 + rng.next() % 3 {
            let at = (rng.next() % span as u64) as usize;
            if let Some(byte) = part.get_mut(at) {
                *byte = rng.next() as u8;
            }
        }
        let [config, tokenizer, tensors, gguf] = &parts;
        if which == 3 {
            let _outcome = EncoderModel::from_gguf(gguf, BlockLength::B32).map(drop);
        } else {
            let _outcome = EncoderModel::from_files(&EncoderFiles { config, pooling: None, tokenizer, tensors, block: BlockLength::B32 }).map(drop);
        }
    }
}
