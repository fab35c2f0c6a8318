//! `cargo xtask gpu [MODEL]`: everything that a machine with a graphics card can say about the GPU backends, in one Markdown file below
//! the target directory: devices, the conformance suites, equal trace roots, what the card can do at most, rates, and their ratios. Where
//! there is no card, it says so.

mod ratios;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use serde_json::Value;

use crate::cargo;
use ratios::Rates;

/// Most of an output's end that goes into the report.
const MOST_BYTES: usize = 20_000;
/// What is computed on every backend, whose trace roots must be equal.
const TOKENS: &str = "0,35,661";
const BACKENDS: [&str; 3] = ["cpu", "wgpu", "cuda"];
/// Shapes that are timed where no model is given.
const SHAPES: [&str; 2] = ["1b", "8b"];

/// A report as far as it is written.
struct Report {
    text: String,
    failed: bool,
}

pub(crate) fn run(model: Option<&str>) -> ExitCode {
    let mut report = Report { text: "# Graphics cards of this machine\n".to_owned(), failed: false };
    let clocks = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit";
    let query = format!("--query-gpu={clocks}");
    let clocks = report.step(
        "Cards and clocks",
        Command::new("nvidia-smi").args([&query, "--format=csv"]),
        Need::Wanted,
    );
    // Where there is a card, what does not run on it has failed.
    let card = clocks.is_some();
    report.step("Programs", &mut cargo(&["build", "--release", "--locked", "-p", "dn"]), Need::Needed);
    report.step("Backends", &mut dn(&["backends"], None), Need::Needed);
    for (title, features, test) in [
        ("Conformance on CUDA", "cuda,embedded-model", "cuda"),
        ("Conformance on Vulkan", "wgpu,embedded-model", "wgpu"),
    ] {
        let args =
            ["test", "--release", "--locked", "-p", "dn-compute", "--features", features, "--test", test];
        let mut command = cargo(&args);
        command.args(["--", "--nocapture"]);
        if card {
            command.env("DN_REQUIRE_CUDA", "1").env("DN_REQUIRE_WGPU", "1");
        }
        report.step(title, &mut command, Need::Needed);
    }
    report.roots(model, card);
    let example = ["run", "--release", "--locked", "--quiet", "-p", "dn-compute", "--features", "cuda"];
    let ceilings = report.json("Ceilings", cargo(&example).args(["--example", "ceilings"]));
    let models = match model {
        Some(model) => vec![("the model given".to_owned(), PathBuf::from(model))],
        None => SHAPES.iter().filter_map(|shape| report.model(shape)).collect(),
    };
    let rates: Vec<Rates> = models.into_iter().map(|(name, file)| report.rates(name, &file)).collect();
    report.text.push_str(&ratios::section(ceilings.as_ref(), &rates));
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

    /// What a step prints, where it is JSON. It may fail: a machine without a device has none.
    fn json(&mut self, title: &str, command: &mut Command) -> Option<Value> {
        let output = self.step(title, command, Need::Wanted)?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// A model of random weights, made once.
    fn model(&mut self, shape: &str) -> Option<(String, PathBuf)> {
        let metadata = crate::cargo_metadata().ok()?;
        let place = Path::new(metadata["target_directory"].as_str()?).join("gpu-models");
        fs::create_dir_all(&place).ok()?;
        let (file, part) = (place.join(format!("{shape}.gguf")), place.join(format!("{shape}.part")));
        if !file.exists() {
            let mut make =
                cargo(&["run", "--release", "--locked", "--quiet", "-p", "dn-compute", "--example"]);
            make.args(["random_model", "--", shape]).arg(&part);
            self.step(&format!("A model of the {shape} shape"), &mut make, Need::Wanted)?;
            fs::rename(&part, &file).ok()?;
        }
        Some((shape.to_owned(), file))
    }

    /// What a model's ratios are made of.
    fn rates(&mut self, name: String, model: &Path) -> Rates {
        let model = model.to_string_lossy();
        let mut bench = |backend: &str, prompt: &str, output: &str, only: &str| {
            let args = ["bench", "infer", "--json", "--backend", backend, "--prompt-tokens", prompt];
            let more = ["--output-tokens", output, "--only", only];
            let title = format!("Rates of {name}: {backend}, {prompt} + {output} tokens");
            self.json(&title, dn(&args, Some(&model)).args(more))
        };
        bench("cpu", "32", "16", "generation");
        let cuda = bench("cuda", "128", "512", "replay");
        let prefill = bench("cuda", "2048", "1", "generation");
        let wgpu = bench("wgpu", "128", "64", "generation");
        let shape = cuda.as_ref().or(wgpu.as_ref()).map(|bench| bench["shape"].clone());
        let torch =
            shape.and_then(|shape| self.json(&format!("PyTorch in bf16: {name}"), &mut torch(&shape)));
        Rates { name, cuda, prefill, wgpu, torch }
    }

    /// The same tokens on every backend that is here, or with a card on all: one trace root.
    fn roots(&mut self, model: Option<&str>, card: bool) {
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
        self.failed |= !equal || known.is_empty() || card && known.len() < roots.len();
        let _ = writeln!(self.text, "\n{}", if equal { "All that ran are equal." } else { "THEY DIFFER." });
    }
}

/// What plain PyTorch does with a shape; without PyTorch the step says that it is not there.
fn torch(shape: &Value) -> Command {
    let mut command = Command::new("python3");
    command.arg("tools/gpu/torch_decode.py");
    for (option, key) in [
        ("--layers", "layers"),
        ("--width", "width"),
        ("--heads", "heads"),
        ("--kv-heads", "kv_heads"),
        ("--head-size", "head_size"),
        ("--ffn", "ffn_width"),
        ("--vocabulary", "vocabulary"),
    ] {
        command.args([option, &shape[key].to_string()]);
    }
    command
}

fn dn(args: &[&str], model: Option<&str>) -> Command {
    let mut command = cargo(&["run", "--release", "--locked", "--quiet", "-p", "dn", "--"]);
    command.args(args);
    if let Some(model) = model {
        command.args(["--model", model]);
    }
    command
}
