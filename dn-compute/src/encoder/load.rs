//! From files to checked, quantised weights.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use dn_core::merkle::{InclusionProof, MerkleTree};
use dn_core::objects::{EncoderHyperparameters, EncoderManifest};
use dn_core::{Canonical, Hash32, ModelId};
use rayon::prelude::*;

use super::layout::{Entry, entries};
use super::{EncoderError, config, modules};
use crate::formats::gguf::{Gguf, TensorType};
use crate::formats::safetensors::{Dtype, Safetensors};
use crate::model::{MAX_SIDE_BYTES, MAX_TOKENIZER_BYTES, Source, Tensor, Tile, side_file, tiles, weights};
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
    /// Loads a directory in Hugging Face's form (`config.json`, `tokenizer.json`, `model.safetensors` and, where there are any,
    /// `modules.json` and `1_Pooling/config.json`), or a GGUF file of the architecture `bert`.
    ///
    /// Where there is a `modules.json`, it lists a `Transformer`, a `Pooling` and perhaps a `Normalize`: others would change the
    /// embeddings and are refused. Embeddings have the length one with and without `Normalize`.
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
            let source = Source::open(path)?;
            let gguf = source.gguf()?;
            return Self::of_gguf(&gguf, Data::File(&source), block);
        }
        let listed = side_file(&path.join("modules.json"), MAX_SIDE_BYTES)?;
        listed.as_deref().map_or(Ok(()), modules::check)?;
        let pooling = path.join("1_Pooling").join("config.json");
        let pooling = match listed {
            // The list has it.
            Some(_) => Some(needed(&pooling, MAX_SIDE_BYTES)?),
            None => side_file(&pooling, MAX_SIDE_BYTES)?,
        };
        let config = needed(&path.join("config.json"), MAX_SIDE_BYTES)?;
        let hyper = config::from_json(&config, pooling.as_deref())?;
        let tokenizer = tokenizer(&needed(&path.join("tokenizer.json"), MAX_TOKENIZER_BYTES)?)?;
        let source = Source::open(&path.join("model.safetensors"))?;
        let header = source.safetensors()?;
        Self::of_safetensors(hyper, tokenizer, &header, Data::File(&source), block)
    }

    /// Loads files in Hugging Face's form from memory.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn from_files(files: &EncoderFiles<'_>) -> Result<Self, EncoderError> {
        let hyper = config::from_json(files.config, files.pooling)?;
        let tokenizer = tokenizer(files.tokenizer)?;
        let header = Safetensors::parse(files.tensors)?;
        Self::of_safetensors(hyper, tokenizer, &header, Data::Memory(files.tensors), files.block)
    }

    /// Loads a GGUF file in memory; tensors of floats are quantised in blocks of `block`.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn from_gguf(bytes: &[u8], block: BlockLength) -> Result<Self, EncoderError> {
        Self::of_gguf(&Gguf::parse(bytes)?, Data::Memory(bytes), block)
    }

    fn of_safetensors(
        hyper: EncoderHyperparameters,
        tokenizer: Tokenizer,
        header: &Safetensors,
        data: Data<'_>,
        block: BlockLength,
    ) -> Result<Self, EncoderError> {
        let entries = entries(&hyper);
        // A model with a head on top calls the encoder in it `bert`.
        let prefix = match header.tensor("bert.embeddings.word_embeddings.weight") {
            Some(_) => "bert.",
            None => "",
        };
        refuse_others(header, prefix, &entries)?;
        let derive = |entry: &Entry| derive_safetensor(header, data, prefix, entry, block);
        let values: Result<Vec<_>, _> = entries.par_iter().map(derive).collect();
        Self::assemble(hyper, tokenizer, values?)
    }

    fn of_gguf(gguf: &Gguf, data: Data<'_>, block: BlockLength) -> Result<Self, EncoderError> {
        let hyper = config::from_gguf(gguf)?;
        let tokenizer = Tokenizer::from_json(&config::tokenizer_of(gguf)?)?;
        let entries = entries(&hyper);
        let known: BTreeSet<&str> = entries.iter().map(|e| e.gguf.as_str()).collect();
        if let Some(other) = gguf.tensors().iter().find(|t| !known.contains(t.name.as_str())) {
            return Err(EncoderError::UnexpectedTensor { name: other.name.clone() });
        }
        let derive = |entry: &Entry| {
            let name = entry.gguf.clone();
            let info = gguf.tensor(&name).ok_or(EncoderError::MissingTensor { name })?;
            let shape = info.shape.iter().rev().copied().collect();
            derive(entry, &info.name, shape, info.kind, || data.read(info.start, info.size), block)
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

/// Where the bytes of the tensors are. The header has been checked: its tensors are inside.
#[derive(Clone, Copy)]
enum Data<'a> {
    Memory(&'a [u8]),
    /// Read tensor by tensor.
    File(&'a Source),
}

impl<'a> Data<'a> {
    fn read(self, start: u64, size: u64) -> Result<Cow<'a, [u8]>, EncoderError> {
        match self {
            Self::Memory(bytes) => Ok(Cow::Borrowed(&bytes[start as usize..(start + size) as usize])),
            Self::File(source) => Ok(source.read(start, size)?),
        }
    }
}

/// A file beside the weights that must be there.
fn needed(path: &Path, limit: u64) -> Result<Vec<u8>, EncoderError> {
    side_file(path, limit)?.ok_or_else(|| EncoderError::Read {
        path: path.display().to_string(),
        source: io::ErrorKind::NotFound.into(),
    })
}

fn tokenizer(json: &[u8]) -> Result<Tokenizer, EncoderError> {
    let tokenizer = Tokenizer::from_json(json)?;
    config::check_tokenizer(json)?;
    Ok(tokenizer)
}

fn derive_safetensor(
    header: &Safetensors,
    data: Data<'_>,
    prefix: &str,
    entry: &Entry,
    block: BlockLength,
) -> Result<Tensor, EncoderError> {
    let name = format!("{prefix}{}", entry.hugging_face);
    // Old files call a norm's weight gamma and its bias beta.
    let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    let Some(tensor) = header.tensor(&name).or_else(|| header.tensor(&old)) else {
        return Err(EncoderError::MissingTensor { name });
    };
    let kind = match tensor.dtype {
        Dtype::F32 => TensorType::F32,
        Dtype::F16 => TensorType::F16,
        Dtype::Bf16 => TensorType::Bf16,
        other => return Err(EncoderError::TensorType { name, found: other.to_string() }),
    };
    let read = || data.read(tensor.start, tensor.size);
    derive(entry, &name, tensor.shape.clone(), kind, read, block)
}

/// The values of a tensor of `kind`, read after a look at its shape, rows first.
fn derive<'a>(
    entry: &Entry,
    name: &str,
    shape: Vec<u64>,
    kind: TensorType,
    read: impl FnOnce() -> Result<Cow<'a, [u8]>, EncoderError>,
    block: BlockLength,
) -> Result<Tensor, EncoderError> {
    let expected: Vec<u64> = entry.rows.into_iter().chain([entry.cols]).map(|n| n as u64).collect();
    // A single row may come without its count.
    let same = shape == expected || (entry.rows == Some(1) && shape == expected[1..]);
    let name = || name.to_owned();
    if !same {
        return Err(EncoderError::TensorShape { name: name(), expected, found: shape });
    }
    let bytes = read()?;
    let matrix = |source| EncoderError::Matrix { name: name(), source };
    let Some(rows) = entry.rows else {
        let values = weights::vector(kind, entry.cols, &bytes).map_err(matrix)?;
        return match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(EncoderError::NonFinite { name: name(), index }),
            None => Ok(Tensor::Vector(values)),
        };
    };
    quantised(kind, rows, entry.cols, &bytes, block).map(Tensor::Matrix).map_err(matrix)
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
fn refuse_others(header: &Safetensors, prefix: &str, entries: &[Entry]) -> Result<(), EncoderError> {
    let expected: BTreeSet<&str> = entries.iter().map(|e| e.hugging_face.as_str()).collect();
    let mut names: Vec<&str> = header.tensors().iter().map(|t| t.name.as_str()).collect();
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
