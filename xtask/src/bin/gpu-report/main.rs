//! `gpu-report [MODEL]`: everything that a machine with a graphics card can say about the GPU backends, in one Markdown file: devices, the
//! conformance suites, equal trace roots, what the card can do at most, rates, and their ratios. Where there is no card, it says so.
//!
//! `cargo xtask gpu` builds it with the programs that it runs, which lie beside it, into a folder that needs nothing else.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]

mod ratios;

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use serde_json::Value;

use ratios::Rates;

/// Most of an output's end that goes into the report.
const MOST_BYTES: usize = 20_000;
/// What is computed on every backend, whose trace roots must be equal.
const TOKENS: &str = "0,35,661";
const BACKENDS: [&str; 3] = ["cpu", "wgpu", "cuda"];
/// Shapes that are timed where no model is given.
const SHAPES: [&str; 2] = ["1b", "8b"];
/// Where Linux tells of NVIDIA's driver, also where its tools are missing.
const DRIVER: &str = "/proc/driver/nvidia/version";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let model = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        [model] if !model.starts_with('-') => Some(model),
        _ => {
            eprintln!("usage: gpu-report [MODEL]");
            return ExitCode::from(2);
        }
    };
    match Bundle::here() {
        Ok(bundle) => report(&bundle, model),
        Err(reason) => {
            eprintln!("gpu-report: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn report(bundle: &Bundle, model: Option<&str>) -> ExitCode {
    let version = fs::read_to_string(bundle.place.join("VERSION")).unwrap_or_default();
    let text = format!("# Graphics cards of this machine\n\nSource: {}\n", version.trim());
    let mut report = Report { text, failed: false };
    let clocks = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit";
    let query = format!("--query-gpu={clocks}");
    let clocks = report.step(
        "Cards and clocks",
        Command::new("nvidia-smi").args([&query, "--format=csv"]),
        Need::Wanted,
    );
    // Where there is a card, what does not run on it has failed.
    let card = clocks.is_some() || Path::new(DRIVER).exists();
    report.step("Backends", bundle.program("dn").arg("backends"), Need::Needed);
    for (title, test, required) in [
        ("Conformance on CUDA", "cuda", "DN_REQUIRE_CUDA"),
        ("Conformance on Vulkan", "wgpu", "DN_REQUIRE_WGPU"),
    ] {
        let mut command = bundle.program(test);
        command.arg("--nocapture");
        if card {
            command.env(required, "1");
        }
        report.step(title, &mut command, Need::Needed);
    }
    report.roots(bundle, model, card);
    let ceilings = report.json("Ceilings", &mut bundle.program("ceilings"));
    let models = match model {
        Some(model) => vec![("the model given".to_owned(), PathBuf::from(model))],
        None => SHAPES.iter().filter_map(|shape| report.model(bundle, shape)).collect(),
    };
    let rates: Vec<Rates> =
        models.into_iter().map(|(name, file)| report.rates(bundle, name, &file)).collect();
    report.text.push_str(&ratios::section(ceilings.as_ref(), &rates));
    report.finish(&bundle.place.join("gpu-report.md"))
}

/// The folder that all programs lie in.
struct Bundle {
    place: PathBuf,
    libraries: OsString,
}

impl Bundle {
    /// The one that this program lies in.
    fn here() -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("this program's place: {error}"))?;
        let place = own.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_owned();
        for program in ["dn", "cuda", "wgpu", "ceilings", "random_model"] {
            let program = place.join("bin").join(program);
            if !program.is_file() {
                return Err(format!(
                    "{} is missing: `cargo xtask gpu` makes the whole folder",
                    program.display()
                ));
            }
        }
        let mut libraries = place.join("lib").into_os_string();
        if let Some(before) = std::env::var_os("LD_LIBRARY_PATH").filter(|before| !before.is_empty()) {
            libraries.push(":");
            libraries.push(before);
        }
        Ok(Self { place, libraries })
    }

    /// One of its programs, which finds the bundle's NVRTC.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.place.join("bin").join(name));
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }

    /// What plain PyTorch does with a shape; without PyTorch the step says that it is not there.
    fn torch(&self, shape: &Value) -> Command {
        let mut command = Command::new("python3");
        command.arg(self.place.join("bin/torch_decode.py"));
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

    fn dn(&self, args: &[&str], model: Option<&str>) -> Command {
        let mut command = self.program("dn");
        command.args(args);
        if let Some(model) = model {
            command.args(["--model", model]);
        }
        command
    }
}

/// Whether a step that fails makes the report one of failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Needed,
    /// A machine without this device has none.
    Wanted,
}

/// A report as far as it is written.
struct Report {
    text: String,
    failed: bool,
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
    fn model(&mut self, bundle: &Bundle, shape: &str) -> Option<(String, PathBuf)> {
        let place = bundle.place.join("models");
        fs::create_dir_all(&place).ok()?;
        let (file, part) = (place.join(format!("{shape}.gguf")), place.join(format!("{shape}.part")));
        if !file.exists() {
            let mut make = bundle.program("random_model");
            make.arg(shape).arg(&part);
            self.step(&format!("A model of the {shape} shape"), &mut make, Need::Wanted)?;
            fs::rename(&part, &file).ok()?;
        }
        Some((shape.to_owned(), file))
    }

    /// What a model's ratios are made of.
    fn rates(&mut self, bundle: &Bundle, name: String, model: &Path) -> Rates {
        let model = model.to_string_lossy();
        let mut bench = |backend: &str, prompt: &str, output: &str, only: &str| {
            let args = ["bench", "infer", "--json", "--backend", backend, "--prompt-tokens", prompt];
            let more = ["--output-tokens", output, "--only", only];
            let title = format!("Rates of {name}: {backend}, {prompt} + {output} tokens");
            self.json(&title, bundle.dn(&args, Some(&model)).args(more))
        };
        bench("cpu", "32", "16", "generation");
        let cuda = bench("cuda", "128", "512", "replay");
        let prefill = bench("cuda", "2048", "1", "generation");
        let wgpu = bench("wgpu", "128", "64", "generation");
        let shape = cuda.as_ref().or(wgpu.as_ref()).map(|bench| bench["shape"].clone());
        let torch =
            shape.and_then(|shape| self.json(&format!("PyTorch in bf16: {name}"), &mut bundle.torch(&shape)));
        Rates { name, cuda, prefill, wgpu, torch }
    }

    /// The same tokens on every backend that is here, or with a card on all: one trace root.
    fn roots(&mut self, bundle: &Bundle, model: Option<&str>, card: bool) {
        let mut roots = Vec::new();
        for backend in BACKENDS {
            let args = ["infer", "--tokens", TOKENS, "--max-tokens", "48", "--backend", backend, "--json"];
            let output =
                self.step(&format!("A model: {backend}"), &mut bundle.dn(&args, model), Need::Wanted);
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

    fn finish(&self, place: &Path) -> ExitCode {
        if let Err(error) = fs::write(place, &self.text) {
            eprintln!("write {}: {error}\n{}", place.display(), self.text);
            return ExitCode::FAILURE;
        }
        println!("{}", place.display());
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
