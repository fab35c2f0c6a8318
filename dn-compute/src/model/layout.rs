//! The tensors of an architecture, in canonical order.

use dn_core::objects::Hyperparameters;

use super::ModelError;
use super::package::Packing;
use crate::formats::gguf::TensorType;
pub(crate) use crate::tensors::Slot;

impl Slot {
    /// The name in GGUF files.
    pub(crate) fn gguf_name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "token_embd.weight".to_owned(),
            Self::RopeFactors => return "rope_freqs.weight".to_owned(),
            Self::OutputNorm => return "output_norm.weight".to_owned(),
            Self::Output => return "output.weight".to_owned(),
            Self::AttentionNorm(l) => (l, "attn_norm.weight"),
            Self::Query(l) => (l, "attn_q.weight"),
            Self::QueryBias(l) => (l, "attn_q.bias"),
            Self::Key(l) => (l, "attn_k.weight"),
            Self::KeyBias(l) => (l, "attn_k.bias"),
            Self::Value(l) => (l, "attn_v.weight"),
            Self::ValueBias(l) => (l, "attn_v.bias"),
            Self::QueryNorm(l) => (l, "attn_q_norm.weight"),
            Self::KeyNorm(l) => (l, "attn_k_norm.weight"),
            Self::AttentionOutput(l) => (l, "attn_output.weight"),
            Self::OutputBias(l) => (l, "attn_output.bias"),
            Self::FfnNorm(l) => (l, "ffn_norm.weight"),
            Self::Gate(l) => (l, "ffn_gate.weight"),
            Self::Up(l) => (l, "ffn_up.weight"),
            Self::Down(l) => (l, "ffn_down.weight"),
        };
        format!("blk.{layer}.{part}")
    }

    /// The name in Hugging Face's files.
    pub(super) fn hub_name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "model.embed_tokens.weight".to_owned(),
            // Not stored there: the configuration has a formula.
            Self::RopeFactors => return "model.rope_factors".to_owned(),
            Self::OutputNorm => return "model.norm.weight".to_owned(),
            Self::Output => return "lm_head.weight".to_owned(),
            Self::AttentionNorm(l) => (l, "input_layernorm.weight"),
            Self::Query(l) => (l, "self_attn.q_proj.weight"),
            Self::QueryBias(l) => (l, "self_attn.q_proj.bias"),
            Self::Key(l) => (l, "self_attn.k_proj.weight"),
            Self::KeyBias(l) => (l, "self_attn.k_proj.bias"),
            Self::Value(l) => (l, "self_attn.v_proj.weight"),
            Self::ValueBias(l) => (l, "self_attn.v_proj.bias"),
            Self::QueryNorm(l) => (l, "self_attn.q_norm.weight"),
            Self::KeyNorm(l) => (l, "self_attn.k_norm.weight"),
            Self::AttentionOutput(l) => (l, "self_attn.o_proj.weight"),
            Self::OutputBias(l) => (l, "self_attn.o_proj.bias"),
            Self::FfnNorm(l) => (l, "post_attention_layernorm.weight"),
            Self::Gate(l) => (l, "mlp.gate_proj.weight"),
            Self::Up(l) => (l, "mlp.up_proj.weight"),
            Self::Down(l) => (l, "mlp.down_proj.weight"),
        };
        format!("model.layers.{layer}.{part}")
    }
}

/// How a tensor's bytes hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the formats have it.
    Stored(TensorType),
    /// The same, but the rows of each of so many heads come as two halves, and are wanted in pairs.
    Halves {
        /// The type.
        kind: TensorType,
        /// Heads.
        heads: usize,
    },
    /// As packages have it.
    Packed(Packing),
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) file: usize,
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) form: Form,
    /// Sizes, the fastest first.
    pub(super) shape: Vec<u64>,
}

/// A tensor that the model uses.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    /// Its name in the file.
    pub(crate) name: String,
    /// Which of the model's files it is in.
    pub(crate) file: usize,
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) form: Form,
    pub(crate) cols: usize,
    /// `None` for a vector.
    pub(crate) rows: Option<usize>,
}

/// Every tensor of the architecture, found in the files and of the right shape.
pub(super) fn entries(
    h: &Hyperparameters,
    name: fn(Slot) -> String,
    find: impl Fn(Slot, &str) -> Result<Option<Found>, ModelError>,
) -> Result<Vec<Entry>, ModelError> {
    let mut entries = Vec::new();
    for slot in Slot::all(h) {
        let name = name(slot);
        let Some(found) = find(slot, &name)? else { return Err(ModelError::MissingTensor { name }) };
        let (cols, rows) = slot.shape(h);
        let expected: Vec<u64> = [Some(cols), rows].into_iter().flatten().map(u64::from).collect();
        // Trailing sizes of 1 say nothing.
        let given = &found.shape[..found.shape.len().min(expected.len())];
        if given != expected || found.shape[given.len()..].iter().any(|n| *n != 1) {
            return Err(ModelError::TensorShape { name, expected, found: found.shape });
        }
        let Found { file, start, size, form, .. } = found;
        let (cols, rows) = (cols as usize, rows.map(|n| n as usize));
        entries.push(Entry { slot, name, file, start, size, form, cols, rows });
    }
    Ok(entries)
}

/// The first of these names that no entry has.
pub(super) fn unused<'a>(entries: &[Entry], names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut used: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    used.sort_unstable();
    let mut names = names;
    names.find(|name| used.binary_search(name).is_err())
}

/// What a model's tensors take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sizes {
    /// Bytes of all tensors in canonical form.
    pub(super) canonical: u64,
    /// Bytes of the largest tensor, as in the file and in canonical form together.
    pub(super) largest: u64,
}

impl Sizes {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let one = |e: &Entry| super::canonical_bytes(e, Default::default());
        let canonical = entries.iter().map(one).sum();
        Self { canonical, largest: entries.iter().map(|e| one(e) + e.size).max().unwrap_or(0) }
    }
}
