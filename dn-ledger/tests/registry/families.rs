use dn_core::objects::Price;
use dn_core::{Amount, ModelId};
use dn_ledger::events::Event;
use dn_ledger::reject::{Field, ManifestFault, RegistryReject, Reject};
use dn_ledger::state::{FAMILIES, MODELS};
use dn_ledger::tx::{BackingTerms, Licence, NewVersion, Parent};
use dn_ledger::{Payload, Role, query};
use dn_powr::FeeMove;

use crate::common::{World, address, dn, manifest, offer, params, price};
use crate::{bps, earn, gained, model_owner, plus, publish, refused, unpublished, version};

fn registry(why: RegistryReject) -> Reject {
    Reject::Registry(why)
}

fn derived(tag: u8, parents: &[(ModelId, u16)]) -> NewVersion {
    let mut parents: Vec<_> =
        parents.iter().map(|(model, share_bps)| Parent { model: *model, share_bps: *share_bps }).collect();
    parents.sort_by_key(|parent| parent.model);
    NewVersion { parents, ..version(tag) }
}

#[test]
fn versions_join_their_family() {
    let mut w = World::ready();
    let first = publish(&mut w, "owner", version(20));
    let next = |tag| NewVersion { family: Some(first), ..version(tag) };
    let second = publish(&mut w, "owner", next(21));
    let view = query::family(w.state(), first).unwrap();
    assert_eq!((view.versions, view.owner), (vec![first, second], address("owner")));
    assert_eq!(query::model_terms(w.state(), second).unwrap().version, 1);
    // A model published without terms is a family as well.
    let plain = w.model;
    let third = publish(&mut w, "owner", NewVersion { family: Some(plain), ..version(22) });
    assert_eq!(query::model_terms(w.state(), third).unwrap().family, plain);
    // Old versions stay until they are retired, each by itself.
    w.ok("owner", Payload::RetireModel { model: first });
    w.ok("worker", offer(second));
    assert!(matches!(w.reject("worker", offer(first)), Reject::ModelRetired { .. }));

    let owner = address("owner");
    w.ok("stranger", model_owner());
    assert_eq!(unpublished(&w, "stranger", next(23)), Reject::NotOwner { model: first, owner });
    let unknown = ModelId([9; 32]);
    let lost = NewVersion { family: Some(unknown), ..version(23) };
    assert_eq!(unpublished(&w, "owner", lost), Reject::UnknownModel { model: unknown });
    let inner = NewVersion { family: Some(second), ..version(23) };
    let why = RegistryReject::NotFamily { model: second, family: first };
    assert_eq!(unpublished(&w, "owner", inner), registry(why));
    let backing = Some(BackingTerms { share_bps: 100, cap: dn(10) });
    let late = NewVersion { backing, ..next(23) };
    assert_eq!(unpublished(&w, "owner", late), registry(RegistryReject::BackingFixed { family: first }));
    assert_eq!(unpublished(&w, "owner", next(21)), Reject::ModelExists { model: second, owner });
    let role = Role::ModelOwner;
    assert_eq!(
        unpublished(&w, "payer", version(24)),
        Reject::UnknownIdentity { address: address("payer"), role }
    );
    assert_eq!(
        unpublished(&w, "owner", NewVersion { domain: 7, ..version(24) }),
        Reject::UnknownDomain { domains: 1, found: 7 }
    );
    let dear = NewVersion { price: Price { prompt_token: dn(2), ..price() }, ..version(24) };
    assert!(matches!(unpublished(&w, "owner", dear), Reject::PriceTooHigh { .. }));
    let mut broken = version(24);
    broken.manifest.block = 0;
    assert_eq!(unpublished(&w, "owner", broken), Reject::Manifest { what: ManifestFault::ZeroSize });
}

#[test]
fn families_are_bounded() {
    let mut params = params();
    params.registry.max_versions = 2;
    let mut w = World::with(params);
    w.prepare();
    let family = publish(&mut w, "owner", version(20));
    let next = |tag| NewVersion { family: Some(family), ..version(tag) };
    publish(&mut w, "owner", next(21));
    let why = RegistryReject::FamilyFull { family, limit: 2 };
    assert_eq!(unpublished(&w, "owner", next(22)), registry(why));
}

#[test]
fn licences_bind_those_who_derive() {
    let mut w = World::ready();
    for name in ["stranger", "payer"] {
        w.ok(name, model_owner());
    }
    let licence = |change: &dyn Fn(&mut Licence)| {
        let mut new = version(30);
        change(&mut new.licence);
        new
    };
    let size = |found| Reject::Size { field: Field::Licence, min: 1, max: 64, found };
    assert_eq!(unpublished(&w, "owner", licence(&|l| l.id.clear())), size(0));
    assert_eq!(unpublished(&w, "owner", licence(&|l| l.id = "x".repeat(65))), size(65));
    assert_eq!(
        unpublished(&w, "owner", licence(&|l| l.id = "a\tb".into())),
        Reject::ControlCharacter { field: Field::Licence, at: 1 }
    );
    let limit = w.genesis.params.registry.max_royalty_bps;
    let greedy = registry(RegistryReject::RoyaltyTooHigh { limit, found: u32::from(limit) + 1 });
    assert_eq!(unpublished(&w, "owner", licence(&|l| l.royalty_bps = limit + 1)), greedy);

    let open = publish(&mut w, "owner", version(30));
    let second = publish(&mut w, "owner", version(33));
    let mut closed = version(31);
    closed.licence.derivatives = false;
    let closed = publish(&mut w, "owner", closed);
    let mut free = version(32);
    free.licence.commercial = false;
    let free = publish(&mut w, "owner", free);
    let by = |name: &str, new| unpublished(&w, name, new);
    let low = RegistryReject::RoyaltyTooLow { model: open, demanded: 500, granted: 499 };
    assert_eq!(by("stranger", derived(40, &[(open, 499)])), registry(low));
    let no = RegistryReject::NoDerivatives { model: closed };
    assert_eq!(by("stranger", derived(40, &[(closed, 5_000)])), registry(no));
    let no = RegistryReject::NotCommercial { model: free };
    assert_eq!(by("stranger", derived(40, &[(free, 500)])), registry(no));
    // Models published without terms license nothing.
    let plain = w.model;
    let no = RegistryReject::NoDerivatives { model: plain };
    assert_eq!(by("stranger", derived(40, &[(plain, 5_000)])), registry(no));
    // Royalties do not stack beyond the bound, however many parents demand them.
    let sum = RegistryReject::RoyaltyTooHigh { limit, found: 5_001 };
    assert_eq!(by("stranger", derived(40, &[(open, 4_501), (second, 500)])), registry(sum));
    // Lists.
    let mut twice = derived(40, &[(open, 500)]);
    twice.parents.push(twice.parents[0]);
    let why = RegistryReject::ParentsUnsorted { model: open };
    assert_eq!(by("stranger", twice), registry(why));
    let many: Vec<_> = (0..5u8).map(|n| (ModelId([n; 32]), 0)).collect();
    let size = Reject::Size { field: Field::Parents, min: 0, max: 4, found: 5 };
    assert_eq!(by("stranger", derived(40, &many)), size);
    // A model cannot derive from itself, nor from what does not exist yet: lineage has no cycles.
    let own = manifest(40).id();
    assert_eq!(by("stranger", derived(40, &[(own, 0)])), Reject::UnknownModel { model: own });

    // The owner needs no licence of his own; others do what the licence asks.
    publish(&mut w, "owner", derived(41, &[(closed, 0), (free, 0)]));
    let mut shared = derived(42, &[(open, 500), (free, 600)]);
    shared.licence.commercial = false;
    publish(&mut w, "stranger", shared);
    // A retired parent still licenses.
    w.ok("owner", Payload::RetireModel { model: open });
    publish(&mut w, "payer", derived(43, &[(open, 500)]));
}

#[test]
fn lineage_is_bounded_in_depth_and_payees() {
    let mut params = params();
    params.registry.max_royalty_payees = 3;
    let mut w = World::with(params);
    w.prepare();
    let mut parent = publish(&mut w, "owner", version(50));
    // Without royalties nobody is paid, but generations count.
    for n in 0..8 {
        parent = publish(&mut w, "owner", derived(51 + n, &[(parent, 0)]));
    }
    let why = RegistryReject::LineageDepth { limit: 8, found: 9 };
    assert_eq!(unpublished(&w, "owner", derived(60, &[(parent, 0)])), registry(why));
    let roots: Vec<_> = (0..4).map(|n| publish(&mut w, "owner", version(70 + n))).collect();
    let of = |n: usize| roots[..n].iter().map(|model| (*model, 500)).collect::<Vec<_>>();
    let three = publish(&mut w, "owner", derived(80, &of(3)));
    let why = RegistryReject::LineagePayees { limit: 3, found: 4 };
    assert_eq!(unpublished(&w, "owner", derived(81, &of(4))), registry(why.clone()));
    assert_eq!(unpublished(&w, "owner", derived(81, &[(three, 100)])), registry(why));
}

#[test]
fn ancestors_are_paid_and_ownership_takes_the_income_along() {
    let mut w = World::ready();
    for name in ["stranger", "payer", "v3"] {
        w.ok(name, model_owner());
    }
    let root = publish(&mut w, "stranger", version(30));
    let middle = publish(&mut w, "payer", derived(31, &[(root, 2_000)]));
    let leaf = publish(&mut w, "owner", derived(32, &[(root, 500), (middle, 1_000)]));
    w.ok("worker", offer(leaf));
    w.ok("stranger", Payload::RetireModel { model: root });
    let all = ["stranger", "payer", "owner", "v3"];
    let before = all.map(|name| w.balance(name));
    let events = earn(&mut w, leaf, 0, dn(10));
    // 2 DN for the owner: 5 % and a fifth of 10 % to the root, four fifths of 10 % to the middle.
    let expected = [bps(dn(2), 700), bps(dn(2), 800), bps(dn(2), 8_500), Amount::ZERO];
    let royalty = |ancestor, amount| Event::RoyaltyPaid { model: leaf, ancestor, amount };
    assert!(events.contains(&royalty(root, expected[0])) && events.contains(&royalty(middle, expected[1])));
    let emitted = |name: &str| {
        events.iter().fold(Amount::ZERO, |sum, e| match e {
            Event::EmissionPaid { address: a, amount, .. } if *a == address(name) => plus(sum, *amount),
            _ => sum,
        })
    };
    for ((name, before), expected) in all.iter().zip(before).zip(expected) {
        if *name == "v3" {
            continue; // pays for its audits
        }
        assert_eq!(gained(before, w.balance(name)), plus(expected, emitted(name)), "{name}");
    }
    assert!(events.iter().any(|e| matches!(e, Event::BatchSettled { to_owners, .. } if *to_owners == dn(2))));

    // The family changes hands, with all its versions.
    let second = publish(&mut w, "stranger", NewVersion { family: Some(root), ..version(33) });
    let transfer = |to: &str| Payload::TransferModel { family: root, to: address(to) };
    let owner = address("stranger");
    assert_eq!(w.reject("payer", transfer("payer")), Reject::NotOwner { model: root, owner });
    let unknown = Reject::UnknownIdentity { address: address("gateway"), role: Role::ModelOwner };
    assert_eq!(w.reject("stranger", transfer("gateway")), unknown);
    let why = RegistryReject::NotFamily { model: second, family: root };
    let inner = Payload::TransferModel { family: second, to: address("payer") };
    assert_eq!(refused(&w, "stranger", inner), why);
    let (from, to) = (owner, address("payer"));
    let events = w.ok("stranger", transfer("payer"));
    assert!(events.contains(&Event::ModelTransferred { family: root, from, to }));
    assert_eq!(MODELS.get(w.state(), &root).unwrap().owner, to);
    assert_eq!(MODELS.get(w.state(), &second).unwrap().owner, to);
    assert_eq!(FAMILIES.get(w.state(), &root).unwrap().owner, to);
    let before = (w.balance("stranger"), w.balance("payer"));
    earn(&mut w, leaf, 0, dn(10));
    assert_eq!(w.balance("stranger"), before.0);
    assert!(gained(before.1, w.balance("payer")) >= bps(dn(2), 1_500));
}

#[test]
fn a_models_own_split_holds_within_bounds_and_above_its_domains() {
    let mut w = World::ready();
    let own = |fees| NewVersion { fees: Some(fees), ..version(30) };
    let to = FeeMove { worker: 5_000, owner: 3_500, validators: 800, domain: 400 };
    let bounds = |share: &str, found, min, max| {
        registry(RegistryReject::ShareBounds { share: share.into(), found, min, max })
    };
    let greedy = FeeMove { worker: 4_999, owner: 3_501, ..to };
    assert_eq!(unpublished(&w, "owner", own(greedy)), bounds("worker", 4_999, 5_000, 8_500));
    let sum = registry(RegistryReject::ShareSum { found: 10_001 });
    assert_eq!(unpublished(&w, "owner", own(FeeMove { worker: 5_001, ..to })), sum);
    // Within bounds, but at the validators' or the treasury's cost.
    let under = |share: &str, minimum, found| {
        registry(RegistryReject::ShareUnderDomain { share: share.into(), minimum, found })
    };
    let less = FeeMove { worker: 5_300, validators: 500, ..to };
    assert_eq!(unpublished(&w, "owner", own(less)), under("validators", 800, 500));
    let less = FeeMove { worker: 5_400, domain: 0, ..to };
    assert_eq!(unpublished(&w, "owner", own(less)), under("domain", 400, 0));
    let lost = NewVersion { domain: 3, ..own(to) };
    assert_eq!(unpublished(&w, "owner", lost), Reject::UnknownDomain { domains: 1, found: 3 });

    let model = publish(&mut w, "owner", own(to));
    w.ok("worker", offer(model));
    let events = earn(&mut w, model, 0, dn(10));
    let settled = events.iter().find_map(|e| match e {
        Event::BatchSettled { to_worker, to_owners, to_validators, to_treasuries, .. } => {
            Some([*to_worker, *to_owners, *to_validators, *to_treasuries])
        }
        _ => None,
    });
    assert_eq!(settled, Some([5_000, 3_500, 800, 400].map(|part| bps(dn(10), part))));
}
