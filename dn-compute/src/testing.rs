//! Small random models for tests.

pub(crate) mod blocks;
#[cfg(feature = "wgpu")]
pub(crate) mod device;

pub(crate) use crate::conformance::SplitMix64 as Rng;
use crate::formats::gguf::{Array, GgufWriter, TensorType, Value, ValueType};

/// The sizes of a random model.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) arch: &'static str,
    pub(crate) layers: u64,
    pub(crate) width: u64,
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
    pub(crate) head_size: u64,
    pub(crate) ffn: u64,
    pub(crate) vocabulary: u64,
    pub(crate) context: u32,
    pub(crate) tied: bool,
    /// Types of the matrices, in turn.
    pub(crate) kinds: &'static [TensorType],
    /// Biases of query, key and value; Qwen 2 always has them.
    pub(crate) biases: bool,
    /// The bias of the attention's output.
    pub(crate) output_bias: bool,
    /// Positions that a query sees.
    pub(crate) window: Option<u32>,
    /// Elements of a head that rotate; all of them where it says nothing.
    pub(crate) rope_size: Option<u32>,
    /// How positions are stretched.
    pub(crate) stretch: Stretch,
}

/// How positions are stretched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// Not at all.
    None,
    /// All by one factor.
    Linear,
    /// By pair, in YaRN's way.
    Yarn,
    /// By factors that are a tensor.
    Factors,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            arch: "llama",
            layers: 2,
            width: 64,
            heads: 4,
            kv_heads: 2,
            head_size: 16,
            ffn: 96,
            vocabulary: 131,
            context: 128,
            tied: true,
            kinds: &[TensorType::Q8_0, TensorType::F16, TensorType::F32],
            biases: false,
            output_bias: false,
            window: None,
            rope_size: None,
            stretch: Stretch::None,
        }
    }
}

impl Shape {
    /// The metadata, without a tokenizer.
    pub(crate) fn metadata(&self) -> GgufWriter {
        let mut w = GgufWriter::new();
        let key = |name: &str| format!("{}.{name}", self.arch);
        w.string("general.architecture", self.arch).string("general.name", "random");
        w.u32(&key("context_length"), self.context).u32(&key("embedding_length"), self.width as u32);
        w.u32(&key("block_count"), self.layers as u32).u32(&key("feed_forward_length"), self.ffn as u32);
        w.u32(&key("attention.head_count"), self.heads as u32);
        w.u32(&key("attention.head_count_kv"), self.kv_heads as u32);
        w.u32(&key("attention.key_length"), self.head_size as u32);
        w.u32(&key("attention.value_length"), self.head_size as u32);
        w.f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
        if let Some(window) = self.window {
            w.u32(&key("attention.sliding_window"), window);
        }
        if let Some(size) = self.rope_size {
            w.u32(&key("rope.dimension_count"), size);
        }
        match self.stretch {
            Stretch::None | Stretch::Factors => {}
            Stretch::Linear => {
                w.string(&key("rope.scaling.type"), "linear").f32(&key("rope.scaling.factor"), 3.0);
            }
            Stretch::Yarn => {
                w.string(&key("rope.scaling.type"), "yarn").f32(&key("rope.scaling.factor"), 4.0);
                w.u32(&key("rope.scaling.original_context_length"), 32);
            }
        }
        w
    }

    /// Adds the tensors with random values.
    pub(crate) fn tensors(&self, w: &mut GgufWriter, seed: u64) {
        self.tensors_with(w, seed, |_, _| {});
    }

    /// Adds the tensors with random values, which `change` may alter.
    pub(crate) fn tensors_with(&self, w: &mut GgufWriter, seed: u64, change: impl Fn(&str, &mut [f32])) {
        let mut rng = Rng(seed);
        let mut turn = 0;
        let mut matrix = |w: &mut GgufWriter, name: &str, cols: u64, rows: u64| {
            let kind = self.kinds[turn % self.kinds.len()];
            turn += 1;
            let spread = 2.0 / (cols as f32).sqrt();
            let mut values: Vec<f32> = (0..cols * rows).map(|_| rng.signed() * spread).collect();
            change(name, &mut values);
            w.tensor(name, &[cols, rows], kind, encode(kind, &values));
        };
        let (query, kv) = (self.heads * self.head_size, self.kv_heads * self.head_size);
        let mut others = Rng(!seed);
        let mut vector = |w: &mut GgufWriter, name: &str, len: u64, middle: f32| {
            let mut values: Vec<f32> = (0..len).map(|_| middle + 0.3 * others.signed()).collect();
            change(name, &mut values);
            w.tensor(name, &[len], TensorType::F32, encode(TensorType::F32, &values));
        };
        matrix(w, "token_embd.weight", self.width, self.vocabulary);
        if self.stretch == Stretch::Factors {
            vector(w, "rope_freqs.weight", self.rope_size.map_or(self.head_size, u64::from) / 2, 1.5);
        }
        for l in 0..self.layers {
            let name = |part: &str| format!("blk.{l}.{part}");
            vector(w, &name("attn_norm.weight"), self.width, 1.0);
            vector(w, &name("ffn_norm.weight"), self.width, 1.0);
            if self.arch == "qwen2" || self.biases {
                vector(w, &name("attn_q.bias"), query, 0.0);
                vector(w, &name("attn_k.bias"), kv, 3.0);
                vector(w, &name("attn_v.bias"), kv, 0.0);
            }
            if self.arch == "qwen3" {
                vector(w, &name("attn_q_norm.weight"), self.head_size, 1.0);
                vector(w, &name("attn_k_norm.weight"), self.head_size, 1.0);
            }
            if self.output_bias {
                vector(w, &name("attn_output.bias"), self.width, 0.0);
            }
            matrix(w, &name("attn_q.weight"), self.width, query);
            matrix(w, &name("attn_k.weight"), self.width, kv);
            matrix(w, &name("attn_v.weight"), self.width, kv);
            matrix(w, &name("attn_output.weight"), query, self.width);
            matrix(w, &name("ffn_gate.weight"), self.width, self.ffn);
            matrix(w, &name("ffn_up.weight"), self.width, self.ffn);
            matrix(w, &name("ffn_down.weight"), self.ffn, self.width);
        }
        vector(w, "output_norm.weight", self.width, 1.0);
        if !self.tied {
            matrix(w, "output.weight", self.width, self.vocabulary);
        }
    }

    /// A file without a tokenizer.
    pub(crate) fn file(&self, seed: u64) -> Vec<u8> {
        self.file_with(seed, |_, _| {})
    }

    /// The same with values that `change` may alter.
    pub(crate) fn file_with(&self, seed: u64, change: impl Fn(&str, &mut [f32])) -> Vec<u8> {
        let mut w = self.metadata();
        self.tensors_with(&mut w, seed, change);
        w.finish()
    }
}

/// A vocabulary of so many tokens: three control tokens, one for each byte, and texts that say nothing.
pub(crate) fn byte_vocabulary(w: &mut GgufWriter, tokens: u64) {
    let bytes = (0..=255u8).map(|b| (format!("<0x{b:02X}>"), 6));
    let control = [("<unk>".to_owned(), 2), ("</s>".to_owned(), 3), ("<x>".to_owned(), 3)];
    let rest = (259..tokens).map(|n| (format!("<{n}>"), 3));
    let (texts, kinds): (Vec<String>, Vec<i64>) = control.into_iter().chain(bytes).chain(rest).unzip();
    let scores = vec![0.0; texts.len()];
    w.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", texts);
    w.key("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    w.key("tokenizer.ggml.token_type", Value::Array(Array::Signed(ValueType::I32, kinds)));
    w.u32("tokenizer.ggml.bos_token_id", 2).u32("tokenizer.ggml.eos_token_id", 1);
}

/// Values as a type of tensor holds them.
pub(crate) fn encode(kind: TensorType, values: &[f32]) -> Vec<u8> {
    match kind {
        TensorType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        TensorType::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        TensorType::Bf16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        TensorType::Q8_0 => blocks::q8_0(values),
        TensorType::Q4_0 => blocks::q4_0(values),
        TensorType::Q4K => blocks::q4_k(values),
        TensorType::Q5K => blocks::q5_k(values),
        TensorType::Q6K => blocks::q6_k(values),
    }
}
