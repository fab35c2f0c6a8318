//! Committees drawn in proportion to weight.

use crate::rng::Stream;

/// Draws distinct members in proportion to their weights, one after another without putting back. Stops early when no weight is left.
pub(super) struct Urn {
    weights: Vec<f64>,
    /// The weights up to each member, with it.
    sums: Vec<f64>,
    total: f64,
}

impl Urn {
    pub(super) fn new(weights: Vec<f64>) -> Self {
        let mut total = 0.0;
        let up_to = |weight: &f64| {
            total += weight;
            total
        };
        let sums = weights.iter().map(up_to).collect();
        Self { weights, sums, total }
    }

    /// Draws up to `count` members into `out`.
    pub(super) fn draw(&self, count: usize, stream: &mut Stream, out: &mut Vec<usize>) {
        out.clear();
        let mut left = self.total;
        while out.len() < count {
            // Whoever is drawn again is put back, as long as that is seldom.
            let drawn =
                if left > self.total / 2.0 { self.again(stream, out) } else { self.rest(left, stream, out) };
            let Some(drawn) = drawn else { break };
            left -= self.weights[drawn];
            out.push(drawn);
        }
    }

    fn again(&self, stream: &mut Stream, out: &[usize]) -> Option<usize> {
        loop {
            let at = stream.unit() * self.total;
            // Members without weight have the sum of the one before. Few sums are compared faster all than by halves.
            let drawn = self.sums.iter().filter(|sum| **sum <= at).count();
            // Rounding may lead past the last.
            if drawn < self.sums.len() && !out.contains(&drawn) {
                return Some(drawn);
            }
        }
    }

    /// One of those who are not drawn yet.
    fn rest(&self, left: f64, stream: &mut Stream, out: &[usize]) -> Option<usize> {
        let mut at = stream.unit() * left;
        let mut last = None;
        for (i, weight) in self.weights.iter().enumerate() {
            if *weight > 0.0 && !out.contains(&i) {
                last = Some(i);
                at -= weight;
                if at < 0.0 {
                    break;
                }
            }
        }
        // Rounding may leave a sliver after the last.
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn first_draws_follow_the_weights_and_none_comes_twice() {
        let urn = Urn::new(vec![1.0, 0.0, 3.0, 4.0]);
        let mut stream = Stream::new(5, Purpose::Votes, (0, 0));
        let (mut out, mut firsts, mut lasts) = (Vec::new(), [0u32; 4], [0u32; 4]);
        for _ in 0..8_000 {
            urn.draw(3, &mut stream, &mut out);
            assert_eq!(out.len(), 3);
            let mut sorted = out.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 2, 3]);
            firsts[out[0]] += 1;
            lasts[out[2]] += 1;
        }
        for (found, want) in firsts.into_iter().zip([1_000, 0, 3_000, 4_000]) {
            assert!(found.abs_diff(want) < 200, "{firsts:?}");
        }
        // The last is the one that the first two left: for the first member 3/8 × 4/5 + 4/8 × 3/4, and so on.
        for (found, want) in lasts.into_iter().zip([5_400, 0, 1_571, 1_029]) {
            assert!(found.abs_diff(want) < 200, "{lasts:?}");
        }
        urn.draw(9, &mut stream, &mut out);
        assert_eq!(out.len(), 3, "no weight is left");
        Urn::new(vec![0.0]).draw(1, &mut stream, &mut out);
        assert!(out.is_empty());
    }
}
