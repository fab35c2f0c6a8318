//! Models: what a file holds, checked and quantised.
//!
//! # Identity
//! [`Model::id`] is the Keccak of the manifest, whose `tensors_root` is the Keccak Merkle root over *tiles*. Tensors come in
//! the order of the architecture (embedding; per layer: attention norm, query, key, value, their biases, attention
//! output, feed-forward norm, gate, up, down; output norm; output). A matrix is cut into tiles of `max(1, 32768 / row
//! bytes)` rows (the last may be shorter), a vector is one tile. A leaf's data is the canonical encoding of
//! [`Tile`]: which tensor, which rows, how many columns, and the BLAKE3 of the tile's bytes
//! ([`QuantMatrix::tile_bytes`]; for a vector its f32, little-endian, subnormals as zero). So a few rows can be
//! opened against a model's identity with 32 KiB and a Merkle path.

mod error;
mod front;
mod hyper;
pub(crate) mod layout;
mod source;
pub(crate) mod weights;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use dn_core::merkle::{InclusionProof, MerkleTree};
use dn_core::objects::ModelManifest;
use dn_core::{Canonical, Hash32, ModelId, blake3_256};
use rayon::prelude::*;

pub use crate::tensors::Tile;
pub use error::ModelError;
pub use front::ModelFront;
pub use source::ModelBytes;

use crate::spec::{BLOCK, NumericSpec, QuantMatrix};
use layout::{Entry, Slot};
use source::Source;

/// Canonical bytes of a tile aim at this size.
const TILE_BYTES: usize = 32 * 1024;

/// A model: its front, its identity, and where its weights are.
///
/// The weights are checked and hashed when the model is loaded, and derived again when an engine prepares them; they are
/// not kept twice. What is derived the second time is compared with the hashes, so a file that has changed in
/// between is refused.
#[derive(Debug)]
pub struct Model {
    front: Arc<ModelFront>,
    manifest: ModelManifest,
    source: Source,
    entries: Arc<[Entry]>,
    tiles: Vec<Vec<Tile>>,
    coarse_bits: Option<u32>,
}

/// The values of a tensor.
#[derive(Debug)]
pub(crate) enum Tensor {
    Matrix(QuantMatrix),
    Vector(Vec<f32>),
}

impl Model {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        Self::from_source(Source::open(path)?)
    }

    /// Loads a GGUF file in memory.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_bytes(bytes: impl Into<ModelBytes>) -> Result<Self, ModelError> {
        Self::from_source(Source::Memory(bytes.into()))
    }

    fn from_source(source: Source) -> Result<Self, ModelError> {
        Self::visited(source, &|_| Ok(()), &|_, _| Ok(()))
    }

    /// Loads a GGUF file and hands every tensor on as soon as it is hashed: so that what comes after need not read and
    /// derive it again. `begin` sees the front before any weight is read; an error ends the loading.
    ///
    /// # Errors
    /// [`ModelError`] as an `E`, or what `begin` and `visit` return.
    pub(crate) fn load_with<E: From<ModelError> + Send>(
        path: &Path,
        begin: &dyn Fn(&ModelFront) -> Result<(), E>,
        visit: &(dyn Fn(Slot, Tensor) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        Self::visited(Source::open(path)?, begin, visit)
    }

    /// As [`load_with`](Self::load_with), of a file in memory.
    pub(crate) fn from_bytes_with<E: From<ModelError> + Send>(
        bytes: ModelBytes,
        begin: &dyn Fn(&ModelFront) -> Result<(), E>,
        visit: &(dyn Fn(Slot, Tensor) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        Self::visited(Source::Memory(bytes), begin, visit)
    }

    fn visited<E: From<ModelError> + Send>(
        source: Source,
        begin: &dyn Fn(&ModelFront) -> Result<(), E>,
        visit: &(dyn Fn(Slot, Tensor) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        let (front, entries) = ModelFront::from_header(&source.header()?)?;
        begin(&front)?;
        Self::assemble(Arc::new(front), source, entries.into(), None, visit)
    }

    /// The slots of all tensors.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.entries.iter().map(|entry| entry.slot)
    }

    fn assemble<E: From<ModelError> + Send>(
        front: Arc<ModelFront>,
        source: Source,
        entries: Arc<[Entry]>,
        coarse_bits: Option<u32>,
        visit: &(dyn Fn(Slot, Tensor) -> Result<(), E> + Sync),
    ) -> Result<Self, E> {
        let manifest = ModelManifest {
            numeric_spec: NumericSpec::V1.id(),
            block: BLOCK as u16,
            architecture: front.architecture().to_owned(),
            hyperparameters: front.hyperparameters().clone(),
            tensors_root: Hash32::ZERO,
            tokenizer_hash: front.tokenizer().hash(),
            chat_template_hash: front.chat_template_hash(),
            bos_token: front.bos_token(),
            stop_tokens: front.stop_tokens().to_vec(),
        };
        let mut model = Self { front, manifest, source, entries, tiles: Vec::new(), coarse_bits };
        let tiles: Result<Vec<_>, E> = (0..model.entries.len())
            .into_par_iter()
            .map(|index| {
                let tensor = model.derive(index)?;
                let tiles = tiles(index, &tensor);
                visit(model.entries[index].slot, tensor)?;
                Ok(tiles)
            })
            .collect();
        model.tiles = tiles?;
        model.manifest.tensors_root = model.tree().root();
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
        Some((tile.clone(), self.tree().prove(index)?))
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
        let Some(at) = self.entries.iter().position(|e| e.slot == slot) else { return Ok(None) };
        let before: usize = self.tiles[..at].iter().map(Vec::len).sum();
        let holds = |t: &Tile| t.rows == 0 || (t.first_row..t.first_row + t.rows).contains(&(row as u32));
        let Some(index) = self.tiles[at].iter().position(holds) else { return Ok(None) };
        let tile = self.tiles[at][index].clone();
        let first = tile.first_row as usize;
        let bytes = match &tensor {
            Tensor::Matrix(matrix) => matrix.tile_bytes(first..first + tile.rows as usize),
            Tensor::Vector(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        Ok(self.tree().prove((before + index) as u64).map(|proof| (tile, proof, bytes)))
    }

    /// The same architecture with weights rounded to fewer bits: cheaper, worse, and another [`Model::id`].
    ///
    /// # Errors
    /// [`ModelError::Bits`] unless `bits` is from 2 to 7.
    pub fn coarsened(&self, bits: u32) -> Result<Self, ModelError> {
        if !(2..=7).contains(&bits) {
            return Err(ModelError::Bits { found: bits });
        }
        let (front, entries) = (Arc::clone(&self.front), Arc::clone(&self.entries));
        Self::assemble(front, self.source.clone(), entries, Some(bits), &|_, _| Ok(()))
    }

    /// Bytes that the weights take in canonical form. A backend's own form takes about as much.
    ///
    /// # Units
    /// Bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.front.weight_bytes()
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
        let index = self.entries.iter().position(|e| e.slot == slot);
        let index = index.ok_or_else(|| ModelError::MissingTensor { name: format!("{slot:?}") })?;
        let tensor = self.derive(index)?;
        if tiles(index, &tensor) != self.tiles[index] {
            return Err(ModelError::Changed { name: self.entries[index].info.name.clone() });
        }
        Ok(tensor)
    }

    fn tree(&self) -> MerkleTree {
        MerkleTree::new(self.tiles.iter().flatten().map(Canonical::to_bytes))
    }

    fn derive(&self, index: usize) -> Result<Tensor, ModelError> {
        let entry = &self.entries[index];
        let bytes = self.source.read(entry.info.start, entry.info.size)?;
        let Some(rows) = entry.rows else { return vector(entry, &bytes).map(Tensor::Vector) };
        let matrix = weights::matrix(entry.info.kind, rows, entry.cols, &bytes);
        let matrix = match (matrix, self.coarse_bits) {
            (Ok(matrix), Some(bits)) => weights::coarsen(&matrix, bits),
            (matrix, _) => matrix,
        };
        let name = || entry.info.name.clone();
        matrix.map(Tensor::Matrix).map_err(|source| ModelError::Matrix { name: name(), source })
    }
}

/// Bytes of a tensor in canonical form.
fn canonical_bytes(entry: &Entry) -> u64 {
    match entry.rows {
        Some(rows) => rows as u64 * weights::blocks(entry.info.kind).row_bytes(entry.cols) as u64,
        None => 4 * entry.cols as u64,
    }
}

fn vector(entry: &Entry, bytes: &[u8]) -> Result<Vec<f32>, ModelError> {
    let name = || entry.info.name.clone();
    let values = weights::vector(entry.info.kind, entry.cols, bytes)
        .map_err(|source| ModelError::Matrix { name: name(), source })?;
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(ModelError::NonFinite { name: name(), index }),
        None => Ok(values),
    }
}

/// The tiles of the tensor with this place in the order of the architecture.
pub(crate) fn tiles(tensor: usize, values: &Tensor) -> Vec<Tile> {
    let tensor = tensor as u32;
    match values {
        Tensor::Vector(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let hash = Hash32(blake3_256(&[&bytes]));
            vec![Tile { tensor, first_row: 0, rows: 0, cols: values.len() as u32, hash }]
        }
        Tensor::Matrix(matrix) => {
            let rows = matrix.rows();
            let step = (TILE_BYTES / matrix.blocks().row_bytes(matrix.cols())).max(1);
            let tile = |first: usize| {
                let range = first..rows.min(first + step);
                let (first_row, count) = (first as u32, range.len() as u32);
                let hash = Hash32(blake3_256(&[&matrix.tile_bytes(range)]));
                Tile { tensor, first_row, rows: count, cols: matrix.cols() as u32, hash }
            };
            (0..rows).step_by(step).map(tile).collect()
        }
    }
}
