//! Identities, commissions, redelegation and evidence: what each does, and each way it is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CHAIN_ID, World, address, dn, key, params};
use dn_core::{Address, Amount, BlockHash};
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::params::MAX_TX_FEE;
use dn_ledger::reject::{EvidenceFault, Field, SignedObject, StakingFault};
use dn_ledger::state::{
    ACCOUNTS, IDENTITIES, Identity, IdentityStatus, POOLS, Pool, REDELEGATION_POOLS, REDELEGATIONS,
    STAKE_POOLS, STAKE_SHARES, UNBONDING_POOLS, VALIDATOR_EPOCHS, VALIDATOR_TRUST,
};
use dn_ledger::tx::{Evidence, Shares};
use dn_ledger::vote::{RoundProposal, Vote, VoteKind};
use dn_ledger::{Params, Payload, Reject, Role, apply, query};

fn atto(n: u128) -> Amount {
    Amount::from_atto(n)
}

fn update(role: Role, name: Option<&str>, endpoint: Option<&str>, add_collateral: Amount) -> Payload {
    let text = |text: &str| text.to_owned();
    Payload::UpdateIdentity { role, name: name.map(text), endpoint: endpoint.map(text), add_collateral }
}

fn held(w: &World, who: &str, validator: &str) -> Shares {
    STAKE_SHARES.get_or_default(w.state(), &(address(who), address(validator)))
}

fn stake(validator: &str, amount: u64) -> Payload {
    Payload::Stake { validator: address(validator), amount: dn(amount) }
}

fn redelegate(from: &str, to: &str, shares: Shares) -> Payload {
    Payload::Redelegate { from: address(from), to: address(to), shares }
}

/// Blocks until the next one is the first of an epoch.
fn to_epoch(w: &mut World) -> Vec<Event> {
    let blocks = w.genesis.params.epoch_blocks;
    let left = blocks - 1 - w.height() % blocks;
    w.blocks(if left == 0 { blocks } else { left })
}

#[test]
fn identities_are_updated() {
    let mut w = World::ready();
    let (role, worker) = (Role::Worker, address("worker"));
    let none = || update(role, None, None, Amount::ZERO);
    assert_eq!(w.reject("payer", none()), Reject::UnknownIdentity { address: address("payer"), role });
    assert_eq!(w.reject("worker", none()), Reject::NothingToChange {});
    let same = update(role, Some("somebody"), Some(""), Amount::ZERO);
    assert_eq!(w.reject("worker", same), Reject::NothingToChange {});
    assert_eq!(
        w.reject("worker", update(role, Some(""), None, Amount::ZERO)),
        Reject::Size { field: Field::Name, min: 1, max: 64, found: 0 }
    );
    assert_eq!(
        w.reject("worker", update(role, None, Some("a\u{7}"), Amount::ZERO)),
        Reject::ControlCharacter { field: Field::Endpoint, at: 1 }
    );
    assert!(matches!(
        w.reject("worker", update(role, Some("new"), None, dn(5_000))),
        Reject::Insufficient { .. }
    ));
    assert_eq!(w.reject("worker", update(role, None, None, atto(u128::MAX))), Reject::Overflow {});
    let events = w.ok("worker", update(role, Some("new"), Some("https://w.example"), dn(7)));
    assert!(events.contains(&Event::IdentityUpdated { address: worker, role, collateral: dn(1_007) }));
    let record = IDENTITIES.get(w.state(), &(role, worker)).unwrap();
    assert_eq!(
        (record.name.as_str(), record.endpoint.as_str(), record.collateral),
        ("new", "https://w.example", dn(1_007))
    );
    w.ok("worker", Payload::Retire { role });
    let status = IDENTITIES.get(w.state(), &(role, worker)).unwrap().status;
    assert_eq!(
        w.reject("worker", update(role, Some("x"), None, Amount::ZERO)),
        Reject::NotActive { address: worker, role, status }
    );
}

/// The largest fees, so that an epoch's reward is visible.
fn dear() -> Params {
    Params { min_tx_fee: MAX_TX_FEE, ..params() }
}

#[test]
fn commissions_are_announced_bounded_and_paid() {
    let mut w = World::with(dear());
    let set = |rate| Payload::SetCommission { rate };
    let v1 = address("v1");
    let role = Role::Validator;
    assert_eq!(w.reject("payer", set(1)), Reject::UnknownIdentity { address: address("payer"), role });
    let fault = |fault: StakingFault| Reject::Staking(fault);
    assert_eq!(
        w.reject("v1", set(2_001)),
        fault(StakingFault::CommissionTooHigh { maximum: 2_000, found: 2_001 })
    );
    assert_eq!(
        w.reject("v1", set(101)),
        fault(StakingFault::CommissionRaise { current: 0, maximum: 100, found: 101 })
    );
    assert_eq!(w.reject("v1", set(0)), Reject::NothingToChange {});

    // In the last block of an epoch: not paid in it, nor in the next, but two epochs later.
    to_epoch(&mut w);
    w.blocks(w.genesis.params.epoch_blocks - 1);
    let epoch = w.chain.next_context(0).epoch();
    assert!(w.chain.next_context(0).ends_epoch());
    let events = w.ok("v1", set(100));
    assert!(events.contains(&Event::CommissionSet { validator: v1, rate: 100, from_epoch: epoch + 2 }));
    let paid = |events: &[Event]| {
        let mut paid = (Amount::ZERO, Amount::ZERO);
        for event in events {
            match event {
                Event::PoolRewarded { validator, amount } if *validator == v1 => paid.0 = *amount,
                Event::CommissionPaid { validator, amount, .. } if *validator == v1 => paid.1 = *amount,
                _ => {}
            }
        }
        paid
    };
    assert_eq!(paid(&events).1, Amount::ZERO);
    w.ok("payer", stake("v1", 10));
    let next = to_epoch(&mut w);
    assert!(!paid(&next).0.is_zero() && paid(&next).1.is_zero());
    let before = held(&w, "v1", "v1");
    let delegator = held(&w, "payer", "v1");
    w.ok("stranger", Payload::Transfer { to: address("owner"), amount: dn(1) });
    let (reward, commission) = paid(&to_epoch(&mut w));
    assert!(!reward.is_zero());
    assert_eq!(commission, atto(reward.atto() / 100));
    // It is the validator's own stake now; the delegator's shares are as many as before, and worth more.
    let bought = held(&w, "v1", "v1").0 - before.0;
    let worth = STAKE_POOLS.get(w.state(), &v1).unwrap().value_of(bought);
    assert!(worth <= commission && worth.atto() + 2 >= commission.atto(), "{worth} of {commission}");
    assert_eq!(held(&w, "payer", "v1"), delegator);

    // One raise at a time; a cut is at once and takes the raise back.
    w.ok("v1", set(200));
    assert_eq!(
        w.reject("v1", set(201)),
        fault(StakingFault::CommissionRaise { current: 100, maximum: 200, found: 201 })
    );
    w.ok("v1", set(50));
    assert_eq!(w.reject("v1", set(50)), Reject::NothingToChange {});
    let view = query::identity(w.state(), role, v1).unwrap();
    assert_eq!((view.commission.rate, view.commission.next), (50, None));
    // An announced raise can be taken back by the rate in force.
    w.ok("v1", set(60));
    w.ok("v1", set(50));
    assert_eq!(query::identity(w.state(), role, v1).unwrap().commission.next, None);
}

#[test]
fn a_validator_needs_stake_of_its_own() {
    let mut w = World::bare();
    let shares = held(&w, "v1", "v1");
    w.ok("payer", stake("v1", 500));
    // 99 of 10,000 DN stay.
    let validator = address("v1");
    w.ok("v1", Payload::Unbond { validator, shares: Shares(shares.0 / 10_000 * 9_901) });
    let found = dn(99);
    let fault = StakingFault::SelfBondTooLow { validator, minimum: dn(100), found };
    assert_eq!(w.reject("payer", stake("v1", 5)), Reject::Staking(fault.clone()));
    w.ok("payer", stake("v2", 5));
    let moved = redelegate("v2", "v1", held(&w, "payer", "v2"));
    assert_eq!(w.reject("payer", moved), Reject::Staking(fault));
    assert_eq!(query::identity(w.state(), Role::Validator, validator).unwrap().self_bond, found);
    // It decides blocks until the election holds, one block (`beacon.delay_blocks`) after the epoch's end, and no longer.
    to_epoch(&mut w);
    assert!(w.chain.validators().power(validator) > 0);
    w.blocks(1);
    assert_eq!(w.chain.validators().power(validator), 0);
    assert!(w.chain.validators().power(address("v2")) > 0);
    w.ok("v1", stake("v1", 2));
    w.ok("payer", stake("v1", 5));
    to_epoch(&mut w);
    assert_eq!(w.chain.validators().power(validator), 0);
    w.blocks(1);
    assert!(w.chain.validators().power(validator) > 0);
}

#[test]
fn redelegated_stake_is_bound_and_settles() {
    let mut w = World::bare();
    w.ok("payer", stake("v1", 500));
    let shares = held(&w, "payer", "v1");
    let fault = |fault: StakingFault| Reject::Staking(fault);
    assert_eq!(
        w.reject("payer", redelegate("v1", "v1", shares)),
        fault(StakingFault::SamePool { validator: address("v1") })
    );
    let (validator, available, needed) = (address("v1"), shares, Shares(shares.0 + 1));
    assert_eq!(
        w.reject("payer", redelegate("v1", "v2", needed)),
        Reject::SharesInsufficient { validator, available, needed }
    );
    let none = Shares(0);
    assert_eq!(
        w.reject("payer", redelegate("v1", "v2", none)),
        Reject::SharesInsufficient { validator, available, needed: none }
    );
    let role = Role::Validator;
    assert_eq!(
        w.reject("payer", redelegate("v1", "stranger", shares)),
        Reject::UnknownIdentity { address: address("stranger"), role }
    );
    let minimum = w.genesis.params.min_stake;
    let few = Shares(1);
    let refused = w.reject("payer", redelegate("v1", "v2", few));
    let Reject::Staking(StakingFault::WorthTooLittle { validator: from, shares: named, minimum: m, found }) =
        refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!((from, named, m), (validator, few, minimum));
    assert!(found < minimum, "{found}");

    let epoch = w.chain.next_context(0).epoch();
    let events = w.ok("payer", redelegate("v1", "v2", shares));
    let release = epoch + w.genesis.params.unbonding_epochs;
    assert!(events.iter().any(|e| matches!(e, Event::Redelegated { amount, release_epoch, .. }
        if amount.atto() + 2 >= dn(500).atto() && *release_epoch == release)));
    assert_eq!((held(&w, "payer", "v1").0, held(&w, "payer", "v2").0), (0, 0));
    let view = query::account(w.state(), address("payer"));
    assert_eq!((view.redelegating.len(), view.redelegating[0].release_epoch), (1, release));
    // Neither further nor out until the old validator's claim is over.
    for (payload, validator) in [
        (redelegate("v2", "v3", Shares(5)), "v2"),
        (Payload::Unbond { validator: address("v2"), shares: Shares(5) }, "v2"),
        (redelegate("v1", "v3", Shares(5)), "v1"),
    ] {
        let (validator, available, needed) = (address(validator), Shares(0), Shares(5));
        assert_eq!(w.reject("payer", payload), Reject::SharesInsufficient { validator, available, needed });
    }
    let next = Some(release);
    assert_eq!(
        w.reject("payer", Payload::Withdraw {}),
        Reject::NothingToWithdraw { next_release_epoch: next }
    );
    while w.chain.next_context(0).epoch() < release {
        w.block(&[]);
    }
    // Unbonding finds what has become plain shares.
    let events = w.ok("payer", Payload::Unbond { validator: address("v2"), shares: Shares(5) });
    assert!(events.iter().any(|e| matches!(e, Event::RedelegationSettled { .. })));
    assert!(held(&w, "payer", "v2").0 > 0);
    assert_eq!(REDELEGATIONS.iter(w.state()).count() + REDELEGATION_POOLS.iter(w.state()).count(), 0);
    // So does a withdrawal that pays nothing out.
    w.ok("payer", redelegate("v2", "v3", held(&w, "payer", "v2")));
    w.blocks((w.genesis.params.unbonding_epochs + 1) * w.genesis.params.epoch_blocks);
    w.ok("payer", Payload::Withdraw {});
    assert!(held(&w, "payer", "v3").0 > 0);
}

fn vote(height: u64, kind: VoteKind, block: Option<u8>) -> Vote {
    let block = block.map(|n| BlockHash([n; 32]));
    Vote { chain_id: CHAIN_ID, height, round: 3, kind, block }
}

fn votes(who: &str, first: Vote, second: Vote) -> Payload {
    let evidence = Evidence::Votes {
        first,
        first_signature: key(who).sign(&first.digest()),
        second,
        second_signature: key(who).sign(&second.digest()),
    };
    Payload::SubmitEvidence { validator: address(who), evidence }
}

fn equivocation(who: &str, height: u64) -> Payload {
    votes(who, vote(height, VoteKind::Precommit, Some(1)), vote(height, VoteKind::Precommit, None))
}

#[test]
fn evidence_must_prove_an_offence() {
    let mut w = World::bare();
    w.blocks(3);
    let validator = address("v1");
    let refuse = |w: &World, payload| match w.reject("payer", payload) {
        Reject::Evidence(fault) => fault,
        other => panic!("{other}"),
    };
    let (a, b) = (vote(2, VoteKind::Prevote, Some(1)), vote(2, VoteKind::Prevote, Some(2)));
    let pair = |first, second| votes("v1", first, second);
    assert_eq!(w.reject("v1", pair(a, b)), Reject::Evidence(EvidenceFault::Own { validator }));
    let no_conflict = EvidenceFault::NoConflict {};
    assert_eq!(refuse(&w, pair(a, a)), no_conflict);
    for other in [
        Vote { height: 3, ..b },
        Vote { round: 4, ..b },
        Vote { kind: VoteKind::Precommit, ..b },
        Vote { chain_id: 1, ..b },
    ] {
        assert_eq!(refuse(&w, pair(a, other)), no_conflict);
    }
    let object = SignedObject::ConsensusMessage;
    let foreign = |v: Vote| Vote { chain_id: 1, ..v };
    assert_eq!(
        w.reject("payer", pair(foreign(a), foreign(b))),
        Reject::ChainId { object, expected: CHAIN_ID, found: 1 }
    );
    let late = |v: Vote| Vote { height: 5, ..v };
    assert_eq!(refuse(&w, pair(late(a), late(b))), EvidenceFault::Future { height: 4, found: 5 });
    let (who, role) = (address("payer"), Role::Validator);
    assert_eq!(w.reject("owner", votes("payer", a, b)), Reject::UnknownIdentity { address: who, role });
    // Signed by the reporter, both or one: the validator has nothing to do with it.
    let expected = validator;
    for forged in 0..3 {
        let signer = |n| if forged == n || forged == 2 { key("payer") } else { key("v1") };
        let evidence = Evidence::Votes {
            first: a,
            first_signature: signer(0).sign(&a.digest()),
            second: b,
            second_signature: signer(1).sign(&b.digest()),
        };
        assert_eq!(
            w.reject("payer", Payload::SubmitEvidence { validator, evidence }),
            Reject::Signature { object, expected }
        );
    }
    // A vote for a block and one for none conflict as well; so do proposals that differ in their valid round alone.
    let proposal = |valid_round| RoundProposal {
        chain_id: CHAIN_ID,
        height: 2,
        round: 0,
        block: BlockHash([1; 32]),
        valid_round,
    };
    let (first, second) = (proposal(None), proposal(Some(0)));
    let both = |second: RoundProposal| Payload::SubmitEvidence {
        validator,
        evidence: Evidence::Proposals {
            first,
            first_signature: key("v1").sign(&first.digest()),
            second,
            second_signature: key("v1").sign(&second.digest()),
        },
    };
    assert_eq!(refuse(&w, both(first)), no_conflict);
    w.ok("payer", both(second));
    assert_eq!(refuse(&w, equivocation("v1", 2)), EvidenceFault::Known { validator, height: 2 });
    // Bonded until the epoch in which stake that left in the offence's own epoch is free.
    let unbonding = w.genesis.params.unbonding_epochs;
    while w.chain.next_context(0).epoch() < unbonding - 1 {
        w.block(&[]);
    }
    w.blocks(w.genesis.params.epoch_blocks - 1);
    assert!(w.chain.next_context(0).ends_epoch());
    w.ok("payer", equivocation("v2", 1));
    assert_eq!(refuse(&w, equivocation("v3", 1)), EvidenceFault::TooOld { oldest: 1, found: 0 });
}

/// Leaves an account without an atto.
fn empty(w: &mut World, who: &str) {
    let fee = w.genesis.params.min_tx_fee;
    let amount = w.balance(who).checked_sub(fee).unwrap();
    w.ok(who, Payload::Transfer { to: address("owner"), amount });
    assert!(w.balance(who).is_zero());
}

/// A validator has all that it owns in bond and stake: its report pays by what it earns. Everybody else pays before.
#[test]
fn a_validator_without_dn_reports_and_pays_from_the_reward() {
    let mut w = World::bare();
    w.ok("v3", Payload::Retire { role: Role::Validator });
    for who in ["v2", "v3", "stranger"] {
        empty(&mut w, who);
    }
    let (reporter, report) = (address("v2"), || equivocation("v1", 2));
    let fee = w.raw("v2", report()).fee;
    assert!(!fee.is_zero());
    // Who is in no role, or left it; a validator that does something else, or proves nothing.
    for who in ["stranger", "v3"] {
        let (account, available) = (address(who), Amount::ZERO);
        assert_eq!(w.reject(who, report()), Reject::Insufficient { account, available, needed: fee });
    }
    assert!(matches!(w.reject("v2", Payload::Withdraw {}), Reject::Insufficient { .. }));
    let same = vote(2, VoteKind::Prevote, None);
    assert_eq!(w.reject("v2", votes("v1", same, same)), Reject::Evidence(EvidenceFault::NoConflict {}));
    // More than the reward is not there afterwards either.
    let mut dear = w.raw("v2", report());
    dear.fee = dn(1_000_000);
    let Reject::Insufficient { account, available, needed } = w.reject_tx(&dear.sign(&key("v2"))) else {
        panic!("nobody pays a million")
    };
    assert_eq!((account, needed), (reporter, dn(1_000_000)));

    let (nonce, pool) = (w.nonce("v2"), POOLS.get_or_default(w.state(), &Pool::Validators));
    let events = w.ok("v2", report());
    let reward = events.iter().find_map(|e| match e {
        Event::Slashed { reporter: Some(who), reward, .. } if *who == reporter => Some(*reward),
        _ => None,
    });
    // What the dear one would have had to pay with.
    assert_eq!(reward, Some(available));
    assert_eq!(w.balance("v2").checked_add(fee).ok(), reward);
    assert_eq!(w.nonce("v2"), nonce + 1);
    assert!(events.contains(&Event::FeePaid { sender: reporter, amount: fee }));
    assert_eq!(POOLS.get_or_default(w.state(), &Pool::Validators), pool.checked_add(fee).unwrap());
    let status = IDENTITIES.get(w.state(), &(Role::Validator, address("v1"))).unwrap().status;
    assert!(matches!(status, IdentityStatus::Jailed { .. }), "{status:?}");
}

/// One whose bond is under the minimum is in the role still.
#[test]
fn a_suspended_validator_reports_too() {
    let mut w = World::bare();
    empty(&mut w, "v2");
    let (role, validator) = (Role::Validator, address("v2"));
    let mut state = w.state().clone();
    let record = IDENTITIES.get(&state, &(role, validator)).unwrap();
    let suspended = Identity { status: IdentityStatus::Suspended, ..record };
    IDENTITIES.put(&mut state, &(role, validator), &suspended);
    let ctx = w.chain.next_context(w.chain.tip().time_ms + 1_000);
    apply(&mut state, &w.tx("v2", equivocation("v1", 1)), &ctx).unwrap();
    assert!(!ACCOUNTS.get_or_default(&state, &validator).balance.is_zero());
}

/// What a fraction of everything that stands for a validator is, record by record.
fn fraction_of(w: &World, who: &str, bps: u128) -> Amount {
    let (state, validator, epoch) = (w.state(), address(who), w.chain.next_context(0).epoch());
    let up = |n: u128| (n * bps).div_ceil(10_000);
    let collateral = IDENTITIES.get(state, &(Role::Validator, validator)).unwrap().collateral;
    let mut all = up(collateral.atto()) + up(STAKE_POOLS.get(state, &validator).unwrap().tokens().atto());
    for ((_, release), pool) in UNBONDING_POOLS.iter_from(state, &validator) {
        all += if release > epoch { up(pool.tokens().atto()) } else { 0 };
    }
    for ((_, release, to), lots) in REDELEGATION_POOLS.iter_from(state, &validator) {
        let pool = STAKE_POOLS.get(state, &to).unwrap();
        all += if release > epoch { pool.value_of(up(lots.tokens().atto())).atto() } else { 0 };
    }
    atto(all)
}

#[test]
fn equivocation_costs_a_twentieth_of_everything_and_the_seat() {
    let mut w = World::bare();
    // Before the offence is known one delegator runs, one moves, one stays.
    for who in ["payer", "stranger", "owner"] {
        w.ok(who, stake("v1", 1_000));
    }
    let validator = address("v1");
    w.ok("payer", Payload::Unbond { validator, shares: held(&w, "payer", "v1") });
    w.ok("stranger", redelegate("v1", "v2", held(&w, "stranger", "v1")));
    w.ok("v1", Payload::Unbond { validator, shares: Shares(held(&w, "v1", "v1").0 / 2) });
    let value = |w: &World, who: &str| {
        let view = query::account(w.state(), address(who));
        let parts = [
            view.stakes.iter().map(|s| s.value.atto()).sum::<u128>(),
            view.unbonding.iter().map(|s| s.value.atto()).sum(),
            view.redelegating.iter().map(|s| s.value.atto()).sum(),
        ];
        parts.iter().sum::<u128>()
    };
    // The next block ends no epoch: what changes is the slash alone.
    to_epoch(&mut w);
    let before = ["payer", "stranger", "owner"].map(|who| value(&w, who));
    let expected = fraction_of(&w, "v1", 500);
    let burned_before = POOLS.get_or_default(w.state(), &Pool::Burned);
    let seats = w.chain.validators();
    assert!(seats.power(validator) > 0);
    let events = w.ok("worker", equivocation("v1", 2));
    let slashed = events.iter().find_map(|e| match e {
        Event::Slashed {
            address, cause: SlashCause::Equivocation, amount, reporter, reward, burned, ..
        } => Some((*address, *amount, *reporter, *reward, *burned)),
        _ => None,
    });
    let reward = atto(expected.atto() / 4);
    let burned = expected.checked_sub(reward).unwrap();
    assert_eq!(slashed, Some((validator, expected, Some(address("worker")), reward, burned)));
    assert_eq!(POOLS.get_or_default(w.state(), &Pool::Burned), burned_before.checked_add(burned).unwrap());
    for (who, before) in ["payer", "stranger", "owner"].into_iter().zip(before) {
        let after = value(&w, who);
        assert!(after.abs_diff(before * 95 / 100) < 10, "{who}: {before} to {after}");
    }
    // The seat is gone with the next block, and nobody gives it back.
    assert_eq!(w.chain.validators().power(validator), 0);
    assert_eq!(w.chain.tip_validators(), seats);
    let status = IDENTITIES.get(w.state(), &(Role::Validator, validator)).unwrap().status;
    let IdentityStatus::Jailed { release_epoch } = status else { panic!("{status:?}") };
    // It is in no role any more, and still the epoch's end has it in its books.
    let trust =
        |w: &World| VALIDATOR_TRUST.get(w.state(), &validator).unwrap().weight(&w.genesis.params.trust);
    let trusted = trust(&w);
    let mut later = World { chain: w.chain.clone(), genesis: w.genesis.clone(), log: Vec::new(), ..w };
    to_epoch(&mut later);
    assert!(trust(&later) < trusted, "{trusted:?}");
    assert_eq!(VALIDATOR_EPOCHS.get(later.state(), &validator), None);
    // Nobody is cut again for what else the validator signed.
    let (tokens, held_before) =
        (STAKE_POOLS.get(w.state(), &validator).unwrap().tokens(), value(&w, "owner"));
    for height in [1, 2, 3] {
        assert_eq!(
            w.reject("worker", equivocation("v1", height)),
            Reject::Evidence(EvidenceFault::Known { validator, height })
        );
    }
    assert_eq!(STAKE_POOLS.get(w.state(), &validator).unwrap().tokens(), tokens);
    assert_eq!(value(&w, "owner"), held_before);
    let role = Role::Validator;
    let out = Reject::NotActive { address: validator, role, status };
    let again = |w: &World| {
        w.reject(
            "v1",
            Payload::Register { role, collateral: dn(1_000), name: "v".into(), endpoint: "e".into() },
        )
    };
    assert_eq!(again(&w), out);
    assert_eq!(w.reject("v1", Payload::Retire { role }), out);
    assert_eq!(w.reject("payer", stake("v1", 5)), out);
    assert_eq!(w.reject("v1", Payload::SetCommission { rate: 1 }), out);
    assert_eq!(w.reject("v1", update(role, Some("x"), None, Amount::ZERO)), out);
    while w.chain.next_context(0).epoch() < release_epoch {
        w.block(&[]);
    }
    let left = IDENTITIES.get(w.state(), &(role, validator)).unwrap().collateral;
    let events = w.ok("v1", Payload::Withdraw {});
    assert!(events.iter().any(|e| matches!(e, Event::Withdrawn { amount, .. } if *amount > left)));
    assert_eq!(again(&w), out);
    assert_eq!(left, IDENTITIES.get(w.state(), &(role, validator)).map(|_| left).unwrap());
}

/// Who unbonds an atto before it is slashed leaves a pool whose every share rounding would take: others must still get out through it.
#[test]
fn an_atto_does_not_bar_the_exit() {
    let mut w = World::bare();
    let validator = address("v1");
    w.ok("payer", stake("v1", 1_000));
    to_epoch(&mut w);
    w.ok("v1", Payload::Unbond { validator, shares: Shares(1) });
    w.ok("worker", equivocation("v1", 1));
    let before = w.balance("payer");
    let shares = held(&w, "payer", "v1");
    let worth = STAKE_POOLS.get(w.state(), &validator).unwrap().value_of(shares.0);
    w.ok("payer", Payload::Unbond { validator, shares });
    let epochs = w.genesis.params.unbonding_epochs;
    w.blocks(epochs * w.genesis.params.epoch_blocks);
    w.ok("payer", Payload::Withdraw {});
    let fees = w.genesis.params.min_tx_fee.checked_mul(2).unwrap();
    assert_eq!(w.balance("payer").checked_add(fees), before.checked_add(worth));
    // The other's atto is its own, and nothing stays behind.
    w.ok("v1", Payload::Withdraw {});
    assert_eq!(UNBONDING_POOLS.iter(w.state()).count(), 0);
}

#[test]
fn who_has_left_still_answers() {
    let mut w = World::bare();
    let (role, validator) = (Role::Validator, address("v1"));
    w.ok("v1", Payload::Retire { role });
    let IdentityStatus::Retired { release_epoch } =
        IDENTITIES.get(w.state(), &(role, validator)).unwrap().status
    else {
        panic!("retired")
    };
    to_epoch(&mut w);
    let expected = fraction_of(&w, "v1", 500);
    let events = w.ok("payer", equivocation("v1", 1));
    assert!(events.iter().any(|e| matches!(e, Event::Slashed { amount, .. } if *amount == expected)));
    assert_eq!(
        IDENTITIES.get(w.state(), &(role, validator)).unwrap().status,
        IdentityStatus::Jailed { release_epoch }
    );
    let _: Address = validator;
}

#[test]
fn the_last_seats_stay() {
    let mut w = World::bare();
    w.ok("payer", equivocation("v1", 1));
    w.ok("payer", equivocation("v2", 1));
    assert_eq!(w.chain.validators().members.len(), 1);
    // A chain that nobody may go on with could never have other validators.
    w.ok("payer", equivocation("v3", 1));
    assert_eq!(w.chain.validators().members.len(), 1);
    w.blocks(2 * w.genesis.params.epoch_blocks);
    assert_eq!(w.chain.validators().members.len(), 1);
}
