//! Hashes that must never change by accident: whoever changes an encoding changes every chain.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{World, address, dn, genesis, key, params};
use dn_core::objects::{BatchRoot, FinishReason, JobAcceptance, Receipt, SessionGrant};
use dn_core::{Amount, BlockHash, Canonical, Hash32, Signed};
use dn_ledger::tx::{
    Admission, BackingTerms, Choice, DomainTerms, Evidence, Licence, NewJob, NewVersion, ParamChange, Parent,
    ProposalKind, Shares, escrow_id, model_commitment,
};
use dn_ledger::vote::RoundProposal;
use dn_ledger::{Chain, Genesis, GenesisError, Params, Payload, ValidatorSet};

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
            "6f4c18bc2a27dfd3d61f93ca6d1c826d898c41193483229a2ab944950fe2d2eb",
            "387f5d327fe2d5bebb9d81964cdc553c4978f6a3f71f6936ab5eb344cf1cfe8b",
            "1d86a6dcf35f03679b11612fc7ebcbca8f42e4753993639e12727cc0318350b6",
            "d6d25d04805035521ce92d41d6af58971b28b20d4c046734525de06e1f552bae",
            "9a97eda7d92afe29950cdfc7377ab9dc4f8c21984b14f8906f79a795f124730f",
        ]
    );
}

/// Whose turn it is, by an implementation of its own: Keccak, the draw and the order written anew from the description.
#[test]
fn turns() {
    let power = |who: u8, power| (dn_core::Address([who; 20]), power);
    let set = ValidatorSet::new([
        power(5, 10_000_000_000_000),
        power(1, 30_000_000_000_000),
        power(9, 25_000_000_000_000),
        power(3, 7),
    ]);
    let turn = |height: u64| set.proposer(77, Hash32([7; 32]), height, (height % 4) as u32).0[0];
    let turns: Vec<u8> = (1..=32).map(turn).collect();
    assert_eq!(
        turns,
        [5, 5, 3, 9, 5, 5, 3, 9, 1, 9, 3, 1, 1, 9, 3, 9, 1, 9, 3, 9, 1, 5, 3, 1, 9, 9, 3, 5, 1, 9, 3, 5]
    );
}

fn equivocation() -> Evidence {
    let height = 5;
    let first =
        RoundProposal { chain_id: 77, height, round: 1, block: BlockHash([1; 32]), valid_round: None };
    let second = RoundProposal { valid_round: Some(0), ..first };
    let sign = |proposal: &RoundProposal| key("v1").sign(&proposal.digest());
    Evidence::Proposals { first_signature: sign(&first), second_signature: sign(&second), first, second }
}

fn grant(model: dn_core::ModelId) -> Signed<SessionGrant> {
    let body = SessionGrant {
        chain_id: 77,
        owner: address("payer"),
        session: address("spender"),
        serial: 4,
        per_call: dn(1),
        total: dn(2),
        models: vec![model],
        expires_ms: 8,
    };
    Signed::sign(body, &key("payer"))
}

/// Every kind of proposal, and every parameter that one changes.
#[test]
fn every_proposal() {
    let (version, to, amount) = (Hash32([3; 32]), address("owner"), dn(1));
    let pool = dn_ledger::state::Pool::Reserve;
    let params = params();
    let mut all = Vec::new();
    let kinds = [
        ProposalKind::Text {},
        ProposalKind::Params { changes: vec![] },
        ProposalKind::Spend { pool, to, amount },
        ProposalKind::Upgrade { name: "v2".into(), version, height: 9 },
    ];
    for (tag, kind) in kinds.iter().enumerate() {
        let bytes = kind.to_bytes();
        assert_eq!(usize::from(bytes[0]), tag);
        assert_eq!(ProposalKind::from_bytes(&bytes).as_ref(), Ok(kind));
        all.extend(bytes);
    }
    // Parameters by their names in the genesis: what a proposal calls a parameter is what it is called there.
    let json = serde_json::to_value(&params).unwrap();
    let mut tags = 0;
    for (group, fields) in json.as_object().unwrap() {
        let split = !["fees", "domain_split", "trust"].contains(&group.as_str());
        let leaves: Vec<_> = match fields.as_object().filter(|_| split) {
            Some(fields) => fields.iter().map(|(name, value)| (format!("{group}.{name}"), value)).collect(),
            None => vec![(group.clone(), fields)],
        };
        for (name, value) in leaves {
            let change = serde_json::json!({ "parameter": name, "value": value });
            let change: Result<ParamChange, _> = serde_json::from_value(change);
            if let Ok(change) = change {
                let mut same = params.clone();
                change.apply(&mut same);
                assert_eq!((change.path(), same), (name.as_str(), params.clone()));
                assert_eq!(ParamChange::from_bytes(&change.to_bytes()).as_ref(), Ok(&change));
                all.extend(change.to_bytes());
                tags += 1;
            }
        }
    }
    assert_eq!(tags, 84);
    assert_eq!(
        hex(&dn_core::keccak256(&[&all])),
        "2aa0bd4d5a3caae96433a50510dc400af6de7e6bde92695b9a0b59aa36572432"
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
    let job = NewJob {
        worker: Some(address("worker")),
        gateway: address("gateway"),
        model: w.model,
        job: dn_core::JobId([6; 32]),
        price: common::price(),
        amount: dn(1),
        expires_height: 77,
        bond: dn(9),
    };
    w.ok("payer", Payload::LockJob { job });
    let tip = w.chain.tip();
    let pinned = [
        "d93382cf479a850c1b93825a561d837e1882f67bff18867c30b050bd87b4d8d4",
        "bfe97bee7215021a473bd42a366c04f3539350f50f840a9e49b3a00ba4f2d164",
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
        Payload::Unbond { validator, shares: Shares(5) },
        Payload::Withdraw {},
        Payload::PublishModel { manifest: common::manifest(1), name: "m".into(), price, domain, salt: None },
        Payload::SetModelPrice { model, price },
        Payload::RetireModel { model },
        Payload::Offer { model, price },
        Payload::Unoffer { model },
        Payload::OpenChannel { payee, deposit, spender },
        Payload::TopUpChannel { channel, amount },
        Payload::CloseChannel { channel },
        Payload::FinishChannel { channel },
        Payload::PostBatch { batch, vouchers: vec![w.voucher(0, dn(1))] },
        World::commit_payload(&verdict),
        World::reveal_payload(&verdict),
        Payload::UpdateIdentity {
            role: dn_ledger::Role::Validator,
            name: Some("n".into()),
            endpoint: None,
            add_collateral: amount,
        },
        Payload::SetCommission { rate: 77 },
        Payload::Redelegate { from: validator, to, shares: Shares(6) },
        Payload::SubmitEvidence { validator, evidence: equivocation() },
        Payload::GrantSession { grant: grant(model) },
        Payload::RevokeSession { session: spender, serial: 4 },
        Payload::Propose {
            title: "t".into(),
            text: "x".into(),
            kind: ProposalKind::Params { changes: vec![ParamChange::SlashReporter { value: 9 }] },
            deposit,
        },
        Payload::Deposit { proposal: 3, amount },
        Payload::Vote { proposal: 3, pool: validator, choice: Choice::NoWithVeto },
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
        "02b5104578924fc17d95e42d3ae4d15fdd4b69b68850f05e4dbbbb86024c0157"
    );
}

/// Payloads of domains, models, backers and jobs, in the order of their tags.
#[test]
fn every_payload_of_the_registry() {
    let (domain, to, amount) = (3, address("owner"), dn(1));
    let (family, shares) = (dn_core::ModelId([4; 32]), Shares(5));
    let emission = Some(dn_powr::DomainSplit::default());
    let fees = Some(dn_powr::FeeMove { worker: 6_500, owner: 2_000, validators: 800, domain: 400 });
    let terms = DomainTerms { emission, fees, admission: Admission::Owner };
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
        salt: Some(Hash32([8; 32])),
    };
    let job = NewJob {
        worker: Some(to),
        gateway: address("gateway"),
        model: family,
        job: dn_core::JobId([6; 32]),
        price: common::price(),
        amount,
        expires_height: 77,
        bond: dn(9),
    };
    let commitment = model_commitment(family, to, &Hash32([8; 32]));
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
            receipt: Box::new(receipt),
            acceptance: Some(Signed::sign(acceptance, &key("payer"))),
        },
        Payload::CommitModel { commitment },
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
        [hex(&escrow.0), hex(&commitment.0), hex(&dn_core::keccak256(&[&all]))],
        [
            "c83d4770dbd7bd46cd3b75a787d747fd98233973d49bbd30f69367e3f30f481c",
            "c8c64e5be4488413b80389ce6fa1d3f64a6d13c7dc6ef1270076f490098810dd",
            "23e0b481eabbcc15e8e289415f129609d71c79559c43077d7e68c32a83630f24",
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
