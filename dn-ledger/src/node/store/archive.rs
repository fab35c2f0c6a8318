//! A chain as one stream of its blocks, for archives and for moving between versions of the store.
//!
//! The magic `DNARCH01`; a frame with the genesis; a frame for each block with its certificate; an empty frame. A frame is a length (`u32`,
//! little-endian), BLAKE3 of the payload, and the payload.

use std::io::{Read, Write};
use std::path::Path;

use dn_core::{Canonical, DecodeError, blake3_256, canonical_struct};

use super::unchanged::Unchanged;
use super::{Store, StoreError};
use crate::block::{Block, Certificate, CertificateError};
use crate::chain::{BlockError, Chain};
use crate::genesis::{Genesis, GenesisError};
use crate::referee::RefereeHandle;

const MAGIC: &[u8; 8] = b"DNARCH01";
/// The most bytes of a frame.
const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
struct ArchivedBlock {
    block: Block,
    certificate: Certificate,
}
canonical_struct!(ArchivedBlock { block: Block, certificate: Certificate });

/// Why an archive is not written or not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The stream.
    #[error("archive: {0}")]
    Io(#[from] std::io::Error),
    /// The stream ends before the archive does.
    #[error("archive: it ends after block {height}, before its end frame: it was cut short")]
    Truncated {
        /// The last whole block.
        height: u64,
    },
    /// Bytes behind the end.
    #[error("archive: there are bytes behind its end frame, which follows block {height}")]
    Trailing {
        /// The last block.
        height: u64,
    },
    /// Not an archive.
    #[error("archive: it does not begin with DNARCH01")]
    Magic,
    /// A frame that is too long.
    #[error("archive: a frame of {found} bytes after block {height}; at most {limit}")]
    TooLong {
        /// The last block before it.
        height: u64,
        /// The most.
        limit: usize,
        /// What it says.
        found: usize,
    },
    /// Damaged bytes.
    #[error("archive: the frame after block {height} does not match its checksum")]
    Checksum {
        /// The last block before it.
        height: u64,
    },
    /// A frame that is no block.
    #[error("archive: the frame after block {height}: {source}")]
    Decode {
        /// The last block before it.
        height: u64,
        /// Why.
        source: DecodeError,
    },
    /// The genesis is not one.
    #[error("archive: {0}")]
    Genesis(#[from] Box<GenesisError>),
    /// A block that does not follow, or breaks a rule.
    #[error("archive: {0}")]
    Block(#[from] BlockError),
    /// A block without a quorum.
    #[error("archive: block {height}: {source}")]
    Certificate {
        /// The block.
        height: u64,
        /// Why.
        source: CertificateError,
    },
    /// A block other than the one that the directory holds.
    #[error("archive: block {height} is not the one that the directory holds")]
    Other {
        /// The block.
        height: u64,
    },
    /// The first blocks are gone.
    #[error("the chain begins at block {horizon}: a pruned or restored chain has no whole archive")]
    Pruned {
        /// The first block that is stored.
        horizon: u64,
    },
    /// The directory holds no chain.
    #[error("the directory holds no chain")]
    Empty,
    /// The directory.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportReport {
    /// Blocks that the directory held before, and that were compared.
    pub known: u64,
    /// Blocks below the first that the directory holds: it was restored or pruned, and has nothing to compare them with.
    pub below: u64,
    /// Blocks that were executed and written.
    pub imported: u64,
    /// The tip afterwards.
    pub height: u64,
}

impl Store {
    /// Writes the chain in a directory as an archive; returns the last block's height. Nothing in the directory is changed: what
    /// `scratch` is for is told at [`CheckOptions`](super::CheckOptions).
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn export_archive(
        dir: &Path,
        scratch: Option<&Path>,
        out: &mut dyn Write,
    ) -> Result<u64, ArchiveError> {
        let opened = Self::open_unchanged(dir, scratch)?.ok_or(ArchiveError::Empty)?;
        let Unchanged { store, genesis, chain, .. } = &opened;
        let horizon = store.horizon()?;
        if horizon != 1 {
            return Err(ArchiveError::Pruned { horizon });
        }
        out.write_all(MAGIC)?;
        write_frame(out, &genesis.to_bytes())?;
        let height = chain.tip().height;
        for at in 1..=height {
            let block = store.block(at)?.ok_or(store.missing("block", at))?;
            let certificate = store.certificate(at)?.ok_or(store.missing("certificate", at))?;
            write_frame(out, &ArchivedBlock { block, certificate }.to_bytes())?;
        }
        write_frame(out, &[])?;
        out.flush()?;
        Ok(height)
    }

    /// Fills a directory from an archive, executing and checking every block. Blocks that it holds already are compared: an
    /// interrupted import goes on where it stopped. A chain that names a referee is executed with it.
    ///
    /// # Errors
    /// [`ArchiveError`]; the blocks before what is refused stay.
    pub fn import_archive(
        dir: &Path,
        input: &mut dyn Read,
        referee: Option<RefereeHandle>,
    ) -> Result<ImportReport, ArchiveError> {
        read_magic(input)?;
        let decode = |height| move |source| ArchiveError::Decode { height, source };
        let genesis = Genesis::from_bytes(&read_frame(input, 0)?).map_err(decode(0))?;
        genesis.validate().map_err(Box::new)?;
        let (store, mut chain) = Self::open(dir, &genesis)?;
        if let Some(referee) = referee {
            chain = chain.with_referee(referee);
        }
        let horizon = store.horizon()?;
        let mut report = ImportReport { known: 0, below: 0, imported: 0, height: chain.tip().height };
        for at in 0.. {
            let frame = read_frame(input, at)?;
            if frame.is_empty() {
                expect_end(input, at)?;
                break;
            }
            let ArchivedBlock { block, certificate } =
                ArchivedBlock::from_bytes(&frame).map_err(decode(at))?;
            let height = at + 1;
            if height <= report.height && report.imported == 0 {
                // Of the block that a snapshot is of, the header is there.
                let other = match height < horizon {
                    true => height == report.height && block.header != *chain.tip(),
                    false => store.block(height)?.as_ref() != Some(&block),
                };
                if other {
                    return Err(ArchiveError::Other { height });
                }
                match height < horizon {
                    true => report.below += 1,
                    false => report.known += 1,
                }
                continue;
            }
            append(&store, &mut chain, &block, certificate)?;
            report.imported += 1;
        }
        report.height = chain.tip().height;
        Ok(report)
    }
}

/// Checks, executes and writes a decided block.
fn append(
    store: &Store,
    chain: &mut Chain,
    block: &Block,
    certificate: Certificate,
) -> Result<(), ArchiveError> {
    let executed = chain.validate(block)?;
    let height = block.header.height;
    certificate
        .verify(&block.header, &chain.validators())
        .map_err(|source| ArchiveError::Certificate { height, source })?;
    store.commit(block, &certificate, &executed)?;
    chain.commit(&block.header, certificate, &executed);
    Ok(())
}

fn write_frame(out: &mut dyn Write, payload: &[u8]) -> Result<(), ArchiveError> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_FRAME_BYTES);
    let (limit, found) = (MAX_FRAME_BYTES, payload.len());
    let length = length.ok_or(ArchiveError::TooLong { height: 0, limit, found })?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&blake3_256(&[payload]))?;
    Ok(out.write_all(payload)?)
}

fn read_magic(input: &mut dyn Read) -> Result<(), ArchiveError> {
    let mut magic = Vec::new();
    input.take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    match MAGIC.strip_prefix(magic.as_slice()) {
        Some([]) => Ok(()),
        Some(_) => Err(ArchiveError::Truncated { height: 0 }),
        None => Err(ArchiveError::Magic),
    }
}

fn expect_end(input: &mut dyn Read, height: u64) -> Result<(), ArchiveError> {
    let mut behind = Vec::new();
    match input.take(1).read_to_end(&mut behind)? {
        0 => Ok(()),
        _ => Err(ArchiveError::Trailing { height }),
    }
}

fn read_frame(input: &mut dyn Read, height: u64) -> Result<Vec<u8>, ArchiveError> {
    let (mut length, mut checksum) = ([0; 4], [0; 32]);
    let cut = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ArchiveError::Truncated { height },
        _ => error.into(),
    };
    input.read_exact(&mut length).map_err(cut)?;
    input.read_exact(&mut checksum).map_err(cut)?;
    let (limit, found) = (MAX_FRAME_BYTES, u32::from_le_bytes(length) as usize);
    if found > limit {
        return Err(ArchiveError::TooLong { height, limit, found });
    }
    // Grows with what arrives, not with what is promised.
    let mut payload = Vec::new();
    input.take(found as u64).read_to_end(&mut payload)?;
    if payload.len() != found {
        return Err(ArchiveError::Truncated { height });
    }
    if blake3_256(&[&payload]) != checksum {
        return Err(ArchiveError::Checksum { height });
    }
    Ok(payload)
}
