//! What the referee's work is bounded by.

pub(crate) mod largest;

use std::ops::Range;

use dn_core::merkle::{InclusionProof, fold, leaf_hash, root_hash};
use dn_core::objects::{Hyperparameters, JobRequest, ModelManifest, RopePairing, RopeScaling};
use dn_core::{Canonical, Hash32, JobId};

use super::super::meter::{self, Work};
use crate::tensors::Tile;
use crate::trace::Leaf;
use crate::verify::claim::{
    Claim, KeyBlock, KeyTerm, MAX_BYTES, Opening, Parts, PastEntry, RANGE, RequestSlice, Subject, Sum,
    WeightSlice,
};
use crate::verify::plan::Stage;
use crate::verify::referee::{Verdict, referee};
use crate::verify::slice::Slice;

/// Steps that do not depend on what is opened: an angle under YaRN, heads, fields.
const FIXED_STEPS: usize = 40_000;

/// What `bytes` of claim and opening may cost: each byte is hashed once and each node with its neighbour; and a value has a
/// byte at least and is touched a few times.
fn bounded(work: Work, bytes: usize, name: &str) {
    assert!(work.hashed <= 2 * bytes + 1024, "{name}: {work:?} of {bytes} bytes");
    assert!(work.steps <= 2 * bytes + FIXED_STEPS, "{name}: {work:?} of {bytes} bytes");
}

#[test]
fn the_referees_work_on_the_largest_claims_is_bounded() {
    let mut most = 0;
    for case in largest::cases() {
        let (claim, opening) = (case.claim.to_bytes(), case.opening.to_bytes());
        let size = claim.len() + opening.len();
        assert!(size <= MAX_BYTES, "{}: {size} bytes", case.name);
        meter::take();
        let verdict = referee(&claim, &opening);
        let work = meter::take();
        assert_eq!(verdict, Ok(Verdict::Consistent), "{}", case.name);
        assert!(work.hashed > 1024, "{}: {work:?} is counted", case.name);
        bounded(work, size, case.name);
        most = most.max(size);
    }
    assert!(most > MAX_BYTES - 1024, "the largest has {most} bytes");
}

#[test]
fn the_referees_work_on_what_does_not_fit_is_bounded() {
    let cases = largest::cases();
    for one in &cases {
        for other in &cases {
            let (claim, opening) = (one.claim.to_bytes(), other.opening.to_bytes());
            meter::take();
            let verdict = referee(&claim, &opening);
            bounded(meter::take(), claim.len() + opening.len(), one.name);
            assert!(!matches!(verdict, Ok(Verdict::Fraud { .. })), "{} by {}", one.name, other.name);
        }
    }
}
