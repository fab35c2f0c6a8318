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
pub(crate) mod weights;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use dn_core::merkle::{InclusionProof, MerkleTree};
use dn_core::objects::ModelManifest;
use dn_core::{Canonical, Hash32, ModelId};
use rayon::prelude::*;

pub use crate::tensors::Tile;
pub use error::ModelError;
pub use front::ModelFront;
pub(crate) use hf::{MAX_SIDE_BYTES, MAX_TOKENIZER_BYTES, side_file};
pub use source::ModelBytes;
pub(crate) use source::Source;
pub(crate) use tiles::of as tiles;

use crate::spec::{BlockLength, Blocks, NumericSpec, QuantMatrix};
use layout::{Entry, Form, Slot};
use open::{Opened, Promise};
use package::Packing;

/// A model: its front, its identity, and where its weights are.
///
/// The weights are checked and hashed when the model is loaded, and derived again when an engine prepares them; they are
/// not kept twice. What is derived the second time is compared with the hashes, so a file that has changed in
/// between is refused.
#[derive(Debug)]
pub struct Model {
    front: Arc<ModelFront>,
    manifest: ModelManifest,
    files: Files,
    tiles: Vec<Vec<Tile>>,
    recipe: Recipe,
}

/// Where the weights are.
#[derive(Debug, Clone)]
struct Files {
    sources: Arc<[Source]>,
    entries: Arc<[Entry]>,
    promise: Option<Arc<Promise>>,
}

/// The values of a tensor.
#[derive(Debug)]
pub(crate) enum Tensor {
    Matrix(QuantMatrix),
    Vector(Vec<f32>),
}

/// What sees a front before any weight is read, and may end the loading.
pub(crate) type Begin<'a, E> = dyn Fn(&Arc<ModelFront>) -> Result<(), E> + 'a;

/// What takes each tensor.
pub(crate) type Visit<'a, E> = dyn Fn(Slot, Tensor) -> Result<(), E> + Sync + 'a;

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

    /// A file in memory, under other constants than it says.
    #[cfg(test)]
    pub(crate) fn from_bytes_as(
        bytes: Vec<u8>,
        change: impl FnOnce(&mut dn_core::objects::Hyperparameters),
    ) -> Result<Self, ModelError> {
        let mut opened = open::bytes(bytes.into())?;
        change(opened.front.hyperparameters_mut());
        Self::from_opened(opened, Recipe::default())
    }

    /// As [`load`](Self::load), with every matrix quantised anew in blocks of a length: another [`Model::id`].
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load_in_blocks(path: &Path, block: BlockLength) -> Result<Self, ModelError> {
        Self::from_opened(open::path(path)?, Recipe { block: Some(block), coarse_bits: None })
    }

    /// Loads a model and hands every tensor on as soon as it is hashed: so that what comes after need not read and
    /// derive it again. `begin` sees the front before any weight is read; an error ends the loading.
    ///
    /// # Errors
    /// [`ModelError`] as an `E`, or what `begin` and `visit` return.
    pub(crate) fn load_with<E: From<ModelError> + Send>(
        path: &Path,
        begin: &Begin<'_, E>,
        visit: &Visit<'_, E>,
    ) -> Result<Self, E> {
        Self::visited(open::path(path)?, Recipe::default(), begin, visit)
    }

    /// As [`load_with`](Self::load_with), of a file in memory.
    pub(crate) fn from_bytes_with<E: From<ModelError> + Send>(
        bytes: ModelBytes,
        begin: &Begin<'_, E>,
        visit: &Visit<'_, E>,
    ) -> Result<Self, E> {
        Self::visited(open::bytes(bytes)?, Recipe::default(), begin, visit)
    }

    fn from_opened(opened: Opened, recipe: Recipe) -> Result<Self, ModelError> {
        Self::visited(opened, recipe, &|_| Ok(()), &|_, _| Ok(()))
    }

    fn visited<E: From<ModelError> + Send>(
        opened: Opened,
        recipe: Recipe,
        begin: &Begin<'_, E>,
        visit: &Visit<'_, E>,
    ) -> Result<Self, E> {
        let Opened { front, entries, sources, promise, .. } = opened;
        let front = Arc::new(front);
        begin(&front)?;
        let parts =
            Files { sources: sources.into(), entries: entries.into(), promise: promise.map(Arc::new) };
        Self::assemble(front, parts, recipe, visit)
    }

    fn assemble<E: From<ModelError> + Send>(
        front: Arc<ModelFront>,
        files: Files,
        recipe: Recipe,
        visit: &Visit<'_, E>,
    ) -> Result<Self, E> {
        let manifest = ModelManifest {
            numeric_spec: NumericSpec::V1.id(),
            block: common_block(&files.entries, recipe),
            architecture: front.architecture().to_owned(),
            hyperparameters: front.hyperparameters().clone(),
            tensors_root: Hash32::ZERO,
            tokenizer_hash: front.tokenizer().hash(),
            chat_template_hash: front.chat_template_hash(),
            bos_token: front.bos_token(),
            stop_tokens: front.stop_tokens().to_vec(),
        };
        let mut model = Self { front, manifest, files, tiles: Vec::new(), recipe };
        let derived: Vec<Result<_, E>> = (0..model.files.entries.len())
            .into_par_iter()
            .map(|index| {
                let (tensor, tiles) = model.derive(index)?;
                visit(model.files.entries[index].slot, tensor)?;
                Ok(tiles)
            })
            .collect();
        // In order, so that the first tensor at fault is the one that is named.
        model.tiles = derived.into_iter().collect::<Result<_, E>>()?;
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

    /// Whether the file promises a hash for each tile, with which every weight was compared: packages do, other formats have
    /// nothing of the kind.
    pub const fn has_promise(&self) -> bool {
        self.files.promise.is_some()
    }

    /// Opens a tile of the weights: its description and the proof to `tensors_root`; `None` past the last one.
    pub fn prove_tile(&self, index: u64) -> Option<(Tile, InclusionProof)> {
        let tile = self.tiles.iter().flatten().nth(usize::try_from(index).ok()?)?;
        Some((tile.clone(), tree(&self.tiles).prove(index)?))
    }

    /// Opens the tile that holds a row of a tensor (any row of a vector): its description, the proof and the bytes.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub(crate) fn open_tile(
        &self,
        slot: Slot,
        row: usize,
    ) -> Result<Option<(Tile, InclusionProof, Vec<u8>)>, ModelError> {
        let tensor = self.tensor(slot)?;
        let Some(at) = self.files.entries.iter().position(|e| e.slot == slot) else { return Ok(None) };
        let before: usize = self.tiles[..at].iter().map(Vec::len).sum();
        let holds = |t: &Tile| t.rows == 0 || (t.first_row..t.first_row + t.rows).contains(&(row as u32));
        let Some(index) = self.tiles[at].iter().position(holds) else { return Ok(None) };
        let tile = self.tiles[at][index].clone();
        let first = tile.first_row as usize;
        let bytes = match &tensor {
            Tensor::Matrix(matrix) => matrix.tile_bytes(first..first + tile.rows as usize),
            Tensor::Vector(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        Ok(tree(&self.tiles).prove((before + index) as u64).map(|proof| (tile, proof, bytes)))
    }

    /// The same architecture with weights rounded to fewer bits: cheaper, worse, and another [`Model::id`].
    ///
    /// # Errors
    /// [`ModelError::Bits`] unless `bits` is from 2 to 7.
    pub fn coarsened(&self, bits: u32) -> Result<Self, ModelError> {
        if !(2..=7).contains(&bits) {
            return Err(ModelError::Bits { found: bits });
        }
        let recipe = Recipe { coarse_bits: Some(bits), ..self.recipe };
        Self::assemble(Arc::clone(&self.front), self.files.clone(), recipe, &|_, _| Ok(()))
    }

    /// The tiles in the order of the tree.
    pub fn tiles(&self) -> impl Iterator<Item = &Tile> {
        self.tiles.iter().flatten()
    }

    /// The tensors in canonical order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.files.entries.iter().map(|e| e.slot)
    }

    /// What is known of each tensor before its values are read: its name in the file, rows (none for a vector), columns,
    /// and the form of its blocks.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Option<usize>, usize, Option<Blocks>)> {
        let recipe = self.recipe;
        self.files.entries.iter().map(move |e| (e.name.as_str(), e.rows, e.cols, blocks(e, recipe)))
    }

    /// Bytes that the weights take in canonical form.
    ///
    /// # Units
    /// Bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.files.entries.iter().map(|e| canonical_bytes(e, self.recipe)).sum()
    }

    /// Bytes that keys and values take for one position of one request.
    ///
    /// # Units
    /// Bytes.
    pub fn kv_bytes_per_position(&self) -> u64 {
        self.front.kv_bytes_per_position()
    }

    /// The tensor in a slot, derived anew and compared with the hashes.
    ///
    /// # Errors
    /// [`ModelError::MissingTensor`] for a slot that the architecture lacks, [`ModelError::Changed`], and what reading the
    /// file may bring.
    pub(crate) fn tensor(&self, slot: Slot) -> Result<Tensor, ModelError> {
        let index = self.files.entries.iter().position(|e| e.slot == slot);
        let index = index.ok_or_else(|| ModelError::MissingTensor { name: format!("{slot:?}") })?;
        let (tensor, tiles) = self.derive(index)?;
        if tiles != self.tiles[index] {
            return Err(ModelError::Changed { name: self.files.entries[index].name.clone() });
        }
        Ok(tensor)
    }

    fn derive(&self, index: usize) -> Result<(Tensor, Vec<Tile>), ModelError> {
        let (entry, recipe) = (&self.files.entries[index], self.recipe);
        let bytes = self.files.sources[entry.file].read(entry.start, entry.size)?;
        let name = || entry.name.clone();
        let wrong = |source| ModelError::Matrix { name: name(), source };
        let stored = match (entry.form, &self.files.promise) {
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
        let tiles = tiles(index, &tensor);
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

/// Bytes of a tensor in canonical form.
fn canonical_bytes(entry: &Entry, recipe: Recipe) -> u64 {
    match (entry.rows, blocks(entry, recipe)) {
        (Some(rows), Some(blocks)) => rows as u64 * blocks.row_bytes(entry.cols) as u64,
        _ => 4 * entry.cols as u64,
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
