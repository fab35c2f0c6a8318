use super::*;
use crate::receipt::tests::{receipt, request};
use dn_core::objects::FinishReason;

const CHAIN: u64 = 31;

fn spender() -> SecretKey {
    SecretKey::from_bytes(&[7; 32]).unwrap()
}

fn record_on(lane: u32, tokens: &[u32]) -> ReceiptRecord {
    let request = JobRequest { lane, nonce: [lane as u8; 16], ..request() };
    let receipt = receipt(&request, tokens, FinishReason::Stop);
    ReceiptRecord { receipt, request, output: tokens.to_vec(), logprobs: Vec::new(), assignments: Vec::new() }
}

fn settle(
    store: &GatewayStore,
    record: &ReceiptRecord,
    key: Option<&SecretKey>,
) -> Result<LaneState, ChargeError> {
    let idempotency =
        IdempotencyRecord { body: Hash32([1; 32]), receipt: record.receipt.body.id(), settled_ms: 5 };
    let idempotency = Some((Hash32([2; 32]), idempotency));
    store.settle(&Settlement { record, spending_key: key, voucher_expires_ms: 99, idempotency })
}

fn voucher(lane: u32, max: u64) -> Signed<Voucher> {
    let body = Voucher {
        chain_id: CHAIN,
        channel: request().channel,
        lane,
        max_claimable: Amount::from_atto(max.into()),
        signer: spender().address(),
        expires_ms: 99,
    };
    Signed::sign(body, &spender())
}

#[test]
fn a_settled_call_is_there_after_a_restart_and_its_voucher_covers_the_charge() {
    let dir = tempfile::tempdir().unwrap();
    let open = || GatewayStore::open(dir.path(), CHAIN, Address([2; 20])).unwrap();
    let record = record_on(0, &[7, 8]);
    let fee = record.receipt.body.fee;
    settle(&open(), &record, Some(&spender())).unwrap();
    let store = open();
    let lanes = store.lanes().unwrap();
    assert_eq!((lanes[0].charged, lanes[0].max_claimable()), (fee, fee));
    assert_eq!(lanes[0].voucher.as_ref().unwrap().verify_any_time(CHAIN), Ok(()));
    assert_eq!(store.receipt(record.receipt.body.id()).unwrap(), Some(record.clone()));
    let kept = store.idempotency(Hash32([2; 32])).unwrap().unwrap();
    assert_eq!(kept.receipt, record.receipt.body.id());
    let second = settle(&store, &record_on(0, &[7]), Some(&spender())).unwrap();
    assert!(second.charged > fee && second.max_claimable() == second.charged);
    store.prune_idempotency(6).unwrap();
    assert_eq!(store.idempotency(Hash32([2; 32])).unwrap(), None);
}

#[test]
fn vouchers_only_rise_and_bound_what_is_charged() {
    let dir = tempfile::tempdir().unwrap();
    let store = GatewayStore::open(dir.path(), CHAIN, Address([2; 20])).unwrap();
    store.accept_voucher(&voucher(1, 20), false).unwrap();
    store.accept_voucher(&voucher(1, 20), false).unwrap();
    let lower = store.accept_voucher(&voucher(1, 19), false).unwrap_err();
    assert!(
        matches!(lower, ChargeError::Lower { accepted, found } if accepted.atto() == 20 && found.atto() == 19)
    );
    assert_eq!(store.lanes().unwrap()[0].max_claimable().atto(), 20);
    // 3 prompt tokens at 2 and 2 output tokens at 5: 16.
    let record = record_on(1, &[7, 8]);
    assert_eq!(settle(&store, &record, None).unwrap().charged.atto(), 16);
    let over = settle(&store, &record_on(1, &[9]), None).unwrap_err();
    assert!(matches!(over, ChargeError::Over { .. }));
    let unknown = store.receipt(record_on(1, &[9]).receipt.body.id()).unwrap();
    assert_eq!(unknown, None, "a refused charge leaves nothing behind");
    assert_eq!(store.lanes().unwrap()[0].charged.atto(), 16);
}

#[test]
fn keys_have_lanes_of_their_own_and_are_kept_as_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let store = GatewayStore::open(dir.path(), CHAIN, Address([2; 20])).unwrap();
    let channel = request().channel;
    store.accept_voucher(&voucher(0, 1), false).unwrap();
    let new = NewKey {
        payer: Address([1; 20]),
        channel,
        spending_key: spender(),
        label: "label".into(),
        created_ms: 1,
    };
    let add = |text: &str, limit| store.add_key(key_hash(text), &new, limit, &[]).unwrap();
    assert_eq!(add("dn-secret-a", 3).unwrap().lane, 1);
    assert_eq!(add("dn-secret-b", 3).unwrap().lane, 2);
    assert!(add("dn-secret-c", 3).is_none(), "no lane is left");
    let found = store.key(key_hash("dn-secret-a")).unwrap().unwrap();
    assert_eq!(found.spending_key().unwrap().address(), spender().address());
    assert!(!format!("{found:?}").contains("07"), "keys are never printed: {found:?}");
    assert_eq!(store.key(key_hash("dn-secret-x")).unwrap(), None);
    let taken = store.accept_voucher(&voucher(1, 5), false).unwrap_err();
    assert!(matches!(taken, ChargeError::LaneTaken { lane: 1 }));
    drop(store);
    let bytes = std::fs::read(dir.path().join("gateway.redb")).unwrap();
    assert!(!bytes.windows(11).any(|window| window == b"dn-secret-a"));
}

#[test]
fn a_lane_of_a_session_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = GatewayStore::open(dir.path(), CHAIN, Address([2; 20])).unwrap();
    let by = |lane: u32, max: u64, n: u8| {
        let key = SecretKey::from_bytes(&[n; 32]).unwrap();
        let body = Voucher { signer: key.address(), ..voucher(lane, max).body };
        Signed::sign(body, &key)
    };
    store.accept_voucher(&by(0, 5, 1), false).unwrap();
    let taken = store.accept_voucher(&by(0, 9, 2), true).unwrap_err();
    assert!(matches!(taken, ChargeError::OtherSigner { lane: 0 }), "{taken}");
    store.accept_voucher(&by(1, 5, 2), true).unwrap();
    store.accept_voucher(&by(1, 6, 2), true).unwrap();
    let other = store.accept_voucher(&by(1, 9, 3), true).unwrap_err();
    assert!(matches!(other, ChargeError::OtherSigner { lane: 1 }), "{other}");
    // The owner may take over: the ledger then counts nothing towards the session.
    store.accept_voucher(&by(1, 9, 1), false).unwrap();
}
