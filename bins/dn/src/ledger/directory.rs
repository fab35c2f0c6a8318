//! `dn ledger check`, `snapshot`, `export`, `import`, `join`: a node's data directory, while no node uses it.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dn_ledger::Genesis;
use dn_ledger::light::{LightClient, ParseTrustedError, TrustOptions, TrustedHash};
use dn_ledger::node::{ArchiveError, Peer, SnapshotFile, Store, join};
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
}

pub(super) fn check(dir: &Path, as_json: bool) -> ExitCode {
    match Store::check(dir, Some(TileReferee::handle())) {
        Ok(r) => {
            let (height, first_block, txs, records) = (r.height, r.horizon, r.txs, r.records);
            if as_json {
                let replayed_from = r.replayed_from;
                out::json(&Checked { sound: true, height, first_block, txs, records, replayed_from });
            } else {
                out::line(format_args!(
                    "sound: blocks {first_block} to {height}, {txs} transactions, {records} records"
                ));
                match r.replayed_from {
                    Some(from) => out::line(format_args!("executed again from the state after block {from}")),
                    None => out::line("not executed again: neither block 1 nor a snapshot is there"),
                }
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

pub(super) fn snapshot(dir: &Path) -> Result<(), CliError> {
    let genesis = Store::stored_genesis(dir).map_err(other)?.ok_or_else(|| other(ArchiveError::Empty))?;
    let (store, _) = Store::open(dir, &genesis).map_err(other)?;
    let export = store.export().map_err(other)?;
    let path = SnapshotFile::write(dir, &export).map_err(other)?;
    let (height, chunks) = (export.manifest.block.header.height, export.manifest.pieces.len());
    out::line(format_args!("{}: block {height}, {chunks} chunks", path.display()));
    Ok(())
}

pub(super) fn export(dir: &Path, path: &Path) -> Result<(), CliError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.map_err(CliError::file("create", path))?;
    let mut out = BufWriter::new(file);
    let height = Store::export_archive(dir, &mut out).map_err(other)?;
    out.get_ref().sync_all().map_err(CliError::file("write", path))?;
    out::line(format_args!("{}: blocks 1 to {height}", path.display()));
    Ok(())
}

pub(super) fn import(path: &Path, dir: &Path) -> Result<(), CliError> {
    let file = File::open(path).map_err(CliError::file("read", path))?;
    let r =
        Store::import_archive(dir, &mut BufReader::new(file), Some(TileReferee::handle())).map_err(other)?;
    out::line(format_args!(
        "{}: tip {}; {} blocks new, {} known",
        dir.display(),
        r.height,
        r.imported,
        r.known
    ));
    Ok(())
}

pub(super) fn join_peer(url: &str, dir: &Path, genesis: &Path, trust: Option<&str>) -> Result<(), CliError> {
    let text = std::fs::read_to_string(genesis).map_err(CliError::file("read", genesis))?;
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
