//! Identities, domains, models, lineage and backers against the naive specification: whatever is sent, both take or refuse it alike, and everything that
//! can be seen of the registry, and what everybody has, is the same after each request and each block.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dn_core::{Address, Amount, ChannelId, ModelId};
use dn_ledger::events::Event;
use dn_ledger::state::{ACCOUNTS, IDENTITIES, IdentityStatus, PARAMS, POOLS, Pool};
use dn_ledger::tx::{BackingTerms, DomainTerms, Licence, NewVersion, Parent, channel_id};
use dn_ledger::{Params, Payload, Role, supply};
use proptest::prelude::*;

use super::Machine;
use super::publishing_compare::{HAPPENS, REASONS};
use super::publishing_income::Channel;
use super::publishing_offers::{published, terms};
use super::publishing_requests::{Op, ops};
use super::publishing_spec::{Domain, Identity, Spec};
use crate::common::{address, dn, params, price};

/// Everybody who tries something.
pub(super) const WHO: [&str; 6] = ["owner", "stranger", "payer", "worker", "worker2", "gateway"];
/// An address is a product of points: each is made once.
pub(super) fn address_of(name: &str) -> Address {
    static ADDRESSES: LazyLock<[Address; WHO.len()]> = LazyLock::new(|| WHO.map(address));
    let place = WHO.iter().position(|known| *known == name);
    place.map_or_else(|| address(name), |place| ADDRESSES[place])
}

/// Little enough to be used up.
const DEPOSIT: Amount = Amount::from_dn(30);
/// How many models there may be.
pub(super) const TAGS: u8 = 48;

/// Short times and small lists, so that every end is met; with commitments or without. What a fee buys of work is nothing, so that no epoch emits: what
/// emission divides is specified elsewhere.
fn rules(commit_blocks: u64) -> Params {
    let mut params = params();
    params.epoch_blocks = 6;
    params.unbonding_epochs = 2;
    params.model_grace_blocks = 4;
    params.max_in_role = 2;
    params.audit_times.commit_blocks = 2;
    params.audit_times.reveal_blocks = 1;
    params.beacon.miss_penalty = Amount::ZERO;
    params.emission.reference_price = Amount::from_atto(u128::MAX);
    params.registry.max_domains = 3;
    params.registry.max_versions = 2;
    params.registry.max_royalty_payees = 4;
    params.registry.unbacking_epochs = 2;
    params.registry.commit_blocks = commit_blocks;
    params
}

/// The ledger and the specification side by side.
pub(super) struct Both {
    pub(super) m: Machine,
    pub(super) spec: Spec,
    /// The ids of all models that can be published.
    pub(super) ids: Vec<ModelId>,
    pub(super) channel: ChannelId,
    /// How often what was taken, refused or happened.
    pub(super) seen: BTreeMap<String, u32>,
}

impl Both {
    pub(super) fn new(commit_blocks: u64) -> Self {
        let mut m = Machine::new(params());
        let rules = rules(0);
        PARAMS.put(&mut m.state, &0, &rules);
        m.state.seal();
        m.ctx.params = rules.clone();
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
        ok("worker2", register(Role::Worker, 100));
        let (payee, spender, deposit) = (address("gateway"), address("spender"), DEPOSIT);
        ok("payer", Payload::OpenChannel { payee, deposit, spender });
        let channel = channel_id(address("payer"), payee, 0);
        // Somebody that cannot pay for everything.
        ok("worker2", Payload::Transfer { to: address("owner"), amount: dn(4_870) });
        let spec = start(&m, rules);
        let ids = (0..TAGS).map(|tag| published(tag).id()).collect();
        let mut both = Self { m, spec, ids, channel, seen: BTreeMap::new() };
        both.settle_in();
        both.set_params(self::rules(commit_blocks));
        both
    }

    /// A domain, a family with backers, a model that derives from it, both hosted.
    fn settle_in(&mut self) {
        let (name, terms) = ("d0".to_owned(), terms(0));
        assert!(self.send("stranger", Payload::CreateDomain { name, terms }));
        let backing = Some(BackingTerms { share_bps: 3_333, cap: dn(60) });
        let first = NewVersion { backing, ..version(0) };
        let parents = vec![Parent { model: self.ids[0], share_bps: 1_501 }];
        let second = NewVersion { domain: 1, parents, ..version(3) };
        assert!(self.send("owner", Payload::PublishVersion { version: first }));
        assert!(self.send("stranger", Payload::PublishVersion { version: second }));
        for (who, model) in [("worker", 0), ("worker", 3), ("worker2", 3)] {
            assert!(self.send(who, Payload::Offer { model: self.ids[model], price: price() }));
        }
        let backed = Payload::BackModel { family: self.ids[0], amount: dn(7) };
        assert!(self.send("payer", backed));
    }

    pub(super) fn set_params(&mut self, params: Params) {
        PARAMS.put(&mut self.m.state, &0, &params);
        (self.m.ctx.params, self.spec.params) = (params.clone(), params);
    }

    fn note(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    /// How often something was taken, refused or happened.
    pub(super) fn times(&self, what: &str) -> u32 {
        self.seen.get(what).copied().unwrap_or_default()
    }

    fn hear(&mut self, events: &[Event]) {
        for event in events {
            let json = serde_json::to_value(event).unwrap();
            self.note(json["event"].as_str().unwrap());
        }
        self.spec.hear(events);
        for what in std::mem::take(&mut self.spec.seen) {
            self.note(what);
        }
    }

    /// Both take it, or both refuse it.
    pub(super) fn send(&mut self, who: &str, payload: Payload) -> bool {
        let verdict = self.spec.submit(address_of(who), &payload);
        let events = self.m.send(who, payload.clone());
        assert_eq!(
            events.is_some(),
            verdict.is_ok(),
            "taken by the ledger; the specification says {verdict:?}: {who}: {payload:?}"
        );
        let json = serde_json::to_value(&payload).unwrap();
        let kind = json["type"].as_str().unwrap();
        self.note(format!("{} {kind}", if verdict.is_ok() { "took" } else { "refused" }));
        if let Err(why) = verdict {
            self.note(why);
        }
        self.hear(&events.unwrap_or_default());
        // What a refusal might have changed is seen with the next that is taken, and at the end of the block.
        if verdict.is_ok() {
            self.compare();
        }
        verdict.is_ok()
    }

    pub(super) fn next_block(&mut self) {
        self.next_block_at(self.spec.height + 1);
    }

    /// The block that follows, with as many empty ones left out as there are heights between.
    fn next_block_at(&mut self, height: u64) {
        let events = self.m.end_block();
        for event in &events {
            if let Event::EpochClosed { emitted, paid, .. } = event {
                assert!(emitted.is_zero(), "work counts for nothing here");
                *self.spec.pools.get_mut(&Pool::Validators).unwrap() -= paid.atto();
            }
        }
        self.hear(&events);
        self.m.ctx.height = height - 1;
        let events = self.m.begin_block();
        self.spec.begin_block(height);
        self.hear(&events);
        self.compare();
    }

    pub(super) fn step(&mut self, op: &Op) {
        match op {
            Op::Blocks { count } => (0..*count).for_each(|_| self.next_block()),
            Op::Jump { after } => self.jump(*after),
            Op::Cut { n } => {
                let all = self.spec.identities.keys().filter(|(role, _)| *role != Role::Validator);
                let all: Vec<_> = all.copied().collect();
                self.cut(all[usize::from(*n) % all.len()]);
                self.compare();
            }
            Op::Govern { narrow } => self.govern(*narrow),
            op => {
                let (who, payload) = self.ask(op);
                self.send(who, payload);
            }
        }
    }

    /// Blocks in which something is settled, or an epoch in which something was, are not left out.
    fn jump(&mut self, after: bool) {
        while self.spec.batches.values().any(|batch| !batch.settled) {
            self.next_block();
        }
        let epoch = self.spec.epoch();
        while self.spec.epoch() == epoch {
            self.next_block();
        }
        if let Some(made) = self.spec.commitments.values().min() {
            let until = self.spec.usable_until(*made) + u64::from(after);
            self.next_block_at(until.max(self.spec.height + 1));
        }
    }

    /// What a slash leaves: half of the collateral, and a suspension where that is too little.
    fn cut(&mut self, key: (Role, Address)) {
        let minimum = self.spec.params.collateral.of(key.0).atto();
        let Some(held) = self.spec.identities.get_mut(&key) else { return };
        let taken = held.collateral / 2;
        held.collateral -= taken;
        if held.collateral < minimum && held.status == IdentityStatus::Active {
            held.status = IdentityStatus::Suspended;
        }
        let (collateral, status) = (Amount::from_atto(held.collateral), held.status);
        self.spec.fill(Pool::Burned, taken);
        let mut identity = IDENTITIES.get(&self.m.state, &key).unwrap();
        (identity.collateral, identity.status) = (collateral, status);
        IDENTITIES.put(&mut self.m.state, &key, &identity);
        let taken = Amount::from_atto(taken);
        POOLS.update(&mut self.m.state, &Pool::Burned, |held| *held = held.checked_add(taken).unwrap());
    }

    /// Bounds that some of what was published or configured is beyond.
    fn govern(&mut self, narrow: bool) {
        let mut params = rules(self.spec.params.registry.commit_blocks);
        if narrow {
            params.registry.fee_bounds.owner.max = 2_000;
            params.registry.emission_bounds.creators.max = 1_000;
        }
        self.set_params(params);
    }
}

/// A family of its own that anybody may derive from.
pub(super) fn version(tag: u8) -> NewVersion {
    NewVersion {
        family: None,
        manifest: published(tag),
        name: "m".into(),
        price: price(),
        domain: 0,
        licence: Licence { id: "MIT".into(), derivatives: true, commercial: true, royalty_bps: 700 },
        parents: vec![],
        fees: None,
        backing: None,
        salt: None,
    }
}

/// The specification of a ledger as it is now, without models.
fn start(m: &Machine, params: Params) -> Spec {
    let state = &m.state;
    let identities = IDENTITIES.iter(state).map(|(key, i)| {
        let (name, endpoint, since) = (i.name, i.endpoint, i.registered_height);
        (key, Identity { name, endpoint, collateral: i.collateral.atto(), status: i.status, since })
    });
    let general = Domain {
        owner: None,
        name: "general".into(),
        deposit: 0,
        closed: None,
        terms: DomainTerms::default(),
        next: DomainTerms::default(),
        spending: (0, 0, 0),
    };
    Spec {
        height: m.ctx.height,
        balances: ACCOUNTS.iter(state).map(|(who, account)| (who, account.balance.atto())).collect(),
        pools: POOLS.iter(state).map(|(pool, amount)| (pool, amount.atto())).collect(),
        identities: identities.collect(),
        domains: vec![general],
        models: BTreeMap::new(),
        families: BTreeMap::new(),
        offers: BTreeMap::new(),
        commitments: BTreeMap::new(),
        backers: BTreeMap::new(),
        releases: BTreeMap::new(),
        channel: Channel { deposit: DEPOSIT.atto(), lanes: BTreeMap::new() },
        batches: BTreeMap::new(),
        sequences: BTreeMap::new(),
        seen: Default::default(),
        params,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_is_as_specified(wait in 0u64..2, ops in prop::collection::vec(ops(), 30..90)) {
        let mut both = Both::new(wait * 3);
        for op in &ops {
            both.step(op);
        }
        // Whatever is held comes to an end.
        (0..24).for_each(|_| both.next_block());
        supply::check_all(&both.m.state).unwrap();
    }
}

/// The property above is worth something only if most of what it tries happens, and is refused for every reason.
#[test]
fn the_registry_is_fed() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<String, u32>::new();
    for n in 0..48u64 {
        let ops = prop::collection::vec(ops(), 100..140).new_tree(&mut runner).unwrap().current();
        let mut both = Both::new(n % 2 * 3);
        ops.iter().for_each(|op| both.step(op));
        for (what, times) in both.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    let kinds = [
        "register",
        "retire",
        "update_identity",
        "withdraw",
        "commit_model",
        "publish_model",
        "publish_version",
        "set_model_price",
        "retire_model",
        "transfer_model",
        "offer",
        "unoffer",
        "back_model",
        "unback",
        "create_domain",
        "configure_domain",
        "transfer_domain",
        "spend_treasury",
        "close_domain",
        "post_batch",
    ];
    let both_ways = kinds.iter().flat_map(|kind| [format!("took {kind}"), format!("refused {kind}")]);
    let missing: Vec<_> = both_ways
        .chain(REASONS.iter().chain(HAPPENS).map(|what| (*what).to_owned()))
        .filter(|what| seen.get(what).is_none_or(|n| *n < 3))
        .collect();
    assert!(missing.is_empty(), "{missing:?} of {seen:#?}");
}
