//! Canonical decoding of every object: no panic, and whatever decodes is the one encoding of its value.
//! `dn-core/tests/objects.rs` tries the same law on every test run.
#![no_main]

use dn_core::merkle::InclusionProof;
use dn_core::objects::{BatchRoot, JobRequest, ModelManifest, Receipt, SessionGrant, Verdict, Voucher};
use dn_core::{Canonical, Signed};
use libfuzzer_sys::fuzz_target;

fn canonical<T: Canonical>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}

// The first byte chooses the type.
fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    match which % 8 {
        0 => canonical::<JobRequest>(bytes),
        1 => canonical::<Signed<Receipt>>(bytes),
        2 => canonical::<Signed<Voucher>>(bytes),
        3 => canonical::<Signed<BatchRoot>>(bytes),
        4 => canonical::<ModelManifest>(bytes),
        5 => canonical::<Verdict>(bytes),
        6 => canonical::<Signed<SessionGrant>>(bytes),
        _ => canonical::<InclusionProof>(bytes),
    }
});
