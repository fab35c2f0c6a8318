//! `gpu-report [MODEL]`: everything that a machine with a graphics card can say about the GPU backends, in one Markdown file: devices, the
//! conformance suites, equal trace roots, what the card can do at most, rates, and their ratios.
//!
//! The exit status is 0 if all of it was right, 1 if something that must succeed did not, 3 where there is no card. With an NVIDIA card
//! everything must run, on CUDA and on the card's own Vulkan driver; with another card what is Vulkan's; a software driver counts for nothing.
//!
//! `cargo xtask gpu` builds it with the programs that it runs, which lie beside it, into a folder that needs nothing else.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]

mod ratios;
mod steps;

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

use ratios::Rates;
use steps::{Need, Report};

/// What is computed on every backend, whose trace roots must be equal.
const TOKENS: &str = "0,35,661";
const BACKENDS: [&str; 3] = ["cpu", "wgpu", "cuda"];
/// Shapes that are timed where no model is given.
const SHAPES: [&str; 2] = ["1b", "8b"];
/// Where Linux tells of NVIDIA's driver, also where its tools are missing.
const DRIVER: &str = "/proc/driver/nvidia/version";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let model = match &args[..] {
        [] => None,
        [model] if !model.to_string_lossy().starts_with('-') => Some(model.as_os_str()),
        _ => {
            eprintln!("usage: gpu-report [MODEL]");
            return ExitCode::from(2);
        }
    };
    match Bundle::here().and_then(|bundle| report(&bundle, model)) {
        Ok(status) => status,
        Err(reason) => {
            eprintln!("gpu-report: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// What the machine has.
#[derive(Clone, Copy)]
struct Cards {
    nvidia: bool,
    /// A Vulkan driver that is a card's.
    vulkan: bool,
}

impl Cards {
    /// Whether a backend must run.
    const fn need(self, backend: &str) -> Need {
        Need::when(match backend.as_bytes() {
            b"cuda" => self.nvidia,
            b"wgpu" => self.nvidia || self.vulkan,
            _ => true,
        })
    }
}

fn report(bundle: &Bundle, model: Option<&OsStr>) -> Result<ExitCode, String> {
    let version = fs::read_to_string(bundle.place.join("VERSION")).unwrap_or_default();
    let head = format!("# Graphics cards of this machine\n\nSource: {}\n", version.trim());
    let mut report = Report::begin(bundle.place.join("gpu-report.md"), &head)?;
    let clocks = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit";
    let query = format!("--query-gpu={clocks}");
    let clocks = report.step(
        "Cards and clocks",
        Command::new("nvidia-smi").args([&query, "--format=csv"]),
        Need::Wanted,
    );
    report.step("Backends", bundle.program("dn").arg("backends"), Need::Needed);
    let backends =
        report.json("Backends, as JSON", bundle.program("dn").args(["backends", "--json"]), Need::Needed);
    let cards = Cards {
        nvidia: clocks.is_some() || Path::new(DRIVER).exists(),
        vulkan: backends.as_ref().is_some_and(has_card),
    };
    if cards.nvidia && !cards.vulkan {
        report.fail(
            "the card's own Vulkan driver is not there: what runs on wgpu runs on software, or not at all",
        );
    }
    for (title, test, required) in [
        ("Conformance on CUDA", "cuda", "DN_REQUIRE_CUDA"),
        ("Conformance on Vulkan", "wgpu", "DN_REQUIRE_WGPU"),
    ] {
        let mut command = bundle.program(test);
        command.arg("--nocapture");
        if cards.need(test) == Need::Needed {
            command.env(required, "1");
        }
        // Where nothing is required a test says that it skips.
        report.step(title, &mut command, Need::Needed);
    }
    roots(&mut report, bundle, model, cards);
    let ceilings = report.json("Ceilings", &mut bundle.program("ceilings"), cards.need("cuda"));
    let models = match model {
        Some(model) => vec![("the model given".to_owned(), PathBuf::from(model))],
        None => SHAPES.iter().filter_map(|shape| random_model(&mut report, bundle, shape)).collect(),
    };
    let rates: Vec<Rates> =
        models.into_iter().map(|(name, file)| rates(&mut report, bundle, name, &file, cards)).collect();
    report.say(&ratios::section(ceilings.as_ref(), &rates));
    Ok(report.finish(cards.nvidia || cards.vulkan))
}

/// Whether the device that WebGPU takes by itself, the first of its own, is one and no software.
fn has_card(backends: &Value) -> bool {
    let all = backends["backends"].as_array().map_or(&[][..], Vec::as_slice);
    let first = all.iter().find(|entry| entry["backend"] == "wgpu" && entry["available"] == true);
    first.is_some_and(|entry| !entry["note"].as_str().unwrap_or_default().contains("(software"))
}

/// A model of random weights, made once.
fn random_model(report: &mut Report, bundle: &Bundle, shape: &str) -> Option<(String, PathBuf)> {
    let place = bundle.place.join("models");
    let (file, part) = (place.join(format!("{shape}.gguf")), place.join(format!("{shape}.part")));
    if !file.exists() {
        let made = fs::create_dir_all(&place).map_err(|error| format!("create {}: {error}", place.display()));
        if let Err(reason) = made {
            report.fail(&reason);
            return None;
        }
        let mut make = bundle.program("random_model");
        make.arg(shape).arg(&part);
        report.step(&format!("A model of the {shape} shape"), &mut make, Need::Needed)?;
        if let Err(error) = fs::rename(&part, &file) {
            report.fail(&format!("rename {}: {error}", part.display()));
            return None;
        }
    }
    Some((shape.to_owned(), file))
}

/// What a model's ratios are made of.
fn rates(report: &mut Report, bundle: &Bundle, name: String, model: &Path, cards: Cards) -> Rates {
    let mut bench = |backend: &str, prompt: &str, output: &str, only: &str| {
        let args = ["bench", "infer", "--json", "--backend", backend, "--prompt-tokens", prompt];
        let more = ["--output-tokens", output, "--only", only];
        let title = format!("Rates of {name}: {backend}, {prompt} + {output} tokens");
        report.json(&title, bundle.dn(&args, Some(model.as_os_str())).args(more), cards.need(backend))
    };
    bench("cpu", "32", "16", "generation");
    let cuda = bench("cuda", "128", "512", "replay");
    let prefill = bench("cuda", "2048", "1", "generation");
    // Of a software driver no rate says anything.
    let wgpu = cards.vulkan.then(|| bench("wgpu", "128", "64", "generation")).flatten();
    let shape = cuda.as_ref().or(wgpu.as_ref()).map(|bench| bench["shape"].clone());
    let title = format!("PyTorch in bf16: {name}");
    let torch = shape.and_then(|shape| report.json(&title, &mut bundle.torch(&shape), Need::Wanted));
    Rates { name, cuda, prefill, wgpu, torch }
}

/// The same tokens on every backend that is here: one trace root.
fn roots(report: &mut Report, bundle: &Bundle, model: Option<&OsStr>, cards: Cards) {
    let mut roots = Vec::new();
    for backend in BACKENDS {
        let args = ["infer", "--tokens", TOKENS, "--max-tokens", "48", "--backend", backend, "--json"];
        let title = format!("A model: {backend}");
        let json = report.json(&title, &mut bundle.dn(&args, model), cards.need(backend));
        roots.push((backend, json.and_then(|json| json["trace_root"].as_str().map(str::to_owned))));
    }
    let (text, right) = compared(&roots, cards);
    report.say(&text);
    if !right {
        report.fail("trace roots");
    }
}

/// What the roots say, and whether those that must be are there and all are equal.
fn compared(roots: &[(&str, Option<String>)], cards: Cards) -> (String, bool) {
    let mut text = "\n## Trace roots\n\n".to_owned();
    for (backend, root) in roots {
        let _ = writeln!(text, "- {backend}: {}", root.as_deref().unwrap_or("not run"));
    }
    let known: Vec<&String> = roots.iter().filter_map(|(_, root)| root.as_ref()).collect();
    let equal = known.windows(2).all(|two| two[0] == two[1]);
    let missing = roots.iter().any(|(backend, root)| root.is_none() && cards.need(backend) == Need::Needed);
    let said = match (known.len(), equal) {
        (0 | 1, _) => "Fewer than two ran: nothing is compared.",
        (_, true) => "All that ran are equal.",
        (_, false) => "THEY DIFFER.",
    };
    let _ = writeln!(text, "\n{said}");
    (text, equal && !missing)
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

    fn dn(&self, args: &[&str], model: Option<&OsStr>) -> Command {
        let mut command = self.program("dn");
        command.args(args);
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NONE: Cards = Cards { nvidia: false, vulkan: false };
    const NVIDIA: Cards = Cards { nvidia: true, vulkan: true };

    #[test]
    fn a_software_driver_is_no_card() {
        let of = |entries: &[(&str, bool, &str)]| {
            let all = entries.iter().map(|(backend, available, note)| json!({ "backend": backend, "available": available, "note": note }));
            has_card(&json!({ "backends": all.collect::<Vec<_>>() }))
        };
        let (card, soft) =
            ("A card (card, driver 1): qualified", "llvmpipe (software, llvmpipe Mesa): qualified");
        assert!(of(&[("cpu", true, "x"), ("wgpu", true, card), ("wgpu", true, soft)]));
        assert!(!of(&[("cpu", true, "x"), ("wgpu", true, soft)]));
        assert!(!of(&[("cpu", true, "x"), ("wgpu", false, card)]), "it does not run");
        assert!(!of(&[]) && !has_card(&json!(7)));
    }

    #[test]
    fn what_a_machine_has_must_run() {
        let need = |cards: Cards| BACKENDS.map(|backend| cards.need(backend) == Need::Needed);
        assert_eq!(need(NONE), [true, false, false]);
        assert_eq!(need(Cards { nvidia: false, vulkan: true }), [true, true, false]);
        assert_eq!(need(Cards { nvidia: true, vulkan: false }), [true; 3]);
        assert_eq!(need(NVIDIA), [true; 3]);
    }

    #[test]
    fn roots_are_compared_where_there_are_two() {
        let of = |roots: [Option<&str>; 3], cards| {
            let roots: Vec<_> = BACKENDS.into_iter().zip(roots.map(|root| root.map(str::to_owned))).collect();
            compared(&roots, cards)
        };
        let (same, other) = (Some("0x1"), Some("0x2"));
        assert!(of([same; 3], NVIDIA).1);
        for wrong in [[same, same, None], [same, other, same], [None; 3], [None, same, same]] {
            assert!(!of(wrong, NVIDIA).1, "{wrong:?}");
        }
        let (text, right) = of([same, None, None], NONE);
        assert!(right && text.contains("nothing is compared") && !text.contains("equal"), "{text}");
        assert!(of([same, same, None], NONE).1);
        let (text, right) = of([same, other, None], NONE);
        assert!(!right && text.contains("THEY DIFFER"), "{text}");
    }
}
