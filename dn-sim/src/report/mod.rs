//! Files for people and programs: CSV, Parquet, SVG, one HTML page.
//!
//! The same runs give the same bytes, whatever the order in which they finished: nothing here reads a clock, and
//! everything is sorted first. Each file is replaced whole, or not at all.
mod error;
mod file;
mod html;
mod metric;
mod number;
mod plot;
mod study;
mod text;
mod tidy;

use std::path::{Path, PathBuf};

pub use error::ReportError;
pub use text::text_summary;

use dn_core::{Hash32, keccak256};

use crate::outcome::Cell;
use crate::scenario::Scenario;
use crate::stats::Interval;
use study::Study;

/// What was run, for the reader who wants to run it again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The scenario's name.
    pub scenario_name: String,
    /// The scenario as it was read.
    pub scenario_text: String,
    /// Its digest.
    pub scenario_hash: String,
    /// The version of the program.
    pub version: String,
    /// The digest of its formulas, [`FORMULAS`](crate::study::FORMULAS); empty in reports from before there was one.
    #[serde(default)]
    pub formulas: String,
    /// The seeds, in any order.
    pub seeds: Vec<u64>,
    /// The command that makes this report again.
    pub command: String,
}

impl Provenance {
    /// A scenario that was read from this text, run with this command. The seeds do not enter the digest: a study with more seeds goes
    /// on where one with fewer ended.
    pub fn of(scenario: &Scenario, text: &str, command: &str) -> Self {
        let hash = Hash32(keccak256(&[b"DeepNode scenario v1", text.as_bytes()]));
        Self {
            scenario_name: scenario.name.clone(),
            scenario_text: text.to_owned(),
            scenario_hash: hash.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            formulas: crate::study::FORMULAS.to_owned(),
            seeds: scenario.seeds.all().collect(),
            command: command.to_owned(),
        }
    }

    /// What the store of its runs is of.
    pub fn study(&self) -> String {
        format!("{} {}", self.scenario_hash, self.version)
    }

    /// The same with a snapshot in the digest.
    #[must_use]
    pub fn with_snapshot(mut self, snapshot: Option<Hash32>) -> Self {
        if let Some(snapshot) = snapshot {
            let both =
                [b"DeepNode scenario and snapshot v1", self.scenario_hash.as_bytes(), snapshot.as_bytes()];
            self.scenario_hash = Hash32(keccak256(&both)).to_string();
        }
        self
    }
}

/// A requirement that the policy must meet, and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// What it is about, such as `junk work`.
    pub name: String,
    /// What is required, such as `gain ≤ 0.05`.
    pub requirement: String,
    /// What was measured, in the unit of the requirement and shown as a bare number; absent when nothing was.
    pub measured: Option<Interval>,
    /// Whether the requirement is met; absent when it can't be told.
    pub met: Option<bool>,
    /// Anything else to know, such as the runs it was taken from.
    pub note: String,
}

/// Writes a file as the report's files are written: whole or not at all, and in place of a link rather than through it.
///
/// # Errors
/// [`ReportError::File`]; the file is then as it was before.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    file::replace_with(path, content)
}

/// Writes the whole report into `dir`, which is made if it is absent: `cells`, `series` and `summary` as `.csv` and
/// `.parquet`, the pictures in `plots/`, and `report.html`, which needs none of the others. Files of an earlier report
/// are replaced one by one; pictures of attacks that are no longer there stay. Returns the paths in the order written.
///
/// # Errors
/// [`ReportError::NoRuns`] and [`ReportError::Repeated`] before anything is written; otherwise what went wrong with
/// which file. The file named is as it was before.
pub fn write_all(
    dir: &Path,
    provenance: &Provenance,
    gates: &[Gate],
    cells: &[Cell],
) -> Result<Vec<PathBuf>, ReportError> {
    if cells.is_empty() {
        return Err(ReportError::NoRuns);
    }
    let study = Study::of(cells);
    if let Some(key) = study.repeated() {
        return Err(ReportError::Repeated { key: key.clone() });
    }
    let plots = plot::all(&study)?;
    let page = html::page(provenance, gates, &study, &plots);

    let mut written = tidy::write(dir, &study)?;
    for plot in &plots {
        let path = dir.join("plots").join(&plot.file_name);
        file::replace_with(&path, plot.svg.as_bytes())?;
        written.push(path);
    }
    let path = dir.join("report.html");
    file::replace_with(&path, page.as_bytes())?;
    written.push(path);
    Ok(written)
}
