//! A small random BERT, as files.

use std::collections::BTreeMap;

use dn_compute::EngineOptions;
pub(crate) use dn_compute::conformance::SplitMix64 as Rng;
use dn_compute::encoder::{Encoder, EncoderFiles, EncoderModel};
use dn_compute::formats::gguf::{GgufWriter, TensorType};
use dn_compute::spec::BlockLength;
use safetensors::{Dtype, tensor::TensorView};

pub(crate) const WIDTH: usize = 48;
const HEADS: usize = 4;
const FFN: usize = 80;
const LAYERS: usize = 2;
pub(crate) const CONTEXT: usize = 96;

/// The vocabulary, special tokens first.
pub(crate) fn words() -> Vec<String> {
    let mut words: Vec<String> =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].iter().map(|w| (*w).to_owned()).collect();
    words.extend(('a'..='z').map(String::from));
    words.extend(('a'..='z').map(|c| format!("##{c}")));
    words.extend(["the", "net", "##work", "proof", ".", ",", "!", "人"].map(str::to_owned));
    words
}

/// The files of a random model.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) config: String,
    pub(crate) pooling: Option<String>,
    pub(crate) tokenizer: String,
    /// Shape and values.
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    pub(crate) dtype: Dtype,
}

impl Files {
    pub(crate) fn new(seed: u64) -> Self {
        let vocabulary = words().len();
        let config = format!(
            r#"{{"model_type":"bert","hidden_act":"gelu","hidden_size":{WIDTH},"num_hidden_layers":{LAYERS},
            "num_attention_heads":{HEADS},"intermediate_size":{FFN},"max_position_embeddings":{CONTEXT},
            "type_vocab_size":2,"vocab_size":{vocabulary},"layer_norm_eps":1e-12,"position_embedding_type":"absolute"}}"#
        );
        let (tokenizer, tensors) = (tokenizer(&words()), tensors(seed, vocabulary));
        Self { config, pooling: None, tokenizer, tensors, dtype: Dtype::F32 }
    }

    pub(crate) fn safetensors(&self) -> Vec<u8> {
        let encode = |values: &[f32]| -> Vec<u8> {
            match self.dtype {
                Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
                Dtype::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
                Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                _ => vec![0; values.len() * 8],
            }
        };
        let data: Vec<_> =
            self.tensors.iter().map(|(name, (shape, values))| (name, shape, encode(values))).collect();
        let views = data.iter().map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(self.dtype, (*shape).clone(), bytes).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    pub(crate) fn model(&self) -> Result<EncoderModel, dn_compute::encoder::EncoderError> {
        EncoderModel::from_files(&EncoderFiles {
            config: self.config.as_bytes(),
            pooling: self.pooling.as_ref().map(String::as_bytes),
            tokenizer: self.tokenizer.as_bytes(),
            tensors: &self.safetensors(),
            block: BlockLength::B32,
        })
    }

    pub(crate) fn encoder(&self, options: EngineOptions) -> Encoder {
        Encoder::new(self.model().unwrap(), options).unwrap()
    }

    /// The same model in one GGUF file.
    pub(crate) fn gguf(&self) -> GgufWriter {
        let mut w = GgufWriter::new();
        w.string("general.architecture", "bert");
        for (key, value) in [
            ("bert.block_count", LAYERS),
            ("bert.context_length", CONTEXT),
            ("bert.embedding_length", WIDTH),
            ("bert.feed_forward_length", FFN),
            ("bert.attention.head_count", HEADS),
            ("bert.pooling_type", 1),
            ("tokenizer.ggml.token_type_count", 2),
            ("tokenizer.ggml.cls_token_id", 2),
            ("tokenizer.ggml.seperator_token_id", 3),
            ("tokenizer.ggml.unknown_token_id", 1),
        ] {
            w.u32(key, value as u32);
        }
        w.f32("bert.attention.layer_norm_epsilon", 1e-12).bool("bert.attention.causal", false);
        let phantom = |word: &String| match word.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None if word.starts_with('[') => word.clone(),
            None => format!("\u{2581}{word}"),
        };
        w.string("tokenizer.ggml.model", "bert");
        w.strings("tokenizer.ggml.tokens", words().iter().map(phantom).collect());
        for (name, (shape, values)) in &self.tensors {
            let shape: Vec<u64> = shape.iter().rev().map(|n| *n as u64).collect();
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            w.tensor(&gguf_name(name), &shape, TensorType::F32, bytes);
        }
        w
    }
}

fn gguf_name(name: &str) -> String {
    let mut name = name.to_owned();
    for (from, to) in [
        ("embeddings.word_embeddings", "token_embd"),
        ("embeddings.position_embeddings", "position_embd"),
        ("embeddings.token_type_embeddings", "token_types"),
        ("embeddings.LayerNorm", "token_embd_norm"),
        ("encoder.layer.", "blk."),
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
    ] {
        name = name.replace(from, to);
    }
    if name.starts_with("token_types") { "token_types.weight".to_owned() } else { name }
}

fn tokenizer(words: &[String]) -> String {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), id.into())).collect();
    let added: Vec<_> = words[..5]
        .iter()
        .enumerate()
        .map(|(id, word)| {
            serde_json::json!({"id": id, "content": word, "special": true, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false})
        })
        .collect();
    let mark = |text: &str| serde_json::json!({"SpecialToken": {"id": text, "type_id": 0}});
    let single = [mark("[CLS]"), serde_json::json!({"Sequence": {"id": "A", "type_id": 0}}), mark("[SEP]")];
    serde_json::json!({
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
    .to_string()
}

fn tensors(seed: u64, vocabulary: usize) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut rng = Rng(seed);
    let mut all = BTreeMap::new();
    let mut put = |name: String, shape: &[usize], middle: f32, spread: f32| {
        let values = (0..shape.iter().product()).map(|_| middle + spread * rng.signed()).collect();
        all.insert(name, (shape.to_vec(), values));
    };
    let mut norm = Vec::new();
    for (table, rows) in [("word", vocabulary), ("position", CONTEXT), ("token_type", 2)] {
        put(format!("embeddings.{table}_embeddings.weight"), &[rows, WIDTH], 0.0, 1.0);
    }
    norm.push("embeddings.LayerNorm".to_owned());
    for l in 0..LAYERS {
        for (part, rows, cols) in [
            ("attention.self.query", WIDTH, WIDTH),
            ("attention.self.key", WIDTH, WIDTH),
            ("attention.self.value", WIDTH, WIDTH),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", FFN, WIDTH),
            ("output.dense", WIDTH, FFN),
        ] {
            let spread = 2.0 / (cols as f32).sqrt();
            put(format!("encoder.layer.{l}.{part}.weight"), &[rows, cols], 0.0, spread);
            put(format!("encoder.layer.{l}.{part}.bias"), &[rows], 0.0, 0.3);
        }
        norm.push(format!("encoder.layer.{l}.attention.output.LayerNorm"));
        norm.push(format!("encoder.layer.{l}.output.LayerNorm"));
    }
    for name in norm {
        put(format!("{name}.weight"), &[WIDTH], 1.0, 0.3);
        put(format!("{name}.bias"), &[WIDTH], 0.0, 0.3);
    }
    all
}

/// A text's tokens: `[CLS]`, anything, `[SEP]`.
pub(crate) fn text(rng: &mut Rng, tokens: usize) -> Vec<u32> {
    let most = words().len() - 5;
    let inner = (2..tokens).map(|_| 5 + rng.below(most) as u32);
    let all: Vec<u32> = [2].into_iter().chain(inner).chain([3]).collect();
    all[..tokens.max(1).min(all.len())].to_vec()
}
