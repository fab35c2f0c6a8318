//! Random numbers that depend on nothing but their labels: the same on every machine and for every number of threads.

use rand_core::{RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// What a stream of random numbers is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The traits of workers and validators.
    Population,
    /// Demand and routing of an epoch.
    Demand,
    /// What one worker does in an epoch.
    Work,
    /// Committees of an epoch and what they see.
    Votes,
    /// An adaptive attacker's search.
    Search,
    /// How a worker's quality drifts.
    Drift,
    /// What one worker does with the jobs that another failed.
    Retry,
    /// Committees of such jobs.
    RetryVotes,
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream {
    bits: Xoshiro256PlusPlus,
    /// The second of a pair of normal numbers.
    spare: Option<f64>,
}

impl Stream {
    /// The stream of a purpose at a place, such as an epoch and a worker, in the run with this seed.
    pub fn new(seed: u64, purpose: Purpose, place: (u64, u64)) -> Self {
        let label = [purpose as u64, place.0, place.1];
        // SplitMix64's finaliser between the parts: neighbouring labels give unrelated streams.
        let mixed = label.iter().fold(seed, |state, part| mix(state ^ mix(*part)));
        Self { bits: Xoshiro256PlusPlus::seed_from_u64(mixed), spare: None }
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform below a bound (at least 1); biased by less than 2^-32 for bounds below 2^32.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits.next_u64()) * bound.max(1) as u128) >> 64) as usize
    }

    /// Standard normal, by the polar method of Marsaglia, which makes two at a time; `libm` gives every machine the same logarithm.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned_and_apart() {
        let first = |seed, purpose, place| Stream::new(seed, purpose, place).bits.next_u64();
        let a = first(1, Purpose::Work, (2, 3));
        assert_eq!(a, first(1, Purpose::Work, (2, 3)));
        let others = [
            first(2, Purpose::Work, (2, 3)),
            first(1, Purpose::Votes, (2, 3)),
            first(1, Purpose::Work, (3, 2)),
            first(1, Purpose::Work, (2, 4)),
        ];
        assert!(others.iter().all(|b| *b != a));
    }

    #[test]
    fn moments() {
        let mut s = Stream::new(7, Purpose::Population, (0, 0));
        let n = 100_000;
        let (mut sum, mut square, mut uniform) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x = s.normal();
            sum += x;
            square += x * x;
            uniform += s.unit();
        }
        let n = f64::from(n);
        // Five standard errors.
        assert!((sum / n).abs() < 5.0 / n.sqrt());
        assert!((square / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
        assert!((uniform / n - 0.5).abs() < 5.0 / (12.0 * n).sqrt());
        let mut counts = [0u32; 3];
        (0..3000).for_each(|_| counts[s.below(3)] += 1);
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    }
}
