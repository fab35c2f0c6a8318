//! `dn genesis`: from a plan that a person writes to the file that every node of a chain starts from.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use dn_core::Hash32;
use dn_ledger::genesis::{MAX_GENESIS_BYTES, Plan};
use dn_ledger::light::TrustedHash;
use dn_ledger::{Chain, Genesis, ValidatorSet};
use serde::Serialize;

use crate::error::CliError;
use crate::out::{self, Align, Table};

/// A plan to start from, but for [`TIME_MS`].
const EXAMPLE: &str = include_str!("genesis/example.toml");
/// What stands for the present time in it: a first start counts only while a genesis is young.
const TIME_MS: &str = "TIME_MS";

/// `dn genesis`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print a plan to start from: purses, grants, four validators with DN for their fees.
    Example,
    /// Make a genesis out of a plan: the same plan gives the same bytes everywhere. Prints what `--trusted` takes, and warns of validators that
    /// could pay no fees.
    Build {
        /// The plan (TOML).
        plan: PathBuf,
        /// The genesis to write (JSON); an existing file is left alone.
        #[arg(long, short, value_name = "FILE", default_value = "genesis.json")]
        out: PathBuf,
    },
    /// Check a genesis and say what follows from it: its hash, what `--trusted` takes, who decides blocks, who holds what.
    Show {
        /// The genesis (JSON).
        genesis: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Example => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            out::text(EXAMPLE.replace(TIME_MS, &now.as_millis().to_string()));
        }
        Command::Build { plan, out } => build(&plan, &out)?,
        Command::Show { genesis, json } => show(&genesis, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a file of at most the size of a genesis.
fn read(path: &Path) -> Result<String, CliError> {
    let found = fs::metadata(path).map_err(CliError::file("read", path))?.len();
    if found > MAX_GENESIS_BYTES as u64 {
        let text = format!("{}: {found} bytes; at most {MAX_GENESIS_BYTES}", path.display());
        return Err(CliError::Other(text));
    }
    fs::read_to_string(path).map_err(CliError::file("read", path))
}

fn build(plan: &Path, path: &Path) -> Result<(), CliError> {
    let refused = |error: &dyn std::fmt::Display| CliError::Other(format!("{}: {error}", plan.display()));
    let parsed: Plan = toml::from_str(&read(plan)?).map_err(|error| refused(&error))?;
    let genesis = parsed.genesis().map_err(|error| refused(&error))?;
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.map_err(CliError::file("create", path))?;
    let written = file.write_all(genesis.to_json().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(CliError::file("write", path))?;
    out::line(format_args!("{}: chain {}, genesis {}", path.display(), genesis.chain_id, genesis.hash()));
    out::line(format_args!("block 0: --trusted {}", first_block(&genesis)));
    warn(&genesis);
    Ok(())
}

/// Block 0, as `--trusted` takes it. Its hash is that of its header, not that of the genesis.
fn first_block(genesis: &Genesis) -> TrustedHash {
    TrustedHash { height: 0, hash: Chain::new(genesis).tip().hash() }
}

/// Says what whoever wrote the genesis probably did not mean.
fn warn(genesis: &Genesis) {
    for warning in genesis.warnings() {
        out::note(format_args!("warning: {warning}"));
    }
}

#[derive(Serialize)]
struct Shown {
    chain_id: u64,
    time_ms: u64,
    hash: Hash32,
    /// Block 0, ready for `--trusted`.
    trusted: String,
    validators: ValidatorSet,
    accounts: usize,
    identities: usize,
}

fn show(path: &Path, json: bool) -> Result<(), CliError> {
    let refused = |error| CliError::Other(format!("{}: {error}", path.display()));
    let genesis = Genesis::from_json(&read(path)?).map_err(refused)?;
    let validators = genesis.validators();
    warn(&genesis);
    let shown = Shown {
        chain_id: genesis.chain_id,
        time_ms: genesis.time_ms,
        hash: genesis.hash(),
        trusted: first_block(&genesis).to_string(),
        validators,
        accounts: genesis.accounts.len(),
        identities: genesis.identities.len(),
    };
    if json {
        out::json(&shown);
        return Ok(());
    }
    out::line(format_args!("chain {}  genesis {}", shown.chain_id, shown.hash));
    out::line(format_args!("block 0: --trusted {}", shown.trusted));
    out::line(format_args!("starts at {} ms since 1970", shown.time_ms));
    let mut table =
        Table::new(&[("validator", Align::Left), ("reached at", Align::Left), ("power", Align::Right)]);
    let total = shown.validators.total();
    for member in &shown.validators.members {
        let identity = genesis.identities.iter().find(|i| i.address == member.address);
        let (name, endpoint) = identity.map_or(("", ""), |i| (i.name.as_str(), i.endpoint.as_str()));
        // Per mille, rounded down: an exact number of units says little.
        let share = u128::from(member.power) * 1_000 / total.max(1);
        table.row([
            format!("{name} {}", member.address),
            endpoint.to_owned(),
            format!("{}.{} %", share / 10, share % 10),
        ]);
    }
    out::text(table.render());
    let held = [("community pool", genesis.community), ("reserve", genesis.reserve)];
    for (name, amount) in held {
        out::line(format_args!("  {name}: {amount} DN"));
    }
    out::line(format_args!("  {} accounts, {} identities", shown.accounts, shown.identities));
    Ok(())
}
