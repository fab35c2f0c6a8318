//! One page with everything on it: no script, nothing loaded from anywhere.
mod markup;
mod tables;

use std::collections::BTreeSet;

use super::metric::METRICS;
use super::plot::{Plot, Shows};
use super::study::Study;
use super::{Gate, Provenance};
use markup::escaped;

const STYLE: &str = include_str!("html/style.css");

/// The whole page.
pub(super) fn page(provenance: &Provenance, gates: &[Gate], study: &Study<'_>, plots: &[Plot]) -> String {
    let title = escaped(&format!("Simulation: {}", provenance.scenario_name));
    // The policy forbids everything but the style below, should a name ever get through as markup.
    let head = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    let body = [
        format!("<h1>{title}</h1>\n"),
        contents(study),
        what_was_run(provenance, study),
        section("gates", "Gates", &tables::gates(gates)),
        section("how", "How to read this", HOW),
        overview(plots),
        attacks(study, plots),
        section("metrics", "What is measured", &definitions()),
    ];
    let foot = "</main>\n</body>\n</html>\n";
    [head, body.concat(), foot.to_owned()].concat()
}

const HOW: &str = "<p>Every run has a <b>twin</b>: the same population with the same seed in which the attackers \
    behave. What an attack gains is what the attackers were paid, divided by what they were paid in the twin. So 1 means \
    that the attack changed nothing, 0 that it earned nothing, 2 that it doubled their income.</p>\n\
    <p>A figure such as <span class=\"number\">0.031 ± 0.004</span> is the mean over the seeds with half the width of \
    its 95 % confidence interval (Student’s t); without ± there was one run only. <span class=\"number\">–</span> \
    stands for what can’t be measured. “27 of 30” says that the mean is over 27 of 30 runs. An interval \
    speaks of chance alone, not of what the model of the world leaves out.</p>\n";

fn section(id: &str, title: &str, content: &str) -> String {
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{content}</section>\n")
}

fn contents(study: &Study<'_>) -> String {
    let attacks: String = study
        .attacks()
        .iter()
        .enumerate()
        .map(|(i, attack)| format!("<li><a href=\"#attack-{i}\">{}</a></li>", escaped(attack.name)))
        .collect();
    format!(
        "<nav>\n<ul>\n<li><a href=\"#run\">What was run</a></li>\n<li><a href=\"#gates\">Gates</a></li>\n\
         <li><a href=\"#how\">How to read this</a></li>\n<li><a href=\"#matrix\">Attack matrix</a></li>\n\
         <li><a href=\"#net\">Net gain</a></li>\n<li><a href=\"#detection\">Detection delay</a></li>\n<li><a href=\"#loss\">Honest loss</a></li>\n\
         <li><a href=\"#gini\">Gini</a></li>\n<li><a href=\"#metrics\">What is measured</a></li>\n</ul>\n\
         <ul class=\"attacks\">\n<li>Attacks:</li>\n{attacks}\n</ul>\n</nav>\n"
    )
}

fn what_was_run(provenance: &Provenance, study: &Study<'_>) -> String {
    let names: Vec<String> = study.policies.iter().map(|policy| escaped(policy)).collect();
    let rows = [
        ("Scenario", escaped(&provenance.scenario_name)),
        ("Digest", format!("<code>{}</code>", escaped(&provenance.scenario_hash))),
        ("Version", escaped(&provenance.version)),
        ("Formulas", escaped(&provenance.formulas)),
        ("Seeds", seeds(&provenance.seeds)),
        ("Runs", study.cells.len().to_string()),
        ("Policies", names.join(", ")),
        ("Attacks", format!("{}, in {} levels", study.attacks().len(), study.cases.len())),
    ];
    let list: String = rows.iter().map(|(term, text)| format!("<dt>{term}</dt><dd>{text}</dd>\n")).collect();
    let content = format!(
        "<dl class=\"facts\">\n{list}</dl>\n<p>To make this report again:</p>\n<pre><code>{}</code></pre>\n\
         <details>\n<summary>The scenario</summary>\n<pre><code>{}</code></pre>\n</details>\n\
         <p class=\"note\">The figures are also in <code>cells</code> (a row per run), <code>series</code> (a row per \
         run and moment) and <code>summary</code> (means with intervals), each as <code>.csv</code> and \
         <code>.parquet</code> beside this page; the pictures are in <code>plots</code>.</p>\n",
        markup::escaped_lines(&provenance.command),
        markup::escaped_lines(&provenance.scenario_text),
    );
    section("run", "What was run", &content)
}

/// Runs of consecutive seeds as `1–30`.
fn seeds(seeds: &[u64]) -> String {
    let sorted: BTreeSet<u64> = seeds.iter().copied().collect();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seed in &sorted {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*seed) => *last = *seed,
            _ => ranges.push((*seed, *seed)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    });
    let count = if sorted.len() == 1 { "one seed".to_owned() } else { format!("{} seeds", sorted.len()) };
    format!("{} ({count})", shown.collect::<Vec<_>>().join(", "))
}

fn figure(plots: &[Plot], shows: Shows, caption: &str) -> String {
    plots.iter().filter(|plot| plot.shows == shows).map(|plot| markup::figure(&plot.svg, caption)).collect()
}

fn overview(plots: &[Plot]) -> String {
    let sections = [
        (
            "matrix",
            "Attack matrix",
            Shows::Gain,
            "Blue: the policy punishes the attack. White: it makes no difference. Orange: it pays.",
        ),
        (
            "net",
            "Net gain",
            Shows::NetGain,
            "The same with fees, slashes, bonds and what computing costs: whether the attack is worth its while.",
        ),
        (
            "detection",
            "Detection delay",
            Shows::Detection,
            "A policy that never makes the attackers earn less than half shows “never”, also when the attack \
             gains them nothing more than behaving would.",
        ),
        (
            "loss",
            "Honest loss",
            Shows::HonestLoss,
            "Orange intervals lie wholly above zero: there the honest lose. Lines that reach the edge of their panel \
             go on beyond it.",
        ),
        (
            "gini",
            "Concentration of rewards",
            Shows::Gini,
            "Uneven pay is not unfair by itself: workers differ in what they do.",
        ),
    ];
    let drawn =
        sections.map(|(id, title, shows, caption)| section(id, title, &figure(plots, shows, caption)));
    drawn.concat()
}

fn attacks(study: &Study<'_>, plots: &[Plot]) -> String {
    let sections = study.attacks().into_iter().enumerate().map(|(i, attack)| {
        let trust = figure(plots, Shows::Trust(i), "Trust weights as each policy sees them.");
        let share = figure(plots, Shows::Share(i), "Rewards of each stretch of time, not summed up.");
        format!(
            "<section id=\"attack-{i}\" class=\"attack\">\n<h2>Attack: {}</h2>\n{}{share}{trust}</section>\n",
            escaped(attack.name),
            tables::attack(study, &attack),
        )
    });
    sections.collect()
}

fn definitions() -> String {
    let rows = METRICS.iter().map(|metric| {
        format!(
            "<dt>{} <code>{}</code></dt><dd>{}</dd>\n",
            escaped(metric.label),
            metric.name,
            escaped(metric.meaning)
        )
    });
    format!("<dl class=\"definitions\">\n{}</dl>\n", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_in_a_row_are_one_range() {
        assert_eq!(seeds(&[3, 1, 2, 9, 2]), "1–3, 9 (4 seeds)");
        assert_eq!(seeds(&[u64::MAX]), "18446744073709551615 (one seed)");
        assert_eq!(seeds(&[]), " (0 seeds)");
    }
}
