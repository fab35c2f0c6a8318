//! Files: forms that mean the same, and files that must be refused.

use dn_compute::encoder::{Encoder, EncoderError, EncoderFiles, EncoderModel, Pooling};
use dn_compute::formats::gguf::GgufWriter;
use dn_compute::spec::BlockLength;
use dn_compute::{EngineOptions, ModelError};
use proptest::prelude::*;
use safetensors::Dtype;

use super::random::{Files, Rng, words};

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
        f.config = f.config.replace(&format!("\"vocab_size\":{}", words().len()), "\"vocab_size\":20");
        let word = f.tensors.get_mut("embeddings.word_embeddings.weight").unwrap();
        *word = (vec![20, 48], word.1[..20 * 48].to_vec());
    });
    assert!(matches!(small, EncoderError::Vocabulary { rows: 20, .. }), "{small}");
}

#[test]
fn gguf_files_that_mean_something_else_are_refused() {
    let files = Files::new(6);
    let with = |change: fn(&mut GgufWriter)| {
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

/// A directory with the files of a model.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(6);
    std::fs::write(dir.path().join("config.json"), &files.config).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), &files.tokenizer).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), files.safetensors()).unwrap();
    dir
}

#[test]
fn modules_of_a_directory_are_read() {
    let dir = directory();
    let load = || EncoderModel::load(dir.path()).map(|model| model.front().id());
    let id = load().unwrap();
    let list = |kinds: &[(&str, &str)]| {
        let module = |(kind, path): &(&str, &str)| {
            let kind = format!("sentence_transformers.models.{kind}");
            serde_json::json!({"type": kind, "path": path})
        };
        let list: Vec<_> = kinds.iter().map(module).collect();
        std::fs::write(dir.path().join("modules.json"), serde_json::Value::from(list).to_string()).unwrap();
    };
    let first = [("Transformer", ""), ("Pooling", "1_Pooling")];
    list(&first);
    let error = load().expect_err("no pooling is there");
    assert!(matches!(&error, EncoderError::Read { path, .. } if path.ends_with("config.json")), "{error}");
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    let mean = r#"{"pooling_mode_mean_tokens":true}"#;
    std::fs::write(dir.path().join("1_Pooling/config.json"), mean).unwrap();
    assert_eq!(load().unwrap(), id);
    list(&[first[0], first[1], ("Normalize", "2_Normalize")]);
    assert_eq!(load().unwrap(), id, "embeddings are of length one in any case");
    list(&[first[0], first[1], ("Dense", "2_Dense"), ("Normalize", "3_Normalize")]);
    let error = load().expect_err("a layer that is not computed");
    assert!(matches!(error, EncoderError::Parameter { key: "modules.json", .. }), "{error}");
    assert!(error.to_string().contains("2_Dense"), "{error}");
}

#[test]
fn files_of_another_kind_and_overlong_ones_are_refused_unread() {
    for name in
        ["config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json"]
    {
        let dir = directory();
        let path = dir.path().join(name);
        let name = name.rsplit('/').next().unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _absent = std::fs::remove_file(&path);
        // A directory: opening a pipe would hang where this fails.
        std::fs::create_dir(&path).unwrap();
        let error = EncoderModel::load(dir.path()).expect_err("no file");
        assert!(
            matches!(&error, EncoderError::File(ModelError::NotAFile { path }) if path.ends_with(name)),
            "{error}"
        );
        std::fs::remove_dir(&path).unwrap();
        if name == "model.safetensors" {
            continue;
        }
        let limit = if name == "tokenizer.json" { 64 << 20 } else { 16 << 20 };
        std::fs::File::create(&path).unwrap().set_len(limit + 1).unwrap();
        let error = EncoderModel::load(dir.path()).expect_err("too long");
        assert!(
            matches!(&error, EncoderError::File(ModelError::FileSize { path, found, .. }) if path.ends_with(name) && *found == limit + 1),
            "{error}"
        );
    }
    let dir = directory();
    let path = dir.path().join("model.safetensors");
    // A header that promises more than the file has; then one with a byte too many behind its tensors.
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, (1u64 << 26).to_le_bytes()).unwrap();
    assert!(matches!(EncoderModel::load(dir.path()), Err(EncoderError::SafeTensors(_))));
    std::fs::write(&path, [good, vec![0]].concat()).unwrap();
    assert!(matches!(EncoderModel::load(dir.path()), Err(EncoderError::SafeTensors(_))));
    // A GGUF file with a length that no header has.
    let path = dir.path().join("model.gguf");
    let mut bytes = Files::new(6).gguf().finish();
    let at = bytes.windows(20).position(|w| w == b"general.architecture").unwrap() + 24;
    bytes[at + 3] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(2 << 30).unwrap();
    let error = EncoderModel::load(&path).expect_err("refused");
    assert!(error.to_string().contains("at most 134217728 allowed"), "{error}");
}

#[test]
fn a_gguf_file_is_lower_cased_unless_its_tokens_are_not() {
    let files = Files::new(6);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut tokens = words();
        change(&mut tokens);
        let phantom = |word: &String| match word.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None if word.starts_with('[') => word.clone(),
            None => format!("\u{2581}{word}"),
        };
        let mut w: GgufWriter = files.gguf().without_key("tokenizer.ggml.tokens");
        w.strings("tokenizer.ggml.tokens", tokens.iter().map(phantom).collect());
        let model = EncoderModel::from_gguf(&w.finish(), BlockLength::B32).unwrap();
        let encoder = Encoder::new(model, EngineOptions::default()).unwrap();
        move |text: &str| encoder.tokens(text).unwrap()
    };
    let id = |word: &str| words().iter().position(|w| w == word).unwrap() as u32;
    let the = [2, id("the"), 3];
    let uncased = with(&|_| {});
    assert_eq!((uncased("The"), uncased("th\u{e9}")), (the.to_vec(), the.to_vec()));
    // A capital in a special token says nothing, nor one that has no small letter.
    let special = with(&|tokens| tokens[4] = "[Unused]".to_owned());
    assert_eq!(special("The"), the);
    let marks = with(&|tokens| tokens[id("proof") as usize] = "<S>".to_owned());
    assert_eq!(marks("The"), the);
    let symbol = with(&|tokens| tokens[id("proof") as usize] = "\u{211d}".to_owned());
    assert_eq!(symbol("The"), the);
    let cased = with(&|tokens| tokens[id("proof") as usize] = "Th\u{e9}".to_owned());
    assert_eq!(cased("Th\u{e9}"), [2, id("proof"), 3]);
    assert_eq!(cased("the"), the);
    assert_eq!((cased("The"), cased("TH\u{c9}")), (vec![2, 1, 3], vec![2, 1, 3]));
}

#[test]
fn parts_of_words_are_marked_as_usual() {
    let error = changed(|f| {
        f.tokenizer = f
            .tokenizer
            .replace(r###""continuing_subword_prefix":"##""###, r#""continuing_subword_prefix":"@@""#);
    });
    assert!(
        matches!(&error, EncoderError::Parameter { key: "continuing_subword_prefix", found, .. } if found == "`@@`"),
        "{error}"
    );
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
