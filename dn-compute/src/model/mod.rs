//! Models: what a file holds, checked and quantised.
//!
//! # Identity
//! [`Model::id`] is the Keccak of the manifest, whose `tensors_root` is the Keccak Merkle root over *tiles*. Tensors come in
//! the order of the architecture (embedding; rope factors; per layer: attention norm, query, key, value, their biases, query and key head norms, attention
//! output, its bias, feed-forward norm, gate, up, down; output norm; output). A matrix is cut into tiles of `max(1, 32768 / row
//! bytes)` rows (the last may be shorter), a vector is one tile. A leaf's data is the canonical encoding of
//! [`Tile`]: which tensor, which rows, how many columns, and the BLAKE3 of the tile's bytes
//! ([`QuantMatrix::tile_bytes`]; for a vector its f32, little-endian, subnormals as zero). So a few rows can be
//! opened against a model's identity with 32 KiB and a Merkle path.

mod error;
mod front;
mod hf;
mod hyper;
pub(crate) mod layout;
mod open;
pub mod package;
mod source;
mod tiles;
mod weights;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use dn_core::merkle::{InclusionProof, MerkleTree};
use dn_core::objects::ModelManifest;
use dn_core::{Canonical, Hash32, ModelId};
use rayon::prelude::*;

pub use error::ModelError;
pub use front::ModelFront;
pub use source::ModelBytes;
pub use tiles::Tile;

pub(crate) use hyper::rope_spec;

use crate::spec::{BlockLength, Blocks, NumericSpec, QuantMatrix};
use layout::{Entry, Form, Slot};
use open::{Opened, Promise};
use package::Packing;
use source::Source;

/// A model: its front, its identity, and where its weights are.
///
/// The weights are checked and hashed when the model is loaded, and derived again when an engine prepares them; they are
/// not kept twice. What is derived the second time is compared with the hashes, so a file that has changed in
/// between is refused.
#[derive(Debug)]
pub struct Model {
    front: Arc<ModelFront>,
    manifest: ModelManifest,
    sources: Arc<[Source]>,
    entries: Arc<[Entry]>,
    promise: Option<Arc<Promise>>,
    tiles: Vec<Vec<Tile>>,
    recipe: Recipe,
}

/// The values of a tensor.
#[derive(Debug)]
pub(crate) enum Tensor {
    Matrix(QuantMatrix),
    Vector(Vec<f32>),
}

/// How weights are made of what the files hold.
#[derive(Debug, Clone, Copy, Default)]
struct Recipe {
    /// Blocks to quantise every matrix in.
    block: Option<BlockLength>,
    /// Bits to round weights to.
    coarse_bits: Option<u32>,
}

impl Model {
    /// Loads a model: a GGUF file, a model package, a directory of safetensors with `config.json`, or one file of such a
    /// directory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::from_opened(open::path(path)?, Recipe::default())
    }

    /// Loads a GGUF file or a package in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_bytes(bytes: impl Into<ModelBytes>) -> Result<Self, ModelError> {
        Self::from_opened(open::bytes(bytes.into())?, Recipe::default())
    }

    /// As [`load`](Self::load), with every matrix quantised anew in blocks of a length: another [`Model::id`].
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load_in_blocks(path: &Path, block: BlockLength) -> Result<Self, ModelError> {
        Self::from_opened(open::path(path)?, Recipe { block: Some(block), coarse_bits: None })
    }

    fn from_opened(opened: Opened, recipe: Recipe) -> Result<Self, ModelError> {
        let Opened { front, entries, sources, promise, .. } = opened;
        Self::assemble(Arc::new(front), sources.into(), entries.into(), promise.map(Arc::new), recipe)
    }

    fn assemble(
        front: Arc<ModelFront>,
        sources: Arc<[Source]>,
        entries: Arc<[Entry]>,
        promise: Option<Arc<Promise>>,
        recipe: Recipe,
    ) -> Result<Self, ModelError> {
        let manifest = ModelManifest {
            numeric_spec: NumericSpec::V1.id(),
            block: common_block(&entries, recipe),
            architecture: front.architecture().to_owned(),
            hyperparameters: front.hyperparameters().clone(),
            tensors_root: Hash32::ZERO,
            tokenizer_hash: front.tokenizer().hash(),
            chat_template_hash: front.chat_template_hash(),
            bos_token: front.bos_token(),
            stop_tokens: front.stop_tokens().to_vec(),
        };
        let mut model = Self { front, manifest, sources, entries, promise, tiles: Vec::new(), recipe };
        let all = 0..model.entries.len();
        let derived: Vec<_> = all.into_par_iter().map(|i| model.derive(i).map(|(_, tiles)| tiles)).collect();
        // In order, so that the first tensor at fault is the one that is named.
        model.tiles = derived.into_iter().collect::<Result<_, _>>()?;
        model.manifest.tensors_root = root(&model.tiles);
        Ok(model)
    }

    /// The cheap half.
    pub const fn front(&self) -> &Arc<ModelFront> {
        &self.front
    }

    /// What the model is, bit for bit.
    pub const fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// The model's identity.
    pub fn id(&self) -> ModelId {
        self.manifest.id()
    }

    /// Opens a tile of the weights: its description and the proof to `tensors_root`; `None` past the last one.
    pub fn prove_tile(&self, index: u64) -> Option<(Tile, InclusionProof)> {
        let tile = self.tiles.iter().flatten().nth(usize::try_from(index).ok()?)?;
        Some((tile.clone(), tree(&self.tiles).prove(index)?))
    }

    /// The same architecture with weights rounded to fewer bits: cheaper, worse, and another [`Model::id`].
    ///
    /// # Errors
    /// [`ModelError::Bits`] unless `bits` is from 2 to 7.
    pub fn coarsened(&self, bits: u32) -> Result<Self, ModelError> {
        if !(2..=7).contains(&bits) {
            return Err(ModelError::Bits { found: bits });
        }
        let (front, sources) = (Arc::clone(&self.front), Arc::clone(&self.sources));
        let recipe = Recipe { coarse_bits: Some(bits), ..self.recipe };
        Self::assemble(front, sources, Arc::clone(&self.entries), self.promise.clone(), recipe)
    }

    /// The tiles in the order of the tree.
    pub fn tiles(&self) -> impl Iterator<Item = &Tile> {
        self.tiles.iter().flatten()
    }

    /// The tensors in canonical order.
    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.entries.iter().map(|e| e.slot)
    }

    /// What is known of each tensor before its values are read: its name in the file, rows (none for a vector), columns,
    /// and the form of its blocks.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Option<usize>, usize, Option<Blocks>)> {
        let recipe = self.recipe;
        self.entries.iter().map(move |e| (e.name.as_str(), e.rows, e.cols, blocks(e, recipe)))
    }

    /// Bytes that the weights take in canonical form. A backend's own form takes about as much.
    ///
    /// # Units
    /// Bytes.
    pub fn weight_bytes(&self) -> u64 {
        let bytes = |e: &Entry| match (e.rows, blocks(e, self.recipe)) {
            (Some(rows), Some(blocks)) => rows as u64 * blocks.row_bytes(e.cols) as u64,
            _ => 4 * e.cols as u64,
        };
        self.entries.iter().map(bytes).sum()
    }

    /// Bytes that keys and values take for one position of one request.
    ///
    /// # Units
    /// Bytes.
    pub fn kv_bytes_per_position(&self) -> u64 {
        let h = self.front.hyperparameters();
        // Two vectors of 16-bit integers, each under one exponent.
        u64::from(h.layers) * u64::from(h.kv_heads) * (u64::from(h.head_size) * 4 + 8)
    }

    /// The tensor in a slot, derived anew and compared with the hashes.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`] for a slot that the architecture lacks, [`ModelError::Changed`], and what reading the
    /// file may bring.
    pub(crate) fn tensor(&self, slot: Slot) -> Result<Tensor, ModelError> {
        let index = self.entries.iter().position(|e| e.slot == slot);
        let index = index.ok_or_else(|| ModelError::MissingTensor { name: format!("{slot:?}") })?;
        let (tensor, tiles) = self.derive(index)?;
        if tiles != self.tiles[index] {
            return Err(ModelError::Changed { name: self.entries[index].name.clone() });
        }
        Ok(tensor)
    }

    fn derive(&self, index: usize) -> Result<(Tensor, Vec<Tile>), ModelError> {
        let (entry, recipe) = (&self.entries[index], self.recipe);
        let bytes = self.sources[entry.file].read(entry.start, entry.size)?;
        let name = || entry.name.clone();
        let wrong = |source| ModelError::Matrix { name: name(), source };
        let stored = match (entry.form, &self.promise) {
            (Form::Packed(packing), Some(promise)) => {
                let (tensor, tiles) = package::tensor(index, entry, packing, &bytes, &promise.tiles[index])?;
                if recipe.block.is_none() && recipe.coarse_bits.is_none() {
                    return Ok((tensor, tiles));
                }
                tensor
            }
            _ => weights::tensor(entry, &bytes, recipe.block)?,
        };
        let tensor = match stored {
            Tensor::Matrix(matrix) => Tensor::Matrix(weights::remade(matrix, recipe).map_err(wrong)?),
            vector => vector,
        };
        let tiles = tiles::of(index, &tensor);
        Ok((tensor, tiles))
    }
}

/// The form of the blocks that a matrix will have; `None` for a vector.
fn blocks(entry: &Entry, recipe: Recipe) -> Option<Blocks> {
    entry.rows?;
    let stored = match entry.form {
        Form::Stored(kind) | Form::Halves { kind, .. } => weights::blocks(kind),
        Form::Packed(Packing::Matrix { blocks, .. }) => blocks,
        Form::Packed(Packing::Vector) => return None,
    };
    match (recipe.block, recipe.coarse_bits) {
        (Some(length), _) => Some(Blocks::plain(length)),
        (None, Some(_)) => Some(Blocks::plain(stored.length)),
        (None, None) => Some(stored),
    }
}

/// Weights per mantissa where every matrix has the same number, else 1.
fn common_block(entries: &[Entry], recipe: Recipe) -> u16 {
    let mut lengths = entries.iter().filter_map(|e| blocks(e, recipe)).map(|b| b.length);
    let first = lengths.next();
    match first {
        Some(length) if length != BlockLength::Row && lengths.all(|l| l == length) => length.code().into(),
        _ => 1,
    }
}

fn tree(tiles: &[Vec<Tile>]) -> MerkleTree {
    MerkleTree::new(tiles.iter().flatten().map(Canonical::to_bytes))
}

/// The Merkle root over the tiles of all tensors.
fn root(tiles: &[Vec<Tile>]) -> Hash32 {
    tree(tiles).root()
}
