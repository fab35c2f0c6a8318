//! `dn`: one program to try everything that DeepNode does.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod args;
mod bench;
mod devnet;
mod doctor;
mod embed;
mod error;
mod genesis;
mod home;
mod infer;
mod ledger;
mod model;
mod model_command;
mod out;
mod password;
mod query;
mod render;
mod review_tx;
mod sim;
mod tx;
mod unfinished;
mod verify;
mod wallet;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    out::start_logging(cli.log_filter());
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            out::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: args::Cli) -> Result<ExitCode, error::CliError> {
    let config = home::Config::read(cli.config.as_deref())?;
    match cli.command {
        args::Command::Devnet(args) => devnet::run(args, &config),
        args::Command::Infer(args) => infer::run(args, &config),
        args::Command::Embed(args) => embed::run(args, &config),
        args::Command::Bench(args::Bench::Infer(args)) => bench::run(args, &config),
        args::Command::Bench(args::Bench::Sim(args)) => sim::bench::run(args),
        args::Command::Model(command) => model_command::run(command, &config),
        args::Command::Verify(args) => verify::run(args, &config),
        args::Command::Bench(args::Bench::Ledger(args)) => bench::ledger::run(&args),
        args::Command::Ledger(command) => ledger::run(command, &config),
        args::Command::Wallet(args) => wallet::run(args, &config),
        args::Command::Query(args) => query::run(args, &config),
        args::Command::Genesis(command) => genesis::run(command),
        args::Command::Sim(command) => sim::run(command),
        args::Command::Tx(args) => tx::run(args, &config),
        args::Command::Doctor(args) => doctor::run(args, &config),
        args::Command::Backends(args) => doctor::backends(args),
    }
}

/// A runtime for the commands that wait for other programs.
fn runtime() -> Result<tokio::runtime::Runtime, error::CliError> {
    tokio::runtime::Runtime::new().map_err(error::CliError::file("start", "the asynchronous runtime"))
}
