//! Steps 2 and 3 for one token.

use dn_core::objects::Sampling;

use super::fixed::MAX_FIXED;

/// How often a token stands in the window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    /// In prompt and output.
    pub(crate) all: u32,
    /// In the output.
    pub(crate) output: u32,
}

/// Step 2.
pub(crate) fn penalised(l: i64, s: &Sampling, count: Count) -> i64 {
    if count.all == 0 {
        return l;
    }
    let (l, r) = (i128::from(l), i128::from(s.repetition_micro));
    let l = if l > 0 { l * 1_000_000 / r } else { -(-l * r / 1_000_000) };
    if count.output == 0 {
        return hold(l);
    }
    let each = i128::from(count.output) * i128::from(s.frequency_micro);
    hold(l - units(i128::from(s.presence_micro) + each))
}

/// Step 3.
pub(crate) fn biased(l: i64, bias_micro: i32) -> i64 {
    hold(i128::from(l) + units(bias_micro.into()))
}

/// Millionths in units of `2^-24`, rounded down.
fn units(micro: i128) -> i128 {
    (micro << 24).div_euclid(1_000_000)
}

fn hold(l: i128) -> i64 {
    let limit = i128::from(MAX_FIXED);
    // Within the limits it fits.
    l.clamp(-limit, limit) as i64
}
