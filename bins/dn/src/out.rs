//! Everything that is printed. Results go to standard output, words about them to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Exit code of a program whose reader went away: 128 and the number of SIGPIPE, as a shell reports it.
const READER_GONE: i32 = 141;

/// Writes to standard output. A reader that went away (`dn … | head`) ends the program quietly; any other failure, such
/// as a full disk, with a message. Never with success: what was to be said did not arrive.
pub(crate) fn text(text: impl Display) {
    let mut out = io::stdout().lock();
    if let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            process::exit(READER_GONE);
        }
        note(format_args!("error: cannot write standard output: {error}"));
        process::exit(1);
    }
}

/// Writes one line to standard output.
pub(crate) fn line(line: impl Display) {
    text(format_args!("{line}\n"));
}

/// Writes a value as indented JSON to standard output.
pub(crate) fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(json) => line(json),
        Err(error) => note(format_args!("this result has no JSON form: {error}")),
    }
}

/// Writes a value as JSON in one line to standard output.
pub(crate) fn json_line(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(json) => line(json),
        Err(error) => note(format_args!("this result has no JSON form: {error}")),
    }
}

/// Writes one line to standard error.
pub(crate) fn note(line: impl Display) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes an error and what caused it, as far as the message does not already say so.
pub(crate) fn error(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(&format!(": {inner_text}"));
        }
        cause = inner.source();
    }
    note(format_args!("error: {text}"));
}

/// Sends log lines to standard error, filtered.
pub(crate) fn start_logging(filter: &str) {
    let with = |own: &str| format!("{},{own}", dn_ledger::node::LOG_FILTERS);
    let filter = tracing_subscriber::EnvFilter::try_new(with(filter)).unwrap_or_else(|error| {
        note(format_args!("--log: {error}; logging warnings only"));
        tracing_subscriber::EnvFilter::new(with("warn"))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// A spinner with a message on standard error; nothing where that is not a terminal.
pub(crate) fn spinner(message: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A bar for a download on standard error; nothing where that is not a terminal.
pub(crate) fn download() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let form = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar
}

/// How far the runs of a study are, with rate and time left, on standard error: a bar on a terminal, elsewhere a line now and then.
pub(crate) struct Runs {
    bar: Option<ProgressBar>,
    started: Instant,
    said: Instant,
}

impl Runs {
    /// Between lines.
    const PAUSE: Duration = Duration::from_secs(30);

    /// Before the first run; some of `total` may have been finished before.
    pub(crate) fn new(total: usize, finished: usize) -> Self {
        let missing = total.saturating_sub(finished);
        let now = Instant::now();
        if !io::stderr().is_terminal() {
            let before = if finished > 0 { format!(", {finished} finished before") } else { String::new() };
            let s = if total == 1 { "" } else { "s" };
            note(format_args!("{total} run{s}{before}"));
            return Self { bar: None, started: now, said: now };
        }
        let bar = ProgressBar::new(missing as u64);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} runs  {per_sec}  {eta} left")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar: Some(bar), started: now, said: now }
    }

    /// So many of the `missing` runs are done.
    pub(crate) fn show(&mut self, done: usize, missing: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        } else if self.said.elapsed() >= Self::PAUSE {
            self.said = Instant::now();
            note(rate(done, missing, self.started.elapsed()));
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line such as `120 of 8190 runs, 26.1 a second, 5 min 9 s left`.
fn rate(done: usize, missing: usize, elapsed: Duration) -> String {
    let per_second = done as f64 / elapsed.as_secs_f64().max(1e-3);
    let left = missing.saturating_sub(done) as f64 / per_second;
    let left = match left.ceil() {
        s if !s.is_finite() => "unknown time".to_owned(),
        s if s < 60.0 => format!("{s} s"),
        s if s < 3_600.0 => format!("{} min {} s", (s / 60.0).floor(), s % 60.0),
        s => {
            let minutes = (s / 60.0).ceil();
            format!("{} h {} min", (minutes / 60.0).floor(), minutes % 60.0)
        }
    };
    format!("{done} of {missing} runs, {per_second:.1} a second, {left} left")
}

/// How a column's cells line up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// At the left: words.
    Left,
    /// At the right: numbers.
    Right,
}

/// A table in plain text.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    totals: bool,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect();
        Self { columns, rows: Vec::new(), totals: false }
    }

    /// Adds a row; missing cells are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) -> &mut Self {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
        self
    }

    /// Draws a line above the last row.
    pub(crate) fn with_totals(&mut self) -> &mut Self {
        self.totals = true;
        self
    }

    /// The table's lines, indented by two spaces.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        self.format_row(&header, &widths) + &self.rule(&widths) + &self.render_body()
    }

    /// The same without the line of names.
    pub(crate) fn render_body(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for (i, row) in self.rows.iter().enumerate() {
            if self.totals && i + 1 == self.rows.len() {
                text.push_str(&self.rule(&widths));
            }
            text.push_str(&self.format_row(row, &widths));
        }
        text
    }

    fn rule(&self, widths: &[usize]) -> String {
        format!("  {}\n", widths.iter().map(|w| "─".repeat(*w)).collect::<Vec<_>>().join("  "))
    }

    fn widths(&self) -> Vec<usize> {
        (0..self.columns.len())
            .map(|i| {
                let cells = self.rows.iter().map(|row| row[i].chars().count());
                cells.chain([self.columns[i].0.chars().count()]).max().unwrap_or(0)
            })
            .collect()
    }

    fn format_row(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = match align {
                Align::Left => ("", padding.as_str()),
                Align::Right => (padding.as_str(), ""),
            };
            line.push_str("  ");
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
        }
        format!("{}\n", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_say_when_it_is_done() {
        let rate = |done, missing, s| rate(done, missing, Duration::from_secs(s));
        assert_eq!(rate(60, 120, 30), "60 of 120 runs, 2.0 a second, 30 s left");
        assert_eq!(rate(10, 1_000, 10), "10 of 1000 runs, 1.0 a second, 16 min 30 s left");
        assert_eq!(rate(10, 10_000, 10), "10 of 10000 runs, 1.0 a second, 2 h 47 min left");
        assert_eq!(rate(10, 7_200, 10), "10 of 7200 runs, 1.0 a second, 2 h 0 min left");
        assert_eq!(rate(0, 10, 30), "0 of 10 runs, 0.0 a second, unknown time left");
    }

    #[test]
    fn columns_line_up_by_characters_not_bytes() {
        let mut table = Table::new(&[("who", Align::Left), ("DN", Align::Right)]);
        table
            .row(["é".to_owned(), "1.5".to_owned()])
            .row(["total".to_owned(), "12".to_owned()])
            .with_totals();
        let rendered = table.render();
        let lines: Vec<&str> = rendered.lines().collect();
        assert_eq!(lines, ["  who     DN", "  ─────  ───", "  é      1.5", "  ─────  ───", "  total   12"]);
    }
}
