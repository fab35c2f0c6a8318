//! What several modules' tests share.

use rand_core::{CryptoRng, Error, RngCore};

use crate::hash::keccak256;

/// A generator for tests: Keccak-256 of a counter, the same on every run.
pub(crate) struct Counter(pub(crate) u64);

impl RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        let hash = keccak256(&[&self.0.to_le_bytes()]);
        u64::from_le_bytes(hash[..8].try_into().expect("8 of 32 bytes"))
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = self.next_u64() as u8;
        }
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Counter {}
