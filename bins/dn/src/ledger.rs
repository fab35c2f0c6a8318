//! `dn ledger`: nodes of a chain.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::CliError;
use crate::home::Config;
use crate::out;

mod directory;
pub(crate) mod local;
mod run;

/// `dn ledger`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Verify everything that a directory holds, chain, snapshots and what consensus keeps, and change nothing; the exit code says whether
    /// it is sound.
    Check {
        /// The node's data directory.
        dir: PathBuf,
        /// Where it is recorded what the key signed, if the node has it elsewhere (`--sign-guard`).
        #[arg(long, value_name = "FILE")]
        sign_guard: Option<PathBuf>,
        /// Where the chain's file is copied to if its node was killed: such a file is repaired before it is read
        /// [default: the system's directory for temporary files].
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a snapshot of the state at the tip into the directory, for others to join from.
    Snapshot {
        /// The node's data directory.
        dir: PathBuf,
    },
    /// Write the whole chain into one file.
    Export {
        /// The node's data directory.
        dir: PathBuf,
        /// The file to write; an existing one is left alone. Until it is whole it is called FILE.partial.
        file: PathBuf,
        /// Where the chain's file is copied to if its node was killed: such a file is repaired before it is read
        /// [default: the system's directory for temporary files].
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
    /// Fill a directory from such a file, checking every block; goes on where it was interrupted.
    Import {
        /// The file.
        file: PathBuf,
        /// The data directory; made if it does not exist.
        dir: PathBuf,
    },
    /// Fill an empty directory from another node's newest snapshot, checked from the genesis on.
    Join {
        /// The other node's JSON-RPC, http://host:port.
        peer: String,
        /// The data directory; made if it does not exist.
        dir: PathBuf,
        /// The chain's genesis (JSON).
        #[arg(long)]
        genesis: PathBuf,
        /// A block to trust instead of the genesis, which vouches for two thirds of the unbonding time only, as height:hash.
        #[arg(long = "trusted", alias = "trust", value_name = "HEIGHT:HASH")]
        trust: Option<String>,
    },
    /// Print the OpenRPC document of a node's JSON-RPC service; a running node answers `rpc.discover` with the same.
    Openrpc,
    /// Run a node of a chain: with a key a validator, without one a follower.
    Run(Box<run::Args>),
    /// Run a chain of several validators on this machine, each a process of its own.
    Local(local::Args),
}

/// Runs the command.
pub(crate) fn run(command: Command, config: &Config) -> Result<ExitCode, CliError> {
    match command {
        Command::Check { dir, sign_guard, scratch, json } => {
            return Ok(directory::check(&dir, sign_guard, scratch, json));
        }
        Command::Snapshot { dir } => directory::snapshot(&dir)?,
        Command::Export { dir, file, scratch } => directory::export(&dir, &file, scratch.as_deref())?,
        Command::Import { file, dir } => directory::import(&file, &dir)?,
        Command::Join { peer, dir, genesis, trust } => {
            directory::join_peer(&peer, &dir, &genesis, trust.as_deref())?;
        }
        Command::Openrpc => out::json(&dn_ledger::node::openrpc()),
        Command::Run(args) => return run::run(*args, config),
        Command::Local(args) => return local::run(&args),
    }
    Ok(ExitCode::SUCCESS)
}
