//! `dn sim sweep`: a scenario with some of its values changed, one study for each point of the grid.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dn_core::{Hash32, keccak256};
use dn_sim::attack::Kind;
use dn_sim::outcome::Cell;
use dn_sim::report::{self, Provenance};
use dn_sim::scenario::Scenario;
use dn_sim::study::{Study, gates};

use super::run::{self, Options};
use crate::error::CliError;
use crate::out;

/// Most points of a grid.
const MAX_POINTS: usize = 1_000;

/// A path and the values to try for it.
struct Axis {
    path: String,
    /// The path as reports show it.
    label: String,
    values: Vec<toml::Value>,
}

fn axis(text: &str) -> Result<Axis, CliError> {
    let wrong = |what: &str| CliError::argument("--set", format!("`{text}`: {what}"));
    let (path, values) = text.split_once('=').ok_or_else(|| wrong("expected PATH=V,V,…"))?;
    let value = |v: &str| {
        // A bare word is a string, anything else what TOML makes of it.
        let parsed = format!("v = {v}").parse::<toml::Table>().ok();
        let parsed = parsed.and_then(|mut table| table.remove("v"));
        parsed.unwrap_or_else(|| toml::Value::String(v.to_owned()))
    };
    let values: Vec<_> = values.split(',').map(str::trim).filter(|v| !v.is_empty()).map(value).collect();
    if values.is_empty() {
        return Err(wrong("it gives no value"));
    }
    if let Some(twice) = (1..values.len()).find(|at| values[..*at].contains(&values[*at])) {
        return Err(wrong(&format!("the value {} is there twice", values[twice])));
    }
    let path = path.trim().to_owned();
    Ok(Axis { label: path.clone(), path, values })
}

/// Shows of each path only its last part, where that tells the axes apart, and from an attack's parameters.
fn shorten(axes: &mut [Axis]) {
    let of_an_attack =
        |name: &str| Kind::ALL.iter().flat_map(|kind| kind.parameters()).any(|p| p.name == name);
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let short: Vec<_> = axes.iter().map(|axis| last(&axis.path)).collect();
    for (i, axis) in axes.iter_mut().enumerate() {
        if short.iter().filter(|other| **other == short[i]).count() == 1 && !of_an_attack(&short[i]) {
            axis.label = short[i].clone();
        }
    }
}

pub(super) fn run(scenario: &Path, sets: &[String], options: &Options) -> Result<ExitCode, CliError> {
    let (text, folder) = run::read(scenario)?;
    let base = run::parse(&text, options)?;
    let mut axes = sets.iter().map(|set| axis(set)).collect::<Result<Vec<_>, _>>()?;
    if let Some(twice) = (1..axes.len()).find(|at| axes[..*at].iter().any(|axis| axis.path == axes[*at].path))
    {
        return Err(CliError::argument("--set", format!("`{}` is there twice", axes[twice].path)));
    }
    shorten(&mut axes);
    let points: usize = axes.iter().map(|axis| axis.values.len()).product();
    if points > MAX_POINTS {
        return Err(CliError::argument(
            "--set",
            format!("the grid has {points} points; at most {MAX_POINTS}"),
        ));
    }
    let beside = folder.as_deref().unwrap_or(Path::new("."));
    // Every point is checked before the first is run, with its files and its population.
    let mut grid = vec![(String::new(), text.clone())];
    for axis in &axes {
        let mut next = Vec::new();
        for (label, text) in &grid {
            for value in &axis.values {
                let label = format!("{label} {}={value}", axis.label);
                next.push((label.trim_start().to_owned(), Scenario::with_value(text, &axis.path, value)?));
            }
        }
        grid = next;
    }
    for (label, text) in &grid {
        Study::beside(run::parse(text, options)?, beside)
            .map_err(|error| CliError::Other(format!("{label}: scenario: {error}")))?;
    }
    let root = options.out.clone().unwrap_or_else(|| folder_of(&base.name, &axes));
    let sets: Vec<_> = sets.iter().map(|set| format!(" --set {}", quoted(set))).collect();
    let command = format!("dn sim sweep {}{}", quoted(&scenario.display().to_string()), sets.concat());
    let whole = run::provenance(&base, &text, &command);
    let file = SweepFile { provenance: whole, points: grid.iter().map(|(label, _)| label.clone()).collect() };
    file.goes_into(&root)?;
    std::fs::create_dir_all(&root).map_err(CliError::file("create", &root))?;
    report::replace(&root.join(FILE), &serde_json::to_vec_pretty(&file).expect("strings and numbers"))?;
    let mut all = Vec::new();
    for (n, (label, text)) in grid.iter().enumerate() {
        out::note(format_args!("{} of {points}: {label}", n + 1));
        let scenario = run::parse(text, options)?;
        let provenance = run::provenance(&scenario, text, &command);
        let study = Study::beside(scenario, beside)?;
        let provenance = provenance.with_snapshot(study.snapshot_digest());
        let cells = run::finish(&study, &point(&root, n), &provenance, options)?;
        all.extend(labelled(cells, label));
    }
    report::write_all(&root, &file.provenance, &gates(&all), &all)?;
    run::summary(&all, &root, options.json);
    Ok(ExitCode::SUCCESS)
}

/// Where a sweep's results go: what it changes, and a digest of all that it tries, so that another sweep has another folder.
fn folder_of(scenario: &str, axes: &[Axis]) -> PathBuf {
    let words = axes.iter().map(|axis| format!("-{}", axis.label)).collect::<String>();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let values = axes.iter().map(|axis| format!("{}={:?}\n", axis.path, axis.values)).collect::<String>();
    let digest = Hash32(keccak256(&[b"DeepNode sweep v1", values.as_bytes()])).to_string();
    let words: String = words.chars().map(plain).take(64).collect();
    format!("sweep-{scenario}{words}-{}", &digest[2..10]).into()
}

/// What a sweep's folder says of it.
const FILE: &str = "sweep.json";

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepFile {
    provenance: Provenance,
    /// What each point changes, in order.
    points: Vec<String>,
}

impl SweepFile {
    /// Refuses a folder with another sweep in it, whose points would pass for this one's.
    fn goes_into(&self, root: &Path) -> Result<(), CliError> {
        if !root.join(FILE).exists() {
            return Ok(());
        }
        let other: Self = run::own(&root.join(FILE))?;
        if other.points == self.points && other.provenance.scenario_hash == self.provenance.scenario_hash {
            return Ok(());
        }
        Err(CliError::Other(format!(
            "{} holds another sweep ({}); give this one a folder of its own with --out",
            root.display(),
            other.provenance.command
        )))
    }
}

fn point(root: &Path, n: usize) -> PathBuf {
    root.join(format!("point-{n}"))
}

fn labelled<'a>(cells: Vec<Cell>, label: &'a str) -> impl Iterator<Item = Cell> + 'a {
    cells.into_iter().map(move |mut cell| {
        cell.key.level = format!("{label} {}", cell.key.level).trim_end().to_owned();
        cell
    })
}

/// A sweep's finished runs; none if the folder is not a sweep's.
pub(super) fn kept(root: &Path) -> Result<Option<(Provenance, Vec<Cell>)>, CliError> {
    if !root.join(FILE).exists() {
        return Ok(None);
    }
    let SweepFile { provenance, points } = run::own(&root.join(FILE))?;
    let mut all = Vec::new();
    for (n, label) in points.iter().enumerate() {
        let point = point(root, n);
        // Points that the sweep has not come to have no folder.
        if point.join("study.json").exists() {
            all.extend(labelled(run::kept(&point)?.1, label));
        }
    }
    Ok(Some((provenance, all)))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "=.,_/+-".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
