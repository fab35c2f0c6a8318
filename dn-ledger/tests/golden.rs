//! Hashes that must never change by accident: whoever changes an encoding changes every chain.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{World, address, dn, genesis, key, params};
use dn_core::{Amount, Canonical, Hash32, Signed};
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
            "9f81d5f68228cd5a97151787430c5fadb88bfd5f7cb9a312b632a8e9fa1426e2",
            "713cd539f3da55a25812dd8b46927b6228a33de16904182d6e79da4c62326d13",
            "1d86a6dcf35f03679b11612fc7ebcbca8f42e4753993639e12727cc0318350b6",
            "59febc7f8ebda9768ee53c291b3aeebd926c1c47ce65d1ad16e182676191a0cf",
            "c1ee990969d9e22fc2a66ff1faa212fa7498751783f23823a86c0cdfacd597d7",
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
    let pinned = ["STATE", "HASH"];
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
    assert!(matches!(Genesis::from_json("{\"chain_id\":1}"), Err(GenesisError::Json(_))));
    let unknown = good.to_json().replacen("{", "{\"surprise\":1,", 1);
    assert!(matches!(Genesis::from_json(&unknown), Err(GenesisError::Json(_))));
    assert_eq!(Params::from_bytes(&Params::devnet().to_bytes()), Ok(Params::devnet()));
    assert_ne!(good.hash(), Hash32::ZERO);
}
