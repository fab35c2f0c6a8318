//! Statistics over the seeds of a run: means with intervals, quantiles, concentration.
//!
//! Same bits on every machine: only `+ - * /`, square roots and `libm`, summed in the order given.
use std::sync::OnceLock;

/// The arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation of the sample, with n − 1 below; `None` of fewer than two values.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre) * (value - centre)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// A mean and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean of the sample.
    pub mean: f64,
    /// Half the width of the interval, which is symmetric; absent when there is one value only.
    pub half_width: Option<f64>,
    /// How many values were used.
    pub count: usize,
}

impl Interval {
    /// The mean of the finite values with Student's interval, t·s/√n. Values that are not finite are left out, and
    /// [`Interval::count`] tells; `None` when none remains.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let count = values.len();
        let half_width =
            deviation(&values).map(|spread| student_t(count - 1) * spread / (count as f64).sqrt());
        mean(&values).map(|mean| Self { mean, half_width, count })
    }

    /// The lower end; absent when there is one value only.
    pub fn low(&self) -> Option<f64> {
        self.half_width.map(|half| self.mean - half)
    }

    /// The upper end; absent when there is one value only.
    pub fn high(&self) -> Option<f64> {
        self.half_width.map(|half| self.mean + half)
    }
}

/// The value below which the part `part` of the values lies, with straight lines between the order statistics: type
/// 7 of Hyndman and Fan. `None` of nothing, when a value is not a number, or when `part` is outside 0 to 1. Infinite
/// values are allowed: they are the largest.
///
/// # Source
/// Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American Statistician 50 (1996).
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    if values.is_empty() || !(0.0..=1.0).contains(&part) || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = part * (sorted.len() - 1) as f64;
    let below = (place as usize).min(sorted.len() - 1);
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    let rest = place - below as f64;
    // Between equal values there is nothing to weigh, and ∞ − ∞ is no number.
    Some(if rest == 0.0 || low == high { low } else { low * (1.0 - rest) + high * rest })
}

/// The middle value; see [`quantile`].
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Gini's coefficient of concentration: 0 when all have the same, (n − 1)/n when one has all. Zero when nobody has
/// anything; `None` of nothing or when a value is negative or not finite.
///
/// # Source
/// Σ(2i − n − 1)·xᵢ / (n·Σx) with x rising: the mean difference over twice the mean (Gini, 1912).
pub fn gini(values: &[f64]) -> Option<f64> {
    if values.is_empty() || !values.iter().all(|value| value.is_finite() && *value >= 0.0) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let total: f64 = sorted.iter().sum();
    let ranked: f64 =
        sorted.iter().enumerate().map(|(i, value)| (2.0 * (i + 1) as f64 - count - 1.0) * value).sum();
    Some(if total > 0.0 { ranked / (count * total) } else { 0.0 })
}

/// Up to here Student's distribution is summed exactly; above, the expansion is good to eleven digits.
const EXACT_DEGREES: usize = 200;

/// The 0.975 quantile of the normal distribution.
const NORMAL: f64 = 1.959_963_984_540_054;

/// The 0.975 quantile of Student's t with `degrees` degrees of freedom: what a 95 % interval multiplies by. Infinite
/// for none.
///
/// # Source
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4 (inverted by bisection) up to 200
/// degrees, 26.7.5 above.
pub fn student_t(degrees: usize) -> f64 {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    match degrees {
        0 => f64::INFINITY,
        1..=EXACT_DEGREES => TABLE.get_or_init(|| (1..=EXACT_DEGREES).map(inverted_t).collect())[degrees - 1],
        _ => expanded_t(degrees),
    }
}

/// Solves P(|T| ≤ t) = 0.95 to the last bit.
fn inverted_t(degrees: usize) -> f64 {
    let (mut low, mut high) = (0.0, 16.0);
    loop {
        let middle = (low + high) / 2.0;
        if middle <= low || middle >= high {
            return middle;
        }
        if central_probability(middle, degrees) < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// P(|T| ≤ t): 26.7.3 for odd degrees, 26.7.4 for even ones.
fn central_probability(t: f64, degrees: usize) -> f64 {
    let freedom = degrees as f64;
    let cosine_squared = freedom / (freedom + t * t);
    let sine = t / (freedom + t * t).sqrt();
    let odd = degrees % 2 == 1;
    // Both are Σ cosᵏ·(products), k falling by two from degrees − 2; the first term is cos θ or one.
    let mut term = if odd { cosine_squared.sqrt() } else { 1.0 };
    let mut sum = if degrees == 1 { 0.0 } else { term };
    for k in (if odd { 3..degrees } else { 2..degrees }).step_by(2) {
        let above = (k - 1) as f64;
        term *= cosine_squared * above / k as f64;
        sum += term;
    }
    if odd {
        let angle = libm::atan(t / freedom.sqrt());
        (angle + sine * sum) * 2.0 / std::f64::consts::PI
    } else {
        sine * sum
    }
}

/// 26.7.5: the quantile as a series in 1/degrees.
fn expanded_t(degrees: usize) -> f64 {
    let (z, v) = (NORMAL, degrees as f64);
    let q = z * z;
    let first = z * (q + 1.0) / 4.0;
    let second = z * ((5.0 * q + 16.0) * q + 3.0) / 96.0;
    let third = z * (((3.0 * q + 19.0) * q + 17.0) * q - 15.0) / 384.0;
    let fourth = z * ((((79.0 * q + 776.0) * q + 1482.0) * q - 1920.0) * q - 945.0) / 92_160.0;
    z + (first + (second + (third + fourth / v) / v) / v) / v
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(left: f64, right: f64, tolerance: f64) -> bool {
        (left - right).abs() <= tolerance * right.abs().max(1.0)
    }

    #[test]
    fn students_t_is_the_printed_one() {
        // Abramowitz and Stegun, table 26.10, column A = 0.95.
        let table = [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (6, 2.447),
            (7, 2.365),
            (8, 2.306),
            (9, 2.262),
            (10, 2.228),
            (15, 2.131),
            (20, 2.086),
            (29, 2.045),
            (30, 2.042),
            (40, 2.021),
            (60, 2.000),
            (120, 1.980),
        ];
        for (degrees, printed) in table {
            assert!((student_t(degrees) - printed).abs() <= 0.000_5, "{degrees}: {}", student_t(degrees));
        }
        // For two degrees the distribution has a closed inverse: t = 2p − 1 over √(2p(1 − p)).
        assert!(close(student_t(2), 0.95 / (2.0_f64 * 0.975 * 0.025).sqrt(), 1e-14));
        // For one it is Cauchy's: tan(0.475·π).
        assert!(close(student_t(1), libm::tan(0.475 * std::f64::consts::PI), 1e-13));
        // SciPy's scipy.stats.t.ppf(0.975, n).
        let scipy = [
            (7, 2.364_624_251_592_784),
            (29, 2.045_229_642_132_703),
            (30, 2.042_272_456_301_237_8),
            (199, 1.971_956_544_251_753_3),
            (201, 1.971_836_506_779_859),
            (1000, 1.962_339_080_826_408_3),
        ];
        for (degrees, quantile) in scipy {
            assert!(close(student_t(degrees), quantile, 1e-11), "{degrees}: {}", student_t(degrees));
        }
        assert_eq!(student_t(0), f64::INFINITY);
    }

    #[test]
    fn students_t_falls_to_the_normal_quantile_without_a_step() {
        for degrees in 1..=400 {
            assert!(student_t(degrees) > student_t(degrees + 1), "{degrees}");
        }
        assert!(close(expanded_t(EXACT_DEGREES), student_t(EXACT_DEGREES), 1e-11));
        assert!(close(student_t(1_000_000_000), NORMAL, 1e-8));
    }

    #[test]
    fn a_hand_example() {
        // 2 4 4 4 5 5 7 9: mean 5, squares sum to 32, s = √(32/7), t(7) = 2.3646.
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        let interval = Interval::of(values).unwrap();
        assert_eq!((interval.mean, interval.count), (5.0, 8));
        assert!(close(deviation(&values).unwrap(), 2.138_089_935_299_395, 1e-15));
        assert!(close(interval.half_width.unwrap(), 1.787_487_9, 1e-7));
        assert!(close(interval.low().unwrap(), 3.212_512_1, 1e-7));
        assert!(close(interval.high().unwrap(), 6.787_487_9, 1e-7));
        assert_eq!(median(&values), Some(4.5));
        assert_eq!(quantile(&values, 0.25), Some(4.0));
        assert_eq!(quantile(&values, 0.9), Some(7.6));
        // Σ(2i − 9)·x = 2·(−7) + 4·(−5 − 3 − 1) + 5·(1 + 3) + 7·5 + 9·7 = 68, over 8·40.
        assert_eq!(gini(&values), Some(68.0 / 320.0));
    }

    #[test]
    fn edges() {
        assert_eq!((mean(&[]), deviation(&[]), median(&[]), gini(&[])), (None, None, None, None));
        assert_eq!((deviation(&[3.0]), Interval::of([f64::NAN, f64::INFINITY])), (None, None));
        assert_eq!(Interval::of([3.0, f64::NAN]), Some(Interval { mean: 3.0, half_width: None, count: 1 }));
        let never = f64::INFINITY;
        assert_eq!(median(&[1.0, never, never]), Some(never));
        assert_eq!(median(&[1.0, 2.0, never, never]), Some(never));
        assert_eq!(median(&[1.0, 2.0, never]), Some(2.0));
        assert_eq!((quantile(&[1.0, f64::NAN], 0.5), quantile(&[1.0], 1.5)), (None, None));
        assert_eq!(
            (gini(&[0.0, 0.0]), gini(&[-1.0, 1.0]), gini(&[0.0, 0.0, 0.0, 8.0])),
            (Some(0.0), None, Some(0.75))
        );
    }

    fn sample() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(0.0..1e6_f64, 1..40)
    }

    proptest! {
        #[test]
        fn the_mean_is_inside_and_moves_with_the_values(values in sample(), shift in -1e6..1e6_f64) {
            let interval = Interval::of(values.iter().copied()).unwrap();
            let (low, high) = (quantile(&values, 0.0).unwrap(), quantile(&values, 1.0).unwrap());
            prop_assert!(interval.mean >= low - 1e-9 * high && interval.mean <= high + 1e-9 * high);
            let moved = Interval::of(values.iter().map(|value| value + shift)).unwrap();
            prop_assert!(close(moved.mean, interval.mean + shift, 1e-9));
            let widths = (moved.half_width.unwrap_or(0.0), interval.half_width.unwrap_or(0.0));
            prop_assert!((widths.0 - widths.1).abs() <= 1e-6 * (1.0 + widths.1));
        }

        #[test]
        fn quantiles_rise_and_stay_inside(values in sample(), a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
            let (low, high) = (quantile(&values, a.min(b)).unwrap(), quantile(&values, a.max(b)).unwrap());
            prop_assert!(low <= high * (1.0 + 1e-12));
            prop_assert!(values.iter().any(|value| *value <= low * (1.0 + 1e-12)));
            prop_assert!(values.iter().any(|value| *value >= high * (1.0 - 1e-12)));
        }

        #[test]
        fn gini_is_the_mean_difference(values in sample(), times in 0.001..1000.0_f64) {
            let n = values.len() as f64;
            let difference: f64 =
                values.iter().flat_map(|a| values.iter().map(move |b| (a - b).abs())).sum();
            let total: f64 = values.iter().sum();
            let direct = if total > 0.0 { difference / (2.0 * n * total) } else { 0.0 };
            let coefficient = gini(&values).unwrap();
            prop_assert!((coefficient - direct).abs() < 1e-9);
            prop_assert!((-1e-12..1.0).contains(&coefficient));
            let scaled: Vec<f64> = values.iter().map(|value| value * times).collect();
            prop_assert!((gini(&scaled).unwrap() - coefficient).abs() < 1e-9);
        }
    }
}
