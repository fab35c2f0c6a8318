//! Colours that stay apart for the colour-blind and in print.
//!
//! # Source
//! Lines: the palette of Okabe and Ito, "Color Universal Design" (2008).
use plotters::style::RGBColor;

pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
pub(super) const INK: RGBColor = RGBColor(31, 35, 40);
pub(super) const QUIET_INK: RGBColor = RGBColor(89, 96, 105);
pub(super) const GRID: RGBColor = RGBColor(228, 231, 235);
pub(super) const AXIS: RGBColor = RGBColor(140, 148, 158);
/// The blue of the honest, and of what is as it should be.
pub(super) const GOOD: RGBColor = RGBColor(0, 114, 178);
/// The vermilion of the attackers, and of what should not be.
pub(super) const BAD: RGBColor = RGBColor(213, 94, 0);
/// Nothing was measured.
pub(super) const EMPTY: RGBColor = RGBColor(238, 240, 243);
/// Every second row.
pub(super) const STRIPE: RGBColor = RGBColor(246, 248, 250);
/// It never happens.
pub(super) const NEVER: RGBColor = RGBColor(221, 223, 227);

/// From blue over near-white to vermilion, by thirds of brightness.
const DIVERGING: [RGBColor; 7] = [
    RGBColor(16, 78, 139),
    RGBColor(88, 150, 200),
    RGBColor(181, 212, 233),
    RGBColor(246, 246, 244),
    RGBColor(250, 205, 168),
    RGBColor(229, 133, 64),
    RGBColor(168, 60, 6),
];

/// From near-white to violet.
const RISING: [RGBColor; 4] =
    [RGBColor(247, 244, 250), RGBColor(206, 194, 226), RGBColor(155, 132, 190), RGBColor(106, 75, 148)];

/// The colour of −1 to 1, zero being neutral; what is beyond looks like the end.
pub(super) fn diverging(value: f64) -> RGBColor {
    between(&DIVERGING, (value + 1.0) / 2.0)
}

/// The colour of 0 to 1.
pub(super) fn rising(value: f64) -> RGBColor {
    between(&RISING, value)
}

/// Black or white, whichever can be read on this.
pub(super) fn ink_on(background: RGBColor) -> RGBColor {
    let RGBColor(red, green, blue) = background;
    let light = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if light > 140.0 { INK } else { PAPER }
}

fn between(stops: &[RGBColor], part: f64) -> RGBColor {
    let last = stops.len() - 1;
    let place = part.clamp(0.0, 1.0) * last as f64;
    let below = (place as usize).min(last);
    let (from, to) = (stops[below], stops[(below + 1).min(last)]);
    let rest = place - below as f64;
    let mixed = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * rest + 0.5) as u8;
    RGBColor(mixed(from.0, to.0), mixed(from.1, to.1), mixed(from.2, to.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_meet_their_ends_and_their_middle() {
        assert_eq!([-9.0, -1.0, 0.0, 1.0, 9.0].map(diverging), [0, 0, 3, 6, 6].map(|i| DIVERGING[i]));
        assert_eq!([0.0, 1.0].map(rising), [RISING[0], RISING[3]]);
        assert_eq!((ink_on(NEVER), ink_on(RISING[3])), (INK, PAPER));
    }
}
