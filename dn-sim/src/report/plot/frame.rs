//! Axes: a rectangle of the sheet that stands for a rectangle of values.
use super::canvas::{Canvas, Fault, PLAIN, Point, QUIET, width_of};
use super::colour;
use crate::stats::Interval;

/// A range of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Span {
    /// The range that holds all these values and `always`; never empty.
    pub(super) fn holding(values: impl Iterator<Item = f64>, always: [f64; 2]) -> Self {
        let [mut low, mut high] = always;
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low < high { Self { low, high } } else { Self { low, high: low + 1.0 } }
    }

    /// The range that holds the means of these, `factor` times, and `always`. The ends of the intervals widen it by half
    /// at most on each side, so that one wide interval does not flatten all others.
    pub(super) fn of<'i>(
        intervals: impl Iterator<Item = &'i Interval> + Clone,
        factor: f64,
        always: [f64; 2],
    ) -> Self {
        let means = Self::holding(intervals.clone().map(|interval| interval.mean * factor), always);
        let room = (means.high - means.low) / 2.0;
        let ends = intervals.flat_map(|interval| [interval.low(), interval.high()]).flatten();
        let near = ends.map(|end| (end * factor).clamp(means.low - room, means.high + room));
        Self::holding(near, [means.low, means.high])
    }

    /// Values at which a line is drawn: about `wanted` of them, 1, 2 or 5 times a power of ten apart.
    pub(super) fn ticks(self, wanted: f64) -> Vec<f64> {
        let step = self.step(wanted);
        let first = (self.low / step - 1e-9).ceil();
        let count = ((self.high / step + 1e-9).floor() - first).clamp(0.0, 100.0) as u32;
        (0..=count).map(|i| (first + f64::from(i)) * step).collect()
    }

    /// Rather a few ticks more than wanted than half as many.
    fn step(self, wanted: f64) -> f64 {
        let raw = ((self.high - self.low) / wanted.max(1.0)).clamp(1e-9, 1e15);
        let power = libm::pow(10.0, libm::floor(libm::log10(raw)));
        let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * 0.85).unwrap_or(10.0);
        factor * power
    }

    /// A tick as text, with the decimals that tell it from the next.
    pub(super) fn label(self, tick: f64, wanted: f64) -> String {
        let decimals = (-libm::floor(libm::log10(self.step(wanted)) + 1e-9)).clamp(0.0, 9.0) as usize;
        let text = format!("{tick:.decimals$}");
        if text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.')) { "0".to_owned() } else { text }
    }

    pub(super) fn clamp(self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }
}

/// A panel with its two ranges.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) x: Span,
    pub(super) y: Span,
}

impl Frame {
    /// Where a pair of values lies on the sheet; values outside lie on the edge.
    pub(super) fn place(&self, x: f64, y: f64) -> Point {
        let part = |span: Span, value: f64| (span.clamp(value) - span.low) / (span.high - span.low);
        (self.left + part(self.x, x) * self.width, self.top + (1.0 - part(self.y, y)) * self.height)
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// Lines across at the ticks of y; with `labels`, their values left of the panel, and `unit` behind each.
    pub(super) fn rows(&self, canvas: &Canvas<'_>, labels: bool, unit: &str) -> Result<(), Fault> {
        let wanted = self.height / 26.0;
        for tick in self.y.ticks(wanted) {
            let (_, at) = self.place(self.x.low, tick);
            canvas.line((self.left, at), (self.right(), at), colour::GRID, 1.0)?;
            if labels {
                let label = self.y.label(tick, wanted) + unit;
                canvas.text((self.left - 6.0, at), &label, PLAIN.ending())?;
            }
        }
        Ok(())
    }

    /// As many as have room for their labels side by side.
    fn wanted_columns(&self) -> f64 {
        let room = |wanted| {
            let ends = [self.x.low, self.x.high].map(|end| width_of(&self.x.label(end, wanted), 11.0));
            self.width / (ends[0].max(ends[1]) + 14.0)
        };
        room(room(4.0))
    }

    /// Lines up at the ticks of x; with `labels`, their values below the panel.
    pub(super) fn columns(&self, canvas: &Canvas<'_>, labels: bool) -> Result<(), Fault> {
        let wanted = self.wanted_columns();
        for tick in self.x.ticks(wanted) {
            let (at, _) = self.place(tick, self.y.low);
            canvas.line((at, self.top), (at, self.bottom()), colour::GRID, 1.0)?;
            if labels {
                canvas.line((at, self.bottom()), (at, self.bottom() + 4.0), colour::AXIS, 1.0)?;
                let label = self.x.label(tick, wanted);
                canvas.text((at, self.bottom() + 13.0), &label, PLAIN.centred())?;
            }
        }
        Ok(())
    }

    /// The left and lower edge.
    pub(super) fn axes(&self, canvas: &Canvas<'_>) -> Result<(), Fault> {
        let corner = (self.left, self.bottom());
        canvas.path(&[(self.left, self.top), corner, (self.right(), corner.1)], colour::AXIS, 1.0)
    }

    /// A note in the middle of an empty panel.
    pub(super) fn note(&self, canvas: &Canvas<'_>, text: &str) -> Result<(), Fault> {
        let middle = (self.left + self.width / 2.0, self.top + self.height / 2.0);
        canvas.text(middle, text, QUIET.centred())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let labels = |low, high, wanted| -> Vec<String> {
            let span = Span { low, high };
            span.ticks(wanted).into_iter().map(|tick| span.label(tick, wanted)).collect()
        };
        assert_eq!(labels(0.0, 1.0, 4.0), ["0", "0.5", "1.0"]);
        assert_eq!(labels(0.0, 1.0, 5.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-0.03, 0.08, 3.0), ["0", "0.05"]);
        assert_eq!(labels(0.0, 720.0, 4.0), ["0", "200", "400", "600"]);
        assert_eq!(labels(-12.0, 61.0, 4.0), ["0", "20", "40", "60"]);
    }

    #[test]
    fn spans_are_never_empty() {
        let span = Span::holding([f64::NAN, f64::INFINITY].into_iter(), [0.0, 0.0]);
        assert_eq!(span, Span { low: 0.0, high: 1.0 });
        assert_eq!(Span::holding([-2.0, 7.0].into_iter(), [0.0, 1.0]), Span { low: -2.0, high: 7.0 });
        let wide = Interval { mean: 0.2, half_width: Some(9.0), count: 2 };
        assert_eq!(Span::of([wide].iter(), 1.0, [0.0, 1.0]), Span { low: -0.5, high: 1.5 });
        for high in [1e-300, 1e300] {
            assert!(Span { low: 0.0, high }.ticks(4.0).len() <= 101);
        }
    }
}
