//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    bench, devnet, doctor, embed, genesis, infer, ledger, model_command, query, sim, tx, verify, wallet,
};

/// Run, pay for, check and inspect verified model answers.
///
/// A first look, with nothing to install or sign up for:
///
///   dn devnet --demo     a whole network on this machine: paid calls, a cheat that is caught, the books
///   dn infer --chat "What is a lifetime?"
///   dn doctor            what this machine can run
///
/// Settings come from flags, then environment variables, then the configuration file, then defaults.
#[derive(Debug, Parser)]
#[command(name = "dn", version, verbatim_doc_comment, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Configuration file (TOML); without it `dn.toml` in the configuration directory is read if it exists.
    #[arg(long, global = true, env = "DN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to log on standard error: a level (`warn`, `info`, `debug`) or filters such as `dn_sdk=debug`.
    /// Without it warnings are logged, and errors only while the demo tells its story.
    #[arg(long, global = true, env = "DN_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What to log.
    pub(crate) fn log_filter(&self) -> &str {
        let quiet = matches!(&self.command, Command::Devnet(args) if args.is_demo());
        self.log.as_deref().unwrap_or(if quiet { "error" } else { "warn" })
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A whole network on this machine, to try everything; --demo is a tour that ends by itself.
    Devnet(devnet::Args),
    /// Run a model on this machine: tokens, text, trace root, timings.
    Infer(infer::Args),
    /// Turn texts into embeddings with an encoder on this machine.
    Embed(embed::Args),
    /// Measure.
    #[command(subcommand)]
    Bench(Bench),
    /// Models: convert to a package, inspect, verify.
    #[command(subcommand)]
    Model(model_command::Command),
    /// Check a receipt against a model by replaying it.
    Verify(verify::Args),
    /// Reward policies, tried out: populations, attacks, baselines, reports.
    #[command(subcommand)]
    Sim(sim::Command),
    /// Where a chain starts: from a plan to the file that its nodes agree on.
    #[command(subcommand)]
    Genesis(genesis::Command),
    /// Nodes of a chain: run one, or several validators on this machine; check, export, import what a stopped one holds.
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Keys in encrypted keystore files.
    #[command(subcommand)]
    Wallet(wallet::Command),
    /// What the ledger says: accounts, channels, models, audits, trust, supply, blocks.
    Query(query::Args),
    /// Sign and send a transaction.
    Tx(tx::Args),
    /// What this machine can run, and what is wrong with it.
    Doctor(doctor::Args),
    /// The ways to compute that this program has, and which of them work here.
    Backends(doctor::Args),
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Prefill, decode, replay and memory bandwidth of one model on this machine.
    Infer(bench::Args),
    /// Trust, score and payout of a million nodes, beside what this machine can copy.
    Sim(sim::bench::Args),
    /// Transactions per second and finality of a chain of several validators, each a process on this machine.
    Ledger(bench::ledger::Args),
}
