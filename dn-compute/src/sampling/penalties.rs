//! What repetition, presence and frequency penalties remember of the tokens before.

use std::collections::{HashMap, VecDeque};

use dn_core::objects::Sampling;

use super::transform::{Count, penalised};

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
                *l = penalised(*l, &self.sampling, *count);
            }
        }
    }
}
