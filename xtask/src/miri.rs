//! `cargo xtask miri`: the engine's small calls under Miri, which sees undefined behaviour. Needs a nightly toolchain with the
//! component `miri`; takes some minutes.

use std::process::ExitCode;

/// Threads of a pool outlive the tests, and the pool's own queues break the stricter of Miri's two rules for aliasing.
const FLAGS: &str = "-Zmiri-ignore-leaks -Zmiri-tree-borrows -Zmiri-disable-isolation";

/// Runs the tests of the CPU backend that are small enough.
pub(crate) fn run() -> ExitCode {
    let tests = ["cpu::tests", "cpu::pages"];
    let status = crate::cargo(&["+nightly", "miri", "test", "-p", "dn-compute", "--lib", "--"])
        .args(tests)
        .env("MIRIFLAGS", FLAGS)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo +nightly miri: {error}");
            ExitCode::FAILURE
        }
    }
}
