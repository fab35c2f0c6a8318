//! Keeps the ledger and audits receipts.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dn_sdk::operator::{Trusted, ValidatorSettings, layered, start_validator, stop_signal};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// Keeps DeepNode's ledger and audits receipts.
///
/// With a genesis file it runs a ledger node, produces blocks and answers JSON-RPC; without one it asks the node at
/// --ledger. Either way it replays the receipts that the ledger draws for its key and votes on them.
///
///   dn-validator --config validator-1.toml
///
/// `dn devnet --write-config DIR` writes such a file for a local network. SIGTERM and Ctrl-C stop it after the audit
/// that runs; a kill at any moment loses no acknowledged transaction.
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    /// Configuration file (TOML): the settings below with underscores. Flags beat environment variables beat the file.
    #[arg(long, env = "DN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to log on standard error: a level or filters such as `dn_sdk=debug`.
    #[arg(long, env = "DN_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    #[command(flatten)]
    flags: Flags,
}

/// Settings; those that are given beat the configuration file.
#[derive(Debug, clap::Args, Serialize)]
struct Flags {
    /// Keystore file of the key (make one with `dn wallet new`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_KEYSTORE", value_name = "FILE")]
    keystore: Option<PathBuf>,
    /// File with the keystore's password in its first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_PASSWORD_FILE", value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Where everything is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Genesis file: keep a ledger node and produce blocks. Without it the node at --ledger is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_GENESIS", value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Where the ledger node answers JSON-RPC [default: 127.0.0.1:8090].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_LEDGER_LISTEN", value_name = "ADDR")]
    ledger_listen: Option<SocketAddr>,
    /// Milliseconds between blocks [default: 500].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_BLOCK_INTERVAL_MS", value_name = "MS")]
    block_interval_ms: Option<u64>,
    /// URL of the ledger node to ask when none runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_LEDGER", value_name = "URL")]
    ledger: Option<String>,
    /// A block of the chain to trust, its height and hash [default: the first that the node shows].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_TRUSTED", value_name = "HEIGHT:HASH")]
    trusted: Option<Trusted>,
    /// Whether to audit [default: true].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_AUDIT", value_name = "BOOL")]
    audit: Option<bool>,
    /// GGUF file of a model that can be replayed, or `embedded`; may be given several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long = "model", env = "DN_MODELS", value_name = "FILE", value_delimiter = ',')]
    models: Option<Vec<PathBuf>>,
    /// Threads for replays [default: one per core].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,
}

fn log_filter(own: &str) -> EnvFilter {
    let with = |own: &str| format!("{},{own}", dn_sdk::operator::LOG_FILTERS);
    EnvFilter::try_new(with(own)).unwrap_or_else(|_| EnvFilter::new(with("info")))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(log_filter(&cli.log))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let settings: ValidatorSettings = layered(cli.config.as_deref(), &cli.flags)?;
    tokio::runtime::Runtime::new()?.block_on(serve(settings))
}

async fn serve(settings: ValidatorSettings) -> Result<(), Box<dyn Error>> {
    let running = start_validator(&settings).await?;
    if let Some(node) = &running.node {
        tracing::info!(rpc = %node.rpc_addr(), "keeping the ledger");
    }
    if let Some(auditor) = &running.auditor {
        tracing::info!(validator = %auditor.address(), "auditing");
    }
    let broken = tokio::select! {
        () = stop_signal() => false,
        () = running.broken() => true,
    };
    tracing::info!("stopping");
    running.shutdown().await;
    if broken {
        return Err("blocks cannot be stored; start again once the cause is gone".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
