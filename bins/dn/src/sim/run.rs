//! `dn sim run`, `suite`, `report`: a study from the command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dn_sim::outcome::{Cell, Metrics};
use dn_sim::report::{self, Gate, Provenance};
use dn_sim::scenario::{BUILTIN, MAX_BYTES, Scenario};
use dn_sim::stats::Interval;
use dn_sim::study::{Found, Progress, Store, Study, StudyError, gates};

use super::sweep;
use crate::error::CliError;
use crate::out;

/// How a study is run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where results go; runs that are there already are not run again. Default: `sim-NAME`, for a sweep `sweep-NAME-PATHS-DIGEST`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Seeds, in place of the scenario's number.
    #[arg(long, value_name = "N")]
    pub(crate) seeds: Option<u32>,
    /// The first seed, in place of the scenario's.
    #[arg(long, value_name = "N")]
    pub(crate) first_seed: Option<u64>,
    /// Threads; the results are the same for any number. Default: all cores.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs a scenario from a file, or a built-in one by name.
pub(super) fn scenario(path: &Path, options: &Options) -> Result<ExitCode, CliError> {
    let command = format!("dn sim run {}", path.display());
    let (content, folder) = read(path)?;
    text(&content, folder.as_deref(), &command, options)
}

/// The text of a scenario and the folder of its file.
pub(super) fn read(path: &Path) -> Result<(String, Option<PathBuf>), CliError> {
    if !path.exists()
        && let Some((_, text)) = BUILTIN.iter().find(|(name, _)| Path::new(name) == path)
    {
        return Ok(((*text).to_owned(), None));
    }
    let file = CliError::file("read", path);
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let known = BUILTIN.map(|(name, _)| name).join(", ");
            let reason =
                format!("there is no file {}, and no such built-in scenario ({known})", path.display());
            return Err(CliError::argument("SCENARIO", reason));
        }
        Err(error) => return Err(file(error)),
    };
    if !meta.is_file() || meta.len() > MAX_BYTES as u64 {
        let reason = format!("{} must be a file of at most {MAX_BYTES} bytes", path.display());
        return Err(CliError::argument("SCENARIO", reason));
    }
    let text = fs::read_to_string(path).map_err(file)?;
    Ok((text, path.parent().map(Path::to_owned)))
}

/// A checked scenario with the options' seeds.
pub(super) fn parse(text: &str, options: &Options) -> Result<Scenario, CliError> {
    let mut scenario = Scenario::from_toml(text)?;
    scenario.seeds.count = options.seeds.unwrap_or(scenario.seeds.count);
    scenario.seeds.first = options.first_seed.unwrap_or(scenario.seeds.first);
    scenario.check()?;
    Ok(scenario)
}

/// Runs a scenario's text.
pub(super) fn text(
    text: &str,
    folder: Option<&Path>,
    command: &str,
    options: &Options,
) -> Result<ExitCode, CliError> {
    let scenario = parse(text, options)?;
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from(format!("sim-{}", scenario.name)));
    let provenance = provenance(&scenario, text, command);
    let study = Study::beside(scenario, folder.unwrap_or(Path::new(".")))?;
    let provenance = provenance.with_snapshot(study.snapshot_digest());
    let cells = finish(&study, &out, &provenance, options)?;
    summary(&cells, &out, options.json);
    Ok(ExitCode::SUCCESS)
}

/// Where results come from.
pub(super) fn provenance(scenario: &Scenario, text: &str, command: &str) -> Provenance {
    let seeds = format!("--first-seed {} --seeds {}", scenario.seeds.first, scenario.seeds.count);
    Provenance::of(scenario, text, &format!("{command} {seeds}"))
}

/// Runs a study to its end, keeps its runs in the folder and writes its files.
pub(super) fn finish(
    study: &Study,
    out: &Path,
    provenance: &Provenance,
    options: &Options,
) -> Result<Vec<Cell>, CliError> {
    let mut store = Store::open(out, &provenance.study(), &provenance.formulas)?;
    let document = serde_json::to_vec_pretty(provenance).expect("strings and numbers");
    let path = out.join("study.json");
    report::replace(&path, &document)?;
    let cells = run(study, &mut store, options);
    // Also when it was stopped: who goes on would not search again for what is finished.
    let found = study.found();
    if !found.is_empty() {
        let line = |f: &Found| format!("{} against {}: the search chose {}\n", f.attack, f.policy, f.script);
        let found: String = found.iter().map(line).collect();
        out::note(found.trim_end());
        report::replace(&out.join("adaptive.txt"), found.as_bytes())?;
    }
    let cells = cells?;
    report::write_all(out, provenance, &gates(&cells), &cells)?;
    Ok(cells)
}

/// Runs what is missing, with a bar, until it is done or the user interrupts.
fn run(study: &Study, store: &mut Store, options: &Options) -> Result<Vec<Cell>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime = crate::runtime()?;
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            out::note("stopping; once more to end at once");
            flag.store(true, Ordering::Relaxed);
        }
        // Once more, and it ends at once: finished runs are kept anyway.
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    let shown: Mutex<Option<out::Runs>> = Mutex::default();
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let result = study.run_until(&stop, threads, Some(store), &|progress: Progress| {
        let mut shown = shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shown
            .get_or_insert_with(|| out::Runs::new(progress.total, progress.resumed))
            .show(progress.done - progress.resumed, progress.total - progress.resumed);
        true
    });
    drop(shown);
    match result {
        Err(StudyError::Stopped { done, total }) => Err(CliError::Other(format!(
            "stopped; {done} of {total} runs are finished: the same command goes on from there, `dn sim report` shows them"
        ))),
        result => Ok(result?),
    }
}

pub(super) fn summary(cells: &[Cell], out: &Path, json: bool) {
    let gates = gates(cells);
    if json {
        out::json(&Summary::of(cells, &gates));
    } else {
        out::text(report::text_summary(cells, &gates));
    }
    out::note(format_args!("\n{}: report.html, tables (csv, parquet), plots/*.svg", out.display()));
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Summary<'a> {
    gates: Vec<GateLine<'a>>,
    cells: Vec<CellLine<'a>>,
}

/// A gate; interval ends are absent with a single seed.
#[derive(serde::Serialize)]
struct GateLine<'a> {
    name: &'a str,
    requirement: &'a str,
    measured: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    met: Option<bool>,
}

/// A policy under an attack, over all seeds.
#[derive(serde::Serialize)]
struct CellLine<'a> {
    policy: &'a str,
    attack: &'a str,
    level: &'a str,
    seeds: usize,
    gain: f64,
    gain_low: Option<f64>,
    gain_high: Option<f64>,
    net_gain: Option<f64>,
    honest_loss: Option<f64>,
}

impl<'a> Summary<'a> {
    fn of(cells: &'a [Cell], gates: &'a [Gate]) -> Self {
        let mut groups: BTreeMap<_, Vec<&Cell>> = BTreeMap::new();
        for cell in cells {
            let key = (&*cell.key.attack, &*cell.key.level, &*cell.key.policy);
            groups.entry(key).or_default().push(cell);
        }
        let lines = groups.into_iter().filter_map(|((attack, level, policy), cells)| {
            let over = |figure: fn(&Metrics) -> Option<f64>| {
                Interval::of(cells.iter().filter_map(|c| figure(&c.metrics)))
            };
            let gain = over(|m| m.gain)?;
            Some(CellLine {
                policy,
                attack,
                level,
                seeds: cells.len(),
                gain: gain.mean,
                gain_low: gain.low(),
                gain_high: gain.high(),
                net_gain: over(|m| m.net_gain).map(|i| i.mean),
                honest_loss: over(|m| m.honest_loss).map(|i| i.mean),
            })
        });
        let gate = |gate: &'a Gate| GateLine {
            name: &gate.name,
            requirement: &gate.requirement,
            measured: gate.measured.map(|m| m.mean),
            low: gate.measured.and_then(|m| m.low()),
            high: gate.measured.and_then(|m| m.high()),
            met: gate.met,
        };
        Self { gates: gates.iter().map(gate).collect(), cells: lines.collect() }
    }
}

/// Writes the files of a study's or a sweep's folder again, of its finished runs.
pub(super) fn report(folder: &Path) -> Result<ExitCode, CliError> {
    let (provenance, cells) = match sweep::kept(folder)? {
        Some(sweep) => sweep,
        None => kept(folder)?,
    };
    if cells.is_empty() {
        return Err(CliError::Other(format!("{} has no finished run yet", folder.display())));
    }
    report::write_all(folder, &provenance, &gates(&cells), &cells)?;
    summary(&cells, folder, false);
    Ok(ExitCode::SUCCESS)
}

/// A study's finished runs, sorted.
pub(super) fn kept(folder: &Path) -> Result<(Provenance, Vec<Cell>), CliError> {
    let provenance: Provenance = own(&folder.join("study.json"))?;
    let store = Store::open(folder, &provenance.study(), &provenance.formulas)?;
    let mut cells: Vec<_> = store.cells().to_vec();
    cells.sort_by(|a, b| a.key.cmp(&b.key));
    cells.dedup_by(|a, b| a.key == b.key);
    Ok((provenance, cells))
}

/// Reads a file that this program wrote.
pub(super) fn own<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    let meta = fs::metadata(path).map_err(CliError::file("read", path))?;
    if !meta.is_file() || meta.len() > 2 * MAX_BYTES as u64 {
        return Err(CliError::Other(format!("{} is not what `dn sim run` wrote", path.display())));
    }
    let text = fs::read(path).map_err(CliError::file("read", path))?;
    serde_json::from_slice(&text).map_err(|error| CliError::Other(format!("{}: {error}", path.display())))
}
