//! Governance: proposals, deposits, votes and what becomes of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{World, address, dn, params};
use dn_core::{Amount, Hash32};
use dn_ledger::events::Event;
use dn_ledger::params::MAX_TX_FEE;
use dn_ledger::reject::{Field, GovernanceFault};
use dn_ledger::state::{
    DEPOSITS, ENDED_PROPOSALS, ExecutionFault, IDENTITIES, OPEN_PROPOSALS, OVERRIDES, PARAMS, POOL_VOTES,
    POOLS, PROPOSALS, Pool, ProposalStatus, STAKE_SHARES,
};
use dn_ledger::tx::{Choice, DomainTerms, ParamChange, ProposalKind, Shares};
use dn_ledger::views::PageRequest;
use dn_ledger::{BlockError, Params, Payload, Reject, Role, query, tally};

/// Windows of a few blocks; a deposit of 100 DN, 25 of them at once.
fn short() -> Params {
    let mut params = params();
    params.min_unbonding_epochs = 2;
    params.governance.deposit_blocks = 5;
    params.governance.voting_blocks = 6;
    params.governance.execution_delay_blocks = 3;
    params
}

fn world() -> World {
    World::with(short())
}

fn propose(kind: ProposalKind, deposit: u64) -> Payload {
    Payload::Propose { title: "a title".into(), text: "why".into(), kind, deposit: dn(deposit) }
}

fn changes(changes: Vec<ParamChange>) -> ProposalKind {
    ProposalKind::Params { changes }
}

fn vote(proposal: u64, pool: &str, choice: Choice) -> Payload {
    Payload::Vote { proposal, pool: address(pool), choice }
}

fn status(w: &World, id: u64) -> ProposalStatus {
    PROPOSALS.get(w.state(), &id).unwrap().status
}

fn fault(reject: Reject) -> GovernanceFault {
    match reject {
        Reject::Governance(fault) => fault,
        other => panic!("{other}"),
    }
}

/// Everybody votes the same, and time passes until the proposal has ended.
fn decide(w: &mut World, id: u64, choice: Choice) -> Vec<Event> {
    for who in ["v1", "v2", "v3"] {
        w.ok(who, vote(id, who, choice));
    }
    let mut events = Vec::new();
    while status(w, id).is_open() {
        events.extend(w.blocks(1));
    }
    events
}

#[test]
fn proposals_are_checked() {
    let w = world();
    let text = ProposalKind::Text {};
    let titled = |title: &str, text_bytes: usize| Payload::Propose {
        title: title.into(),
        text: "x".repeat(text_bytes),
        kind: ProposalKind::Text {},
        deposit: dn(100),
    };
    let size = |field, min, max, found| Reject::Size { field, min, max, found };
    assert_eq!(w.reject("payer", titled("", 1)), size(Field::Title, 1, 128, 0));
    assert_eq!(w.reject("payer", titled(&"x".repeat(129), 1)), size(Field::Title, 1, 128, 129));
    assert!(matches!(w.reject("payer", titled("a\nb", 1)), Reject::ControlCharacter { .. }));
    assert_eq!(w.reject("payer", titled("a", 4_097)), size(Field::Text, 0, 4_096, 4_097));
    let (minimum, needed, found) = (dn(25), dn(100), dn(24));
    assert_eq!(
        fault(w.reject("payer", propose(text.clone(), 24))),
        GovernanceFault::DepositTooLow { minimum, needed, found }
    );
    assert!(matches!(w.reject("payer", propose(text, 6_000)), Reject::Insufficient { .. }));

    let refuse = |kind| w.reject("payer", propose(kind, 100));
    assert_eq!(refuse(changes(vec![])), size(Field::Changes, 1, 16, 0));
    let many = vec![ParamChange::MaxLanes { value: 7 }; 17];
    assert_eq!(refuse(changes(many)), size(Field::Changes, 1, 16, 17));
    let same = ParamChange::MaxLanes { value: short().max_lanes };
    assert_eq!(refuse(changes(vec![same])), Reject::NothingToChange {});
    for out in [
        ParamChange::MaxLanes { value: 0 },
        ParamChange::GovernanceQuorum { value: 1_999 },
        ParamChange::GovernanceMaxOpen { value: 17 },
        ParamChange::SlashReporter { value: 5_001 },
        ParamChange::HalfLife { value: 0 },
        ParamChange::CommissionDelay { value: 0 },
        // An epoch has eight blocks, and light clients count on a bond of so many epochs.
        ParamChange::BeaconDelay { value: short().epoch_blocks },
        ParamChange::UnbondingEpochs { value: short().min_unbonding_epochs - 1 },
        ParamChange::Trust { value: dn_trust::Params { version: 9, ..dn_trust::Params::default() } },
        ParamChange::Fees { value: dn_powr::FeeSplit { worker: 9_999, ..dn_powr::FeeSplit::default() } },
    ] {
        assert!(matches!(fault(refuse(changes(vec![out]))), GovernanceFault::InvalidParams { .. }));
    }

    let spend = |pool, amount| ProposalKind::Spend { pool, to: address("owner"), amount };
    assert!(matches!(refuse(spend(Pool::Reserve, Amount::ZERO)), Reject::AmountTooSmall { .. }));
    assert_eq!(
        refuse(spend(Pool::Domain { domain: 1 }, dn(1))),
        Reject::UnknownDomain { domains: 1, found: 1 }
    );
    // What somebody owns is not governance's to give.
    let mut owned = world();
    owned.ok("stranger", Payload::CreateDomain { name: "own".into(), terms: DomainTerms::default() });
    let pool = Pool::Domain { domain: 1 };
    assert_eq!(
        fault(owned.reject("payer", propose(spend(pool, dn(1)), 100))),
        GovernanceFault::PoolNotSpendable { pool }
    );
    for pool in [Pool::Community, Pool::Validators, Pool::Burned, Pool::Deposits] {
        assert_eq!(fault(refuse(spend(pool, dn(1)))), GovernanceFault::PoolNotSpendable { pool });
    }
    let (pool, available, needed) = (Pool::Foundation, Amount::ZERO, dn(1));
    assert_eq!(
        fault(refuse(spend(pool, dn(1)))),
        GovernanceFault::PoolInsufficient { pool, available, needed }
    );

    let upgrade =
        |name: &str, height| ProposalKind::Upgrade { name: name.into(), version: Hash32([1; 32]), height };
    assert_eq!(refuse(upgrade("", 900)), size(Field::Name, 1, 64, 0));
    // Height 1 + 5 for deposits + 6 for votes + 3 of delay + an epoch of 8 + 1.
    assert_eq!(fault(refuse(upgrade("v2", 23))), GovernanceFault::UpgradeTooSoon { earliest: 24, found: 23 });
}

#[test]
fn deposits_come_together_or_burn() {
    let mut w = world();
    let deposit = |proposal, amount| Payload::Deposit { proposal, amount };
    let unknown = GovernanceFault::UnknownProposal { proposal: 0 };
    assert_eq!(fault(w.reject("owner", deposit(0, dn(1)))), unknown);
    w.ok("payer", propose(ProposalKind::Text {}, 25));
    let minimum = Amount::from_atto(dn(100).atto().div_ceil(64));
    let found = Amount::from_atto(minimum.atto() - 1);
    assert_eq!(w.reject("owner", deposit(0, found)), Reject::AmountTooSmall { minimum, found });
    assert!(matches!(w.reject("owner", deposit(0, dn(6_000))), Reject::Insufficient { .. }));
    w.ok("owner", deposit(0, minimum));
    w.ok("owner", deposit(0, dn(10)));
    let status_then = status(&w, 0);
    assert_eq!(status_then, ProposalStatus::Deposit { until_height: 6 });
    assert_eq!(
        fault(w.reject("v1", vote(0, "v1", Choice::Yes))),
        GovernanceFault::NotInVoting { proposal: 0, status: status_then }
    );
    // The last height for it, then one too late.
    w.blocks(2);
    w.ok("owner", deposit(0, dn(2)));
    assert_eq!(w.height(), 6);
    let held = POOLS.get_or_default(w.state(), &Pool::Deposits);
    let events = w.blocks(1);
    assert!(events.contains(&Event::ProposalExpired { proposal: 0, burned: held }));
    assert_eq!(POOLS.get_or_default(w.state(), &Pool::Deposits), Amount::ZERO);
    assert_eq!(DEPOSITS.iter(w.state()).count() + OPEN_PROPOSALS.iter(w.state()).count(), 0);
    assert_eq!(
        fault(w.reject("owner", deposit(0, dn(1)))),
        GovernanceFault::NotInDeposit { proposal: 0, status: ProposalStatus::Expired }
    );

    // Together in time: it is voted on, and takes no more.
    w.ok("payer", propose(ProposalKind::Text {}, 25));
    w.ok("owner", deposit(1, dn(75)));
    let status = status(&w, 1);
    assert_eq!(status, ProposalStatus::Voting { until_height: w.height() + 6 });
    assert_eq!(
        fault(w.reject("owner", deposit(1, dn(75)))),
        GovernanceFault::NotInDeposit { proposal: 1, status }
    );
    let before = (w.balance("payer"), w.balance("owner"));
    w.blocks(7);
    // Nobody voted: it failed, and everybody has its own back.
    assert_eq!(PROPOSALS.get(w.state(), &1).unwrap().status, ProposalStatus::NoQuorum);
    assert_eq!(w.balance("payer"), before.0.checked_add(dn(25)).unwrap());
    assert_eq!(w.balance("owner"), before.1.checked_add(dn(75)).unwrap());
}

#[test]
fn votes_are_checked_and_can_be_changed() {
    let mut w = world();
    w.ok("payer", propose(ProposalKind::Text {}, 100));
    let (voter, pool) = (address("owner"), address("v1"));
    assert_eq!(
        fault(w.reject("owner", vote(9, "v1", Choice::Yes))),
        GovernanceFault::UnknownProposal { proposal: 9 }
    );
    assert_eq!(
        fault(w.reject("owner", vote(0, "v1", Choice::Yes))),
        GovernanceFault::NoShares { voter, pool }
    );
    let role = Role::Validator;
    assert_eq!(
        w.reject("owner", vote(0, "owner", Choice::Yes)),
        Reject::UnknownIdentity { address: voter, role }
    );
    w.ok("v1", vote(0, "v1", Choice::Yes));
    assert_eq!(w.reject("v1", vote(0, "v1", Choice::Yes)), Reject::NothingToChange {});
    w.ok("owner", Payload::Stake { validator: pool, amount: dn(500) });
    let now = |w: &World| {
        let t = query::proposal(w.state(), 0).unwrap().tally.unwrap();
        [t.yes, t.no, t.abstain, t.no_with_veto].map(|a| a.atto() / dn(1).atto())
    };
    assert_eq!(now(&w), [10_500, 0, 0, 0]);
    w.ok("owner", vote(0, "v1", Choice::No));
    assert_eq!(now(&w), [10_000, 500, 0, 0]);
    w.ok("owner", vote(0, "v1", Choice::NoWithVeto));
    w.ok("v1", vote(0, "v1", Choice::Abstain));
    assert_eq!(now(&w), [0, 0, 10_000, 500]);
    assert_eq!(w.reject("owner", vote(0, "v1", Choice::NoWithVeto)), Reject::NothingToChange {});
    // The last height, then one too late.
    let ProposalStatus::Voting { until_height } = status(&w, 0) else { panic!("voting") };
    w.blocks(until_height - w.height() - 1);
    w.ok("v2", vote(0, "v2", Choice::Yes));
    let late = w.reject("v3", vote(0, "v3", Choice::Yes));
    let status_then = ProposalStatus::Voting { until_height };
    assert_eq!(fault(late), GovernanceFault::NotInVoting { proposal: 0, status: status_then });
    w.blocks(1);
    assert!(matches!(status(&w, 0), ProposalStatus::Passed { .. }));
    w.blocks(1);
    assert_eq!(OVERRIDES.iter(w.state()).count() + POOL_VOTES.iter(w.state()).count(), 0);
}

#[test]
fn a_change_takes_effect_after_its_delay() {
    let mut w = world();
    let fee = w.genesis.params.min_tx_fee.mul_div(10, 1).unwrap();
    let lanes = w.genesis.params.max_lanes / 2;
    let before = w.balance("payer");
    let change = vec![ParamChange::MinTxFee { value: fee }, ParamChange::MaxLanes { value: lanes }];
    w.ok("payer", propose(changes(change), 100));
    for who in ["v1", "v2"] {
        w.ok(who, vote(0, who, Choice::Yes));
    }
    let old = PARAMS.get(w.state(), &0).unwrap();
    let mut events = Vec::new();
    while status(&w, 0).is_open() {
        assert_eq!(PARAMS.get(w.state(), &0).unwrap(), old);
        events.extend(w.blocks(1));
    }
    // Decided at 8, three blocks of delay, the epoch's end after that.
    assert_eq!(status(&w, 0), ProposalStatus::Executed { height: 15 });
    assert!(events.contains(&Event::ProposalExecuted { proposal: 0 }));
    let new = PARAMS.get(w.state(), &0).unwrap();
    assert_eq!(new, Params { min_tx_fee: fee, max_lanes: lanes, ..old });
    // Back to the proposer but for the fee; the new fee is needed from the next block on.
    let spent = before.checked_sub(w.balance("payer")).unwrap();
    assert_eq!(spent, w.genesis.params.min_tx_fee);
    let found = w.genesis.params.min_tx_fee;
    let transfer = Payload::Transfer { to: address("owner"), amount: dn(1) };
    assert_eq!(w.reject("payer", transfer), Reject::FeeTooLow { minimum: fee, found });
    let tally = PROPOSALS.get(w.state(), &0).unwrap().tally.unwrap();
    assert_eq!((tally.no, tally.abstain), (Amount::ZERO, Amount::ZERO));
    assert!(tally.yes >= dn(20_000) && tally.total >= dn(30_000));
}

#[test]
fn refusals_return_the_deposit_and_vetoes_burn_it() {
    let mut w = world();
    let deposits = |w: &World| POOLS.get_or_default(w.state(), &Pool::Deposits);
    w.ok("payer", propose(ProposalKind::Text {}, 100));
    let before = w.balance("payer");
    decide(&mut w, 0, Choice::No);
    assert_eq!(status(&w, 0), ProposalStatus::Rejected);
    assert_eq!((w.balance("payer"), deposits(&w)), (before.checked_add(dn(100)).unwrap(), Amount::ZERO));
    w.ok("payer", propose(ProposalKind::Text {}, 100));
    let (before, burned) = (w.balance("payer"), POOLS.get_or_default(w.state(), &Pool::Burned));
    let events = decide(&mut w, 1, Choice::NoWithVeto);
    assert_eq!(status(&w, 1), ProposalStatus::Vetoed);
    assert!(events.iter().any(|e| matches!(e, Event::ProposalDecided { burned, .. } if *burned == dn(100))));
    assert_eq!((w.balance("payer"), deposits(&w)), (before, Amount::ZERO));
    assert_eq!(POOLS.get_or_default(w.state(), &Pool::Burned), burned.checked_add(dn(100)).unwrap());
    // One of three is a quorum of a third.
    w.ok("payer", propose(ProposalKind::Text {}, 100));
    w.ok("v1", vote(2, "v1", Choice::Yes));
    w.blocks(8);
    assert_eq!(status(&w, 2), ProposalStatus::NoQuorum);
}

/// Each change is within its bounds when it is proposed; after the first the second is not.
#[test]
fn a_change_that_another_made_impossible_does_nothing() {
    let mut params = short();
    params.audit_rate = dn_trust::AuditParams { ceiling: 6_000, floor: 2_000 };
    let mut w = World::with(params);
    w.ok("payer", propose(changes(vec![ParamChange::AuditCeiling { value: 3_000 }]), 100));
    w.ok("payer", propose(changes(vec![ParamChange::AuditFloor { value: 4_000 }]), 100));
    for id in 0..2 {
        w.ok("v1", vote(id, "v1", Choice::Yes));
        w.ok("v2", vote(id, "v2", Choice::Yes));
    }
    w.blocks(24);
    assert!(matches!(status(&w, 0), ProposalStatus::Executed { .. }));
    assert_eq!(status(&w, 1), ProposalStatus::Failed { fault: ExecutionFault::Params });
    let now = PARAMS.get(w.state(), &0).unwrap();
    assert_eq!((now.audit_rate.ceiling, now.audit_rate.floor, now.validate()), (3_000, 2_000, Ok(())));
    assert!(w.all_events().contains(&Event::ProposalFailed { proposal: 1, fault: ExecutionFault::Params }));
}

#[test]
fn a_pool_is_spent_in_parts() {
    // Long enough for all to be due at one epoch's end.
    let params = Params { epoch_blocks: 40, ..short() };
    let mut w = World::with(params.clone());
    let share = params.governance.spend_bps.into();
    let limit = |held: Amount| held.mul_div(share, 10_000).unwrap();
    let reserve = POOLS.get_or_default(w.state(), &Pool::Reserve);
    let (to, most) = (address("owner"), limit(reserve));
    let spend = |amount| propose(ProposalKind::Spend { pool: Pool::Reserve, to, amount }, 100);
    let more = most.checked_add(Amount::from_atto(1)).unwrap();
    assert_eq!(
        fault(w.reject("payer", spend(more))),
        GovernanceFault::SpendTooLarge { pool: Pool::Reserve, limit: most, found: more }
    );
    let before = w.balance("owner");
    let half = most.mul_div(1, 2).unwrap();
    // Half of what may be spent, more than what may be spent after it, and the other half, which does not overtake.
    for (id, amount) in [half, most, half].into_iter().enumerate() {
        w.ok("payer", spend(amount));
        w.ok("v1", vote(id as u64, "v1", Choice::Yes));
        w.ok("v3", vote(id as u64, "v3", Choice::Yes));
    }
    while !matches!(status(&w, 0), ProposalStatus::Executed { .. }) {
        w.blocks(1);
    }
    for waits in [1, 2] {
        assert!(matches!(status(&w, waits), ProposalStatus::Passed { .. }), "it waits for the next epoch");
    }
    assert_eq!(w.balance("owner"), before.checked_add(half).unwrap());
    w.blocks(params.epoch_blocks);
    // What is more than the part of what is left by then fails, and does not hold up the next.
    assert_eq!(status(&w, 1), ProposalStatus::Failed { fault: ExecutionFault::Pool });
    assert!(matches!(status(&w, 2), ProposalStatus::Executed { .. }));
    let spent = half.checked_add(half).unwrap();
    assert_eq!(w.balance("owner"), before.checked_add(spent).unwrap());
    assert_eq!(POOLS.get_or_default(w.state(), &Pool::Reserve), reserve.saturating_sub(spent));
    assert!(w.all_events().contains(&Event::ProposalSpent { proposal: 0, to, amount: half }));
}

const SUPPORTED: &[(&str, Hash32)] = &[("v2", Hash32([2; 32]))];

#[test]
fn an_upgrade_stops_software_that_does_not_have_it() {
    let mut w = world();
    let upgrade = |version| ProposalKind::Upgrade { name: "v2".into(), version, height: 40 };
    for id in 0..2u8 {
        w.ok("payer", propose(upgrade(Hash32([2 + id; 32])), 100));
        w.ok("v1", vote(id.into(), "v1", Choice::Yes));
        w.ok("v2", vote(id.into(), "v2", Choice::Yes));
    }
    w.blocks(39 - w.height());
    assert!(matches!(status(&w, 0), ProposalStatus::Executed { .. }));
    assert_eq!(status(&w, 1), ProposalStatus::Failed { fault: ExecutionFault::HeightTaken });
    let (height, since, name, version) = (40, 40, "v2".to_owned(), Hash32([2; 32]));
    let expected = BlockError::UnknownUpgrade { height, since, name, version };
    let proposer = w.chain.proposer(0);
    let time_ms = w.chain.tip().time_ms + 1_000;
    assert_eq!(w.chain.propose(proposer, time_ms, &[]).unwrap_err(), expected);
    let mut newer = w.chain.clone().supporting(SUPPORTED);
    let block = newer.propose(proposer, time_ms, &[]).unwrap().block;
    assert_eq!(w.chain.validate(&block).unwrap_err(), expected);
    assert!(newer.validate(&block).is_ok());
    // The same name with another version is another software.
    let wrong: &'static [(&str, Hash32)] = &[("v2", Hash32([3; 32]))];
    assert!(w.chain.clone().supporting(wrong).validate(&block).is_err());
    assert_eq!(query::upgrades(w.state(), &PageRequest::default()).unwrap().items.len(), 1);
    w.chain = newer;
    w.blocks(3);
}

#[test]
fn a_height_has_one_upgrade() {
    let mut w = world();
    let upgrade = |name: &str| {
        let version = Hash32([2; 32]);
        propose(ProposalKind::Upgrade { name: name.into(), version, height: 200 }, 100)
    };
    w.ok("payer", upgrade("v2"));
    decide(&mut w, 0, Choice::Yes);
    assert!(matches!(status(&w, 0), ProposalStatus::Executed { .. }));
    assert_eq!(fault(w.reject("payer", upgrade("v3"))), GovernanceFault::UpgradeTaken { height: 200 });
}

/// Stake votes where it is when voting ends, however often its holder moved it and voted with it.
#[test]
fn stake_that_moves_votes_once() {
    let mut w = world();
    let stake = |pool: &str, amount| Payload::Stake { validator: address(pool), amount: dn(amount) };
    for pool in ["v1", "v2", "v3"] {
        w.ok("owner", stake(pool, 10));
    }
    w.ok("owner", stake("v1", 990));
    w.ok("payer", propose(ProposalKind::Text {}, 100));
    for pool in ["v1", "v2", "v3"] {
        w.ok("owner", vote(0, pool, Choice::Yes));
    }
    // In whole DN: transaction fees raise the price of shares a little.
    let yes = |w: &World| (tally(w.state(), 0).yes.atto() + dn(1).atto() / 2) / dn(1).atto();
    assert_eq!(yes(&w), 1_020);
    let shares = STAKE_SHARES.get(w.state(), &(address("owner"), address("v1"))).unwrap();
    let all = Payload::Redelegate { from: address("v1"), to: address("v2"), shares };
    w.ok("owner", all);
    // In v2 it follows v2, which has not voted; nothing of it is left in v1.
    assert_eq!(yes(&w), 20);
    // It comes back, and counts again; half of it leaves, and counts no longer.
    w.ok("owner", stake("v1", 500));
    assert_eq!(yes(&w), 520);
    let shares = STAKE_SHARES.get(w.state(), &(address("owner"), address("v1"))).unwrap();
    w.ok("owner", Payload::Unbond { validator: address("v1"), shares: Shares(shares.0 / 2) });
    assert_eq!(yes(&w), 270);
    let t = tally(w.state(), 0);
    assert!(t.yes.checked_add(t.no).unwrap() <= t.total);
}

/// A proposal that lowers what a vote must reach does so for votes that begin later.
#[test]
fn a_running_vote_keeps_its_rules() {
    let mut params = short();
    params.governance.voting_blocks = 20;
    (params.governance.quorum, params.governance.pass, params.governance.veto) = (6_000, 7_000, 3_500);
    let mut w = World::with(params);
    let lower = changes(vec![
        ParamChange::GovernanceQuorum { value: 3_000 },
        ParamChange::GovernancePass { value: 6_000 },
        ParamChange::GovernanceVeto { value: 3_000 },
    ]);
    w.ok("payer", propose(lower, 100));
    for who in ["v1", "v2", "v3"] {
        w.ok(who, vote(0, who, Choice::Yes));
    }
    w.blocks(12);
    // A deposit that is not whole begins no vote.
    w.ok("owner", propose(ProposalKind::Text {}, 100));
    w.ok("stranger", propose(ProposalKind::Text {}, 25));
    w.ok("v1", vote(1, "v1", Choice::Yes));
    // Two thirds for it, and against the rest once a refusal, once a veto: both are enough for the new rules only.
    w.ok("owner", propose(ProposalKind::Text {}, 100));
    w.ok("owner", propose(ProposalKind::Text {}, 200));
    for (id, last) in [(3, Choice::No), (4, Choice::NoWithVeto)] {
        for (who, choice) in [("v1", Choice::Yes), ("v2", Choice::Yes), ("v3", last)] {
            w.ok(who, vote(id, who, choice));
        }
    }
    let rules =
        |w: &World, id| query::proposal(w.state(), id).unwrap().rules.map(|r| (r.quorum, r.pass, r.veto));
    assert_eq!((rules(&w, 1), rules(&w, 2)), (Some((6_000, 7_000, 3_500)), None));
    while status(&w, 0).is_open() {
        w.block(&[]);
    }
    assert!(matches!(status(&w, 0), ProposalStatus::Executed { .. }));
    let changed = w.chain.next_context(0).params.governance;
    assert_eq!((changed.quorum, changed.pass, changed.veto), (3_000, 6_000, 3_000));
    assert!(matches!(status(&w, 1), ProposalStatus::Voting { .. }));
    assert_eq!(rules(&w, 1), Some((6_000, 7_000, 3_500)));
    while status(&w, 4).is_open() {
        w.block(&[]);
    }
    // A third of all stake voted: enough for the new quorum, too little for its own.
    assert_eq!(status(&w, 1), ProposalStatus::NoQuorum);
    assert_eq!([status(&w, 3), status(&w, 4)], [ProposalStatus::Rejected; 2]);
    w.ok("owner", propose(ProposalKind::Text {}, 100));
    assert_eq!(rules(&w, 5), Some((3_000, 6_000, 3_000)));
}

/// Who was a validator once is not looked at, so that a block's work is bounded by who is one and by who voted.
#[test]
fn a_count_does_not_go_through_the_retired() {
    let mut w = world();
    w.ok(
        "stranger",
        Payload::Register {
            role: Role::Validator,
            collateral: dn(1_000),
            name: "n".into(),
            endpoint: String::new(),
        },
    );
    w.ok("stranger", Payload::Stake { validator: address("stranger"), amount: dn(1_000) });
    w.ok("payer", propose(ProposalKind::Text {}, 100));
    w.ok("v1", vote(0, "v1", Choice::Yes));
    let before = tally(w.state(), 0);
    w.ok("stranger", Payload::Retire { role: Role::Validator });
    let count = tally(w.state(), 0);
    assert!(before.total.checked_sub(count.total).unwrap() >= dn(1_000) && before.yes <= count.yes);
    // A record that nobody can read: whoever looks at it panics.
    let mut state = w.state().clone();
    state.put(IDENTITIES.key(&(Role::Validator, address("stranger"))), vec![255]);
    assert_eq!(tally(&state, 0), count);
}

/// Filling every place costs far more than as many deposits.
#[test]
fn flooding_is_dear() {
    let mut params = short();
    params.governance.deposit_blocks = 200;
    let mut w = World::with(params);
    let initial = |n: u64| 25 << (n / 4);
    for n in 0..16u64 {
        let (minimum, needed) = (dn(initial(n)), dn(4 * initial(n)));
        let found = dn(initial(n) - 1);
        assert_eq!(
            fault(w.reject("payer", propose(ProposalKind::Text {}, initial(n) - 1))),
            GovernanceFault::DepositTooLow { minimum, needed, found }
        );
        w.ok("payer", propose(ProposalKind::Text {}, initial(n)));
    }
    let full = GovernanceFault::TooManyOpen { limit: 16 };
    assert_eq!(fault(w.reject("payer", propose(ProposalKind::Text {}, 5))), full);
    assert_eq!(POOLS.get_or_default(w.state(), &Pool::Deposits), dn(25 * 4 * 15));
}

/// Nearly all DN there is at stake in one pool.
#[test]
fn the_whole_supply_votes() {
    let mut w = world();
    let all = w.balance("faucet").checked_sub(dn(500)).unwrap();
    w.ok("faucet", Payload::Stake { validator: address("v1"), amount: all });
    w.ok("faucet", propose(ProposalKind::Text {}, 100));
    w.ok("faucet", vote(0, "v1", Choice::Yes));
    w.ok("v1", vote(0, "v1", Choice::NoWithVeto));
    let shares = STAKE_SHARES.get(w.state(), &(address("faucet"), address("v1"))).unwrap();
    let half = Shares(shares.0 / 2);
    w.ok("faucet", Payload::Redelegate { from: address("v1"), to: address("v2"), shares: half });
    w.blocks(8);
    assert!(matches!(status(&w, 0), ProposalStatus::Passed { .. } | ProposalStatus::NoQuorum));
    let tally = PROPOSALS.get(w.state(), &0).unwrap().tally.unwrap();
    assert!(tally.total > dn(30_000_000) && tally.yes >= dn(10_000_000), "{tally:?}");
}

#[test]
fn changes_have_their_names_in_json() {
    let change = ParamChange::SlashEquivocation { value: 700 };
    let json = serde_json::to_string(&change).unwrap();
    assert_eq!(json, r#"{"parameter":"slash.equivocation","value":700}"#);
    assert_eq!(serde_json::from_str::<ParamChange>(&json).unwrap(), change);
    assert_eq!(change.path(), "slash.equivocation");
    let fee: ParamChange = serde_json::from_str(r#"{"parameter":"min_tx_fee","value":"5"}"#).unwrap();
    assert_eq!(fee, ParamChange::MinTxFee { value: Amount::from_atto(5) });
    for unknown in
        [r#"{"parameter":"epoch_blocks","value":5}"#, r#"{"parameter":"max_lanes","value":5,"more":1}"#]
    {
        assert!(serde_json::from_str::<ParamChange>(unknown).is_err(), "{unknown}");
    }
    // Every change sets the parameter of its name, and no other.
    let mut params = short();
    change.apply(&mut params);
    assert_eq!(params.slash.equivocation, 700);
    params.slash.equivocation = short().slash.equivocation;
    assert_eq!(params, short());
}

/// An amount that everybody pays or locks moves at most tenfold at once, and never beyond its bound.
#[test]
fn amounts_move_in_steps() {
    // Far from its bound, so that the step decides.
    let cheap = || {
        let mut params = short();
        params.min_tx_fee = MAX_TX_FEE.mul_div(1, 1_000).unwrap();
        World::with(params)
    };
    let w = cheap();
    let fee = w.genesis.params.min_tx_fee;
    let of = |value: Amount| ParamChange::MinTxFee { value };
    let times = |amount: Amount, n: u128, of: u128| amount.mul_div(n, of).unwrap();
    cheap().ok("payer", propose(changes(vec![of(times(fee, 10, 1))]), 100));
    cheap().ok("payer", propose(changes(vec![of(times(fee, 1, 10))]), 100));
    for found in [times(fee, 11, 1), times(fee, 1, 11), Amount::ZERO, MAX_TX_FEE] {
        let (least, most) = (times(fee, 1, 10), times(fee, 10, 1));
        let parameter = "min_tx_fee".to_owned();
        assert_eq!(
            fault(w.reject("payer", propose(changes(vec![of(found)]), 100))),
            GovernanceFault::StepTooLarge { parameter, current: fee, least, most, found }
        );
    }
    // Not by many steps in one proposal, either.
    let twice = vec![of(times(fee, 10, 1)), of(times(fee, 100, 1))];
    let refused = fault(w.reject("payer", propose(changes(twice), 100)));
    assert!(matches!(refused, GovernanceFault::StepTooLarge { .. }), "{refused}");
    // The bound holds however near it is.
    let mut rich = short();
    rich.min_tx_fee = MAX_TX_FEE;
    let w = World::with(rich);
    let refused = fault(w.reject("payer", propose(changes(vec![of(times(MAX_TX_FEE, 2, 1))]), 100)));
    assert!(matches!(refused, GovernanceFault::InvalidParams { .. }), "{refused}");
    type Change = fn(Amount) -> ParamChange;
    let of: [(u64, Change); 7] = [
        (10_000, |value| ParamChange::RegistrationFee { value }),
        (1_000_000, |value| ParamChange::ValidatorCollateral { value }),
        (1_000_000, |value| ParamChange::MinSelfBond { value }),
        (1_000_000, |value| ParamChange::GovernanceMinDeposit { value }),
        (1_000_000, |value| ParamChange::DomainFee { value }),
        (1_000, |value| ParamChange::BeaconMissPenalty { value }),
        (1_000, |value| ParamChange::FeedbackFullFee { value }),
    ];
    for (bound, change) in of {
        let refuse = |value| fault(w.reject("payer", propose(changes(vec![change(dn(value))]), 100)));
        assert!(matches!(refuse(bound), GovernanceFault::StepTooLarge { .. }), "{}", refuse(bound));
        assert!(matches!(refuse(bound + 1), GovernanceFault::InvalidParams { .. }), "{}", refuse(bound + 1));
    }
}

/// A number is at most halved or doubled at once: neither times to vote nor seats vanish in one vote.
#[test]
fn numbers_move_in_steps() {
    let mut params = short();
    params.governance.voting_blocks = 1_001;
    params.max_validators = 7;
    params.model_grace_blocks = 0;
    params.beacon.required = true;
    let w = World::with(params);
    let of = |change: ParamChange| propose(changes(vec![change]), 100);
    let step = |change: ParamChange, current, least, most, found| {
        let parameter = change.path().to_owned();
        assert_eq!(
            fault(w.reject("payer", of(change))),
            GovernanceFault::NumberStepTooLarge { parameter, current, least, most, found }
        );
    };
    for found in [1, 499, 2_003] {
        step(ParamChange::GovernanceVotingBlocks { value: found }, 1_001, 500, 2_002, found);
    }
    for found in [1, 3, 15] {
        // Half of seven is three, but four is the least.
        step(ParamChange::MaxValidators { value: found as u32 }, 7, 4, 14, found);
    }
    step(ParamChange::ModelGraceBlocks { value: 101 }, 0, 0, 100, 101);
    step(ParamChange::GovernanceQuorum { value: 2_499 }, 5_000, 2_500, 10_000, 2_499);
    let parameter = "beacon.required".to_owned();
    let off = ParamChange::BeaconRequired { value: false };
    assert_eq!(fault(w.reject("payer", of(off))), GovernanceFault::OnForGood { parameter });
    for fine in [
        ParamChange::GovernanceVotingBlocks { value: 500 },
        ParamChange::GovernanceVotingBlocks { value: 2_002 },
        ParamChange::MaxValidators { value: 4 },
        ParamChange::ModelGraceBlocks { value: 100 },
    ] {
        let mut params = short();
        params.governance.voting_blocks = 1_001;
        params.max_validators = 7;
        params.model_grace_blocks = 0;
        World::with(params).ok("payer", of(fine));
    }
    // Where fewer decide already, no vote makes them fewer.
    let mut few = short();
    few.max_validators = 3;
    few.max_in_role = 3;
    World::with(few.clone()).ok("payer", of(ParamChange::MaxValidators { value: 6 }));
    let refused = fault(World::with(few).reject("payer", of(ParamChange::MaxValidators { value: 2 })));
    assert!(matches!(refused, GovernanceFault::NumberStepTooLarge { least: 3, .. }), "{refused}");
}

#[test]
fn ended_proposals_are_forgotten_after_their_time() {
    let mut params = short();
    params.governance.kept_epochs = 2;
    let mut w = World::with(params.clone());
    for _ in 0..3 {
        w.ok("payer", propose(ProposalKind::Text {}, 100));
    }
    decide(&mut w, 0, Choice::No);
    let ended = w.height();
    // The others are voted on, and fail in the same block.
    assert!(!status(&w, 0).is_open());
    let kept = 2 * params.epoch_blocks;
    w.blocks(ended + kept - w.height());
    assert!(PROPOSALS.contains(w.state(), &0), "it is kept for {kept} blocks");
    w.blocks(4);
    for id in 0..3 {
        assert!(!PROPOSALS.contains(w.state(), &id), "{id}");
    }
    assert_eq!(ENDED_PROPOSALS.iter(w.state()).count(), 0);
    w.ok("payer", propose(ProposalKind::Text {}, 100));
    assert!(PROPOSALS.contains(w.state(), &3), "numbers go on");
}
