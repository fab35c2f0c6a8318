//! The tensors of an architecture, in canonical order.

use dn_core::objects::Hyperparameters;

use super::ModelError;
use crate::formats::gguf::{Gguf, TensorInfo};
pub(crate) use crate::tensors::Slot;
use crate::tensors::slots;

impl Slot {
    /// The name in GGUF files.
    fn name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "token_embd.weight".to_owned(),
            Self::OutputNorm => return "output_norm.weight".to_owned(),
            Self::Output => return "output.weight".to_owned(),
            Self::AttentionNorm(l) => (l, "attn_norm.weight"),
            Self::Query(l) => (l, "attn_q.weight"),
            Self::QueryBias(l) => (l, "attn_q.bias"),
            Self::Key(l) => (l, "attn_k.weight"),
            Self::KeyBias(l) => (l, "attn_k.bias"),
            Self::Value(l) => (l, "attn_v.weight"),
            Self::ValueBias(l) => (l, "attn_v.bias"),
            Self::AttentionOutput(l) => (l, "attn_output.weight"),
            Self::FfnNorm(l) => (l, "ffn_norm.weight"),
            Self::Gate(l) => (l, "ffn_gate.weight"),
            Self::Up(l) => (l, "ffn_up.weight"),
            Self::Down(l) => (l, "ffn_down.weight"),
        };
        format!("blk.{layer}.{part}")
    }
}

/// A tensor that the model uses.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    pub(crate) info: TensorInfo,
    pub(crate) cols: usize,
    /// `None` for a vector.
    pub(crate) rows: Option<usize>,
}

/// Every tensor of the architecture, found in the file and of the right shape; the file has no others.
pub(super) fn entries(gguf: &Gguf, arch: &str, h: &Hyperparameters) -> Result<Vec<Entry>, ModelError> {
    let slots = slots(arch, h);
    let mut entries = Vec::with_capacity(slots.len());
    for slot in slots {
        let name = slot.name();
        let info = gguf.tensor(&name).ok_or(ModelError::MissingTensor { name })?;
        let (cols, rows) = slot.shape(h);
        let expected: Vec<u64> = [Some(cols), rows].into_iter().flatten().map(u64::from).collect();
        // Trailing sizes of 1 say nothing.
        let given = &info.shape[..info.shape.len().min(expected.len())];
        if given != expected || info.shape[given.len()..].iter().any(|n| *n != 1) {
            let (name, found) = (info.name.clone(), info.shape.clone());
            return Err(ModelError::TensorShape { name, expected, found });
        }
        entries.push(Entry { slot, info: info.clone(), cols: cols as usize, rows: rows.map(|n| n as usize) });
    }
    refuse_others(gguf, arch, &entries)?;
    Ok(entries)
}

fn refuse_others(gguf: &Gguf, arch: &str, entries: &[Entry]) -> Result<(), ModelError> {
    if gguf.tensors().len() == entries.len() {
        return Ok(());
    }
    let mut used: Vec<&str> = entries.iter().map(|e| e.info.name.as_str()).collect();
    used.sort_unstable();
    let other = gguf.tensors().iter().find(|t| used.binary_search(&t.name.as_str()).is_err());
    match other {
        Some(t) if t.name == "rope_freqs.weight" => {
            Err(ModelError::Feature { feature: "scaled rotary positions", key: t.name.clone() })
        }
        Some(t) => Err(ModelError::UnexpectedTensor { name: t.name.clone(), architecture: arch.to_owned() }),
        None => Ok(()),
    }
}
