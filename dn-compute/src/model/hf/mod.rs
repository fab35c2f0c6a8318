//! A model as Hugging Face keeps it: a directory of safetensors, `config.json`, `tokenizer.json` and what is said about
//! tokens and chats.
//!
//! # Identity
//! Rows of queries and keys of Llama files come as two halves per head and are brought into GGUF's order, pair by pair: so the
//! same weights, stored with the same precision, have the same `tensors_root` from both. The tokenizer's hash is that of
//! `tokenizer.json`, so the whole manifest is another one.

mod config;
mod text;
mod weights;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::ModelError;
use super::front::{Chat, ModelFront, Parts};
use super::layout::TensorSize;
use super::open::Opened;
use super::source::{Source, read_error};
use text::Text;
use weights::Weights;

/// Longest file beside the weights.
pub(crate) const MAX_SIDE_BYTES: u64 = 16 << 20;
/// Longest `tokenizer.json`.
pub(crate) const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The file to open in a directory of a model: weights of either format.
pub(super) fn weights_in(directory: &Path) -> Result<PathBuf, ModelError> {
    for name in ["model.safetensors.index.json", "model.safetensors"] {
        if directory.join(name).is_file() {
            return Ok(directory.join(name));
        }
    }
    let names = std::fs::read_dir(directory).map_err(|e| read_error(directory, e))?;
    let mut found = Vec::new();
    for name in names {
        let path = name.map_err(|e| read_error(directory, e))?.path();
        let known = path.extension().is_some_and(|e| e == "safetensors" || e == "gguf" || e == "dnm");
        if known && path.is_file() {
            found.push(path);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        count => Err(ModelError::Directory { path: directory.display().to_string(), found: count }),
    }
}

/// Whether a path is one of this format's files.
pub(super) fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

/// Reads everything but the weights' values.
pub(super) fn open(path: &Path) -> Result<Opened, ModelError> {
    let weights = if path.extension().is_some_and(|e| e == "json") {
        Weights::open_index(path)?
    } else {
        Weights::open(path)?
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let config_path = directory.join("config.json");
    let config = json(&config_path, MAX_SIDE_BYTES)?.ok_or_else(|| missing(&config_path))?;
    let (architecture, hyper) = config::read(&config)?;
    let entries = weights.entries(&architecture, &hyper)?;
    let text = Text::read(directory, &config)?;
    let name = directory.canonicalize().ok();
    let name = name.and_then(|d| Some(d.file_name()?.to_str()?.to_owned()));
    let chat = text.template.as_deref().map(|source| Chat {
        source: source.to_owned(),
        bos: text.bos_text.clone(),
        eos: text.eos_text.clone(),
    });
    let front = ModelFront::new(Parts {
        name,
        architecture,
        hyper,
        tokenizer: text.tokenizer,
        chat: chat.clone(),
        bos: text.bos,
        stops: text.stops,
        sizes: TensorSize::of(&entries),
    })?;
    Ok(Opened { front, entries, sources: weights.files, tokenizer: text.source, chat, promise: None })
}

/// The value of a JSON file; `None` where there is none.
fn json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, ModelError> {
    let Some(bytes) = side_file(path, limit)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|source| ModelError::Json { path: path.display().to_string(), source })
}

/// A small file beside the weights, if there is anything of that name. A link that leads nowhere is an error: whoever made
/// it meant a file.
pub(crate) fn side_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ModelError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(path, error)),
        Ok(_) => {}
    }
    let source = Source::open(path)?;
    if source.len() > limit {
        let path = path.display().to_string();
        return Err(ModelError::FileSize { path, found: source.len(), limit });
    }
    Ok(Some(source.read(0, source.len())?.into_owned()))
}

fn missing(path: &Path) -> ModelError {
    read_error(path, std::io::ErrorKind::NotFound.into())
}
