//! Repetition, presence and frequency penalties, and what they remember of the tokens before.

use std::collections::{HashMap, VecDeque};

use dn_core::objects::Sampling;

use super::fixed::MAX_FIXED;

/// How often a token stands in the window.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: u32,
    output: u32,
}

/// The tokens that penalties see.
#[derive(Debug, Clone)]
pub(super) struct Penalties {
    sampling: Sampling,
    counts: HashMap<u32, Count>,
    /// The window's tokens, oldest first, and whether each is output; empty where the window is everything.
    window: VecDeque<(u32, bool)>,
}

impl Penalties {
    /// After a prompt; `None` where nothing is penalised.
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Option<Self> {
        if !sampling.penalises() {
            return None;
        }
        let mut out = Self { sampling: *sampling, counts: HashMap::new(), window: VecDeque::new() };
        let seen = match out.sampling.penalty_window as usize {
            0 => prompt.len(),
            window => window.min(prompt.len()),
        };
        prompt[prompt.len() - seen..].iter().for_each(|token| out.add(*token, false));
        Some(out)
    }

    /// Takes one more output token.
    pub(super) fn push(&mut self, token: u32) {
        self.add(token, true);
    }

    fn add(&mut self, token: u32, output: bool) {
        let count = self.counts.entry(token).or_default();
        count.all += 1;
        count.output += u32::from(output);
        let window = self.sampling.penalty_window as usize;
        if window == 0 {
            return;
        }
        self.window.push_back((token, output));
        if self.window.len() > window
            && let Some((oldest, output)) = self.window.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            count.all -= 1;
            count.output -= u32::from(output);
            if count.all == 0 {
                self.counts.remove(&oldest);
            }
        }
    }

    /// Step 2 of the sampler. Tokens are independent, so their order does not matter.
    pub(super) fn apply(&self, fixed: &mut [i64]) {
        for (token, count) in &self.counts {
            if let Some(l) = fixed.get_mut(*token as usize) {
                *l = hold(self.penalised(*l, *count));
            }
        }
    }

    fn penalised(&self, l: i64, count: Count) -> i128 {
        let s = &self.sampling;
        let (l, r) = (i128::from(l), i128::from(s.repetition_micro));
        let l = if l > 0 { l * 1_000_000 / r } else { -(-l * r / 1_000_000) };
        if count.output == 0 {
            return l;
        }
        l - units(i128::from(s.presence_micro) + i128::from(count.output) * i128::from(s.frequency_micro))
    }
}

/// Millionths in units of `2^-24`, rounded down.
fn units(micro: i128) -> i128 {
    (micro << 24).div_euclid(1_000_000)
}

/// Step 3 for one token.
pub(super) fn biased(l: i64, bias_micro: i32) -> i64 {
    hold(i128::from(l) + units(bias_micro.into()))
}

fn hold(l: i128) -> i64 {
    let limit = i128::from(MAX_FIXED);
    // Within the limits it fits.
    l.clamp(-limit, limit) as i64
}
