//! Numbers and names as people see them.
use super::metric::Unit;
use crate::stats::Interval;

/// Stands for what is absent.
pub(super) const ABSENT: &str = "–";

/// About three figures, and never more than three decimals.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return ABSENT.to_owned();
    }
    let size = value.abs();
    if size >= 99_999.5 {
        return format!("{value:.1e}");
    }
    let decimals = decimals(size);
    unsigned_zero(format!("{value:.decimals$}"))
}

fn decimals(size: f64) -> usize {
    match size {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    }
}

/// A mean and its half width, such as `0.031 ± 0.004`.
pub(super) fn interval(interval: Option<Interval>, unit: Unit) -> String {
    let Some(Interval { mean, half_width, .. }) = interval else { return ABSENT.to_owned() };
    if !mean.is_finite() || mean.abs() >= 99_999.5 {
        return short(mean);
    }
    let (factor, decimals, suffix) = match unit {
        Unit::Ratio => (1.0, decimals(mean.abs()), ""),
        Unit::Part => (100.0, 1, " %"),
        Unit::Epochs => (1.0, usize::from(mean.abs() < 99.95), ""),
    };
    let shown = |value: f64| unsigned_zero(format!("{:.decimals$}", value * factor));
    match half_width.filter(|half| half.is_finite()) {
        Some(half) => format!("{} ± {}{suffix}", shown(mean), shown(half)),
        None => format!("{}{suffix}", shown(mean)),
    }
}

/// `-0.000` is zero.
fn unsigned_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if !rest.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) => rest.to_owned(),
        _ => text,
    }
}

/// A name from outside without characters that a terminal obeys, that XML forbids or that turn the writing direction.
pub(super) fn visible(text: &str) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if unseen(c) { '\u{fffd}' } else { c }).collect()
}

/// [`visible`], cut to `length` characters.
pub(super) fn clipped(text: &str, length: usize) -> String {
    let text = visible(text);
    if text.chars().count() <= length {
        return text;
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_three_figures() {
        let shown = [0.0, -0.0001, 0.0314, 0.99951, 1.0, -9.996, 99.96, 12_345.0, 2.5e9, f64::NAN].map(short);
        let expected = ["0.000", "0.000", "0.031", "1.00", "1.00", "-10.0", "100", "12345", "2.5e9", "–"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn intervals_in_their_unit() {
        let of = |mean, half_width| Some(Interval { mean, half_width, count: 3 });
        assert_eq!(interval(of(0.0312, Some(0.0041)), Unit::Ratio), "0.031 ± 0.004");
        assert_eq!(interval(of(-0.0312, Some(0.0041)), Unit::Part), "-3.1 ± 0.4 %");
        assert_eq!(interval(of(0.5, None), Unit::Part), "50.0 %");
        assert_eq!(interval(of(240.4, Some(12.7)), Unit::Epochs), "240 ± 13");
        assert_eq!(interval(None, Unit::Ratio), "–");
    }

    #[test]
    fn names_can_not_steer_the_terminal() {
        assert_eq!(visible("a\u{1b}[31m\u{202e}b\n"), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
        assert_eq!(clipped("abcdef", 4), "abc…");
        assert_eq!(clipped("äöü", 3), "äöü");
    }
}
