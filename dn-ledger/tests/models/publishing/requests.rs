//! What is tried against the registry and its specification: requests about what exists, most of them nearly right.

use dn_core::objects::Price;
use dn_core::{Address, Amount, ModelId};
use dn_ledger::tx::Shares;
use dn_ledger::{Payload, Role};
use proptest::prelude::*;

use super::publishing::{Both, WHO, address_of};
use super::publishing_offers::terms;
use crate::common::{dn, price};

/// One thing that somebody tries; the numbers choose among what exists. A `who` beyond the people is whoever has the right.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Register {
        who: usize,
        role: usize,
        dn: u8,
        spoil: u8,
    },
    Update {
        who: usize,
        role: usize,
        what: u8,
    },
    Retire {
        who: usize,
        role: usize,
    },
    Withdraw {
        who: usize,
    },
    /// What a slash leaves, made by hand.
    Cut {
        n: u8,
    },
    Commit {
        who: usize,
        tag: u8,
    },
    Publish {
        who: usize,
        tag: u8,
        plain: bool,
        domain: u8,
        spoil: u8,
        terms: Terms,
    },
    Price {
        who: usize,
        model: u8,
        price: u8,
    },
    RetireModel {
        who: usize,
        model: u8,
    },
    HandOn {
        who: usize,
        family: u8,
        to: usize,
    },
    Offer {
        who: usize,
        model: u8,
        price: u8,
    },
    Unoffer {
        who: usize,
        model: u8,
    },
    Back {
        who: usize,
        family: u8,
        dn: u8,
    },
    Unback {
        who: usize,
        family: u8,
        part: u8,
    },
    Create {
        who: usize,
        name: u8,
        preset: u8,
    },
    Configure {
        who: usize,
        domain: u8,
        preset: u8,
    },
    GiveDomain {
        who: usize,
        domain: u8,
        to: usize,
    },
    Spend {
        who: usize,
        domain: u8,
        part: u8,
    },
    CloseDomain {
        who: usize,
        domain: u8,
    },
    Post {
        worker: usize,
        lines: Vec<(u8, u16)>,
        spoil: u8,
    },
    /// A vote that moves bounds, with its effect at once.
    Govern {
        narrow: bool,
    },
    Blocks {
        count: u8,
    },
    /// To the last block of the oldest commitment, or to the one after.
    Jump {
        after: bool,
    },
}

/// What a version is published under.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) family: u8,
    pub(super) licence: u8,
    pub(super) parents: Vec<(u8, u16)>,
    pub(super) fees: u8,
    pub(super) backing: u8,
}

fn publish() -> impl Strategy<Value = Op> {
    let parents = prop::collection::vec((any::<u8>(), 0u16..1_600), 0..6);
    let terms =
        (0u8..9, 0u8..30, parents, 0u8..20, 0u8..16).prop_map(|(family, licence, parents, fees, backing)| {
            Terms { family, licence, parents, fees, backing }
        });
    (0usize..40, any::<u8>(), 0u8..8, 0u8..16, 0u8..110, terms).prop_map(
        |(who, tag, plain, domain, spoil, terms)| Op::Publish {
            who,
            tag,
            plain: plain == 0,
            domain,
            spoil,
            terms,
        },
    )
}

pub(super) fn ops() -> impl Strategy<Value = Op> {
    let (who, any8, role) = (|| 0usize..18, any::<u8>, || 0usize..3);
    let lines = prop::collection::vec((any8(), 0u16..1_200), 1..4);
    prop_oneof![
        4 => (who(), role(), any8(), 0u8..16)
            .prop_map(|(who, role, dn, spoil)| Op::Register { who, role, dn, spoil }),
        2 => (who(), role(), 0u8..10).prop_map(|(who, role, what)| Op::Update { who, role, what }),
        2 => (who(), role()).prop_map(|(who, role)| Op::Retire { who, role }),
        3 => (0usize..18).prop_map(|who| Op::Withdraw { who }),
        2 => any8().prop_map(|n| Op::Cut { n }),
        5 => (0usize..24, any8()).prop_map(|(who, tag)| Op::Commit { who, tag }),
        14 => publish(),
        1 => (who(), any8(), 0u8..8).prop_map(|(who, model, price)| Op::Price { who, model, price }),
        2 => (0usize..30, any8()).prop_map(|(who, model)| Op::RetireModel { who, model }),
        1 => (0usize..30, any8(), 0usize..6).prop_map(|(who, family, to)| Op::HandOn { who, family, to }),
        8 => (who(), any8(), 0u8..10).prop_map(|(who, model, price)| Op::Offer { who, model, price }),
        2 => (who(), any8()).prop_map(|(who, model)| Op::Unoffer { who, model }),
        5 => (0usize..6, any8(), 0u8..50).prop_map(|(who, family, dn)| Op::Back { who, family, dn }),
        3 => (0usize..30, any8(), 0u8..10).prop_map(|(who, family, part)| Op::Unback { who, family, part }),
        2 => (0usize..6, 0u8..20, 0u8..16).prop_map(|(who, name, preset)| Op::Create { who, name, preset }),
        2 => (0usize..30, 0u8..11, 0u8..16)
            .prop_map(|(who, domain, preset)| Op::Configure { who, domain, preset }),
        1 => (0usize..30, 0u8..11, 0usize..6).prop_map(|(who, domain, to)| Op::GiveDomain { who, domain, to }),
        3 => (0usize..30, 0u8..11, 0u8..12).prop_map(|(who, domain, part)| Op::Spend { who, domain, part }),
        2 => (0usize..30, 0u8..11).prop_map(|(who, domain)| Op::CloseDomain { who, domain }),
        14 => (0usize..2, lines, 0u8..16)
            .prop_map(|(worker, lines, spoil)| Op::Post { worker, lines, spoil }),
        2 => any::<bool>().prop_map(|narrow| Op::Govern { narrow }),
        9 => (1u8..5).prop_map(|count| Op::Blocks { count }),
        1 => any::<bool>().prop_map(|after| Op::Jump { after }),
    ]
}

pub(super) fn asked(preset: u8) -> Price {
    let atto = |atto| Price { output_token: Amount::from_atto(atto), ..price() };
    if preset == 0 { atto(dn(1).atto() + 1) } else { atto(u128::from(preset) * 1_000_000_000_000) }
}

/// The `n`-th of what exists.
pub(super) fn nth<T: Copy>(all: &[T], n: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(n) % all.len()])
}

impl Both {
    pub(super) fn name_of(who: Option<Address>) -> Option<&'static str> {
        WHO.into_iter().find(|name| Some(address_of(name)) == who)
    }

    /// Somebody, or who has the right.
    fn by(who: usize, right: Option<Address>) -> &'static str {
        WHO.get(who).copied().or(Self::name_of(right)).unwrap_or("payer")
    }

    /// The newest first: so it is with models that there is the most to say of.
    pub(super) fn model(&self, n: u8) -> ModelId {
        let mut all: Vec<_> = self.spec.models.iter().map(|(id, model)| (model.published, *id)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        // Seldom one that is not there.
        if n >= 250 { ModelId([7; 32]) } else { nth(&all, n % 9).map_or(ModelId([7; 32]), |(_, id)| id) }
    }

    fn owner_of(&self, model: ModelId) -> Option<Address> {
        self.spec.models.get(&model).map(|held| held.owner)
    }

    /// A family, seldom a version that starts none.
    pub(super) fn family(&self, n: u8) -> ModelId {
        let all: Vec<_> = self.spec.families.keys().copied().collect();
        if n >= 240 { self.model(n) } else { nth(&all, n).unwrap_or(ModelId([7; 32])) }
    }

    pub(super) fn ask(&self, op: &Op) -> (&'static str, Payload) {
        match op {
            Op::Offer { who, model, price } => {
                let who = if *who < 3 { WHO[*who] } else { ["worker", "worker2"][who % 2] };
                (who, Payload::Offer { model: self.model(*model), price: asked(*price) })
            }
            Op::Unoffer { who, model } => {
                let all: Vec<_> = self.spec.offers.keys().copied().collect();
                let (model, worker) = nth(&all, *model).unwrap_or((self.model(*model), Address::ZERO));
                (Self::by(*who, Some(worker)), Payload::Unoffer { model })
            }
            Op::Commit { .. } => self.ask_commit(op),
            Op::Publish { .. } => self.ask_publish(op),
            Op::Price { who, model, price } => {
                let model = self.model(*model);
                (Self::by(*who, self.owner_of(model)), Payload::SetModelPrice { model, price: asked(*price) })
            }
            Op::RetireModel { who, model } => {
                let model = self.model(*model);
                (Self::by(*who, self.owner_of(model)), Payload::RetireModel { model })
            }
            Op::HandOn { who, family, to } => {
                let (family, to) = (self.family(*family), address_of(WHO[*to]));
                let owner = self.spec.families.get(&family).map(|held| held.owner);
                (Self::by(*who, owner), Payload::TransferModel { family, to })
            }
            Op::Back { who, family, dn: amount } => {
                let backed = |family: &&ModelId| self.spec.families[*family].backing.is_some();
                let all: Vec<_> = self.spec.families.keys().filter(backed).copied().collect();
                let family =
                    nth(&all, *family).filter(|_| *family < 230).unwrap_or_else(|| self.family(*family));
                (WHO[*who], Payload::BackModel { family, amount: dn((*amount).into()) })
            }
            Op::Unback { who, family, part } => self.ask_unback(*who, *family, *part),
            Op::Post { worker, lines, spoil } => self.ask_post(["worker", "worker2"][*worker], lines, *spoil),
            Op::Create { .. }
            | Op::Configure { .. }
            | Op::GiveDomain { .. }
            | Op::Spend { .. }
            | Op::CloseDomain { .. } => self.ask_domain(op),
            _ => self.ask_identity(op),
        }
    }

    fn ask_domain(&self, op: &Op) -> (&'static str, Payload) {
        // Mostly one that somebody has; 8 is the general one, 9 none.
        let owned = (1u32..).zip(&self.spec.domains[1..]).filter(|(_, held)| held.closed.is_none());
        let owned: Vec<u32> = owned.map(|(id, _)| id).collect();
        let registry = |domain: &u8| match domain {
            8 => 0,
            9 => self.spec.domains.len() as u32,
            10 => {
                (0..).zip(&self.spec.domains).find(|(_, held)| held.closed.is_some()).map_or(0, |(id, _)| id)
            }
            n => nth(&owned, *n).unwrap_or(0),
        };
        let domains_owner = |domain: u32| self.spec.domains.get(domain as usize).and_then(|d| d.owner);
        match op {
            Op::Create { who, name, preset } => {
                let name = ["", "Code", "general", "a-1"]
                    .get(usize::from(*name))
                    .map_or_else(|| format!("d{}", name % 6), |name| (*name).to_owned());
                (WHO[*who], Payload::CreateDomain { name, terms: terms(*preset) })
            }
            Op::Configure { who, domain, preset } => {
                let domain = registry(domain);
                let terms = terms(*preset);
                (Self::by(*who, domains_owner(domain)), Payload::ConfigureDomain { domain, terms })
            }
            Op::GiveDomain { who, domain, to } => {
                let domain = registry(domain);
                let to = address_of(WHO[*to]);
                (Self::by(*who, domains_owner(domain)), Payload::TransferDomain { domain, to })
            }
            Op::Spend { who, domain, part } => {
                let domain = registry(domain);
                let held = self.spec.pools.get(&dn_ledger::state::Pool::Domain { domain });
                // A fifth is the most in an epoch.
                let most = held.copied().unwrap_or_default() / 5;
                let amount =
                    Amount::from_atto(if *part == 10 { most + 1 } else { most * u128::from(*part) / 9 });
                let to = address_of("gateway");
                (Self::by(*who, domains_owner(domain)), Payload::SpendTreasury { domain, to, amount })
            }
            Op::CloseDomain { who, domain } => {
                let domain = registry(domain);
                (Self::by(*who, domains_owner(domain)), Payload::CloseDomain { domain })
            }
            other => unreachable!("no request: {other:?}"),
        }
    }

    fn ask_identity(&self, op: &Op) -> (&'static str, Payload) {
        const ROLES: [Role; 3] = [Role::Worker, Role::ModelOwner, Role::Gateway];
        let usual: [&[&'static str]; 3] =
            [&["worker", "worker2"], &["owner", "stranger", "payer"], &["gateway"]];
        let by = |who: &usize, role: &usize| {
            let usual = usual[*role];
            // Who is missing comes back.
            let missing = |name: &&&str| !self.spec.is_active(ROLES[*role], address_of(name));
            let missing = usual.iter().find(missing).filter(|_| matches!(op, Op::Register { .. }));
            WHO.get(*who).or(missing).copied().unwrap_or(usual[who % usual.len()])
        };
        match op {
            Op::Register { who, role, dn: more, spoil } => {
                let minimum = [100, 10, 100][*role];
                let collateral = match more {
                    0..30 => dn(minimum - 1),
                    30..60 => dn(minimum.div_ceil(2) + 1),
                    _ => dn(minimum + u64::from(more % 3)),
                };
                let name = if *spoil == 0 { String::new() } else { format!("n{spoil}") };
                let endpoint = if *spoil == 1 { "e\n".into() } else { "e".repeat(usize::from(*spoil)) };
                let role_of = ROLES[*role];
                (by(who, role), Payload::Register { role: role_of, collateral, name, endpoint })
            }
            Op::Update { who, role, what } => {
                let name = (what % 3 == 0).then(|| if *what == 0 { "x".repeat(65) } else { "y".into() });
                let endpoint = (what % 4 == 0).then(|| "z".repeat(usize::from(*what) * 32 + 1));
                let add_collateral = if *what < 5 { dn(u64::from(*what)) } else { Amount::ZERO };
                let role_of = ROLES[*role];
                let payload = Payload::UpdateIdentity { role: role_of, name, endpoint, add_collateral };
                (by(who, role), payload)
            }
            Op::Retire { who, role } => (by(who, role), Payload::Retire { role: ROLES[*role] }),
            Op::Withdraw { who } => {
                let left = self.spec.identities.iter().filter(|(_, held)| held.collateral > 0);
                let left = left.filter(|(_, held)| held.status.release_epoch().is_some());
                let left = left.map(|((_, who), _)| *who);
                let waiting: Vec<_> = left.chain(self.spec.releases.keys().map(|(who, ..)| *who)).collect();
                (Self::by(*who, nth(&waiting, *who as u8)), Payload::Withdraw {})
            }
            other => unreachable!("no request: {other:?}"),
        }
    }

    fn ask_unback(&self, who: usize, family: u8, part: u8) -> (&'static str, Payload) {
        let holders = self.spec.backers.iter().flat_map(|(id, held)| held.shares.keys().map(|by| (*id, *by)));
        let all: Vec<_> = holders.collect();
        let (family, backer) = nth(&all, family).unwrap_or((self.family(family), Address::ZERO));
        let who = Self::by(who, Some(backer));
        let held = self.spec.backers.get(&family).and_then(|pool| pool.shares.get(&address_of(who)));
        let held = held.copied().unwrap_or_default();
        let shares = match part {
            0 => held + 1,
            1 => 0,
            2 => held.saturating_sub(1),
            3 | 4 => held,
            part => held * 3 / u128::from(part),
        };
        (who, Payload::Unback { family, shares: Shares(shares.min(held + 1)) })
    }
}
