//! The tables of the page.
use super::super::Gate;
use super::super::metric::{METRICS, Metric, Unit};
use super::super::number;
use super::super::study::{Attack, Study};
use super::super::text::verdict;
use super::markup::{escaped, head, table};

/// The gates, with how many are met.
pub(super) fn gates(gates: &[Gate]) -> String {
    if gates.is_empty() {
        return "<p>No gates were set.</p>\n".to_owned();
    }
    let count = |met| gates.iter().filter(|gate| gate.met == met).count();
    let mut totals = format!("{} of {} met", count(Some(true)), gates.len());
    for (met, name) in [(Some(false), "missed"), (None, "not measured")] {
        if count(met) > 0 {
            totals += &format!(", {} {name}", count(met));
        }
    }
    let heads = ["gate", "required", "measured", "result", "note"].map(|name| head("name", name));
    let rows: Vec<String> = gates.iter().map(gate_row).collect();
    format!("<p class=\"totals\">{totals}</p>\n{}", table("gates", &heads, &rows))
}

fn gate_row(gate: &Gate) -> String {
    let (class, sign) = match gate.met {
        Some(true) => ("met", "✓"),
        Some(false) => ("missed", "✗"),
        None => ("unknown", "?"),
    };
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"number\">{}</td>\
         <td class=\"{class}\">{sign} {}</td><td>{}</td></tr>\n",
        escaped(&gate.name),
        escaped(&gate.requirement),
        number::interval(gate.measured, Unit::Ratio),
        verdict(gate.met),
        escaped(&gate.note),
    )
}

/// Every metric of an attack: a row per level and policy.
pub(super) fn attack(study: &Study<'_>, attack: &Attack<'_>) -> String {
    let leveled = attack.cases.clone().any(|case| !study.cases[case].level.is_empty());
    let heads: Vec<String> = leveled
        .then_some("level")
        .into_iter()
        .chain(["policy"])
        .map(|name| head("name", name))
        .chain(METRICS.iter().map(metric_head))
        .collect();
    let mut rows = Vec::new();
    for case in attack.cases.clone() {
        let policies: Vec<usize> =
            (0..study.policies.len()).filter(|policy| !study.runs(*policy, case).is_empty()).collect();
        for (i, policy) in policies.iter().enumerate() {
            let level = match (leveled, i) {
                (true, 0) => format!(
                    "<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>",
                    policies.len(),
                    escaped(study.cases[case].level)
                ),
                _ => String::new(),
            };
            let class = if i == 0 { " class=\"first\"" } else { "" };
            let fields: String = METRICS.iter().map(|metric| field(study, *policy, case, metric)).collect();
            rows.push(format!(
                "<tr{class}>{level}<th scope=\"row\">{}</th>{fields}</tr>\n",
                escaped(study.policies[*policy])
            ));
        }
    }
    table("figures", &heads, &rows)
}

fn metric_head(metric: &Metric) -> String {
    let unit = if metric.unit == Unit::Epochs { " <small>epochs</small>" } else { "" };
    head("figure", &format!("{}{unit}", escaped(metric.label)))
}

/// A mean; over how many runs is said where it is not all.
fn field(study: &Study<'_>, policy: usize, case: usize, metric: &Metric) -> String {
    let found = study.interval(policy, case, metric);
    let (used, all) = (found.map_or(0, |found| found.count), study.runs(policy, case).len());
    let part = if used < all { format!(" <small>{used} of {all}</small>") } else { String::new() };
    format!("<td class=\"number\">{}{part}</td>", number::interval(found, metric.unit))
}
