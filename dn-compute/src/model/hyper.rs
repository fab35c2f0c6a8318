//! Sizes and constants from the metadata, and the tensors they ask for.

use dn_core::objects::{Hyperparameters, RopePairing};

use super::ModelError;
use crate::formats::gguf::{Gguf, Metadata, Value};
use crate::spec::limits::{MAX_COLS, MAX_CONTEXT, MAX_HEAD_DIM, MAX_ROWS};

/// Most layers: beyond any model, and small enough to list the tensors of.
const MAX_LAYERS: u32 = 1024;

/// Reads and checks the hyper-parameters.
pub(super) fn read(gguf: &Gguf) -> Result<(String, Hyperparameters), ModelError> {
    let meta = &gguf.metadata;
    let arch = meta.string("general.architecture")?;
    let arch = meta.need("general.architecture", "a string", arch)?;
    if !matches!(arch, "llama" | "qwen2") {
        return Err(ModelError::Architecture { found: arch.to_owned() });
    }
    let keys = Keys { meta, arch };
    keys.refuse_features()?;
    let width = keys.size("embedding_length", None, MAX_COLS)?;
    let heads = keys.size("attention.head_count", None, 4096)?;
    let head_size = keys.size("attention.key_length", width.checked_div(heads), MAX_HEAD_DIM)?;
    let value_size = keys.size("attention.value_length", Some(head_size), MAX_HEAD_DIM)?;
    let kv_heads = keys.size("attention.head_count_kv", Some(heads), 4096)?;
    let context = keys.size("context_length", None, u32::MAX as usize)?;
    let rope_size = keys.size("rope.dimension_count", Some(head_size), MAX_HEAD_DIM)?;
    keys.check("attention.value_length", value_size == head_size, "the key length", value_size)?;
    keys.check(
        "attention.head_count_kv",
        heads.is_multiple_of(kv_heads),
        "a divisor of head_count",
        kv_heads,
    )?;
    let rope_fits = rope_size.is_multiple_of(2) && rope_size <= head_size;
    keys.check("rope.dimension_count", rope_fits, "even and at most the key length", rope_size)?;
    let theta = keys.f32("rope.freq_base", Some(10_000.0))?;
    keys.check("rope.freq_base", (2.0..=(1u64 << 60) as f32).contains(&theta), "between 2 and 2^60", theta)?;
    let epsilon = keys.f32("attention.layer_norm_rms_epsilon", None)?;
    let epsilon_fits = epsilon >= f32::MIN_POSITIVE && epsilon <= 1.0;
    keys.check("attention.layer_norm_rms_epsilon", epsilon_fits, "above 0 and at most 1", epsilon)?;
    let embedding = gguf.tensor("token_embd.weight");
    let embedding =
        embedding.ok_or_else(|| ModelError::MissingTensor { name: "token_embd.weight".to_owned() })?;
    let rows = embedding.shape.get(1).copied().unwrap_or(1);
    let vocabulary = u32::try_from(rows).ok().filter(|n| *n as usize <= MAX_ROWS);
    let vocabulary = vocabulary.ok_or_else(|| ModelError::Parameter {
        key: "rows of token_embd.weight".to_owned(),
        expected: "at most 2^24",
        found: rows.to_string(),
    })?;
    let hyper = Hyperparameters {
        layers: keys.size("block_count", None, MAX_LAYERS as usize)?,
        width,
        heads,
        kv_heads,
        head_size,
        ffn_width: keys.size("feed_forward_length", None, MAX_COLS)?,
        vocabulary,
        context: context.min(MAX_CONTEXT as u32),
        rope_theta_bits: theta.to_bits(),
        rope_size,
        rope_pairing: if arch == "qwen2" { RopePairing::HalfSplit } else { RopePairing::Interleaved },
        norm_epsilon_bits: epsilon.to_bits(),
        tied_embeddings: gguf.tensor("output.weight").is_none(),
    };
    let query = u64::from(hyper.heads) * u64::from(hyper.head_size);
    keys.check(
        "attention.head_count",
        query <= MAX_COLS as u64,
        "heads of at most 32768 elements in all",
        query,
    )?;
    Ok((arch.to_owned(), hyper))
}

struct Keys<'a> {
    meta: &'a Metadata,
    arch: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    /// A whole number from 1 to `max`.
    fn size(&self, name: &str, default: Option<u32>, max: usize) -> Result<u32, ModelError> {
        let key = self.key(name);
        let found = self.meta.u32(&key)?.or(default);
        let found = self.meta.need(&key, "an integer", found)?;
        self.check(
            name,
            (1..=max).contains(&(found as usize)),
            "from 1 to the limit of the numeric spec",
            found,
        )?;
        Ok(found)
    }

    fn f32(&self, name: &str, default: Option<f32>) -> Result<f32, ModelError> {
        let key = self.key(name);
        let found = self.meta.f32(&key)?.or(default);
        Ok(self.meta.need(&key, "an f32", found)?)
    }

    fn check(
        &self,
        name: &str,
        holds: bool,
        expected: &'static str,
        found: impl ToString,
    ) -> Result<(), ModelError> {
        if holds {
            return Ok(());
        }
        Err(ModelError::Parameter { key: self.key(name), expected, found: found.to_string() })
    }

    /// What would change results silently if it were ignored.
    fn refuse_features(&self) -> Result<(), ModelError> {
        let refuse = |feature, key: String| Err(ModelError::Feature { feature, key });
        let scaling = self.key("rope.scaling.type");
        if self.meta.string(&scaling)?.is_some_and(|kind| kind != "none") {
            return refuse("scaled rotary positions", scaling);
        }
        let linear = self.key("rope.scale_linear");
        if self.meta.f32(&linear)?.is_some_and(|factor| factor != 1.0) {
            return refuse("scaled rotary positions", linear);
        }
        let experts = self.key("expert_count");
        if self.meta.u32(&experts)?.is_some_and(|n| n > 0) {
            return refuse("a mixture of experts", experts);
        }
        let window = self.key("attention.sliding_window");
        let context = self.meta.u32(&self.key("context_length"))?.unwrap_or(u32::MAX);
        match self.meta.value(&window) {
            None | Some(Value::Unsigned(_, 0)) => Ok(()),
            Some(Value::Unsigned(_, n)) if *n >= context.into() => Ok(()),
            Some(_) => refuse("a sliding window", window),
        }
    }
}
