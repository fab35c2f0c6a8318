//! Sessions: keys that spend from an owner's channels within limits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CHAIN_ID, World, address, dn, key};
use dn_core::objects::{SessionGrant, Voucher};
use dn_core::{Amount, ModelId, Signed};
use dn_ledger::events::Event;
use dn_ledger::reject::{Field, SessionFault, SignedObject};
use dn_ledger::state::SESSIONS;
use dn_ledger::views::PageRequest;
use dn_ledger::{Payload, Reject, query};

fn grant(w: &World) -> SessionGrant {
    SessionGrant {
        chain_id: CHAIN_ID,
        owner: address("payer"),
        session: address("session"),
        serial: 5,
        per_call: dn(2),
        total: dn(10),
        models: vec![w.model],
        expires_ms: w.chain.tip().time_ms + 60_000,
    }
}

fn by_owner(body: SessionGrant) -> Payload {
    Payload::GrantSession { grant: Signed::sign(body, &key("payer")) }
}

/// A batch of some receipts for some fees on a lane, claimed by a voucher of the session key.
fn spend(w: &World, lane: u32, receipts: u32, fees: Amount, max: Amount) -> Payload {
    let voucher = Voucher { signer: address("session"), ..w.voucher(lane, max).body };
    let batch = Signed::sign(w.root("worker", vec![w.line(lane, receipts, fees)]), &key("gateway"));
    Payload::PostBatch { batch, vouchers: vec![Signed::sign(voucher, &key("session"))] }
}

fn fault(reject: Reject) -> SessionFault {
    match reject {
        Reject::Session(fault) => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn grants_are_checked() {
    let mut w = World::ready();
    let good = grant(&w);
    let refuse = |change: &dyn Fn(&mut SessionGrant)| {
        let mut body = good.clone();
        change(&mut body);
        w.reject("stranger", by_owner(body))
    };
    let object = SignedObject::SessionGrant;
    assert_eq!(refuse(&|g| g.chain_id = 1), Reject::ChainId { object, expected: CHAIN_ID, found: 1 });
    assert!(matches!(refuse(&|g| g.expires_ms = 1), Reject::ObjectExpired { expires_ms: 1, .. }));
    let expected = address("owner");
    assert_eq!(refuse(&|g| g.owner = expected), Reject::Signature { object, expected });
    let owner = address("payer");
    assert_eq!(fault(refuse(&|g| g.session = owner)), SessionFault::OwnKey { owner });
    let limits = |per_call, total| SessionFault::Limits { per_call, total };
    assert_eq!(fault(refuse(&|g| g.per_call = Amount::ZERO)), limits(Amount::ZERO, dn(10)));
    assert_eq!(fault(refuse(&|g| g.per_call = dn(11))), limits(dn(11), dn(10)));
    let many = |g: &mut SessionGrant| g.models = (0..17).map(|n| ModelId([n; 32])).collect();
    assert_eq!(refuse(&many), Reject::Size { field: Field::Models, min: 0, max: 16, found: 17 });
    let twice = |g: &mut SessionGrant| g.models.push(g.models[0]);
    assert_eq!(fault(refuse(&twice)), SessionFault::ModelsUnsorted { at: 1 });
    // Another key's signature.
    let stolen = Payload::GrantSession { grant: Signed::sign(good.clone(), &key("session")) };
    assert_eq!(
        w.reject("session", stolen),
        Reject::Insufficient {
            account: address("session"),
            available: Amount::ZERO,
            needed: w.genesis.params.min_tx_fee,
        }
    );
    let stolen = Payload::GrantSession { grant: Signed::sign(good.clone(), &key("session")) };
    assert_eq!(w.reject("stranger", stolen), Reject::Signature { object, expected: owner });

    // Anybody brings it, once.
    let events = w.ok("gateway", by_owner(good.clone()));
    assert!(events.iter().any(|e| matches!(e, Event::SessionGranted { serial: 5, .. })));
    let session = address("session");
    let stale = |newest, found| SessionFault::Stale { owner, session, newest, found };
    assert_eq!(fault(w.reject("gateway", by_owner(good.clone()))), stale(5, 5));
    assert_eq!(fault(w.reject("gateway", by_owner(SessionGrant { serial: 4, ..good.clone() }))), stale(5, 4));
    let view = query::sessions(w.state(), owner, &PageRequest::default()).unwrap().items;
    assert_eq!((view.len(), view[0].total, view[0].until_height), (1, dn(10), None));
}

#[test]
fn a_session_spends_within_its_limits() {
    let mut w = World::ready();
    let (owner, session) = (address("payer"), address("session"));
    let one = spend(&w, 0, 2, dn(4), dn(4));
    let channel = w.channel;
    assert_eq!(w.reject("worker", one.clone()), Reject::VoucherSigner { channel, signer: session });
    let mut body = grant(&w);
    body.models.insert(0, ModelId([0; 32]));
    w.ok("payer", by_owner(body));

    let fees = dn(4).checked_add(Amount::from_atto(1)).unwrap();
    assert_eq!(
        fault(w.reject("worker", spend(&w, 0, 2, fees, dn(5)))),
        SessionFault::PerCall { channel, session, per_call: dn(2), receipts: 2, fees }
    );
    // A voucher that somebody else signed in the session's name.
    let forged = Voucher { signer: session, ..w.voucher(0, dn(4)).body };
    let batch = Signed::sign(w.root("worker", vec![w.line(0, 2, dn(4))]), &key("gateway"));
    let vouchers = vec![Signed::sign(forged, &key("stranger"))];
    let object = SignedObject::Voucher;
    assert_eq!(
        w.reject("worker", Payload::PostBatch { batch, vouchers }),
        Reject::Signature { object, expected: session }
    );
    w.ok("worker", spend(&w, 0, 2, dn(4), dn(4)));
    w.sequence += 1;
    // Lanes share the session's budget, and so do several lines of a batch.
    w.ok("worker", spend(&w, 7, 2, dn(4), dn(4)));
    w.sequence += 1;
    assert_eq!(SESSIONS.get(w.state(), &(owner, session)).unwrap().spent, dn(8));
    let fees = dn(3);
    assert_eq!(
        fault(w.reject("worker", spend(&w, 0, 2, fees, dn(9)))),
        SessionFault::Exhausted { channel, session, total: dn(10), spent: dn(8), fees }
    );
    w.ok("worker", spend(&w, 0, 1, dn(2), dn(9)));
    w.sequence += 1;

    // Nothing replaces a session that others rely on. It is taken back, and paid for until the delay is over.
    let next = |w: &World, serial| by_owner(SessionGrant { serial, total: dn(20), ..grant(w) });
    let live = SessionFault::NotOver { owner, session, serial: 5 };
    assert_eq!(fault(w.reject("payer", next(&w, 6))), live);
    let revoke = |serial| Payload::RevokeSession { session, serial };
    let nothing = |newest| SessionFault::NothingToRevoke { owner, session, newest };
    assert_eq!(fault(w.reject("payer", revoke(4))), nothing(5));
    w.ok("payer", revoke(5));
    let until_height = w.height() + w.genesis.params.channel_close_blocks;
    assert_eq!(fault(w.reject("payer", revoke(5))), nothing(5));
    assert_eq!(fault(w.reject("payer", next(&w, 6))), live);
    // Taking more grants back does not give more time.
    w.ok("payer", revoke(6));
    assert_eq!(SESSIONS.get(w.state(), &(owner, session)).unwrap().until_height, Some(until_height));
    w.blocks(until_height - w.height() - 1);
    let fees = Amount::from_atto(1);
    assert_eq!(
        fault(w.reject("worker", spend(&w, 0, 1, fees, dn(9)))),
        SessionFault::Exhausted { channel, session, total: dn(10), spent: dn(10), fees }
    );
    w.blocks(1);
    let denied = SessionFault::Revoked { channel, session, until_height };
    assert_eq!(fault(w.reject("worker", spend(&w, 0, 1, fees, dn(9)))), denied);
    // What was signed before is no way back; what is signed after is, with a new budget.
    for found in [5, 6] {
        let stale = SessionFault::Stale { owner, session, newest: 6, found };
        assert_eq!(fault(w.reject("gateway", next(&w, found))), stale);
    }
    w.ok("gateway", next(&w, 7));
    assert_eq!(SESSIONS.get(w.state(), &(owner, session)).unwrap().spent, Amount::ZERO);
    w.ok("worker", spend(&w, 0, 1, dn(1), dn(9)));
    w.sequence += 1;
    w.ok("payer", revoke(7));
    w.blocks(w.genesis.params.channel_close_blocks + 1);
    // Grants that were signed but never registered can be taken back as well.
    w.ok("payer", revoke(8));
    let found = 8;
    let old = by_owner(SessionGrant { serial: found, ..grant(&w) });
    assert_eq!(fault(w.reject("gateway", old)), SessionFault::Stale { owner, session, newest: 8, found });
    w.ok("payer", by_owner(SessionGrant { serial: 9, models: vec![ModelId([9; 32])], ..grant(&w) }));
    assert_eq!(
        fault(w.reject("worker", spend(&w, 0, 1, dn(1), dn(10)))),
        SessionFault::Model { channel, session, model: w.model }
    );
    w.ok("payer", revoke(9));
    w.blocks(w.genesis.params.channel_close_blocks + 1);
    // No models in the grant are all models. Then time passes.
    let expires_ms = w.chain.tip().time_ms + 3_500;
    w.ok("payer", by_owner(SessionGrant { serial: 10, models: vec![], expires_ms, ..grant(&w) }));
    w.ok("worker", spend(&w, 0, 1, dn(1), dn(10)));
    w.sequence += 1;
    w.blocks(2);
    let now_ms = w.chain.tip().time_ms + 1_000;
    assert_eq!(
        fault(w.reject("worker", spend(&w, 0, 1, dn(1), dn(10)))),
        SessionFault::Expired { channel, session, expires_ms, now_ms }
    );
}

/// The grant is the payer's: on others' channels the key is a stranger's.
#[test]
fn a_session_reaches_only_its_owners_channels() {
    let mut w = World::ready();
    let mut body = grant(&w);
    body.owner = address("stranger");
    w.ok("stranger", Payload::GrantSession { grant: Signed::sign(body, &key("stranger")) });
    let (channel, signer) = (w.channel, address("session"));
    assert_eq!(w.reject("worker", spend(&w, 0, 1, dn(1), dn(1))), Reject::VoucherSigner { channel, signer });
}

/// A revocation that comes first makes a grant that was signed but never registered worthless.
#[test]
fn a_grant_can_be_taken_back_before_it_is_known() {
    let mut w = World::ready();
    let (owner, session) = (address("payer"), address("session"));
    w.ok("payer", Payload::RevokeSession { session, serial: 5 });
    assert_eq!(
        fault(w.reject("gateway", by_owner(grant(&w)))),
        SessionFault::Stale { owner, session, newest: 5, found: 5 }
    );
}
