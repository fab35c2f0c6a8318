use dn_core::objects::{BatchRoot, FinishReason, Voucher};
use dn_core::{Address, Canonical, Hash32, SecretKey, Signed};
use dn_ledger::{Payload, Tx};
use proptest::prelude::*;

use super::*;
use crate::batch::batch_lines;
use crate::receipt::tests::{receipt, request};

/// A thousandth of a DN for each KiB, as chains begin with.
const FEE: Amount = Amount::from_atto(1_000_000_000_000_000);

fn call(exact: bool, channel: u8, lane: u32, model: u8, fee: u128, expires_ms: u64) -> Receipt {
    let body = receipt(&request(), &[1, 2], FinishReason::Length).body;
    Receipt {
        numeric_spec: u16::from(exact),
        channel: ChannelId([channel; 32]),
        lane,
        model: ModelId([model; 32]),
        fee: Amount::from_atto(fee),
        expires_ms,
        ..body
    }
}

fn choose(receipts: &[Receipt], limit: usize) -> Chosen {
    let mut waiting = Waiting::default();
    receipts.iter().for_each(|receipt| waiting.add(receipt));
    waiting.choose(limit, FEE)
}

fn chosen(receipts: &[Receipt], limit: usize) -> Vec<&Receipt> {
    let chosen = choose(receipts, limit);
    receipts.iter().filter(|receipt| chosen.has(receipt)).collect()
}

/// What the ledger asks for a batch of these receipts.
fn cost(receipts: &[&Receipt]) -> (usize, u128) {
    let key = SecretKey::from_bytes(&[7; 32]).unwrap();
    let lines = batch_lines(receipts.iter().copied()).unwrap();
    let lanes: BTreeSet<_> = lines.iter().map(|line| (line.channel, line.lane)).collect();
    let voucher = |(channel, lane): (ChannelId, u32)| Voucher {
        chain_id: 1,
        channel,
        lane,
        max_claimable: FEE,
        signer: Address([1; 20]),
        expires_ms: 1,
    };
    let vouchers = lanes.into_iter().map(|lane| Signed::sign(voucher(lane), &key)).collect();
    let batch = BatchRoot {
        chain_id: 1,
        worker: Address([1; 20]),
        gateway: Address([2; 20]),
        sequence: 1,
        root: Hash32([3; 32]),
        count: 1,
        lines,
        expires_ms: 1,
    };
    let payload = Payload::PostBatch { batch: Signed::sign(batch, &key), vouchers };
    let (sender, fee) = (Address([1; 20]), Amount::ZERO);
    let tx = Tx { chain_id: 1, sender, nonce: 1, expires_height: 1, fee, payload };
    (tx.to_bytes().len(), tx.least_fee(FEE).atto())
}

#[test]
fn bytes_are_those_of_the_transaction() {
    let none: [&Receipt; 0] = [];
    assert_eq!(cost(&none).0, HEAD_BYTES);
    let (a, b, c) = (call(true, 1, 0, 1, 5, 9), call(true, 1, 1, 1, 5, 9), call(true, 1, 1, 2, 5, 9));
    assert_eq!(cost(&[&a, &b, &c]).0, HEAD_BYTES + 2 * VOUCHER_BYTES + 3 * LINE_BYTES);
}

/// Cheap calls on many lanes ride in the room that is left, and a call that pays is not kept waiting by any number of them.
#[test]
fn dust_on_many_lanes_rides_where_there_is_room() {
    let mut receipts: Vec<_> = (0..250).map(|lane| call(true, 1, lane, 1, 1, 5)).collect();
    receipts.push(call(true, 2, 0, 1, 2 * FEE.atto(), 9));
    let batch = chosen(&receipts, 4_096);
    assert!(batch.iter().any(|receipt| receipt.channel == ChannelId([2; 32])));
    assert_eq!((batch.len(), cost(&batch).1), (3, FEE.atto()), "what fits into the first KiB");
    assert!(choose(&receipts, 4_096).pays(FEE));
    // Where it is all that waits, a batch of it does not pay.
    assert_eq!(chosen(&receipts[..250], 4_096).len(), 3);
    assert!(!choose(&receipts[..250], 4_096).pays(FEE));
    // The batch may have few receipts.
    let batch = chosen(&receipts, 1);
    assert_eq!((batch.len(), batch[0].channel), (1, ChannelId([2; 32])));
    // Ten calls of a lane together pay for it.
    let more = (0..10).map(|n| call(true, 1, 249, 1, FEE.atto() / 10, 5 + n));
    let lanes: Vec<_> = (0..249).map(|lane| call(true, 1, lane, 1, 1, 5)).chain(more).collect();
    assert_eq!(chosen(&lanes, 4_096).iter().filter(|receipt| receipt.lane == 249).count(), 10);
}

/// A lane is judged by what of it goes, not by all that waits on it.
#[test]
fn many_small_receipts_do_not_pass_for_a_large_one() {
    let small = |n: u64| call(true, 1, 0, 1, FEE.atto() / 500, n);
    let mut receipts: Vec<_> = (0..5_000).map(small).collect();
    assert!(choose(&receipts, 4_096).pays(FEE), "eight times the fee");
    assert!(!choose(&receipts, 48).pays(FEE), "a tenth of it");
    // What pays goes first, though all others on its lane expire before it.
    receipts.push(call(true, 1, 0, 1, 2 * FEE.atto(), 9_999));
    let batch = choose(&receipts, 48);
    assert!(batch.pays(FEE) && batch.has(&receipts[5_000]));
}

/// Nor do cheap calls for other models keep a dear one waiting.
#[test]
fn cheap_lines_do_not_spoil_a_lane() {
    let mut receipts: Vec<_> = (2..100).map(|model| call(true, 1, 0, model, 1, 5)).collect();
    receipts.push(call(true, 1, 0, 1, 2 * FEE.atto(), 9));
    let batch = choose(&receipts, 4_096);
    assert!(batch.pays(FEE) && batch.has(&receipts[98]));
    assert_eq!(chosen(&receipts, 4_096), [&receipts[98]]);
}

/// Lanes that pay, and receipts on them, go by what expires first, whoever brings more.
#[test]
fn nobody_who_pays_waits_for_ever() {
    let receipts: Vec<_> =
        (0..20u8).map(|n| call(true, n, 0, 1, FEE.atto() * u128::from(20 - n), 100 - u64::from(n))).collect();
    let batch = chosen(&receipts, 4);
    assert_eq!(batch.iter().map(|receipt| receipt.expires_ms).collect::<Vec<_>>(), [84, 83, 82, 81]);
    let lane: Vec<_> = (0..20).map(|n| call(true, 1, 0, 1, FEE.atto() * u128::from(n + 1), 50 + n)).collect();
    assert_eq!(chosen(&lane, 3).iter().map(|receipt| receipt.expires_ms).collect::<Vec<_>>(), [50, 51, 52]);
}

/// Receipts that can be checked, and those that cannot, go into batches of their own, and neither kind waits for the other for ever.
#[test]
fn a_batch_is_of_one_kind() {
    let (checked, loose) = (call(true, 1, 0, 1, 5, 9), call(false, 1, 0, 2, 1, 8));
    assert_eq!(chosen(&[checked.clone(), loose.clone()], 9), [&loose], "it expires first");
    assert_eq!(chosen(std::slice::from_ref(&checked), 9), [&checked]);
    let more = call(true, 1, 1, 1, 2 * FEE.atto(), 12);
    assert_eq!(chosen(&[checked.clone(), loose, more.clone()], 9), [&checked, &more], "they pay");
    assert!(choose(&[], 9).is_empty());
}

/// More models on a lane than a batch has lines: as many as it has go.
#[test]
fn a_lane_of_many_models_is_not_stuck() {
    let models = (0..300u16).map(|n| {
        let mut receipt = call(true, 1, 0, 1, FEE.atto(), 9);
        receipt.model.0[..2].copy_from_slice(&n.to_be_bytes());
        receipt
    });
    assert_eq!(chosen(&models.collect::<Vec<_>>(), 4_096).len(), MAX_LINES);
}

proptest! {
    /// Something of what waits goes, no more lines than a batch has, and all that goes pays for itself, but for the first KiB and the one that is begun last.
    #[test]
    fn a_batch_pays_for_itself(
        calls in prop::collection::vec((any::<bool>(), 0u8..4, 0u32..40, 1u8..4, 1u128..1_000, 0u64..50), 1..200),
        limit in 1usize..300,
    ) {
        let receipts: Vec<_> = calls
            .into_iter()
            .map(|(exact, channel, lane, model, fee, expires_ms)| {
                call(exact, channel, lane, model, fee * FEE.atto() / 1_000, expires_ms)
            })
            .collect();
        let (batch, whole) = (chosen(&receipts, limit), choose(&receipts, limit));
        prop_assert!(!batch.is_empty() && whole.receipts.len() <= limit);
        prop_assert!(batch_lines(batch.iter().copied()).unwrap().len() <= MAX_LINES);
        let fees: u128 = batch.iter().map(|receipt| receipt.fee.atto()).sum();
        let paid = cost(&batch).1;
        prop_assert!(paid <= 2 * FEE.atto() + fees / WORTH);
        prop_assert_eq!(whole.pays(FEE), fees >= WORTH * paid);
    }
}
