//! OpenAI-compatible front of the network.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dn_sdk::operator::{DN, GatewaySettings, Trusted, layered, start_gateway, stop_signal};
use serde::Serialize;

/// The OpenAI-compatible front of the DeepNode network.
///
/// Workers dial in, clients call /v1/chat/completions and /v1/completions with API keys that are bound to payment
/// channels, auditors fetch the receipts that were drawn for them.
///
///   dn-gateway --config gateway.toml
///
/// API keys are made from the `[[api_keys]]` entries of the configuration file. `dn devnet --write-config DIR` writes
/// one for a local network. SIGTERM and Ctrl-C let running calls end.
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
    /// URL of a ledger node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_LEDGER", value_name = "URL")]
    ledger: Option<String>,
    /// A block of the chain to trust, its height and hash [default: the first that the node shows].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_TRUSTED", value_name = "HEIGHT:HASH")]
    trusted: Option<Trusted>,
    /// Where to serve the API [default: 127.0.0.1:8080].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// GGUF file of a model to serve, or `embedded`; may be given several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long = "model", env = "DN_MODELS", value_name = "FILE", value_delimiter = ',')]
    models: Option<Vec<PathBuf>>,
    /// Register under this name if the key is not registered as a gateway yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_NAME")]
    name: Option<String>,
    /// The URL under which auditors reach this gateway [default: the address it listens on].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// The bond to register with, in DN [default: the smallest that the chain takes].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_COLLATERAL", value_name = "DN")]
    collateral: Option<DN>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&cli.log).unwrap_or_else(|_| "info".into()))
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
    let settings: GatewaySettings = layered(cli.config.as_deref(), &cli.flags)?;
    tokio::runtime::Runtime::new()?.block_on(serve(settings))
}

async fn serve(settings: GatewaySettings) -> Result<(), Box<dyn Error>> {
    let running = start_gateway(&settings).await?;
    tracing::info!(url = running.url(), "serving");
    stop_signal().await;
    tracing::info!("stopping");
    running.shutdown().await;
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
