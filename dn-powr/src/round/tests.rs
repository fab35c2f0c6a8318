use dn_trust::{Params, ValidatorEpoch, ValidatorTrust, Weight};
use proptest::prelude::*;

use super::*;

const ID: Hash32 = Hash32([1; 32]);
const COMMIT_UNTIL: u64 = 10;
const REVEAL_UNTIL: u64 = 20;

fn percent(p: u64) -> Unit {
    Unit::from_bits((p << 32) / 100)
}

fn member(n: u8) -> Address {
    Address([n; 20])
}

fn reveal(n: u8, score: Unit) -> Reveal {
    Reveal { round: ID, validator: member(n), score, salt: Hash32([n; 32]) }
}

fn seal(known: Option<Unit>) -> Seal {
    Seal { round: ID, known, salt: Hash32([9; 32]) }
}

fn open(members: u8, known: Option<Unit>) -> Round {
    let committee: Vec<_> = (0..members).rev().map(|n| (member(n), 10)).collect();
    Round::open(ID, seal(known).commitment(), &committee, COMMIT_UNTIL, REVEAL_UNTIL).expect("opens")
}

fn settle(round: &Round, known: Option<Unit>) -> Settled {
    round.settle(REVEAL_UNTIL + 1, Some(&seal(known)), &ReviewParams::default()).expect("settles")
}

/// Seven members, one for each thing that can happen.
fn eventful(known: Option<Unit>) -> Round {
    let mut r = open(7, known);
    for n in [0, 1, 4, 5, 6] {
        let score = if n == 1 { percent(20) } else { percent(80) };
        r.commit(COMMIT_UNTIL, member(n), reveal(n, score).commitment()).expect("in time");
    }
    let now = COMMIT_UNTIL + 1;
    let late = RoundError::Late { now, until: COMMIT_UNTIL };
    assert_eq!(r.commit(now, member(3), Hash32::ZERO), Err(late));
    r.reveal(now, &reveal(0, percent(80))).expect("in time");
    r.reveal(REVEAL_UNTIL, &reveal(1, percent(20))).expect("in time");
    assert!(matches!(r.reveal(now, &reveal(5, percent(81))), Err(RoundError::Mismatch { .. })));
    // A slip may be corrected in time.
    assert!(matches!(r.reveal(now, &reveal(6, percent(81))), Err(RoundError::Mismatch { .. })));
    r.reveal(now, &reveal(6, percent(80))).expect("in time");
    let now = REVEAL_UNTIL + 1;
    let late = RoundError::Late { now, until: REVEAL_UNTIL };
    assert_eq!(r.reveal(now, &reveal(4, percent(80))), Err(late));
    assert_eq!(r.reveal(now, &reveal(4, percent(80))), Err(late));
    r
}

#[test]
fn everything_that_can_happen() {
    use Attendance::*;
    let settled = settle(&eventful(None), None);
    let attendance: Vec<_> = settled.members.iter().map(|m| m.attendance).collect();
    let (good, bad) = (Revealed { score: percent(80) }, Revealed { score: percent(20) });
    let expected = [good, bad, NoCommitment {}, LateCommitment {}, LateReveal {}, Mismatch {}, good];
    assert_eq!(attendance, expected);
    assert_eq!(settled.consensus.map(|c| c.quality), Some(percent(80)));
    let findings = |s: &Settled| s.members.iter().map(|m| m.finding).collect::<Vec<_>>();
    let (n, a, m) = (Finding::Nothing, Finding::Aligned, Finding::Misaligned);
    assert_eq!(findings(&settled), [a, m, n, n, n, n, a]);

    // The same round as a canary whose right score is 15 %: all who committed and did not show that score failed.
    let known = Some(percent(15));
    let settled = settle(&eventful(known), known);
    assert_eq!((settled.consensus, settled.known), (None, known));
    let (p, f) = (Finding::CanaryPassed, Finding::CanaryFailed);
    assert_eq!(findings(&settled), [f, p, n, n, f, f, f]);

    // A seal that stays closed: only attendance counts.
    let open = eventful(known).settle(REVEAL_UNTIL + 1, None, &ReviewParams::default()).expect("settles");
    assert_eq!((open.consensus, open.known, findings(&open)), (None, None, vec![n; 7]));
    assert_eq!(open.members.iter().map(|m| m.attendance).collect::<Vec<_>>(), expected);
}

#[test]
fn refusals() {
    let committee = |n: u8| (0..n).map(|n| (member(n), 1u128)).collect::<Vec<_>>();
    let open_with = |c: &[_], reveal_until| Round::open(ID, ID, c, 10, reveal_until);
    assert_eq!(open_with(&[], 20), Err(RoundError::Members { found: 0 }));
    assert_eq!(open_with(&committee(65), 20), Err(RoundError::Members { found: 65 }));
    let order = RoundError::Deadlines { commit_until: 10, reveal_until: 10 };
    assert_eq!(open_with(&committee(1), 10), Err(order));
    let twice = [(member(1), 1), (member(2), 1), (member(1), 1)];
    assert_eq!(open_with(&twice, 20), Err(RoundError::Duplicate { validator: member(1) }));
    let heavy = [(member(1), MAX_WEIGHT), (member(2), 1)];
    assert_eq!(open_with(&heavy, 20), Err(RoundError::Overflow { members: 2 }));
    assert!(open_with(&committee(64), 20).is_ok());

    let mut r = open(2, None);
    let (mine, other) = (reveal(0, Unit::ONE), member(7));
    assert_eq!(r.commit(1, other, Hash32::ZERO), Err(RoundError::NotAMember { validator: other }));
    assert_eq!(r.reveal(11, &mine), Err(RoundError::NotCommitted { validator: member(0) }));
    r.commit(1, member(0), mine.commitment()).expect("in time");
    assert_eq!(r.commit(1, member(0), Hash32::ZERO), Err(RoundError::Twice { validator: member(0) }));
    assert_eq!(r.reveal(10, &mine), Err(RoundError::Early { now: 10, after: 10 }));
    let elsewhere = Reveal { round: Hash32::ZERO, ..mine };
    assert_eq!(r.reveal(11, &elsewhere), Err(RoundError::WrongRound { expected: ID, found: Hash32::ZERO }));
    r.reveal(11, &mine).expect("in time");
    assert_eq!(r.reveal(12, &mine), Err(RoundError::Twice { validator: member(0) }));

    let p = ReviewParams::default();
    assert_eq!(r.settle(20, None, &p), Err(RoundError::Early { now: 20, after: 20 }));
    let (right, wrong) = (seal(None), seal(Some(Unit::ONE)));
    let mismatch = RoundError::Mismatch { expected: right.commitment(), found: wrong.commitment() };
    assert_eq!(r.settle(21, Some(&wrong), &p), Err(mismatch));
    let strange = Seal { round: Hash32::ZERO, ..right };
    assert!(matches!(r.settle(21, Some(&strange), &p), Err(RoundError::WrongRound { .. })));
    assert!(r.settle(21, Some(&right), &p).is_ok());
}

#[test]
fn a_copied_commitment_cannot_be_opened() {
    let mut r = open(2, None);
    let honest = reveal(0, percent(80));
    r.commit(1, member(0), honest.commitment()).expect("in time");
    r.commit(2, member(1), honest.commitment()).expect("nobody can tell yet");
    r.reveal(11, &honest).expect("in time");
    // The copier now knows score and salt, and still has nothing that opens it.
    let copied = Reveal { validator: member(1), ..honest };
    assert!(matches!(r.reveal(12, &copied), Err(RoundError::Mismatch { .. })));
    assert!(matches!(r.reveal(12, &honest), Err(RoundError::Twice { .. })));
    assert_eq!(settle(&r, None).members[1].attendance, Attendance::Mismatch {});
}

#[test]
fn nobody_with_weight_gives_nothing() {
    let committee = [(member(0), 0u128)];
    let mut r = Round::open(ID, seal(None).commitment(), &committee, 10, 20).expect("opens");
    r.commit(1, member(0), reveal(0, Unit::ONE).commitment()).expect("in time");
    r.reveal(11, &reveal(0, Unit::ONE)).expect("in time");
    let s = settle(&r, None);
    assert_eq!((s.consensus, s.members[0].finding), (None, Finding::Nothing));
}

#[test]
fn parameters_are_bounded() {
    let p = ReviewParams::default();
    assert_eq!(p.validate(), Ok(()));
    use crate::review::ReviewError;
    for seats in [0, 65] {
        assert_eq!(ReviewParams { seats, ..p }.validate(), Err(ReviewError::Seats { found: seats }));
    }
    let e = ReviewError::CanaryRate { found: 5_001, max: 5_000 };
    assert_eq!(ReviewParams { canary_rate: 5_001, ..p }.validate(), Err(e));
    let half = percent(50);
    for (name, p) in [
        ("tolerance", ReviewParams { tolerance: half, ..p }),
        ("canary_tolerance", ReviewParams { canary_tolerance: half, ..p }),
    ] {
        let max = ReviewParams::MAX_TOLERANCE;
        assert_eq!(p.validate(), Err(ReviewError::Tolerance { name, found: half, max }));
    }
}

/// The edge of the tolerance: a tenth, rounded up to 2^-32, is in; one more is out.
#[test]
fn the_edge_of_the_tolerance() {
    let p = ReviewParams::default();
    let at = |bits| Finding::of_vote(Attendance::Revealed { score: Unit::from_bits(bits) }, percent(50), &p);
    let (half, tenth) = (1u64 << 31, p.tolerance.bits());
    assert_eq!([half + tenth, half - tenth].map(at), [Finding::Aligned; 2]);
    assert_eq!([half + tenth + 1, half - tenth - 1].map(at), [Finding::Misaligned; 2]);
}

/// A validator that always votes "fine" where a share of the canaries is fine, 0.7 canaries of weight one an epoch, always in time and in
/// line with the others: the figures of `docs/economics.md`, in ten-thousandths.
#[test]
fn what_a_lazy_validator_is_trusted() {
    let p = Params::default();
    let level = |fine_percent: u64| {
        let mut v = ValidatorTrust::newcomer(&p);
        let canaries = Weight::ONE.bits() * 7 / 10;
        let passed = canaries * fine_percent / 100;
        for _ in 0..6_000 {
            let mut e = ValidatorEpoch::default();
            e.canary_passed(Weight::from_bits(passed));
            e.canary_failed(Weight::from_bits(canaries - passed));
            e.aligned(Weight::ONE);
            e.timely(Weight::ONE);
            v.close_epoch(&p, &e);
        }
        (v.weight(&p).value().bits() * 10_000) >> 32
    };
    assert_eq!([100, 90, 50, 20].map(level), [9_869, 4_212, 455, 63]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Only the very same round, validator, score and salt open a commitment.
    #[test]
    fn a_commitment_binds_all_four(a in 0..4u8, b in 0..4u8, field in 0..4usize, score in 0..=1u64 << 32) {
        let one = reveal(a, Unit::from_bits(score));
        let mut other = one;
        match field {
            0 => other.round = Hash32([b; 32]),
            1 => other.validator = member(b),
            2 => other.score = Unit::from_bits(score ^ u64::from(b)),
            _ => other.salt = Hash32([b; 32]),
        }
        prop_assert_eq!(other.verify(&one.commitment()), other == one);
    }

    /// Whatever comes in whatever order: no panic, one settlement for each member, a finding only for who committed, and the order of
    /// different members' messages does not matter.
    #[test]
    fn any_messages(
        members in 1..8u8,
        known in prop::option::of((0..=100u64).prop_map(percent)),
        messages in prop::collection::vec((0..9u8, 0..30u64, 0..=2u64, any::<bool>()), 0..40),
    ) {
        let mut messages = messages;
        messages.sort_by_key(|m| m.1);
        let play = |messages: &[(u8, u64, u64, bool)]| {
            let mut r = open(members, known);
            for (n, now, score, commits) in messages {
                let message = reveal(*n, percent(score * 50));
                let before = r.clone();
                let result =
                    if *commits { r.commit(*now, member(*n), message.commitment()) } else { r.reveal(*now, &message) };
                let strange = matches!(result, Err(RoundError::NotAMember { .. } | RoundError::Twice { .. }));
                assert!(!strange || r == before);
            }
            settle(&r, known)
        };
        let settled = play(&messages);
        prop_assert_eq!(settled.members.len(), usize::from(members));
        prop_assert_eq!(settled.consensus.is_some() && known.is_some(), false);
        for m in &settled.members {
            let revealed = matches!(m.attendance, Attendance::Revealed { .. });
            let aligned = matches!(m.finding, Finding::Aligned | Finding::Misaligned);
            prop_assert_eq!(aligned, revealed && known.is_none());
            let mut e = ValidatorEpoch::default();
            m.fold(Weight::ONE, &mut e);
            let mut expected = ValidatorEpoch::default();
            if revealed { expected.timely(Weight::ONE) } else { expected.missed(Weight::ONE) }
            match m.finding {
                Finding::Aligned => expected.aligned(Weight::ONE),
                Finding::Misaligned => expected.misaligned(Weight::ONE),
                Finding::CanaryPassed => expected.canary_passed(Weight::ONE),
                Finding::CanaryFailed => expected.canary_failed(Weight::ONE),
                Finding::Nothing => {}
            }
            prop_assert_eq!(e, expected);
        }
        messages.sort_by_key(|m| (m.0, m.1));
        prop_assert_eq!(play(&messages), settled);
    }
}
