//! Quality rounds and feedback against the naive specification: whatever is sent, both take or refuse it alike, and rounds, findings, qualities, everybody's
//! record and the work that counts are the same after each request and each block.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dn_core::objects::Receipt;
use dn_core::{Address, BatchId, ChannelId, Hash32, ModelId, Signed};
use dn_ledger::events::Event;
use dn_ledger::params::QualityParams;
use dn_ledger::state::{
    ACCOUNTS, BEACON, DRAW_WEIGHTS, FEEDBACKS, HEARD, MODEL_EPOCHS, MODEL_REPUTATIONS, QUALITIES,
    QUALITY_DUE, QUALITY_ROUNDS, QUALITY_SUBJECTS, STAKE_POOLS, VALIDATOR_EPOCHS, VALIDATOR_TRUST,
    WORKER_FEEDBACK, WORKER_REPUTATIONS, WORKER_TRUST,
};
use dn_ledger::tx::{DomainTerms, channel_id};
use dn_ledger::{Params, Payload, Role, supply};
use dn_powr::ReviewParams;
use dn_trust::Unit;
use proptest::prelude::*;

use super::Machine;
use super::publishing_offers::published;
use super::quality_corners::{HAPPENS, REASONS};
use super::quality_feedback::{Model, ModelRecord};
use super::quality_requests::{Op, ops};
use super::quality_spec::{Evidence, Spec};
use crate::common::{CHAIN_ID, address, dn, offer, params, price};

/// Everybody who takes part.
pub(super) const WHO: [&str; 10] =
    ["v1", "v2", "v3", "payer", "stranger", "gateway", "worker2", "owner", "worker", "spender"];
/// Who validates, and what the later ones have at stake in DN.
const VALIDATORS: [&str; 7] = ["v1", "v2", "v3", "payer", "stranger", "gateway", "worker2"];
const STAKES: [u64; 4] = [3_000, 9_000, 14_000, 600];
/// Whose channels everything is paid from; the second pays for its own models, the third for its own work.
pub(super) const PAYERS: [&str; 3] = ["payer", "owner", "worker"];
/// Tag, owner and domain of each model; results of none can be checked, so nothing is audited.
const MODELS: [(u8, &str, u32); 4] = [(0, "owner", 0), (3, "stranger", 1), (6, "owner", 1), (9, "payer", 0)];

pub(super) fn who_is(name: &str) -> Address {
    static ADDRESSES: LazyLock<[Address; WHO.len()]> = LazyLock::new(|| WHO.map(address));
    let place = WHO.iter().position(|known| *known == name);
    place.map_or_else(|| address(name), |place| ADDRESSES[place])
}

pub(super) fn name_of(who: Address) -> &'static str {
    WHO.into_iter().find(|name| who_is(name) == who).unwrap_or("owner")
}

/// An epoch that has just room for a round; half of the rounds are canaries.
fn rules() -> Params {
    let mut params = params();
    params.epoch_blocks = 17;
    params.quality = QualityParams {
        max_rounds: 3,
        review: ReviewParams { seats: 4, canary_rate: 5_000, ..ReviewParams::default() },
        ..QualityParams::devnet()
    };
    params
}

/// The ledger and the specification side by side.
pub(super) struct Both {
    pub(super) m: Machine,
    pub(super) spec: Spec,
    pub(super) models: Vec<ModelId>,
    pub(super) channels: Vec<ChannelId>,
    /// Batches with their receipts, and how many of each worker.
    pub(super) posted: Vec<(BatchId, Vec<Signed<Receipt>>)>,
    pub(super) sequences: BTreeMap<&'static str, u64>,
    pub(super) claimed: BTreeMap<(ChannelId, u32), u128>,
    /// Which rounds are canaries.
    pub(super) canaries: BTreeMap<Hash32, bool>,
    /// What members have committed to.
    pub(super) scores: BTreeMap<(Hash32, Address), Unit>,
    /// How often what was taken, refused or happened.
    seen: BTreeMap<String, u32>,
}

impl Both {
    pub(super) fn new() -> Self {
        let rules = rules();
        let mut m = Machine::new(rules.clone());
        let channels = set_up(&mut m);
        let models: Vec<_> = MODELS.iter().map(|(tag, ..)| published(*tag).id()).collect();
        let spec = start(&m, rules, &channels);
        let (posted, sequences, claimed, canaries, scores, seen) = Default::default();
        let mut both = Self { m, spec, models, channels, posted, sequences, claimed, canaries, scores, seen };
        // Into the first epoch that all of them are drawn in.
        while both.spec.epoch() < 2 {
            if both.spec.height.is_multiple_of(4) {
                let lines = vec![(0, 0, 2, 900), (1, 1, 1, 350), (2, 2, 3, 800)];
                both.step(&Op::Post { worker: 0, lines, odd: 9 });
            }
            both.next_block();
        }
        both
    }

    fn note(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    /// How often something was taken, refused or happened.
    pub(super) fn times(&self, what: &str) -> u32 {
        self.seen.get(what).copied().unwrap_or_default()
    }

    fn drain(&mut self) {
        for what in std::mem::take(&mut self.spec.seen) {
            self.note(what);
        }
    }

    /// Both take it, or both refuse it.
    pub(super) fn send(&mut self, who: &str, payload: Payload) -> bool {
        let verdict = self.spec.submit(who_is(who), &payload);
        let events = self.m.send(who, payload.clone());
        assert_eq!(
            events.is_some(),
            verdict.is_ok(),
            "taken by the ledger; the specification says {verdict:?}: {who}: {payload:?}"
        );
        let json = serde_json::to_value(&payload).unwrap();
        let kind = json["type"].as_str().unwrap();
        self.note(format!("{} {kind}", if verdict.is_ok() { "took" } else { "refused" }));
        match (verdict, &payload) {
            (Err(why), _) => self.note(why),
            (Ok(()), Payload::Feedback { feedback, .. }) if feedback.body.signer == who_is("spender") => {
                self.note("a spender speaks");
            }
            _ => {}
        }
        self.drain();
        // What a refusal might have changed is seen with the next that is taken, and at the end of the block.
        if verdict.is_ok() {
            self.compare();
        }
        verdict.is_ok()
    }

    pub(super) fn next_block(&mut self) {
        let ends = self.m.ctx.ends_epoch();
        let events = self.m.end_block();
        if ends {
            self.end_epoch(&events);
        }
        let (state, rules) = (&self.m.state, &self.spec.params.trust);
        let stakes = VALIDATOR_TRUST.iter(state).map(|(who, trust)| {
            let stake = STAKE_POOLS.get_or_default(state, &who).tokens().atto();
            (who, (stake, u128::from(trust.weight(rules).value().bits())))
        });
        self.spec.stakes = stakes.collect();
        let events = self.m.begin_block();
        let beacon = BEACON.get_or_default(&self.m.state, &0);
        let expected = self.spec.begin_block(self.m.ctx.height, self.m.ctx.time_ms, beacon);
        let about_rounds = |event: &&Event| {
            matches!(
                event,
                Event::QualityOpened { .. } | Event::QualityJudged { .. } | Event::QualitySettled { .. }
            )
        };
        let found: Vec<_> = events.iter().filter(about_rounds).cloned().collect();
        assert_eq!(found, expected, "what rounds say");
        for event in &found {
            match event {
                Event::QualityJudged { finding, .. } => self.note(format!("{finding:?}")),
                Event::QualityOpened { .. } => self.note("a round opens"),
                _ => {}
            }
        }
        for (id, round) in &self.spec.rounds {
            self.canaries.entry(*id).or_insert_with(|| self.spec.is_canary(id, round));
        }
        self.drain();
        self.compare();
    }

    fn end_epoch(&mut self, events: &[Event]) {
        let (state, params) = (&self.m.state, &self.spec.params);
        let trust = |who| WORKER_TRUST.get(state, &who).unwrap().weight(&params.trust).value().bits().into();
        let mut spec = self.spec.clone();
        let points = spec.end_epoch(trust);
        let work = events.iter().find_map(|event| match event {
            Event::EpochClosed { work, .. } => Some(work.clone()),
            _ => None,
        });
        assert_eq!(work, Some(points.to_string()), "work times quality times trust");
        // Voting power: half of the stake in any case, the other half by trust.
        let power = |who: &Address| {
            let stake = STAKE_POOLS.get_or_default(state, who).tokens().atto();
            let trust = VALIDATOR_TRUST.get(state, who).unwrap().weight(&params.trust).value().bits();
            (*who, (stake * ((1 << 32) + u128::from(trust))) >> 33)
        };
        let powers = spec.active.iter().map(power).filter(|(_, power)| *power > 0).collect();
        spec.elections.insert(spec.height + params.beacon.delay_blocks + 1, powers);
        self.spec = spec;
    }

    pub(super) fn step(&mut self, op: &Op) {
        if let Op::Blocks { count } = op {
            return (0..*count).for_each(|_| self.next_block());
        }
        let Some((who, payload)) = self.ask(op) else { return };
        if let (Op::Post { odd, .. }, Payload::PostBatch { batch, .. }) = (op, &payload) {
            let (id, lines) = (batch.body.id(), batch.body.lines.clone());
            let receipts = self.receipts_of(&lines, who, *odd);
            assert!(self.send(who, payload), "batches are right here");
            for line in lines {
                *self.claimed.entry((line.channel, line.lane)).or_default() += line.fees.atto();
            }
            *self.sequences.entry(who).or_default() += 1;
            self.posted.push((id, receipts));
            return;
        }
        if let Payload::QualityCommit { round, .. } = payload
            && let Op::Act { score, .. } = op
        {
            let score = Self::score(*score);
            if self.send(who, payload) {
                self.scores.insert((round, who_is(who)), score);
            }
            return;
        }
        self.send(who, payload);
    }

    // --- comparison ---

    fn compare(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let ids: Vec<_> = QUALITY_ROUNDS.iter(state).map(|(id, _)| id).collect();
        assert_eq!(ids, spec.rounds.keys().copied().collect::<Vec<_>>(), "rounds");
        for (id, held) in &spec.rounds {
            let round = QUALITY_ROUNDS.get(state, id).unwrap();
            let until = [round.seal_until, round.commit_until, round.reveal_until, round.open_until];
            let found = (round.domain, round.owner, round.setter, round.beacon, until);
            assert_eq!(found, (held.domain, held.owner, held.setter, held.beacon, held.until), "{id}");
            let members: Vec<_> = held.members.iter().map(|member| (member.who, member.weight)).collect();
            assert_eq!(round.committee, members, "{id}");
            assert_eq!((round.round.is_some(), round.seal), (held.sealed.is_some(), held.opened), "{id}");
            assert!(QUALITY_DUE.contains(state, &(round.open_until + 1, *id)));
        }
        assert_eq!(QUALITY_DUE.iter(state).count(), spec.rounds.len());
        let subjects: Vec<_> = QUALITY_SUBJECTS.iter(state).map(|(subject, _)| subject).collect();
        assert_eq!(subjects, spec.subjects.iter().copied().collect::<Vec<_>>(), "whose models worked");
        let qualities = QUALITIES.iter(state).map(|(key, record)| (key, (record.quality, record.epoch)));
        assert_eq!(qualities.collect::<BTreeMap<_, _>>(), spec.qualities, "qualities");
        let records = VALIDATOR_EPOCHS.iter(state).map(|(who, record)| {
            let json = serde_json::to_value(record).unwrap();
            let of = |what: &str, which: &str| json[what][which].as_u64().unwrap();
            assert_eq!(json["frauds"], 0);
            let evidence = Evidence {
                aligned: of("votes", "good"),
                misaligned: of("votes", "bad"),
                timely: of("reveals", "good"),
                missed: of("reveals", "bad"),
                passed: of("canaries", "good"),
                failed: of("canaries", "bad"),
            };
            (who, evidence)
        });
        assert_eq!(records.collect::<BTreeMap<_, _>>(), spec.evidence, "validators' records");
        self.compare_feedback();
    }

    fn compare_feedback(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        assert_eq!(FEEDBACKS.iter(state).collect::<BTreeMap<_, _>>(), spec.feedbacks, "feedback");
        let said = spec
            .said_of
            .iter()
            .flat_map(|(worker, all)| (0u64..).zip(all).map(move |(place, what)| ((*worker, place), *what)));
        let found: BTreeMap<_, _> = WORKER_FEEDBACK.iter(state).collect();
        assert_eq!(found, said.collect(), "feedback by worker");
        let (mut workers, mut models) = (BTreeMap::new(), BTreeMap::new());
        for record in spec.feedbacks.values() {
            let (count, total) = workers.entry(record.worker).or_insert((0, 0));
            (*count, *total) = (*count + 1, *total + u64::from(record.score));
            let (count, total) = models.entry(record.model).or_insert((0, 0));
            (*count, *total) = (*count + 1, *total + u64::from(record.score));
        }
        let found = WORKER_REPUTATIONS.iter(state).map(|(who, r)| (who, (r.count, r.total)));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), workers, "what is said of workers");
        let found = MODEL_REPUTATIONS.iter(state).map(|(model, r)| (model, (r.count, r.total)));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), models, "what is said of models");
        let heard = HEARD.iter(state).map(|(key, heard)| (key, (heard.epoch, heard.weight)));
        assert_eq!(heard.collect::<BTreeMap<_, _>>(), spec.heard, "how far payers were heard");
        let records = MODEL_EPOCHS.iter(state).map(|((epoch, model), record)| {
            assert_eq!(epoch, spec.epoch(), "a record of an epoch that is over");
            let json = serde_json::to_value(record).unwrap();
            let of = |what: &str, which: &str| json[what][which].as_u64().unwrap();
            assert_eq!((of("jobs", "bad"), of("audits", "good"), of("audits", "bad")), (0, 0, 0));
            let (liked, disliked) = (of("feedback", "good"), of("feedback", "bad"));
            let (jobs, paid_work) = (of("jobs", "good"), record.paid_work());
            (model, ModelRecord { liked, disliked, jobs, paid_work })
        });
        assert_eq!(records.collect::<BTreeMap<_, _>>(), spec.epochs, "models' records");
    }
}

/// Seven validators, models of three owners in two domains, two workers, three channels.
fn set_up(m: &mut Machine) -> Vec<ChannelId> {
    let register = |role, collateral| {
        let (collateral, name, endpoint) = (dn(collateral), "n".to_owned(), String::new());
        Payload::Register { role, collateral, name, endpoint }
    };
    let mut ok = |who: &str, payload| {
        assert!(m.send(who, payload).is_some());
    };
    for (who, stake) in VALIDATORS[3..].iter().zip(STAKES) {
        ok("faucet", Payload::Transfer { to: address(who), amount: dn(20_000) });
        ok(who, register(Role::Validator, 1_000));
        ok(who, Payload::Stake { validator: address(who), amount: dn(stake) });
    }
    ["owner", "stranger", "payer"].iter().for_each(|who| ok(who, register(Role::ModelOwner, 10)));
    ["worker", "worker2"].iter().for_each(|who| ok(who, register(Role::Worker, 100)));
    ok("gateway", register(Role::Gateway, 100));
    ok("stranger", Payload::CreateDomain { name: "other".into(), terms: DomainTerms::default() });
    for (tag, who, domain) in MODELS {
        let (manifest, name) = (published(tag), "m".to_owned());
        ok(who, Payload::PublishModel { manifest, name, price: price(), domain, salt: None });
        ["worker", "worker2"].iter().for_each(|who| ok(who, offer(published(tag).id())));
    }
    let mut open = |who: &&str| {
        let nonce = ACCOUNTS.get_or_default(&m.state, &address(who)).nonce;
        let (payee, spender, deposit) = (address("gateway"), address("spender"), dn(1_000));
        assert!(m.send(who, Payload::OpenChannel { payee, deposit, spender }).is_some());
        channel_id(address(who), payee, nonce)
    };
    PAYERS.iter().map(&mut open).collect()
}

/// The specification of a ledger as it is now.
fn start(m: &Machine, params: Params, channels: &[ChannelId]) -> Spec {
    let weights = DRAW_WEIGHTS.iter(&m.state).map(|(who, weight)| (who, weight.at(m.ctx.height).atto()));
    let weights = weights.filter(|(_, weight)| *weight > 0).collect();
    let models = MODELS.iter().map(|(tag, owner, domain)| {
        let manifest = published(*tag);
        let ops = (manifest.prefill_ops_per_token().into(), manifest.decode_ops_per_token().into());
        (manifest.id(), Model { owner: address(owner), domain: *domain, ops })
    });
    let parties = PAYERS.iter().map(|payer| (address(payer), address("spender")));
    Spec {
        chain_id: CHAIN_ID,
        height: m.ctx.height,
        time_ms: m.ctx.time_ms,
        elections: BTreeMap::from([(0, weights)]),
        stakes: BTreeMap::new(),
        active: VALIDATORS.map(address).into(),
        model_owners: ["owner", "stranger", "payer"].map(address).into(),
        models: models.collect(),
        channels: channels.iter().copied().zip(parties).collect(),
        batches: BTreeMap::new(),
        work: BTreeMap::new(),
        subjects: Default::default(),
        rounds: BTreeMap::new(),
        qualities: BTreeMap::new(),
        evidence: BTreeMap::new(),
        feedbacks: BTreeMap::new(),
        said_of: BTreeMap::new(),
        heard: BTreeMap::new(),
        epochs: BTreeMap::new(),
        seen: Default::default(),
        params,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn quality_is_as_specified(ops in prop::collection::vec(ops(), 100..300)) {
        let mut both = Both::new();
        for op in &ops {
            both.step(op);
        }
        (0..20).for_each(|_| both.next_block());
        supply::check_all(&both.m.state).unwrap();
    }
}

/// The property above is worth something only if most of what it tries happens, and is refused for every reason.
#[test]
fn the_rounds_are_fed() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..8 {
        let ops = prop::collection::vec(ops(), 500..600).new_tree(&mut runner).unwrap().current();
        let mut both = Both::new();
        ops.iter().for_each(|op| both.step(op));
        for (what, times) in both.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    let kinds =
        ["quality_seal", "quality_commit", "quality_reveal", "quality_unseal", "feedback", "transfer_model"];
    let both_ways = kinds.iter().flat_map(|kind| [format!("took {kind}"), format!("refused {kind}")]);
    let missing: Vec<_> = both_ways
        .chain(REASONS.iter().chain(HAPPENS).map(|what| (*what).to_owned()))
        .filter(|what| seen.get(what).is_none_or(|n| *n < 3))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {seen:#?}");
}
