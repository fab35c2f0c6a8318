//! Attacks against policies, one coloured field each.
use plotters::style::RGBColor;

use super::super::metric::{DETECTION, GAIN, Metric, NET_GAIN};
use super::super::number::{ABSENT, clipped, short};
use super::super::study::Study;
use super::canvas::{Canvas, Fault, PLAIN, QUIET, draw, width_of};
use super::colour;
use crate::stats;

const TOP: f64 = 92.0;
const ROW: f64 = 24.0;
/// Between two attacks.
const GAP: f64 = 7.0;
const KEY_HEIGHT: f64 = 70.0;

/// What a field shows.
struct Mark {
    text: String,
    /// Smaller, behind the text.
    rest: String,
    colour: RGBColor,
}

impl Mark {
    fn absent() -> Self {
        Self { text: ABSENT.to_owned(), rest: String::new(), colour: colour::EMPTY }
    }
}

/// The colour key below the fields.
struct Key {
    /// From 0 to 1.
    colour: fn(f64) -> RGBColor,
    ticks: Vec<(f64, String)>,
    ends: [&'static str; 2],
    /// A colour apart, with its meaning.
    apart: Option<(RGBColor, &'static str)>,
}

/// Mean gain out of the pots.
pub(super) fn gain(study: &Study<'_>) -> Result<String, Fault> {
    let words = "Emission. Mean over the seeds; 1 is what they gain by behaving.";
    around_one(study, &GAIN, "Attackers’ gain", words)
}

/// Mean gain with everything that money is spent and lost on.
pub(super) fn net_gain(study: &Study<'_>) -> Result<String, Fault> {
    let words =
        "Emission and fees, less slashes, bonds and computing. Below 0 the attack costs more than it brings.";
    around_one(study, &NET_GAIN, "Attackers’ net gain", words)
}

fn around_one(study: &Study<'_>, metric: &Metric, title: &str, words: &str) -> Result<String, Fault> {
    let mark = |policy, case| match study.interval(policy, case, metric) {
        Some(gain) => Mark {
            text: short_gain(gain.mean),
            rest: String::new(),
            colour: colour::diverging(gain.mean - 1.0),
        },
        None => Mark::absent(),
    };
    let ticks = [(0.0, "0"), (0.25, "0.5"), (0.5, "1"), (0.75, "1.5"), (1.0, "≥ 2")];
    let key = Key {
        colour: |part| colour::diverging(2.0 * part - 1.0),
        ticks: ticks.map(|(at, text)| (at, text.to_owned())).into(),
        ends: ["attack is punished", "attack pays"],
        apart: None,
    };
    fields(study, title, words, &mark, &key)
}

/// Two decimals, but three where they decide.
fn short_gain(gain: f64) -> String {
    if (0.0995..0.9995).contains(&gain.abs()) { format!("{gain:.2}") } else { short(gain) }
}

/// Median detection delay, runs without one being the longest.
pub(super) fn detection(study: &Study<'_>) -> Result<String, Fault> {
    let delays = |policy, case| -> Vec<f64> {
        let runs = study.runs(policy, case).iter();
        runs.map(|cell| (DETECTION.read)(&cell.metrics).unwrap_or(f64::INFINITY)).collect()
    };
    let medians = (0..study.policies.len())
        .flat_map(|policy| (0..study.cases.len()).map(move |case| (policy, case)))
        .filter_map(|(policy, case)| stats::median(&delays(policy, case)));
    let longest = medians.filter(|median| median.is_finite()).fold(1.0, f64::max);
    // The root tells short delays apart, which are the usual ones.
    let part = |epochs: f64| (epochs / longest).sqrt();
    let mark = |policy, case| {
        let delays = delays(policy, case);
        let found = delays.iter().filter(|delay| delay.is_finite()).count();
        let Some(median) = stats::median(&delays) else { return Mark::absent() };
        let rest = match found {
            0 => String::new(),
            _ if found == delays.len() => String::new(),
            _ => format!(" {found}/{}", delays.len()),
        };
        if median.is_finite() {
            Mark { text: epochs(median), rest, colour: colour::rising(part(median)) }
        } else {
            Mark { text: "never".to_owned(), rest, colour: colour::NEVER }
        }
    };
    let ticks = [0.0, 0.5, 1.0].map(|part| (part, epochs(part * part * longest))).into();
    let key = Key {
        colour: colour::rising,
        ticks,
        ends: ["found at once", "found late"],
        apart: Some((colour::NEVER, "never in most runs")),
    };
    let meaning =
        "Median, in epochs, until attackers earn less than half; small: runs in which they do, of all.";
    fields(study, "Detection delay", meaning, &mark, &key)
}

fn epochs(value: f64) -> String {
    if value < 10.0 { format!("{}", libm::round(value * 10.0) / 10.0) } else { format!("{value:.0}") }
}

/// The columns' and rows' names with the fields between them.
struct Layout {
    attack_width: f64,
    level_width: f64,
    field_width: f64,
}

impl Layout {
    fn of(study: &Study<'_>) -> Self {
        let widest = |names: &mut dyn Iterator<Item = &str>, length| {
            names.map(|name| width_of(&clipped(name, length), 11.0)).fold(0.0, f64::max)
        };
        let policies = widest(&mut study.policies.iter().copied(), 18);
        let attacks = widest(&mut study.cases.iter().map(|case| case.attack), 26);
        let levels = widest(&mut study.cases.iter().map(|case| case.level), 26);
        Self {
            attack_width: attacks + 12.0,
            level_width: if levels > 0.0 { levels + 12.0 } else { 0.0 },
            field_width: (policies + 16.0).max(76.0),
        }
    }

    fn fields_left(&self) -> f64 {
        16.0 + self.attack_width + self.level_width
    }
}

fn fields(
    study: &Study<'_>,
    title: &str,
    meaning: &str,
    mark: &dyn Fn(usize, usize) -> Mark,
    key: &Key,
) -> Result<String, Fault> {
    let layout = Layout::of(study);
    let attacks = study.attacks();
    let rows_height = ROW * study.cases.len() as f64 + GAP * attacks.len() as f64;
    let fields_width = layout.field_width * study.policies.len() as f64;
    let width = (layout.fields_left() + fields_width + 16.0).max(width_of(meaning, 11.0) + 32.0).max(480.0);
    let height = TOP + rows_height + KEY_HEIGHT;
    let about = format!("{title}: {} attacks against {} policies", study.cases.len(), study.policies.len());
    draw((width, height), &about, |canvas| {
        canvas.title(title, meaning)?;
        let left = layout.fields_left();
        for (i, policy) in study.policies.iter().enumerate() {
            let middle = left + layout.field_width * (i as f64 + 0.5);
            canvas.text((middle, TOP - 18.0), &clipped(policy, 18), PLAIN.bold().centred())?;
        }
        let mut top = TOP;
        for attack in &attacks {
            canvas.text((16.0, top + ROW / 2.0), &clipped(attack.name, 26), PLAIN.bold())?;
            for case in attack.cases.clone() {
                let level = clipped(study.cases[case].level, 26);
                canvas.text((16.0 + layout.attack_width, top + ROW / 2.0), &level, PLAIN)?;
                for policy in 0..study.policies.len() {
                    let at = left + layout.field_width * policy as f64;
                    field(canvas, (at, top), layout.field_width, &mark(policy, case))?;
                }
                top += ROW;
            }
            top += GAP;
        }
        draw_key(canvas, (left.min(width - 330.0), top + 14.0), key)
    })
}

fn field(canvas: &Canvas<'_>, (left, top): (f64, f64), width: f64, mark: &Mark) -> Result<(), Fault> {
    canvas.bar((left + 1.0, top + 1.0), (left + width - 1.0, top + ROW - 1.0), mark.colour)?;
    let font = PLAIN.size(12.0).colour(colour::ink_on(mark.colour));
    let middle = top + ROW / 2.0;
    if mark.rest.is_empty() {
        return canvas.text((left + width / 2.0, middle), &mark.text, font.centred());
    }
    let (first, second) = (width_of(&mark.text, 12.0), width_of(&mark.rest, 9.5));
    let seam = left + (width + first - second) / 2.0;
    canvas.text((seam, middle), &mark.text, font.ending())?;
    canvas.text((seam + 4.0, middle + 0.5), mark.rest.trim_start(), font.size(9.5))
}

fn draw_key(canvas: &Canvas<'_>, (left, top): (f64, f64), key: &Key) -> Result<(), Fault> {
    const WIDTH: f64 = 200.0;
    const STEPS: u32 = 50;
    for i in 0..STEPS {
        let part = f64::from(i) / f64::from(STEPS - 1);
        let at = left + WIDTH * f64::from(i) / f64::from(STEPS);
        // To the end, so that no seam shows between two steps.
        canvas.bar((at, top), (left + WIDTH, top + 12.0), (key.colour)(part))?;
    }
    for (part, text) in &key.ticks {
        let at = left + WIDTH * part;
        canvas.line((at, top + 12.0), (at, top + 16.0), colour::AXIS, 1.0)?;
        canvas.text((at, top + 24.0), text, PLAIN.size(10.0).centred())?;
    }
    canvas.text((left, top + 40.0), key.ends[0], QUIET)?;
    canvas.text((left + WIDTH, top + 40.0), key.ends[1], QUIET.ending())?;
    if let Some((apart, meaning)) = key.apart {
        let at = left + WIDTH + 20.0;
        canvas.bar((at, top), (at + 20.0, top + 12.0), apart)?;
        canvas.text((at + 26.0, top + 6.0), meaning, PLAIN.size(10.0))?;
    }
    Ok(())
}
