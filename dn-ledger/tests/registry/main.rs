//! Domains, model families with lineage and backers, and job escrow: what each transaction does, each way it is refused, and
//! what must hold whatever is tried.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod backing;
mod bonds;
mod commitments;
mod domains;
mod families;
mod inexact;
mod jobs;
mod lineage;
mod wash;

use common::{World, address, dn, key, manifest, price};
use dn_core::objects::AuditOutcome;
use dn_core::{Amount, ModelId, Signed};
use dn_ledger::events::Event;
use dn_ledger::reject::RegistryReject;
use dn_ledger::state::LANES;
use dn_ledger::tx::{Licence, NewVersion};
use dn_ledger::{Payload, Reject, Role};

/// A registration as model owner.
fn model_owner() -> Payload {
    Payload::Register {
        role: Role::ModelOwner,
        collateral: dn(10),
        name: "n".into(),
        endpoint: String::new(),
    }
}

/// A model of its own family that anybody may derive from for 5 %.
fn version(tag: u8) -> NewVersion {
    NewVersion {
        family: None,
        manifest: manifest(tag),
        name: "m".into(),
        price: price(),
        domain: 0,
        licence: Licence { id: "MIT".into(), derivatives: true, commercial: true, royalty_bps: 500 },
        parents: vec![],
        fees: None,
        backing: None,
        salt: None,
    }
}

fn publish(w: &mut World, name: &str, version: NewVersion) -> ModelId {
    let id = version.manifest.id();
    w.ok(name, Payload::PublishVersion { version });
    id
}

/// Why the registry's own rules refuse a payload.
fn refused(w: &World, name: &str, payload: Payload) -> RegistryReject {
    match w.reject(name, payload) {
        Reject::Registry(why) => why,
        other => panic!("{other}"),
    }
}

/// Why publishing is refused, by whatever rule.
fn unpublished(w: &World, name: &str, version: NewVersion) -> Reject {
    w.reject(name, Payload::PublishVersion { version })
}

/// Posts a batch of one line by a worker for a model of a domain.
fn post(w: &mut World, worker: &str, model: ModelId, domain: u32, fees: Amount) {
    let mut line = w.line(0, 1, fees);
    (line.model, line.domain) = (model, domain);
    let body = dn_core::objects::BatchRoot {
        sequence: dn_ledger::state::WORKER_SEQUENCES.get_or_default(w.state(), &address(worker)),
        ..w.root(worker, vec![line])
    };
    let claimed = LANES.get_or_default(w.state(), &(w.channel, 0));
    let vouchers = vec![w.voucher(0, claimed.checked_add(fees).unwrap())];
    w.ok(worker, Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
}

/// A paid, audited and settled batch; what happened since its audit.
fn earn(w: &mut World, model: ModelId, domain: u32, fees: Amount) -> Vec<Event> {
    post(w, "worker", model, domain, fees);
    w.audit_all(|_, _| Some(AuditOutcome::Match {}))
}

fn bps(amount: Amount, part: u128) -> Amount {
    amount.mul_div(part, 10_000).unwrap()
}

fn plus(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap()
}

/// What somebody gained, transaction fees aside.
fn gained(before: Amount, after: Amount) -> Amount {
    after.checked_sub(before).unwrap()
}
