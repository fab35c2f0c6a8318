//! `dn doctor` and `dn backends`: what this machine can run, and what is wrong with it.

mod devices;

use std::borrow::Cow;
use std::fs;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use dn_compute::devices::Survey;
use dn_compute::{GenerateRequest, Isa};
use dn_core::objects::{Decoding, Sampling};
use serde::Serialize;

use crate::error::CliError;
use crate::home::{self, Config};
use crate::model::ModelArgs;
use crate::out::{self, Align};

/// What both commands take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    /// How to go on, where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), advice: None }
    }

    fn bad(name: &'static str, status: Status, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, status, found: found.into(), advice: Some(advice) }
    }
}

/// One way to compute.
#[derive(Debug, Serialize)]
struct BackendRow {
    backend: &'static str,
    isa: &'static str,
    available: bool,
    /// Whether `--backend auto` takes it.
    auto: bool,
    /// How fast it is with one token at a time, where that was measured.
    weights_per_s: Option<u64>,
    note: Cow<'static, str>,
}

impl BackendRow {
    /// One that is not here.
    const fn new(backend: &'static str, isa: &'static str) -> Self {
        Self { backend, isa, available: false, auto: false, weights_per_s: None, note: Cow::Borrowed("") }
    }
}

#[derive(Debug, Serialize)]
struct Machine {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
    threads: usize,
    memory_total_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    backends: Vec<BackendRow>,
    /// What `--backend auto` takes, and why.
    auto: String,
    checks: Vec<Check>,
}

/// Lists the ways to compute.
pub(crate) fn backends(args: Args) -> Result<ExitCode, CliError> {
    let waiting = out::spinner("comparing devices with the reference");
    let survey = devices::survey(true);
    let (rows, auto) = (backend_rows(&survey), devices::sentence(&survey));
    waiting.finish_and_clear();
    if args.json {
        out::json(&serde_json::json!({ "backends": rows, "auto": auto }));
    } else {
        show_backends(&rows, &auto);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs every check. Fails if one of them does.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let waiting = out::spinner("looking");
    let memory = Memory::read();
    let checks = vec![
        check_memory(&memory),
        check_inference(config),
        check_data_dir(),
        check_keystore_dir(config),
        check_loopback(),
        check_clock(),
    ];
    let survey = devices::survey(false);
    let (backends, auto) = (backend_rows(&survey), devices::sentence(&survey));
    waiting.finish_and_clear();
    let failed = checks.iter().any(|check| check.status == Status::Failed);
    let machine = Machine {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        threads: thread::available_parallelism().map_or(1, usize::from),
        memory_total_bytes: memory.total,
        memory_available_bytes: memory.available,
    };
    let report = Report { machine, backends, auto, checks };
    if args.json {
        out::json(&report);
    } else {
        show(&report);
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(report: &Report) {
    let machine = &report.machine;
    out::line(format_args!(
        "dn {} on {} {}, {} threads\n",
        machine.version, machine.os, machine.arch, machine.threads
    ));
    show_backends(&report.backends, &report.auto);
    out::line("");
    let mut table = out::Table::new(&[("check", Align::Left), ("", Align::Left), ("found", Align::Left)]);
    for check in &report.checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "FAILED",
        };
        table.row([check.name.to_owned(), status.to_owned(), check.found.clone()]);
    }
    out::text(table.render());
    for check in &report.checks {
        if let Some(advice) = check.advice {
            out::line(format_args!("\n{}: {advice}", check.name));
        }
    }
}

fn show_backends(rows: &[BackendRow], auto: &str) {
    let columns = [
        ("backend", Align::Left),
        ("isa", Align::Left),
        ("here", Align::Left),
        ("weights/s", Align::Right),
        ("note", Align::Left),
    ];
    let mut table = out::Table::new(&columns);
    for row in rows {
        let here = match (row.available, row.auto) {
            (true, true) => "auto",
            (true, false) => "yes",
            (false, _) => "no",
        };
        let rate = row.weights_per_s.map(devices::short).unwrap_or_default();
        table.row([row.backend.to_owned(), row.isa.to_owned(), here.to_owned(), rate, row.note.to_string()]);
    }
    out::text(table.render());
    out::line(auto);
}

fn backend_rows(survey: &Survey) -> Vec<BackendRow> {
    let row = |backend, isa, available, note: &'static str| BackendRow {
        available,
        note: note.into(),
        ..BackendRow::new(backend, isa)
    };
    let cpu = |isa: Isa, note| row("cpu", isa.name(), isa.is_available(), note);
    let mut rows = vec![
        cpu(Isa::Scalar, "portable code"),
        cpu(Isa::Avx2, "256-bit vectors (x86-64)"),
        cpu(Isa::AvxVnni, "256-bit vectors with VNNI (x86-64)"),
        cpu(Isa::Avx512, "512-bit vectors with VNNI (x86-64)"),
        cpu(Isa::Amx, "the same and tiles of bytes (x86-64)"),
        cpu(Isa::Neon, "128-bit vectors (ARM)"),
        cpu(Isa::NeonDot, "the same with products of four bytes (ARM)"),
        row("reference", "scalar", true, "the plain definition: slow, for checks"),
    ];
    // The CPU's rate belongs to the instruction set that it takes by itself.
    let own = &survey.candidates[0];
    if let Some(row) = rows.iter_mut().find(|row| row.backend == "cpu" && row.isa == own.isa) {
        row.weights_per_s = own.weights_per_s;
        row.auto = survey.is_taken(0);
    }
    rows.extend(devices::rows(survey));
    rows
}

/// The machine's memory, where the system tells.
#[derive(Debug, Default)]
struct Memory {
    total: Option<u64>,
    available: Option<u64>,
}

impl Memory {
    fn read() -> Self {
        fs::read_to_string("/proc/meminfo").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    /// Reads `MemTotal:  123 kB` lines.
    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Self { total: field("MemTotal"), available: field("MemAvailable") }
    }
}

fn check_memory(memory: &Memory) -> Check {
    const NAME: &str = "memory";
    const NEEDED: u64 = 512 << 20;
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    match (memory.available, memory.total) {
        (Some(available), Some(total)) if available >= NEEDED => {
            Check::ok(NAME, format!("{} available of {}", gib(available), gib(total)))
        }
        (Some(available), _) => Check::bad(
            NAME,
            Status::Warning,
            format!("{} available", gib(available)),
            "the local network with its small model needs about 0.5 GiB; close something or add memory",
        ),
        _ => Check::bad(NAME, Status::Warning, "unknown", "this system does not say how much memory is free"),
    }
}

/// Generates with the embedded model and replays the answer: the whole of verified inference in one second.
fn check_inference(config: &Config) -> Check {
    const NAME: &str = "verified inference";
    match self_test(config) {
        Ok(Some(found)) => Check::ok(NAME, found),
        Ok(None) => Check::bad(
            NAME,
            Status::Failed,
            "a replay differs from the generation it repeats",
            "this machine computes wrongly or this build is broken: workers here would be slashed; please report it",
        ),
        Err(error) => {
            Check::bad(NAME, Status::Failed, error.to_string(), "the embedded model must run anywhere")
        }
    }
}

fn self_test(config: &Config) -> Result<Option<String>, CliError> {
    let loaded = ModelArgs::automatic().load(&Config { model: None, ..config.clone() })?;
    let prompt = loaded.engine.model().front().text_prompt("A lifetime is")?;
    let request = GenerateRequest {
        prompt: &prompt,
        already: &[],
        decoding: Decoding::plain(),
        sampling: Sampling { temperature_micro: 700_000, seed: 7, ..Sampling::GREEDY },
        max_tokens: 24,
        stop: &[],
    };
    let generation = loaded.engine.generate(&request, &mut |_| ControlFlow::Continue(()))?;
    let replay = loaded.engine.replay(&request, &generation.tokens, generation.finish)?;
    let same = replay.trace_root == generation.trace_root && replay.divergence.is_none();
    let rate = crate::infer::per_second(generation.timings.decode_tokens, generation.timings.decode);
    Ok(same.then(|| {
        format!("embedded model: {} tokens at {rate:.0} tokens/s, replay agrees", generation.tokens.len())
    }))
}

fn check_data_dir() -> Check {
    const NAME: &str = "data directory";
    let dir = home::data_dir();
    let probe = dir.join(format!(".dn-doctor-{}", std::process::id()));
    let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&probe, b"probe"));
    let _ = fs::remove_file(&probe);
    match written {
        Ok(()) => Check::ok(NAME, format!("{} can be written", dir.display())),
        Err(error) => Check::bad(
            NAME,
            Status::Failed,
            format!("{}: {error}", dir.display()),
            "set DN_HOME to a directory that you can write to",
        ),
    }
}

fn check_keystore_dir(config: &Config) -> Check {
    const NAME: &str = "keystore directory";
    let dir = config.keystore_dir();
    let readable_by_others = readable_by_others(&dir);
    match readable_by_others {
        None => Check::ok(NAME, format!("{} holds no keys yet", dir.display())),
        Some(files) if files.is_empty() => Check::ok(NAME, format!("{} is private", dir.display())),
        Some(files) => Check::bad(
            NAME,
            Status::Warning,
            format!("other users can read {}", files.join(", ")),
            "keystores are encrypted, but take the permission away: chmod 600 FILE",
        ),
    }
}

/// Names of files in a directory that other users can read; `None` when there is no directory.
fn readable_by_others(dir: &std::path::Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(dir).ok()?;
    let open = entries.flatten().filter(|entry| entry.metadata().is_ok_and(|meta| is_open(&meta)));
    Some(open.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

#[cfg(unix)]
fn is_open(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.is_file() && meta.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open(_: &fs::Metadata) -> bool {
    false
}

fn check_loopback() -> Check {
    const NAME: &str = "loopback network";
    match TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => Check::ok(NAME, "a local port can be opened"),
        Err(error) => Check::bad(
            NAME,
            Status::Failed,
            error.to_string(),
            "`dn devnet` talks to itself over 127.0.0.1; allow local sockets for this program",
        ),
    }
}

fn check_clock() -> Check {
    const NAME: &str = "clock";
    /// 2025-01-01: no correct clock is before it.
    const EARLIEST: u64 = 1_735_689_600;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    if now >= EARLIEST {
        Check::ok(NAME, format!("Unix time {now} s"))
    } else {
        let advice = "signed requests expire by the clock; set it, or start a time service";
        Check::bad(NAME, Status::Warning, format!("Unix time {now} s is long past"), advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_form() {
        let memory = Memory::parse("MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   1000 kB\n");
        assert_eq!((memory.total, memory.available), (Some(24_576_000_000), Some(1_024_000)));
        assert_eq!(check_memory(&memory).status, Status::Warning);
        assert_eq!(Memory::parse("MemTotal: many kB").total, None);
    }
}
