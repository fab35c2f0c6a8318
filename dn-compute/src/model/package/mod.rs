//! Model packages: one file with the manifest, the tokenizer, the chat template and the canonical weights.
//!
//! # Form
//! The eight bytes `MAGIC`, the header's length as u64, the header in canonical encoding, zeros up to a multiple of 64; then
//! each tensor in the order of the architecture, each filled up with zeros to a multiple of 64. All numbers little-endian.
//! The header holds the manifest and everything that it commits to but the weights, of which it holds the hash of
//! each tile. So a reader checks the header against the manifest at once, and each tile as it is read; the first
//! tile that is not the promised one is named.

mod pack;
mod write;

#[cfg(test)]
mod tests;

use dn_core::objects::ModelManifest;
use dn_core::{Canonical, Hash32, blake3_256, canonical_struct};

pub(crate) use pack::Packing;
pub use write::{ConvertSource, convert, partial_path};

use super::front::{Chat, ModelFront, Parts};
use super::layout::{Entry, Form, Slot, TensorSize};
use super::open::{Opened, Promise};
use super::source::Source;
use super::{ModelError, Recipe, Tensor, Tile, hyper, tiles};
use crate::spec::{MatrixError, NumericSpec, QuantMatrix};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::definition::TokenizerSource;

/// The first eight bytes of a package.
pub(super) const MAGIC: [u8; 8] = *b"DNMODEL1";
/// Longest header.
const MAX_HEADER_BYTES: u64 = 512 << 20;
/// Tensors start at multiples of this.
const ALIGNMENT: u64 = 64;

/// Everything of a package but the weights.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    manifest: ModelManifest,
    name: Option<String>,
    tokenizer: TokenizerSource,
    /// The template's text, and the texts it is given for the tokens that start and end a text.
    template: Option<String>,
    bos_text: String,
    eos_text: String,
    /// How each tensor is stored.
    packings: Vec<[u8; 4]>,
    /// The hash of each tile.
    tiles: Vec<Hash32>,
}
canonical_struct!(Header {
    manifest: ModelManifest,
    name: Option<String>,
    tokenizer: TokenizerSource,
    template: Option<String>,
    bos_text: String,
    eos_text: String,
    packings: Vec<[u8; 4]>,
    tiles: Vec<Hash32>,
});

/// Opens a package: its header is checked against its manifest, the weights are not read.
pub(super) fn open(source: Source) -> Result<Opened, ModelError> {
    let damaged = |what| ModelError::Package { what };
    let first = source.first(16)?.into_owned();
    let Some(length) = first.get(8..16).and_then(|b| b.first_chunk::<8>()) else {
        return Err(damaged("the file ends before the length of its header"));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES || length + 16 > source.len() {
        return Err(damaged("the header is longer than the file or than 512 MiB"));
    }
    let bytes = source.read(16, length)?;
    let header = Header::from_bytes(&bytes).map_err(|_| damaged("the header is no canonical encoding"))?;
    drop(bytes);
    let Header { manifest, name, tokenizer, template, bos_text, eos_text, packings, tiles } = header;
    if NumericSpec::from_id(manifest.numeric_spec).is_none() {
        return Err(damaged("its numeric specification is not known to this program"));
    }
    if !crate::tensors::ARCHITECTURES.contains(&manifest.architecture.as_str()) {
        return Err(ModelError::Architecture { found: manifest.architecture });
    }
    let h = &manifest.hyperparameters;
    hyper::check_sizes(h)?;
    let (entries, end) = entries(h, &packings, (16 + length).next_multiple_of(ALIGNMENT))?;
    if end != source.len() {
        return Err(damaged("the file is not as long as its tensors"));
    }
    if manifest.block != super::common_block(&entries, Recipe::default()) {
        return Err(damaged("its manifest has another block length than its tensors"));
    }
    let front = ModelFront::new(Parts {
        name,
        architecture: manifest.architecture.clone(),
        hyper: h.clone(),
        tokenizer: Tokenizer::from_source(&tokenizer)?,
        chat: template.clone().map(|source| Chat { source, bos: bos_text.clone(), eos: eos_text.clone() }),
        bos: manifest.bos_token,
        stops: manifest.stop_tokens.clone(),
        sizes: TensorSize::of(&entries),
    })?;
    let part = |what, expected: Hash32, found: Hash32| {
        if expected == found { Ok(()) } else { Err(ModelError::Part { what, expected, found }) }
    };
    part("tokenizer", manifest.tokenizer_hash, front.tokenizer().hash())?;
    part("chat template", manifest.chat_template_hash, front.chat_template_hash())?;
    if front.stop_tokens() != manifest.stop_tokens {
        return Err(damaged("its stop tokens are not those that its tokenizer asks for"));
    }
    let chat = template.map(|source| Chat { source, bos: bos_text, eos: eos_text });
    let promise = Promise { root: manifest.tensors_root, tiles: split(&entries, tiles)? };
    part("list of tiles", promise.root, super::root(&promised(&entries, &promise)))?;
    Ok(Opened { front, entries, sources: vec![source], tokenizer, chat, promise: Some(promise) })
}

/// The tensors, one after another from `start`, and where they end.
fn entries(
    h: &dn_core::objects::Hyperparameters,
    packings: &[[u8; 4]],
    start: u64,
) -> Result<(Vec<Entry>, u64), ModelError> {
    let damaged = |what| ModelError::Package { what };
    let slots = Slot::all(h);
    if slots.len() != packings.len() {
        return Err(damaged("it does not hold the tensors of its architecture"));
    }
    let (mut entries, mut at) = (Vec::with_capacity(slots.len()), start);
    for (slot, code) in slots.into_iter().zip(packings) {
        let (cols, rows) = slot.shape(h);
        let (cols, rows) = (cols as usize, rows.map(|n| n as usize));
        let packing = Packing::from_code(*code).filter(|p| (*p == Packing::Vector) == rows.is_none());
        let packing = packing.ok_or_else(|| damaged("a tensor is stored in a form that does not exist"))?;
        // At most 2^24 rows of 2^18 bytes.
        let size = rows.unwrap_or(1) as u64 * packing.row_bytes(cols) as u64;
        let (name, form) = (slot.gguf_name(), Form::Packed(packing));
        entries.push(Entry { slot, name, file: 0, start: at, size, form, cols, rows });
        at = at.saturating_add(size.next_multiple_of(ALIGNMENT));
    }
    Ok((entries, at))
}

/// The hashes of tiles, tensor by tensor.
fn split(entries: &[Entry], hashes: Vec<Hash32>) -> Result<Vec<Vec<Hash32>>, ModelError> {
    let mut rest = hashes.into_iter();
    let take = |entry: &Entry| {
        let count = match entry.form {
            Form::Packed(Packing::Matrix { blocks, .. }) => tiles::count(entry, blocks),
            _ => 1,
        };
        rest.by_ref().take(count).collect::<Vec<_>>()
    };
    let out: Vec<_> = entries.iter().map(take).collect();
    let complete = out.iter().all(|tiles| !tiles.is_empty()) && rest.next().is_none();
    let full = out.iter().zip(entries).all(|(hashes, e)| match e.form {
        Form::Packed(Packing::Matrix { blocks, .. }) => hashes.len() == tiles::count(e, blocks),
        _ => hashes.len() == 1,
    });
    if complete && full {
        Ok(out)
    } else {
        Err(ModelError::Package { what: "it has not one hash for each tile" })
    }
}

/// The tiles that a package promises.
fn promised(entries: &[Entry], promise: &Promise) -> Vec<Vec<Tile>> {
    let tile = |(index, (entry, hashes)): (usize, (&Entry, &Vec<Hash32>))| {
        let (rows, step) = match (entry.form, entry.rows) {
            (Form::Packed(Packing::Matrix { blocks, .. }), Some(rows)) => {
                (rows, tiles::tile_rows(blocks, entry.cols))
            }
            _ => (0, 1),
        };
        let of = |(i, hash): (usize, &Hash32)| Tile {
            tensor: index as u32,
            first_row: (i * step) as u32,
            rows: rows.saturating_sub(i * step).min(step) as u32,
            cols: entry.cols as u32,
            hash: *hash,
        };
        hashes.iter().enumerate().map(of).collect()
    };
    entries.iter().zip(&promise.tiles).enumerate().map(tile).collect()
}

/// The values of a stored tensor, each tile compared with the promised hash before anything is made of it.
pub(super) fn tensor(
    index: usize,
    entry: &Entry,
    packing: Packing,
    bytes: &[u8],
    promised: &[Hash32],
) -> Result<(Tensor, Vec<Tile>), ModelError> {
    let name = || entry.name.clone();
    let mut tiles = Vec::with_capacity(promised.len());
    let mut check = |first_row: usize, rows: usize, canonical: &[u8]| {
        let hash = Hash32(blake3_256(&[canonical]));
        let (tensor, first_row, rows) = (index as u32, first_row as u32, rows as u32);
        let expected = promised[tiles.len()];
        if hash != expected {
            let last_row = first_row + rows.saturating_sub(1);
            return Err(ModelError::Tile { name: name(), first_row, last_row, expected, found: hash });
        }
        tiles.push(Tile { tensor, first_row, rows, cols: entry.cols as u32, hash });
        Ok(())
    };
    let (Packing::Matrix { blocks, width }, Some(rows)) = (packing, entry.rows) else {
        check(0, 0, bytes)?;
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        // Canonical values are flushed, so a subnormal or -0 is as wrong as a NaN.
        let plain = |v: &f32| v.is_finite() && crate::spec::float::flush(*v).to_bits() == v.to_bits();
        return match values.iter().position(|v| !plain(v)) {
            Some(index) => Err(ModelError::NonFinite { name: name(), index }),
            None => Ok((Tensor::Vector(values), tiles)),
        };
    };
    let (stride, step) = (packing.row_bytes(entry.cols), tiles::tile_rows(blocks, entry.cols));
    for (i, stored) in bytes.chunks(stride * step).enumerate() {
        let canonical = pack::unpack(blocks, width, entry.cols, stored);
        check(i * step, stored.len() / stride, &canonical)?;
    }
    let wrong = |source: MatrixError| ModelError::Matrix { name: name(), source };
    let canonical = pack::unpack(blocks, width, entry.cols, bytes);
    let matrix = QuantMatrix::from_tile_bytes(rows, entry.cols, &canonical).map_err(wrong)?;
    Ok((Tensor::Matrix(matrix), tiles))
}
