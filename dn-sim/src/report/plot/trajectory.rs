//! Runs in time: for one attack, a panel for each level and policy.
use plotters::style::RGBColor;

use super::super::number::clipped;
use super::super::study::{Attack, Moment, Study};
use super::canvas::{Canvas, Fault, PLAIN, Point, draw, width_of};
use super::colour;
use super::frame::{Frame, Span};
use crate::outcome::Sample;
use crate::stats::Interval;

const LEFT: f64 = 64.0;
const TOP: f64 = 92.0;
const PANEL_HEIGHT: f64 = 100.0;
const GAP: f64 = 14.0;
/// Room for a level's name above its panels.
const NAME_HEIGHT: f64 = 32.0;
const BOTTOM: f64 = 52.0;

/// A line of the picture.
struct Line {
    name: &'static str,
    read: fn(&Sample) -> f64,
    colour: RGBColor,
    /// Dashed lines are for comparison and have no band.
    dashed: bool,
}

/// What is shown of a run.
struct View {
    title: &'static str,
    meaning: &'static str,
    /// Beside the axis.
    axis: &'static str,
    unit: &'static str,
    /// The values are multiplied by this.
    factor: f64,
    /// The range is at least this high.
    least: f64,
    lines: &'static [Line],
}

impl View {
    /// Wide enough for the bands, but not below what the means reach.
    fn range<'i>(&self, intervals: impl Iterator<Item = &'i Interval> + Clone) -> Span {
        let always = [0.0, self.least];
        let means = Span::holding(intervals.clone().map(|interval| interval.mean * self.factor), always);
        if means.high == self.least {
            return means;
        }
        Span { low: means.low, high: Span::of(intervals, self.factor, always).high * 1.04 }
    }
}

const TRUST: View = View {
    title: "Trust",
    meaning: "Mean over the seeds with its 95 % interval.",
    axis: "trust weight",
    unit: "",
    factor: 1.0,
    least: 1.0,
    lines: &[
        Line { name: "honest", read: |sample| sample.honest_trust, colour: colour::GOOD, dashed: false },
        Line { name: "attackers", read: |sample| sample.attacker_trust, colour: colour::BAD, dashed: false },
    ],
};

const SHARE: View = View {
    title: "Attackers’ share of rewards",
    meaning: "Mean over the seeds with its 95 % interval.",
    axis: "share of rewards",
    unit: " %",
    factor: 100.0,
    least: 1.0,
    lines: &[
        Line {
            name: "had they behaved (twin)",
            read: |sample| sample.twin_share,
            colour: colour::INK,
            dashed: true,
        },
        Line { name: "attacking", read: |sample| sample.attacker_share, colour: colour::BAD, dashed: false },
    ],
};

/// Trust weights over the epochs.
pub(super) fn trust(study: &Study<'_>, attack: &Attack<'_>) -> Result<String, Fault> {
    panels(study, attack, &TRUST)
}

/// The attackers' share of the rewards over the epochs, and that of the twin.
pub(super) fn share(study: &Study<'_>, attack: &Attack<'_>) -> Result<String, Fault> {
    panels(study, attack, &SHARE)
}

fn panels(study: &Study<'_>, attack: &Attack<'_>, view: &View) -> Result<String, Fault> {
    let readers: Vec<_> = view.lines.iter().map(|line| line.read).collect();
    let columns = study.policies.len();
    let rows: Vec<usize> = attack.cases.clone().collect();
    // One row of panels after the other.
    let courses: Vec<Vec<Moment>> = rows
        .iter()
        .flat_map(|case| (0..columns).map(|policy| study.course(policy, *case, &readers)))
        .collect();
    let moments = || courses.iter().flatten();
    let y = view.range(moments().flat_map(|moment| moment.values.iter().flatten()));
    let x = Span::holding(moments().map(|moment| f64::from(moment.epoch)), [0.0, 0.0]);

    let title = format!("{}: {}", view.title, clipped(attack.name, 40));
    let panel_width = ((1090.0 - LEFT) / columns as f64 - GAP).clamp(150.0, 460.0);
    let width = (LEFT + (panel_width + GAP) * columns as f64 + 10.0).max(width_of(&title, 15.0) + 40.0);
    let row_height = NAME_HEIGHT + PANEL_HEIGHT;
    let size = (width.max(520.0), TOP + row_height * rows.len() as f64 + BOTTOM);
    draw(size, &title, |canvas| {
        canvas.title(&title, view.meaning)?;
        legend(canvas, view)?;
        for (policy, name) in study.policies.iter().enumerate() {
            let middle = LEFT + (panel_width + GAP) * policy as f64 + panel_width / 2.0;
            let room = (panel_width / 7.0) as usize;
            canvas.text((middle, TOP - 4.0), &clipped(name, room), PLAIN.bold().centred())?;
        }
        for (i, course) in courses.iter().enumerate() {
            let (row, column) = (i / columns, i % columns);
            let frame = Frame {
                left: LEFT + (panel_width + GAP) * column as f64,
                top: TOP + row_height * row as f64 + NAME_HEIGHT,
                width: panel_width,
                height: PANEL_HEIGHT,
                x,
                y,
            };
            panel(canvas, &frame, course, view, (column == 0, row + 1 == rows.len()))?;
            if column == 0 {
                let middle = frame.top + frame.height / 2.0;
                canvas.text((14.0, middle), view.axis, PLAIN.rising().centred())?;
            }
        }
        for (row, case) in rows.iter().enumerate() {
            let level = clipped(study.cases[*case].level, 60);
            canvas.text((16.0, TOP + row_height * row as f64 + NAME_HEIGHT - 16.0), &level, PLAIN.bold())?;
        }
        let panels_width = (panel_width + GAP) * columns as f64 - GAP;
        canvas.text((LEFT + panels_width / 2.0, size.1 - 20.0), "epoch", PLAIN.centred())
    })
}

fn panel(
    canvas: &Canvas<'_>,
    frame: &Frame,
    course: &[Moment],
    view: &View,
    (leftmost, lowest): (bool, bool),
) -> Result<(), Fault> {
    frame.rows(canvas, leftmost, view.unit)?;
    frame.columns(canvas, lowest)?;
    if course.is_empty() {
        frame.note(canvas, "no samples")?;
    }
    for (i, line) in view.lines.iter().enumerate() {
        if !line.dashed {
            canvas.shade(&band(frame, course, i, view.factor), line.colour, 0.2)?;
        }
    }
    for (i, line) in view.lines.iter().enumerate() {
        let points: Vec<Point> = course
            .iter()
            .filter_map(|moment| {
                let mean = moment.values[i]?.mean * view.factor;
                Some(frame.place(f64::from(moment.epoch), mean))
            })
            .collect();
        match points.as_slice() {
            [only] => canvas.dot(*only, 2.5, line.colour, 1.0)?,
            _ if line.dashed => canvas.dashes(&points, line.colour, 1.25)?,
            _ => canvas.path(&points, line.colour, 1.75)?,
        }
    }
    frame.axes(canvas)
}

/// The upper ends forwards, then the lower ends backwards.
fn band(frame: &Frame, course: &[Moment], line: usize, factor: f64) -> Vec<Point> {
    let end = |moment: &Moment, side: f64| {
        let value = moment.values[line]?;
        Some(frame.place(f64::from(moment.epoch), (value.mean + side * value.half_width?) * factor))
    };
    let upper = course.iter().filter_map(|moment| end(moment, 1.0));
    let lower = course.iter().rev().filter_map(|moment| end(moment, -1.0));
    upper.chain(lower).collect()
}

fn legend(canvas: &Canvas<'_>, view: &View) -> Result<(), Fault> {
    let (mut left, at) = (16.0, 62.0);
    for line in view.lines {
        let ends = [(left, at), (left + 26.0, at)];
        if line.dashed {
            canvas.dashes(&ends, line.colour, 1.25)?;
        } else {
            let corners =
                [(left, at - 5.0), (left + 26.0, at - 5.0), (left + 26.0, at + 5.0), (left, at + 5.0)];
            canvas.shade(&corners, line.colour, 0.2)?;
            canvas.path(&ends, line.colour, 1.75)?;
        }
        canvas.text((left + 32.0, at), line.name, PLAIN)?;
        left += 32.0 + width_of(line.name, 11.0) + 22.0;
    }
    Ok(())
}
