//! Builds for other machines than this one, where their targets are installed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Report;

const WASM: &str = "wasm32-unknown-unknown";
/// Packages, and what else they are built with.
const PURE: &[(&str, &[&str])] = &[
    ("dn-core", &[]),
    ("dn-trust", &[]),
    ("dn-powr", &[]),
    ("dn-ledger", &[]),
    ("dn-ledger", &["--features", "light"]),
    // Without its engine: numeric spec, reference and referee.
    ("dn-compute", &["--no-default-features"]),
    // The GPU backend in a browser: its kernels, buffers and futures. (The engine blocks, and needs an operating system.)
    ("dn-compute", &["--no-default-features", "--features", "wgpu"]),
];

const ARM: &str = "aarch64-unknown-linux-gnu";
const ARM_LINKER: &str = "aarch64-linux-gnu-gcc";

/// The pure crates build where there is no operating system.
pub(crate) fn wasm() -> Report {
    let mut report = Report::default();
    if installed(WASM, &mut report) {
        for (package, with) in PURE {
            cargo(&[&["build", "--locked", "--target", WASM, "-p", package], *with].concat(), &mut report);
        }
    }
    report
}

/// The NEON code compiles. (That it gives the right bits, the conformance suite shows under emulation: `docs/numerics.md`.)
pub(crate) fn arm() -> Report {
    let mut report = Report::default();
    if !installed(ARM, &mut report) {
        return report;
    }
    let runs = Command::new(ARM_LINKER).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !runs.is_ok_and(|s| s.success()) {
        report
            .notes
            .push(format!("SKIPPED: {ARM_LINKER}, which a dependency's C code needs, is not installed"));
        return report;
    }
    cargo(&["check", "--locked", "--target", ARM, "-p", "dn-compute"], &mut report);
    report
}

/// Whether the compiler has the target's library; notes where not.
fn installed(target: &str, report: &mut Report) -> bool {
    let sysroot = match Command::new("rustc").args(["--print", "sysroot"]).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => {
            report.problems.push(format!("rustc: {error}"));
            return false;
        }
    };
    let there = Path::new(&sysroot).join("lib/rustlib").join(target).exists();
    if !there {
        report.notes.push(format!("SKIPPED: target {target} is not installed"));
    }
    there
}

fn cargo(args: &[&str], report: &mut Report) {
    if !crate::cargo(args).status().is_ok_and(|s| s.success()) {
        report.problems.push(format!("`cargo {}` failed", args.join(" ")));
    }
}
