//! Models whose results nobody can check: not audited, worth less, and never in one batch with others.

use dn_core::Amount;
use dn_core::objects::{AuditOutcome, BatchRoot, NO_NUMERIC_SPEC};
use dn_core::{ModelId, Signed};
use dn_ledger::events::Event;
use dn_ledger::reject::{ManifestFault, Reject};
use dn_ledger::state::{EPOCH_WORK, EpochWork, WORKER_EPOCHS};
use dn_ledger::tx::NewVersion;
use dn_ledger::{Payload, supply};

use crate::common::{World, address, dn, key, manifest, offer, params};
use crate::{post, publish, unpublished, version};

fn loose(tag: u8) -> NewVersion {
    let mut manifest = manifest(tag);
    manifest.numeric_spec = NO_NUMERIC_SPEC;
    NewVersion { manifest, ..version(tag) }
}

/// A batch of a hundred receipts at a rate of one; what happened until it was settled, and what its work counted for then.
fn settled(version: NewVersion) -> (World, Vec<Event>, EpochWork) {
    let mut params = params();
    params.epoch_blocks = 200;
    (params.audit_rate.floor, params.audit_rate.ceiling) = (10_000, 10_000);
    let mut w = World::with(params);
    w.prepare();
    let model = publish(&mut w, "owner", version);
    w.ok("worker", offer(model));
    post(&mut w, "worker", model, 0, dn(1));
    let mut events = Vec::new();
    while !events.iter().any(|e| matches!(e, Event::BatchSettled { .. })) {
        events.extend(w.audit_all(|_, _| Some(AuditOutcome::Match {})));
    }
    let work = EPOCH_WORK.get(w.state(), &(0, 0, (address("worker"), address("owner")))).unwrap();
    (w, events, work)
}

#[test]
fn work_that_nobody_can_check_is_not_audited_and_counts_less() {
    let (_, exact, full) = settled(version(40));
    let (w, loose, part) = settled(loose(41));
    let audits =
        |events: &[Event]| events.iter().filter(|e| matches!(e, Event::AuditAssigned { .. })).count();
    assert_eq!((audits(&exact), audits(&loose)), (1, 0));
    // Paid alike.
    let fees = |events: &[Event]| {
        let fee = |e: &Event| match e {
            Event::BatchSettled { fees, to_worker, burned, .. } => Some((*fees, *to_worker, *burned)),
            _ => None,
        };
        events.iter().find_map(fee).unwrap()
    };
    assert_eq!(fees(&exact), fees(&loose));
    assert_eq!(fees(&loose).0, dn(1));
    // The preset's quarter.
    assert!(full.counted > 1_000);
    assert_eq!(part.counted, full.counted / 4);
    assert_eq!(part.weighted, full.weighted / full.counted * part.counted);
    // Nothing was found right.
    let passed = WORKER_EPOCHS.get(w.state(), &address("worker")).unwrap();
    let honest = settled(version(40)).0;
    assert_ne!(Some(passed), WORKER_EPOCHS.get(honest.state(), &address("worker")));
    assert_eq!(supply::check_all(w.state()), Ok(()));
}

#[test]
fn exact_models_and_others_are_not_mixed() {
    let mut w = World::ready();
    let model = publish(&mut w, "owner", loose(41));
    w.ok("worker", offer(model));
    let fees = Amount::from_atto(1_000);
    let mut lines = vec![w.line(0, 1, fees), w.line(0, 1, fees)];
    lines[1].model = model;
    lines.sort_by_key(|line| line.model);
    let second = lines[1].model;
    let batch = Signed::sign(BatchRoot { ..w.root("worker", lines) }, &key("gateway"));
    let vouchers = vec![w.voucher(0, Amount::from_atto(2_000))];
    let refused = w.reject("worker", Payload::PostBatch { batch, vouchers });
    assert_eq!(refused, Reject::LineExactness { line: 1, model: second, exact: second != model });
}

#[test]
fn a_numeric_spec_that_does_not_exist_is_no_spec() {
    let w = World::ready();
    let mut version = version(41);
    version.manifest.numeric_spec = 2;
    let what = ManifestFault::NumericSpec;
    assert_eq!(unpublished(&w, "owner", version), Reject::Manifest { what });
    assert_ne!(loose(41).manifest.id(), ModelId::ZERO);
}
