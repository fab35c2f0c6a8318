//! What is tried of domains, model families, backers and jobs.

use dn_core::merkle::MerkleTree;
use dn_core::objects::{AuditOutcome, BatchLine, BatchRoot, FinishReason, JobAcceptance, Receipt};
use dn_core::{Amount, Canonical, ChannelId, Hash32, JobId, ModelId, Signed};
use dn_ledger::state::{BACKING_SHARES, DOMAINS, FAMILIES, Family, JOBS, MODELS, WORKER_SEQUENCES};
use dn_ledger::tx::{
    Admission, BackingTerms, DomainTerms, Licence, NewJob, NewVersion, Parent, Shares, channel_id, escrow_id,
};
use dn_ledger::{Params, Payload};
use dn_powr::{DomainSplit, FeeMove};

use super::common::{CHAIN_ID, World, address, dn, key, manifest, offer, price};
use super::{NAMES, Try, choose};

/// Kinds of tries from this file.
pub(crate) const KINDS: std::ops::Range<u8> = 27..38;

/// Makes the ledger's limits near enough to be met.
pub(crate) fn tighten(params: &mut Params) {
    params.registry.max_domains = 5;
    params.registry.max_versions = 3;
    params.registry.max_job_refunds = 1;
    params.registry.unbacking_epochs = 1;
    params.registry.treasury_spend_bps = 9_000;
}

/// A domain with something in its treasury, and a family that takes backing.
pub(crate) fn prepare(w: &mut World) {
    w.ok("stranger", Payload::CreateDomain { name: "first".into(), terms: DomainTerms::default() });
    let backing = Some(BackingTerms { share_bps: 3_000, cap: dn(1_000) });
    let version = NewVersion { domain: 1, backing, ..version(100) };
    let model = version.manifest.id();
    w.ok("owner", Payload::PublishVersion { version });
    w.ok("worker", offer(model));
    w.ok("payer", Payload::BackModel { family: model, amount: dn(5) });
    let mut line = w.line(0, 1, dn(2));
    (line.model, line.domain) = (model, 1);
    let body = w.root("worker", vec![line]);
    let vouchers = vec![w.voucher(0, dn(2))];
    w.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
    w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    assert_ne!(
        channel_id(address("payer"), address("gateway"), 3),
        escrow_id(address("payer"), address("gateway"), 3)
    );
}

fn version(tag: u8) -> NewVersion {
    NewVersion {
        family: None,
        manifest: manifest(tag),
        name: "v".into(),
        price: price(),
        domain: 0,
        licence: Licence { id: "MIT".into(), derivatives: true, commercial: true, royalty_bps: 100 },
        parents: vec![],
        fees: None,
        backing: None,
        salt: None,
    }
}

/// Who tries it: mostly those who can.
pub(crate) fn who(w: &World, t: &Try) -> usize {
    let state = w.state();
    let place = |of: dn_core::Address| NAMES.iter().position(|n| address(n) == of).unwrap_or(t.who);
    match t.kind - KINDS.start {
        _ if t.a >= 220 => t.who,
        1..=4 => domain(w, t).1.map_or(t.who, place),
        5 => 3,
        6 => family(w, t).1.map_or(t.who, |family| place(family.owner)),
        8 => BACKING_SHARES.iter(state).next().map_or(t.who, |((backer, _), _)| place(backer)),
        9 => 7,
        10 => 4,
        _ => t.who,
    }
}

fn domain(w: &World, t: &Try) -> (u32, Option<dn_core::Address>) {
    let all: Vec<_> = DOMAINS
        .iter(w.state())
        .filter(|(_, d)| {
            t.kind != KINDS.start + 4 || (d.models == 0 && d.closed_height.is_none() && d.owner.is_some())
        })
        .map(|(id, d)| (id, d.owner))
        .collect();
    choose(&all, t.a, (99, None))
}

fn family(w: &World, t: &Try) -> (ModelId, Option<Family>) {
    let all: Vec<_> = FAMILIES
        .iter(w.state())
        .filter(|(_, family)| !(7..=8).contains(&(t.kind - KINDS.start)) || family.backing.is_some())
        .map(|(id, family)| (id, Some(family)))
        .collect();
    choose(&all, t.a, (ModelId([7; 32]), None))
}

fn terms(t: &Try) -> DomainTerms {
    let treasury = t.a.into();
    let emission = DomainSplit { treasury, workers: 5_400 - treasury, ..DomainSplit::default() };
    let validators = 450 + u16::from(t.a);
    let fees = FeeMove { worker: 7_300 - validators, owner: 2_000, validators, domain: 400 };
    DomainTerms {
        emission: t.b.is_multiple_of(2).then_some(emission),
        fees: t.b.is_multiple_of(3).then_some(fees),
        admission: if t.b.is_multiple_of(7) { Admission::Owner } else { Admission::Open },
    }
}

/// What is tried; the numbers choose among what exists.
pub(crate) fn payload(w: &World, t: &Try) -> Payload {
    let state = w.state();
    let amount = Amount::from_atto(u128::from(t.b) * 10_000_000_000_000_000);
    let to = address(NAMES[t.b as usize % 9]);
    match t.kind - KINDS.start {
        0 => Payload::CreateDomain { name: format!("d{}", t.a % 8), terms: terms(t) },
        1 => Payload::ConfigureDomain { domain: domain(w, t).0, terms: terms(t) },
        2 => Payload::TransferDomain { domain: domain(w, t).0, to },
        3 => {
            let amount = Amount::from_atto(u128::from(t.b) * 20_000_000_000_000);
            Payload::SpendTreasury { domain: domain(w, t).0, to, amount }
        }
        4 => Payload::CloseDomain { domain: domain(w, t).0 },
        5 => Payload::PublishVersion { version: new_version(w, t) },
        6 => {
            let to = if t.b.is_multiple_of(4) { address("owner") } else { to };
            Payload::TransferModel { family: family(w, t).0, to }
        }
        7 => Payload::BackModel { family: family(w, t).0, amount },
        8 => {
            let family = family(w, t).0;
            let held = BACKING_SHARES.get_or_default(state, &(address(NAMES[t.who]), family));
            Payload::Unback { family, shares: Shares(held.0 / u128::from(t.b % 3).max(1)) }
        }
        9 => Payload::LockJob {
            job: NewJob {
                worker: t.a.is_multiple_of(3).then(|| address("worker")),
                gateway: address("gateway"),
                model: w.model,
                job: JobId([1; 32]),
                price: price(),
                amount,
                expires_height: w.height() + 1 + t.b % 12,
                bond: [Amount::ZERO, amount, dn(40)][t.a as usize / 3 % 3],
            },
        },
        _ => claim(w, t),
    }
}

fn new_version(w: &World, t: &Try) -> NewVersion {
    let models: Vec<_> = MODELS.iter(w.state()).map(|(id, _)| id).collect();
    let mut parents: Vec<_> = (0..t.b % 4)
        .map(|n| choose(&models, t.a.wrapping_mul(7).wrapping_add(n as u8 * 31), ModelId([7; 32])))
        .map(|model| Parent { model, share_bps: 50 + u16::from(t.a) })
        .collect();
    if !t.b.is_multiple_of(5) {
        parents.sort_by_key(|parent| parent.model);
        parents.dedup_by_key(|parent| parent.model);
    }
    let mut new = version(101 + t.a % 120);
    new.parents = parents;
    new.domain = u32::from(t.a % 3);
    if t.b.is_multiple_of(2) {
        new.family = Some(family(w, t).0);
    } else {
        new.backing = t.b.is_multiple_of(3).then_some(BackingTerms { share_bps: 2_000, cap: dn(50) });
    }
    new.fees = terms(t).fees;
    new
}

fn claim(w: &World, t: &Try) -> Payload {
    let jobs: Vec<_> = JOBS.iter(w.state()).map(|(id, _)| id).collect();
    let escrow = choose(&jobs, t.a, ChannelId([7; 32]));
    let worker = NAMES[t.who];
    let receipt = Receipt {
        chain_id: CHAIN_ID,
        job: JobId([1; 32]),
        domain: 0,
        model: w.model,
        numeric_spec: 1,
        prompt_hash: Hash32([1; 32]),
        output_hash: Hash32([2; 32]),
        trace_root: Hash32([3; 32]),
        prompt_tokens: 20,
        output_tokens: 50,
        finish: FinishReason::Stop,
        price: price(),
        fee: Amount::from_atto(u128::from(t.b) * 100_000_000_000),
        payer: address("payer"),
        channel: escrow,
        lane: 0,
        worker: address(worker),
        gateway: address("gateway"),
        started_ms: 1,
        finished_ms: 2,
        expires_ms: u64::MAX,
    };
    let receipt = Signed::sign(receipt, &key(worker));
    let r = &receipt.body;
    let line = BatchLine {
        channel: escrow,
        lane: 0,
        model: r.model,
        domain: r.domain,
        receipts: 1,
        prompt_tokens: 20,
        output_tokens: 50,
        fees: r.fee,
    };
    let body = BatchRoot {
        chain_id: CHAIN_ID,
        worker: r.worker,
        gateway: r.gateway,
        sequence: WORKER_SEQUENCES.get_or_default(w.state(), &r.worker),
        root: MerkleTree::new([receipt.to_bytes()]).root(),
        count: 1,
        lines: vec![line],
        expires_ms: u64::MAX,
    };
    let acceptance = JobAcceptance {
        chain_id: CHAIN_ID,
        escrow,
        receipt: r.id(),
        payer: address("payer"),
        expires_ms: u64::MAX,
    };
    let acceptance = t.b.is_multiple_of(2).then(|| Signed::sign(acceptance, &key("payer")));
    Payload::ClaimJob { batch: Signed::sign(body, &key("gateway")), receipt: Box::new(receipt), acceptance }
}
