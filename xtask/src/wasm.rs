//! The pure crates build where there is no operating system.

use std::path::Path;
use std::process::Command;

use crate::Report;

const TARGET: &str = "wasm32-unknown-unknown";
/// Packages, and whether they are built without their features.
const PURE: &[(&str, bool)] = &[
    ("dn-core", false),
    ("dn-trust", false),
    ("dn-powr", false),
    ("dn-ledger", false),
    // Without its engine: numeric spec, reference and referee.
    ("dn-compute", true),
];

pub(crate) fn check() -> Report {
    let mut report = Report::default();
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = match sysroot {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => {
            report.problems.push(format!("rustc: {error}"));
            return report;
        }
    };
    if !Path::new(&sysroot).join("lib/rustlib").join(TARGET).exists() {
        report.notes.push(format!("SKIPPED: target {TARGET} is not installed"));
        return report;
    }
    for (package, bare) in PURE {
        let bare = if *bare { ["--no-default-features"].as_slice() } else { &[] };
        let status = Command::new("cargo")
            .args(["build", "--locked", "--target", TARGET, "-p", package])
            .args(bare)
            .status();
        if !status.is_ok_and(|s| s.success()) {
            report.problems.push(format!("{package} does not build for {TARGET}"));
        }
    }
    report
}
