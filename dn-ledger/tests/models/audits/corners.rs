//! The last block in which something may be said and the first in which it may not, and what chance seldom meets.

use dn_core::{Address, BatchId};
use dn_ledger::params::DisputeParams;
use dn_ledger::state::STAKE_SHARES;
use dn_ledger::tx::Shares;
use dn_ledger::{Params, Payload, Role};

use super::audits::Both;
use super::audits_records::{Dispute, Place};
use super::audits_requests::{Fate, Op};
use super::audits_script::RULES;
use super::audits_world::{VALIDATORS, address, rules};

/// Nothing is spoilt.
const RIGHT: u8 = u8::MAX;
/// What is found in a batch's first three receipts is right, or wrong; and the receipt of a batch is missing.
const ALL_RIGHT: u8 = 0;
const ALL_WRONG: u8 = 3;
const MISSING: u8 = 7;

fn block(both: &mut Both) {
    both.step(&Op::Blocks { count: 1 });
}

/// A batch of good receipts and their places, after its draw.
fn drawn(both: &mut Both, receipts: usize, first: u8, rest: u8) -> Vec<Place> {
    let fate = Fate { first, rest };
    both.step(&Op::Post { worker: 0, channels: 0, model: 0, receipts: vec![14; receipts], fate });
    let id = newest(both);
    (0..2).for_each(|_| block(both));
    both.spec.batches[&id].audits.keys().map(|index| (id, *index)).collect()
}

fn newest(both: &Both) -> BatchId {
    *both.spec.batches.iter().max_by_key(|(_, batch)| (batch.posted, batch.body.sequence)).unwrap().0
}

fn asked(both: &Both, place: Place) -> Vec<Address> {
    both.open_tasks().into_iter().filter(|(open, _)| *open == place).map(|(_, who)| who).collect()
}

/// Says what is next; whether it is taken.
fn say(both: &mut Both, place: Place, who: Address) -> bool {
    let (name, payload) = both.next_word(place, who, RIGHT);
    both.send(name, payload)
}

/// Who is asked alone commits and reveals.
fn found(both: &mut Both, place: Place) -> Address {
    let who = asked(both, place)[0];
    assert!(say(both, place, who) && say(both, place, who));
    who
}

fn deadlines(both: &mut Both, place: Place) -> (u64, u64) {
    let audit = both.spec.audit(place);
    (audit.commit_until, audit.reveal_until)
}

fn wait(both: &mut Both, height: u64) {
    while both.spec.height < height {
        block(both);
    }
}

fn dispute(both: &mut Both, place: Place) -> Dispute {
    both.spec.audit(place).dispute.clone().unwrap()
}

#[test]
fn an_auditor_has_so_many_blocks() {
    let mut both = Both::new(rules(0), 1);
    let places = drawn(&mut both, 3, ALL_RIGHT, ALL_RIGHT);
    let who: Vec<_> = places.iter().map(|place| asked(&both, *place)[0]).collect();
    let (commit, reveal) = deadlines(&mut both, places[0]);
    assert!(say(&mut both, places[2], who[2]));
    wait(&mut both, commit);
    assert!(say(&mut both, places[0], who[0]));
    block(&mut both);
    // Somebody else is asked instead of the second one.
    assert_eq!(both.times("audit_missed"), 1);
    let other = asked(&both, places[1])[0];
    assert!(other != who[1] && both.spec.audit(places[1]).tasks[&who[1]].missed);
    let (name, late) = both.next_word(places[1], who[1], RIGHT);
    assert!(!both.send(name, late));
    wait(&mut both, reveal);
    assert!(say(&mut both, places[0], who[0]));
    block(&mut both);
    assert_eq!(both.times("audit_missed"), 2, "who committed has to reveal");
    let (name, late) = both.next_word(places[2], who[2], RIGHT);
    assert!(!both.send(name, late));
    // Nobody is asked a third time.
    wait(&mut both, reveal + 9);
    assert_eq!((both.times("NoAudit alone"), both.times("Passed alone")), (2, 1));
}

/// In a vote nobody shows anything while somebody may still commit, and no longer.
#[test]
fn votes_are_shown_when_all_have_committed_or_may_not_any_more() {
    for all in [true, false] {
        let mut both = Both::new(rules(0), 2);
        let place = drawn(&mut both, 1, ALL_WRONG, 0)[0];
        let accuser = found(&mut both, place);
        let called = asked(&both, place);
        assert!(called.len() == 6 && !called.contains(&accuser));
        let (last, rest) = called.split_last().unwrap();
        for who in rest {
            assert!(say(&mut both, place, *who));
        }
        assert!(!say(&mut both, place, rest[0]));
        let (commit, reveal) = deadlines(&mut both, place);
        if all {
            assert!(say(&mut both, place, *last) && say(&mut both, place, rest[0]));
            continue;
        }
        wait(&mut both, commit);
        assert!(!say(&mut both, place, rest[0]));
        block(&mut both);
        assert!(!say(&mut both, place, *last), "too late to commit");
        for who in &rest[1..] {
            assert!(say(&mut both, place, *who));
        }
        wait(&mut both, reveal);
        assert_eq!(both.times("Refuted by vote"), 0);
        block(&mut both);
        assert_eq!((both.times("Refuted by vote"), both.times("audit_missed")), (1, 2));
        assert_eq!(both.times("slashed for FalseVerdict"), 1);
    }
}

/// A dispute whose accuser has opened it.
fn started(both: &mut Both) -> Place {
    let place = drawn(both, 1, ALL_WRONG, ALL_WRONG)[0];
    found(both, place);
    both.step(&Op::Open { dispute: 0, rest: false, spoil: RIGHT });
    assert!(dispute(both, place).receipt.is_some());
    place
}

#[test]
fn a_dispute_has_so_many_moves() {
    let mut rules = rules(4);
    rules.dispute = DisputeParams { clock_blocks: 64, max_moves_per_block: 80, ..rules.dispute };
    let mut both = Both::new(rules, 3);
    let place = started(&mut both);
    for _ in 0..66 {
        both.step(&Op::Move { dispute: 0, says: 0, spoil: RIGHT });
    }
    assert_eq!(dispute(&mut both, place).moves.len(), 64);
    let refused = both.times("refused dispute_answer") + both.times("refused dispute_pick");
    assert_eq!(refused, 2);
    assert_eq!(dispute(&mut both, place).left, [32, 32]);
}

/// To open, and to move: the last block counts, the next one does not.
#[test]
fn who_is_silent_for_so_long_loses() {
    for opens in [true, false] {
        let mut both = Both::new(Params { epoch_blocks: 60, ..rules(4) }, 4);
        let place = if opens {
            started(&mut both)
        } else {
            let place = drawn(&mut both, 1, ALL_WRONG, ALL_WRONG)[0];
            found(&mut both, place);
            place
        };
        let until = dispute(&mut both, place).until;
        assert_eq!(until - both.spec.height, if opens { 6 } else { 3 });
        wait(&mut both, until);
        let op = if opens {
            Op::Move { dispute: 0, says: 0, spoil: RIGHT }
        } else {
            Op::Open { dispute: 0, rest: false, spoil: RIGHT }
        };
        both.step(&op);
        let next = dispute(&mut both, place);
        assert_eq!(next.left, if opens { [0, 6] } else { [6, 6] });
        wait(&mut both, next.until);
        assert_eq!(dispute(&mut both, place).ending, None);
        block(&mut both);
        let ending = if opens { "ends accuser_silent" } else { "ends worker_silent" };
        assert_eq!(both.times(ending), 1);
    }
}

/// Who finds no room in full blocks has not been silent, and has some time left when it does find room.
#[test]
fn no_clock_runs_out_in_full_blocks() {
    let mut rules = rules(1);
    rules.dispute =
        DisputeParams { referee: RULES, max_moves_per_block: 1, clock_blocks: 64, ..rules.dispute };
    let mut both = Both::new(rules, 5);
    let places = drawn(&mut both, 3, ALL_WRONG, ALL_WRONG);
    for place in &places {
        found(&mut both, *place);
    }
    let until = dispute(&mut both, places[1]).until;
    both.step(&Op::Open { dispute: 0, rest: false, spoil: RIGHT });
    let first = *places
        .iter()
        .find(|place| both.spec.audit(**place).dispute.as_ref().unwrap().receipt.is_some())
        .unwrap();
    while both.spec.height <= until {
        assert_eq!(both.times("dispute_ended"), 0);
        block(&mut both);
        both.step(&Op::Move { dispute: 0, says: 0, spoil: RIGHT });
    }
    // No room any more in this block; in the next one there is.
    both.step(&Op::Open { dispute: 1, rest: false, spoil: RIGHT });
    assert_eq!(both.times("late, since blocks were full"), 0);
    block(&mut both);
    both.step(&Op::Open { dispute: 1, rest: false, spoil: RIGHT });
    assert_eq!(both.times("late, since blocks were full"), 1);
    assert!(dispute(&mut both, first).receipt.is_some());
    // As many blocks with room as there are for opening, then the third one is silent.
    (0..3).for_each(|_| block(&mut both));
    assert_eq!(both.times("dispute_ended"), 0);
    block(&mut both);
    assert_eq!(both.times("ends accuser_silent"), 1);
}

fn retire(both: &mut Both, who: &str) {
    assert!(both.given(who, Payload::Retire { role: Role::Validator }));
}

/// An accuser decides alone where nobody else is left, as no vote can be held; and where nobody is left to ask, nothing is audited.
#[test]
fn who_is_left_alone() {
    let mut both = Both::new(rules(0), 6);
    VALIDATORS[1..].iter().for_each(|who| retire(&mut both, who));
    let place = drawn(&mut both, 1, MISSING, 0)[0];
    assert_eq!(found(&mut both, place), address("v1"));
    assert_eq!((both.times("Unavailable by vote"), both.times("slashed for Unavailable")), (1, 1));
    // Of who cannot judge nobody is in place.
    let place = drawn(&mut both, 1, MISSING + 1, 0)[0];
    found(&mut both, place);
    assert_eq!(both.times("NoAudit alone"), 1);
    retire(&mut both, "v1");
    assert!(drawn(&mut both, 2, ALL_RIGHT, 0).is_empty());
    (0..4).for_each(|_| block(&mut both));
    assert_eq!(both.times("batch_settled"), 2);
}

/// One of two who are as strong as each other accuses: half of what was shown is no majority, half of all is enough to decide.
#[test]
fn one_half_of_two() {
    for (first, rest, result) in
        [(ALL_WRONG, 0, "Refuted by vote"), (MISSING, 0, "Refuted by vote"), (MISSING, 9, "")]
    {
        let mut both = Both::new(rules(0), 11);
        VALIDATORS.iter().filter(|who| !["v5", "v6"].contains(who)).for_each(|who| retire(&mut both, who));
        let place = drawn(&mut both, 1, first, rest)[0];
        found(&mut both, place);
        let other = asked(&both, place);
        assert_eq!(other.len(), 1);
        if result.is_empty() {
            // It says nothing.
            (0..7).for_each(|_| block(&mut both));
            assert_eq!((both.times("Unavailable by vote"), both.times("audit_missed")), (1, 1));
        } else {
            assert!(say(&mut both, place, other[0]) && say(&mut both, place, other[0]));
            assert_eq!(both.times(result), 1);
        }
    }
}

/// Nearly all weight has left: those who can be drawn are found all the same.
#[test]
fn somebody_is_found_among_many_who_left() {
    let mut both = Both::new(rules(0), 7);
    let few = ["v5", "v6"];
    for who in few {
        let validator = address(who);
        let held = STAKE_SHARES.get(&both.m.state, &(validator, validator)).unwrap().0;
        let shares = Shares(held - held / 400);
        assert!(both.given(who, Payload::Unbond { validator, shares }));
    }
    // Until the election holds.
    (0..12).for_each(|_| block(&mut both));
    for who in VALIDATORS.iter().filter(|who| !few.contains(who)) {
        retire(&mut both, who);
    }
    for _ in 0..3 {
        let places = drawn(&mut both, 3, ALL_RIGHT, 0);
        assert_eq!(places.len(), 3);
        for place in places {
            assert!(few.map(address).contains(&found(&mut both, place)));
        }
    }
    assert_eq!(both.times("Passed alone"), 9);
}

#[test]
fn fees_go_back_to_who_paid_where_the_channel_is_gone() {
    let mut both = Both::new(rules(0), 8);
    both.step(&Op::Channel { payer: 0 });
    let place = drawn(&mut both, 1, ALL_WRONG, 1)[0];
    (0..3).for_each(|_| block(&mut both));
    both.step(&Op::Channel { payer: 0 });
    assert!(!both.spec.books.channels.contains_key(&both.channels[0].0));
    found(&mut both, place);
    for _ in 0..2 {
        for who in asked(&both, place) {
            assert!(say(&mut both, place, who));
        }
    }
    assert_eq!((both.times("Fraud by vote"), both.times("fees go back to a payer")), (1, 1));
}

/// Stake on its way out is cut until it is free.
#[test]
fn what_left_is_cut_until_it_is_free() {
    let mut both = Both::new(rules(0), 9);
    for who in VALIDATORS {
        let validator = address(who);
        assert!(
            both.given(who, Payload::Unbond { validator, shares: Shares(1_000_000_000_000_000_000_001) })
        );
    }
    let free = both.spec.params.epoch_blocks * both.spec.params.unbonding_epochs;
    let mut cut = Vec::new();
    // In the last block of the epoch before, and in the first one.
    for height in [free - 1, free] {
        let before = both.spec.books.leaving.clone();
        wait(&mut both, height - 2);
        let place = drawn(&mut both, 1, ALL_WRONG, 0)[0];
        let accuser = found(&mut both, place);
        for _ in 0..2 {
            for who in asked(&both, place) {
                assert!(say(&mut both, place, who));
            }
        }
        let after = both.spec.books.leaving.iter().filter(|(key, held)| before[key] != **held);
        cut.push(after.map(|((who, _), _)| *who == accuser).collect::<Vec<_>>());
    }
    assert_eq!(cut, [vec![true], vec![]]);
}

/// Where the most are drawn, hashes say which of them are looked at.
#[test]
fn no_more_than_so_many_are_audited() {
    let mut rules = rules(2);
    (rules.audit_rate.ceiling, rules.audit_rate.floor) = (2_500, 2_500);
    rules.audit_times.max_per_batch = 1;
    let mut both = Both::new(rules, 10);
    for _ in 0..30 {
        let fate = Fate { first: ALL_RIGHT, rest: 0 };
        for worker in 0..2 {
            both.step(&Op::Post { worker, channels: 0, model: 0, receipts: vec![14; 3], fate });
        }
        block(&mut both);
    }
    assert!(both.times("a batch") == 60 && both.spec.cut >= 3, "{}", both.spec.cut);
}
