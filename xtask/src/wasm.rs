//! The pure crates build where there is no operating system.

use std::path::Path;
use std::process::Command;

use crate::Report;

const TARGET: &str = "wasm32-unknown-unknown";
const PURE: &[&str] = &["dn-core", "dn-trust", "dn-powr", "dn-ledger"];

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
    for package in PURE {
        let status =
            Command::new("cargo").args(["build", "--locked", "--target", TARGET, "-p", package]).status();
        if !status.is_ok_and(|s| s.success()) {
            report.problems.push(format!("{package} does not build for {TARGET}"));
        }
    }
    report
}
