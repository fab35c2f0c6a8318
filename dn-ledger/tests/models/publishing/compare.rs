//! Everything that can be seen of the registry, in the ledger and in the specification; and everything that has to be met for that to be worth something.

use std::collections::BTreeMap;

use dn_core::ModelId;
use dn_ledger::Role;
use dn_ledger::state::{
    ACCOUNTS, BACKING_POOLS, BACKING_RELEASES, BACKING_SHARES, BATCHES, BatchStatus, DOMAIN_COUNT,
    DOMAIN_NAMES, DOMAINS, DUE_COMMITMENTS, FAMILIES, FAMILY_VERSIONS, IDENTITIES, IN_ROLE, LANES,
    MODEL_COMMITMENTS, MODEL_TERMS, MODELS, OFFERS, POOLS, ROLE_COUNTS,
};

use super::publishing::Both;
use super::publishing_spec::{Family, Identity, Offer};

impl Both {
    pub(super) fn compare(&self) {
        self.compare_books();
        self.compare_domains();
        self.compare_models();
        self.compare_backing();
    }

    fn compare_books(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let all = ACCOUNTS.iter(state).map(|(who, account)| (who, account.balance.atto()));
        let all: BTreeMap<_, _> = all.filter(|(_, amount)| *amount > 0).collect();
        let mut expected = spec.balances.clone();
        expected.retain(|_, amount| *amount > 0);
        assert_eq!(all, expected, "balances");
        let all = POOLS.iter(state).map(|(pool, amount)| (pool, amount.atto()));
        let all: BTreeMap<_, _> = all.filter(|(_, amount)| *amount > 0).collect();
        let mut expected = spec.pools.clone();
        expected.retain(|_, amount| *amount > 0);
        assert_eq!(all, expected, "pools");
        let all = IDENTITIES.iter(state).map(|((role, who), i)| {
            let open = if role == Role::Worker { spec.open_batches(who) } else { 0 };
            assert_eq!(i.open_batches, open, "open batches of {who}");
            let (name, endpoint, since) = (i.name, i.endpoint, i.registered_height);
            let (collateral, status) = (i.collateral.atto(), i.status);
            ((role, who), Identity { name, endpoint, collateral, status, since })
        });
        assert_eq!(all.collect::<BTreeMap<_, _>>(), spec.identities, "identities");
        for role in Role::ALL {
            let of_role = spec.identities.iter().filter(|((of, _), _)| *of == role);
            let inside = of_role.filter(|(_, i)| i.status.release_epoch().is_none()).map(|(key, _)| *key);
            let inside: Vec<_> = inside.collect();
            assert_eq!(ROLE_COUNTS.get_or_default(state, &role) as usize, inside.len(), "{role}");
            assert_eq!(IN_ROLE.iter_from(state, &role).map(|(key, _)| key).collect::<Vec<_>>(), inside);
        }
        let lanes: BTreeMap<_, _> = LANES.iter(state).map(|((_, lane), fees)| (lane, fees.atto())).collect();
        assert_eq!(lanes, spec.channel.lanes, "what was claimed");
        for (id, batch) in BATCHES.iter(state) {
            let settled = batch.status == BatchStatus::Settled;
            assert_eq!(settled, spec.batches[&id].settled, "{id}: {:?}", batch.status);
        }
        let held = BATCHES.iter(state).filter(|(_, batch)| batch.status != BatchStatus::Settled).count();
        assert_eq!(held, spec.batches.values().filter(|batch| !batch.settled).count(), "open batches");
    }

    fn compare_domains(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let epoch = spec.epoch();
        let mut open = BTreeMap::new();
        for (id, held) in (0u32..).zip(&spec.domains) {
            let domain = DOMAINS.get(state, &id).unwrap();
            let used = spec.models.values().filter(|m| m.domain == id && m.retired.is_none()).count();
            assert_eq!(domain.models as usize, used, "models of domain {id}");
            let expected = (held.owner, &held.name, held.deposit, held.closed, held.terms, held.next);
            let (now, then) = (domain.terms_in(epoch), domain.terms_in(epoch + 1));
            let found = (domain.owner, &domain.name, domain.deposit.atto(), domain.closed_height, now, then);
            assert_eq!(found, expected, "domain {id}");
            if held.closed.is_none() {
                open.insert(held.name.as_str(), id);
            }
        }
        let count = DOMAIN_COUNT.get_or_default(state, &0);
        assert_eq!((count.created as usize, count.open as usize), (spec.domains.len(), open.len()));
        let mut names: Vec<_> = DOMAIN_NAMES.iter(state).map(|(_, id)| id).collect();
        names.sort_unstable();
        let mut expected: Vec<_> = open.into_values().collect();
        expected.sort_unstable();
        assert_eq!(names, expected, "names of open domains");
    }

    fn compare_models(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        assert_eq!(MODELS.iter(state).count(), spec.models.len(), "models");
        for (id, held) in &spec.models {
            let model = MODELS.get(state, id).unwrap();
            let found = (model.owner, &model.name, model.price, model.domain, model.published_height);
            assert_eq!(found, (held.owner, &held.name, held.price, held.domain, held.published), "{id}");
            assert_eq!((model.retired_height, &model.manifest), (held.retired, &held.manifest), "{id}");
            let terms = MODEL_TERMS.get(state, id).unwrap();
            let found = (&terms.licence, &terms.parents, terms.fees, terms.depth);
            assert_eq!(found, (&held.licence, &held.parents, held.fees, held.depth), "terms of {id}");
            let royalties: BTreeMap<_, _> = terms.royalties.iter().map(|r| (r.model, r.share)).collect();
            assert_eq!((royalties.len(), &royalties), (terms.royalties.len(), &held.royalties), "of {id}");
            let version = spec.families[&held.family].versions.iter().position(|model| model == id);
            assert_eq!((terms.family, Some(terms.version as usize)), (held.family, version), "{id}");
        }
        let families = FAMILIES.iter(state).map(|(id, f)| {
            let versions = FAMILY_VERSIONS.iter_from(state, &id).map(|(_, model)| model).collect::<Vec<_>>();
            assert_eq!(f.versions as usize, versions.len(), "versions of {id}");
            (id, Family { owner: f.owner, versions, backing: f.backing })
        });
        assert_eq!(families.collect::<BTreeMap<_, _>>(), spec.families, "families");
        let offers = OFFERS.iter(state).map(|(key, o)| {
            let (since, until, price) = (o.since_height, o.until_height, o.price);
            (key, Offer { since, until, price })
        });
        assert_eq!(offers.collect::<BTreeMap<_, _>>(), spec.offers, "offers");
        let made: BTreeMap<_, _> = MODEL_COMMITMENTS.iter(state).map(|(key, c)| (key, c.height)).collect();
        assert_eq!(made, spec.commitments, "commitments");
        for ((until, owner, commitment), _) in DUE_COMMITMENTS.iter(state) {
            assert_eq!(until, spec.usable_until(spec.commitments[&(owner, commitment)]));
        }
        assert_eq!(DUE_COMMITMENTS.iter(state).count(), spec.commitments.len());
    }

    fn compare_backing(&self) {
        let (state, spec) = (&self.m.state, &self.spec);
        let pools = BACKING_POOLS.iter(state).map(|(family, p)| (family, (p.tokens().atto(), p.shares())));
        let expected = spec.backers.iter().map(|(family, p)| (*family, (p.tokens, p.all_shares())));
        assert_eq!(pools.collect::<BTreeMap<_, _>>(), expected.collect(), "backers' pools");
        let shares = BACKING_SHARES.iter(state).map(|((who, family), shares)| ((family, who), shares.0));
        let own =
            |family: ModelId| spec.backers[&family].shares.iter().map(move |(who, s)| ((family, *who), *s));
        let expected = spec.backers.keys().flat_map(|family| own(*family));
        assert_eq!(shares.collect::<BTreeMap<_, _>>(), expected.collect(), "backers' shares");
        let free = BACKING_RELEASES.iter(state).map(|(key, amount)| (key, amount.atto()));
        assert_eq!(free.collect::<BTreeMap<_, _>>(), spec.releases, "backing on its way back");
    }
}

/// Why something is refused; what only corners meet is left to them.
pub(super) const REASONS: &[&str] = &[
    "a line without fees",
    "an expense of nothing",
    "backers' share",
    "batches are open",
    "committed already",
    "domains are full",
    "fees out of bounds",
    "in the role already",
    "it asks for too much",
    "it takes no backing",
    "left the role",
    "left, and its collateral is still there",
    "less than its domain leaves others",
    "less than the licence asks for",
    "more than an epoch's expenses",
    "no active model owner",
    "no active worker",
    "no commercial derivatives",
    "no commitment",
    "no derivatives",
    "no licence",
    "no name of a domain",
    "no name or endpoint",
    "no room for a backer",
    "no salt",
    "no such domain",
    "no such family",
    "no such model",
    "no such offer",
    "no such shares",
    "nobody could run it",
    "nobody in the role",
    "not enough DN",
    "nothing changes",
    "nothing is free",
    "offered at these prices",
    "over the cap",
    "parents out of order",
    "published already",
    "retired for too long",
    "somebody else's domain",
    "somebody else's family",
    "somebody else's model",
    "taken back for too long",
    "the channel is empty",
    "the commitment is too young",
    "the domain has models",
    "the domain is closed",
    "the domain takes its owner's models alone",
    "the family is full",
    "the gateway's bond is free",
    "the model is retired",
    "the name is taken",
    "the offer is taken back",
    "the price is too high",
    "the role is full",
    "too little backing",
    "too little collateral",
    "too little stays",
    "too many ancestors to pay",
    "too many parents",
    "weights do not add up",
    "weights out of bounds",
    "what backers get is fixed",
];

/// What happens besides.
pub(super) const HAPPENS: &[&str] = &[
    "a batch in the grace time",
    "a bonded gateway's word",
    "a retired ancestor earns",
    "a retired parent licenses",
    "back from a suspension",
    "back in the role",
    "backers earn",
    "backers_rewarded",
    "backing comes back",
    "batch_settled",
    "domain_closed",
    "model_commitment_expired",
    "royalty_paid",
    "the last backer leaves",
    "three generations",
    "treasury_spent",
];
