//! Committees drawn in proportion to weight.

use crate::rng::Stream;

/// Draws distinct members in proportion to their weights, one after another without putting back. Stops early when no weight is left.
pub(super) struct Urn {
    weights: Vec<f64>,
    total: f64,
    /// Weights of those who are drawn.
    taken: Vec<f64>,
}

impl Urn {
    pub(super) fn new(weights: Vec<f64>) -> Self {
        let total = weights.iter().sum();
        Self { weights, total, taken: Vec::new() }
    }

    /// Draws up to `count` members into `out`.
    pub(super) fn draw(&mut self, count: usize, stream: &mut Stream, out: &mut Vec<usize>) {
        out.clear();
        self.taken.clear();
        let mut left = self.total;
        while out.len() < count {
            let mut at = stream.unit() * left;
            let mut last = None;
            for (i, weight) in self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                last = Some(i);
                at -= weight;
                if at < 0.0 {
                    break;
                }
            }
            // Rounding may leave a sliver after the last.
            let Some(drawn) = last else { break };
            left -= self.weights[drawn];
            // Out of the urn until all are drawn.
            self.taken.push(std::mem::take(&mut self.weights[drawn]));
            out.push(drawn);
        }
        for (i, weight) in out.iter().zip(&self.taken) {
            self.weights[*i] = *weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn first_draws_follow_the_weights_and_none_comes_twice() {
        let mut urn = Urn::new(vec![1.0, 0.0, 3.0, 4.0]);
        let mut stream = Stream::new(5, Purpose::Votes, (0, 0));
        let (mut out, mut firsts) = (Vec::new(), [0u32; 4]);
        for _ in 0..8_000 {
            urn.draw(3, &mut stream, &mut out);
            assert_eq!(out.len(), 3);
            let mut sorted = out.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 2, 3]);
            firsts[out[0]] += 1;
        }
        for (found, want) in firsts.into_iter().zip([1_000, 0, 3_000, 4_000]) {
            assert!(found.abs_diff(want) < 200, "{firsts:?}");
        }
        urn.draw(9, &mut stream, &mut out);
        assert_eq!(out.len(), 3, "no weight is left");
        Urn::new(vec![0.0]).draw(1, &mut stream, &mut out);
        assert!(out.is_empty());
    }
}
