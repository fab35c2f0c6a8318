//! Channels, batches, fees, sessions, jobs and emission of domains against the naive specification: whatever is sent, both take or
//! refuse it alike, and everybody has the same after each request and each block.

use std::collections::BTreeMap;

use dn_core::objects::{AuditOutcome, ModelManifest, NO_NUMERIC_SPEC, Price};
use dn_core::{Address, Amount, BatchId, ChannelId, JobId, ModelId};
use dn_ledger::events::Event;
use dn_ledger::state::{
    ACCOUNTS, AuditPhase, BATCHES, BatchStatus, CHANNELS, IDENTITIES, IdentityStatus, JOBS, LANES, POOLS,
    SESSIONS, WORKER_SEQUENCES, WORKER_TRUST,
};
use dn_ledger::tx::{DomainTerms, FeeMove, Licence, NewVersion};
use dn_ledger::{Params, Payload, Role, supply};
use dn_powr::EmissionParams;
use proptest::prelude::*;

use super::Machine;
use super::requests::{Op, ops, terms};
use super::spec::{Domain, Model, Spec, Stage};
use crate::common::{CHAIN_ID, World, address, dn, manifest, offer, open_audits, params, price};

pub(super) const PAYERS: [&str; 2] = ["payer", "stranger"];
pub(super) const WORKERS: [&str; 2] = ["worker", "worker2"];
pub(super) const JOB: JobId = JobId([5; 32]);

/// Epochs of six blocks; a pool that decays by halves, by next to nothing, or in between: the wash bound or the decay decides.
pub(super) fn rules(emission: u8) -> Params {
    let (half_life_epochs, reference_price) =
        [(1, dn(1_000)), (1 << 32, dn(1_000_000)), (100_000, dn(50))][usize::from(emission)];
    let mut params = params();
    params.epoch_blocks = 6;
    params.channel_close_blocks = 4;
    params.max_lanes = 3;
    params.registry.max_job_blocks = 6;
    params.registry.max_job_refunds = 1;
    params.beacon.miss_penalty = Amount::ZERO;
    params.emission = EmissionParams { half_life_epochs, reference_price };
    params
}

/// What auditors find in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Right,
    Forged,
    Withheld,
    NobodyLooks,
}

/// The ledger and the specification side by side.
pub(super) struct Both {
    m: Machine,
    pub(super) spec: Spec,
    pub(super) models: [ModelId; 3],
    fates: BTreeMap<BatchId, Fate>,
    /// How often what was taken, refused or happened.
    seen: BTreeMap<String, u32>,
}

/// The second model is one whose results nobody can check.
fn published(tag: u8) -> ModelManifest {
    let held = manifest(tag);
    ModelManifest { numeric_spec: if tag == 2 { NO_NUMERIC_SPEC } else { held.numeric_spec }, ..held }
}

/// More than any job pays.
fn dear() -> Price {
    Price { output_token: Amount::from_atto(price().output_token.atto() + 1), ..price() }
}

impl Both {
    pub(super) fn new(rules: Params) -> Self {
        let mut m = Machine::new(rules.clone());
        let mut ok = |who: &str, payload| {
            assert!(m.send(who, payload).is_some());
        };
        let register = |role, collateral| {
            let (collateral, name, endpoint) = (dn(collateral), "n".to_owned(), String::new());
            Payload::Register { role, collateral, name, endpoint }
        };
        ok("owner", register(Role::ModelOwner, 10));
        ok("stranger", register(Role::ModelOwner, 10));
        ok("gateway", register(Role::Gateway, 103));
        ok("worker", register(Role::Worker, 110));
        ok("worker2", register(Role::Worker, 1_000));
        ok("stranger", Payload::CreateDomain { name: "other".into(), terms: terms(0) });
        let fees = Some(FeeMove { worker: 5_900, owner: 2_399, validators: 901, domain: 500 });
        let models = [(1, "owner", 0, None), (2, "stranger", 1, None), (3, "owner", 1, fees)];
        for (tag, who, domain, fees) in models {
            let (manifest, price, licence) = (published(tag), price(), Licence::default());
            let (family, name, parents, backing, salt) = (None, "m".to_owned(), vec![], None, None);
            let version =
                NewVersion { family, manifest, name, price, domain, licence, parents, fees, backing, salt };
            ok(who, Payload::PublishVersion { version });
        }
        let ids = models.map(|(tag, ..)| published(tag).id());
        ids.iter().for_each(|model| ok("worker", offer(*model)));
        ok("worker2", Payload::Offer { model: ids[0], price: price() });
        ok("worker2", Payload::Offer { model: ids[2], price: dear() });
        // Little enough that the bonds of jobs can be more than it has.
        ok("worker", Payload::Transfer { to: address("owner"), amount: dn(4_850) });
        for who in PAYERS {
            ok(
                who,
                Payload::OpenChannel {
                    payee: address("gateway"),
                    deposit: dn(60),
                    spender: address("spender"),
                },
            );
        }
        let mut spec = start(&m, rules);
        for (tag, who, domain, fees) in models {
            let manifest = published(tag);
            let mut hosts = BTreeMap::from([(address("worker"), Price::default())]);
            if tag != 2 {
                hosts.insert(address("worker2"), if tag == 1 { price() } else { dear() });
            }
            let model = Model {
                owner: address(who),
                domain,
                fees,
                context: manifest.hyperparameters.context.into(),
                numeric_spec: manifest.numeric_spec,
                ops: (manifest.prefill_ops_per_token().into(), manifest.decode_ops_per_token().into()),
                hosts,
            };
            spec.models.insert(manifest.id(), model);
        }
        Self { m, spec, models: ids, fates: BTreeMap::new(), seen: BTreeMap::new() }
    }

    /// How often something was taken, refused or happened.
    pub(super) fn times(&self, what: &str) -> u32 {
        self.seen.get(what).copied().unwrap_or_default()
    }

    fn note(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    fn hear(&mut self, events: &[Event]) {
        for event in events {
            let json = serde_json::to_value(event).unwrap();
            self.note(json["event"].as_str().unwrap());
            if let Event::JobBondReleased { batch, taken, .. } = event {
                let voided = BATCHES.get(&self.m.state, batch).unwrap().status == BatchStatus::Voided;
                match (voided, taken.is_zero()) {
                    (true, true) => self.note("a bond goes back from a job thrown out"),
                    (_, false) => self.note("a bond is taken"),
                    _ => {}
                }
            }
        }
        self.spec.hear(events);
    }

    /// Whether a claim that is good but for that cannot put up its bond.
    fn is_poor(&self, who: &str, payload: &Payload) -> bool {
        let Payload::ClaimJob { receipt, .. } = payload else { return false };
        let mut rich = self.spec.clone();
        if let Some(job) = rich.jobs.get_mut(&receipt.body.channel) {
            job.bond = 0;
        }
        rich.submit(address(who), payload) && !self.spec.clone().submit(address(who), payload)
    }

    /// Claims of jobs with a bond, and those that fail for want of it alone.
    fn note_bond(&mut self, payload: &Payload, poor: bool, taken: bool) {
        if let Payload::ClaimJob { batch, .. } = payload {
            let held = self.spec.batches.get(&batch.body.id()).map_or(0, |batch| batch.bond);
            if taken && held > 0 {
                self.note("a bond is put up");
            }
            if poor {
                self.note("a bond is wanting");
            }
        }
    }

    /// Both take it, or both refuse it.
    fn send(&mut self, who: &str, payload: Payload) -> bool {
        let poor = self.is_poor(who, &payload);
        let expected = self.spec.submit(address(who), &payload);
        let events = self.m.send(who, payload.clone());
        assert_eq!(
            events.is_some(),
            expected,
            "taken by the ledger, by the specification: {who}: {payload:?}"
        );
        let json = serde_json::to_value(&payload).unwrap();
        self.note(format!(
            "{} {}",
            if expected { "took" } else { "refused" },
            json["type"].as_str().unwrap()
        ));
        self.note_bond(&payload, poor, expected);
        self.hear(&events.unwrap_or_default());
        expected
    }

    fn next_block(&mut self) {
        let ends = self.m.ctx.ends_epoch();
        let events = self.m.end_block();
        if ends {
            let pool = self.spec.pools[&dn_ledger::state::Pool::Community];
            let decay = self.spec.params.emission.decay(Amount::from_atto(pool));
            let rules = &self.spec.params.trust;
            let trust = WORKER_TRUST.iter(&self.m.state);
            let trust =
                trust.map(|(who, trust)| (who, u128::from(trust.weight(rules).value().bits()))).collect();
            let closed = events.iter().find_map(|event| match event {
                Event::EpochClosed { emitted, paid, .. } => Some((*emitted, paid.atto())),
                _ => None,
            });
            let (emitted, paid) = closed.unwrap();
            self.spec.end_epoch(decay, &trust, paid);
            let what = if emitted.is_zero() {
                "emits nothing"
            } else if emitted == decay {
                "decay decides"
            } else {
                "bound decides"
            };
            self.note(what);
        }
        self.hear(&events);
        let events = self.m.begin_block();
        self.spec.begin_block(self.m.ctx.height, self.m.ctx.time_ms);
        self.hear(&events);
        self.compare();
        self.audit();
        self.compare();
    }

    /// Every auditor does what is next, sooner or later.
    fn audit(&mut self) {
        for (name, batch, index, phase) in open_audits(&self.m.state) {
            if (self.m.ctx.height + u64::from(batch.0[0])).is_multiple_of(3) {
                continue;
            }
            let outcome = match self.fates[&batch] {
                Fate::NobodyLooks => continue,
                Fate::Right => AuditOutcome::Match {},
                Fate::Forged => AuditOutcome::Mismatch { position: 1 },
                Fate::Withheld => AuditOutcome::Unavailable {},
            };
            let verdict = World::verdict(&name, batch, index, outcome);
            let payload = match phase {
                AuditPhase::Commit => World::commit_payload(&verdict),
                _ => World::reveal_payload(&verdict),
            };
            // When auditors may act is not specified here; what it costs them is.
            if let Some(events) = self.m.send(&name, payload.clone()) {
                assert!(self.spec.submit(address(&name), &payload));
                self.hear(&events);
            }
        }
    }

    pub(super) fn step(&mut self, op: &Op) {
        if let Op::Blocks { count } = op {
            return (0..*count).for_each(|_| self.next_block());
        }
        let (who, payload) = self.ask(op);
        let batch = match &payload {
            Payload::PostBatch { batch, .. } | Payload::ClaimJob { batch, .. } => Some(batch.body.id()),
            _ => None,
        };
        let by_session = matches!(&payload, Payload::PostBatch { vouchers, .. }
            if vouchers.iter().all(|voucher| voucher.body.signer == address("session")));
        let taken = self.send(who, payload);
        if let (Op::Post { fate, .. } | Op::Claim { fate, .. }, Some(batch), true) = (op, batch, taken) {
            let fate = [Fate::Forged, Fate::Withheld, Fate::NobodyLooks].get(usize::from(*fate)).copied();
            self.fates.insert(batch, fate.unwrap_or(Fate::Right));
        }
        if by_session {
            self.note(if taken { "a session spends" } else { "a session is refused" });
        }
        self.compare();
    }

    /// Every balance, pool, bond, channel, lane, session, job and batch.
    fn compare(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let held = |map: &BTreeMap<Address, u128>| -> BTreeMap<_, _> {
            map.iter().filter(|(_, amount)| **amount > 0).map(|(who, amount)| (*who, *amount)).collect()
        };
        let accounts = ACCOUNTS.iter(state).map(|(who, account)| (who, account.balance.atto())).collect();
        assert_eq!(held(&accounts), held(&spec.balances), "balances");
        let pools: BTreeMap<_, _> = POOLS.iter(state).map(|(pool, amount)| (pool, amount.atto())).collect();
        let pools: BTreeMap<_, _> = pools.into_iter().filter(|(_, amount)| *amount > 0).collect();
        let mut expected = spec.pools.clone();
        expected.retain(|_, amount| *amount > 0);
        assert_eq!(pools, expected, "pools");
        for ((role, who), bond) in &spec.bonds {
            let identity = IDENTITIES.get(state, &(*role, *who)).unwrap();
            assert_eq!(identity.collateral.atto(), *bond, "bond");
            assert_eq!(identity.status == IdentityStatus::Active, spec.is_active(*role, *who), "status");
        }
        let sequences: BTreeMap<_, _> = WORKER_SEQUENCES.iter(state).collect();
        let mut expected = spec.sequences.clone();
        expected.retain(|who, sequence| *sequence > 0 || sequences.contains_key(who));
        assert_eq!(sequences, expected, "sequences");
        self.compare_locked();
    }

    fn compare_locked(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let mut lanes = BTreeMap::<ChannelId, BTreeMap<u32, u128>>::new();
        for ((channel, lane), claimed) in LANES.iter(state) {
            lanes.entry(channel).or_default().insert(lane, claimed.atto());
        }
        let channels = CHANNELS.iter(state).map(|(id, c)| {
            let own = lanes.remove(&id).unwrap_or_default();
            assert_eq!((c.claimed.atto(), c.lanes as usize), (own.values().sum(), own.len()), "{id:?}");
            let (payer, payee, spender) = (c.payer, c.payee, c.spender);
            let (deposit, finish) = (c.deposit.atto(), c.finish_height);
            (id, super::spec::Channel { payer, payee, spender, deposit, lanes: own, finish })
        });
        assert_eq!(channels.collect::<BTreeMap<_, _>>(), spec.channels, "channels");
        assert!(lanes.is_empty(), "lanes of no channel: {lanes:?}");
        let sessions = SESSIONS.iter(state).map(|(key, s)| {
            let (per_call, total, spent) = (s.per_call.atto(), s.total.atto(), s.spent.atto());
            let (serial, until, models, expires_ms) = (s.serial, s.until_height, s.models, s.expires_ms);
            (key, super::spec::Session { serial, until, per_call, total, spent, models, expires_ms })
        });
        assert_eq!(sessions.collect::<BTreeMap<_, _>>(), spec.sessions, "sessions");
        let jobs = JOBS.iter(state).map(|(id, j)| {
            let (payer, worker, gateway, model, job, price) =
                (j.payer, j.worker, j.gateway, j.model, j.job, j.price);
            let (amount, expires, bond) = (j.amount.atto(), j.expires_height, j.bond.atto());
            (id, super::spec::Job { payer, worker, gateway, model, job, price, amount, expires, bond })
        });
        assert_eq!(jobs.collect::<BTreeMap<_, _>>(), spec.jobs, "jobs");
        let batches = BATCHES.iter(state).map(|(id, batch)| {
            let stage = match batch.status {
                BatchStatus::Settled => Stage::Settled,
                BatchStatus::Voided => Stage::Voided,
                _ => Stage::Held,
            };
            (id, (stage, batch.escrow.atto(), batch.bond.atto()))
        });
        let expected = spec.batches.iter().map(|(id, batch)| {
            let fees: u128 = batch.body.lines.iter().map(|line| line.fees.atto()).sum();
            let held = if batch.stage == Stage::Held { (fees, batch.bond) } else { (0, 0) };
            (*id, (batch.stage, held.0, held.1))
        });
        assert_eq!(batches.collect::<BTreeMap<_, _>>(), expected.collect(), "batches");
    }
}

/// The specification of a ledger as it is now, without models.
fn start(m: &Machine, params: Params) -> Spec {
    let state = &m.state;
    let bonds = IDENTITIES.iter(state).filter(|((role, _), _)| [Role::Worker, Role::Gateway].contains(role));
    let channels = CHANNELS.iter(state).map(|(id, c)| {
        let (payer, payee, spender, deposit) = (c.payer, c.payee, c.spender, c.deposit.atto());
        (id, super::spec::Channel { payer, payee, spender, deposit, lanes: BTreeMap::new(), finish: None })
    });
    let domain = |owner| Domain { owner, terms: DomainTerms::default(), next: DomainTerms::default() };
    Spec {
        chain_id: CHAIN_ID,
        height: m.ctx.height,
        time_ms: m.ctx.time_ms,
        balances: ACCOUNTS.iter(state).map(|(who, account)| (who, account.balance.atto())).collect(),
        nonces: ACCOUNTS.iter(state).map(|(who, account)| (who, account.nonce)).collect(),
        pools: POOLS.iter(state).map(|(pool, amount)| (pool, amount.atto())).collect(),
        bonds: bonds.map(|(key, identity)| (key, identity.collateral.atto())).collect(),
        models: BTreeMap::new(),
        domains: BTreeMap::from([(0, domain(Address::ZERO)), (1, domain(address("stranger")))]),
        channels: channels.collect(),
        sessions: BTreeMap::new(),
        jobs: BTreeMap::new(),
        batches: BTreeMap::new(),
        sequences: BTreeMap::new(),
        work: BTreeMap::new(),
        params,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn payments_are_as_specified(emission in 0u8..3, ops in prop::collection::vec(ops(), 20..70)) {
        let mut both = Both::new(rules(emission));
        for op in &ops {
            both.step(op);
        }
        // Whatever is held comes to an end.
        (0..24).for_each(|_| both.next_block());
        supply::check_all(&both.m.state).unwrap();
    }
}

/// The property above is worth something only if most of what it tries happens, and is refused, too.
#[test]
fn the_specification_is_fed() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<String, u32>::new();
    for n in 0..24u8 {
        let ops = prop::collection::vec(ops(), 60..90).new_tree(&mut runner).unwrap().current();
        let mut both = Both::new(rules(n % 3));
        ops.iter().for_each(|op| both.step(op));
        for (what, times) in both.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    let kinds = [
        "open_channel",
        "top_up_channel",
        "close_channel",
        "finish_channel",
        "post_batch",
        "grant_session",
        "revoke_session",
        "lock_job",
        "claim_job",
        "configure_domain",
    ];
    let both_ways = kinds.iter().flat_map(|kind| [format!("took {kind}"), format!("refused {kind}")]);
    let happens = [
        "batch_settled",
        "batch_voided",
        "slashed",
        "suspended",
        "job_refunded",
        "job_bond_released",
        "a bond is put up",
        "a bond is wanting",
        "a bond is taken",
        "a bond goes back from a job thrown out",
        "emission_paid",
        "a session spends",
        "a session is refused",
        "decay decides",
        "bound decides",
    ];
    for what in both_ways.chain(happens.map(str::to_owned)) {
        assert!(seen.get(&what).is_some_and(|n| *n >= 3), "{what}: {seen:#?}");
    }
}
