//! First and last blocks of a round's phases, and what a test of chance has to meet.

use dn_core::Hash32;
use dn_ledger::state::{STAKE_POOLS, VALIDATOR_TRUST};
use dn_ledger::{Payload, Role};

use super::quality::{Both, name_of};
use super::quality_requests::Op;

/// What is next in the round, by the `n`-th of those whose turn it is.
fn act(both: &mut Both, n: u8) {
    both.step(&Op::Act { round: 0, pick: n, score: 5, spoil: 50 });
}

/// With all of a phase done in its last block, and the next phase tried in the same; or a block too late.
#[test]
fn every_phase_has_a_last_block() {
    let kinds = ["quality_seal", "quality_commit", "quality_reveal", "quality_unseal"];
    let late = ["too late to seal", "too late to commit", "too late to reveal", "no such round"];
    for missed in 0..5usize {
        let mut both = Both::new();
        let (id, held) = both.spec.rounds.first_key_value().map(|(id, held)| (*id, held.clone())).unwrap();
        for phase in 0..4usize {
            let until = held.until[phase] + u64::from(phase == missed);
            while both.spec.height < until {
                both.next_block();
            }
            let moves = if phase == 1 || phase == 2 { held.members.clone() } else { vec![] };
            let movers = moves.iter().map(|member| member.who).chain(moves.is_empty().then_some(held.setter));
            let before = both.times(&format!("took {}", kinds[phase]));
            for who in movers {
                let payload = both.right_move(phase, id, &held, name_of(who));
                assert_eq!(both.send(name_of(who), payload), phase != missed, "{}, {missed}", kinds[phase]);
            }
            let taken = both.times(&format!("took {}", kinds[phase])) - before;
            if phase == missed {
                assert_eq!(taken, 0);
                assert!(both.times(late[phase]) > 0, "{}", late[phase]);
                break;
            }
            // Nobody shows anything in the block in which others may still choose.
            if phase == 1 || phase == 2 {
                let who = if phase == 1 { held.members[0].who } else { held.setter };
                let early = both.right_move(phase + 1, id, &held, name_of(who));
                assert!(!both.send(name_of(who), early));
            }
        }
        (0..17).for_each(|_| both.next_block());
    }
}

/// Rounds that somebody neglects: nothing is sealed, nothing is opened, nobody commits, nobody shows.
#[test]
fn silence_is_as_specified() {
    for silent in 0..4u8 {
        let mut both = Both::new();
        for _ in 0..17 {
            for n in 0..12 {
                let Some(held) = both.spec.rounds.values().next() else { continue };
                let phase = held.until.iter().position(|until| both.spec.height <= *until).unwrap_or(3) as u8;
                let phase = if held.sealed.is_none() { 0 } else { phase.max(1) };
                if phase != silent {
                    act(&mut both, n);
                }
            }
            both.next_block();
        }
    }
}

/// A committee is as large as there are active validators for it, one of them the setter; of one alone nobody is asked.
#[test]
fn few_validators_are_a_small_committee() {
    for left in 0..4usize {
        let mut both = Both::new();
        for who in ["v1", "v2", "v3", "payer", "stranger", "gateway", "worker2"].into_iter().skip(left) {
            assert!(both.send(who, Payload::Retire { role: Role::Validator }));
        }
        both.step(&Op::Post { worker: 0, lines: vec![(0, 0, 1, 900), (1, 0, 1, 900)], odd: 9 });
        let epoch = both.spec.epoch();
        while both.spec.epoch() == epoch {
            both.next_block();
        }
        let seats: Vec<_> = both.spec.rounds.values().map(|round| round.members.len()).collect();
        assert_eq!(seats.is_empty(), left < 2);
        assert!(seats.iter().all(|members| *members == left - 1), "{left} left: {seats:?}");
        (0..17).for_each(|n| {
            act(&mut both, n);
            both.next_block();
        });
    }
}

/// The weight of a vote is stake (up to a cap) times trust.
#[test]
fn votes_weigh_stake_times_trust() {
    let both = Both::new();
    let (state, params) = (&both.m.state, &both.spec.params);
    let members = both.spec.rounds.values().flat_map(|round| &round.members);
    for member in members {
        let stake = STAKE_POOLS.get_or_default(state, &member.who).tokens().atto();
        let trust = VALIDATOR_TRUST.get(state, &member.who).unwrap().weight(&params.trust).value().bits();
        let most = dn_core::wide::mul_div(stake, trust.into(), 1 << 32).unwrap();
        assert!(member.weight <= most, "{}: {} over {most}", name_of(member.who), member.weight);
    }
}

/// Somebody moves of whom nothing is known, in a round that is none.
#[test]
fn there_is_no_other_round() {
    let mut both = Both::new();
    let (round, commitment) = (Hash32([9; 32]), Hash32([1; 32]));
    assert!(!both.send("v1", Payload::QualitySeal { round, commitment }));
    assert!(!both.send("v1", Payload::QualityCommit { round, commitment }));
    assert_eq!(both.times("no such round"), 2);
}

/// Why something is refused.
pub(super) const REASONS: &[&str] = &[
    "a score over 100",
    "about another receipt",
    "badly signed or expired",
    "committed already",
    "in another's name",
    "no active model owner",
    "no such batch",
    "no such round",
    "no tag",
    "not a member",
    "not by who paid",
    "not committed",
    "not in the batch",
    "not sealed",
    "not settled",
    "not the setter",
    "not the setter's draw",
    "not the worker's receipt",
    "not what was committed to",
    "not what was drawn",
    "not what was sealed",
    "on one's own work or model",
    "opened already",
    "paid with no line",
    "revealed already",
    "said already",
    "sealed already",
    "somebody else's family",
    "the proof of another place",
    "too early to open",
    "too early to reveal",
    "too late to commit",
    "too late to reveal",
    "too late to seal",
];

/// What happens besides.
pub(super) const HAPPENS: &[&str] = &[
    "Aligned",
    "CanaryFailed",
    "CanaryPassed",
    "Misaligned",
    "Nothing",
    "a canary",
    "a canary fails by silence",
    "a payer is heard enough",
    "a quality",
    "a quality is handed on",
    "a small fee weighs little",
    "a spender speaks",
    "an owner does not judge itself",
    "cut to the upper quartile",
    "drawn, and not there any more",
    "never opened",
    "never sealed",
    "nobody scores",
    "raised to the lower quartile",
    "too many to ask about",
];
