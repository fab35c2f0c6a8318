//! The short form, for a terminal.
use super::Gate;
use super::metric::{GAIN, Unit};
use super::number::{clipped, interval};
use super::study::Study;
use crate::outcome::Cell;

/// A table for the terminal: what the attackers gain under each policy, mean ± half of the 95 % interval, and the gates
/// below it. Plain text without colours, lines end in a line feed; names are made safe to show.
pub fn text_summary(cells: &[Cell], gates: &[Gate]) -> String {
    let study = Study::of(cells);
    let mut text = if cells.is_empty() { "no runs\n".to_owned() } else { aligned(&gains(&study), 2) };
    if !gates.is_empty() {
        text.push('\n');
        text.push_str(&aligned(&gate_rows(gates), usize::MAX));
    }
    text
}

fn gains(study: &Study<'_>) -> Vec<Vec<String>> {
    let heads = study.policies.iter().map(|policy| clipped(policy, 18));
    let mut rows = vec![["attack", "level"].map(str::to_owned).into_iter().chain(heads).collect::<Vec<_>>()];
    let mut last = None;
    for (i, case) in study.cases.iter().enumerate() {
        let attack = if last == Some(case.attack) { String::new() } else { clipped(case.attack, 28) };
        last = Some(case.attack);
        let mut row = vec![attack, clipped(case.level, 44)];
        row.extend((0..study.policies.len()).map(|j| interval(study.interval(j, i, &GAIN), Unit::Ratio)));
        rows.push(row);
    }
    rows
}

fn gate_rows(gates: &[Gate]) -> Vec<Vec<String>> {
    let heads = ["gate", "required", "measured", "result"].map(str::to_owned).to_vec();
    let rows = gates.iter().map(|gate| {
        vec![
            clipped(&gate.name, 60),
            clipped(&gate.requirement, 40),
            interval(gate.measured, Unit::Ratio),
            verdict(gate.met).to_owned(),
        ]
    });
    [heads].into_iter().chain(rows).collect()
}

/// How a gate went.
pub(super) fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "not measured",
    }
}

/// Rows with their columns below each other; those from `right_from` on end at the same place.
fn aligned(rows: &[Vec<String>], right_from: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|i| rows.iter().filter_map(|row| row.get(i)).map(|field| length(field)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let fields = row.iter().zip(&widths).enumerate().filter(|(_, (_, width))| **width > 0);
        let fields =
            fields.map(
                |(i, (field, width))| {
                    if i < right_from { format!("{field:<width$}") } else { format!("{field:>width$}") }
                },
            );
        text.push_str(fields.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Interval;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [vec!["attack", "powr"], vec!["a", "1.00 ± 0.10"], vec!["ëlse", "–"]];
        let rows: Vec<Vec<String>> = rows.map(|row| row.into_iter().map(str::to_owned).collect()).to_vec();
        assert_eq!(aligned(&rows, 1), "attack         powr\na       1.00 ± 0.10\nëlse              –\n");
    }

    #[test]
    fn gates_without_runs() {
        let measured = Some(Interval { mean: 0.031, half_width: Some(0.004), count: 30 });
        let gate = |measured, met| Gate {
            name: "junk\u{1b}[2J".to_owned(),
            requirement: "gain ≤ 0.05".to_owned(),
            measured,
            met,
            note: String::new(),
        };
        let text = text_summary(&[], &[gate(measured, Some(true)), gate(None, None)]);
        let lines = [
            "no runs",
            "",
            "gate      required     measured       result",
            "junk\u{fffd}[2J  gain ≤ 0.05  0.031 ± 0.004  met",
            "junk\u{fffd}[2J  gain ≤ 0.05  –              not measured",
        ];
        assert_eq!(text, lines.join("\n") + "\n");
    }
}
