use dn_core::SecretKey;
use proptest::prelude::*;

use super::*;
use crate::tx::{Payload, Tx};

fn account(nonce: u64) -> Account {
    Account { balance: Amount::from_dn(1), nonce }
}

fn paid(seed: u32, nonce: u64, expires_height: u64, fee: u64) -> SignedTx {
    let mut secret = [1; 32];
    secret[..4].copy_from_slice(&seed.to_be_bytes());
    let key = SecretKey::from_bytes(&secret).unwrap();
    let (sender, fee) = (key.address(), Amount::from_atto(fee.into()));
    Tx { chain_id: 1, sender, nonce, expires_height, fee, payload: Payload::Withdraw {} }.sign(&key)
}

fn tx(seed: u32, nonce: u64, expires_height: u64) -> SignedTx {
    paid(seed, nonce, expires_height, 0)
}

#[test]
fn only_unbroken_runs_are_ready_and_senders_keep_their_order() {
    let mut pool = Mempool::default();
    let (a1, a0, a3, b0) = (tx(1, 1, 9), tx(1, 0, 9), tx(1, 3, 9), tx(2, 0, 9));
    for tx in [&a1, &a3, &b0, &a0] {
        assert_eq!(pool.insert(tx.clone(), account(0)), Ok(vec![]));
    }
    assert_eq!(pool.ready(10, |_| 0, |_| true), [b0.clone(), a0.clone(), a1.clone()]);
    assert_eq!(pool.ready(1, |_| 0, |_| true), [b0]);
    assert!(pool.has_ready(|_| 0) && pool.has_ready(|_| 3) && !pool.has_ready(|_| 4));
    assert_eq!(pool.next_nonce(a0.tx.sender, 0), 2);
    assert_eq!(pool.len(), 4);
    // The same again is nothing new.
    assert_eq!(pool.insert(a1, account(0)), Ok(vec![]));
    assert_eq!(pool.len(), 4);
}

#[test]
fn the_better_paid_go_first_but_never_before_their_predecessors() {
    let mut pool = Mempool::default();
    let (cheap, rich_behind) = (paid(1, 0, 9, 1_000), paid(1, 1, 9, 900_000));
    let (middle, best) = (paid(2, 0, 9, 50_000), paid(3, 0, 9, 60_000));
    for tx in [&cheap, &rich_behind, &middle, &best] {
        pool.insert(tx.clone(), account(0)).unwrap();
    }
    assert_eq!(pool.ready(9, |_| 0, |_| true), [best, middle, cheap, rich_behind]);
}

/// A fee is a promise until the rules take the transaction: whoever broke one comes last, and makes room first.
#[test]
fn who_was_refused_comes_after_all_others_for_a_while() {
    let mut pool = Mempool::default();
    let (rich, again, poor) = (paid(1, 0, 9, 900_000), paid(1, 1, 900, 900_000), paid(2, 0, 900, 1_000));
    for tx in [&rich, &again, &poor] {
        pool.insert(tx.clone(), account(0)).unwrap();
    }
    let sender = rich.tx.sender;
    pool.distrust(sender);
    assert_eq!(pool.ready(9, |_| 0, |_| true), [poor.clone(), rich.clone(), again.clone()]);
    assert_eq!(pool.last.first().map(|(rank, who)| (rank.reachable, *who)), Some((false, sender)));
    // Also with what it sends later.
    pool.remove(sender, 0);
    pool.remove(sender, 1);
    pool.insert(again.clone(), account(1)).unwrap();
    let nonce_of = |who| u64::from(who == sender);
    assert_eq!(pool.ready(9, nonce_of, |_| true), [poor.clone(), again.clone()]);
    // Two turns of the generations later it is forgotten.
    for height in [DISTRUST_BLOCKS, 2 * DISTRUST_BLOCKS] {
        assert_eq!(pool.ready(9, nonce_of, |_| true), [poor.clone(), again.clone()]);
        assert_eq!(pool.purge(height, nonce_of), []);
    }
    assert_eq!(pool.ready(9, nonce_of, |_| true), [again.clone(), poor.clone()]);
    // Or when it has paid.
    pool.distrust(sender);
    assert_eq!(pool.ready(9, nonce_of, |_| true), [poor.clone(), again.clone()]);
    pool.trust(sender);
    assert_eq!(pool.ready(9, nonce_of, |_| true), [again, poor]);
    assert_eq!(pool.last.first().map(|(rank, _)| rank.reachable), Some(true));
}

#[test]
fn what_does_not_fit_stays_with_all_behind_it() {
    let mut pool = Mempool::default();
    let (a0, a1, b0) = (paid(1, 0, 9, 9_000), paid(1, 1, 9, 9_000), paid(2, 0, 9, 1_000));
    for tx in [&a0, &a1, &b0] {
        pool.insert(tx.clone(), account(0)).unwrap();
    }
    assert_eq!(pool.ready(9, |_| 0, |tx| *tx != a0), [b0]);
    assert_eq!(pool.len(), 3);
}

#[test]
fn a_tenth_more_replaces() {
    let mut pool = Mempool::default();
    let (old, close, more) = (paid(1, 0, 9, 1_000), paid(1, 0, 9, 1_099), paid(1, 0, 8, 1_100));
    pool.insert(old.clone(), account(0)).unwrap();
    let minimum = Amount::from_atto(1_100);
    let found = close.tx.fee;
    assert_eq!(
        pool.insert(close, account(0)),
        Err(PoolRefusal::Underpriced { nonce: 0, minimum, found }.into())
    );
    assert_eq!(pool.insert(more.clone(), account(0)), Ok(vec![old.id()]));
    assert_eq!(pool.ready(9, |_| 0, |_| true), [more]);
    assert_eq!(pool.len(), 1);
    // Of nothing a tenth is nothing: one atto more it must be.
    pool.insert(tx(2, 0, 9), account(0)).unwrap();
    let refused = pool.insert(tx(2, 0, 8), account(0));
    assert!(matches!(refused, Err(MempoolError::Refused(PoolRefusal::Underpriced { .. }))), "{refused:?}");
}

#[test]
fn a_sender_waits_with_what_it_can_pay_and_few_behind_a_gap() {
    let mut pool = Mempool::default();
    let poor = Account { balance: Amount::from_atto(250), nonce: 0 };
    pool.insert(paid(1, 0, 9, 100), poor).unwrap();
    pool.insert(paid(1, 1, 9, 100), poor).unwrap();
    let (available, needed) = (poor.balance, Amount::from_atto(300));
    assert_eq!(
        pool.insert(paid(1, 2, 9, 100), poor),
        Err(PoolRefusal::Unfunded { available, needed }.into())
    );
    // A replacement pays instead of what it replaces, not besides.
    assert!(pool.insert(paid(1, 1, 9, 150), poor).is_ok());
    for nonce in 0..MAX_GAPPED {
        pool.insert(tx(2, nonce + 1, 9), account(0)).unwrap();
    }
    let (one_more, limit) = (tx(2, MAX_GAPPED + 1, 9), MAX_GAPPED);
    assert_eq!(
        pool.insert(one_more.clone(), account(0)),
        Err(PoolRefusal::Gapped { missing: 0, limit, found: limit + 1 }.into())
    );
    pool.insert(tx(2, 0, 9), account(0)).unwrap();
    assert_eq!(pool.insert(one_more, account(0)), Ok(vec![]));
}

#[test]
fn stale_and_far_nonces_are_refused_and_purged() {
    let mut pool = Mempool::default();
    assert_eq!(pool.insert(tx(1, 0, 9), account(1)), Err(MempoolError::Nonce { expected: 1, found: 0 }));
    let (limit, found) = (MAX_AHEAD, MAX_AHEAD);
    assert_eq!(
        pool.insert(tx(1, MAX_AHEAD, 9), account(0)),
        Err(PoolRefusal::TooFarAhead { expected: 0, limit, found }.into())
    );
    pool.insert(tx(1, 0, 5), account(0)).unwrap();
    pool.insert(tx(2, 1, 9), account(0)).unwrap();
    assert_eq!(pool.purge(6, |_| 0).len(), 1);
    assert_eq!(pool.purge(6, |_| 2).len(), 1);
    assert_eq!((pool.len(), pool.bytes, pool.last.len()), (0, 0, 0));
}

#[test]
fn a_full_pool_drops_gaps_first_then_the_worst_paid() {
    let mut pool = Mempool::default();
    let gap = paid(1, 1, 9, 500_000);
    pool.insert(gap.clone(), account(0)).unwrap();
    let mut cheap = None;
    for n in 1..u32::try_from(MAX_TXS).unwrap() {
        let tx = unsigned(n + 1, 0, if n == 7 { 1_000 } else { 100_000 });
        cheap = if n == 7 { Some(tx.id()) } else { cheap };
        pool.insert(tx, account(0)).unwrap();
    }
    assert_eq!(pool.len(), MAX_TXS);
    // What is behind a gap itself displaces nobody.
    assert_eq!(pool.insert(unsigned(90_000, 1, 400_000), account(0)), Err(MempoolError::Full));
    assert_eq!(pool.insert(unsigned(90_001, 0, 100), account(0)), Ok(vec![gap.id()]));
    assert_eq!(pool.insert(unsigned(90_002, 0, 100), account(0)), Err(MempoolError::Full));
    let gone = pool.insert(unsigned(90_003, 0, 200_000), account(0)).unwrap();
    assert_eq!(gone, [unsigned(90_001, 0, 100).id()]);
    assert_eq!(pool.insert(unsigned(90_004, 0, 200_000), account(0)).unwrap(), [cheap.unwrap()]);
    assert_eq!(pool.len(), MAX_TXS);
}

/// The pool looks at no signature, and twenty thousand of them take a while.
fn unsigned(seed: u32, nonce: u64, fee: u64) -> SignedTx {
    let mut sender = Address([0; 20]);
    sender.0[..4].copy_from_slice(&seed.to_be_bytes());
    let signature = tx(1, 0, 0).signature;
    let fee = Amount::from_atto(fee.into());
    SignedTx {
        tx: Tx { chain_id: 1, sender, nonce, expires_height: 9, fee, payload: Payload::Withdraw {} },
        signature,
    }
}

proptest! {
    /// Counts, bytes and ranks follow every change; ready transactions are unbroken runs.
    #[test]
    fn the_books_of_the_pool_balance(
        ops in prop::collection::vec((0u32..4, 0u64..6, 0u64..4, 1u64..2_000, 0u8..8), 1..80),
    ) {
        let (mut pool, signature) = (Mempool::default(), tx(1, 0, 0).signature);
        let mut nonces = BTreeMap::<Address, u64>::new();
        for (seed, nonce, expires_height, fee, op) in ops {
            let SignedTx { mut tx, .. } = unsigned(seed, nonce, fee);
            tx.expires_height = expires_height;
            let next = nonces.entry(tx.sender).or_default();
            match op {
                0 => *next += 1,
                1 => drop(pool.purge(expires_height, |sender| nonces.get(&sender).copied().unwrap_or(0))),
                2 => pool.remove(tx.sender, nonce),
                _ => drop(pool.insert(SignedTx { tx, signature }, account(*next))),
            }
            let all = || pool.by_sender.values().flat_map(|own| own.txs.values());
            prop_assert_eq!(pool.count, all().count());
            prop_assert_eq!(pool.bytes, all().map(|w| w.bytes).sum::<usize>());
            let last = pool.by_sender.iter().map(|(sender, own)| (own.last_rank().unwrap(), *sender));
            prop_assert_eq!(&pool.last, &last.collect());
            let nonce_of = |sender| nonces.get(&sender).copied().unwrap_or(0);
            let mut expected = nonces.clone();
            for ready in pool.ready(100, nonce_of, |_| true) {
                let next = expected.entry(ready.tx.sender).or_default();
                prop_assert_eq!(ready.tx.nonce, *next);
                *next += 1;
            }
        }
    }
}
