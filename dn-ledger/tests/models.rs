//! The ledger against naive models of it: every delegator's stake kept on its own, every vote counted anew, payment as the design
//! says it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "models/audits/both.rs"]
mod audits;
#[path = "models/audits/batches.rs"]
mod audits_batches;
#[path = "models/audits/compare.rs"]
mod audits_compare;
#[path = "models/audits/corners.rs"]
mod audits_corners;
#[path = "models/audits/draws.rs"]
mod audits_draws;
#[path = "models/audits/outcome.rs"]
mod audits_outcome;
#[path = "models/audits/records.rs"]
mod audits_records;
#[path = "models/audits/requests.rs"]
mod audits_requests;
#[path = "models/audits/script.rs"]
mod audits_script;
#[path = "models/audits/spec.rs"]
mod audits_spec;
#[path = "models/audits/world.rs"]
mod audits_world;
mod common;
#[path = "models/corners.rs"]
mod corners;
#[path = "models/outcome.rs"]
mod outcome;
#[path = "models/payments.rs"]
mod payments;
#[path = "models/publishing/both.rs"]
mod publishing;
#[path = "models/publishing/compare.rs"]
mod publishing_compare;
#[path = "models/publishing/corners.rs"]
mod publishing_corners;
#[path = "models/publishing/domains.rs"]
mod publishing_domains;
#[path = "models/publishing/income.rs"]
mod publishing_income;
#[path = "models/publishing/models.rs"]
mod publishing_models;
#[path = "models/publishing/offers.rs"]
mod publishing_offers;
#[path = "models/publishing/requests.rs"]
mod publishing_requests;
#[path = "models/publishing/spec.rs"]
mod publishing_spec;
#[path = "models/quality/both.rs"]
mod quality;
#[path = "models/quality/corners.rs"]
mod quality_corners;
#[path = "models/quality/draw.rs"]
mod quality_draw;
#[path = "models/quality/feedback.rs"]
mod quality_feedback;
#[path = "models/quality/requests.rs"]
mod quality_requests;
#[path = "models/quality/spec.rs"]
mod quality_spec;
#[path = "models/requests.rs"]
mod requests;
#[path = "models/spec.rs"]
mod spec;

use std::collections::{BTreeMap, HashMap};

use common::{CHAIN_ID, START_MS, address, dn, genesis, key, params};
use dn_core::wide::mul_div;
use dn_core::{Address, Amount, BlockHash};
use dn_ledger::apply::{begin_block, end_block};
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::params::MAX_TX_FEE;
use dn_ledger::state::{
    ACCOUNTS, IDENTITIES, IdentityStatus, OVERRIDES, PARAMS, PROPOSALS, REDELEGATION_POOLS, STAKE_POOLS,
    STAKE_SHARES, State, Tally,
};
use dn_ledger::tx::{Choice, Evidence, ProposalKind, Shares};
use dn_ledger::vote::{Vote, VoteKind};
use dn_ledger::{BlockContext, Chain, Params, Payload, Role, Tx, apply, query, supply, tally};
use proptest::prelude::*;

const VALIDATORS: [&str; 3] = ["v1", "v2", "v3"];
const DELEGATORS: [&str; 5] = ["payer", "stranger", "v1", "v2", "v3"];

/// Epochs of two blocks, large fees so that pools earn, a hard slash.
fn rules() -> Params {
    let mut params = Params { epoch_blocks: 2, unbonding_epochs: 2, min_tx_fee: MAX_TX_FEE, ..params() };
    params.slash.equivocation = 2_000;
    params.governance.voting_blocks = 1_000_000;
    params.staking.max_commission_raise = 1_000;
    params.staking.min_self_bond = Amount::ZERO;
    params
}

/// The state machine without blocks around it.
struct Machine {
    state: State,
    ctx: BlockContext,
    offences: u64,
}

impl Machine {
    fn new(params: Params) -> Self {
        // No audit fits into epochs this short, so no genesis takes them; there is none here.
        let chain = Chain::new(&genesis(Params { unbonding_epochs: 20, ..params.clone() }));
        let mut state = chain.state().clone();
        PARAMS.put(&mut state, &0, &params);
        state.seal();
        let ctx = BlockContext { params, ..chain.next_context(START_MS + 1_000) };
        Self { state, ctx, offences: 0 }
    }

    /// The events of an accepted transaction.
    fn send(&mut self, who: &str, payload: Payload) -> Option<Vec<Event>> {
        let nonce = ACCOUNTS.get_or_default(&self.state, &address(who)).nonce;
        let (fee, expires_height) = (Amount::ZERO, self.ctx.height + 10);
        let mut tx = Tx { chain_id: CHAIN_ID, sender: address(who), nonce, expires_height, fee, payload };
        tx.fee = tx.least_fee(self.ctx.params.min_tx_fee);
        let outcome = apply(&mut self.state, &tx.sign(&key(who)), &self.ctx).ok();
        supply::check_changes(&supply::changed_holdings(&self.state.pending())).unwrap();
        outcome.map(|outcome| outcome.events)
    }

    fn next_block(&mut self) -> Vec<Event> {
        let mut events = self.end_block();
        events.extend(self.begin_block());
        events
    }

    fn end_block(&mut self) -> Vec<Event> {
        let events = end_block(&mut self.state, &self.ctx);
        supply::check_changes(&supply::changed_holdings(&self.state.pending())).unwrap();
        self.state.seal();
        events
    }

    fn begin_block(&mut self) -> Vec<Event> {
        self.ctx.height += 1;
        self.ctx.time_ms += 1_000;
        self.ctx.params = PARAMS.get(&self.state, &0).unwrap();
        begin_block(&mut self.state, &self.ctx)
    }

    fn held(&self, who: &str, pool: &str) -> u128 {
        STAKE_SHARES.get_or_default(&self.state, &(address(who), address(pool))).0
    }

    /// An offence at a height of its own.
    fn offend(&mut self, validator: &str) -> Option<Vec<Event>> {
        self.offences += 1;
        let vote = |block| Vote {
            chain_id: CHAIN_ID,
            height: self.ctx.height - self.offences.min(1),
            round: 0,
            kind: VoteKind::Prevote,
            block,
        };
        let (first, second) = (vote(None), vote(Some(BlockHash([1; 32]))));
        let evidence = Evidence::Votes {
            first,
            first_signature: key(validator).sign(&first.digest()),
            second,
            second_signature: key(validator).sign(&second.digest()),
        };
        self.send("gateway", Payload::SubmitEvidence { validator: address(validator), evidence })
    }
}

#[derive(Debug, Clone)]
enum Op {
    Stake { who: usize, pool: usize, dn: u64 },
    Unbond { who: usize, pool: usize, part: u8 },
    Redelegate { who: usize, from: usize, by: usize, part: u8 },
    Withdraw { who: usize },
    Commission { pool: usize, rate: u16 },
    Offend { pool: usize },
    Blocks { count: u8 },
    Vote { who: usize, pool: usize, proposal: u64, choice: usize },
}

fn ops(votes: bool) -> impl Strategy<Value = Op> {
    let (who, pool, part) = (|| 0..DELEGATORS.len(), || 0..VALIDATORS.len(), || 1u8..=4);
    let voting = if votes { 8 } else { 0 };
    prop_oneof![
        4 => (who(), pool(), 1u64..900).prop_map(|(who, pool, dn)| Op::Stake { who, pool, dn }),
        3 => (who(), pool(), part()).prop_map(|(who, pool, part)| Op::Unbond { who, pool, part }),
        6 => (who(), pool(), 1usize..3, part())
            .prop_map(|(who, from, by, part)| Op::Redelegate { who, from, by, part }),
        4 => who().prop_map(|who| Op::Withdraw { who }),
        1 => (pool(), 0u16..1_500).prop_map(|(pool, rate)| Op::Commission { pool, rate }),
        1 => pool().prop_map(|pool| Op::Offend { pool }),
        5 => (1u8..6).prop_map(|count| Op::Blocks { count }),
        voting => (who(), pool(), 0u64..2, 0usize..4)
            .prop_map(|(who, pool, proposal, choice)| Op::Vote { who, pool, proposal, choice }),
    ]
}

fn payload(m: &Machine, op: &Op) -> Option<(&'static str, Payload)> {
    let validator = |pool: &usize| address(VALIDATORS[*pool]);
    // A pool in which somebody has something, from this one on.
    let held = |who: &usize, pool: &usize| {
        let mut pools = (0..VALIDATORS.len()).map(|n| (pool + n) % VALIDATORS.len());
        pools.find(|pool| m.held(DELEGATORS[*who], VALIDATORS[*pool]) > 0).unwrap_or(*pool)
    };
    let part_of = |who: &usize, pool: &usize, part: &u8| {
        Shares(m.held(DELEGATORS[*who], VALIDATORS[*pool]) / u128::from(*part))
    };
    Some(match op {
        Op::Stake { who, pool, dn: amount } => {
            (DELEGATORS[*who], Payload::Stake { validator: validator(pool), amount: dn(*amount) })
        }
        Op::Unbond { who, pool, part } => {
            let pool = held(who, pool);
            let shares = part_of(who, &pool, part);
            (DELEGATORS[*who], Payload::Unbond { validator: validator(&pool), shares })
        }
        Op::Redelegate { who, from, by, part } => {
            let from = held(who, from);
            let (shares, to) = (part_of(who, &from, part), (from + by) % VALIDATORS.len());
            (DELEGATORS[*who], Payload::Redelegate { from: validator(&from), to: validator(&to), shares })
        }
        Op::Withdraw { who } => (DELEGATORS[*who], Payload::Withdraw {}),
        Op::Commission { pool, rate } => (VALIDATORS[*pool], Payload::SetCommission { rate: *rate }),
        Op::Vote { who, pool, proposal, choice } => {
            let (proposal, pool, choice) = (*proposal, validator(pool), Choice::ALL[*choice]);
            (DELEGATORS[*who], Payload::Vote { proposal, pool, choice })
        }
        Op::Offend { .. } | Op::Blocks { .. } => return None,
    })
}

// --- the naive model of stake: who has what, where; no pools, no shares ---

/// Where somebody's stake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// At stake with a validator.
    With(Address),
    /// With `to`, and still answering for `from` until the epoch.
    Moved { from: Address, to: Address, until: u64 },
    /// On its way out.
    Leaving { from: Address, until: u64 },
    /// A validator's collateral; free from the epoch on once it is out.
    Bond { until: Option<u64> },
}

impl Place {
    /// Whose reward it shares.
    fn earns_with(self) -> Option<Address> {
        match self {
            Self::With(v) | Self::Moved { to: v, .. } => Some(v),
            Self::Leaving { .. } | Self::Bond { .. } => None,
        }
    }

    /// Whether an offence of a validator in an epoch cuts it.
    fn answers_for(self, owner: Address, validator: Address, epoch: u64) -> bool {
        match self {
            Self::Bond { .. } => owner == validator,
            Self::With(v) => v == validator,
            Self::Moved { from, to, until } => to == validator || (from == validator && until > epoch),
            Self::Leaving { from, until } => from == validator && until > epoch,
        }
    }
}

/// What everybody has, in millionths of an atto so that the model's own rounding is nothing.
#[derive(Default)]
struct Holdings(HashMap<(Address, Place), u128>);

const FINE: u128 = 1_000_000;

impl Holdings {
    fn of_genesis() -> Self {
        let mut start = Self::default();
        for validator in VALIDATORS.map(address) {
            start.add(validator, Place::With(validator), dn(10_000).atto() * FINE);
            start.add(validator, Place::Bond { until: None }, dn(1_000).atto() * FINE);
        }
        start
    }

    fn add(&mut self, who: Address, place: Place, value: u128) {
        *self.0.entry((who, place)).or_default() += value;
    }

    /// Takes a fraction of a holding.
    fn take(&mut self, who: Address, place: Place, part: u128, whole: u128) -> u128 {
        let held = self.0.entry((who, place)).or_default();
        let taken = mul_div(*held, part, whole).unwrap();
        *held -= taken;
        taken
    }

    fn settle(&mut self, who: Address, epoch: u64) {
        let due: Vec<_> = self.0.keys().copied().filter(|(owner, _)| *owner == who).collect();
        for key in due {
            if let Place::Moved { to, until, .. } = key.1
                && until <= epoch
            {
                let value = self.0.remove(&key).unwrap();
                self.add(who, Place::With(to), value);
            }
        }
    }

    fn reward(&mut self, validator: Address, amount: u128) {
        let sharing = |place: &Place| place.earns_with() == Some(validator);
        let total: u128 = self.0.iter().filter(|((_, p), _)| sharing(p)).map(|(_, v)| v).sum();
        for (_, value) in self.0.iter_mut().filter(|((_, place), _)| sharing(place)) {
            *value += mul_div(*value, amount * FINE, total).unwrap();
        }
    }

    fn slash(&mut self, validator: Address, epoch: u64, bps: u128) {
        let cut = |who: &Address, place: &Place| place.answers_for(*who, validator, epoch);
        for (_, value) in self.0.iter_mut().filter(|((who, place), _)| cut(who, place)) {
            *value -= mul_div(*value, bps, 10_000).unwrap();
        }
    }
}

/// Follows what an accepted operation says it did. `before` are the shares that the sender held then.
fn follow(model: &mut Holdings, m: &Machine, events: &[Event], before: &BTreeMap<Address, u128>) {
    let epoch = m.ctx.epoch();
    let mut rewarded = BTreeMap::new();
    for event in events {
        match *event {
            Event::Staked { delegator, validator, amount, .. } => {
                model.add(delegator, Place::With(validator), amount.atto() * FINE);
            }
            Event::Unbonding { delegator, validator, shares, .. } => {
                model.settle(delegator, epoch);
                let until = epoch + m.ctx.params.unbonding_epochs;
                let held = before_of(m, before, delegator, validator, shares);
                let value = model.take(delegator, Place::With(validator), shares.0, held);
                model.add(delegator, Place::Leaving { from: validator, until }, value);
            }
            Event::Redelegated { delegator, from, to, shares, .. } => {
                model.settle(delegator, epoch);
                let until = epoch + m.ctx.params.unbonding_epochs;
                let held = before_of(m, before, delegator, from, shares);
                let value = model.take(delegator, Place::With(from), shares.0, held);
                model.add(delegator, Place::Moved { from, to, until }, value);
            }
            Event::PoolRewarded { validator, amount } => {
                rewarded.insert(validator, amount.atto());
            }
            Event::CommissionPaid { validator, amount, .. } => {
                // The delegators' part first, then the validator's.
                let whole = rewarded.remove(&validator).unwrap();
                model.reward(validator, whole - amount.atto());
                model.add(validator, Place::With(validator), amount.atto() * FINE);
            }
            Event::Slashed { address, cause: SlashCause::Equivocation, .. } => {
                model.slash(address, epoch, m.ctx.params.slash.equivocation.into());
            }
            Event::Jailed { validator, .. } => {
                let bond = model.0.remove(&(validator, Place::Bond { until: None })).unwrap();
                let until = Some(epoch + m.ctx.params.unbonding_epochs);
                model.add(validator, Place::Bond { until }, bond);
            }
            Event::Withdrawn { address: who, amount } => {
                let due = |place| match place {
                    Place::Leaving { until, .. } | Place::Bond { until: Some(until) } => until <= epoch,
                    _ => false,
                };
                let free = |key: &(Address, Place)| key.0 == who && due(key.1);
                let due: Vec<_> = model.0.keys().copied().filter(free).collect();
                let value: u128 = due.iter().map(|key| model.0.remove(key).unwrap()).sum();
                assert!((value / FINE).abs_diff(amount.atto()) < 1_000, "{amount} paid out; {value} due");
            }
            _ => {}
        }
    }
    for (validator, amount) in rewarded {
        model.reward(validator, amount);
    }
}

/// What the sender held before it gave shares: lots that settle on the way count.
fn before_of(
    m: &Machine,
    before: &BTreeMap<Address, u128>,
    who: Address,
    pool: Address,
    given: Shares,
) -> u128 {
    let after = STAKE_SHARES.get_or_default(&m.state, &(who, pool)).0;
    let held = after + given.0;
    assert!(held >= before.get(&pool).copied().unwrap_or_default());
    held
}

/// Every holding as the ledger shows it against the model: a few atto for each rounding, of 10^22.
fn compare(model: &Holdings, m: &Machine, step: usize) {
    // What is shown, and what is expected.
    let mut both: HashMap<(Address, Place), (u128, u128)> = HashMap::new();
    for who in DELEGATORS.map(address) {
        let mut show = |place, value: Amount| both.entry((who, place)).or_default().0 += value.atto();
        let view = query::account(&m.state, who);
        for s in view.stakes {
            show(Place::With(s.validator), s.value);
        }
        for u in view.unbonding {
            show(Place::Leaving { from: u.validator, until: u.release_epoch }, u.value);
        }
        for r in view.redelegating {
            show(Place::Moved { from: r.from, to: r.to, until: r.release_epoch }, r.value);
        }
        if let Some(identity) = IDENTITIES.get(&m.state, &(Role::Validator, who)) {
            show(Place::Bond { until: identity.status.release_epoch() }, identity.collateral);
        }
    }
    for (key, value) in &model.0 {
        both.entry(*key).or_default().1 += value / FINE;
    }
    let total: u128 = both.values().map(|(_, expected)| expected).sum();
    for (key, (shown, expected)) in both {
        assert!(shown.abs_diff(expected) < 1_000, "step {step}: {key:?}: {shown} shown, {expected} expected");
    }
    let s = supply::supply(&m.state);
    let held = s.stake.atto() + s.unbonding.atto() + s.collateral.atto();
    assert!(held.abs_diff(total) < 10_000, "step {step}: {held} held, {total} expected");
}

fn run(m: &mut Machine, op: &Op) -> Option<Vec<Event>> {
    match op {
        Op::Offend { pool } => m.offend(VALIDATORS[*pool]),
        Op::Blocks { count } => Some((0..*count).flat_map(|_| m.next_block()).collect()),
        op => {
            let (who, payload) = payload(m, op).unwrap();
            m.send(who, payload)
        }
    }
}

/// Follows block by block where an operation is several: rewards and epochs go together.
fn step(model: &mut Holdings, m: &mut Machine, op: &Op) -> bool {
    if let Op::Blocks { count } = op {
        for _ in 0..*count {
            // Rewards come with the block that ends the epoch, before the next one's slashes.
            let events = m.next_block();
            follow(model, m, &events, &BTreeMap::new());
        }
        return true;
    }
    let sender = payload(m, op).map(|(who, _)| address(who));
    let before = sender.map(|who| {
        let held = STAKE_SHARES.iter_from(&m.state, &who).map(|((_, pool), shares)| (pool, shares.0));
        held.collect()
    });
    let Some(events) = run(m, op) else { return false };
    if matches!(op, Op::Withdraw { .. }) {
        model.settle(sender.unwrap(), m.ctx.epoch());
    }
    follow(model, m, &events, &before.unwrap_or_default());
    true
}

/// Everybody's own shares and the lots are all shares of a pool.
fn shares_add_up(m: &Machine) {
    for validator in VALIDATORS.map(address) {
        let own: u128 = STAKE_SHARES
            .iter(&m.state)
            .filter(|((_, pool), _)| *pool == validator)
            .map(|(_, shares)| shares.0)
            .sum();
        assert_eq!(own + lots_in(m, validator), STAKE_POOLS.get_or_default(&m.state, &validator).shares());
    }
}

fn lots_in(m: &Machine, validator: Address) -> u128 {
    let lots = REDELEGATION_POOLS.iter(&m.state).filter(|((_, _, to), _)| *to == validator);
    lots.map(|(_, lots)| lots.tokens().atto()).sum()
}

// --- the naive count of votes: every delegator asked, one by one ---

type Votes = HashMap<(u64, Address, Address), Choice>;

fn recount(m: &Machine, votes: &Votes, proposal: u64) -> Tally {
    let mut sums = [0u128; 5];
    for validator in VALIDATORS.map(address) {
        let identity = IDENTITIES.get(&m.state, &(Role::Validator, validator)).unwrap();
        let active = identity.status == IdentityStatus::Active;
        let pool = STAKE_POOLS.get_or_default(&m.state, &validator);
        let default = votes.get(&(proposal, validator, validator)).filter(|_| active);
        let mut by_choice = [0u128; 4];
        for who in DELEGATORS.map(address) {
            let shares = STAKE_SHARES.get_or_default(&m.state, &(who, validator)).0;
            let own = votes.get(&(proposal, who, validator)).filter(|_| who != validator);
            if let Some(choice) = own.or(default) {
                by_choice[*choice as usize] += shares;
            }
        }
        if let Some(choice) = default {
            by_choice[*choice as usize] += lots_in(m, validator);
        }
        let weights =
            by_choice.map(|shares| mul_div(pool.tokens().atto(), shares, pool.shares()).unwrap_or(0));
        sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
        sums[4] += if active { pool.tokens().atto() } else { weights.iter().sum() };
    }
    let [yes, no, abstain, no_with_veto, total] = sums.map(Amount::from_atto);
    Tally { yes, no, abstain, no_with_veto, total }
}

fn open_proposals(m: &mut Machine) {
    for _ in 0..2 {
        let (title, text, kind, deposit) = ("t".into(), String::new(), ProposalKind::Text {}, dn(100));
        assert!(m.send("gateway", Payload::Propose { title, text, kind, deposit }).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn pools_are_everybodys_own_stake(ops in prop::collection::vec(ops(false), 10..60)) {
        let (mut m, mut model) = (Machine::new(rules()), Holdings::of_genesis());
        for (n, op) in ops.iter().enumerate() {
            step(&mut model, &mut m, op);
            compare(&model, &m, n);
            shares_add_up(&m);
        }
        supply::check_all(&m.state).unwrap();
    }

    #[test]
    fn running_tallies_are_recounts(ops in prop::collection::vec(ops(true), 10..60)) {
        let (mut m, mut votes) = (Machine::new(rules()), Votes::new());
        open_proposals(&mut m);
        for op in &ops {
            let accepted = run(&mut m, op).is_some();
            if let (Op::Vote { who, pool, proposal, choice }, true) = (op, accepted) {
                let key = (*proposal, address(DELEGATORS[*who]), address(VALIDATORS[*pool]));
                votes.insert(key, Choice::ALL[*choice]);
            }
            for proposal in 0..2 {
                prop_assert_eq!(tally(&m.state, proposal), recount(&m, &votes, proposal));
            }
        }
        // The end of voting counts the same, and nothing of the votes stays behind.
        m.ctx.height += 1_000_001;
        let expected: Vec<_> = (0..2).map(|proposal| recount(&m, &votes, proposal)).collect();
        begin_block(&mut m.state, &m.ctx);
        for (proposal, expected) in (0u64..).zip(expected) {
            let record = PROPOSALS.get(&m.state, &proposal).unwrap();
            prop_assert_eq!(record.tally, Some(expected));
        }
        begin_block(&mut m.state, &m.ctx);
        prop_assert_eq!(OVERRIDES.iter(&m.state).count(), 0);
        supply::check_all(&m.state).unwrap();
    }
}

/// The properties above are worth something only if most of what they try happens.
#[test]
fn the_models_are_fed() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..40 {
        let ops = prop::collection::vec(ops(true), 10..60).new_tree(&mut runner).unwrap().current();
        let mut m = Machine::new(rules());
        open_proposals(&mut m);
        for op in &ops {
            for event in run(&mut m, op).unwrap_or_default() {
                let json = serde_json::to_value(&event).unwrap();
                *seen.entry(json["event"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
    }
    for event in [
        "staked",
        "unbonding",
        "redelegated",
        "redelegation_settled",
        "withdrawn",
        "pool_rewarded",
        "commission_paid",
        "slashed",
        "jailed",
        "voted",
    ] {
        assert!(seen.get(event).is_some_and(|n| *n >= 10), "{event}: {seen:?}");
    }
}
