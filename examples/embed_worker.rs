//! A worker in a program of your own: runs a GGUF file for a gateway until Ctrl-C.
//!
//! `cargo run --release -p dn-examples --example embed_worker -- LEDGER_URL GATEWAY_URL KEY_FILE [MODEL.gguf]`
//! Without a file it runs the embedded demonstration model. The key's address must be registered as a worker.

use std::sync::Arc;

use dn_compute::{Engine, EngineOptions, Model};
use dn_sdk::ledger::LedgerClient;
use dn_sdk::worker::{EngineExecutor, Worker, WorkerConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [ledger_url, gateway_url, key_file, model @ ..] = args.as_slice() else {
        return Err("usage: embed_worker LEDGER_URL GATEWAY_URL KEY_FILE [MODEL.gguf]".into());
    };
    let key = dn_examples::read_key(key_file)?;
    let model = match model.first() {
        Some(path) => Model::load(path.as_ref())?,
        None => Model::from_bytes(dn_compute::embedded::tiny_rust())?,
    };
    let engine = Engine::new(Arc::new(model), EngineOptions::default())?;
    let executor = Arc::new(EngineExecutor::new(vec![Arc::new(engine)]));
    let ledger = LedgerClient::new(ledger_url)?;
    let config = WorkerConfig::new(key, ledger, vec![gateway_url.clone()], executor, "worker-data");
    let worker = Worker::start(config).await?;
    tokio::signal::ctrl_c().await?;
    worker.shutdown().await;
    Ok(())
}
