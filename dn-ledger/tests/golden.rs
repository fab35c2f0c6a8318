//! Hashes that must never change by accident: whoever changes an encoding changes every chain.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{World, address, dn, genesis, key, params};
use dn_core::objects::{BatchRoot, FinishReason, JobAcceptance, Receipt};
use dn_core::{Amount, Canonical, Hash32, Signed};
use dn_ledger::tx::{BackingTerms, DomainTerms, Licence, NewJob, NewVersion, Parent, Shares, escrow_id};
use dn_ledger::{Chain, Genesis, GenesisError, Params, Payload};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn genesis_and_one_block() {
    let genesis = genesis(params());
    let mut chain = Chain::new(&genesis);
    let tip = chain.tip().hash();
    let w = World::bare();
    let tx = w.tx("payer", Payload::Transfer { to: address("owner"), amount: dn(1) });
    let id = tx.id();
    let block = chain.propose(address("v1"), common::START_MS + 1_000, &[tx]).unwrap().block;
    let hashes = [genesis.hash().0, tip.0, id.0, block.header.state.0, block.header.hash().0];
    assert_eq!(
        hashes.map(|hash| hex(&hash)),
        [
            "1ac2630e5294292850004108ce75f5f133e205744e554e3cd5e3ccc4f6b02107",
            "b11da9594b71fb4dbb369b75c84125b368c05448ec44087f3dde8f5031f7e8d1",
            "1d86a6dcf35f03679b11612fc7ebcbca8f42e4753993639e12727cc0318350b6",
            "e63f6ceeb66904b5cc9c510526eb40a93a7e9dcd066f4465ec74696f4cab347e",
            "d7871afd1a164ff52bd61e60391e0a8fd0064fb0a3a4fc66add0dfae440c0b2e",
        ]
    );
}

/// The state root after a chain on which everybody did something, epochs ended and a batch was settled: whoever changes what a
/// transaction does, or how the state is hashed, changes it.
#[test]
fn a_scripted_chain() {
    let mut w = World::ready();
    w.ok("stranger", Payload::Stake { validator: address("v2"), amount: dn(50) });
    w.post(3, dn(1), Amount::ZERO);
    w.blocks(24);
    w.ok("payer", Payload::CloseChannel { channel: w.channel });
    w.ok("owner", Payload::SetModelPrice { model: w.model, price: common::price() });
    let tip = w.chain.tip();
    let pinned = [
        "163b5d9bfd49c8480829a57673ac410ca10df5cb495baeef62a83a77352bb56a",
        "2e09d04633f4aa3efb91d592b50de10641ed2c88a8c5e4d93af45406dc37152e",
    ];
    assert_eq!([hex(&tip.state.0), hex(&tip.hash().0)], pinned);
}

/// A payload of every kind, in the order of their tags.
#[test]
fn every_payload() {
    let mut w = World::ready();
    let verdict =
        World::verdict("v1", dn_core::BatchId([4; 32]), 2, dn_core::objects::AuditOutcome::Match {});
    w.sequence = 0;
    let batch = Signed::sign(w.root("worker", vec![w.line(0, 2, dn(1))]), &key("gateway"));
    let (model, channel, domain) = (w.model, w.channel, 0);
    let (to, validator, payee, spender) =
        (address("owner"), address("v1"), address("gateway"), address("spender"));
    let (amount, deposit, price) = (dn(1), dn(2), common::price());
    let payloads = [
        Payload::Transfer { to, amount },
        Payload::Register {
            role: dn_ledger::Role::Gateway,
            collateral: amount,
            name: "n".into(),
            endpoint: "e".into(),
        },
        Payload::Retire { role: dn_ledger::Role::Worker },
        Payload::Stake { validator, amount },
        Payload::Unbond { validator, shares: dn_ledger::tx::Shares(5) },
        Payload::Withdraw {},
        Payload::PublishModel { manifest: common::manifest(1), name: "m".into(), price, domain },
        Payload::SetModelPrice { model, price },
        Payload::RetireModel { model },
        Payload::Offer { model },
        Payload::Unoffer { model },
        Payload::OpenChannel { payee, deposit, spender },
        Payload::TopUpChannel { channel, amount },
        Payload::CloseChannel { channel },
        Payload::FinishChannel { channel },
        Payload::PostBatch { batch, vouchers: vec![w.voucher(0, dn(1))] },
        World::commit_payload(&verdict),
        World::reveal_payload(&verdict),
    ];
    let mut all = Vec::new();
    for (tag, payload) in payloads.iter().enumerate() {
        let bytes = payload.to_bytes();
        assert_eq!(usize::from(bytes[0]), tag);
        assert_eq!(Payload::from_bytes(&bytes).as_ref(), Ok(payload));
        for end in 0..bytes.len() {
            assert!(Payload::from_bytes(&bytes[..end]).is_err(), "{tag} cut at {end}");
        }
        let json = serde_json::to_string(payload).unwrap();
        assert_eq!(&serde_json::from_str::<Payload>(&json).unwrap(), payload);
        all.extend(bytes);
    }
    assert_eq!(
        hex(&dn_core::keccak256(&[&all])),
        "f7fdca6f98a6967177aa781d9e70cad67f836912b5a8f6c1a58280f3cb344d6d"
    );
}

/// Payloads of domains, models, backers and jobs, in the order of their tags.
#[test]
fn every_payload_of_the_registry() {
    let (domain, to, amount) = (3, address("owner"), dn(1));
    let (family, shares) = (dn_core::ModelId([4; 32]), Shares(5));
    let emission = Some(dn_powr::DomainSplit::default());
    let fees = Some(dn_powr::FeeMove { worker: 6_500, owner: 2_000, validators: 800, domain: 400 });
    let terms = DomainTerms { emission, fees };
    let version = NewVersion {
        family: Some(family),
        manifest: common::manifest(1),
        name: "m".into(),
        price: common::price(),
        domain,
        licence: Licence::default(),
        parents: vec![Parent { model: family, share_bps: 7 }],
        fees,
        backing: Some(BackingTerms { share_bps: 9, cap: amount }),
    };
    let job = NewJob {
        worker: Some(to),
        gateway: address("gateway"),
        model: family,
        job: dn_core::JobId([6; 32]),
        price: common::price(),
        amount,
        expires_height: 77,
    };
    let escrow = escrow_id(address("payer"), address("gateway"), 2);
    let receipt = Signed::sign(receipt(escrow), &key("worker"));
    let acceptance = JobAcceptance {
        chain_id: common::CHAIN_ID,
        escrow,
        receipt: receipt.body.id(),
        payer: address("payer"),
        expires_ms: 8,
    };
    let w = World::bare();
    let batch = BatchRoot { expires_ms: 9, ..w.root("worker", vec![w.line(0, 1, dn(1))]) };
    let payloads = [
        Payload::CreateDomain { name: "code".into(), terms },
        Payload::ConfigureDomain { domain, terms: DomainTerms::default() },
        Payload::TransferDomain { domain, to },
        Payload::SpendTreasury { domain, to, amount },
        Payload::CloseDomain { domain },
        Payload::PublishVersion { version },
        Payload::TransferModel { family, to },
        Payload::BackModel { family, amount },
        Payload::Unback { family, shares },
        Payload::LockJob { job },
        Payload::ClaimJob {
            batch: Signed::sign(batch, &key("gateway")),
            receipt,
            acceptance: Some(Signed::sign(acceptance, &key("payer"))),
        },
    ];
    let mut all = Vec::new();
    for (tag, payload) in (40..).zip(&payloads) {
        let bytes = payload.to_bytes();
        assert_eq!(bytes[0], tag);
        assert_eq!(Payload::from_bytes(&bytes).as_ref(), Ok(payload));
        for end in 0..bytes.len() {
            assert!(Payload::from_bytes(&bytes[..end]).is_err(), "{tag} cut at {end}");
        }
        let json = serde_json::to_string(payload).unwrap();
        assert_eq!(&serde_json::from_str::<Payload>(&json).unwrap(), payload);
        all.extend(bytes);
    }
    assert_eq!(
        [hex(&escrow.0), hex(&dn_core::keccak256(&[&all]))],
        [
            "c83d4770dbd7bd46cd3b75a787d747fd98233973d49bbd30f69367e3f30f481c",
            "b09011609cbcfc458be3d3ff762a786b77243071bea6b0aae8479297d48887ca",
        ]
    );
}

fn receipt(channel: dn_core::ChannelId) -> Receipt {
    Receipt {
        chain_id: common::CHAIN_ID,
        job: dn_core::JobId([6; 32]),
        domain: 3,
        model: dn_core::ModelId([4; 32]),
        numeric_spec: 1,
        prompt_hash: Hash32([1; 32]),
        output_hash: Hash32([2; 32]),
        trace_root: Hash32([3; 32]),
        prompt_tokens: 4,
        output_tokens: 5,
        finish: FinishReason::Stop,
        price: common::price(),
        fee: dn(1),
        payer: address("payer"),
        channel,
        lane: 0,
        worker: address("worker"),
        gateway: address("gateway"),
        started_ms: 6,
        finished_ms: 7,
        expires_ms: 8,
    }
}

#[test]
fn a_genesis_round_trips_and_is_checked() {
    let good = genesis(params());
    assert_eq!(Genesis::from_json(&good.to_json()).unwrap(), good);
    assert_eq!(Genesis::from_bytes(&good.to_bytes()), Ok(good.clone()));
    let bad = |change: &dyn Fn(&mut Genesis)| {
        let mut genesis = good.clone();
        change(&mut genesis);
        Genesis::from_json(&genesis.to_json()).expect_err("refused")
    };
    let one = Amount::from_atto(1);
    assert!(matches!(bad(&|g| g.reserve = one), GenesisError::Supply { .. }));
    assert!(matches!(bad(&|g| g.chain_id = 0), GenesisError::ChainId));
    assert!(matches!(bad(&|g| g.accounts.swap(0, 1)), GenesisError::Order { list: "accounts", .. }));
    assert!(matches!(
        bad(&|g| g.stakes[0].validator = address("owner")),
        GenesisError::UnknownValidator { .. }
    ));
    let deaf = |g: &mut Genesis| g.identities.iter_mut().for_each(|i| i.endpoint.clear());
    assert!(matches!(bad(&deaf), GenesisError::NoValidator));
    assert!(matches!(bad(&|g| g.identities[0].collateral = one), GenesisError::Identity { .. }));
    assert!(matches!(bad(&|g| g.params.epoch_blocks = 0), GenesisError::Params(_)));
    assert!(matches!(bad(&|g| g.domains.clear()), GenesisError::Domains { found: 0, .. }));
    let owned = bad(&|g| g.domains[0].owner = Some(address("owner")));
    assert!(matches!(owned, GenesisError::Domain { index: 0, .. }));
    let twice = bad(&|g| g.domains.push(g.domains[0].clone()));
    assert!(matches!(twice, GenesisError::Domain { index: 1, .. }));
    assert!(matches!(bad(&|g| g.domains[0].name = "A".into()), GenesisError::Domain { index: 0, .. }));
    assert!(matches!(Genesis::from_json("{\"chain_id\":1}"), Err(GenesisError::Json(_))));
    let unknown = good.to_json().replacen("{", "{\"surprise\":1,", 1);
    assert!(matches!(Genesis::from_json(&unknown), Err(GenesisError::Json(_))));
    assert_eq!(Params::from_bytes(&Params::devnet().to_bytes()), Ok(Params::devnet()));
    assert_ne!(good.hash(), Hash32::ZERO);
}
