//! `dn sim sweep`: a scenario with some of its values changed, one study for each point of the grid.

use std::path::Path;
use std::process::ExitCode;

use dn_sim::report;
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
    let path = path.trim().to_owned();
    Ok(Axis { label: path.clone(), path, values })
}

/// Shows of each path only its last part, where that tells the axes apart.
fn shorten(axes: &mut [Axis]) {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let short: Vec<_> = axes.iter().map(|axis| last(&axis.path)).collect();
    for (i, axis) in axes.iter_mut().enumerate() {
        if short.iter().filter(|other| **other == short[i]).count() == 1 {
            axis.label = short[i].clone();
        }
    }
}

pub(super) fn run(scenario: &Path, sets: &[String], options: &Options) -> Result<ExitCode, CliError> {
    let (text, folder) = run::read(scenario)?;
    let base = run::parse(&text, options)?;
    let mut axes = sets.iter().map(|set| axis(set)).collect::<Result<Vec<_>, _>>()?;
    shorten(&mut axes);
    let points: usize = axes.iter().map(|axis| axis.values.len()).product();
    if points > MAX_POINTS {
        return Err(CliError::argument(
            "--set",
            format!("the grid has {points} points; at most {MAX_POINTS}"),
        ));
    }
    // Every point is checked before the first is run.
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
    let root = options.out.clone().unwrap_or_else(|| format!("sweep-{}", base.name).into());
    let mut all = Vec::new();
    for (n, (label, text)) in grid.iter().enumerate() {
        out::note(format_args!("{} of {points}: {label}", n + 1));
        let scenario = run::parse(text, options)?;
        let command = format!("dn sim sweep {} --set {}", base.name, sets.join(" --set "));
        let provenance = run::provenance(&scenario, text, &command);
        let study = Study::beside(scenario, folder.as_deref().unwrap_or(Path::new(".")))?;
        let provenance = provenance.with_snapshot(study.snapshot_digest());
        let cells = run::finish(&study, &root.join(format!("point-{n}")), &provenance, options)?;
        all.extend(cells.into_iter().map(|mut cell| {
            cell.key.level = format!("{label} {}", cell.key.level).trim_end().to_owned();
            cell
        }));
    }
    let command = format!("dn sim sweep {} --set {}", scenario.display(), sets.join(" --set "));
    report::write_all(&root, &run::provenance(&base, &text, &command), &gates(&all), &all)?;
    run::summary(&all, &root, options.json);
    Ok(ExitCode::SUCCESS)
}
