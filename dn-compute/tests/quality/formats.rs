//! What each format makes of a model.

use std::collections::HashMap;

use dn_compute::embedded;
use dn_compute::formats::gguf::{Gguf, GgufWriter, TensorType};
use dn_compute::spec::{BlockLength, QuantMatrix};

use super::blocks;
use super::oracle::{HEAD, Weights, half_to_f32};

/// What a format makes of a model's matrices.
#[derive(Clone, Copy)]
pub(super) enum Format {
    /// Eight bits, quantised from floats when the model is loaded.
    Block(BlockLength),
    /// A file of these blocks.
    File(TensorType),
}

impl Format {
    pub(super) fn name(self) -> String {
        match self {
            Self::Block(length) => format!("block {length}"),
            Self::File(kind) => kind.to_string(),
        }
    }

    /// The type that rows of some length can have: K-quants need whole blocks of 256.
    fn kind(self, cols: usize) -> Option<TensorType> {
        match self {
            Self::File(kind) if !(cols as u64).is_multiple_of(kind.block().0) => Some(TensorType::Q8_0),
            Self::File(kind) => Some(kind),
            Self::Block(_) => None,
        }
    }

    fn matrix(self, cols: usize, values: &[f32]) -> QuantMatrix {
        let rows = values.len() / cols;
        let matrix = match (self, self.kind(cols)) {
            (Self::Block(length), _) => QuantMatrix::from_f32_blocks(rows, cols, length, values),
            (_, Some(TensorType::Q8_0)) => QuantMatrix::from_q8_0(rows, cols, &blocks::q8_0(values)),
            (_, Some(TensorType::Q4_0)) => QuantMatrix::from_q4_0(rows, cols, &blocks::q4_0(values)),
            (_, Some(TensorType::Q4K)) => QuantMatrix::from_q4_k(rows, cols, &blocks::q4_k(values)),
            (_, Some(TensorType::Q5K)) => QuantMatrix::from_q5_k(rows, cols, &blocks::q5_k(values)),
            (_, Some(TensorType::Q6K)) => QuantMatrix::from_q6_k(rows, cols, &blocks::q6_k(values)),
            (_, other) => panic!("{other:?}"),
        };
        matrix.unwrap()
    }

    /// The model with its matrices in this format, as real numbers.
    pub(super) fn weights(self, exact: &Weights) -> Weights {
        let of = |(name, (cols, values)): (&String, &(usize, Vec<f32>))| {
            if values.len() == *cols {
                return (name.clone(), (*cols, values.clone())); // a vector
            }
            let m = self.matrix(*cols, values);
            let value = |i: usize| m.value(i / cols, i % cols) as f32;
            (name.clone(), (*cols, (0..values.len()).map(value).collect()))
        };
        exact.iter().map(of).collect()
    }

    /// A file with the matrices in this format and everything else as the embedded model has it.
    pub(super) fn file(self, exact: &Weights) -> Option<Vec<u8>> {
        let gguf = Gguf::parse(embedded::tiny_rust()).unwrap();
        let mut w = GgufWriter::new();
        for (key, value) in gguf.metadata.iter() {
            w.key(key, value.clone());
        }
        for t in gguf.tensors() {
            let (cols, values) = &exact[&t.name];
            let kind = if values.len() == *cols { TensorType::F32 } else { self.kind(*cols)? };
            let bytes = match kind {
                TensorType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                TensorType::Q8_0 => blocks::q8_0(values),
                TensorType::Q4_0 => blocks::q4_0(values),
                TensorType::Q4K => blocks::q4_k(values),
                TensorType::Q5K => blocks::q5_k(values),
                TensorType::Q6K => blocks::q6_k(values),
                other => panic!("{other}"),
            };
            w.tensor(&t.name, &t.shape, kind, bytes);
        }
        Some(w.finish())
    }
}

/// The weights of a Hugging Face Llama of f16 tensors, under the names and the row order of a GGUF file.
pub(super) fn safetensors_weights(path: &str) -> Weights {
    let file = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let tensors: HashMap<String, serde_json::Value> = serde_json::from_slice(&file[8..8 + header]).unwrap();
    let mut out = Weights::new();
    for (name, t) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
        assert_eq!(t["dtype"], "F16", "{name}");
        let number = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
        let range = 8 + header + number(&t["data_offsets"][0])..8 + header + number(&t["data_offsets"][1]);
        let values: Vec<f32> =
            file[range].chunks(2).map(|b| half_to_f32(u16::from_le_bytes([b[0], b[1]]))).collect();
        let cols = t["shape"].as_array().unwrap().last().map(number).unwrap();
        let mut renamed = name.replace("model.layers.", "blk.").replace("self_attn.", "attn_");
        for (from, to) in [
            ("model.embed_tokens", "token_embd"),
            ("model.norm", "output_norm"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("attn_o_proj", "attn_output"),
            ("mlp.", "ffn_"),
            ("_proj", ""),
        ] {
            renamed = renamed.replace(from, to);
        }
        let rotated = renamed.contains("attn_q") || renamed.contains("attn_k");
        out.insert(renamed, (cols, if rotated { interleave(&values, cols) } else { values }));
    }
    out
}

/// Rows of each head from halves to pairs.
fn interleave(values: &[f32], cols: usize) -> Vec<f32> {
    let row = |head: &[f32], i: usize| head[(i % 2 * HEAD / 2 + i / 2) * cols..][..cols].to_vec();
    values
        .chunks(HEAD * cols)
        .flat_map(|head| (0..HEAD).flat_map(|i| row(head, i)).collect::<Vec<_>>())
        .collect()
}
