//! `dn ledger`: nodes of a chain.

use std::process::ExitCode;

use crate::error::CliError;
use crate::home::Config;

pub(crate) mod local;
mod run;

/// `dn ledger`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a node of a chain: with a key a validator, without one a follower.
    Run(Box<run::Args>),
    /// Run a chain of several validators on this machine, each a process of its own.
    Local(local::Args),
}

/// Runs the command.
pub(crate) fn run(command: Command, config: &Config) -> Result<ExitCode, CliError> {
    match command {
        Command::Run(args) => run::run(*args, config),
        Command::Local(args) => local::run(&args),
    }
}
