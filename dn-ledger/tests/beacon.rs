//! The beacon: who can bias it, by how much, and at what price.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{CHAIN_ID, World, address, dn, key, params};
use dn_core::{Address, Amount, Hash32, SecretKey, keccak256};
use dn_ledger::beacon::{Reveal, RevealError, mix};
use dn_ledger::block::Certificate;
use dn_ledger::events::Event;
use dn_ledger::state::{BATCHES, BatchStatus, TURNS, VALIDATOR_TRUST};
use dn_ledger::{BlockError, Chain, Params, Payload, Proposal, Signatures, ValidatorSet, query};

fn required() -> Params {
    let mut params = params();
    params.beacon.required = true;
    params
}

/// A block by the validator whose turn it is in a round; the rounds before are missed.
fn block_in_round(chain: &mut Chain, round: u32) -> Proposal {
    let proposer = chain.proposer(round);
    let name = ["v1", "v2", "v3"].into_iter().find(|name| address(name) == proposer).unwrap();
    let time_ms = chain.tip().time_ms + 1_000;
    let proposal = chain.propose_by(&key(name), time_ms, &[], Signatures::Check).unwrap();
    assert_eq!(chain.validate(&proposal.block).unwrap(), proposal.executed);
    let header = &proposal.block.header;
    let keys = ["v1", "v2", "v3"].map(key);
    chain.commit(header, Certificate::sign(header, round, &keys), &proposal.executed);
    proposal
}

#[test]
fn every_block_needs_its_proposers_reveal() {
    let mut chain = Chain::new(&common::genesis(required()));
    block_in_round(&mut chain, 0);
    let before = chain.beacon();
    let refused = |error| match error {
        BlockError::Reveal { source, .. } => source,
        other => panic!("{other}"),
    };
    assert_eq!(refused(chain.propose(address("v1"), 0, &[]).unwrap_err()), RevealError::Missing);
    let reveal = |name: &str, height, beacon| Reveal::new(&key(name), CHAIN_ID, height, beacon).unwrap();
    let mut propose =
        |reveal| chain.propose_revealing(address("v1"), Some(reveal), 0, &[], Signatures::Check);
    let (expected, found) = (address("v1"), address("v2"));
    assert_eq!(refused(propose(reveal("v2", 2, before)).unwrap_err()), RevealError::Key { expected, found });
    let proof = RevealError::Proof(dn_core::VrfError::Challenge);
    assert_eq!(refused(propose(reveal("v1", 3, before)).unwrap_err()), proof);
    assert_eq!(refused(propose(reveal("v1", 2, Hash32([1; 32]))).unwrap_err()), proof);
    let good = propose(reveal("v1", 2, before)).unwrap().block;
    let mut stripped = good.clone();
    stripped.header.reveal = None;
    assert_eq!(refused(chain.validate(&stripped).unwrap_err()), RevealError::Missing);
    assert!(chain.validate(&good).is_ok());
}

/// A proposer that tries other contents and times gets the same randomness; another proposer gets another.
#[test]
fn contents_do_not_move_the_beacon() {
    let mut w = World::with(required());
    let beacon_of = |w: &mut World, proposer: &str, time: u64, txs: &[dn_ledger::SignedTx]| {
        let mut chain = w.chain.clone();
        let proposal = chain.propose_by(&key(proposer), time, txs, Signatures::Check).unwrap();
        chain.commit(&proposal.block.header, Certificate::default(), &proposal.executed);
        chain.beacon()
    };
    let tx = w.tx("payer", Payload::Transfer { to: address("owner"), amount: dn(1) });
    let base = beacon_of(&mut w, "v1", 0, &[]);
    assert_eq!(beacon_of(&mut w, "v1", common::START_MS + 9_999, &[tx]), base);
    assert_ne!(beacon_of(&mut w, "v2", 0, &[]), base);
    // Without reveals, each block of many gives another.
    let mut hashed = World::with(params());
    hashed.block(&[]);
    let first = hashed.chain.beacon();
    hashed.block(&[]);
    assert_ne!(hashed.chain.beacon(), first);
}

#[test]
fn draws_wait_for_the_delay() {
    let mut delayed = params();
    delayed.beacon.delay_blocks = 3;
    let mut w = World::with(delayed);
    w.prepare();
    let id = w.post(2, dn(10), Amount::ZERO);
    for _ in 0..2 {
        w.blocks(1);
        assert_eq!(BATCHES.get(w.state(), &id).unwrap().status, BatchStatus::Posted);
    }
    w.blocks(1);
    assert_eq!(w.open_audits().len(), 2);
    let batch = BATCHES.get(w.state(), &id).unwrap();
    assert_eq!(batch.window_end_height, batch.posted_height + 3 + 3);
}

#[test]
fn missed_turns_cost_pay_and_timeliness() {
    let mut params = required();
    params.epoch_blocks = 6;
    params.beacon.miss_penalty = Amount::from_atto(1_000_000_000_000);
    let genesis = common::genesis(params.clone());
    let mut chain = Chain::new(&genesis);
    let mut events = Vec::new();
    let mut missed: BTreeMap<Address, u32> = BTreeMap::new();
    // Fees, so that there is pay.
    let transfer = |chain: &Chain, nonce| {
        let (sender, fee) = (address("payer"), dn(1));
        let payload = Payload::Transfer { to: address("owner"), amount: dn(1) };
        dn_ledger::Tx {
            chain_id: CHAIN_ID,
            sender,
            nonce,
            expires_height: chain.tip().height + 9,
            fee,
            payload,
        }
        .sign(&key("payer"))
    };
    for height in 1..=5u64 {
        let round = u32::from(height < 4);
        if round > 0 {
            *missed.entry(chain.proposer(0)).or_default() += 1;
        }
        let tx = transfer(&chain, height - 1);
        let proposer = chain.proposer(round);
        let name = ["v1", "v2", "v3"].into_iter().find(|name| address(name) == proposer).unwrap();
        let time = chain.tip().time_ms + 1;
        let proposal = chain.propose_by(&key(name), time, &[tx], Signatures::Check).unwrap();
        assert_eq!(chain.validate(&proposal.block).unwrap(), proposal.executed);
        let header = &proposal.block.header;
        chain.commit(
            header,
            Certificate::sign(header, round, &["v1", "v2", "v3"].map(key)),
            &proposal.executed,
        );
        events.extend(proposal.executed.events().map(|(_, event)| event.clone()));
        dn_ledger::supply::check_all(chain.state()).unwrap();
    }
    let seen = events.iter().filter(|e| matches!(e, Event::TurnMissed { .. })).count();
    assert_eq!(seen, 3, "the rounds before blocks 1, 2 and 3");
    let charged = |who: Address| {
        events.iter().find_map(|e| match e {
            Event::TurnsCharged { validator, missed, alarms: 0, amount } if *validator == who => {
                Some((*missed, *amount))
            }
            _ => None,
        })
    };
    for (validator, count) in &missed {
        let amount = Amount::from_atto(params.beacon.miss_penalty.atto() * u128::from(*count));
        assert_eq!(charged(*validator), Some((*count, amount)));
    }
    assert_eq!(TURNS.iter(chain.state()).count(), 0, "a new epoch");
    let paid = |e: &Event| matches!(e, Event::PoolRewarded { .. });
    assert!(events.iter().any(paid));
    assert!(VALIDATOR_TRUST.iter(chain.state()).count() == 3);
    let view = query::beacon(chain.state(), chain.tip().height);
    assert_eq!((view.height, view.beacon), (5, chain.beacon()));
}

/// Validators of equal power; the first one grinds.
struct Grinding {
    keys: Vec<SecretKey>,
    set: ValidatorSet,
    grinder: Address,
}

/// What the grinder wants of a draw: one chance in sixteen.
fn is_wanted(beacon: Hash32, height: u64) -> bool {
    keccak256(&[&beacon.0, &height.to_le_bytes()])[0] < 16
}

/// How often it got it in heights whose first turn was its own, how many of those there were, and how many turns it gave up.
#[derive(Debug, Default, PartialEq)]
struct Measured {
    own: u32,
    wanted: u32,
    withheld: u32,
    others_wanted: u32,
    others: u32,
}

impl Grinding {
    fn new() -> Self {
        let keys: Vec<_> = (1..=4).map(|n| SecretKey::from_bytes(&[n; 32]).unwrap()).collect();
        let set = ValidatorSet::new(keys.iter().map(|key| (key.address(), 1)));
        let grinder = keys[0].address();
        Self { keys, set, grinder }
    }

    fn value(&self, who: Address, height: u64, beacon: Hash32) -> Hash32 {
        let key = self.keys.iter().find(|key| key.address() == who).unwrap();
        let reveal = Reveal::new(key, CHAIN_ID, height, beacon).unwrap();
        reveal.verify(who, CHAIN_ID, height, beacon).unwrap()
    }

    /// With reveals: on its turn the grinder looks at its one value and leaves the turn to the next if it does not like it.
    fn with_reveals(&self, heights: u64) -> Measured {
        let (mut beacon, mut seen) = (Hash32::ZERO, Measured::default());
        for height in 1..=heights {
            let first = self.set.proposer(CHAIN_ID, Hash32::ZERO, height, 0);
            let mut next = mix(beacon, Some(self.value(first, height, beacon)), Hash32::ZERO);
            if first == self.grinder {
                seen.own += 1;
                if !is_wanted(next, height) {
                    seen.withheld += 1;
                    let second = self.set.proposer(CHAIN_ID, Hash32::ZERO, height, 1);
                    next = mix(beacon, Some(self.value(second, height, beacon)), Hash32::ZERO);
                }
                seen.wanted += u32::from(is_wanted(next, height));
            } else {
                seen.others += 1;
                seen.others_wanted += u32::from(is_wanted(next, height));
            }
            beacon = next;
        }
        seen
    }

    /// With hashes of blocks: on its turn it tries blocks until it likes one, up to so many.
    fn with_hashes(&self, heights: u64, tries: u64) -> Measured {
        let (mut beacon, mut seen) = (Hash32::ZERO, Measured::default());
        for height in 1..=heights {
            let own = self.set.proposer(CHAIN_ID, Hash32::ZERO, height, 0) == self.grinder;
            let block = |n: u64| Hash32(keccak256(&[b"block", &height.to_le_bytes(), &n.to_le_bytes()]));
            let outcome = |n| mix(beacon, None, block(n));
            let chosen =
                (0..if own { tries } else { 1 }).find(|n| is_wanted(outcome(*n), height)).unwrap_or(0);
            let next = outcome(chosen);
            let wanted = u32::from(is_wanted(next, height));
            if own {
                (seen.own, seen.wanted) = (seen.own + 1, seen.wanted + wanted);
            } else {
                (seen.others, seen.others_wanted) = (seen.others + 1, seen.others_wanted + wanted);
            }
            beacon = next;
        }
        seen
    }
}

/// The same grinder under both beacons. With q the chance of what it wants, a reveal lets it have two outcomes, so at most 2q − q², and
/// each second outcome costs it a turn; hashes of blocks let it have what it wants nearly always, for nothing.
#[test]
fn a_grinder_gets_two_outcomes_from_reveals_and_any_from_hashes() {
    let grinding = Grinding::new();
    let (reveals, hashes) = (grinding.with_reveals(2_400), grinding.with_hashes(2_400, 64));
    println!("reveals: {reveals:?}\nhashes of blocks, 64 tries: {hashes:?}");
    // In 10,000ths: q = 625, 2q − q² = 1,211. Four standard deviations of some 600 draws at that rate are 533.
    let rate = |wanted: u32, of: u32| wanted * 10_000 / of.max(1);
    let biased = rate(reveals.wanted, reveals.own);
    assert!(biased.abs_diff(1_211) < 533, "{biased}: two outcomes");
    // The price: it keeps only the turns whose own outcome it wants.
    let kept = rate(reveals.own - reveals.withheld, reveals.own);
    assert!(kept.abs_diff(625) < 400, "{kept}: the turns that it kept");
    assert!(rate(hashes.wanted, hashes.own) > 9_500, "{hashes:?}: it chooses");
    // Neither moves what others propose.
    for seen in [&reveals, &hashes] {
        let free = rate(seen.others_wanted, seen.others);
        assert!(free.abs_diff(625) < 240, "{free}");
    }
}

/// Looking ahead: a grinder that has all turns between a batch and its draw knows the draw when the batch is posted. With a delay of d that takes
/// d turns in a row.
#[test]
fn a_delay_makes_knowing_ahead_rare() {
    let grinding = Grinding::new();
    let turns: Vec<bool> = (1..=20_000u64)
        .map(|height| grinding.set.proposer(CHAIN_ID, Hash32::ZERO, height, 0) == grinding.grinder)
        .collect();
    let share = |delay: usize| {
        let streaks = turns.windows(delay).filter(|turns| turns.iter().all(|own| *own)).count();
        streaks * 1_000_000 / turns.len()
    };
    let known: Vec<usize> = [1, 2, 4, 6].map(share).to_vec();
    println!("draws known ahead per million, by delay 1, 2, 4, 6: {known:?}");
    // A quarter of all turns: 4^-d.
    for (known, (expected, within)) in
        known.iter().zip([(250_000usize, 14_000usize), (62_500, 12_000), (3_906, 3_000), (244, 800)])
    {
        assert!(known.abs_diff(expected) < within, "{known} of {expected}");
    }
}
