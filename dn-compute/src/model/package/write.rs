//! Writing a package.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dn_core::Canonical;

use super::pack::{self, Packing};
use super::{ALIGNMENT, Header, MAGIC};
use crate::model::{Model, ModelBytes, ModelError, Recipe, Tensor, open};
use crate::spec::BlockLength;

/// Where a model to convert comes from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConvertSource<'a> {
    /// A file or directory that [`Model::load`] reads.
    Path(&'a Path),
    /// A file in memory.
    Bytes(ModelBytes),
}

/// Writes a model as a package and returns it, loaded as it was read: its identity is the package's.
///
/// With a block length every matrix is quantised anew in such blocks, from the values that its file holds. The target appears
/// whole or not at all; a file that was there is replaced. Until then it is at [`partial_path`].
///
/// # Errors
/// [`ModelError`].
pub fn convert(
    source: ConvertSource<'_>,
    block: Option<BlockLength>,
    target: &Path,
) -> Result<Model, ModelError> {
    replaceable(target)?;
    let opened = match source {
        ConvertSource::Path(path) => open::path(path)?,
        ConvertSource::Bytes(bytes) => open::bytes(bytes)?,
    };
    let (tokenizer, chat) = (opened.tokenizer.clone(), opened.chat.clone());
    let model = Model::from_opened(opened, Recipe { block, coarse_bits: None })?;
    let mut packings = Vec::new();
    for slot in model.slots() {
        packings.push(match model.tensor(slot)? {
            Tensor::Vector(_) => Packing::Vector.code(),
            Tensor::Matrix(matrix) => Packing::of(&matrix).code(),
        });
    }
    let chat = chat.unwrap_or_else(|| crate::model::front::Chat {
        source: String::new(),
        bos: String::new(),
        eos: String::new(),
    });
    let header = Header {
        manifest: model.manifest().clone(),
        name: model.front().name().map(str::to_owned),
        tokenizer,
        template: model.front().chat_template().map(|t| t.source().to_owned()),
        bos_text: chat.bos,
        eos_text: chat.eos,
        packings,
        tiles: model.tiles().map(|t| t.hash).collect(),
    };
    let failed = |source| ModelError::Write { path: target.display().to_string(), source };
    let partial = partial_path(target);
    let written = write(&model, &header, &partial);
    let moved = written.and_then(|()| fs::rename(&partial, target).map_err(failed));
    if moved.is_err() {
        // The error that stopped the work is the one to tell.
        let _ = fs::remove_file(&partial);
    }
    moved.map(|()| model)
}

/// Where this process writes a package until it is complete. A program that is interrupted has to remove that file itself.
pub fn partial_path(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    target.with_file_name(name)
}

/// Refuses a target that is there and no regular file: the package would take the place of a link, a pipe or a device.
fn replaceable(target: &Path) -> Result<(), ModelError> {
    match fs::symlink_metadata(target) {
        Ok(meta) if !meta.is_file() => Err(ModelError::NotAFile { path: target.display().to_string() }),
        _ => Ok(()),
    }
}

/// A new file. One of the same name is what a process of the same number left behind, and is not followed if it is a link.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(path)
}

fn write(model: &Model, header: &Header, path: &Path) -> Result<(), ModelError> {
    let failed = |source| ModelError::Write { path: path.display().to_string(), source };
    let mut out = BufWriter::new(create(path).map_err(failed)?);
    let bytes = header.to_bytes();
    let mut put = |bytes: &[u8], at: u64| -> io::Result<()> {
        out.write_all(bytes)?;
        let end = at + bytes.len() as u64;
        out.write_all(&[0; ALIGNMENT as usize][..(end.next_multiple_of(ALIGNMENT) - end) as usize])
    };
    let mut start = MAGIC.to_vec();
    start.extend((bytes.len() as u64).to_le_bytes());
    start.extend(bytes);
    put(&start, 0).map_err(failed)?;
    for slot in model.slots() {
        let bytes = match model.tensor(slot)? {
            Tensor::Vector(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Tensor::Matrix(matrix) => match Packing::of(&matrix) {
                Packing::Matrix { width, .. } => pack::pack(&matrix, width),
                Packing::Vector => unreachable!("a matrix is stored as one"),
            },
        };
        put(&bytes, 0).map_err(failed)?;
    }
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)
}
