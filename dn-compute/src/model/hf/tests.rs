use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::formats::gguf::{GgufWriter, TensorType};
use crate::formats::safetensors::SafetensorsError;
use crate::model::layout::Slot;
use crate::model::{Model, open};
use crate::testing::{Rng, encode};
use crate::{Engine, EngineOptions};

mod side;

/// A tensor: sizes, the slowest first, and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A small decoder of a family; its heads are not as wide as the residual stream divided by them.
fn config(kind: &str) -> Value {
    json!({
        "model_type": kind, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 50,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": [3, 2],
    })
}

fn with(mut config: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Random weights, each an f16, for a configuration.
fn weights(config: &Value, seed: u64) -> Tensors {
    let (_, h) = config::read(config).unwrap();
    let mut rng = Rng(seed);
    let mut out = Tensors::new();
    for slot in Slot::all(&h) {
        let (cols, rows) = slot.shape(&h);
        let (cols, rows) = (cols as usize, rows.map(|r| r as usize));
        let norm = slot.hub_name().contains("norm");
        let spread = if rows.is_some() { 2.0 / (cols as f32).sqrt() } else { 0.3 };
        let value = |_| half::f16::from_f32(if norm { 1.0 } else { 0.0 } + spread * rng.signed()).to_f32();
        let values = (0..cols * rows.unwrap_or(1)).map(value).collect();
        out.insert(slot.hub_name(), (rows.into_iter().chain([cols]).collect(), values));
    }
    out
}

/// A safetensors file.
fn safetensors(tensors: &Tensors, kind: TensorType) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (shape, values)) in tensors {
        let start = data.len();
        data.extend(encode(kind, values));
        let entry = json!({"dtype": kind.to_string(), "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(data);
    out
}

fn write(directory: &Path, config: &Value, tensors: &Tensors, kind: TensorType) {
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    std::fs::write(directory.join("model.safetensors"), safetensors(tensors, kind)).unwrap();
}

/// The same model as a GGUF file, rows of queries and keys in pairs where that format has them so.
fn gguf(config: &Value, tensors: &Tensors, kind: TensorType) -> Vec<u8> {
    let (arch, h) = config::read(config).unwrap();
    let mut w = GgufWriter::new();
    let key = |name: &str| format!("{arch}.{name}");
    w.string("general.architecture", &arch).u32(&key("context_length"), h.context);
    w.u32(&key("embedding_length"), h.width).u32(&key("block_count"), h.layers);
    w.u32(&key("feed_forward_length"), h.ffn_width).u32(&key("attention.head_count"), h.heads);
    w.u32(&key("attention.head_count_kv"), h.kv_heads).u32(&key("attention.key_length"), h.head_size);
    w.u32(&key("attention.value_length"), h.head_size)
        .f32(&key("rope.freq_base"), f32::from_bits(h.rope_theta_bits));
    w.f32(&key("attention.layer_norm_rms_epsilon"), f32::from_bits(h.norm_epsilon_bits));
    w.u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.eot_token_id", 3);
    if let Some(window) = h.window {
        w.u32(&key("attention.sliding_window"), window);
    }
    if let dn_core::objects::RopeScaling::Yarn { factor_bits, original_context, .. } = h.rope_scaling {
        w.string(&key("rope.scaling.type"), "yarn")
            .f32(&key("rope.scaling.factor"), f32::from_bits(factor_bits));
        w.u32(&key("rope.scaling.original_context_length"), original_context);
    }
    for slot in Slot::all(&h) {
        let (shape, values) = &tensors[&slot.hub_name()];
        let heads = match slot {
            Slot::Query(_) | Slot::QueryBias(_) if arch == "llama" => h.heads,
            Slot::Key(_) | Slot::KeyBias(_) if arch == "llama" => h.kv_heads,
            _ => 0,
        } as usize;
        let values = if heads == 0 { values.clone() } else { permuted(values, shape[0], heads) };
        let shape: Vec<u64> = shape.iter().rev().map(|n| *n as u64).collect();
        w.tensor(&slot.gguf_name(), &shape, kind, encode(kind, &values));
    }
    w.finish()
}

fn permuted(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (cols, size) = (values.len() / rows, rows / heads);
    let from = |row: usize| {
        let (head, i) = (row / size, row % size);
        head * size + i % 2 * (size / 2) + i / 2
    };
    (0..rows).flat_map(|row| values[from(row) * cols..][..cols].to_vec()).collect()
}

/// The decoder in f64, from Hugging Face's tensors and conventions alone: logits of every position.
fn forward(config: &Value, t: &Tensors, tokens: &[u32]) -> Vec<Vec<f64>> {
    let n = |key: &str| config[key].as_u64().unwrap() as usize;
    let (width, heads, kv_heads, size) =
        (n("hidden_size"), n("num_attention_heads"), n("num_key_value_heads"), n("head_dim"));
    let vector = |name: &str| t.get(name).map(|(_, v)| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    let linear = |name: &str, x: &[f64]| -> Vec<f64> {
        let (_, w) = &t[&format!("{name}.weight")];
        let bias = vector(&format!("{name}.bias"));
        let row = |(r, w): (usize, &[f32])| {
            let sum: f64 = w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
            sum + bias.as_ref().map_or(0.0, |b| b[r])
        };
        w.chunks(x.len()).enumerate().map(row).collect()
    };
    let norm = |name: &str, x: &[f64]| -> Vec<f64> {
        let w = vector(&format!("{name}.weight")).unwrap();
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        x.iter().zip(w).map(|(v, w)| v / (mean + 1e-5).sqrt() * w).collect()
    };
    let (frequencies, sharpness) = frequencies(config, size);
    let rotate = |head: &mut [f64], position: usize| {
        for i in 0..size / 2 {
            let (sin, cos) = (position as f64 * frequencies[i]).sin_cos();
            let (a, b) = (head[i], head[i + size / 2]);
            head[i] = (a * cos - b * sin) * sharpness;
            head[i + size / 2] = (b * cos + a * sin) * sharpness;
        }
    };
    let window = config["sliding_window"].as_u64().map_or(usize::MAX, |w| w as usize);
    let mut xs: Vec<Vec<f64>> = tokens
        .iter()
        .map(|id| {
            t["model.embed_tokens.weight"].1[*id as usize * width..][..width]
                .iter()
                .map(|v| f64::from(*v))
                .collect()
        })
        .collect();
    for l in 0..n("num_hidden_layers") {
        let name = |part: &str| format!("model.layers.{l}.{part}");
        let part = |x: &[f64], which: &str, position: Option<usize>| {
            let mut out = linear(&name(&format!("self_attn.{which}_proj")), x);
            for head in out.chunks_mut(size) {
                let norm_name = name(&format!("self_attn.{which}_norm"));
                if t.contains_key(&format!("{norm_name}.weight")) {
                    let normed = norm(&norm_name, head);
                    head.copy_from_slice(&normed);
                }
                if let Some(position) = position {
                    rotate(head, position);
                }
            }
            out
        };
        let h: Vec<_> = xs.iter().map(|x| norm(&name("input_layernorm"), x)).collect();
        let q: Vec<_> = h.iter().enumerate().map(|(p, x)| part(x, "q", Some(p))).collect();
        let k: Vec<_> = h.iter().enumerate().map(|(p, x)| part(x, "k", Some(p))).collect();
        let v: Vec<_> = h.iter().map(|x| part(x, "v", None)).collect();
        for (p, x) in xs.iter_mut().enumerate() {
            let first = (p + 1).saturating_sub(window);
            let mut a = Vec::new();
            for head in 0..heads {
                let of = head / (heads / kv_heads) * size;
                let q = &q[p][head * size..][..size];
                let dot = |k: &Vec<f64>| q.iter().zip(&k[of..]).map(|(a, b)| a * b).sum::<f64>();
                let e: Vec<f64> =
                    k[first..=p].iter().map(|k| (dot(k) / (size as f64).sqrt()).exp()).collect();
                let sum: f64 = e.iter().sum();
                a.extend(
                    (0..size)
                        .map(|c| e.iter().zip(&v[first..=p]).map(|(e, v)| e / sum * v[of + c]).sum::<f64>()),
                );
            }
            let o = linear(&name("self_attn.o_proj"), &a);
            x.iter_mut().zip(o).for_each(|(x, o)| *x += o);
            let h = norm(&name("post_attention_layernorm"), x);
            let (gate, up) = (linear(&name("mlp.gate_proj"), &h), linear(&name("mlp.up_proj"), &h));
            let h: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let down = linear(&name("mlp.down_proj"), &h);
            x.iter_mut().zip(down).for_each(|(x, d)| *x += d);
        }
    }
    let head = if config["tie_word_embeddings"] == true { "model.embed_tokens" } else { "lm_head" };
    xs.iter().map(|x| linear(head, &norm("model.norm", x))).collect()
}

/// Frequencies of the pairs and the factor of cosine and sine.
fn frequencies(config: &Value, size: usize) -> (Vec<f64>, f64) {
    let plain: Vec<f64> = (0..size / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / size as f64)).collect();
    let scaling = &config["rope_scaling"];
    let n = |key: &str| scaling[key].as_f64().unwrap();
    let turns = |f: f64, original: f64| original * f / std::f64::consts::TAU;
    match scaling["rope_type"].as_str() {
        Some("linear") => (plain.iter().map(|f| f / n("factor")).collect(), 1.0),
        Some("llama3") => {
            let (low, high) = (n("low_freq_factor"), n("high_freq_factor"));
            let smooth = |f: f64| {
                ((turns(f, n("original_max_position_embeddings")) - low) / (high - low)).clamp(0.0, 1.0)
            };
            (plain.iter().map(|f| (1.0 - smooth(*f)) * f / n("factor") + smooth(*f) * f).collect(), 1.0)
        }
        Some("yarn") => {
            let find = |beta: f64| {
                let ratio = n("original_max_position_embeddings") / (beta * std::f64::consts::TAU);
                size as f64 * ratio.ln() / (2.0 * 10_000f64.ln())
            };
            let (low, high) = (find(32.0).floor().max(0.0), find(1.0).ceil().min(size as f64 - 1.0));
            let ramp = |i: usize| ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            let mix = |(i, f): (usize, &f64)| ramp(i) * f / n("factor") + (1.0 - ramp(i)) * f;
            (plain.iter().enumerate().map(mix).collect(), 0.1 * n("factor").ln() + 1.0)
        }
        _ => (plain, 1.0),
    }
}

fn logits(model: Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let engine = Engine::new(Arc::new(model), EngineOptions::default()).unwrap();
    let rows = engine.logits(tokens).unwrap();
    rows.chunks(engine.model().front().vocabulary() as usize).map(<[f32]>::to_vec).collect()
}

/// Every family and feature: near an independent f64 forward, and bit for bit what the GGUF of the same weights gives.
#[test]
fn a_directory_computes_what_its_family_does() {
    let scaled = |kind: &str, rope: Value| with(config(kind), json!({ "rope_scaling": rope }));
    let configs = [
        config("llama"),
        with(config("llama"), json!({"tie_word_embeddings": true, "attention_bias": true})),
        scaled("llama", json!({"rope_type": "linear", "factor": 3.0})),
        scaled(
            "llama",
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 32}),
        ),
        with(config("mistral"), json!({"sliding_window": 5})),
        config("qwen2"),
        scaled(
            "qwen2",
            json!({"type": "yarn", "rope_type": "yarn", "factor": 4.0,
                               "original_max_position_embeddings": 300}),
        ),
        with(config("qwen3"), json!({"attention_bias": true})),
        with(
            config("qwen3"),
            json!({"use_sliding_window": true, "max_window_layers": 0, "sliding_window": 3}),
        ),
    ];
    let tokens: Vec<u32> = (0..24).map(|i| (i * 7 + 3) % 50).collect();
    for (seed, config) in configs.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let tensors = weights(config, seed as u64);
        write(directory.path(), config, &tensors, TensorType::F16);
        let model = Model::load(directory.path()).unwrap();
        let same = Model::from_bytes(gguf(config, &tensors, TensorType::F32)).ok();
        let stored_there = config["rope_scaling"]["rope_type"].as_str().is_none_or(|kind| kind == "yarn");
        if stored_there {
            let same = same.unwrap();
            assert_eq!(model.manifest().tensors_root, same.manifest().tensors_root, "{config}");
            assert_eq!(model.manifest(), same.manifest(), "{config}");
            assert_eq!(logits(model, &tokens), logits(same, &tokens));
        }
        let found = logits(Model::load(directory.path()).unwrap(), &tokens);
        let exact = forward(config, &tensors, &tokens);
        assert_eq!(found.len(), exact.len());
        let (mut error, mut scale) = (0.0, 0.0);
        for (f, e) in found.iter().flatten().zip(exact.iter().flatten()) {
            error += (f64::from(*f) - e).powi(2);
            scale += e * e;
        }
        let relative = (error / scale).sqrt();
        // Eight bits per weight; a wrong rotation, norm, window or bias costs tens of times as much.
        assert!(relative < 0.05, "{config}: {relative}");
    }
}

fn refused(directory: &Path) -> ModelError {
    Model::load(directory).map(|_| ()).unwrap_err()
}

#[test]
fn shards_are_found_by_their_index() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let config = config("qwen3");
    let tensors = weights(&config, 5);
    write(directory.path(), &config, &tensors, TensorType::Bf16);
    let whole = Model::load(directory.path()).unwrap();
    std::fs::remove_file(at("model.safetensors")).unwrap();
    let (mut first, mut second) = (tensors.clone(), Tensors::new());
    for name in tensors.keys().filter(|n| n.contains("layers.1")) {
        second.insert(name.clone(), first.remove(name).unwrap());
    }
    let map: BTreeMap<_, _> = tensors
        .keys()
        .map(|n| (n.clone(), if second.contains_key(n) { "b.safetensors" } else { "a.safetensors" }))
        .collect();
    std::fs::write(at("a.safetensors"), safetensors(&first, TensorType::Bf16)).unwrap();
    std::fs::write(at("b.safetensors"), safetensors(&second, TensorType::Bf16)).unwrap();
    let index = |map: &BTreeMap<String, &str>| {
        std::fs::write(at("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    };
    index(&map);
    assert_eq!(Model::load(directory.path()).unwrap().id(), whole.id());
    let changed = |name: &str, file: &'static str| {
        let mut map = map.clone();
        map.insert(name.to_owned(), file);
        index(&map);
        refused(directory.path())
    };
    assert!(matches!(changed("model.norm.weight", "b.safetensors"), ModelError::Shard { .. }));
    assert!(matches!(changed("model.norm.weight", "../a.safetensors"), ModelError::Parameter { .. }));
    assert!(matches!(changed("model.norm.weight", "/etc/passwd"), ModelError::Parameter { .. }));
    assert!(matches!(changed("model.norm.weight", "c.safetensors"), ModelError::Read { .. }));
    std::fs::write(at("model.safetensors.index.json"), "{}").unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Json { .. }));
}

#[test]
fn bad_directories_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    assert!(matches!(refused(directory.path()), ModelError::Directory { found: 0, .. }));
    let config = config("llama");
    let tensors = weights(&config, 1);
    let with_tensors = |change: &dyn Fn(&mut Tensors), kind| {
        let mut changed = tensors.clone();
        change(&mut changed);
        write(directory.path(), &config, &changed, kind);
        refused(directory.path())
    };
    let bad = |value: f32| {
        move |t: &mut Tensors| t.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().1[50] = value
    };
    for value in [f32::NAN, f32::INFINITY] {
        let error = with_tensors(&bad(value), TensorType::F32);
        let expected =
            "tensor `model.layers.1.mlp.up_proj.weight`: weight at row 2, column 2 is not a finite number";
        assert_eq!(error.to_string(), expected);
    }
    let norm = |t: &mut Tensors| t.get_mut("model.norm.weight").unwrap().1[4] = f32::NAN;
    assert!(matches!(with_tensors(&norm, TensorType::F16), ModelError::NonFinite { index: 4, .. }));
    let missing = |t: &mut Tensors| drop(t.remove("model.layers.0.self_attn.q_proj.weight"));
    assert!(matches!(with_tensors(&missing, TensorType::F16), ModelError::MissingTensor { .. }));
    let extra = |t: &mut Tensors| drop(t.insert("model.layers.0.extra".to_owned(), (vec![1], vec![0.0])));
    assert!(matches!(with_tensors(&extra, TensorType::F16), ModelError::UnexpectedTensor { .. }));
    let shape = |t: &mut Tensors| t.get_mut("lm_head.weight").unwrap().0 = vec![24, 50];
    let error = with_tensors(&shape, TensorType::F16);
    assert!(matches!(error, ModelError::TensorShape { found, .. } if found == [50, 24]));
    write(directory.path(), &config, &tensors, TensorType::F32);
    let text = std::fs::read(at("model.safetensors")).unwrap();
    let with_dtype = String::from_utf8_lossy(&text[8..900]).replacen("F32", "I32", 1);
    let integers = [&text[..8], with_dtype.as_bytes(), &text[8 + with_dtype.len()..]].concat();
    std::fs::write(at("model.safetensors"), &integers).unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Dtype { found: "I32", .. }));
    std::fs::write(at("model.safetensors"), &text[..text.len() - 1]).unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Safetensors(SafetensorsError::Range { .. })));
    std::fs::write(at("model.safetensors"), b"123").unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Safetensors(SafetensorsError::Short { .. })));
    std::fs::write(at("model.safetensors"), &text).unwrap();
    std::fs::write(at("config.json"), "{").unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Json { .. }));
    std::fs::remove_file(at("config.json")).unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Read { .. }));
    std::fs::write(at("config.json"), config.to_string()).unwrap();
    std::fs::write(at("tokenizer.model"), "x").unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Feature { .. }));
    std::fs::remove_file(at("tokenizer.model")).unwrap();
    std::fs::write(at("chat_template.jinja"), [0xff]).unwrap();
    std::fs::write(at("tokenizer.json"), "{}").unwrap();
    assert!(matches!(refused(directory.path()), ModelError::Tokenizer(_)));
}

#[test]
fn what_changes_between_two_reads_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let config = config("llama");
    let tensors = weights(&config, 9);
    write(directory.path(), &config, &tensors, TensorType::F32);
    let model = Model::load(directory.path()).unwrap();
    let path = directory.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 3] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    // The last by name is the output norm.
    assert!(matches!(model.tensor(Slot::OutputNorm), Err(ModelError::Changed { .. })));
    assert!(model.tensor(Slot::Query(0)).is_ok());
}

/// The demonstration model as it was trained: the same tokens, template and stops as its GGUF, and the same text.
#[test]
fn side_files_say_what_text_needs() {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/train-tiny/tokenizer.json");
    let directory = tempfile::tempdir().unwrap();
    let gguf = open::bytes(
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-rust-q8_0.gguf")).unwrap().into(),
    );
    let gguf = gguf.unwrap();
    let config = with(config("llama"), json!({"vocab_size": 4096, "bos_token_id": 0, "eos_token_id": 1}));
    write(directory.path(), &config, &weights(&config, 2), TensorType::Bf16);
    std::fs::copy(tools, directory.path().join("tokenizer.json")).unwrap();
    let template = gguf.chat.as_ref().unwrap().source.clone();
    let settings = json!({"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}, "add_bos_token": true,
                          "chat_template": [{"name": "other", "template": "x"}, {"name": "default", "template": template}]});
    std::fs::write(directory.path().join("tokenizer_config.json"), settings.to_string()).unwrap();
    let chat = [crate::ChatMessage::user("What is <|eos|> ownership?")];
    let front = ModelFront::load(directory.path()).unwrap();
    assert_eq!(front.chat_prompt(&chat).unwrap(), gguf.front.chat_prompt(&chat).unwrap());
    assert_eq!(front.text_prompt("fn x()").unwrap(), gguf.front.text_prompt("fn x()").unwrap());
    assert_eq!((front.bos_token(), front.stop_tokens()), (Some(0), [1].as_slice()));
    std::fs::write(directory.path().join("generation_config.json"), r#"{"eos_token_id": [1, 4]}"#).unwrap();
    std::fs::write(directory.path().join("chat_template.jinja"), "{{ messages[0].content }}!").unwrap();
    let front = ModelFront::load(directory.path()).unwrap();
    assert_eq!(front.stop_tokens(), [1, 4]);
    assert_eq!(front.chat_template().unwrap().source(), "{{ messages[0].content }}!");
    std::fs::write(directory.path().join("generation_config.json"), r#"{"eos_token_id": 4096}"#).unwrap();
    assert!(matches!(ModelFront::load(directory.path()), Err(ModelError::Tokenizer(_))));
}
