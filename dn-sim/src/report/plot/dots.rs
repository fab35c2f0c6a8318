//! Figures as dots on a scale: what attacks cost the honest, and how evenly policies pay.
use super::super::metric::{GINI, HONEST_LOSS};
use super::super::number::{clipped, short};
use super::super::study::Study;
use super::canvas::{Canvas, Fault, PLAIN, QUIET, draw, width_of};
use super::colour;
use super::frame::{Frame, Span};
use crate::stats::{self, Interval};

const TOP: f64 = 100.0;
const BOTTOM: f64 = 48.0;
const ROW: f64 = 21.0;
const COLUMN_GAP: f64 = 16.0;

/// Mean honest loss with its interval: a row per case, a panel per policy.
pub(super) fn honest_loss(study: &Study<'_>) -> Result<String, Fault> {
    let names: Vec<String> =
        study.cases.iter().map(|case| clipped(&case_name(case.attack, case.level), 40)).collect();
    let left = 16.0 + names.iter().map(|name| width_of(name, 11.0)).fold(60.0, f64::max) + 12.0;
    let columns = study.policies.len();
    let losses: Vec<Vec<Option<Interval>>> = (0..columns)
        .map(|policy| (0..study.cases.len()).map(|case| study.interval(policy, case, &HONEST_LOSS)).collect())
        .collect();
    let panel_width = ((1090.0 - left) / columns as f64 - COLUMN_GAP).clamp(130.0, 520.0);
    let width = (left + (panel_width + COLUMN_GAP) * columns as f64 + 10.0).max(620.0);
    let rows_height = ROW * study.cases.len() as f64;
    let x = loss_span(&losses);
    draw((width, TOP + rows_height + BOTTOM), "Honest loss by attack and policy", |canvas| {
        let meaning = "Mean over the seeds with its 95 % interval; below 0 the honest earn more than without the attack.";
        canvas.title("Honest loss", meaning)?;
        loss_legend(canvas)?;
        stripes(canvas, study, width)?;
        for (case, name) in names.iter().enumerate() {
            canvas.text((16.0, TOP + ROW * (case as f64 + 0.5)), name, PLAIN)?;
        }
        for (policy, losses) in losses.iter().enumerate() {
            let frame = Frame {
                left: left + (panel_width + COLUMN_GAP) * policy as f64,
                top: TOP,
                width: panel_width,
                height: rows_height,
                x,
                y: Span { low: 0.0, high: 1.0 },
            };
            let name = clipped(study.policies[policy], (panel_width / 7.0) as usize);
            canvas.text((frame.left + panel_width / 2.0, TOP - 12.0), &name, PLAIN.bold().centred())?;
            loss_panel(canvas, &frame, losses)?;
        }
        let below = TOP + rows_height + 34.0;
        let panels_width = (panel_width + COLUMN_GAP) * columns as f64 - COLUMN_GAP;
        canvas.text((left + panels_width / 2.0, below), "honest loss, in per cent", PLAIN.centred())
    })
}

fn case_name(attack: &str, level: &str) -> String {
    if level.is_empty() { attack.to_owned() } else { format!("{attack} · {level}") }
}

/// All intervals, with room for a dot at either end.
fn loss_span(losses: &[Vec<Option<Interval>>]) -> Span {
    let span = Span::of(losses.iter().flatten().flatten(), 100.0, [-1.0, 1.0]);
    let margin = (span.high - span.low) * 0.04;
    Span { low: span.low - margin, high: span.high + margin }
}

fn loss_panel(canvas: &Canvas<'_>, frame: &Frame, losses: &[Option<Interval>]) -> Result<(), Fault> {
    frame.columns(canvas, true)?;
    canvas.line((frame.left, frame.bottom()), (frame.right(), frame.bottom()), colour::AXIS, 1.0)?;
    let (zero, _) = frame.place(0.0, 0.0);
    canvas.line((zero, frame.top), (zero, frame.bottom()), colour::AXIS, 1.5)?;
    for (case, loss) in losses.iter().enumerate() {
        let at = frame.top + ROW * (case as f64 + 0.5);
        let Some(loss) = loss else {
            canvas.text((frame.left + frame.width / 2.0, at), "–", QUIET.centred())?;
            continue;
        };
        let paint = loss_colour(loss);
        let place = |value: f64| (frame.place(value * 100.0, 0.0).0, at);
        if let (Some(low), Some(high)) = (loss.low(), loss.high()) {
            canvas.line(place(low), place(high), paint, 1.75)?;
        }
        canvas.dot(place(loss.mean), 3.5, paint, 1.0)?;
    }
    Ok(())
}

fn loss_colour(loss: &Interval) -> plotters::style::RGBColor {
    if loss.low().is_some_and(|low| low > 0.0) {
        colour::BAD
    } else if loss.high().is_some_and(|high| high < 0.0) {
        colour::GOOD
    } else {
        colour::QUIET_INK
    }
}

fn loss_legend(canvas: &Canvas<'_>) -> Result<(), Fault> {
    let mut left = 16.0;
    let entries = [
        ("they lose", colour::BAD),
        ("they gain", colour::GOOD),
        ("can’t be told from 0", colour::QUIET_INK),
    ];
    for (text, paint) in entries {
        canvas.line((left, 62.0), (left + 22.0, 62.0), paint, 1.75)?;
        canvas.dot((left + 11.0, 62.0), 3.5, paint, 1.0)?;
        canvas.text((left + 28.0, 62.0), text, PLAIN)?;
        left += 28.0 + width_of(text, 11.0) + 20.0;
    }
    Ok(())
}

/// Every second attack on a tinted ground, so that the eye stays in its row.
fn stripes(canvas: &Canvas<'_>, study: &Study<'_>, width: f64) -> Result<(), Fault> {
    for attack in study.attacks().iter().skip(1).step_by(2) {
        let edge = |case: usize| TOP + ROW * case as f64;
        canvas.bar((8.0, edge(attack.cases.start)), (width - 8.0, edge(attack.cases.end)), colour::STRIPE)?;
    }
    Ok(())
}

/// Gini's coefficient: a row per policy, a dot per case, the median marked.
pub(super) fn gini(study: &Study<'_>) -> Result<String, Fault> {
    const GINI_TOP: f64 = 78.0;
    const GINI_ROW: f64 = 34.0;
    const WIDTH: f64 = 720.0;
    let means: Vec<Vec<f64>> = (0..study.policies.len())
        .map(|policy| {
            let all = (0..study.cases.len()).filter_map(|case| study.interval(policy, case, &GINI));
            all.map(|found| found.mean).collect()
        })
        .collect();
    let names: Vec<String> = study.policies.iter().map(|policy| clipped(policy, 24)).collect();
    let left = 16.0 + names.iter().map(|name| width_of(name, 12.0)).fold(40.0, f64::max) + 12.0;
    let rows_height = GINI_ROW * names.len() as f64;
    let frame = Frame {
        left,
        top: GINI_TOP,
        width: WIDTH - left - 80.0,
        height: rows_height,
        x: Span { low: 0.0, high: 1.0 },
        y: Span { low: 0.0, high: 1.0 },
    };
    draw((WIDTH, GINI_TOP + rows_height + BOTTOM), "Gini coefficient by policy", |canvas| {
        let meaning = "How unevenly the honest workers are paid: 0 all the same, 1 one gets everything.";
        canvas.title("Concentration of honest rewards", meaning)?;
        canvas.dot((21.0, 60.0), 4.0, colour::GOOD, 0.35)?;
        canvas.text((32.0, 60.0), "one attack, mean over the seeds", PLAIN)?;
        canvas.line((250.0, 53.0), (250.0, 67.0), colour::INK, 2.5)?;
        canvas.text((258.0, 60.0), "median of the attacks", PLAIN)?;
        frame.columns(canvas, true)?;
        for (policy, (name, means)) in names.iter().zip(&means).enumerate() {
            let at = GINI_TOP + GINI_ROW * (policy as f64 + 0.5);
            canvas.text((left - 12.0, at), name, PLAIN.bold().ending())?;
            for (i, mean) in means.iter().enumerate() {
                // Spread, so that they don't hide each other.
                let beside = at + (i % 5) as f64 * 3.0 - 6.0;
                canvas.dot((frame.place(*mean, 0.0).0, beside), 3.5, colour::GOOD, 0.4)?;
            }
            let median = stats::median(means);
            if let Some(median) = median {
                let (x, _) = frame.place(median, 0.0);
                canvas.line((x, at - 12.0), (x, at + 12.0), colour::INK, 2.5)?;
            }
            let label = short(median.unwrap_or(f64::NAN));
            canvas.text((frame.right() + 14.0, at), &label, PLAIN.size(12.0))?;
        }
        frame.axes(canvas)?;
        let below = (frame.left + frame.width / 2.0, frame.bottom() + 34.0);
        canvas.text(below, "Gini coefficient", PLAIN.centred())
    })
}
