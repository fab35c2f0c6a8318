//! Quality rounds: drawn committees score by commit and reveal; the result weighs emission, and its members' trust.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "quality/domains.rs"]
mod domains;

use common::{CHAIN_ID, World, address, dn, key, manifest, price};
use dn_core::objects::AuditOutcome;
use dn_core::{Address, Amount, Canonical, Hash32, VrfProof};
use dn_ledger::apply::{canary_input, round_id};
use dn_ledger::beacon::Reveal as Draw;
use dn_ledger::events::Event;
use dn_ledger::params::QualityParams;
use dn_ledger::reject::RoundFault;
use dn_ledger::state::{
    QUALITIES, QUALITY_DUE, QUALITY_ROUNDS, QualityRound, SettledQuality, VALIDATOR_EPOCHS,
};
use dn_ledger::tx::{DomainTerms, Shares};
use dn_ledger::views::PageRequest;
use dn_ledger::{Params, Payload, Reject, Role, apply, query};
use dn_powr::{Finding, Reveal, ReviewParams, Seal, is_canary};
use dn_trust::Unit;

const VALIDATORS: [&str; 3] = ["v1", "v2", "v3"];

fn params(canary_rate: u16) -> Params {
    let mut params = common::params();
    params.epoch_blocks = 24;
    params.quality = QualityParams {
        max_rounds: 2,
        review: ReviewParams { seats: 2, canary_rate, ..ReviewParams::default() },
        ..QualityParams::devnet()
    };
    assert_eq!(params.validate(), Ok(()));
    params
}

fn percent(percent: u64) -> Unit {
    Unit::from_bits((percent << 32) / 100)
}

fn name_of(who: Address) -> &'static str {
    VALIDATORS.into_iter().find(|name| address(name) == who).unwrap()
}

/// A world in whose second epoch a round about the owner's models is open.
struct Scene {
    w: World,
    id: Hash32,
    claimed: Amount,
}

impl Scene {
    fn open(canary_rate: u16) -> Self {
        let mut w = World::with(params(canary_rate));
        w.prepare();
        let claimed = dn(10);
        w.post(2, claimed, Amount::ZERO);
        w.audit_all(|_, _| Some(AuditOutcome::Match {}));
        let mut events = Vec::new();
        while !w.height().is_multiple_of(24) {
            events = w.blocks(1);
        }
        let id = round_id(CHAIN_ID, 1, 0, address("owner"));
        let opened = |e: &Event| matches!(e, Event::QualityOpened { round, .. } if *round == id);
        assert!(events.iter().any(opened), "{events:?}");
        Self { w, id, claimed }
    }

    fn record(&self) -> QualityRound {
        QUALITY_ROUNDS.get(self.w.state(), &self.id).unwrap()
    }

    fn setter(&self) -> &'static str {
        name_of(self.record().setter)
    }

    fn members(&self) -> Vec<&'static str> {
        self.record().committee.iter().map(|(who, _)| name_of(*who)).collect()
    }

    fn draw(&self, by: &str) -> Draw {
        let proof = VrfProof::new(&key(by), &canary_input(&self.id)).unwrap();
        Draw { public: key(by).public(), proof }
    }

    /// Whether the setter's VRF makes the round a canary.
    fn is_canary(&self) -> bool {
        let setter = self.setter();
        let value = self.draw(setter).proof.verify(&key(setter).public(), &canary_input(&self.id)).unwrap();
        is_canary(
            &value.0,
            &self.record().beacon.0,
            &self.id,
            self.w.genesis.params.quality.review.canary_rate,
        )
    }

    fn seal(&self, known: Option<Unit>) -> Seal {
        Seal { round: self.id, known, salt: Hash32([8; 32]) }
    }

    fn reveal(&self, name: &str, score: Unit) -> Reveal {
        Reveal { round: self.id, validator: address(name), score, salt: Hash32([9; 32]) }
    }

    fn until(&mut self, height: u64) {
        while self.w.height() < height {
            self.w.blocks(1);
        }
    }

    /// Sealed, committed and revealed with these scores by the members in their order.
    fn play(&mut self, seal: Seal, scores: &[Unit]) {
        let (round, setter) = (self.id, self.setter());
        self.w.ok(setter, Payload::QualitySeal { round, commitment: seal.commitment() });
        let members = self.members();
        for (name, score) in members.iter().zip(scores) {
            let commitment = self.reveal(name, *score).commitment();
            self.w.ok(name, Payload::QualityCommit { round, commitment });
        }
        self.until(self.record().commit_until);
        for (name, score) in members.iter().zip(scores) {
            let reveal = self.reveal(name, *score);
            self.w.ok(name, Payload::QualityReveal { reveal });
        }
        self.until(self.record().reveal_until);
        let draw = self.draw(setter);
        self.w.ok(setter, Payload::QualityUnseal { seal, draw });
    }

    fn settle(&mut self) -> Vec<Event> {
        let until = self.record().open_until + 1;
        let mut events = Vec::new();
        while self.w.height() < until {
            events = self.w.blocks(1);
        }
        assert!(QUALITY_ROUNDS.get(self.w.state(), &self.id).is_none());
        assert_eq!(QUALITY_DUE.iter(self.w.state()).count(), 0);
        events
    }
}

fn findings(events: &[Event]) -> Vec<(Finding, Option<Unit>)> {
    let judged = |event: &Event| match event {
        Event::QualityJudged { finding, clamped, .. } => Some((*finding, *clamped)),
        _ => None,
    };
    events.iter().filter_map(judged).collect()
}

/// Emission of the epoch in which the committee said `score`.
fn emitted_after(score: Unit) -> Amount {
    let mut s = Scene::open(0);
    assert!(!s.is_canary(), "the rate is zero");
    s.play(s.seal(None), &[score, score]);
    s.settle();
    let settled = QUALITIES.get(s.w.state(), &(0, address("owner"))).unwrap();
    assert_eq!((settled.quality, settled.epoch), (score, 1));
    let fees = dn(10);
    s.w.sequence = 1;
    s.w.post(2, fees, s.claimed);
    let mut events = s.w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    for _ in 0..60 {
        let emitted = events.iter().find_map(|e| match e {
            Event::EpochClosed { emitted, .. } if !emitted.is_zero() => Some(*emitted),
            _ => None,
        });
        if let Some(emitted) = emitted {
            return emitted;
        }
        events = s.w.blocks(1);
    }
    panic!("nothing was emitted");
}

#[test]
fn the_committees_median_weighs_emission() {
    let (full, half) = (emitted_after(percent(100)), emitted_after(percent(50)));
    let doubled = half.atto() * 2;
    assert!(doubled.abs_diff(full.atto()) < full.atto() / 100, "{half} is not half of {full}");
}

/// A family that goes to a fresh identity takes what was said of it along; whoever has a record of its own keeps it.
#[test]
fn a_bad_score_is_not_handed_off() {
    let mut s = Scene::open(0);
    s.play(s.seal(None), &[percent(20), percent(20)]);
    s.settle();
    let quality = |s: &Scene, who: &str| {
        let record = QUALITIES.get(s.w.state(), &(0, address(who)));
        record.map(|record| (record.quality, record.epoch))
    };
    let bad = Some((percent(20), 1));
    let owner = |name: &str| Payload::Register {
        role: Role::ModelOwner,
        collateral: dn(10),
        name: name.into(),
        endpoint: String::new(),
    };
    for who in ["stranger", "payer"] {
        s.w.ok(who, owner(who));
    }
    let give = |family, to: &str| Payload::TransferModel { family, to: address(to) };
    // Of another domain nothing was said.
    let domain = Payload::CreateDomain { name: "elsewhere".into(), terms: DomainTerms::default() };
    s.w.ok("payer", domain);
    let (elsewhere, fine) = (manifest(8), manifest(9));
    for (who, manifest, domain) in [("owner", &elsewhere, 1), ("payer", &fine, 0)] {
        let (manifest, name) = (manifest.clone(), "model".into());
        s.w.ok(who, Payload::PublishModel { manifest, name, price: price(), domain, salt: None });
    }
    s.w.ok("owner", give(elsewhere.id(), "stranger"));
    assert_eq!(quality(&s, "stranger"), None);
    let family = s.w.model;
    s.w.ok("owner", give(family, "stranger"));
    assert_eq!((quality(&s, "owner"), quality(&s, "stranger")), (bad, bad));
    assert_eq!(QUALITIES.get(s.w.state(), &(1, address("stranger"))), None);
    // On to the next: still there. A sender of whom nothing was said leaves it as well.
    s.w.ok("payer", give(fine.id(), "stranger"));
    assert_eq!((quality(&s, "payer"), quality(&s, "stranger")), (None, bad));
    s.w.ok("stranger", give(family, "payer"));
    assert_eq!(quality(&s, "payer"), bad);
    // A record of one's own: nobody spoils it by a gift, nor mends it.
    let mut state = s.w.state().clone();
    for own in [percent(90), percent(10)] {
        let record = SettledQuality { quality: own, epoch: 1 };
        QUALITIES.put(&mut state, &(0, address("owner")), &record);
        let ctx = s.w.chain.next_context(s.w.chain.tip().time_ms + 1_000);
        let mut then = state.clone();
        apply(&mut then, &s.w.tx("payer", give(family, "owner")), &ctx).unwrap();
        assert_eq!(QUALITIES.get(&then, &(0, address("owner"))), Some(record));
    }
}

#[test]
fn scores_are_clamped_and_members_judged() {
    let mut s = Scene::open(0);
    s.play(s.seal(None), &[percent(80), percent(20)]);
    let events = s.settle();
    let Some(Event::QualitySettled { canary: false, consensus: Some(consensus), .. }) =
        events.iter().find(|e| matches!(e, Event::QualitySettled { .. }))
    else {
        panic!("{events:?}")
    };
    // The heavier vote is the median; equal ones take the lower.
    let found = findings(&events);
    assert_eq!(found.len(), 2);
    for (finding, clamped) in found {
        let clamped = clamped.unwrap();
        assert!(consensus.low <= clamped && clamped <= consensus.high);
        assert!(matches!(finding, Finding::Aligned | Finding::Misaligned));
    }
    let aligned = findings(&events).iter().filter(|(f, _)| *f == Finding::Aligned).count();
    assert_eq!(aligned, 1, "two scores so far apart cannot both be right");
}

#[test]
fn a_canary_judges_and_enters_no_quality() {
    // At the highest rate about half of the rounds are canaries: chains with other ids have other draws; here the setter's word must fit its draw.
    let mut s = Scene::open(ReviewParams::MAX_CANARY_RATE);
    let canary = s.is_canary();
    let known = canary.then(|| percent(10));
    let wrong = s.seal(if canary { None } else { Some(percent(10)) });
    let right = s.seal(known);
    // What the draw does not allow cannot be opened, whatever was sealed.
    let (round, setter) = (s.id, s.setter());
    let mut cheat = Scene { w: World::with(params(0)), id: s.id, claimed: s.claimed };
    cheat.w.chain = s.w.chain.clone();
    cheat.w.ok(setter, Payload::QualitySeal { round, commitment: wrong.commitment() });
    cheat.until(cheat.record().reveal_until);
    let draw = cheat.draw(setter);
    let refused = cheat.w.reject(setter, Payload::QualityUnseal { seal: wrong, draw });
    assert_eq!(refused, Reject::QualityCanary { round, drawn: canary });
    s.play(right, &[percent(10), percent(90)]);
    let before = QUALITIES.get(s.w.state(), &(0, address("owner")));
    let events = s.settle();
    let found: Vec<_> = findings(&events).into_iter().map(|(finding, _)| finding).collect();
    if canary {
        assert_eq!(found.iter().filter(|f| **f == Finding::CanaryPassed).count(), 1);
        assert_eq!(found.iter().filter(|f| **f == Finding::CanaryFailed).count(), 1);
        assert_eq!(QUALITIES.get(s.w.state(), &(0, address("owner"))), before);
    } else {
        assert!(QUALITIES.get(s.w.state(), &(0, address("owner"))).is_some());
    }
}

#[test]
fn silence_is_noted_on_every_side() {
    // Nobody does anything: the setter missed, nobody else could.
    let mut s = Scene::open(0);
    let setter = s.record().setter;
    let before = VALIDATOR_EPOCHS.get_or_default(s.w.state(), &setter);
    let events = s.settle();
    assert_eq!(findings(&events), []);
    assert_ne!(VALIDATOR_EPOCHS.get_or_default(s.w.state(), &setter), before);
    assert!(QUALITIES.get(s.w.state(), &(0, address("owner"))).is_none(), "neutral");
    // Sealed, but the committee is silent and the seal stays closed.
    let mut s = Scene::open(0);
    let (round, setter) = (s.id, s.setter());
    let commitment = s.seal(None).commitment();
    s.w.ok(setter, Payload::QualitySeal { round, commitment });
    let events = s.settle();
    assert!(findings(&events).iter().all(|found| *found == (Finding::Nothing, None)));
    assert_eq!(findings(&events).len(), 2);
}

#[test]
fn every_reason_to_refuse() {
    let mut s = Scene::open(0);
    let (round, setter) = (s.id, s.setter());
    let (member, other) = (s.members()[0], s.members()[1]);
    let commitment = Hash32([1; 32]);
    let fault = |fault| Reject::QualityFault { round, fault };
    let unknown = Hash32([7; 32]);
    let seal = |round| Payload::QualitySeal { round, commitment };
    assert_eq!(s.w.reject(setter, seal(unknown)), Reject::UnknownRound { round: unknown });
    let wrong = Reject::QualitySetter { round, setter: address(setter), sender: address(member) };
    assert_eq!(s.w.reject(member, seal(round)), wrong);
    let commit = Payload::QualityCommit { round, commitment };
    assert_eq!(s.w.reject(member, commit.clone()), fault(RoundFault::NotSealed));
    let draw = s.draw(setter);
    let right = s.seal(None);
    assert_eq!(
        s.w.reject(setter, Payload::QualityUnseal { seal: right, draw }),
        fault(RoundFault::NotSealed)
    );
    s.w.ok(setter, Payload::QualitySeal { round, commitment: right.commitment() });
    assert_eq!(s.w.reject(setter, seal(round)), fault(RoundFault::Twice));
    assert_eq!(s.w.reject("stranger", commit.clone()), fault(RoundFault::NotAMember));
    let reveal = s.reveal(member, percent(50));
    let show = |reveal| Payload::QualityReveal { reveal };
    assert_eq!(s.w.reject(member, show(reveal)), fault(RoundFault::NotCommitted));
    s.w.ok(member, Payload::QualityCommit { round, commitment: reveal.commitment() });
    assert_eq!(s.w.reject(member, commit.clone()), fault(RoundFault::Twice));
    assert_eq!(s.w.reject(member, show(reveal)), fault(RoundFault::Early));
    let foreign = Reject::VerdictAuditor { auditor: address(member), sender: address(other) };
    assert_eq!(s.w.reject(other, show(reveal)), foreign);
    assert_eq!(s.w.reject(setter, Payload::QualityUnseal { seal: right, draw }), fault(RoundFault::Early));
    s.until(s.record().commit_until);
    assert_eq!(s.w.reject(other, commit), fault(RoundFault::Late));
    let changed = s.reveal(member, percent(60));
    assert_eq!(s.w.reject(member, show(changed)), fault(RoundFault::Mismatch));
    s.w.ok(member, show(reveal));
    s.until(s.record().reveal_until);
    let unseal = |seal, draw| Payload::QualityUnseal { seal, draw };
    let not_mine = Reject::QualitySetter { round, setter: address(setter), sender: address(member) };
    assert_eq!(s.w.reject(member, unseal(right, draw)), not_mine);
    let other_seal = Seal { salt: Hash32([3; 32]), ..right };
    assert_eq!(s.w.reject(setter, unseal(other_seal, draw)), fault(RoundFault::Mismatch));
    let foreign = s.draw(member);
    assert_eq!(s.w.reject(setter, unseal(right, foreign)), Reject::QualityDraw { round });
    let mut broken = draw;
    broken.proof.0[60] ^= 1;
    assert_eq!(s.w.reject(setter, unseal(right, broken)), Reject::QualityDraw { round });
    s.w.ok(setter, unseal(right, draw));
    assert_eq!(s.w.reject(setter, unseal(right, draw)), fault(RoundFault::Twice));
    // Deadlines of the setter.
    let mut late = Scene::open(0);
    late.until(late.record().seal_until);
    let deadline = late.record().seal_until;
    let height = deadline + 1;
    assert_eq!(late.w.reject(setter, seal(round)), Reject::TooLate { deadline, height });
    let views = query::quality_rounds(late.w.state(), &PageRequest::default()).unwrap().items;
    assert_eq!((views.len(), views[0].round, views[0].sealed), (1, round, false));
}

#[test]
fn a_round_fits_its_epoch_and_its_record_round_trips() {
    let mut params = params(0);
    params.epoch_blocks = 15;
    assert!(params.validate().unwrap_err().to_string().contains("quality"));
    params.quality.max_rounds = 0;
    assert_eq!(params.validate(), Ok(()));
    let mut s = Scene::open(0);
    let (round, setter) = (s.id, s.setter());
    let commitment = s.seal(None).commitment();
    s.w.ok(setter, Payload::QualitySeal { round, commitment });
    let record = s.record();
    assert_eq!(QualityRound::from_bytes(&record.to_bytes()), Ok(record));
}

/// The seats of the second epoch's round, the setter's first, after these transactions in the block before.
fn seats_after(txs: &[(&'static str, Payload)]) -> Vec<Address> {
    let mut params = params(0);
    // A block's randomness is its proposer's, whatever is in the block.
    params.beacon.required = true;
    let mut w = World::with(params);
    w.prepare();
    w.post(1, dn(1), Amount::ZERO);
    w.audit_all(|_, _| Some(AuditOutcome::Match {}));
    while !w.chain.next_context(0).ends_epoch() {
        w.blocks(1);
    }
    let txs: Vec<_> = txs.iter().map(|(name, payload)| w.tx(name, payload.clone())).collect();
    assert_eq!(w.block(&txs).rejected, []);
    let seats = w.blocks(1).into_iter().find_map(|event| match event {
        Event::QualityOpened { setter, members, .. } => Some([vec![setter], members].concat()),
        _ => None,
    });
    seats.unwrap()
}

/// Whoever proposes an epoch's last block and the first one of the next knows the committees' draw while it can still stake.
#[test]
fn stake_in_an_epochs_last_block_moves_no_committee() {
    let before = seats_after(&[]);
    for validator in VALIDATORS.map(address) {
        for amount in [1, 4_000] {
            let moved = seats_after(&[("payer", Payload::Stake { validator, amount: dn(amount) })]);
            assert_eq!(moved, before, "{amount} to {validator}");
        }
    }
    for name in VALIDATORS {
        let shares = Shares(dn(9_900).atto());
        let moved = seats_after(&[(name, Payload::Unbond { validator: address(name), shares })]);
        assert_eq!(moved, before, "{name} unbonds");
        // Who has left is on none.
        let left = seats_after(&[(name, Payload::Retire { role: Role::Validator })]);
        let without: Vec<_> = before.iter().copied().filter(|who| *who != address(name)).collect();
        assert_eq!(left.len(), 2);
        assert!(without.iter().all(|who| left.contains(who)), "{left:?}");
    }
}
