//! Laws: books always balance, refusals change nothing, and the block log alone gives the same state.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "laws/registry.rs"]
mod registry;
#[path = "laws/staking.rs"]
mod staking;

use std::collections::BTreeMap;

use common::auditor::Auditor;
use common::{CHAIN_ID, World, address, dn, key, offer, price};
use dn_core::amount::SUPPLY_CAP;
use dn_core::objects::{AuditOutcome, BatchRoot, Voucher};
use dn_core::{Amount, BatchId, Canonical, ChannelId, Hash32, ModelId, Signed};
use dn_ledger::events::Event;
use dn_ledger::state::{
    ACCOUNTS, BATCHES, CHANNELS, IDENTITIES, LANES, MODELS, STAKE_SHARES, WORKER_SEQUENCES, check_entry,
};
use dn_ledger::tx::Shares;
use dn_ledger::{BlockError, Chain, Payload, Role, SignedTx, Tx, apply, supply};
use proptest::prelude::*;

/// Kinds of payloads that are tried: their tags.
const KINDS: u8 = registry::KINDS.end;

const NAMES: [&str; 9] = ["v1", "v2", "v3", "owner", "worker", "worker2", "gateway", "payer", "stranger"];

/// One thing that somebody tries; the numbers choose among what exists, so most tries are nearly valid.
#[derive(Debug, Clone)]
struct Try {
    who: usize,
    kind: u8,
    a: u8,
    b: u64,
    spoil: u8,
}

fn tries() -> impl Strategy<Value = Try> {
    (0usize..NAMES.len(), 0u8..62, any::<u8>(), 0u64..3_000, 0u8..24).prop_map(|(who, kind, a, b, spoil)| {
        // Audits and jobs need two in a row, proposals deposits and votes: they are tried more often.
        let kind = match kind {
            0..KINDS => kind,
            52.. => 36 + kind % 2,
            44.. => 24 + kind % 3,
            _ => 16 + kind % 2,
        };
        Try { who, kind, a, b, spoil }
    })
}

/// The `n`-th of what exists, or something that does not.
fn choose<T: Clone>(all: &[T], n: u8, none: T) -> T {
    if all.is_empty() || n >= 250 { none } else { all[usize::from(n) % all.len()].clone() }
}

fn payload(w: &World, t: &Try) -> Payload {
    let state = w.state();
    let (amount, other) =
        (Amount::from_atto(u128::from(t.b) * 50_000_000_000_000_000), address(NAMES[t.a as usize % 9]));
    let channels: Vec<ChannelId> = CHANNELS.iter(state).map(|(id, _)| id).collect();
    let channel = if t.a.is_multiple_of(2) && !(13..=14).contains(&t.kind) {
        w.channel
    } else {
        choose(&channels, t.a, ChannelId([7; 32]))
    };
    let models: Vec<ModelId> = MODELS.iter(state).map(|(id, _)| id).collect();
    let model = if t.b.is_multiple_of(2) { w.model } else { choose(&models, t.a, ModelId([7; 32])) };
    let role = Role::ALL[t.a as usize % 4];
    match t.kind {
        0 => Payload::Transfer { to: other, amount },
        1 => Payload::Register { role, collateral: amount, name: "x".into(), endpoint: String::new() },
        2 if t.b.is_multiple_of(8) => Payload::Retire { role },
        2 => Payload::Transfer { to: other, amount },
        3 => Payload::Stake { validator: other, amount },
        4 => {
            let held = STAKE_SHARES.get_or_default(state, &(address(NAMES[t.who]), other));
            Payload::Unbond { validator: other, shares: Shares(held.0 / u128::from(t.b % 4).max(1)) }
        }
        5 => Payload::Withdraw {},
        6 => {
            let manifest = common::manifest(t.a % 4);
            Payload::PublishModel { manifest, name: "m".into(), price: price(), domain: 0, salt: None }
        }
        7 => Payload::SetModelPrice { model, price: price() },
        8 if t.b.is_multiple_of(3) => {
            // The main model stays.
            let others: Vec<_> = models.into_iter().filter(|id| *id != w.model).collect();
            Payload::RetireModel { model: choose(&others, t.a, ModelId([7; 32])) }
        }
        8 | 9 => offer(model),
        10 => Payload::Unoffer { model },
        11 => Payload::OpenChannel {
            payee: if t.b.is_multiple_of(2) { address("gateway") } else { other },
            deposit: amount,
            spender: address("spender"),
        },
        12 => Payload::TopUpChannel { channel, amount },
        // The main channel stays: the others come and go.
        13 if channel != w.channel => Payload::CloseChannel { channel },
        14 if channel != w.channel => Payload::FinishChannel { channel },
        13 | 14 => Payload::TopUpChannel { channel, amount },
        15 => batch(w, t, channel, model),
        16 | 17 => audit(w, t),
        kind if registry::KINDS.contains(&kind) => registry::payload(w, t),
        kind if staking::KINDS.contains(&kind) => staking::payload(w, t),
        kind => unreachable!("no kind {kind}"),
    }
}

fn batch(w: &World, t: &Try, channel: ChannelId, model: ModelId) -> Payload {
    let state = w.state();
    let lane = u32::from(t.a % 3);
    let fees = Amount::from_atto(u128::from(t.b) * 1_000_000_000_000_000);
    let mut line = w.line(lane, 1 + u32::from(t.a % 5), fees);
    (line.channel, line.model) = (channel, model);
    line.domain = MODELS.get(state, &model).map_or(0, |model| model.domain);
    let sender = address(NAMES[t.who]);
    let gateway = CHANNELS.get(state, &channel).map_or(address("gateway"), |c| c.payee);
    let name = NAMES.iter().find(|n| address(n) == gateway).unwrap_or(&"gateway");
    let body = BatchRoot {
        worker: sender,
        gateway,
        sequence: WORKER_SEQUENCES.get_or_default(state, &sender),
        ..w.root(NAMES[t.who], vec![line])
    };
    let claimed = LANES.get_or_default(state, &(channel, lane));
    let max_claimable = claimed.checked_add(fees).unwrap();
    let voucher = Voucher { channel, max_claimable, ..w.voucher(lane, dn(0)).body };
    // Now and then a session key signs, whether it may or not.
    let by = if t.b.is_multiple_of(3) { "session" } else { "spender" };
    let voucher = Voucher { signer: address(by), ..voucher };
    let vouchers = vec![Signed::sign(voucher, &key(by))];
    Payload::PostBatch { batch: Signed::sign(body, &key(name)), vouchers }
}

fn audit(w: &World, t: &Try) -> Payload {
    let open = w.open_audits();
    let mine: Vec<_> = open.iter().filter(|(name, ..)| name == NAMES[t.who]).collect();
    let batches: Vec<BatchId> = BATCHES.iter(w.state()).map(|(id, _)| id).collect();
    let (batch, index) = match mine.first() {
        Some((_, batch, index, _)) => (*batch, *index),
        None => (choose(&batches, t.a, BatchId([7; 32])), u32::from(t.a % 3)),
    };
    // An auditor's verdict stays the same over its tries, so that reveals fit commitments; now and then they disagree.
    let honest = u32::from(batch.0[0]) + index;
    let outcome = match honest + u32::from(t.who == 0 && batch.0[1] % 4 == 0) {
        n if n % 4 == 1 => AuditOutcome::Mismatch { position: 3 },
        n if n % 8 == 2 => AuditOutcome::Unavailable {},
        _ => AuditOutcome::Match {},
    };
    let verdict = World::verdict(NAMES[t.who], batch, index, outcome);
    if t.kind == 16 { World::commit_payload(&verdict) } else { World::reveal_payload(&verdict) }
}

fn signed(w: &World, t: &Try) -> SignedTx {
    // Mostly those act who can.
    let mut t = t.clone();
    let auditor = w.open_audits().first().map(|(name, ..)| name.clone());
    match (t.kind, auditor) {
        (5, _) if t.a < 220 => t.who = staking::leaving(w).unwrap_or(t.who),
        (6..=8, _) if t.a < 220 => t.who = 3,
        (15, _) if t.a < 220 => t.who = 4,
        (11..=14, _) if t.a < 220 => t.who = 7,
        (19 | 26, _) if t.a < 220 => t.who %= 3,
        (kind, _) if registry::KINDS.contains(&kind) => t.who = registry::who(w, &t),
        (16 | 17, Some(name)) if t.a < 220 => {
            t.who = NAMES.iter().position(|n| *n == name).unwrap();
        }
        _ => {}
    }
    let t = &t;
    let name = NAMES[t.who];
    let mut tx: Tx = w.raw(name, payload(w, t));
    match t.spoil {
        0 => tx.nonce += 1,
        1 => tx.fee = Amount::from_atto(tx.fee.atto() * u128::from(t.b)),
        2 => tx.expires_height = t.b / 10,
        3 => tx.chain_id = CHAIN_ID + u64::from(t.a % 2),
        _ => {}
    }
    let signer = if t.spoil == 4 { "stranger" } else { name };
    tx.sign(&key(signer))
}

/// Deadlines long enough that what is tried at random meets them.
fn slow_audits() -> World {
    let mut params = common::params();
    params.audit_times.commit_blocks = 4;
    params.audit_times.reveal_blocks = 4;
    registry::tighten(&mut params);
    params.governance.min_deposit = dn(10);
    params.governance.deposit_blocks = 10;
    params.governance.voting_blocks = 8;
    params.governance.execution_delay_blocks = 2;
    let mut w = World::with(params);
    w.prepare();
    registry::prepare(&mut w);
    w
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn books_balance_and_the_log_replays(plan in prop::collection::vec(prop::collection::vec(tries(), 0..6), 1..30)) {
        let mut w = slow_audits();
        for tries in &plan {
            let mut txs = Vec::new();
            for t in tries {
                let tx = signed(&w, t);
                // Refused alone, it changes no byte; accepted alone, it moves DN but makes none.
                let mut state = w.state().clone();
                let ctx = w.chain.next_context(w.chain.tip().time_ms + 1_000);
                match apply(&mut state, &tx, &ctx) {
                    Ok(_) => supply::check_changes(&supply::changed_holdings(&state.pending())).unwrap(),
                    Err(_) => prop_assert!(&state == w.state() && state.changes().is_empty()),
                }
                txs.push(tx);
            }
            // `block` checks supply, commitment, and that a validator accepts the block.
            w.block(&txs);
        }
        for (key, value) in w.state().entries() {
            prop_assert_eq!(check_entry(key, value), Ok(()));
        }
        // Who only hears events knows what everybody holds.
        let mut auditor = Auditor::new(&w.genesis);
        w.all_events().iter().for_each(|event| auditor.hear(event));
        let accounts = ACCOUNTS.iter(w.state()).map(|(address, account)| (address.to_string(), account.balance));
        let accounts: BTreeMap<_, _> = accounts.filter(|(_, balance)| !balance.is_zero()).collect();
        let heard = auditor.table("accounts");
        prop_assert_eq!(heard, accounts.iter().map(|(address, balance)| (address.as_str(), *balance)).collect());
        let (books, sum) = (supply::supply(w.state()), |table| Amount::sum(auditor.table(table).into_values()).unwrap());
        prop_assert_eq!(sum("identities"), books.collateral);
        prop_assert_eq!(sum("stake_pools"), books.stake);
        prop_assert_eq!(sum("channels"), books.channels);
        prop_assert_eq!(sum("pools"), books.pools.checked_add(books.burned).unwrap());
        prop_assert_eq!(auditor.total(), SUPPLY_CAP);
        // The log, as bytes, on a fresh chain.
        let mut replica = Chain::new(&w.genesis);
        for proposal in &w.log {
            let block = dn_ledger::block::Block::from_bytes(&proposal.block.to_bytes()).unwrap();
            let executed = replica.validate(&block).unwrap();
            let certificate = common::certificate(&block.header, &replica.validators());
            replica.commit(&block.header, certificate, &executed);
        }
        prop_assert_eq!(replica.state(), w.state());
        prop_assert_eq!(replica.tip(), w.chain.tip());
    }
}

/// The property test above is only worth something if much of what it tries is accepted.
#[test]
fn the_generator_reaches_most_rules() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut w = slow_audits();
    let mut accepted = [0u32; KINDS as usize];
    let mut refused = std::collections::BTreeSet::new();
    for _ in 0..2_400 {
        let t = tries().new_tree(&mut runner).unwrap().current();
        let tx = signed(&w, &t);
        let proposal = w.block(std::slice::from_ref(&tx));
        match proposal.rejected.first() {
            None => accepted[usize::from(t.kind)] += 1,
            Some((_, reject)) => {
                let json = serde_json::to_value(reject).unwrap();
                refused.insert(json["reason"].as_str().unwrap().to_owned());
            }
        }
    }
    let never: Vec<_> = (0..usize::from(KINDS)).filter(|kind| accepted[*kind] == 0).collect();
    assert!(never.is_empty(), "kinds never accepted: {never:?} of {accepted:?}");
    assert!(refused.len() >= 20, "{} reasons: {refused:?}", refused.len());
    assert!(IDENTITIES.iter(w.state()).count() > 4);
    let released = |event: &&Event| matches!(event, Event::JobBondReleased { .. });
    assert!(w.all_events().iter().filter(released).count() >= 3, "bonds are put up and come back");
}

#[test]
fn a_block_that_does_not_follow_is_refused() {
    let mut w = World::ready();
    let tx = w.tx("payer", Payload::Transfer { to: address("owner"), amount: dn(1) });
    let time_ms = w.chain.tip().time_ms + 5;
    let good = w.chain.propose(address("v1"), time_ms, &[tx]).unwrap().block;
    let before = w.state().clone();
    let mut refuse = |change: &dyn Fn(&mut dn_ledger::block::Block)| {
        let mut block = good.clone();
        change(&mut block);
        let error = w.chain.validate(&block).expect_err("refused");
        assert_eq!(w.chain.state(), &before);
        error
    };
    let field = |error| match error {
        BlockError::Number { field, .. } | BlockError::Root { field, .. } => field,
        BlockError::Parent { .. } => "parent",
        BlockError::Proposer { .. } => "proposer",
        BlockError::ParentCertificate { .. } => "parent's certificate",
        BlockError::Tx { .. } => "tx",
        other => panic!("{other}"),
    };
    assert_eq!(field(refuse(&|b| b.header.chain_id = 1)), "chain_id");
    assert_eq!(field(refuse(&|b| b.header.height += 1)), "height");
    assert_eq!(field(refuse(&|b| b.header.time_ms = 1)), "time_ms");
    assert_eq!(field(refuse(&|b| b.header.parent.0[0] ^= 1)), "parent");
    assert_eq!(field(refuse(&|b| b.header.state = Hash32([1; 32]))), "state");
    assert_eq!(field(refuse(&|b| b.txs.clear())), "tx_root");
    assert_eq!(field(refuse(&|b| b.header.proposer = address("stranger"))), "proposer");
    assert_eq!(field(refuse(&|b| b.header.validators = Hash32([1; 32]))), "validators");
    assert_eq!(field(refuse(&|b| b.header.next_validators = Hash32([1; 32]))), "next_validators");
    assert_eq!(field(refuse(&|b| b.parent_certificate.round = 1)), "parent_certificate");
    let nobody = |b: &mut dn_ledger::block::Block| {
        b.parent_certificate.signatures.truncate(2);
        b.header.parent_certificate = b.parent_certificate.hash();
    };
    assert_eq!(field(refuse(&nobody)), "parent's certificate");
    let twice = |b: &mut dn_ledger::block::Block| {
        b.txs.push(b.txs[0].clone());
        b.header.tx_root = dn_ledger::block::tx_root(&b.txs);
    };
    assert_eq!(field(refuse(&twice)), "tx");
    assert!(w.chain.validate(&good).is_ok());
}
