use dn_core::Canonical;
use proptest::prelude::*;

use super::*;

const ONE: Weight = Weight::ONE;

fn share(part: u64, of: u64) -> Weight {
    Weight::from_bits((1 << 16) * part / of)
}
