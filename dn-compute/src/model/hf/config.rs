//! `config.json`: which decoder, and its sizes and constants.

use dn_core::objects::{Hyperparameters, RopePairing, RopeScaling};
use serde_json::Value;

use crate::model::{ModelError, hyper};
use crate::spec::limits::{MAX_COLS, MAX_CONTEXT, MAX_HEAD_DIM, MAX_ROWS};
use crate::spec::rope::yarn_attention;

/// Most layers, as for GGUF.
const MAX_LAYERS: usize = 1024;

/// Keys that would change results and that nothing here answers to, unless they hold one of their neutral values.
const REFUSED: [(&str, &str, &[f64]); 8] = [
    ("quantization_config", "weights that are quantised already", &[]),
    ("num_local_experts", "a mixture of experts", &[0.0, 1.0]),
    ("num_experts", "a mixture of experts", &[0.0, 1.0]),
    ("logits_scaling", "scaled logits", &[1.0]),
    ("residual_multiplier", "a scaled residual stream", &[1.0]),
    ("embedding_multiplier", "scaled embeddings", &[1.0]),
    ("attn_logit_softcapping", "capped attention scores", &[0.0]),
    ("final_logit_softcapping", "capped logits", &[0.0]),
];

/// The architecture as GGUF names it, and its hyper-parameters.
pub(super) fn read(config: &Value) -> Result<(String, Hyperparameters), ModelError> {
    let kind = config["model_type"].as_str().unwrap_or("none");
    let arch = match kind {
        "llama" | "mistral" => "llama",
        "qwen2" | "qwen3" => kind,
        other => return Err(ModelError::Architecture { found: other.to_owned() }),
    };
    let keys = Keys(config);
    keys.refuse_features()?;
    let width = keys.size("hidden_size", None, MAX_COLS)?;
    let heads = keys.size("num_attention_heads", None, 4096)?;
    let kv_heads = keys.size("num_key_value_heads", Some(heads), 4096)?;
    keys.check(
        "num_key_value_heads",
        heads.is_multiple_of(kv_heads),
        "a divisor of num_attention_heads",
        kv_heads,
    )?;
    let default_head = if kind == "qwen3" { 128 } else { width / heads };
    let head_size = keys.size("head_dim", Some(default_head), MAX_HEAD_DIM)?;
    keys.check("head_dim", head_size.is_multiple_of(2), "even", head_size)?;
    keys.refuse_attention_scale(head_size)?;
    let context = keys.size("max_position_embeddings", None, u32::MAX as usize)?;
    // Newer files keep it with the scaling.
    let theta = match &config["rope_parameters"]["rope_theta"] {
        Value::Null => keys.f32(config, "rope_theta", Some(10_000.0))?,
        _ => keys.f32(&config["rope_parameters"], "rope_theta", None)?,
    };
    keys.check("rope_theta", (2.0..=(1u64 << 60) as f32).contains(&theta), "between 2 and 2^60", theta)?;
    let epsilon = keys.f32(config, "rms_norm_eps", Some(1e-6))?;
    keys.check(
        "rms_norm_eps",
        (f32::MIN_POSITIVE..=1.0).contains(&epsilon),
        "above 0 and at most 1",
        epsilon,
    )?;
    let bias = keys.flag("attention_bias", kind == "qwen2")?;
    let hyper = Hyperparameters {
        layers: keys.size("num_hidden_layers", None, MAX_LAYERS)?,
        width,
        heads,
        kv_heads,
        head_size,
        ffn_width: keys.size("intermediate_size", None, MAX_COLS)?,
        vocabulary: keys.size("vocab_size", None, MAX_ROWS)?,
        context: context.min(MAX_CONTEXT as u32),
        rope_theta_bits: theta.to_bits(),
        rope_size: head_size,
        // Rows of queries and keys are brought into GGUF's order, so that the same weights have the same root.
        rope_pairing: if arch == "llama" { RopePairing::Interleaved } else { RopePairing::HalfSplit },
        rope_scaling: keys.rope_scaling(context)?,
        norm_epsilon_bits: epsilon.to_bits(),
        head_norms: kind == "qwen3",
        attention_bias: bias,
        // Qwen 2 always has the three biases and never the fourth.
        output_bias: bias && kind != "qwen2",
        window: keys.window(kind, context)?,
        tied_embeddings: keys.flag("tie_word_embeddings", false)?,
    };
    hyper::check(&hyper)?;
    Ok((arch.to_owned(), hyper))
}

struct Keys<'a>(&'a Value);

impl Keys<'_> {
    fn wrong<T>(&self, key: &str, expected: &'static str, found: impl ToString) -> Result<T, ModelError> {
        Err(ModelError::Parameter { key: key.to_owned(), expected, found: found.to_string() })
    }

    fn check(
        &self,
        key: &str,
        holds: bool,
        expected: &'static str,
        found: impl ToString,
    ) -> Result<(), ModelError> {
        if holds { Ok(()) } else { self.wrong(key, expected, found) }
    }

    /// A whole number from 1 to `max`.
    fn size(&self, key: &str, default: Option<u32>, max: usize) -> Result<u32, ModelError> {
        let found = match (&self.0[key], default) {
            (Value::Null, Some(default)) => u64::from(default),
            (value, _) => match value.as_u64() {
                Some(n) => n,
                None => return self.wrong(key, "a whole number", value),
            },
        };
        match u32::try_from(found) {
            Ok(n) if n >= 1 && n as usize <= max => Ok(n),
            _ => self.wrong(key, "from 1 to the limit of the numeric spec", found),
        }
    }

    fn f32(&self, of: &Value, key: &str, default: Option<f32>) -> Result<f32, ModelError> {
        match (&of[key], default) {
            (Value::Null, Some(default)) => Ok(default),
            (value, _) => match value.as_f64() {
                Some(v) => Ok(v as f32),
                None => self.wrong(key, "a number", value),
            },
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match &self.0[key] {
            Value::Null => Ok(default),
            Value::Bool(flag) => Ok(*flag),
            other => self.wrong(key, "true or false", other),
        }
    }

    fn refuse_features(&self) -> Result<(), ModelError> {
        let refuse = |feature, key: &str| Err(ModelError::Feature { feature, key: key.to_owned() });
        for (key, feature, neutral) in REFUSED {
            let is_neutral =
                self.0[key].is_null() || self.0[key].as_f64().is_some_and(|n| neutral.contains(&n));
            if !is_neutral {
                return refuse(feature, key);
            }
        }
        if self.flag("mlp_bias", false)? {
            return refuse("biases of the feed-forward layers", "mlp_bias");
        }
        for key in ["rope_parameters", "rope_scaling"] {
            if !self.0[key].is_null() && !self.0[key].is_object() {
                return self.wrong(key, "an object", &self.0[key]);
            }
        }
        // Newer files keep it with the other parameters of positions.
        for place in [self.0, &self.0["rope_parameters"], &self.0["rope_scaling"]] {
            let partial = &place["partial_rotary_factor"];
            if !partial.is_null() && partial.as_f64() != Some(1.0) {
                return refuse("heads that rotate in part", "partial_rotary_factor");
            }
        }
        match self.0["hidden_act"].as_str() {
            None | Some("silu" | "swish") => Ok(()),
            Some(other) => self.wrong("hidden_act", "silu", other),
        }
    }

    /// Refuses a factor of the attention scores other than the usual one.
    fn refuse_attention_scale(&self, head_size: u32) -> Result<(), ModelError> {
        let key = "attention_multiplier";
        let usual = 1.0 / f64::from(head_size).sqrt();
        if self.0[key].is_null() || self.0[key].as_f64().is_some_and(|scale| scale as f32 == usual as f32) {
            return Ok(());
        }
        Err(ModelError::Feature { feature: "scaled attention", key: key.to_owned() })
    }

    /// Positions that a query sees, where that is fewer than there are.
    fn window(&self, kind: &str, context: u32) -> Result<Option<u32>, ModelError> {
        let layers = self.size("num_hidden_layers", None, MAX_LAYERS)?;
        let mixed = |key: &str| {
            Err(ModelError::Feature { feature: "a sliding window of some layers only", key: key.to_owned() })
        };
        let mut used = match kind {
            "mistral" => true,
            "qwen2" | "qwen3" => self.flag("use_sliding_window", false)?,
            _ => false,
        };
        if let Some(kinds) = self.0["layer_types"].as_array() {
            let sliding = kinds.iter().filter(|k| **k == "sliding_attention").count();
            let full = kinds.iter().filter(|k| **k == "full_attention").count();
            if sliding + full != kinds.len() || (sliding > 0 && full > 0) {
                return mixed("layer_types");
            }
            used = sliding > 0;
        } else if used && kind != "mistral" {
            // Layers below this number see everything.
            let below = self.0["max_window_layers"].as_u64().unwrap_or(28);
            if below >= u64::from(layers) {
                return Ok(None);
            }
            if below > 0 {
                return mixed("max_window_layers");
            }
        }
        if !used || self.0["sliding_window"].is_null() {
            return Ok(None);
        }
        Ok(Some(self.size("sliding_window", None, u32::MAX as usize)?).filter(|n| *n < context))
    }

    fn rope_scaling(&self, context: u32) -> Result<RopeScaling, ModelError> {
        let scaling = match &self.0["rope_scaling"] {
            Value::Null => &self.0["rope_parameters"],
            scaling => scaling,
        };
        if scaling.is_null() {
            return Ok(RopeScaling::None {});
        }
        let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str()).unwrap_or("default");
        let number = |key: &str, default| self.f32(scaling, key, default);
        let original = || match &scaling["original_max_position_embeddings"] {
            Value::Null => Ok(context),
            value => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(n) => Ok(n),
                None => self.wrong("original_max_position_embeddings", "a whole number", value),
            },
        };
        match kind {
            "default" => Ok(RopeScaling::None {}),
            "linear" => Ok(RopeScaling::Linear { factor_bits: number("factor", None)?.to_bits() }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor_bits: number("factor", None)?.to_bits(),
                low_bits: number("low_freq_factor", None)?.to_bits(),
                high_bits: number("high_freq_factor", None)?.to_bits(),
                original_context: original()?,
            }),
            "yarn" => {
                for key in ["mscale", "mscale_all_dim"] {
                    if !scaling[key].is_null() {
                        return self.wrong(&format!("rope_scaling.{key}"), "nothing", &scaling[key]);
                    }
                }
                if scaling["truncate"] == false {
                    return self.wrong("rope_scaling.truncate", "true", "false");
                }
                let factor = number("factor", Some(context as f32 / original()? as f32))?;
                let attention = number("attention_factor", Some(yarn_attention(factor)))?;
                Ok(RopeScaling::Yarn {
                    factor_bits: factor.to_bits(),
                    original_context: original()?,
                    beta_fast_bits: number("beta_fast", Some(32.0))?.to_bits(),
                    beta_slow_bits: number("beta_slow", Some(1.0))?.to_bits(),
                    attention_bits: attention.to_bits(),
                })
            }
            other => self.wrong("rope_scaling.rope_type", "default, linear, llama3 or yarn", other),
        }
    }
}

#[cfg(test)]
mod tests;
