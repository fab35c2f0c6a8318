//! Writing a package.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dn_core::Canonical;

use super::pack::{self, Packing};
use super::{ALIGNMENT, Header, MAGIC};
use crate::model::{Model, ModelBytes, ModelError, Recipe, Tensor, open};
use crate::spec::BlockLength;

/// How the name of a package ends that is not complete, after the number of the process that writes it.
const PARTIAL: &str = ".partial";

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
/// whole or not at all; a file that was there is replaced. Until then it is at [`partial_path`]. What an earlier conversion to
/// the same target has left there, when it was killed, is removed.
///
/// # Errors
/// [`ModelError`].
pub fn convert(
    source: ConvertSource<'_>,
    block: Option<BlockLength>,
    target: &Path,
) -> Result<Model, ModelError> {
    replaceable(target)?;
    remove_stale(target);
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
    // The file is open, and so locked, until it has its name.
    let moved = written.and_then(|_file| fs::rename(&partial, target).map_err(failed));
    if moved.is_err() {
        // The error that stopped the work is the one to tell.
        let _ = fs::remove_file(&partial);
    }
    moved.map(|()| model)
}

/// Where this process writes a package until it is complete. A program that is interrupted has to remove that file itself.
pub fn partial_path(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{PARTIAL}", std::process::id()));
    target.with_file_name(name)
}

/// Removes what killed conversions to a target have left: files of their names that no process has locked.
fn remove_stale(target: &Path) {
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let (Some(name), Ok(entries)) = (target.file_name(), fs::read_dir(directory)) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let of_a_process = found
            .as_encoded_bytes()
            .strip_prefix(name.as_encoded_bytes())
            .and_then(|rest| rest.strip_prefix(b"."))
            .and_then(|rest| rest.strip_suffix(PARTIAL.as_bytes()))
            .is_some_and(|id| !id.is_empty() && id.iter().all(u8::is_ascii_digit));
        // Neither links nor pipes are opened.
        if !of_a_process || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // What cannot be opened or removed stays: it stands in nobody's way.
        let path = entry.path();
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Refuses a target that is there and no regular file: the package would take the place of a link, a pipe or a device.
fn replaceable(target: &Path) -> Result<(), ModelError> {
    match fs::symlink_metadata(target) {
        Ok(meta) if !meta.is_file() => Err(ModelError::NotAFile { path: target.display().to_string() }),
        _ => Ok(()),
    }
}

/// A new file, locked as long as it is open. One of the same name is what a process of the same number left behind, and is not
/// followed if it is a link.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::create_new(path)?;
    match file.lock() {
        // Without locks no conversion takes another's file for a stale one.
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(file),
    }
}

fn write(model: &Model, header: &Header, path: &Path) -> Result<File, ModelError> {
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
    file.sync_all().map_err(failed)?;
    Ok(file)
}
