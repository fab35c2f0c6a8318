//! Each transaction's rules: what it does, and each way it is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CHAIN_ID, World, address, dn, key, manifest, offer, params, price};
use dn_core::objects::{Price, Voucher};
use dn_core::{Amount, Canonical, ChannelId, ModelId, Signed};
use dn_ledger::events::Event;
use dn_ledger::reject::{Field, ManifestFault, SignedObject};
use dn_ledger::state::{
    BATCHES, BatchStatus, CHANNELS, IDENTITIES, IN_ROLE, IdentityStatus, LANES, POOLS, Pool, ROLE_COUNTS,
    STAKE_POOLS, STAKE_SHARES,
};
use dn_ledger::tx::{ProposalKind, Shares, channel_id};
use dn_ledger::views::{OfferView, PageRequest};
use dn_ledger::{Payload, Reject, Role, query};

fn transfer(amount: Amount) -> Payload {
    Payload::Transfer { to: address("stranger"), amount }
}

fn register(role: Role, collateral: Amount) -> Payload {
    Payload::Register { role, collateral, name: "n".into(), endpoint: "https://example.org".into() }
}

#[test]
fn envelope() {
    let mut w = World::bare();
    let fee = w.genesis.params.min_tx_fee;
    let before = (w.balance("payer"), w.balance("stranger"));
    w.ok("payer", transfer(dn(7)));
    assert_eq!(w.balance("payer"), before.0.checked_sub(dn(7)).unwrap().checked_sub(fee).unwrap());
    assert_eq!(w.balance("stranger"), before.1.checked_add(dn(7)).unwrap());
    assert_eq!(w.nonce("payer"), 1);

    let signed = |change: &dyn Fn(&mut dn_ledger::Tx)| {
        let mut tx = w.raw("payer", transfer(dn(1)));
        change(&mut tx);
        w.reject_tx(&tx.sign(&key("payer")))
    };
    let object = SignedObject::Transaction;
    assert_eq!(signed(&|tx| tx.chain_id = 1), Reject::ChainId { object, expected: CHAIN_ID, found: 1 });
    assert_eq!(signed(&|tx| tx.nonce = 0), Reject::Nonce { expected: 1, found: 0 });
    assert_eq!(signed(&|tx| tx.nonce = 2), Reject::Nonce { expected: 1, found: 2 });
    assert_eq!(signed(&|tx| tx.expires_height = 1), Reject::Expired { expires_height: 1, height: 2 });
    let latest = 2 + w.genesis.params.max_expiry_blocks;
    assert_eq!(
        signed(&|tx| tx.expires_height = latest + 1),
        Reject::ExpiryTooFar { expires_height: latest + 1, latest }
    );
    assert_eq!(signed(&|tx| tx.fee = Amount::ZERO), Reject::FeeTooLow { minimum: fee, found: Amount::ZERO });
    // A larger one pays for each KiB begun.
    let proposal = |text: usize| Payload::Propose {
        title: "t".into(),
        text: "x".repeat(text),
        kind: ProposalKind::Text {},
        deposit: dn(1),
    };
    let around = w.raw("payer", proposal(0)).to_bytes().len();
    for (bytes, kib) in [(1_024, 1), (1_025, 2), (3_072, 3), (3_073, 4)] {
        let minimum = fee.checked_mul(kib).unwrap();
        let mut tx = w.raw("payer", proposal(bytes - around));
        assert_eq!((tx.to_bytes().len(), tx.fee), (bytes, minimum));
        tx.fee = minimum.checked_sub(Amount::from_atto(1)).unwrap();
        let found = tx.fee;
        assert_eq!(w.reject_tx(&tx.sign(&key("payer"))), Reject::FeeTooLow { minimum, found });
    }
    let account = address("payer");
    let needed = dn(1_000_000);
    let available = w.balance("payer");
    assert_eq!(signed(&|tx| tx.fee = needed), Reject::Insufficient { account, available, needed });
    let expected = account;
    assert_eq!(
        w.reject_tx(&w.raw("payer", transfer(dn(1))).sign(&key("stranger"))),
        Reject::Signature { object, expected }
    );
    let mut altered = w.tx("payer", transfer(dn(1)));
    altered.tx.payload = transfer(dn(2));
    assert_eq!(w.reject_tx(&altered), Reject::Signature { object, expected });

    // The same transaction a second time, in one block and in the next.
    let tx = w.tx("payer", transfer(dn(1)));
    let proposal = w.block(&[tx.clone(), tx.clone()]);
    assert_eq!(proposal.block.txs.len(), 1);
    assert_eq!(proposal.rejected, [(tx.clone(), Reject::Nonce { expected: 2, found: 1 })]);
    assert_eq!(w.reject_tx(&tx), Reject::Nonce { expected: 2, found: 1 });
}

/// Nobody pays for it, so it could keep others out of every block.
#[test]
fn what_is_refused_takes_no_room_in_a_block() {
    let mut params = params();
    (params.max_block_txs, params.max_block_bytes) = (2, 256 * 1024);
    let w = World::with(params);
    let all = Amount::from_dn(1_000_000_000);
    let poor = ["payer", "worker", "gateway"].map(|name| w.tx(name, transfer(all)));
    let good = ["owner", "stranger", "v1"].map(|name| w.tx(name, transfer(dn(1))));
    let candidates = [&poor[..], &good[..]].concat();
    let proposal = w.chain.clone().propose(address("v1"), 1, &candidates).unwrap();
    assert_eq!(proposal.block.txs, good[..2]);
    assert_eq!(proposal.rejected.iter().map(|(tx, _)| tx.clone()).collect::<Vec<_>>(), poor);
    // Looking at it takes time: no more than as if it were in.
    let bytes = dn_ledger::bytes::Bytes(vec![7; 60_000]);
    let large = Payload::DisputeAnswer { batch: dn_core::BatchId([1; 32]), index: 0, step: 0, bytes };
    let large = ["payer", "worker", "gateway", "owner", "stranger"].map(|name| w.tx(name, large.clone()));
    let candidates = [&large[..], &[w.tx("v1", transfer(dn(1)))]].concat();
    let proposal = w.chain.clone().propose(address("v1"), 1, &candidates).unwrap();
    assert_eq!((proposal.block.txs.len(), proposal.rejected.len()), (0, 4));
}

#[test]
fn transfers() {
    let mut w = World::bare();
    assert!(matches!(w.reject("payer", transfer(Amount::ZERO)), Reject::AmountTooSmall { .. }));
    let all = w.balance("payer");
    assert!(matches!(w.reject("payer", transfer(all)), Reject::Insufficient { needed, .. } if needed == all));
    assert!(matches!(w.reject("payer", transfer(Amount::from_atto(u128::MAX))), Reject::Insufficient { .. }));
    // To oneself it only costs the fee.
    let (to, fee) = (address("payer"), w.genesis.params.min_tx_fee);
    w.ok("payer", Payload::Transfer { to, amount: dn(5) });
    assert_eq!(w.balance("payer"), all.checked_sub(fee).unwrap());
}

#[test]
fn identities() {
    let mut w = World::bare();
    let (sender, role) = (address("worker"), Role::Worker);
    let minimum = w.genesis.params.collateral.worker;
    let found = minimum.checked_sub(Amount::from_atto(1)).unwrap();
    assert_eq!(w.reject("worker", register(role, found)), Reject::CollateralTooLow { role, minimum, found });
    let named = |name: &str| Payload::Register {
        role,
        collateral: minimum,
        name: name.into(),
        endpoint: String::new(),
    };
    let size = |found| Reject::Size { field: Field::Name, min: 1, max: 64, found };
    assert_eq!(w.reject("worker", named("")), size(0));
    assert_eq!(w.reject("worker", named(&"x".repeat(65))), size(65));
    assert_eq!(w.reject("worker", named("a\nb")), Reject::ControlCharacter { field: Field::Name, at: 1 });
    assert!(matches!(w.reject("worker", register(role, dn(5_000))), Reject::Insufficient { .. }));
    assert_eq!(
        w.reject("worker", Payload::Retire { role }),
        Reject::UnknownIdentity { address: sender, role }
    );
    let before = w.balance("worker");
    w.ok("worker", register(role, dn(200)));
    let spent = before.checked_sub(w.balance("worker")).unwrap();
    assert!(spent > dn(201), "collateral, registration and transaction fee");
    assert_eq!(
        w.reject("worker", register(role, dn(200))),
        Reject::AlreadyRegistered { address: sender, role }
    );
    // Other roles are independent.
    w.ok("worker", register(Role::Gateway, dn(100)));

    w.ok("worker", Payload::Retire { role });
    let record = IDENTITIES.get(w.state(), &(role, sender)).unwrap();
    let IdentityStatus::Retired { release_epoch } = record.status else { panic!("{record:?}") };
    let next = Some(release_epoch);
    assert_eq!(
        w.reject("worker", Payload::Withdraw {}),
        Reject::NothingToWithdraw { next_release_epoch: next }
    );
    let status = record.status;
    assert_eq!(
        w.reject("worker", register(role, dn(200))),
        Reject::NotActive { address: sender, role, status }
    );
    assert_eq!(
        w.reject("worker", Payload::Retire { role }),
        Reject::NotActive { address: sender, role, status }
    );
    while w.chain.next_context(0).epoch() < release_epoch {
        w.block(&[]);
    }
    let events = w.ok("worker", Payload::Withdraw {});
    assert!(events.contains(&Event::Withdrawn { address: sender, amount: dn(200) }));
    assert_eq!(
        w.reject("worker", Payload::Withdraw {}),
        Reject::NothingToWithdraw { next_release_epoch: None }
    );
    w.ok("worker", register(role, dn(200)));
}

#[test]
fn stake_and_unbonding() {
    let mut w = World::bare();
    let validator = address("v1");
    let stake = |amount| Payload::Stake { validator, amount };
    let minimum = w.genesis.params.min_stake;
    let found = Amount::from_atto(1);
    assert_eq!(w.reject("payer", stake(found)), Reject::AmountTooSmall { minimum, found });
    let (unknown, role) = (address("stranger"), Role::Validator);
    assert_eq!(
        w.reject("payer", Payload::Stake { validator: unknown, amount: dn(5) }),
        Reject::UnknownIdentity { address: unknown, role }
    );
    w.ok("payer", stake(dn(50)));
    let held = STAKE_SHARES.get(w.state(), &(address("payer"), validator)).unwrap();
    let unbond = |shares| Payload::Unbond { validator, shares };
    let needed = Shares(held.0 + 1);
    assert_eq!(
        w.reject("payer", unbond(needed)),
        Reject::SharesInsufficient { validator, available: held, needed }
    );
    assert!(matches!(w.reject("payer", unbond(Shares(0))), Reject::SharesInsufficient { .. }));
    let pool = STAKE_POOLS.get(w.state(), &validator).unwrap();
    let worth = pool.value_of(held.0);
    let events = w.ok("payer", unbond(held));
    assert!(events.iter().any(|e| matches!(e, Event::Unbonding { amount, .. } if *amount == worth)));
    assert!(matches!(
        w.reject("payer", Payload::Withdraw {}),
        Reject::NothingToWithdraw { next_release_epoch: Some(_) }
    ));
    w.blocks(w.genesis.params.epoch_blocks * (w.genesis.params.unbonding_epochs + 1));
    let before = w.balance("payer");
    w.ok("payer", Payload::Withdraw {});
    let fee = w.genesis.params.min_tx_fee;
    assert_eq!(w.balance("payer"), before.checked_add(worth).unwrap().checked_sub(fee).unwrap());
    assert!(!STAKE_SHARES.contains(w.state(), &(address("payer"), validator)));
}

#[test]
fn models_and_offers() {
    let mut w = World::bare();
    let publish = |manifest: &dn_core::objects::ModelManifest, price, domain| Payload::PublishModel {
        manifest: manifest.clone(),
        name: "tiny".into(),
        price,
        domain,
        salt: None,
    };
    let good = manifest(1);
    let (owner, role) = (address("owner"), Role::ModelOwner);
    assert_eq!(
        w.reject("owner", publish(&good, price(), 0)),
        Reject::UnknownIdentity { address: owner, role }
    );
    w.ok("owner", register(role, dn(10)));
    assert_eq!(w.reject("owner", publish(&good, price(), 1)), Reject::UnknownDomain { domains: 1, found: 1 });
    let maximum = w.genesis.params.max_token_price;
    let dear = Price { output_token: dn(2), ..price() };
    assert_eq!(w.reject("owner", publish(&good, dear, 0)), Reject::PriceTooHigh { maximum, found: dn(2) });
    let fault = |change: &dyn Fn(&mut dn_core::objects::ModelManifest)| {
        let mut bad = good.clone();
        change(&mut bad);
        w.reject("owner", publish(&bad, price(), 0))
    };
    let manifest_fault = |what| Reject::Manifest { what };
    assert_eq!(fault(&|m| m.hyperparameters.layers = 0), manifest_fault(ManifestFault::ZeroSize));
    assert_eq!(fault(&|m| m.hyperparameters.width = 1 << 25), manifest_fault(ManifestFault::HugeSize));
    assert_eq!(fault(&|m| m.hyperparameters.kv_heads = 3), manifest_fault(ManifestFault::Heads));
    assert_eq!(fault(&|m| m.stop_tokens = vec![5, 5]), manifest_fault(ManifestFault::StopTokens));
    assert_eq!(fault(&|m| m.bos_token = Some(1 << 30)), manifest_fault(ManifestFault::StopTokens));
    assert!(matches!(
        fault(&|m| m.architecture = String::new()),
        Reject::Size { field: Field::Architecture, .. }
    ));
    w.ok("owner", publish(&good, price(), 0));
    let model = good.id();
    assert_eq!(w.reject("owner", publish(&good, price(), 0)), Reject::ModelExists { model, owner });
    let other = Payload::SetModelPrice { model, price: price() };
    assert_eq!(w.reject("payer", other), Reject::NotOwner { model, owner });
    let unknown = ModelId([9; 32]);
    assert_eq!(
        w.reject("owner", Payload::RetireModel { model: unknown }),
        Reject::UnknownModel { model: unknown }
    );

    let worker = address("worker");
    assert!(matches!(w.reject("worker", offer(model)), Reject::UnknownIdentity { .. }));
    w.ok("worker", register(Role::Worker, dn(100)));
    assert_eq!(w.reject("worker", offer(unknown)), Reject::UnknownModel { model: unknown });
    assert_eq!(w.reject("worker", Payload::Unoffer { model }), Reject::NotOffered { model, worker });
    w.ok("worker", offer(model));
    assert_eq!(w.reject("worker", offer(model)), Reject::AlreadyOffered { model, worker });
    // The same offer at another price is a change, and no new beginning.
    let at = |price| Payload::Offer { model, price };
    let (maximum, found) = (w.genesis.params.max_token_price, dn(2));
    let dear = Price { output_token: found, ..price() };
    assert_eq!(w.reject("worker", at(dear)), Reject::PriceTooHigh { maximum, found });
    let since_height = w.height();
    let events = w.ok("worker", at(price()));
    assert!(events.contains(&Event::Offered { model, worker, price: price() }));
    let view = query::offer(w.state(), model, worker).unwrap();
    assert_eq!(view, OfferView { model, worker, price: price(), since_height, until_height: None });
    let listed = query::model_workers(w.state(), model, &PageRequest::default()).unwrap();
    assert_eq!(listed.items, [view]);
    w.ok("worker", Payload::Unoffer { model });
    w.ok("worker", offer(model));
    let cheap = Price { prompt_token: Amount::ZERO, ..price() };
    w.ok("owner", Payload::SetModelPrice { model, price: cheap });
    w.ok("owner", Payload::RetireModel { model });
    let height = w.height();
    assert_eq!(w.reject("owner", Payload::RetireModel { model }), Reject::ModelRetired { model, height });
    assert_eq!(w.reject("worker2", offer(model)), {
        Reject::UnknownIdentity { address: address("worker2"), role: Role::Worker }
    });
}

#[test]
fn channels() {
    let mut w = World::ready();
    let payee = address("gateway");
    let open = |payee, deposit| Payload::OpenChannel { payee, deposit, spender: address("payer") };
    let minimum = w.genesis.params.min_deposit;
    let found = Amount::from_atto(1);
    assert_eq!(w.reject("payer", open(payee, found)), Reject::AmountTooSmall { minimum, found });
    let stranger = address("stranger");
    assert_eq!(
        w.reject("payer", open(stranger, dn(1))),
        Reject::UnknownIdentity { address: stranger, role: Role::Gateway }
    );
    let nonce = w.nonce("payer");
    w.ok("payer", open(payee, dn(30)));
    let channel = channel_id(address("payer"), payee, nonce);
    let payer = address("payer");
    let top_up = |channel, amount| Payload::TopUpChannel { channel, amount };
    w.ok("payer", top_up(channel, dn(5)));
    assert_eq!(CHANNELS.get(w.state(), &channel).unwrap().balance(), dn(35));
    assert_eq!(w.reject("stranger", top_up(channel, dn(1))), Reject::NotParty { channel, payer, payee });
    let unknown = ChannelId([7; 32]);
    assert_eq!(w.reject("payer", top_up(unknown, dn(1))), Reject::UnknownChannel { channel: unknown });
    let finish = Payload::FinishChannel { channel };
    assert_eq!(w.reject("payer", finish.clone()), Reject::ChannelNotClosing { channel });
    w.ok("payer", Payload::CloseChannel { channel });
    let finish_height = w.height() + w.genesis.params.channel_close_blocks;
    assert_eq!(
        w.reject("payer", Payload::CloseChannel { channel }),
        Reject::ChannelClosing { channel, finish_height }
    );
    assert_eq!(w.reject("payer", top_up(channel, dn(1))), Reject::ChannelClosing { channel, finish_height });
    let height = w.height() + 1;
    assert_eq!(w.reject("payer", finish.clone()), Reject::ChannelDelay { channel, finish_height, height });
    w.blocks(w.genesis.params.channel_close_blocks);
    let before = w.balance("payer");
    w.ok("payer", finish);
    assert_eq!(
        w.balance("payer"),
        before.checked_add(dn(35)).unwrap().checked_sub(w.genesis.params.min_tx_fee).unwrap()
    );
    assert!(!CHANNELS.contains(w.state(), &channel));
}

#[test]
fn batches_claim_what_vouchers_cover() {
    let mut w = World::ready();
    let id = w.post(3, dn(10), Amount::ZERO);
    let channel = w.channel;
    assert_eq!(CHANNELS.get(w.state(), &channel).unwrap().balance(), dn(90));
    assert_eq!(LANES.get(w.state(), &(channel, 0)), Some(dn(10)));
    let batch = BATCHES.get(w.state(), &id).unwrap();
    assert_eq!((batch.escrow, batch.status), (dn(10), BatchStatus::Posted));

    let post =
        |w: &World, change: &dyn Fn(&mut dn_core::objects::BatchRoot), vouchers: Vec<Signed<Voucher>>| {
            let mut body = w.root("worker", vec![w.line(0, 2, dn(4))]);
            change(&mut body);
            Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers }
        };
    let good = |w: &World| vec![w.voucher(0, dn(14))];
    let refuse =
        |change: &dyn Fn(&mut dn_core::objects::BatchRoot)| w.reject("worker", post(&w, change, good(&w)));
    let (worker, sender) = (address("worker"), address("worker2"));
    assert_eq!(w.reject("worker2", post(&w, &|_| {}, good(&w))), Reject::BatchWorker { worker, sender });
    assert_eq!(refuse(&|b| b.sequence = 0), Reject::BatchSequence { expected: 1, found: 0 });
    assert_eq!(refuse(&|b| b.sequence = 2), Reject::BatchSequence { expected: 1, found: 2 });
    assert_eq!(refuse(&|b| b.count = 3), Reject::BatchCount { expected: 3, found: 2 });
    assert_eq!(refuse(&|b| b.lines[0].fees = Amount::ZERO), Reject::LineEmpty { line: 0 });
    // Everything is audited here, and at most 64 receipts of a batch are: a larger one would hide the rest.
    let large = |b: &mut dn_core::objects::BatchRoot| (b.count, b.lines[0].receipts) = (49, 49);
    assert_eq!(refuse(&large), Reject::Size { field: Field::Receipts, min: 1, max: 48, found: 49 });
    // Two receipts of a model with a context of 512 tokens; work beyond that was never done.
    assert_eq!(
        refuse(&|b| (b.lines[0].prompt_tokens, b.lines[0].output_tokens) = (1_000, 25)),
        Reject::LineTokens { line: 0, limit: 1_024, found: 1_025 }
    );
    assert_eq!(
        refuse(&|b| b.lines[0].output_tokens = u64::MAX),
        Reject::LineTokens { line: 0, limit: 1_024, found: u64::MAX }
    );
    assert_eq!(refuse(&|b| b.lines.push(b.lines[0].clone())), Reject::LinesUnsorted { line: 1 });
    assert!(matches!(refuse(&|b| b.lines.clear()), Reject::Size { field: Field::Lines, found: 0, .. }));
    assert!(matches!(refuse(&|b| b.lines[0].model = ModelId([8; 32])), Reject::UnknownModel { .. }));
    assert!(matches!(
        refuse(&|b| b.lines[0].domain = 4),
        Reject::LineDomain { line: 0, expected: 0, found: 4, .. }
    ));
    let object = SignedObject::BatchRoot;
    assert!(matches!(
        refuse(&|b| b.expires_ms = 5),
        Reject::ObjectExpired { object: SignedObject::BatchRoot, expires_ms: 5, .. }
    ));
    assert_eq!(refuse(&|b| b.chain_id = 3), Reject::ChainId { object, expected: CHAIN_ID, found: 3 });
    let stranger = address("stranger");
    assert_eq!(
        refuse(&|b| b.gateway = stranger),
        Reject::UnknownIdentity { address: stranger, role: Role::Gateway }
    );
    // Signed by the gateway, then altered.
    let body = w.root("worker", vec![w.line(0, 2, dn(4))]);
    let mut altered = Signed::sign(body, &key("gateway"));
    altered.body.lines[0].fees = dn(3);
    let expected = address("gateway");
    assert_eq!(
        w.reject("worker", Payload::PostBatch { batch: altered, vouchers: good(&w) }),
        Reject::Signature { object, expected }
    );

    let vouchers = |vouchers| w.reject("worker", post(&w, &|_| {}, vouchers));
    assert_eq!(vouchers(vec![]), Reject::VoucherMissing { channel, lane: 0 });
    assert_eq!(vouchers(vec![w.voucher(1, dn(14))]), Reject::VoucherMissing { channel, lane: 0 });
    assert_eq!(
        vouchers(vec![w.voucher(0, dn(14)), w.voucher(1, dn(14))]),
        Reject::VoucherUnexpected { channel, lane: 1 }
    );
    // The second voucher promises less than the first, which was claimed.
    let (claimed, fees) = (dn(10), dn(4));
    let max_claimable = dn(9);
    assert_eq!(
        vouchers(vec![w.voucher(0, max_claimable)]),
        Reject::VoucherTooLow { channel, lane: 0, claimed, fees, max_claimable }
    );
    let mut body = w.voucher(0, dn(14)).body;
    body.signer = stranger;
    let foreign = Signed::sign(body.clone(), &key("stranger"));
    assert_eq!(vouchers(vec![foreign]), Reject::VoucherSigner { channel, signer: stranger });
    body.signer = address("spender");
    let forged = Signed::sign(body.clone(), &key("stranger"));
    let object = SignedObject::Voucher;
    assert_eq!(vouchers(vec![forged]), Reject::Signature { object, expected: address("spender") });
    body.expires_ms = 1;
    assert!(matches!(
        vouchers(vec![Signed::sign(body.clone(), &key("spender"))]),
        Reject::ObjectExpired { object: SignedObject::Voucher, expires_ms: 1, .. }
    ));
    // More than the channel holds, however large the voucher.
    let body = w.root("worker", vec![w.line(0, 2, dn(91))]);
    let batch = Signed::sign(body, &key("gateway"));
    assert_eq!(
        w.reject("worker", Payload::PostBatch { batch, vouchers: vec![w.voucher(0, dn(500))] }),
        Reject::ChannelExhausted { channel, available: dn(90), fees: dn(91) }
    );
    // A model that this worker does not host.
    let mut by_other = w.root("worker2", vec![w.line(0, 2, dn(4))]);
    by_other.sequence = 0;
    let batch = Signed::sign(by_other, &key("gateway"));
    let (model, worker) = (w.model, address("worker2"));
    assert_eq!(
        w.reject("worker2", Payload::PostBatch { batch, vouchers: good(&w) }),
        Reject::NotOffered { model, worker }
    );
    // While a batch is open its worker cannot retire.
    assert_eq!(
        w.reject("worker", Payload::Retire { role: Role::Worker }),
        Reject::OpenBatches { address: address("worker"), role: Role::Worker, open: 1 }
    );
    // The payer may sign as well, and lanes are independent.
    let body = Voucher {
        chain_id: CHAIN_ID,
        channel,
        lane: 5,
        max_claimable: dn(2),
        signer: address("payer"),
        expires_ms: u64::MAX,
    };
    let by_payer = Signed::sign(body, &key("payer"));
    let body = w.root("worker", vec![w.line(0, 2, dn(4)), w.line(5, 1, dn(2))]);
    let batch = Signed::sign(body, &key("gateway"));
    w.ok("worker", Payload::PostBatch { batch, vouchers: vec![w.voucher(0, dn(14)), by_payer] });
    assert_eq!(CHANNELS.get(w.state(), &channel).unwrap().balance(), dn(84));
}

#[test]
fn lanes_are_bounded() {
    let mut params = params();
    params.max_lanes = 2;
    let mut w = World::with(params);
    w.prepare();
    let lines = vec![w.line(0, 1, dn(1)), w.line(1, 1, dn(1)), w.line(2, 1, dn(1))];
    let vouchers = (0..3).map(|lane| w.voucher(lane, dn(1))).collect();
    let batch = Signed::sign(w.root("worker", lines), &key("gateway"));
    assert_eq!(
        w.reject("worker", Payload::PostBatch { batch, vouchers }),
        Reject::Size { field: Field::Lanes, min: 1, max: 2, found: 3 }
    );
}

#[test]
fn transaction_fees_reach_the_stake_pools() {
    let mut w = World::bare();
    let before = STAKE_POOLS.get(w.state(), &address("v2")).unwrap().tokens();
    let held = |w: &World| POOLS.get_or_default(w.state(), &Pool::Validators);
    w.ok("payer", transfer(dn(1)));
    assert_eq!(held(&w), w.genesis.params.min_tx_fee);
    let events = w.blocks(w.genesis.params.epoch_blocks);
    assert!(events.iter().any(|e| matches!(e, Event::PoolRewarded { .. })));
    assert_eq!(held(&w), Amount::ZERO);
    assert!(STAKE_POOLS.get(w.state(), &address("v2")).unwrap().tokens() > before);
}

/// An epoch's end goes through all workers and validators, so they are bounded; who leaves makes room, and who left is not counted.
#[test]
fn a_role_is_full() {
    let mut params = params();
    params.max_in_role = 3;
    let mut w = World::with(params);
    let role = Role::Worker;
    let collateral = w.genesis.params.collateral.worker;
    for who in ["owner", "worker", "worker2"] {
        w.ok(who, register(role, collateral));
    }
    assert_eq!(w.reject("stranger", register(role, collateral)), Reject::RoleFull { role, limit: 3 });
    let validator = register(Role::Validator, w.genesis.params.collateral.validator);
    assert_eq!(w.reject("stranger", validator), Reject::RoleFull { role: Role::Validator, limit: 3 });
    w.ok("worker", Payload::Retire { role });
    w.ok("stranger", register(role, collateral));
    assert_eq!(w.reject("payer", register(role, collateral)), Reject::RoleFull { role, limit: 3 });
    let listed: Vec<_> = IN_ROLE.iter_from(w.state(), &role).map(|((_, who), _)| who).collect();
    let mut expected = vec![address("owner"), address("worker2"), address("stranger")];
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(ROLE_COUNTS.get_or_default(w.state(), &role), 3);
}

/// Nothing goes through gateways or model owners, so nobody shuts them out with cheap registrations.
#[test]
fn whoever_nothing_goes_through_is_not_capped() {
    let mut params = params();
    params.max_in_role = 1;
    let mut w = World::with(params);
    for (role, amount) in [(Role::ModelOwner, 10), (Role::Gateway, 100)] {
        for who in ["owner", "worker", "worker2", "stranger"] {
            w.ok(who, register(role, dn(amount)));
        }
        assert_eq!(ROLE_COUNTS.get_or_default(w.state(), &role), 4);
    }
}
