//! Runs models for the network: dials out to gateways, answers calls, signs receipts, settles them.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use dn_sdk::operator::{
    BackendChoice, ByteSize, DN, Trusted, WorkerSettings, layered, start_worker, stop_signal,
};
use serde::Serialize;

/// Runs models for the DeepNode network.
///
/// A worker dials out to gateways, so it needs no open port. It answers calls, signs a receipt for each answer and
/// posts its receipts to the ledger, where a part of them is drawn and replayed: whoever answers with anything else
/// than the model's exact output loses its bond.
///
///   dn-worker --config worker.toml
///
/// `dn devnet --write-config DIR` writes such a file for a local network. SIGTERM and Ctrl-C let running jobs end.
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
    /// URL of a gateway to serve; may be given several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long = "gateway", env = "DN_GATEWAYS", value_name = "URL", value_delimiter = ',')]
    gateways: Option<Vec<String>>,
    /// GGUF file of a model to run, or `embedded`; may be given several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long = "model", env = "DN_MODELS", value_name = "FILE", value_delimiter = ',')]
    models: Option<Vec<PathBuf>>,
    /// Jobs at a time [default: 2].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_SLOTS", value_name = "N")]
    slots: Option<u16>,
    /// The least DN for a prompt token to work for [default: 0].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_MIN_PROMPT_PRICE", value_name = "DN")]
    min_prompt_price: Option<DN>,
    /// The least DN for a generated token to work for [default: 0].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_MIN_OUTPUT_PRICE", value_name = "DN")]
    min_output_price: Option<DN>,
    /// Milliseconds between batches [default: 5000].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_BATCH_INTERVAL_MS", value_name = "MS")]
    batch_interval_ms: Option<u64>,
    /// Threads for inference [default: one per core].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_THREADS", value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// How to compute: `cpu`, `wgpu` (a graphics card), `cuda` (an NVIDIA card), `reference`, or `auto`, the fastest that is right; a
    /// card is compared with the reference before it is used [default: cpu].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_BACKEND", value_name = "BACKEND")]
    backend: Option<BackendChoice>,
    /// Device of the backend `wgpu` or `cuda`, by a part of its name [default: the best]; `dn backends` lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_ADAPTER", value_name = "NAME")]
    adapter: Option<String>,
    /// How many of a model's first layers the device computes, the CPU the rest [default: as many as its memory takes].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_GPU_LAYERS", value_name = "N")]
    gpu_layers: Option<u32>,
    /// Bytes of the device's memory for each model, such as `6G` (K, M and G are powers of 1024) [default: what its driver tells].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_DEVICE_MEMORY", value_name = "BYTES")]
    device_memory: Option<ByteSize>,
    /// Register under this name if the key is not registered as a worker yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[arg(long, env = "DN_NAME")]
    name: Option<String>,
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
    let settings: WorkerSettings = layered(cli.config.as_deref(), &cli.flags)?;
    tokio::runtime::Runtime::new()?.block_on(serve(settings))
}

async fn serve(settings: WorkerSettings) -> Result<(), Box<dyn Error>> {
    let running = start_worker(&settings).await?;
    tracing::info!(worker = %running.address(), "working");
    let ended = tokio::select! {
        () = stop_signal() => Ok(()),
        failure = running.broken() => Err(failure),
    };
    tracing::info!("stopping");
    running.shutdown().await;
    // Whoever watches the process starts it again.
    Ok(ended?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    /// Every flag is a setting of the same name, with the value that was given.
    #[test]
    fn flags_become_settings() {
        let args = [
            "dn-worker",
            "--keystore=k",
            "--password-file=p",
            "--data-dir=d",
            "--gateway=http://g",
            "--backend=cuda",
            "--adapter=H200",
            "--gpu-layers=9",
            "--device-memory=6G",
        ];
        let settings: WorkerSettings = layered(None, &Cli::parse_from(args).flags).unwrap();
        assert_eq!(settings.backend.to_string(), "cuda");
        assert_eq!((settings.adapter.as_deref(), settings.gpu_layers), (Some("H200"), Some(9)));
        assert_eq!(settings.device_memory, Some(ByteSize(6 << 30)));
        for (flag, value, expected) in [
            ("--backend", "gpu", "auto, cpu, reference, wgpu or cuda"),
            ("--device-memory", "6 GB", "number of bytes"),
        ] {
            let error = Cli::try_parse_from(["dn-worker", flag, value]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
