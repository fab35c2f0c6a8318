//! Finished runs on disk: one JSON line each, so that a kill or a full disk costs only the run that was being written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Found;
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
    /// The store's runs were played by other formulas than this program's.
    #[error(
        "{path} holds runs by other formulas ({found}; this program's are {expected}), which must not be mixed: go on with the program that \
         began it, give another folder, or remove it; `dn sim report` still shows it"
    )]
    Formulas {
        /// The file.
        path: PathBuf,
        /// The digest of the formulas that it is of; empty in stores from before there was one.
        found: String,
        /// The digest of this program's.
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
    #[serde(default)]
    formulas: String,
}

/// The line of a search that ended.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundLine {
    found: Found,
}

/// How such a line begins, and no other does.
const FOUND: &[u8] = b"{\"found\":";

/// What a store holds.
#[derive(Debug, Default)]
struct Kept {
    cells: Vec<Cell>,
    found: Vec<Found>,
}

/// Finished runs, and what adaptive attackers found, in a file that only grows.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: File,
    kept: Kept,
    /// Bytes of whole lines.
    length: u64,
}

impl Store {
    /// Opens or starts the store of a study in a folder; a torn last line is dropped. `formulas` says what its runs are played by:
    /// [`FORMULAS`](super::FORMULAS) for a study that is to go on.
    ///
    /// # Errors
    /// [`StoreError`]; a store of another study, or of other formulas, is left as it is.
    pub fn open(folder: &Path, study: &str, formulas: &str) -> Result<Self, StoreError> {
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
        let header = Header { study: study.to_owned(), formulas: formulas.to_owned() };
        let kept = read(&path, &text[..whole], &header)?;
        if whole < text.len() {
            file.set_len(whole as u64).map_err(fault("cut the torn end of"))?;
        }
        let mut length = whole as u64;
        if whole == 0 {
            let header = line(&header);
            file.write_all(&header).map_err(fault("write"))?;
            length = header.len() as u64;
        }
        Ok(Self { path, file, kept, length })
    }

    /// The runs that were there when it was opened, in the order in which they finished.
    pub fn cells(&self) -> &[Cell] {
        &self.kept.cells
    }

    /// What adaptive attackers had found when it was opened.
    pub fn found(&self) -> &[Found] {
        &self.kept.found
    }

    /// Adds a run. After an error the file ends with the last whole run.
    ///
    /// # Errors
    /// [`StoreError::File`], such as a full disk.
    pub fn append(&mut self, cell: &Cell) -> Result<(), StoreError> {
        self.write(&line(cell))
    }

    /// Adds what an adaptive attacker found.
    ///
    /// # Errors
    /// [`StoreError::File`], such as a full disk.
    pub fn append_found(&mut self, found: &Found) -> Result<(), StoreError> {
        self.write(&line(&FoundLine { found: found.clone() }))
    }

    fn write(&mut self, line: &[u8]) -> Result<(), StoreError> {
        if let Err(source) = self.file.write_all(line) {
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

fn read(path: &Path, text: &[u8], expected: &Header) -> Result<Kept, StoreError> {
    let mut kept = Kept::default();
    for (n, line) in text.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let wrong = |error: serde_json::Error| StoreError::Line {
            path: path.to_owned(),
            line: n + 1,
            message: error.to_string(),
        };
        if n == 0 {
            let header: Header = serde_json::from_slice(line).map_err(wrong)?;
            check(path, header, expected)?;
        } else if line.starts_with(FOUND) {
            kept.found.push(serde_json::from_slice::<FoundLine>(line).map_err(wrong)?.found);
        } else {
            kept.cells.push(serde_json::from_slice(line).map_err(wrong)?);
        }
    }
    Ok(kept)
}

fn check(path: &Path, found: Header, expected: &Header) -> Result<(), StoreError> {
    let path = path.to_owned();
    if found.study != expected.study {
        let expected = expected.study.clone();
        return Err(StoreError::Other { path, found: found.study, expected });
    }
    if found.formulas != expected.formulas {
        let expected = expected.formulas.clone();
        return Err(StoreError::Formulas { path, found: found.formulas, expected });
    }
    Ok(())
}
