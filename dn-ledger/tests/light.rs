//! The light client believes nothing: forged headers, certificates, sets and proofs are refused, each for its reason.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CHAIN_ID, START_MS, World, address, certificate, dn, key, manifest, params, price};
use dn_core::merkle::MerkleTree;
use dn_core::objects::{AuditOutcome, SessionGrant};
use dn_core::{Amount, BatchId, Canonical, Hash32, JobId, Signed};
use dn_ledger::block::{Certificate, CertificateError};
use dn_ledger::light::{
    LightBlock, LightClient, LightError, ProofView, Proven, Subject, SubjectError, TrustOptions, TrustedHash,
    verify_receipt,
};
use dn_ledger::state::{
    ACCOUNTS, BACKING_POOLS, BACKING_SHARES, BATCHES, FAMILY_VERSIONS, IDENTITIES, LANES, PARAMS, POOLS,
    ProofEnd, ProofError, REDELEGATION_POOLS, STAKE_SHARES, State, UNBONDING_POOLS, WORKER_BATCHES,
    WORKER_SEQUENCES,
};
use dn_ledger::tx::{BackingTerms, Licence, NewJob, NewVersion, ProposalKind, Shares, escrow_id};
use dn_ledger::views::PageRequest;
use dn_ledger::{Params, Payload, Role, ValidatorSet, query};

const NOW: u64 = START_MS + 10_000_000;

fn light_block(w: &World) -> LightBlock {
    let chain = &w.chain;
    let (tip, decided) = (chain.tip().clone(), chain.certificate().clone());
    LightBlock::new(tip, decided, chain.tip_validators(), chain.validators())
}

/// A chain of `count` blocks, with each of its light blocks; stake moves at each epoch's end, so the sets change.
fn chain(count: u64) -> (World, Vec<LightBlock>) {
    let mut w = World::bare();
    let mut blocks = vec![light_block(&w)];
    for n in 0..count {
        let validator = address(["v1", "v2", "v3"][n as usize % 3]);
        w.ok("stranger", Payload::Stake { validator, amount: dn(20 + n % 30) });
        blocks.push(light_block(&w));
    }
    (w, blocks)
}

fn client(w: &World) -> LightClient {
    LightClient::from_genesis(&w.genesis, TrustOptions::default())
}

fn prove(w: &World, subject: Subject) -> ProofView {
    ProofView::answer(&subject, w.state(), light_block(w))
}

/// The block with its header changed and signed anew by everybody, unless a set is given.
fn forged(block: &LightBlock, change: impl Fn(&mut LightBlock)) -> LightBlock {
    let mut block = block.clone();
    change(&mut block);
    block.certificate = certificate(&block.header, &block.validators);
    block
}

#[test]
fn headers_are_followed_one_by_one_and_by_leaps() {
    let (w, blocks) = chain(30);
    let sets: std::collections::BTreeSet<_> = blocks.iter().map(|b| b.header.next_validators).collect();
    assert!(sets.len() >= 3, "the sets changed");
    let (mut walker, mut leaper) = (client(&w), client(&w));
    for block in &blocks {
        walker.update(block, NOW).unwrap();
    }
    leaper.update(blocks.last().unwrap(), NOW).unwrap();
    assert_eq!(walker.header(), leaper.header());
    assert_eq!(walker.next_validators(), &w.chain.validators());
    // What was accepted lately is accepted again, and changes nothing.
    let before = walker.clone();
    walker.update(&blocks[20], NOW).unwrap();
    assert_eq!(walker, before);
    let (height, hash) = (9, blocks[9].header.hash());
    let trusted = TrustedHash { height, hash };
    let mut middle = LightClient::from_trusted(trusted, &blocks[9], TrustOptions::default()).unwrap();
    middle.update(&blocks[10], NOW).unwrap();
    middle.update(&blocks[30], NOW).unwrap();
    let other = LightClient::from_trusted(trusted, &blocks[8], TrustOptions::default());
    assert!(matches!(other, Err(LightError::Trusted { height: 9, .. })));
}

/// Answers to questions that were asked at once arrive in any order: an older header counts when newer ones name it as a parent.
#[test]
fn older_headers_are_accepted_where_newer_ones_lead_to_them() {
    let (w, blocks) = chain(100);
    let mut leaper = client(&w);
    leaper.update(&blocks[98], NOW).unwrap();
    let (newest, old) = (leaper.header().clone(), |found| Err(LightError::Old { trusted: 98, found }));
    assert_eq!(leaper.update(&blocks[95], NOW), old(95), "nothing leads there yet");
    let forgery = forged(&blocks[97], |b| b.header.state.0[0] ^= 1);
    let (expected, found) = (blocks[97].header.hash(), forgery.header.hash());
    let untrue = Err(LightError::Trusted { height: 97, expected, found });
    assert_eq!(leaper.update(&forgery, NOW), untrue, "though every validator signed it");
    for height in (34..98).rev() {
        leaper.update(&blocks[height], NOW).unwrap();
    }
    assert_eq!(leaper.header(), &newest);
    assert_eq!(leaper.update(&forgery, NOW), untrue);
    assert!(leaper.reaches(34) && !leaper.reaches(33) && !leaper.reaches(99));
    assert_eq!(leaper.update(&blocks[33], NOW), old(33), "long past");
    // What is out of reach is forgotten.
    leaper.update(&blocks[100], NOW).unwrap();
    assert_eq!(leaper.update(&blocks[35], NOW), Err(LightError::Old { trusted: 100, found: 35 }));
    leaper.update(&blocks[36], NOW).unwrap();
    // The start may be newer than an answer that was on its way.
    let trusted = TrustedHash { height: 9, hash: blocks[9].header.hash() };
    let mut seen = LightClient::from_trusted(trusted, &blocks[9], TrustOptions::default()).unwrap();
    seen.update(&blocks[8], NOW).unwrap();
    assert!(!seen.has_advanced());
}

/// The set that was elected at an epoch's end decides three blocks later; header E + 3 is the first that names it.
#[test]
fn a_new_set_decides_when_a_header_names_it() {
    let mut params = params();
    (params.epoch_blocks, params.beacon.delay_blocks) = (8, 3);
    let mut w = World::with(params);
    let mut blocks = vec![light_block(&w)];
    for n in 0..28u64 {
        let validator = address(["v1", "v2", "v3"][n as usize % 3]);
        w.ok("stranger", Payload::Stake { validator, amount: dn(20 + n) });
        blocks.push(light_block(&w));
    }
    let (mut walker, mut changes) = (client(&w), Vec::new());
    for block in &blocks[1..] {
        walker.update(block, NOW).unwrap();
        assert_eq!(walker.next_validators(), block.next_set());
        if block.header.next_validators != block.header.validators {
            changes.push(block.header.height);
        }
    }
    assert_eq!(changes, [10, 18, 26]);
    // Before its time the elected set decides nothing, however many of its members sign.
    let mut early = client(&w);
    blocks[1..8].iter().for_each(|block| early.update(block, NOW).unwrap());
    let elected = blocks[11].validators.clone();
    let forged = forged(&blocks[8], |b| {
        b.validators = elected.clone();
        b.header.validators = elected.hash();
        b.next_validators = Some(blocks[8].validators.clone());
    });
    let error = early.update(&forged, NOW).unwrap_err();
    assert!(matches!(error, LightError::Set { height: 8, field: "validators", .. }), "{error}");
    early.update(&blocks[10], NOW).unwrap();
    early.update(&blocks[28], NOW).unwrap();
}

#[test]
fn headers_that_do_not_follow_are_refused() {
    let (w, blocks) = chain(12);
    let mut light = client(&w);
    light.update(&blocks[1], NOW).unwrap();
    let before = light.clone();
    let mut refused = |block: &LightBlock| light.update(block, NOW).expect_err("refused");
    let next = &blocks[2];

    let e = refused(&forged(next, |b| b.header.chain_id += 1));
    assert!(matches!(e, LightError::ChainId { expected: 77, found: 78 }), "{e}");
    let e = refused(&forged(next, |b| b.header.parent.0[0] ^= 1));
    assert!(matches!(e, LightError::Parent { height: 2, .. }), "{e}");
    let e = refused(&forged(next, |b| b.header.time_ms = before.header().time_ms));
    assert!(matches!(e, LightError::TimeBack { height: 2, .. }), "{e}");
    let e = refused(&forged(next, |b| b.header.time_ms = NOW + 10_001));
    assert!(matches!(e, LightError::Future { height: 2, .. }), "{e}");
    let e = refused(&forged(&blocks[1], |b| b.header.state.0[0] ^= 1));
    assert!(matches!(e, LightError::Trusted { height: 1, .. }), "{e}");

    // A header whose content was changed keeps no signature.
    let mut bent = next.clone();
    bent.header.state.0[5] ^= 1;
    let e = refused(&bent);
    assert!(
        matches!(e, LightError::Certificate { source: CertificateError::Signature { round: 0, .. }, .. }),
        "{e}"
    );
    // A set of one's own, even when the header names it.
    let own = ValidatorSet::new([(address("stranger"), 10)]);
    let e = refused(&forged(next, |b| {
        b.next_validators = Some(b.next_set().clone());
        b.validators = own.clone();
        b.header.validators = own.hash();
    }));
    assert!(matches!(e, LightError::Set { field: "validators", .. }), "{e}");
    let e = refused(&forged(next, |b| b.next_validators = Some(own.clone())));
    assert!(matches!(e, LightError::Set { field: "next_validators", .. }), "{e}");
    // The same over a gap: none of the trusted power signed.
    let e = refused(&forged(&blocks[12], |b| {
        b.validators = own.clone();
        b.header.validators = own.hash();
        b.next_validators = None;
        b.header.next_validators = own.hash();
    }));
    assert!(matches!(e, LightError::Trust { height: 12, trusted: 1, found: 0, .. }), "{e}");
    assert_eq!(light, before, "a refusal changes nothing");
    light.update(&blocks[12], NOW).unwrap();
}

#[test]
fn certificates_without_a_quorum_are_refused() {
    let (w, blocks) = chain(3);
    let mut light = client(&w);
    let good = &blocks[1];
    let mut refused = |certificate: Certificate| {
        let block = LightBlock { certificate, ..good.clone() };
        match light.update(&block, NOW) {
            Err(LightError::Certificate { height: 1, source }) => source,
            other => panic!("{other:?}"),
        }
    };
    let keys = ["v1", "v2", "v3"].map(key);
    let two = Certificate::sign(&good.header, 0, &keys[..2]);
    assert!(matches!(refused(two.clone()), CertificateError::Quorum { .. }));
    let mut twice = two.clone();
    twice.signatures.push(two.signatures[1]);
    assert!(matches!(refused(twice), CertificateError::Order { .. }));
    let stranger = Certificate::sign(&good.header, 0, &["v1", "v2", "v3", "stranger"].map(key));
    assert!(matches!(refused(stranger), CertificateError::NotMember { .. }));
    let round = Certificate { round: 1, ..good.certificate.clone() };
    assert!(matches!(refused(round), CertificateError::Signature { round: 1, .. }));
    let other = Certificate::sign(&blocks[2].header, 0, &keys);
    assert!(matches!(refused(other), CertificateError::Signature { .. }));
    assert!(matches!(refused(Certificate::default()), CertificateError::Quorum { found: 0, .. }));
}

/// Too much power moved between the trusted header and the new one: only the headers in between lead there.
#[test]
fn a_skipped_change_of_the_set_is_noticed() {
    let mut w = World::bare();
    let mut blocks = vec![light_block(&w)];
    let role = Role::Validator;
    for name in ["owner", "payer", "gateway"] {
        let (name, endpoint, collateral) = (name.to_owned(), "x:1".to_owned(), dn(1_000));
        w.ok(&name.clone(), Payload::Register { role, collateral, name, endpoint });
        blocks.push(light_block(&w));
    }
    for name in ["owner", "payer", "gateway"] {
        w.ok(name, Payload::Stake { validator: address(name), amount: dn(3_900) });
        blocks.push(light_block(&w));
    }
    // The old validators leave.
    for name in ["v1", "v2", "v3"] {
        w.ok(name, Payload::Retire { role });
        blocks.push(light_block(&w));
    }
    while blocks.len() < 30 {
        w.block(&[]);
        blocks.push(light_block(&w));
    }
    let last = blocks.last().unwrap();
    assert!(last.validators.members.iter().all(|m| m.address != address("v1")), "the old ones are gone");
    let mut light = client(&w);
    let e = light.update(last, NOW).unwrap_err();
    assert!(matches!(e, LightError::Trust { trusted: 0, found: 0, .. }), "{e}");
    for block in &blocks {
        light.update(block, NOW).unwrap();
    }
    // A lower threshold does not help where nobody is left, a higher one forbids what the default allows.
    let strict = TrustOptions { threshold: (1, 1), ..TrustOptions::default() };
    let mut strict = LightClient::from_genesis(&w.genesis, strict);
    assert!(matches!(strict.update(&blocks[5], NOW), Err(LightError::Trust { .. })));
}

#[test]
fn a_trusted_block_is_written_as_height_and_hash() {
    let (_, blocks) = chain(1);
    let trusted = TrustedHash { height: 12, hash: blocks[1].header.hash() };
    assert_eq!(trusted.to_string().parse(), Ok(trusted));
    let hash = trusted.hash.to_string();
    for bad in
        ["", ":", "12", "12:", &format!("x:{hash}"), &format!("-1:{hash}"), &format!("12:{hash}0"), &hash]
    {
        let error = bad.parse::<TrustedHash>().expect_err("refused");
        assert!(error.to_string().contains(bad), "{error}");
    }
}

#[test]
fn trust_expires() {
    let (_, blocks) = chain(5);
    let hash = blocks[2].header.hash();
    let options = TrustOptions { period_ms: 1_000_000, ..TrustOptions::default() };
    let start = || LightClient::from_trusted(TrustedHash { height: 2, hash }, &blocks[2], options).unwrap();
    let time_ms = blocks[2].header.time_ms;
    start().update(&blocks[5], time_ms + 999_999).unwrap();
    let e = start().update(&blocks[5], time_ms + 1_000_000);
    assert_eq!(e, Err(LightError::Expired { height: 2, age_ms: 1_000_000, period_ms: 1_000_000 }));
}

/// A genesis is no better than another block: who decided there may have left.
#[test]
fn an_old_genesis_vouches_for_nothing() {
    let (w, blocks) = chain(5);
    let options = TrustOptions::of(&w.genesis.params);
    let start = || LightClient::from_genesis(&w.genesis, options);
    let (born, period_ms) = (w.genesis.time_ms, options.period_ms);
    start().update(&blocks[1], born + period_ms - 1).unwrap();
    for block in [&blocks[1], &blocks[5]] {
        let error = start().update(block, born + period_ms).unwrap_err();
        assert_eq!(error, LightError::Expired { height: 0, age_ms: period_ms, period_ms });
        assert!(error.to_string().contains("--trusted HEIGHT:HASH"), "{error}");
    }
    let trusted = TrustedHash { height: 4, hash: blocks[4].header.hash() };
    let mut known = LightClient::from_trusted(trusted, &blocks[4], options).unwrap();
    known.update(&blocks[5], born + period_ms).unwrap();
}

#[test]
fn trust_is_shorter_than_stake_is_bound() {
    let main = Params::main();
    // A week, less an hour, less the most blocks that a set decides after its successor is elected.
    assert_eq!(main.unbonding_ms(), (167 * 3_600 - 64) * 1_000);
    for epochs in [3, 24, 168, 500] {
        // What is in force now may be longer; what may be voted counts.
        let params = Params { unbonding_epochs: 600, min_unbonding_epochs: epochs, ..main.clone() };
        let period_ms = TrustOptions::of(&params).period_ms;
        assert!(period_ms <= params.unbonding_ms() / 3 * 2 && period_ms > params.unbonding_ms() / 2);
    }
    assert_eq!(TrustOptions::default(), TrustOptions::of(&main));
}

#[test]
fn queries_over_what_was_proven_say_what_the_node_says() {
    let mut w = World::ready();
    w.ok("stranger", Payload::Stake { validator: address("v2"), amount: dn(50) });
    let id = w.post(3, dn(1), Amount::ZERO);
    let header = w.chain.tip().clone();
    let open = |subject| Proven::open(&header, &subject, &prove(&w, subject)).unwrap();

    let account = Subject::Account { address: address("stranger") };
    let expected = query::account(w.state(), address("stranger"));
    assert_eq!(expected.stakes.len(), 1);
    assert_eq!(query::account(open(account).state(), address("stranger")), expected);
    let nobody = Subject::Account { address: address("nobody") };
    assert_eq!(query::account(open(nobody).state(), address("nobody")).balance, Amount::ZERO);

    let channel = open(Subject::Channel { id: w.channel });
    assert_eq!(query::channel(channel.state(), w.channel), query::channel(w.state(), w.channel));
    let model = open(Subject::Model { id: w.model });
    assert_eq!(query::model(model.state(), w.model), query::model(w.state(), w.model));
    for (name, role) in [("worker", Role::Worker), ("v1", Role::Validator), ("gateway", Role::Gateway)] {
        let identity = open(Subject::Identity { address: address(name), role });
        let expected = query::identity(w.state(), role, address(name));
        assert!(expected.is_some());
        assert_eq!(query::identity(identity.state(), role, address(name)), expected);
    }
    let gone = Subject::Identity { address: address("payer"), role: Role::Worker };
    assert_eq!(query::identity(open(gone).state(), Role::Worker, address("payer")), None);

    let batch = open(Subject::Batch { id });
    assert_eq!(BATCHES.get(batch.state(), &id), BATCHES.get(w.state(), &id));
    let receipts = MerkleTree::new((0..3u32).map(|i| i.to_le_bytes()));
    let proof = receipts.prove(1).unwrap();
    assert_eq!(verify_receipt(&batch, id, &1u32.to_le_bytes(), &proof), Ok(()));
    let missing = Err(SubjectError::Receipt { batch: id, index: 1 });
    assert_eq!(verify_receipt(&batch, id, &2u32.to_le_bytes(), &proof), missing);
    let other = BatchId([9; 32]);
    assert!(verify_receipt(&batch, other, &1u32.to_le_bytes(), &proof).is_err());
}

/// What a forgotten batch was is not in the state any more; that it took its sequence is still proven.
#[test]
fn a_forgotten_batch_keeps_its_sequence() {
    let mut params = params();
    params.governance.kept_epochs = 1;
    let mut w = World::with(params);
    w.prepare();
    let id = w.post(3, dn(1), Amount::ZERO);
    w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    w.blocks(2 * w.genesis.params.epoch_blocks);
    let header = w.chain.tip().clone();
    let open = |subject| Proven::open(&header, &subject, &prove(&w, subject)).unwrap();
    assert_eq!(query::batch(open(Subject::Batch { id }).state(), id), None);
    let worker = address("worker");
    let proven = open(Subject::BatchAt { worker, sequence: 0 });
    assert_eq!(WORKER_BATCHES.get(proven.state(), &(worker, 0)), Some(id));
}

/// Which batch took a worker's sequence, and which sequence is next, are known without believing a list.
#[test]
fn a_workers_sequences_are_proven() {
    let mut w = World::ready();
    let first = w.post(3, dn(1), Amount::ZERO);
    let old = w.chain.tip().clone();
    let (worker, idle) = (address("worker"), address("worker2"));
    let old_answer = prove(&w, Subject::BatchAt { worker, sequence: 0 });
    let second = w.post(2, dn(1), dn(1));
    let header = w.chain.tip().clone();
    let open = |subject| Proven::open(&header, &subject, &prove(&w, subject)).unwrap();
    let next =
        |worker| WORKER_SEQUENCES.get_or_default(open(Subject::BatchSequence { worker }).state(), &worker);
    assert_eq!((next(worker), next(idle)), (2, 0));
    let at = |worker, sequence| {
        WORKER_BATCHES.get(open(Subject::BatchAt { worker, sequence }).state(), &(worker, sequence))
    };
    assert_eq!([0, 1, 2].map(|n| at(worker, n)), [Some(first), Some(second), None]);
    assert_eq!(at(idle, 0), None);
    // What an older block proves still holds.
    let subject = Subject::BatchAt { worker, sequence: 0 };
    let proven = Proven::open(&old, &subject, &old_answer).unwrap();
    assert_eq!(WORKER_BATCHES.get(proven.state(), &(worker, 0)), Some(first));

    // A batch denied, another one claimed, the answer of another sequence, and a sequence that was put back.
    let lie = |subject: Subject, change: &dyn Fn(&mut ProofView)| {
        let mut answer = prove(&w, subject);
        change(&mut answer);
        Proven::open(&header, &subject, &answer).expect_err("refused")
    };
    let taken =
        |a: &ProofView| a.entries.iter().position(|entry| entry.key[0] == WORKER_BATCHES.prefix()).unwrap();
    let e = lie(subject, &|a| {
        let at = taken(a);
        a.entries[at].value = None;
        a.entries[at].proof.end = ProofEnd::Empty {};
    });
    assert!(matches!(e, SubjectError::Light(LightError::Proof { table: "worker_batches", .. })), "{e}");
    let e = lie(subject, &|a| {
        let at = taken(a);
        a.entries[at].value = Some(second.0.to_vec());
    });
    assert!(matches!(e, SubjectError::Light(LightError::Proof { table: "worker_batches", .. })), "{e}");
    let other = prove(&w, Subject::BatchAt { worker, sequence: 1 });
    let e = lie(subject, &|a| *a = other.clone());
    assert_eq!(e, SubjectError::Missing { table: "worker_batches" });
    let e = lie(Subject::BatchSequence { worker }, &|a| a.entries[0].value = Some(1u64.to_bytes()));
    assert!(matches!(e, SubjectError::Light(LightError::Proof { table: "worker_sequences", .. })), "{e}");
    let e = lie(Subject::BatchSequence { worker }, &|a| a.entries.clear());
    assert_eq!(e, SubjectError::Missing { table: "worker_sequences" });
}

/// One of everything that can be asked about, and what the node says to it.
#[test]
fn every_subject_is_answered_as_the_node_answers() {
    let mut w = World::ready();
    w.ok("stranger", Payload::Stake { validator: address("v2"), amount: dn(60) });
    let (from, to) = (address("v2"), address("v3"));
    let shares = STAKE_SHARES.get_or_default(w.state(), &(address("stranger"), from));
    w.ok("stranger", Payload::Redelegate { from, to, shares: Shares(shares.0 / 3) });
    w.ok("stranger", Payload::Unbond { validator: from, shares: Shares(shares.0 / 3) });
    let licence = Licence { id: "MIT".into(), derivatives: true, commercial: true, royalty_bps: 500 };
    let backing = Some(BackingTerms { share_bps: 1_000, cap: dn(100) });
    let family = manifest(9).id();
    for tag in [9, 10] {
        let version = NewVersion {
            family: (tag == 10).then_some(family),
            manifest: manifest(tag),
            name: "m".into(),
            price: price(),
            domain: 0,
            licence: licence.clone(),
            parents: vec![],
            fees: None,
            backing: if tag == 9 { backing } else { None },
            salt: None,
        };
        w.ok("owner", Payload::PublishVersion { version });
    }
    let commitment = Hash32([4; 32]);
    w.ok("owner", Payload::CommitModel { commitment });
    let committed = w.height();
    w.ok("payer", Payload::BackModel { family, amount: dn(20) });
    let held = BACKING_SHARES.get_or_default(w.state(), &(address("payer"), family));
    w.ok("payer", Payload::Unback { family, shares: Shares(held.0 / 2) });
    let escrow = escrow_id(address("payer"), address("gateway"), w.nonce("payer"));
    let job = NewJob {
        worker: None,
        gateway: address("gateway"),
        model: w.model,
        job: JobId([5; 32]),
        price: price(),
        amount: dn(1),
        expires_height: w.height() + 90,
        bond: dn(2),
    };
    w.ok("payer", Payload::LockJob { job });
    let grant = SessionGrant {
        chain_id: CHAIN_ID,
        owner: address("payer"),
        session: address("session"),
        serial: 1,
        per_call: dn(1),
        total: dn(5),
        models: vec![w.model],
        expires_ms: u64::MAX,
    };
    w.ok("payer", Payload::GrantSession { grant: Signed::sign(grant, &key("payer")) });
    let kind = ProposalKind::Text {};
    let deposit = w.genesis.params.governance.min_deposit;
    w.ok("stranger", Payload::Propose { title: "t".into(), text: "x".into(), kind, deposit });
    let batch = w.post(2, dn(1), Amount::ZERO);
    w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    w.blocks(params().epoch_blocks);

    let header = w.chain.tip().clone();
    let state = w.state();
    let open = |subject| Proven::open(&header, &subject, &prove(&w, subject)).unwrap();
    let epoch = w.chain.next_context(0).epoch();

    let account = open(Subject::Account { address: address("stranger") });
    let expected = query::account(state, address("stranger"));
    assert_eq!((expected.redelegating.len(), expected.unbonding.len()), (1, 1));
    assert_eq!(query::account(account.state(), address("stranger")), expected);

    let domain = open(Subject::Domain { id: 0 });
    assert_eq!(domain.epoch(), epoch);
    assert!(query::domain(state, 0, epoch).is_some_and(|d| d.models > 0));
    assert_eq!(query::domain(domain.state(), 0, domain.epoch()), query::domain(state, 0, epoch));
    let terms = query::model_terms(open(Subject::ModelTerms { id: family }).state(), family);
    assert!(terms.is_some());
    assert_eq!(terms, query::model_terms(state, family));
    let expected = query::family(state, family).unwrap();
    assert_eq!((expected.versions.len(), expected.backed), (2, dn(10)));
    assert_eq!(query::family(open(Subject::Family { id: family }).state(), family), Some(expected));
    let backer = address("payer");
    let expected = query::backing(state, backer);
    assert_eq!((expected.backing.len(), expected.releases.len()), (1, 1));
    assert_eq!(query::backing(open(Subject::Backing { address: backer }).state(), backer), expected);
    let trust = query::model_trust(open(Subject::ModelTrust { id: w.model }).state(), w.model);
    assert!(trust.is_some());
    assert_eq!(trust, query::model_trust(state, w.model));
    let job = query::job(open(Subject::Job { id: escrow }).state(), escrow);
    assert!(job.is_some());
    assert_eq!(job, query::job(state, escrow));
    let (owner, session) = (address("payer"), address("session"));
    let one = query::session(open(Subject::Session { owner, session }).state(), owner, session).unwrap();
    let sessions = |state| query::sessions(state, owner, &PageRequest::default()).unwrap().items;
    assert_eq!(vec![one.clone()], sessions(state));
    assert_eq!(vec![one], sessions(open(Subject::Sessions { owner }).state()));
    let owner = address("owner");
    let commitments = |state| query::model_commitments(state, owner, &PageRequest::default()).unwrap().items;
    let [one] = commitments(state).try_into().unwrap();
    assert_eq!((one.commitment, one.height), (commitment, committed));
    assert_eq!(vec![one], commitments(open(Subject::ModelCommitments { owner }).state()));
    let proposal = query::proposal_record(open(Subject::Proposal { id: 0 }).state(), 0);
    assert!(proposal.is_some());
    assert_eq!(proposal, query::proposal_record(state, 0));
    for (name, role) in [("worker", Role::Worker), ("v1", Role::Validator)] {
        let of = address(name);
        let proven = open(Subject::Identity { address: of, role });
        assert!(query::trust(state, role, of).is_some());
        assert_eq!(query::trust(proven.state(), role, of), query::trust(state, role, of));
    }
    let at = open(Subject::BatchAt { worker: address("worker"), sequence: 0 });
    assert_eq!(BATCHES.get(at.state(), &batch), BATCHES.get(state, &batch));

    // A record whose meaning hangs on another one is refused without it.
    let without = |subject: Subject, prefix: u8| {
        let mut answer = prove(&w, subject);
        let before = answer.entries.len();
        answer.entries.retain(|entry| entry.key[0] != prefix);
        assert!(answer.entries.len() < before, "{subject:?}");
        match Proven::open(&header, &subject, &answer) {
            Err(SubjectError::Missing { table }) => table,
            other => panic!("{other:?}"),
        }
    };
    let of = address("stranger");
    assert_eq!(without(Subject::Account { address: of }, REDELEGATION_POOLS.prefix()), "redelegation_pools");
    assert_eq!(without(Subject::Account { address: of }, UNBONDING_POOLS.prefix()), "unbonding_pools");
    assert_eq!(without(Subject::Backing { address: backer }, BACKING_POOLS.prefix()), "backing_pools");
    assert_eq!(without(Subject::Family { id: family }, FAMILY_VERSIONS.prefix()), "family_versions");
    assert_eq!(without(Subject::Domain { id: 0 }, POOLS.prefix()), "pools");
    assert_eq!(without(Subject::ModelTrust { id: w.model }, PARAMS.prefix()), "params");
    assert_eq!(without(Subject::Model { id: w.model }, IDENTITIES.prefix()), "identities");
    let sequence = Subject::BatchAt { worker: address("worker"), sequence: 0 };
    assert_eq!(without(sequence, BATCHES.prefix()), "batches");
}

/// A chain whose state has no parameters cannot make a client value anything.
#[test]
fn parameters_that_are_proven_absent_are_refused() {
    let w = World::bare();
    let mut entries: std::collections::BTreeMap<_, _> =
        w.state().entries().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    entries.remove(&PARAMS.key(&0));
    let state = State::from_entries(entries);
    let mut block = light_block(&w);
    block.header.state = state.sealed().hash();
    let subject = Subject::Identity { address: address("v1"), role: Role::Validator };
    let answer = ProofView::answer(&subject, &state, block.clone());
    let e = Proven::open(&block.header, &subject, &answer).unwrap_err();
    assert_eq!(e, SubjectError::Missing { table: "params" });
}

#[test]
fn answers_that_lie_are_refused() {
    let mut w = World::ready();
    w.post(3, dn(1), Amount::ZERO);
    let header = w.chain.tip().clone();
    let subject = Subject::Account { address: address("payer") };
    let good = prove(&w, subject);
    let open = |answer: &ProofView| Proven::open(&header, &subject, answer).expect_err("refused");
    let bent = |change: &dyn Fn(&mut ProofView)| {
        let mut answer = good.clone();
        change(&mut answer);
        open(&answer)
    };
    let root = |e: SubjectError| {
        matches!(
            e,
            SubjectError::Light(LightError::Proof { source: ProofError::Root { .. }, table: "accounts", .. })
        )
    };
    // A larger balance, and a balance denied.
    assert!(root(bent(&|a| a.entries[0].value.as_mut().unwrap()[0] ^= 1)));
    assert!(matches!(bent(&|a| a.entries[0].value = None), SubjectError::Light(LightError::Proof { .. })));
    let denied = bent(&|a| {
        a.entries[0].value = None;
        a.entries[0].proof.end = ProofEnd::Empty {};
    });
    assert!(root(denied));
    // Somebody else's record with its honest proof.
    let stranger = Subject::Account { address: address("stranger") };
    let e = open(&prove(&w, stranger));
    assert_eq!(e, SubjectError::Missing { table: "accounts" });
    assert!(root(bent(&|a| a.entries[0].key = ACCOUNTS.key(&address("stranger")))));
    // Another height's answer.
    let old = prove(&w, subject);
    w.block(&[]);
    let e = Proven::open(w.chain.tip(), &subject, &old).unwrap_err();
    assert!(matches!(e, SubjectError::Header { .. }), "{e}");
    // A lane left out.
    let channel = Subject::Channel { id: w.channel };
    let mut answer = prove(&w, channel);
    answer.entries.retain(|entry| entry.key[0] != LANES.prefix());
    let e = Proven::open(w.chain.tip(), &channel, &answer).unwrap_err();
    assert!(matches!(e, SubjectError::Lanes { found: Amount::ZERO, .. }), "{e}");
    // The pool behind a share left out.
    w.ok("stranger", Payload::Stake { validator: address("v2"), amount: dn(50) });
    let mut answer = prove(&w, stranger);
    answer.entries.retain(|entry| entry.key[0] != 3);
    let e = Proven::open(w.chain.tip(), &stranger, &answer).unwrap_err();
    assert!(matches!(e, SubjectError::Missing { table: "stake_shares" | "stake_pools" }), "{e}");
}

/// Whichever bit of a light block or a proof is changed: it is refused.
#[test]
fn every_flipped_bit_is_refused() {
    let (w, blocks) = chain(9);
    let light = client(&w);
    for target in [&blocks[1], &blocks[8]] {
        let bytes = target.to_bytes();
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let Ok(block) = LightBlock::from_bytes(&bad) else { continue };
                assert!(light.clone().update(&block, NOW).is_err(), "byte {at} bit {bit}");
            }
        }
        assert!(light.clone().update(target, NOW).is_ok());
    }
}

/// The wire form is JSON; it reads back to the same.
#[test]
fn answers_round_trip_as_json() {
    let w = World::ready();
    let answer = prove(&w, Subject::Model { id: w.model });
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<ProofView>(&json).unwrap(), answer);
    let subject = Subject::Identity { address: address("v1"), role: Role::Validator };
    let json = serde_json::to_string(&subject).unwrap();
    assert_eq!(serde_json::from_str::<Subject>(&json).unwrap(), subject);
}
