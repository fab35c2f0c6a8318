//! Tables for programs: one row per run, per sample, and per mean.
mod csv;
mod parquet;

use std::path::{Path, PathBuf};

use super::error::ReportError;
use super::file;
use super::metric::METRICS;
use super::study::{Case, Study};
use crate::outcome::{Cell, CellKey, Sample};
use crate::stats::Interval;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// A seed: any 64 bits.
    Seed,
    Count,
    Number,
}

/// What one row holds in one column.
enum Field<'r> {
    Text(&'r str),
    Seed(u64),
    Count(i64),
    Number(f64),
    Absent,
}

/// A column of a table whose rows are `R`.
struct Column<R> {
    name: &'static str,
    kind: Kind,
    optional: bool,
    read: fn(&R) -> Field<'_>,
}

impl<R> Column<R> {
    fn new(name: &'static str, kind: Kind, read: fn(&R) -> Field<'_>) -> Self {
        Self { name, kind, optional: false, read }
    }

    fn optional(name: &'static str, kind: Kind, read: fn(&R) -> Field<'_>) -> Self {
        Self { name, kind, optional: true, read }
    }

    fn number(name: &'static str, read: fn(&R) -> Field<'_>) -> Self {
        Self::new(name, Kind::Number, read)
    }
}

/// A table with its name; rows are made while they are written.
struct Table<R, I> {
    name: &'static str,
    columns: Vec<Column<R>>,
    rows: I,
}

/// Writes the three tables, each as CSV and as Parquet.
pub(super) fn write(dir: &Path, study: &Study<'_>) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    let series = study.cells.iter().flat_map(|cell| cell.series.iter().map(move |sample| (*cell, sample)));
    write_table(
        dir,
        &Table { name: "cells", columns: cells(), rows: study.cells.iter().copied() },
        &mut written,
    )?;
    write_table(dir, &Table { name: "series", columns: self::series(), rows: series }, &mut written)?;
    write_table(dir, &Table { name: "summary", columns: summary(), rows: means(study) }, &mut written)?;
    Ok(written)
}

fn write_table<R, I: Iterator<Item = R> + Clone>(
    dir: &Path,
    table: &Table<R, I>,
    written: &mut Vec<PathBuf>,
) -> Result<(), ReportError> {
    let path = dir.join(format!("{}.csv", table.name));
    file::replace(&path, |writer| Ok(csv::write(writer, table)?))?;
    written.push(path);
    let path = dir.join(format!("{}.parquet", table.name));
    file::replace(&path, |writer| parquet::write(writer, table))?;
    written.push(path);
    Ok(())
}

fn count(value: Option<u32>) -> Field<'static> {
    value.map_or(Field::Absent, |value| Field::Count(i64::from(value)))
}

fn optional(value: Option<f64>) -> Field<'static> {
    value.map_or(Field::Absent, Field::Number)
}

fn key_columns<R>(
    policy: fn(&R) -> Field<'_>,
    attack: fn(&R) -> Field<'_>,
    level: fn(&R) -> Field<'_>,
) -> Vec<Column<R>> {
    vec![
        Column::new("policy", Kind::Text, policy),
        Column::new("attack", Kind::Text, attack),
        Column::new("level", Kind::Text, level),
    ]
}

/// One row per run.
fn cells<'a>() -> Vec<Column<&'a Cell>> {
    let mut columns: Vec<Column<&'a Cell>> = key_columns(
        |cell| Field::Text(&cell.key.policy),
        |cell| Field::Text(&cell.key.attack),
        |cell| Field::Text(&cell.key.level),
    );
    columns.extend([
        Column::new("seed", Kind::Seed, |cell: &&Cell| Field::Seed(cell.key.seed)),
        Column::optional("gain", Kind::Number, |cell| optional(cell.metrics.gain)),
        Column::optional("worker_gain", Kind::Number, |cell| optional(cell.metrics.worker_gain)),
        Column::optional("validator_gain", Kind::Number, |cell| optional(cell.metrics.validator_gain)),
        Column::optional("net_gain", Kind::Number, |cell| optional(cell.metrics.net_gain)),
        Column::number("attacker_share", |cell| Field::Number(cell.metrics.attacker_share)),
        Column::number("twin_share", |cell| Field::Number(cell.metrics.twin_share)),
        Column::optional("honest_loss", Kind::Number, |cell| optional(cell.metrics.honest_loss)),
        Column::number("twin_net", |cell| Field::Number(cell.metrics.twin_net)),
        Column::optional("detection_epochs", Kind::Count, |cell| count(cell.metrics.detection_epochs)),
        Column::number("gini", |cell| Field::Number(cell.metrics.gini)),
        Column::number("attacker_trust", |cell| Field::Number(cell.metrics.attacker_trust)),
        Column::number("honest_trust", |cell| Field::Number(cell.metrics.honest_trust)),
        Column::number("user_quality", |cell| Field::Number(cell.metrics.user_quality)),
        Column::number("attacker_stake", |cell| Field::Number(cell.metrics.attacker_stake)),
    ]);
    columns
}

type SampleRow<'a> = (&'a Cell, &'a Sample);

/// One row per run and sample.
fn series<'a>() -> Vec<Column<SampleRow<'a>>> {
    fn key<'r>(row: &'r SampleRow<'_>) -> &'r CellKey {
        &row.0.key
    }
    let mut columns: Vec<Column<SampleRow<'a>>> = key_columns(
        |row| Field::Text(&key(row).policy),
        |row| Field::Text(&key(row).attack),
        |row| Field::Text(&key(row).level),
    );
    columns.extend([
        Column::new("seed", Kind::Seed, |row: &SampleRow<'a>| Field::Seed(key(row).seed)),
        Column::new("epoch", Kind::Count, |row: &SampleRow<'a>| Field::Count(i64::from(row.1.epoch))),
        Column::number("attacker_share", |row| Field::Number(row.1.attacker_share)),
        Column::number("twin_share", |row| Field::Number(row.1.twin_share)),
        Column::number("attacker_trust", |row| Field::Number(row.1.attacker_trust)),
        Column::number("honest_trust", |row| Field::Number(row.1.honest_trust)),
        Column::number("attacker_stake", |row| Field::Number(row.1.attacker_stake)),
        Column::number("gini", |row| Field::Number(row.1.gini)),
    ]);
    columns
}

/// A metric of one policy and case over the seeds.
struct MeanRow<'a> {
    policy: &'a str,
    case: Case<'a>,
    metric: &'static str,
    interval: Option<Interval>,
}

fn means<'s>(study: &'s Study<'_>) -> impl Iterator<Item = MeanRow<'s>> + Clone {
    study.policies.iter().enumerate().flat_map(move |(i, policy)| {
        study.cases.iter().enumerate().filter(move |(j, _)| !study.runs(i, *j).is_empty()).flat_map(
            move |(j, case)| {
                METRICS.iter().map(move |metric| MeanRow {
                    policy,
                    case: *case,
                    metric: metric.name,
                    interval: study.interval(i, j, metric),
                })
            },
        )
    })
}

/// One row per policy, attack, level and metric; a mean of no finite value is absent, as is the interval of one.
fn summary<'a>() -> Vec<Column<MeanRow<'a>>> {
    let mut columns: Vec<Column<MeanRow<'a>>> = key_columns(
        |row| Field::Text(row.policy),
        |row| Field::Text(row.case.attack),
        |row| Field::Text(row.case.level),
    );
    columns.extend([
        Column::new("metric", Kind::Text, |row: &MeanRow<'a>| Field::Text(row.metric)),
        Column::optional("mean", Kind::Number, |row| optional(row.interval.map(|found| found.mean))),
        Column::optional("low", Kind::Number, |row| optional(row.interval.and_then(|found| found.low()))),
        Column::optional("high", Kind::Number, |row| optional(row.interval.and_then(|found| found.high()))),
        Column::new("n", Kind::Count, |row| {
            Field::Count(row.interval.map_or(0, |found| i64::try_from(found.count).unwrap_or(i64::MAX)))
        }),
    ]);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_a_column() {
        let columns: Vec<_> = cells().iter().skip(4).map(|column| column.name).collect();
        let metrics: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(columns, metrics);
    }
}
