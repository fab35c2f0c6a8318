//! The tensors of an architecture, in canonical order.

use dn_core::objects::Hyperparameters;

use super::ModelError;
use super::package::Packing;
use crate::formats::gguf::TensorType;
use crate::spec::Blocks;
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

/// What a tensor takes, as far as it is known before its values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TensorSize {
    pub(crate) slot: Slot,
    pub(crate) cols: usize,
    /// Rows, and the form of their blocks; `None` for a vector.
    pub(crate) matrix: Option<(usize, Blocks)>,
    /// Whether four bits hold its signed bytes, each less the smallest of its matrix or one more.
    ///
    /// Of formats with values of four bits this is what every program writes. A Q4_K that mixes scales of both signs, and a
    /// package with other smallest values in each block, are held in eight bits all the same; no reader can know before.
    pub(crate) four_bits: bool,
    /// Bytes in canonical form.
    pub(crate) canonical_bytes: u64,
    /// Most bytes at a time while the canonical form is made: it, what is read of the file, and what is in between.
    pub(crate) deriving_bytes: u64,
}

impl TensorSize {
    /// The size of each tensor.
    pub(super) fn of(entries: &[Entry]) -> Vec<Self> {
        entries.iter().map(Self::one).collect()
    }

    fn one(entry: &Entry) -> Self {
        let blocks = super::blocks(entry, Default::default());
        let canonical_bytes = super::canonical_bytes(entry, Default::default());
        let elements = entry.rows.unwrap_or(1) as u64 * entry.cols as u64;
        let floats = |kind| matches!(kind, TensorType::F32 | TensorType::F16 | TensorType::Bf16);
        let between = match entry.form {
            Form::Stored(kind) if floats(kind) => 4 * elements,
            Form::Stored(_) => 0,
            Form::Halves { kind, .. } if floats(kind) => entry.size + 4 * elements,
            Form::Halves { .. } => entry.size,
            // The canonical bytes that its hashes are of.
            Form::Packed(_) => canonical_bytes,
        };
        let four_bits = match entry.form {
            Form::Stored(kind) | Form::Halves { kind, .. } => {
                matches!(kind, TensorType::Q4_0 | TensorType::Q4K)
            }
            Form::Packed(packing) => packing.is_four_bits(),
        };
        Self {
            slot: entry.slot,
            cols: entry.cols,
            matrix: entry.rows.zip(blocks),
            four_bits,
            canonical_bytes,
            deriving_bytes: canonical_bytes + entry.size + between,
        }
    }
}
