//! Numbers that are the same everywhere.

/// SplitMix64: a repeatable source of numbers, for cases and for files whose content does not matter. Begins with any seed.
///
/// # Source
/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
#[derive(Debug, Clone)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not zero.
    pub const fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// In `[-1, 1)`.
    pub const fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that the paper's algorithm gives for seed 0, as other implementations have them.
    #[test]
    fn the_numbers_are_the_known_ones() {
        let mut rng = SplitMix64(0);
        let first = [0; 3].map(|_| rng.next());
        assert_eq!(first, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }
}
