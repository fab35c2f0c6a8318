//! What `cargo xtask gpu` asks of an NVIDIA card: its bandwidths and its peaks of byte products, as one JSON object.
//!
//! ```text
//! ceilings [ADAPTER]
//! ```

#![allow(clippy::print_stdout, reason = "what it is for")]

use std::error::Error;

use dn_compute::cuda::{Cuda, CudaOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let options = CudaOptions {
        device: std::env::args().nth(1),
        cache: dn_compute::devices::user_cache(),
        ..CudaOptions::default()
    };
    let card = Cuda::unchecked(&options)?;
    let found = card.ceilings()?;
    let report = serde_json::json!({
        "device": card.device().name,
        "driver": card.device().driver,
        "copy_bytes_per_s": found.copy_bytes_per_s,
        "read_bytes_per_s": found.read_bytes_per_s,
        "dp4a_ops_per_s": found.dp4a_ops_per_s,
        "tile_ops_per_s": found.tile_ops_per_s,
    });
    println!("{report}");
    Ok(())
}
