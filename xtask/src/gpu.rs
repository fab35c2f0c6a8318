//! `cargo xtask gpu [MODEL]`: everything that a machine with a graphics card can say about the GPU backends, in one Markdown file below
//! the target directory: devices, the conformance suites, equal trace roots, rates. Where there is no card, it says so.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

use serde_json::Value;

use crate::cargo;

/// Most of an output's end that goes into the report.
const MOST_BYTES: usize = 20_000;
/// What is computed on every backend, whose trace roots must be equal.
const TOKENS: &str = "0,35,661";
const BACKENDS: [&str; 3] = ["cpu", "wgpu", "cuda"];

/// A report as far as it is written.
struct Report {
    text: String,
    failed: bool,
}

pub(crate) fn run(model: Option<&str>) -> ExitCode {
    let mut report = Report { text: "# Graphics cards of this machine\n".to_owned(), failed: false };
    let clocks = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit";
    let query = format!("--query-gpu={clocks}");
    report.step("Cards and clocks", Command::new("nvidia-smi").args([&query, "--format=csv"]), Need::Wanted);
    report.step("Programs", &mut cargo(&["build", "--release", "--locked", "-p", "dn"]), Need::Needed);
    report.step("Backends", &mut dn(&["backends"], None), Need::Needed);
    for (title, features, test) in [
        ("Conformance on CUDA", "cuda,embedded-model", "cuda"),
        ("Conformance on Vulkan", "wgpu,embedded-model", "wgpu"),
    ] {
        let args =
            ["test", "--release", "--locked", "-p", "dn-compute", "--features", features, "--test", test];
        report.step(title, cargo(&args).args(["--", "--nocapture"]), Need::Needed);
    }
    report.roots(model);
    for backend in BACKENDS {
        let args =
            ["bench", "infer", "--backend", backend, "--prompt-tokens", "256", "--output-tokens", "64"];
        report.step(&format!("Rates: {backend}"), &mut dn(&args, model), Need::Wanted);
    }
    report.text.push_str(
        "\nWhat the card could do at most (bandwidth, int8 products) is not measured by this report yet.\n",
    );
    finish(&report)
}

fn finish(report: &Report) -> ExitCode {
    let written = crate::cargo_metadata().and_then(|metadata| {
        let target = metadata["target_directory"].as_str().ok_or("cargo names no target directory")?;
        let place = Path::new(target).join("gpu-report.md");
        fs::write(&place, &report.text).map_err(|error| error.to_string())?;
        Ok(place)
    });
    match written {
        Ok(place) => println!("{}", place.display()),
        Err(reason) => {
            eprintln!("{reason}\n{}", report.text);
            return ExitCode::FAILURE;
        }
    }
    if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether a step that fails makes the report one of failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Needed,
    /// A machine without this device has none.
    Wanted,
}

impl Report {
    fn step(&mut self, title: &str, command: &mut Command, need: Need) -> Option<Output> {
        println!("gpu: {title}");
        let _ = write!(self.text, "\n## {title}\n\n`{command:?}`\n\n");
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                self.failed |= need == Need::Needed;
                let _ = writeln!(self.text, "NOT RUN: {error}");
                return None;
            }
        };
        let verdict = if output.status.success() { "ended well" } else { "FAILED" };
        self.failed |= need == Need::Needed && !output.status.success();
        let both = [&output.stdout[..], &output.stderr[..]].concat();
        let end = String::from_utf8_lossy(&both[both.len().saturating_sub(MOST_BYTES)..]).into_owned();
        let _ = write!(self.text, "{verdict}\n\n```\n{}\n```\n", end.trim().replace("```", "'''"));
        output.status.success().then_some(output)
    }

    /// The same tokens on every backend that is here: one trace root.
    fn roots(&mut self, model: Option<&str>) {
        let mut roots = Vec::new();
        for backend in BACKENDS {
            let args = ["infer", "--tokens", TOKENS, "--max-tokens", "48", "--backend", backend, "--json"];
            let output = self.step(&format!("A model: {backend}"), &mut dn(&args, model), Need::Wanted);
            let json = output.and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
            let root = json.and_then(|json| json["trace_root"].as_str().map(str::to_owned));
            roots.push((backend, root));
        }
        self.text.push_str("\n## Trace roots\n\n");
        for (backend, root) in &roots {
            let _ = writeln!(self.text, "- {backend}: {}", root.as_deref().unwrap_or("not run"));
        }
        let known: Vec<&String> = roots.iter().filter_map(|(_, root)| root.as_ref()).collect();
        let equal = known.windows(2).all(|two| two[0] == two[1]);
        self.failed |= !equal || known.is_empty();
        let _ = writeln!(self.text, "\n{}", if equal { "All that ran are equal." } else { "THEY DIFFER." });
    }
}

fn dn(args: &[&str], model: Option<&str>) -> Command {
    let mut command = cargo(&["run", "--release", "--locked", "--quiet", "-p", "dn", "--"]);
    command.args(args);
    if let Some(model) = model {
        command.args(["--model", model]);
    }
    command
}
