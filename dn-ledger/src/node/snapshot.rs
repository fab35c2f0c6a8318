//! Snapshots as files, from peers, and into a node's directory.
//!
//! A file is the magic `DNSNAP01`, the manifest and the chunks, each behind its length (`u32`, little-endian). Nothing in it
//! is believed: the manifest is checked against a verified header, each chunk against the manifest.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use dn_core::hexadecimal::from_hex;
use dn_core::{Canonical, DecodeError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::peer::{Peer, PeerError};
use super::store::{RestoreError, Store};
use crate::chain::Chain;
use crate::genesis::Genesis;
use crate::light::{LightBlock, LightClient, LightError};
use crate::snapshot::{Chunk, Export, MAX_CHUNK_BYTES, MAX_MANIFEST_BYTES, Manifest};

const MAGIC: &[u8; 8] = b"DNSNAP01";
const DIR_NAME: &str = "snapshots";
const EXTENSION: &str = "dnsnap";
/// The most bytes of a light block as JSON: sets are bounded by the chain's parameters.
const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// Why a snapshot cannot be written or had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotFileError {
    /// The file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a snapshot, or cut short.
    #[error("{path} is not a whole snapshot")]
    Shape {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that are no manifest or chunk.
    #[error("snapshot: {what}: {source}")]
    Decode {
        /// What was read.
        what: &'static str,
        /// Why.
        source: DecodeError,
    },
    /// Text of a peer that is no bytes.
    #[error("snapshot: {what}: hexadecimal digits expected")]
    Hex {
        /// What was read.
        what: &'static str,
    },
    /// The peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

/// Where a snapshot comes from.
pub trait SnapshotSource {
    /// Its manifest.
    ///
    /// # Errors
    /// [`SnapshotFileError`].
    fn manifest(&mut self) -> Result<Manifest, SnapshotFileError>;

    /// One of its chunks.
    ///
    /// # Errors
    /// [`SnapshotFileError`].
    fn chunk(&mut self, index: usize) -> Result<Chunk, SnapshotFileError>;
}

/// A snapshot in a file.
#[derive(Debug)]
pub struct SnapshotFile {
    file: File,
    path: PathBuf,
    /// Offset and length of the manifest, then of each chunk.
    parts: Vec<(u64, usize)>,
}

impl SnapshotFile {
    /// Where a data directory keeps the snapshot of a height.
    pub fn path(dir: &Path, height: u64) -> PathBuf {
        dir.join(DIR_NAME).join(format!("{height}.{EXTENSION}"))
    }

    /// Heights of the snapshots in a data directory, ascending.
    ///
    /// # Errors
    /// [`SnapshotFileError::Io`].
    pub fn list(dir: &Path) -> Result<Vec<u64>, SnapshotFileError> {
        let path = dir.join(DIR_NAME);
        let io = |source| SnapshotFileError::Io { path: path.clone(), source };
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut heights = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.'));
            heights.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
        }
        heights.sort_unstable();
        Ok(heights)
    }

    /// Writes a snapshot into a data directory; the file appears when it is whole and durable.
    ///
    /// # Errors
    /// [`SnapshotFileError::Io`].
    pub fn write(dir: &Path, export: &Export) -> Result<PathBuf, SnapshotFileError> {
        let path = Self::path(dir, export.manifest.block.header.height);
        let part = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(dir.join(DIR_NAME))?;
            let mut out = BufWriter::new(File::create(&part)?);
            out.write_all(MAGIC)?;
            let chunks = export.chunks();
            for bytes in std::iter::once(export.manifest.to_bytes()).chain(chunks) {
                let length = u32::try_from(bytes.len()).map_err(|_| std::io::ErrorKind::FileTooLarge)?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(&bytes)?;
                // A piece at a time, so that no block's own write waits for more than one of them.
                out.flush()?;
                out.get_ref().sync_data()?;
            }
            let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|source| {
            // Of a full disk it holds the rest, which the chain needs.
            let _ = std::fs::remove_file(&part);
            SnapshotFileError::Io { path: path.clone(), source }
        })?;
        Ok(path)
    }

    /// Removes what a process that ended in the middle of a snapshot has left.
    pub(crate) fn remove_parts(dir: &Path) {
        for entry in std::fs::read_dir(dir.join(DIR_NAME)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "part") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Opens a snapshot and finds its parts.
    ///
    /// # Errors
    /// [`SnapshotFileError`].
    pub fn open(path: &Path) -> Result<Self, SnapshotFileError> {
        let io = |source| SnapshotFileError::Io { path: path.to_owned(), source };
        let shape = || SnapshotFileError::Shape { path: path.to_owned() };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut magic = [0; 8];
        if size < 8 || file.read_exact(&mut magic).is_err() || &magic != MAGIC {
            return Err(shape());
        }
        let (mut at, mut parts) = (8u64, Vec::new());
        while at < size {
            let mut length = [0; 4];
            file.seek(SeekFrom::Start(at)).map_err(io)?;
            file.read_exact(&mut length).map_err(|_| shape())?;
            let length = u32::from_le_bytes(length) as usize;
            let limit = if parts.is_empty() { MAX_MANIFEST_BYTES } else { MAX_CHUNK_BYTES };
            let end = at + 4 + length as u64;
            if length > limit || end > size {
                return Err(shape());
            }
            parts.push((at + 4, length));
            at = end;
        }
        if parts.is_empty() {
            return Err(shape());
        }
        Ok(Self { file, path: path.to_owned(), parts })
    }

    /// Bytes of the manifest.
    ///
    /// # Errors
    /// [`SnapshotFileError`].
    pub fn manifest_bytes(&mut self) -> Result<Vec<u8>, SnapshotFileError> {
        self.part(0)
    }

    /// Bytes of a chunk.
    ///
    /// # Errors
    /// [`SnapshotFileError`], also when there is none of this index.
    pub fn chunk_bytes(&mut self, index: usize) -> Result<Vec<u8>, SnapshotFileError> {
        self.part(index.saturating_add(1))
    }

    /// How many chunks there are.
    pub const fn chunks(&self) -> usize {
        self.parts.len().saturating_sub(1)
    }

    fn part(&mut self, at: usize) -> Result<Vec<u8>, SnapshotFileError> {
        let part = self.parts.get(at).copied();
        let (offset, length) = part.ok_or_else(|| SnapshotFileError::Shape { path: self.path.clone() })?;
        let mut bytes = vec![0; length];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|source| SnapshotFileError::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }
}

impl SnapshotSource for SnapshotFile {
    fn manifest(&mut self) -> Result<Manifest, SnapshotFileError> {
        decode("manifest", &self.manifest_bytes()?)
    }

    fn chunk(&mut self, index: usize) -> Result<Chunk, SnapshotFileError> {
        decode("chunk", &self.chunk_bytes(index)?)
    }
}

fn decode<T: Canonical>(what: &'static str, bytes: &[u8]) -> Result<T, SnapshotFileError> {
    T::from_bytes(bytes).map_err(|source| SnapshotFileError::Decode { what, source })
}

/// `dn_snapshots`: which snapshots a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SnapshotsView {
    /// Their heights, ascending.
    pub heights: Vec<u64>,
}

/// A snapshot that a peer has.
#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    peer: Peer,
    height: u64,
}

impl PeerSnapshot {
    /// The peer's newest snapshot; none when it has none.
    ///
    /// # Errors
    /// [`SnapshotFileError::Peer`].
    pub fn newest(peer: &Peer) -> Result<Option<Self>, SnapshotFileError> {
        let view: SnapshotsView = peer.call("dn_snapshots", &json!({}), MAX_BLOCK_BYTES)?;
        Ok(view.heights.last().map(|height| Self { peer: peer.clone(), height: *height }))
    }

    fn fetch<T: Canonical>(
        &self,
        method: &'static str,
        params: &serde_json::Value,
        what: &'static str,
        limit: usize,
    ) -> Result<T, SnapshotFileError> {
        let text: String = self.peer.call(method, params, 2 * limit + 1024)?;
        decode(what, &from_hex(&text, limit).ok_or(SnapshotFileError::Hex { what })?)
    }
}

impl SnapshotSource for PeerSnapshot {
    fn manifest(&mut self) -> Result<Manifest, SnapshotFileError> {
        let params = json!({ "height": self.height });
        self.fetch("dn_snapshot", &params, "manifest", MAX_MANIFEST_BYTES)
    }

    fn chunk(&mut self, index: usize) -> Result<Chunk, SnapshotFileError> {
        let params = json!({ "height": self.height, "index": index });
        self.fetch("dn_snapshotChunk", &params, "chunk", MAX_CHUNK_BYTES)
    }
}

/// Why a node does not join from a peer's snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The peer has no snapshot.
    #[error(
        "the peer has no snapshot: a node writes one whenever --snapshot-blocks of `dn ledger run` have passed, and `dn ledger snapshot DIR` one \
         of a node that is stopped. A chain without is followed from its first block: `dn ledger run` with an empty directory"
    )]
    NoSnapshot,
    /// The peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The snapshot cannot be had.
    #[error(transparent)]
    Source(#[from] SnapshotFileError),
    /// Another header than the one that was asked for.
    #[error("the peer gave the header of height {found}; {expected} was asked for")]
    OtherHeight {
        /// What was asked for.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The snapshot's header is not one that the light client accepts.
    #[error(transparent)]
    Light(#[from] LightError),
    /// The snapshot.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// Fills an empty data directory with a peer's newest snapshot, after the light client, starting where it is trusted, has accepted the
/// snapshot's header. `now_ms` is the Unix time.
///
/// # Errors
/// [`JoinError`]; the directory then holds no chain, and the next attempt uses what is there.
pub fn join(
    dir: &Path,
    genesis: &Genesis,
    peer: &Peer,
    light: &mut LightClient,
    now_ms: u64,
) -> Result<(Store, Chain), JoinError> {
    let mut source = PeerSnapshot::newest(peer)?.ok_or(JoinError::NoSnapshot)?;
    let manifest = source.manifest()?;
    follow(peer, light, &manifest.block, now_ms)?;
    Ok(Store::restore(dir, genesis, &manifest.block.header, &mut source)?)
}

/// Brings a light client to a block; where too few of those it trusts signed, over blocks in between.
fn follow(peer: &Peer, light: &mut LightClient, target: &LightBlock, now_ms: u64) -> Result<(), JoinError> {
    let mut ahead = vec![target.clone()];
    while let Some(block) = ahead.last() {
        match light.update(block, now_ms) {
            Ok(()) => {
                ahead.pop();
            }
            Err(LightError::Trust { height, trusted, .. }) => {
                let middle = trusted + (height - trusted) / 2;
                let found: LightBlock =
                    peer.call("dn_header", &json!({ "height": middle }), MAX_BLOCK_BYTES)?;
                // Another height would lead nowhere, for ever.
                if found.header.height != middle {
                    return Err(JoinError::OtherHeight { expected: middle, found: found.header.height });
                }
                ahead.push(found);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
