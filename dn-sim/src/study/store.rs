//! Finished runs on disk: one JSON line each, so that a kill or a full disk costs only the run that was being written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::outcome::Cell;

/// Most bytes of a store that are read.
const MAX_BYTES: u64 = 4 << 30;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refuses.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store belongs to another study.
    #[error(
        "{path} holds runs of another study ({found}, this one is {expected}); give another folder or remove it"
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// The study that it is of.
        found: String,
        /// The study that was to be run.
        expected: String,
    },
    /// A line that is no finished run.
    #[error("{path}, line {line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    study: String,
}

/// Finished runs in a file that only grows.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: File,
    cells: Vec<Cell>,
    /// Bytes of whole lines.
    length: u64,
}

impl Store {
    /// Opens or starts the store of a study in a folder; a torn last line is dropped.
    ///
    /// # Errors
    /// [`StoreError`]; a store of another study is left as it is.
    pub fn open(folder: &Path, study: &str) -> Result<Self, StoreError> {
        let path = folder.join("runs.jsonl");
        let fault = |what: &'static str| {
            let path = path.clone();
            move |source| StoreError::File { what, path, source }
        };
        std::fs::create_dir_all(folder).map_err(fault("make the folder of"))?;
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path);
        let mut file = file.map_err(fault("open"))?;
        let meta = file.metadata().map_err(fault("read"))?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            let source = io::Error::other("it must be a file of at most 4 GiB");
            return Err(fault("read")(source));
        }
        let text = std::fs::read(&path).map_err(fault("read"))?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let cells = read(&path, &text[..whole], study)?;
        if whole < text.len() {
            file.set_len(whole as u64).map_err(fault("cut the torn end of"))?;
        }
        let mut length = whole as u64;
        if whole == 0 {
            let header = line(&Header { study: study.to_owned() });
            file.write_all(&header).map_err(fault("write"))?;
            length = header.len() as u64;
        }
        Ok(Self { path, file, cells, length })
    }

    /// The runs that were there when it was opened, in the order in which they finished.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Adds a run. After an error the file ends with the last whole run.
    ///
    /// # Errors
    /// [`StoreError::File`], such as a full disk.
    pub fn append(&mut self, cell: &Cell) -> Result<(), StoreError> {
        let line = line(cell);
        if let Err(source) = self.file.write_all(&line) {
            // What was written of the line is no loss if this fails too: a torn end is dropped when it is opened.
            let _ = self.file.set_len(self.length);
            return Err(StoreError::File { what: "write", path: self.path.clone(), source });
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings and finite numbers");
    line.push(b'\n');
    line
}

fn read(path: &Path, text: &[u8], study: &str) -> Result<Vec<Cell>, StoreError> {
    let mut cells = Vec::new();
    for (n, line) in text.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let wrong = |error: serde_json::Error| StoreError::Line {
            path: path.to_owned(),
            line: n + 1,
            message: error.to_string(),
        };
        if n == 0 {
            let header: Header = serde_json::from_slice(line).map_err(wrong)?;
            if header.study != study {
                let (path, expected) = (path.to_owned(), study.to_owned());
                return Err(StoreError::Other { path, found: header.study, expected });
            }
            continue;
        }
        cells.push(serde_json::from_slice(line).map_err(wrong)?);
    }
    Ok(cells)
}
