//! Where a model's bytes come from.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ModelError;
use crate::formats::gguf::{Gguf, GgufError, MAX_HEADER_BYTES};
use crate::formats::safetensors::{Safetensors, SafetensorsError};

/// First guess at the length of a header.
const HEAD_BYTES: u64 = 1 << 20;

/// A model file in memory.
#[derive(Debug, Clone)]
pub enum ModelBytes {
    /// Compiled into the program.
    Static(&'static [u8]),
    /// Shared.
    Shared(Arc<[u8]>),
}

impl From<&'static [u8]> for ModelBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl From<Vec<u8>> for ModelBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared(bytes.into())
    }
}

impl From<Arc<[u8]>> for ModelBytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

impl AsRef<[u8]> for ModelBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// A file or bytes in memory.
///
/// A file is read, not mapped: one that shrinks under the program is an error, not a signal.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    File { path: PathBuf, file: Arc<File>, len: u64 },
    Memory(ModelBytes),
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        regular(path)?;
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(|e| read_error(path, e))?;
        Ok(Self::File { path: path.to_owned(), file: Arc::new(file), len })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory(bytes) => bytes.as_ref().len() as u64,
        }
    }

    /// The first bytes, at most `most`.
    pub(super) fn first(&self, most: u64) -> Result<Cow<'_, [u8]>, ModelError> {
        self.read(0, most.min(self.len()))
    }

    /// Reads the header of a safetensors file.
    pub(crate) fn safetensors(&self) -> Result<Safetensors, ModelError> {
        let first = self.first(8)?;
        let Some(first) = first.first_chunk::<8>() else {
            return Err(SafetensorsError::Short { file: self.len() }.into());
        };
        let header = self.read(0, Safetensors::header_bytes(*first, self.len())?)?;
        Ok(Safetensors::parse_header(&header, self.len())?)
    }

    /// Reads the header of a GGUF file: of a file only as many bytes as it takes, and none for a length that it cannot have.
    pub(crate) fn gguf(&self) -> Result<Gguf, ModelError> {
        let (len, mut have) = match self {
            Self::Memory(bytes) => return Ok(Gguf::parse(bytes.as_ref())?),
            Self::File { len, .. } => (*len, (*len).min(HEAD_BYTES)),
        };
        loop {
            let head = self.read(0, have)?;
            match Gguf::parse_header(&head, len) {
                // No more is needed than the file has, nor than a header may have: the reader has checked that.
                Err(GgufError::Partial { needed, .. }) => {
                    have = have.saturating_mul(4).max(needed).min(len).min(MAX_HEADER_BYTES);
                }
                parsed => return Ok(parsed?),
            }
        }
    }

    /// `size` bytes from `start`; the header has checked that the file is long enough.
    pub(crate) fn read(&self, start: u64, size: u64) -> Result<Cow<'_, [u8]>, ModelError> {
        match self {
            Self::Memory(bytes) => {
                Ok(Cow::Borrowed(&bytes.as_ref()[start as usize..(start + size) as usize]))
            }
            Self::File { path, file, .. } => {
                let mut out = vec![0; size as usize];
                read_exact_at(file, &mut out, start).map_err(|e| read_error(path, e))?;
                Ok(Cow::Owned(out))
            }
        }
    }
}

/// Refuses what is no regular file before it is opened: opening a pipe would wait for somebody who writes to it.
pub(super) fn regular(path: &Path) -> Result<(), ModelError> {
    let meta = std::fs::metadata(path).map_err(|e| read_error(path, e))?;
    if meta.is_file() { Ok(()) } else { Err(ModelError::NotAFile { path: path.display().to_string() }) }
}

/// Reads at a place, from many threads at once.
#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start)
}

/// Reads at a place; one at a time, for the file has only one position.
#[cfg(not(unix))]
fn read_exact_at(mut file: &File, out: &mut [u8], start: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    use std::sync::{Mutex, PoisonError};
    static POSITION: Mutex<()> = Mutex::new(());
    let _held = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(out)
}

pub(super) fn read_error(path: &Path, source: io::Error) -> ModelError {
    ModelError::Read { path: path.display().to_string(), source }
}
