use dn_core::{Address, Amount};
use dn_ledger::events::Event;
use dn_ledger::reject::{Field, RegistryReject, Reject};
use dn_ledger::state::{DOMAINS, POOLS, Pool};
use dn_ledger::tx::{Admission, DomainTerms, NewVersion};
use dn_ledger::views::PageRequest;
use dn_ledger::{Params, Payload, Role, query, supply};
use dn_powr::{DomainSplit, FeeMove};

use crate::common::{World, address, dn, manifest, offer, params, price};
use crate::{bps, earn, gained, model_owner, plus, publish, refused, version};

fn create(name: &str, terms: DomainTerms) -> Payload {
    Payload::CreateDomain { name: name.into(), terms }
}

/// A domain of "stranger" with a model of "owner" in it that "worker" offers.
fn with_domain(params: Params, terms: DomainTerms) -> (World, dn_core::ModelId) {
    let mut w = World::with(params);
    w.prepare();
    w.ok("stranger", create("code", terms));
    let mut new = version(9);
    new.domain = 1;
    let model = publish(&mut w, "owner", new);
    w.ok("worker", offer(model));
    (w, model)
}

fn pool(w: &World, pool: Pool) -> Amount {
    POOLS.get_or_default(w.state(), &pool)
}

#[test]
fn creation_burns_a_fee_and_locks_a_deposit() {
    let mut w = World::bare();
    let registry = w.genesis.params.registry;
    let (before, burned) = (w.balance("stranger"), pool(&w, Pool::Burned));
    let owner = address("stranger");
    let events = w.ok("stranger", create("code-2", DomainTerms::default()));
    let (domain, name, deposit) = (1, "code-2".to_owned(), registry.domain_deposit);
    assert!(events.contains(&Event::DomainCreated { domain, owner, name, deposit }));
    let spent = plus(plus(registry.domain_fee, deposit), w.genesis.params.min_tx_fee);
    assert_eq!(gained(w.balance("stranger"), before), spent);
    assert_eq!(gained(burned, pool(&w, Pool::Burned)), registry.domain_fee);
    assert_eq!(supply::supply(w.state()).domains, deposit);
    let view = query::domain(w.state(), 1, 0).unwrap();
    assert_eq!((view.owner, view.models, view.fees), (Some(owner), 0, w.genesis.params.fees));
    let domains = query::domains(w.state(), 0, &PageRequest::default()).unwrap().items;
    assert_eq!((domains.len(), domains[0].owner), (2, None));

    // Names.
    let name = |name: &str| w.reject("stranger", create(name, DomainTerms::default()));
    let size = |found| Reject::Size { field: Field::Name, min: 1, max: 64, found };
    assert_eq!(name(""), size(0));
    assert_eq!(name(&"x".repeat(65)), size(65));
    assert_eq!(name("Code"), RegistryReject::DomainName { at: 0 }.into());
    assert_eq!(name("c\u{43e}de"), RegistryReject::DomainName { at: 1 }.into());
    let taken = |name: &str, domain| RegistryReject::DomainNameTaken { name: name.into(), domain }.into();
    assert_eq!(name("code-2"), taken("code-2", 1));
    assert_eq!(name("general"), taken("general", 0));
    let poor = Payload::Transfer { to: owner, amount: w.balance("payer").checked_sub(dn(50)).unwrap() };
    w.ok("payer", poor);
    assert!(matches!(
        w.reject("payer", create("x", DomainTerms::default())),
        Reject::Insufficient { needed, .. } if needed == deposit
    ));
}

#[test]
fn domains_are_bounded_and_so_are_their_terms() {
    let mut params = params();
    params.registry.max_domains = 2;
    params.registry.emission_bounds.validators.min = 1_000;
    let mut w = World::with(params);
    let emission = |change: &dyn Fn(&mut DomainSplit)| {
        let mut split = DomainSplit::default();
        change(&mut split);
        let terms = DomainTerms { emission: Some(split), ..DomainTerms::default() };
        refused(&w, "stranger", create("x", terms))
    };
    let bounds =
        |share: &str, found, min, max| RegistryReject::ShareBounds { share: share.into(), found, min, max };
    assert_eq!(emission(&|s| s.validators = 999), bounds("validators", 999, 1_000, 9_900));
    assert_eq!(emission(&|s| s.workers = 9_901), bounds("workers", 9_901, 0, 9_900));
    assert_eq!(emission(&|s| s.treasury = 1_001), bounds("treasury", 1_001, 0, 1_000));
    assert_eq!(emission(&|s| s.foundation = 99), bounds("foundation", 99, 100, 100));
    assert_eq!(emission(&|s| s.workers = 1), RegistryReject::ShareSum { found: 5_001 });
    let fees = |to| {
        let terms = DomainTerms { fees: Some(to), ..DomainTerms::default() };
        refused(&w, "stranger", create("x", terms))
    };
    let to = FeeMove { worker: 6_500, owner: 2_000, validators: 800, domain: 400 };
    assert_eq!(fees(FeeMove { validators: 100, ..to }), bounds("validators", 100, 500, 1_500));
    assert_eq!(fees(FeeMove { worker: 6_501, ..to }), RegistryReject::ShareSum { found: 10_001 });
    w.ok("stranger", create("x", DomainTerms { fees: Some(to), ..DomainTerms::default() }));
    let full = refused(&w, "stranger", create("y", DomainTerms::default()));
    assert_eq!(full, RegistryReject::DomainsFull { limit: 2 });
}

#[test]
fn only_the_owner_acts_and_ownership_moves() {
    let (mut w, _) = with_domain(params(), DomainTerms::default());
    let terms = DomainTerms::default();
    let (owner, to) = (address("stranger"), address("payer"));
    let all = |domain| {
        [
            Payload::ConfigureDomain { domain, terms },
            Payload::TransferDomain { domain, to },
            Payload::SpendTreasury { domain, to, amount: dn(1) },
            Payload::CloseDomain { domain },
        ]
    };
    for (domain, owner) in [(0, None), (1, Some(owner))] {
        for payload in all(domain) {
            let why = refused(&w, "payer", payload);
            assert_eq!(why, RegistryReject::NotDomainOwner { domain, owner });
        }
    }
    for payload in all(2) {
        assert_eq!(w.reject("payer", payload), Reject::UnknownDomain { domains: 2, found: 2 });
    }
    w.ok("stranger", Payload::TransferDomain { domain: 1, to });
    w.ok("payer", Payload::ConfigureDomain { domain: 1, terms });
    let why = refused(&w, "stranger", Payload::ConfigureDomain { domain: 1, terms });
    assert_eq!(why, RegistryReject::NotDomainOwner { domain: 1, owner: Some(to) });
    let zero = Payload::SpendTreasury { domain: 1, to, amount: Amount::ZERO };
    assert!(matches!(w.reject("payer", zero), Reject::AmountTooSmall { .. }));
}

/// All emission to creators, or none.
fn creators(creators: u16) -> DomainTerms {
    let workers = 9_900 - creators;
    let (validators, stakers, treasury, foundation) = (0, 0, 0, 100);
    let split = DomainSplit { workers, validators, stakers, creators, treasury, foundation };
    DomainTerms { emission: Some(split), ..DomainTerms::default() }
}

#[test]
fn terms_change_with_the_epoch_now_and_never_before() {
    let mut params = params();
    params.epoch_blocks = 40;
    let (mut w, model) = with_domain(params, creators(0));
    earn(&mut w, model, 1, dn(10));
    let epoch_blocks = w.genesis.params.epoch_blocks;
    while !(w.height() + 2).is_multiple_of(epoch_blocks) {
        w.block(&[]);
    }
    // In the epoch's last block, whose end pays the epoch's work.
    let paid_creators = |events: &[Event]| {
        events.iter().any(|e| matches!(e, Event::EmissionPaid { role: Role::ModelOwner, .. }))
    };
    let epoch = w.height() / epoch_blocks;
    let events = w.ok("stranger", Payload::ConfigureDomain { domain: 1, terms: creators(9_900) });
    let from_epoch = epoch + 1;
    let terms = creators(9_900);
    assert!(events.contains(&Event::DomainConfigured { domain: 1, from_epoch, terms }));
    assert!(events.iter().any(|e| matches!(e, Event::EmissionPaid { role: Role::Worker, .. })));
    assert!(!paid_creators(&events), "{events:?}");
    let view = query::domain(w.state(), 1, epoch).unwrap();
    assert_eq!((view.terms, view.next.unwrap().terms), (creators(0), terms));
    assert_eq!(query::domain(w.state(), 1, from_epoch).unwrap().terms, terms);
    // A second change in the same epoch replaces the first; one in the next keeps what has come into force.
    w.ok("stranger", Payload::ConfigureDomain { domain: 1, terms: creators(5) });
    assert_eq!(DOMAINS.get(w.state(), &1).unwrap().terms, terms);
    earn(&mut w, model, 1, dn(10));
    let events = w.blocks(epoch_blocks);
    assert!(paid_creators(&events), "{events:?}");
}

#[test]
fn emission_follows_demand_by_domain_then_the_domains_own_weights() {
    let mut params = params();
    params.epoch_blocks = 60;
    let (mut w, model) = with_domain(params, creators(9_900));
    let general = w.model;
    let treasury = |w: &World, domain| pool(w, Pool::Domain { domain });
    let mut events = earn(&mut w, model, 1, dn(10));
    events.extend(earn(&mut w, general, 0, dn(20)));
    let before = (treasury(&w, 0), treasury(&w, 1));
    events.extend(w.blocks(60));
    let paid = |role| {
        events.iter().fold(Amount::ZERO, |sum, e| match e {
            Event::EmissionPaid { role: r, amount, .. } if *r == role => plus(sum, *amount),
            _ => sum,
        })
    };
    let emitted = events.iter().find_map(|e| match e {
        Event::EpochClosed { emitted, .. } if !emitted.is_zero() => Some(*emitted),
        _ => None,
    });
    // The same work by the same worker, paid enough in both: each domain has half.
    let each = bps(emitted.unwrap(), 5_000);
    let near = |found: Amount, expected: Amount| {
        assert!(found.atto().abs_diff(expected.atto()) < 10, "{found} against {expected}");
    };
    // Domain 0 by the chain's weights; domain 1 pays its creators, and neither workers nor its treasury.
    near(paid(Role::Worker), bps(each, 5_000));
    near(paid(Role::ModelOwner), plus(bps(each, 1_500), bps(each, 9_900)));
    near(gained(before.0, treasury(&w, 0)), bps(each, 400));
    assert_eq!(treasury(&w, 1), before.1);
}

#[test]
fn a_treasury_is_spent_within_the_epochs_bound() {
    let mut params = params();
    params.registry.treasury_spend_bps = 2_500;
    let (mut w, model) = with_domain(params, creators(0));
    earn(&mut w, model, 1, dn(10));
    let held = pool(&w, Pool::Domain { domain: 1 });
    assert_eq!(held, bps(dn(10), 400));
    let epoch_of = |w: &World| w.chain.next_context(0).epoch();
    // From the beginning of an epoch, so that all of this is in one.
    w.blocks(1);
    while !(w.height() + 1).is_multiple_of(w.genesis.params.epoch_blocks) {
        w.block(&[]);
    }
    let (to, limit, epoch) = (address("v3"), bps(held, 2_500), epoch_of(&w));
    let spend = |amount| Payload::SpendTreasury { domain: 1, to, amount };
    let one = Amount::from_atto(1);
    let over = |spent, amount| RegistryReject::SpendLimit { domain: 1, epoch, limit, spent, amount };
    let more = plus(limit, one);
    assert_eq!(refused(&w, "stranger", spend(more)), over(Amount::ZERO, more));
    let before = w.balance("v3");
    let half = bps(limit, 5_000);
    let events = w.ok("stranger", spend(half));
    assert!(events.contains(&Event::TreasurySpent { domain: 1, to, amount: half }));
    assert_eq!(gained(before, w.balance("v3")), half);
    assert_eq!(query::domain(w.state(), 1, epoch).unwrap().spendable, limit.checked_sub(half).unwrap());
    let rest = limit.checked_sub(half).unwrap();
    assert_eq!(refused(&w, "stranger", spend(plus(rest, one))), over(half, plus(rest, one)));
    w.ok("stranger", spend(rest));
    assert_eq!(refused(&w, "stranger", spend(one)), over(limit, one));
    w.blocks(w.genesis.params.epoch_blocks);
    // A new epoch, of what is left.
    let left = held.checked_sub(limit).unwrap();
    assert_eq!(query::domain(w.state(), 1, epoch_of(&w)).unwrap().spendable, bps(left, 2_500));
    w.ok("stranger", spend(bps(left, 2_500)));
}

/// A stranger's model keeps a domain, and its deposit, from closing: whoever wants to close it lets no strangers in.
#[test]
fn a_domain_may_take_its_owners_models_alone() {
    let (mut w, model) = with_domain(params(), DomainTerms::default());
    let epoch_blocks = w.genesis.params.epoch_blocks;
    let epoch_now = |w: &World| w.height() / epoch_blocks;
    let plain = |tag, domain| {
        let (manifest, name) = (manifest(tag), "m".into());
        Payload::PublishModel { manifest, name, price: price(), domain, salt: None }
    };
    while !(w.height() + 3).is_multiple_of(epoch_blocks) {
        w.block(&[]);
    }
    let closed_to_others = DomainTerms { admission: Admission::Owner, ..DomainTerms::default() };
    // From the next epoch on, like other terms.
    w.ok("stranger", Payload::ConfigureDomain { domain: 1, terms: closed_to_others });
    w.ok("owner", plain(59, 1));
    assert!((w.height() + 1).is_multiple_of(epoch_blocks));
    assert_eq!(query::domain(w.state(), 1, epoch_now(&w)).unwrap().terms.admission, Admission::Open);
    w.block(&[]);
    assert_eq!(query::domain(w.state(), 1, epoch_now(&w)).unwrap().terms.admission, Admission::Owner);
    let owner = Some(address("stranger"));
    let why = RegistryReject::NotAdmitted { domain: 1, owner };
    assert_eq!(refused(&w, "owner", plain(60, 1)), why);
    let next = NewVersion { domain: 1, family: Some(model), ..version(61) };
    assert_eq!(refused(&w, "owner", Payload::PublishVersion { version: next }), why);
    w.ok("owner", plain(60, 0));
    w.ok("stranger", model_owner());
    w.ok("stranger", plain(62, 1));
    w.ok("stranger", Payload::RetireModel { model: manifest(62).id() });
    // What is in it stays and works until its owner takes it back.
    earn(&mut w, model, 1, dn(10));
    w.ok("owner", Payload::RetireModel { model });
    w.ok("owner", Payload::RetireModel { model: manifest(59).id() });
    w.ok("stranger", Payload::CloseDomain { domain: 1 });
    // From the start, too; and whom the domain goes to is who may publish.
    let events = w.ok("stranger", create("mine", closed_to_others));
    let domain = events.iter().find_map(|e| match e {
        Event::DomainCreated { domain, .. } => Some(*domain),
        _ => None,
    });
    let domain = domain.unwrap();
    assert_eq!(refused(&w, "owner", plain(63, domain)), RegistryReject::NotAdmitted { domain, owner });
    w.ok("stranger", Payload::TransferDomain { domain, to: address("owner") });
    w.ok("owner", plain(63, domain));
    let owner = Some(address("owner"));
    assert_eq!(refused(&w, "stranger", plain(64, domain)), RegistryReject::NotAdmitted { domain, owner });
}

#[test]
fn a_domain_without_models_closes() {
    let (mut w, model) = with_domain(params(), DomainTerms::default());
    earn(&mut w, model, 1, dn(10));
    let close = Payload::CloseDomain { domain: 1 };
    let why = refused(&w, "stranger", close.clone());
    assert_eq!(why, RegistryReject::DomainInUse { domain: 1, models: 1 });
    w.ok("owner", Payload::RetireModel { model });
    let (before, community) = (w.balance("stranger"), pool(&w, Pool::Community));
    let treasury = pool(&w, Pool::Domain { domain: 1 });
    let deposit = w.genesis.params.registry.domain_deposit;
    let events = w.ok("stranger", close.clone());
    assert!(events.contains(&Event::DomainClosed { domain: 1, deposit, treasury }));
    let fee = w.genesis.params.min_tx_fee;
    assert_eq!(w.balance("stranger"), plus(before, deposit).checked_sub(fee).unwrap());
    assert!(pool(&w, Pool::Community) >= plus(community, treasury) || events.len() > 4);
    assert_eq!(pool(&w, Pool::Domain { domain: 1 }), Amount::ZERO);
    let height = w.height();
    let closed = RegistryReject::DomainClosed { domain: 1, height };
    assert_eq!(refused(&w, "stranger", close), closed);
    let plain = |domain| Payload::PublishModel {
        manifest: manifest(8),
        name: "m".into(),
        price: price(),
        domain,
        salt: None,
    };
    assert_eq!(refused(&w, "owner", plain(1)), closed);
    // Batches of the retired model within its grace time: what would be the treasury's is the community's.
    let events = earn(&mut w, model, 1, dn(10));
    assert!(events.iter().any(
        |e| matches!(e, Event::BatchSettled { to_treasuries, .. } if *to_treasuries == bps(dn(10), 400))
    ));
    w.blocks(w.genesis.params.epoch_blocks);
    assert_eq!(pool(&w, Pool::Domain { domain: 1 }), Amount::ZERO);
    // The name is free, the id is not.
    w.ok("payer", create("code", DomainTerms::default()));
    let view = query::domain(w.state(), 2, 0).unwrap();
    assert_eq!((view.name.as_str(), view.owner), ("code", Some(address("payer"))));
    assert_ne!(view.owner, Some(Address::ZERO));
}
