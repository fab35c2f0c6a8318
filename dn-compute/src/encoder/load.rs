//! From files to checked, quantised weights.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dn_core::merkle::{InclusionProof, MerkleTree};
use dn_core::objects::{EncoderHyperparameters, EncoderManifest};
use dn_core::{Canonical, Hash32, ModelId};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};

use super::layout::{Entry, entries};
use super::{EncoderError, config};
use crate::formats::gguf::{Gguf, TensorType};
use crate::model::{Tensor, Tile, tiles, weights};
use crate::spec::{BlockLength, MatrixError, NumericSpec, QuantMatrix};
use crate::tokenizer::Tokenizer;

/// The files of an encoder in Hugging Face's form.
#[derive(Debug, Clone, Copy)]
pub struct EncoderFiles<'a> {
    /// `config.json`.
    pub config: &'a [u8],
    /// `1_Pooling/config.json`; without it the mean is taken.
    pub pooling: Option<&'a [u8]>,
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `model.safetensors`.
    pub tensors: &'a [u8],
    /// Columns that share a mantissa once quantised.
    pub block: BlockLength,
}

/// What an encoder is, without its weights: manifest, tokenizer, and the hashes that a tile can be opened against.
#[derive(Debug)]
pub struct EncoderFront {
    manifest: EncoderManifest,
    tokenizer: Tokenizer,
    tiles: Vec<Tile>,
}

impl EncoderFront {
    /// What the encoder is, bit for bit.
    pub const fn manifest(&self) -> &EncoderManifest {
        &self.manifest
    }

    /// The encoder's identity.
    pub fn id(&self) -> ModelId {
        self.manifest.id()
    }

    /// Sizes and constants.
    pub const fn hyperparameters(&self) -> &EncoderHyperparameters {
        &self.manifest.hyperparameters
    }

    /// The tokenizer.
    pub const fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Opens a tile of the weights: its description and the proof to `tensors_root`; `None` past the last one.
    pub fn prove_tile(&self, index: u64) -> Option<(Tile, InclusionProof)> {
        let tile = self.tiles.get(usize::try_from(index).ok()?)?;
        Some((tile.clone(), self.tree().prove(index)?))
    }

    fn tree(&self) -> MerkleTree {
        MerkleTree::new(self.tiles.iter().map(Canonical::to_bytes))
    }
}

/// An encoder's front and its weights, checked and quantised.
///
/// # Identity
/// The tensors come in the order of the architecture: word, position and type embeddings, weight and bias of their norm;
/// per layer query, key, value, attention output (each a matrix and its bias), attention norm (weight, bias), up, down
/// (each a matrix and its bias), output norm (weight, bias). They are cut into tiles and hashed as a decoder's
/// ([`crate::model`]).
#[derive(Debug)]
pub struct EncoderModel {
    pub(super) front: EncoderFront,
    pub(super) tensors: Vec<Tensor>,
}

impl EncoderModel {
    /// Loads a directory in Hugging Face's form (`config.json`, `tokenizer.json`, `model.safetensors` and, where there is one,
    /// `1_Pooling/config.json`), or a GGUF file of the architecture `bert`.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn load(path: &Path) -> Result<Self, EncoderError> {
        Self::load_in_blocks(path, BlockLength::B32)
    }

    /// As [`load`](Self::load), with weights that are floats in the file quantised in blocks of this length: another
    /// [`EncoderFront::id`].
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn load_in_blocks(path: &Path, block: BlockLength) -> Result<Self, EncoderError> {
        if !path.is_dir() {
            return Self::from_gguf(&read(path)?, block);
        }
        let pooling = path.join("1_Pooling").join("config.json");
        let pooling = if pooling.exists() { Some(read(&pooling)?) } else { None };
        Self::from_files(&EncoderFiles {
            config: &read(&path.join("config.json"))?,
            pooling: pooling.as_deref(),
            tokenizer: &read(&path.join("tokenizer.json"))?,
            tensors: &read(&path.join("model.safetensors"))?,
            block,
        })
    }

    /// Loads files in Hugging Face's form from memory.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn from_files(files: &EncoderFiles<'_>) -> Result<Self, EncoderError> {
        let hyper = config::from_json(files.config, files.pooling)?;
        let tokenizer = Tokenizer::from_json(files.tokenizer)?;
        let tensors = SafeTensors::deserialize(files.tensors)?;
        let entries = entries(&hyper);
        // A model with a head on top calls the encoder in it `bert`.
        let prefix = match tensors.tensor("bert.embeddings.word_embeddings.weight") {
            Ok(_) => "bert.",
            Err(_) => "",
        };
        refuse_others(&tensors, prefix, &entries)?;
        let derive = |entry: &Entry| derive_safetensor(&tensors, prefix, entry, files.block);
        let values: Result<Vec<_>, _> = entries.par_iter().map(derive).collect();
        Self::assemble(hyper, tokenizer, values?)
    }

    /// Loads a GGUF file in memory; tensors of floats are quantised in blocks of `block`.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn from_gguf(bytes: &[u8], block: BlockLength) -> Result<Self, EncoderError> {
        let gguf = Gguf::parse(bytes)?;
        let hyper = config::from_gguf(&gguf)?;
        let tokenizer = Tokenizer::from_json(&config::tokenizer_of(&gguf)?)?;
        let entries = entries(&hyper);
        let known: BTreeSet<&str> = entries.iter().map(|e| e.gguf.as_str()).collect();
        if let Some(other) = gguf.tensors().iter().find(|t| !known.contains(t.name.as_str())) {
            return Err(EncoderError::UnexpectedTensor { name: other.name.clone() });
        }
        let derive = |entry: &Entry| {
            let name = entry.gguf.clone();
            let info = gguf.tensor(&name).ok_or(EncoderError::MissingTensor { name })?;
            let shape = info.shape.iter().rev().copied().collect();
            let range = info.start as usize..(info.start + info.size) as usize;
            derive(entry, &info.name, shape, (info.kind, &bytes[range]), block)
        };
        let values: Result<Vec<_>, _> = entries.par_iter().map(derive).collect();
        Self::assemble(hyper, tokenizer, values?)
    }

    /// The front.
    pub const fn front(&self) -> &EncoderFront {
        &self.front
    }

    fn assemble(
        hyperparameters: EncoderHyperparameters,
        tokenizer: Tokenizer,
        tensors: Vec<Tensor>,
    ) -> Result<Self, EncoderError> {
        let rows = hyperparameters.vocabulary;
        if tokenizer.vocabulary() > rows as usize {
            return Err(EncoderError::Vocabulary { tokens: tokenizer.vocabulary(), rows });
        }
        let tiles: Vec<Vec<Tile>> =
            tensors.par_iter().enumerate().map(|(index, tensor)| tiles(index, tensor)).collect();
        let manifest = EncoderManifest {
            numeric_spec: NumericSpec::V1.id(),
            architecture: "bert".to_owned(),
            hyperparameters,
            tensors_root: Hash32::ZERO,
            tokenizer_hash: tokenizer.hash(),
        };
        let mut front = EncoderFront { manifest, tokenizer, tiles: tiles.into_iter().flatten().collect() };
        front.manifest.tensors_root = front.tree().root();
        Ok(Self { front, tensors })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, EncoderError> {
    fs::read(path).map_err(|source| EncoderError::Read { path: path.display().to_string(), source })
}

fn derive_safetensor(
    tensors: &SafeTensors<'_>,
    prefix: &str,
    entry: &Entry,
    block: BlockLength,
) -> Result<Tensor, EncoderError> {
    let name = format!("{prefix}{}", entry.hugging_face);
    // Old files call a norm's weight gamma and its bias beta.
    let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    let Ok(tensor) = tensors.tensor(&name).or_else(|_| tensors.tensor(&old)) else {
        return Err(EncoderError::MissingTensor { name });
    };
    let kind = match tensor.dtype() {
        Dtype::F32 => TensorType::F32,
        Dtype::F16 => TensorType::F16,
        Dtype::BF16 => TensorType::Bf16,
        other => return Err(EncoderError::TensorType { name, found: format!("{other:?}") }),
    };
    let shape = tensor.shape().iter().map(|n| *n as u64).collect();
    derive(entry, &name, shape, (kind, tensor.data()), block)
}

/// The values of a tensor of `kind`, after a look at its shape, rows first.
fn derive(
    entry: &Entry,
    name: &str,
    shape: Vec<u64>,
    (kind, bytes): (TensorType, &[u8]),
    block: BlockLength,
) -> Result<Tensor, EncoderError> {
    let expected: Vec<u64> = entry.rows.into_iter().chain([entry.cols]).map(|n| n as u64).collect();
    // A single row may come without its count.
    let same = shape == expected || (entry.rows == Some(1) && shape == expected[1..]);
    let name = || name.to_owned();
    if !same {
        return Err(EncoderError::TensorShape { name: name(), expected, found: shape });
    }
    let matrix = |source| EncoderError::Matrix { name: name(), source };
    let Some(rows) = entry.rows else {
        let values = weights::vector(kind, entry.cols, bytes).map_err(matrix)?;
        return match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(EncoderError::NonFinite { name: name(), index }),
            None => Ok(Tensor::Vector(values)),
        };
    };
    quantised(kind, rows, entry.cols, bytes, block).map(Tensor::Matrix).map_err(matrix)
}

fn quantised(
    kind: TensorType,
    rows: usize,
    cols: usize,
    bytes: &[u8],
    block: BlockLength,
) -> Result<QuantMatrix, MatrixError> {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {
            QuantMatrix::from_f32_blocks(rows, cols, block, &weights::vector(kind, rows * cols, bytes)?)
        }
        TensorType::Q8_0 => QuantMatrix::from_q8_0(rows, cols, bytes),
        TensorType::Q4_0 => QuantMatrix::from_q4_0(rows, cols, bytes),
        TensorType::Q4K => QuantMatrix::from_q4_k(rows, cols, bytes),
        TensorType::Q5K => QuantMatrix::from_q5_k(rows, cols, bytes),
        TensorType::Q6K => QuantMatrix::from_q6_k(rows, cols, bytes),
    }
}

/// A tensor of the encoder that is not on the list would change what the model computes; heads on top of it do not.
fn refuse_others(tensors: &SafeTensors<'_>, prefix: &str, entries: &[Entry]) -> Result<(), EncoderError> {
    let expected: BTreeSet<&str> = entries.iter().map(|e| e.hugging_face.as_str()).collect();
    let mut names = tensors.names();
    names.sort_unstable();
    for name in names {
        let Some(inner) = name.strip_prefix(prefix) else { continue };
        let part = inner.starts_with("embeddings.") || inner.starts_with("encoder.");
        let modern =
            inner.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
        let known = inner == "embeddings.position_ids" || expected.contains(modern.as_str());
        if part && !known {
            return Err(EncoderError::UnexpectedTensor { name: name.to_owned() });
        }
    }
    Ok(())
}
