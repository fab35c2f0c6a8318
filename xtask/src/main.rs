//! Repository checks that are neither rustc's nor clippy's: `cargo xtask tidy`, `cargo xtask miri`, `cargo xtask cuda` and
//! `cargo xtask gpu`.
//!
//! `tidy`:
//!
//! - dependency arrows between the workspace's packages, and what the pure crates may never pull in;
//! - licences of all dependencies;
//! - file lengths (a report above 400 lines, a failure above 800);
//! - the pure crates build for `wasm32-unknown-unknown`, where that target is installed;
//! - the kernels compile for `aarch64-unknown-linux-gnu`, where that target and a C compiler for it are installed.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod arrows;
mod cuda;
mod gpu;
mod lengths;
mod licences;
mod miri;
mod targets;

use std::process::{Command, ExitCode};

/// What a check found: problems fail the run, notes are printed.
#[derive(Default)]
struct Report {
    problems: Vec<String>,
    notes: Vec<String>,
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy(),
        Some("miri") => miri::run(),
        Some("cuda") => cuda::run(),
        Some("gpu") => gpu::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => {
            eprintln!("usage: cargo xtask tidy | miri | cuda | gpu [--bundle | MODEL]");
            ExitCode::from(2)
        }
    }
}

fn tidy() -> ExitCode {
    let metadata = match cargo_metadata() {
        Ok(metadata) => metadata,
        Err(reason) => {
            eprintln!("cargo metadata: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    for (name, report) in [
        ("dependency arrows", arrows::check(&metadata)),
        ("licences", licences::check(&metadata)),
        ("file lengths", lengths::check()),
        ("wasm32 build of the pure crates", targets::wasm()),
        ("aarch64 check of the kernels", targets::arm()),
    ] {
        println!("tidy: {name}: {}", if report.problems.is_empty() { "ok" } else { "FAILED" });
        for note in &report.notes {
            println!("  note: {note}");
        }
        for problem in &report.problems {
            println!("  problem: {problem}");
        }
        failed |= !report.problems.is_empty();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Cargo as it starts from a shell. What `cargo run` tells this program about its own package is left out: build scripts that look at it (`ring`'s)
/// would run again, and everything that depends on theirs be built again, here and by whoever calls cargo next.
fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args);
    let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(own)) {
        command.env_remove(name);
    }
    command
}

fn cargo_metadata() -> Result<serde_json::Value, String> {
    let output =
        cargo(&["metadata", "--format-version", "1", "--locked"]).output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
}
