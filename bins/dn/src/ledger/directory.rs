//! `dn ledger check`, `snapshot`, `export`, `import`, `join`: a node's data directory, while no node uses it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dn_ledger::Genesis;
use dn_ledger::light::{LightClient, ParseTrustedError, TrustOptions, TrustedHash};
use dn_ledger::node::{ArchiveError, CheckOptions, CheckReport, Peer, SnapshotFile, Store, join};
use dn_sdk::referee::TileReferee;
use serde::Serialize;
use serde_json::json;

use crate::error::CliError;
use crate::out;

/// Longest time that joining from a snapshot may take.
const JOIN_TIME: Duration = Duration::from_secs(3_600);
const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024;

fn other(error: impl std::fmt::Display) -> CliError {
    CliError::Other(error.to_string())
}

#[derive(Serialize)]
struct Checked {
    sound: bool,
    height: u64,
    first_block: u64,
    txs: u64,
    records: u64,
    replayed_from: Option<u64>,
    snapshots: u64,
    copied_bytes: Option<u64>,
    consensus: Consensus,
}

/// What consensus has there, in words where a start makes something of it.
#[derive(Serialize)]
struct Consensus {
    present: bool,
    signed_height: Option<u64>,
    record_torn: bool,
    log_height: Option<u64>,
    undecided_blocks: u64,
    start: String,
}

impl From<CheckReport> for Checked {
    fn from(r: CheckReport) -> Self {
        let consensus = Consensus {
            present: r.consensus.present,
            signed_height: r.consensus.signed,
            record_torn: r.consensus.torn,
            log_height: r.consensus.log,
            undecided_blocks: r.consensus.undecided,
            start: r.consensus.start.to_string(),
        };
        Self {
            sound: true,
            height: r.height,
            first_block: r.horizon,
            txs: r.txs,
            records: r.records,
            replayed_from: r.replayed_from,
            snapshots: r.snapshots,
            copied_bytes: r.copied_bytes,
            consensus,
        }
    }
}

pub(super) fn check(
    dir: &Path,
    sign_guard: Option<PathBuf>,
    scratch: Option<PathBuf>,
    as_json: bool,
) -> ExitCode {
    let options = CheckOptions { referee: Some(TileReferee::handle()), scratch, sign_guard };
    match Store::check(dir, &options) {
        Ok(report) => {
            if as_json {
                out::json(&Checked::from(report));
            } else {
                told(&report).iter().for_each(out::line);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            if as_json {
                out::json(&json!({ "sound": false, "problem": error.to_string() }));
            } else {
                out::error(&error);
            }
            ExitCode::FAILURE
        }
    }
}

/// What was checked, line by line.
fn told(r: &CheckReport) -> Vec<String> {
    let (height, first, txs, records) = (r.height, r.horizon, r.txs, r.records);
    let mut lines = vec![match first <= height {
        true => format!("sound: blocks {first} to {height}, {txs} transactions, {records} records"),
        false => format!("sound: the state after block {height}, {records} records; no block is there yet"),
    }];
    lines.push(match r.replayed_from {
        Some(from) if from < height => format!("executed again from the state after block {from}"),
        Some(from) => format!("compared with the state after block {from}; no block leads on from it"),
        None => "not executed again: neither block 1 nor a snapshot is there".to_owned(),
    });
    if r.snapshots > 0 {
        lines.push(format!("snapshots: {}, each whole", r.snapshots));
    }
    if let Some(bytes) = r.copied_bytes {
        lines.push(format!(
            "the chain's file was not closed, as after a kill: a copy of {bytes} bytes was repaired and read, and is removed; a start \
             repairs the file itself"
        ));
    }
    if !r.consensus.present {
        lines.push("consensus/ is missing: no node has started here, or it was lost".to_owned());
    }
    if r.consensus.torn {
        lines.push(
            "a place of the record of signatures is torn: a start writes it again from the other one".into(),
        );
    }
    lines.push(r.consensus.start.to_string());
    lines
}

pub(super) fn snapshot(dir: &Path) -> Result<(), CliError> {
    let genesis = Store::stored_genesis(dir).map_err(other)?.ok_or_else(|| other(ArchiveError::Empty))?;
    let (store, _) = Store::open(dir, &genesis).map_err(other)?;
    let export = store.export().map_err(other)?;
    let path = SnapshotFile::write(dir, &export).map_err(other)?;
    let (height, chunks) = (export.manifest.block.header.height, export.manifest.pieces.len());
    out::line(format_args!("{}: block {height}, {chunks} chunks", path.display()));
    Ok(())
}

pub(super) fn export(dir: &Path, path: &Path, scratch: Option<&Path>) -> Result<(), CliError> {
    let height = whole_file(path, |out| Store::export_archive(dir, scratch, out).map_err(other))?;
    out::line(format_args!("{}: blocks 1 to {height}", path.display()));
    Ok(())
}

/// Writes a file that appears when it is whole and on disk. What an earlier try left of it, or this one leaves when it fails, is removed.
fn whole_file<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let there = || CliError::File {
        action: "create",
        path: path.to_owned(),
        source: std::io::ErrorKind::AlreadyExists.into(),
    };
    if path.symlink_metadata().is_ok() {
        return Err(there());
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    // A new file: what is there may be written by another process, which then has a file without a name.
    let _ = fs::remove_file(&partial);
    let file = OpenOptions::new().write(true).create_new(true).open(&partial);
    let file = file.map_err(CliError::file("create", &partial))?;
    let attempt = || {
        let mut out = BufWriter::new(file);
        let result = write(&mut out)?;
        out.flush().map_err(CliError::file("write", &partial))?;
        out.get_ref().sync_all().map_err(CliError::file("write", &partial))?;
        // Somebody else's file of this name is left alone too.
        if path.symlink_metadata().is_ok() {
            return Err(there());
        }
        fs::rename(&partial, path).map_err(CliError::file("create", path))?;
        Ok(result)
    };
    attempt().inspect_err(|_| {
        let _ = fs::remove_file(&partial);
    })
}

pub(super) fn import(path: &Path, dir: &Path) -> Result<(), CliError> {
    let file = File::open(path).map_err(CliError::file("read", path))?;
    let r =
        Store::import_archive(dir, &mut BufReader::new(file), Some(TileReferee::handle())).map_err(other)?;
    out::line(format_args!(
        "{}: tip {}; {} blocks new, {} known{}",
        dir.display(),
        r.height,
        r.imported,
        r.known,
        match r.below {
            0 => String::new(),
            below => format!(", {below} below the first that the directory holds, and not compared"),
        }
    ));
    Ok(())
}

pub(super) fn join_peer(url: &str, dir: &Path, genesis: &Path, trust: Option<&str>) -> Result<(), CliError> {
    let text = fs::read_to_string(genesis).map_err(CliError::file("read", genesis))?;
    let genesis = Genesis::from_json(&text).map_err(other)?;
    let peer = Peer::new(url, Instant::now() + JOIN_TIME).map_err(other)?;
    let mut light = match trust.map(trusted).transpose()? {
        None => LightClient::from_genesis(&genesis, TrustOptions::of(&genesis.params)),
        Some(trusted) => {
            let params = json!({ "height": trusted.height });
            let block = peer.call("dn_header", &params, MAX_BLOCK_BYTES).map_err(other)?;
            LightClient::from_trusted(trusted, &block, TrustOptions::of(&genesis.params)).map_err(other)?
        }
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let (_, chain) = join(dir, &genesis, &peer, &mut light, now_ms).map_err(other)?;
    out::line(format_args!("{}: at block {}, {}", dir.display(), chain.tip().height, chain.tip().hash()));
    Ok(())
}

fn trusted(text: &str) -> Result<TrustedHash, CliError> {
    let argument =
        |error: ParseTrustedError| CliError::Argument { argument: "--trusted", reason: error.to_string() };
    text.parse().map_err(argument)
}

#[cfg(test)]
mod tests;
