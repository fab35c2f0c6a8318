//! The design's gates for PoWR, and for policies of one's own, judged on a study's cells.

use crate::outcome::{Cell, Metrics};
use crate::policy;
use crate::report::Gate;
use crate::stats::Interval;

/// The policy that the gates were made for.
const POWR: &str = "powr";

/// Value of a parameter in a level such as `stake=0.45 workers=0.2`.
fn value(level: &str, name: &str) -> Option<f64> {
    level.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// A gate: which cells it judges, which figure, and the most that it may be.
struct Rule {
    name: String,
    bound: f64,
    figure: fn(&Metrics) -> Option<f64>,
    note: &'static str,
    unit: &'static str,
}

/// The rules that a cell falls under.
fn rules(cell: &Cell) -> Vec<Rule> {
    let (attack, level) = (cell.key.attack.as_str(), cell.key.level.as_str());
    let title = if level.is_empty() { attack.to_owned() } else { format!("{attack} {level}") };
    let gain = |name: String, bound| Rule { name, bound, figure: |m| m.gain, unit: "gain", note: "" };
    let mut rules = Vec::new();
    match attack {
        // Its validators judge others' work rightly and are paid for that; the junk is the workers'.
        "junk" if value(level, "stake").unwrap_or(0.0) <= 0.45 => {
            let figure = |m: &Metrics| m.worker_gain;
            let note = "without the dividends of its validators, who judge all others rightly; the matrix has the group's gain";
            rules.push(Rule { name: title.clone(), bound: 0.05, figure, unit: "workers' gain", note });
        }
        "cabal" if value(level, "stake").unwrap_or(0.0) <= 0.45 => rules.push(gain(title.clone(), 0.05)),
        "cheaper-model" => {
            // Who cheats in almost everything delivers junk.
            let rate = value(level, "rate").unwrap_or(1.0);
            rules.push(gain(title.clone(), (1.0 - 2.0 * rate).max(0.05)));
        }
        "wash-work" => {
            let figure = |m: &Metrics| m.net_gain;
            rules.push(Rule { name: title.clone(), bound: 1.0, figure, unit: "net gain", note: "" });
        }
        "milk-whitewash" => rules.push(gain(title.clone(), 0.25)),
        "sybil" => rules.push(gain(title.clone(), 1.001)),
        _ => {}
    }
    let minority = value(level, "stake").is_none_or(|stake| stake < 0.5);
    if minority && attack != "newcomer" {
        let name = format!("honest, under {title}");
        rules.push(Rule { name, bound: 0.02, figure: |m| m.honest_loss, unit: "loss", note: "" });
    }
    rules
}

/// Judges the cells of PoWR and of policies that are not built in, whose names stand before their gates: a gate is met when the mean over the seeds
/// is at most the bound. The built-in others are there to be compared with; a policy that took the name of one is judged as that one.
///
/// A gate for whose attack there is no cell is not listed.
pub fn gates(cells: &[Cell]) -> Vec<Gate> {
    let mut judged: Vec<(Rule, Vec<f64>)> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.key.policy == POWR || !policy::is_known(&cell.key.policy)) {
        for mut rule in rules(cell) {
            let Some(figure) = (rule.figure)(&cell.metrics) else { continue };
            if cell.key.policy != POWR {
                rule.name = format!("{}: {}", cell.key.policy, rule.name);
            }
            match judged.iter_mut().find(|(known, _)| known.name == rule.name) {
                Some((_, figures)) => figures.push(figure),
                None => judged.push((rule, vec![figure])),
            }
        }
    }
    judged
        .into_iter()
        .map(|(rule, figures)| {
            let measured = Interval::of(figures);
            Gate {
                requirement: format!("{} at most {}", rule.unit, rule.bound),
                met: measured.as_ref().map(|m| m.mean <= rule.bound),
                measured,
                note: match measured.and_then(|m| m.high()) {
                    Some(high) if high > rule.bound && rule.note.is_empty() => {
                        "the interval ends over the bound".into()
                    }
                    _ => rule.note.into(),
                },
                name: rule.name,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::CellKey;
    use crate::world::Trajectory;

    /// A policy of one's own is judged like PoWR, under its name; what it is compared with is not.
    #[test]
    fn whose_gates_are_judged() {
        let cells: Vec<_> = ["powr", "mine", "yuma1", "yuma3", "stake"]
            .into_iter()
            .map(|policy| {
                let key = CellKey {
                    policy: policy.into(),
                    attack: "sybil".into(),
                    level: "identities=2".into(),
                    seed: 1,
                };
                let nothing = Trajectory::default();
                let mut cell = Cell::of(key, 0, &nothing, &nothing);
                cell.metrics.gain = Some(if policy == "mine" { 2.0 } else { 1.0 });
                cell
            })
            .collect();
        let judged: Vec<_> = gates(&cells).into_iter().map(|gate| (gate.name, gate.met)).collect();
        let expected = [("sybil identities=2", true), ("mine: sybil identities=2", false)];
        assert_eq!(judged, expected.map(|(name, met)| (name.to_owned(), Some(met))));
    }
}
