//! Sizes and constants from the metadata, and the tensors they ask for.

use dn_core::objects::{Hyperparameters, RopePairing, RopeScaling};

use super::ModelError;
use crate::formats::gguf::{Gguf, Metadata};
use crate::spec::RopeTable;
use crate::spec::limits::{MAX_COLS, MAX_CONTEXT, MAX_HEAD_DIM, MAX_ROWS};
use crate::spec::rope::yarn_attention;
use crate::tensors::{ARCHITECTURES, rope_spec};

/// Most layers: beyond any model, and small enough to list the tensors of.
const MAX_LAYERS: u32 = 1024;

/// Reads and checks the hyper-parameters.
pub(super) fn read(gguf: &Gguf) -> Result<(String, Hyperparameters), ModelError> {
    let meta = &gguf.metadata;
    let arch = meta.string("general.architecture")?;
    let arch = meta.need("general.architecture", "a string", arch)?;
    if !ARCHITECTURES.contains(&arch) {
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
    let epsilon_fits = (f32::MIN_POSITIVE..=1.0).contains(&epsilon);
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
        rope_pairing: if arch == "llama" { RopePairing::Interleaved } else { RopePairing::HalfSplit },
        rope_scaling: keys.rope_scaling(gguf.tensor("rope_freqs.weight").is_some(), context)?,
        norm_epsilon_bits: epsilon.to_bits(),
        head_norms: arch == "qwen3",
        attention_bias: arch == "qwen2" || gguf.tensor("blk.0.attn_q.bias").is_some(),
        output_bias: gguf.tensor("blk.0.attn_output.bias").is_some(),
        window: keys.window(context)?,
        tied_embeddings: gguf.tensor("output.weight").is_none(),
    };
    check(&hyper)?;
    Ok((arch.to_owned(), hyper))
}

/// What must hold for the sizes together, whatever file they come from.
pub(super) fn check(hyper: &Hyperparameters) -> Result<(), ModelError> {
    let query = u64::from(hyper.heads) * u64::from(hyper.head_size);
    if query > MAX_COLS as u64 {
        return Err(ModelError::Parameter {
            key: "elements of all heads".to_owned(),
            expected: "at most 32768",
            found: query.to_string(),
        });
    }
    // Factors are values, checked when an engine is made.
    RopeTable::new(rope_spec(hyper, None), 1).map_err(ModelError::Rope)?;
    Ok(())
}

/// What a package's sizes must hold: other formats check each where they read it.
pub(super) fn check_sizes(h: &Hyperparameters) -> Result<(), ModelError> {
    let sizes = [
        ("layers", h.layers, MAX_LAYERS as usize),
        ("width", h.width, MAX_COLS),
        ("heads", h.heads, 4096),
        ("kv_heads", h.kv_heads, 4096),
        ("head_size", h.head_size, MAX_HEAD_DIM),
        ("ffn_width", h.ffn_width, MAX_COLS),
        ("vocabulary", h.vocabulary, MAX_ROWS),
        ("context", h.context, MAX_CONTEXT),
    ];
    let wrong = |key: &str, expected, found: u32| {
        Err(ModelError::Parameter { key: key.to_owned(), expected, found: found.to_string() })
    };
    for (key, found, max) in sizes {
        if !(1..=max).contains(&(found as usize)) {
            return wrong(key, "from 1 to the limit of the numeric spec", found);
        }
    }
    if !h.heads.is_multiple_of(h.kv_heads) {
        return wrong("kv_heads", "a divisor of heads", h.kv_heads);
    }
    if h.window == Some(0) {
        return wrong("window", "at least 1", 0);
    }
    if !(f32::MIN_POSITIVE..=1.0).contains(&f32::from_bits(h.norm_epsilon_bits)) {
        return wrong("norm_epsilon", "above 0 and at most 1", h.norm_epsilon_bits);
    }
    check(h)
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
        let experts = self.key("expert_count");
        if self.meta.u32(&experts)?.is_some_and(|n| n > 0) {
            return refuse("a mixture of experts", experts);
        }
        let pattern = self.key("attention.sliding_window_pattern");
        if self.meta.value(&pattern).is_some() {
            return refuse("a sliding window of some layers only", pattern);
        }
        let extrapolation = self.key("rope.scaling.yarn_ext_factor");
        if self.meta.f32(&extrapolation)?.is_some_and(|f| f != 1.0 && f != -1.0) {
            return refuse("a YaRN extrapolation factor other than 1", extrapolation);
        }
        let multiplier = self.key("rope.scaling.yarn_log_multiplier");
        if self.meta.f32(&multiplier)?.is_some_and(|f| f != 0.0) {
            return refuse("a YaRN logarithm multiplier", multiplier);
        }
        for key in ["attention.scale", "logit_scale", "residual_scale", "embedding_scale"] {
            let key = self.key(key);
            if self.meta.value(&key).is_some() {
                return refuse("a scale that its architecture does not have", key);
            }
        }
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            let key = self.key(key);
            if self.meta.f32(&key)?.is_some_and(|cap| cap != 0.0) {
                return refuse("capped attention scores or logits", key);
            }
        }
        let causal = self.key("attention.causal");
        if self.meta.bool(&causal)? == Some(false) {
            return refuse("attention to later positions", causal);
        }
        Ok(())
    }

    /// Positions that a query sees, where that is fewer than there are.
    fn window(&self, context: u32) -> Result<Option<u32>, ModelError> {
        let window = self.meta.u32(&self.key("attention.sliding_window"))?;
        Ok(window.filter(|n| *n > 0 && *n < context))
    }

    /// `factors`: whether the file has a tensor of factors.
    fn rope_scaling(&self, factors: bool, context: u32) -> Result<RopeScaling, ModelError> {
        let kind_key = self.key("rope.scaling.type");
        let linear_key = self.key("rope.scale_linear");
        let linear = self.meta.f32(&linear_key)?.filter(|f| *f != 1.0);
        let kind = match self.meta.string(&kind_key)? {
            Some("none") | None if linear.is_some() => "linear",
            Some(kind) => kind,
            None => "none",
        };
        if factors {
            return match kind {
                "none" => Ok(RopeScaling::Factors {}),
                _ => Err(ModelError::Feature { feature: "two ways to stretch positions", key: kind_key }),
            };
        }
        let number = |name: &str, default| self.f32(&format!("rope.scaling.{name}"), default);
        let factor = match linear {
            Some(factor) => factor,
            None if kind == "none" => 1.0,
            None => number("factor", None)?,
        };
        match kind {
            "none" => Ok(RopeScaling::None {}),
            "linear" if factor == 1.0 => Ok(RopeScaling::None {}),
            "linear" => Ok(RopeScaling::Linear { factor_bits: factor.to_bits() }),
            "yarn" => {
                let original =
                    self.size("rope.scaling.original_context_length", Some(context), u32::MAX as usize)?;
                let fast = number("yarn_beta_fast", Some(32.0))?;
                let slow = number("yarn_beta_slow", Some(1.0))?;
                let times = number("attn_factor", Some(1.0))? * number("yarn_attn_factor", Some(1.0))?;
                Ok(RopeScaling::Yarn {
                    factor_bits: factor.to_bits(),
                    original_context: original,
                    beta_fast_bits: fast.to_bits(),
                    beta_slow_bits: slow.to_bits(),
                    attention_bits: (yarn_attention(factor) * times).to_bits(),
                })
            }
            other => Err(ModelError::Parameter {
                key: kind_key,
                expected: "none, linear or yarn",
                found: other.to_owned(),
            }),
        }
    }
}
