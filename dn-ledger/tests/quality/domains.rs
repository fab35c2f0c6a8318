//! What a committee says of an owner is said of its models in one domain.

use dn_core::objects::{AuditOutcome, BatchLine};
use dn_core::{Amount, Signed};
use dn_ledger::Payload;
use dn_ledger::events::Event;
use dn_ledger::state::QUALITIES;
use dn_ledger::tx::DomainTerms;
use dn_trust::Unit;

use crate::common::{address, dn, key, manifest, offer, price};
use crate::{Scene, percent};

/// Emission for work in a domain of which nothing was said, after the committee said `score` of the same owner in another one.
fn emitted_elsewhere_after(score: Unit) -> Amount {
    let mut s = Scene::open(0);
    s.play(s.seal(None), &[score, score]);
    s.settle();
    let said = |domain| QUALITIES.get(s.w.state(), &(domain, address("owner"))).map(|said| said.quality);
    assert_eq!((said(0), said(1)), (Some(score), None));
    let (manifest, fees) = (manifest(8), dn(10));
    let (model, name) = (manifest.id(), "elsewhere".to_owned());
    s.w.ok("stranger", Payload::CreateDomain { name: name.clone(), terms: DomainTerms::default() });
    s.w.ok("owner", Payload::PublishModel { manifest, name, price: price(), domain: 1, salt: None });
    s.w.ok("worker", offer(model));
    let line = BatchLine { model, domain: 1, ..s.w.line(0, 2, fees) };
    let batch = Signed::sign(s.w.root("worker", vec![line]), &key("gateway"));
    let vouchers = vec![s.w.voucher(0, s.claimed.checked_add(fees).unwrap())];
    s.w.ok("worker", Payload::PostBatch { batch, vouchers });
    let mut events = s.w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    for _ in 0..60 {
        let emitted = events.iter().find_map(|e| match e {
            Event::EpochClosed { emitted, .. } if !emitted.is_zero() => Some(*emitted),
            _ => None,
        });
        if let Some(emitted) = emitted {
            return emitted;
        }
        events = s.w.blocks(1);
    }
    panic!("nothing was emitted");
}

/// An owner whose models are bad at one thing is not paid less for what they do elsewhere, and no more either.
#[test]
fn a_score_counts_in_its_domain_alone() {
    assert_eq!(emitted_elsewhere_after(percent(20)), emitted_elsewhere_after(percent(100)));
}
