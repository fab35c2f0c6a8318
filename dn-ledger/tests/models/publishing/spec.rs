//! The registry as the design says it, as simply as it can be said: who may act in a role, what a domain is, who may publish what, under which terms.
//!
//! Sources: the section on transactions of the ledger's design and its README, ADR 6 and 12, sections 5 and 7 of `docs/economics.md`. Everything is a plain
//! map; a request that is refused is undone by taking the copy from before it. Every refusal has a reason, so that a test can ask for all of them.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::objects::{ModelManifest, Price};
use dn_core::{Address, BatchId, Canonical, Hash32, ModelId};
use dn_ledger::state::{IdentityStatus, Pool};
use dn_ledger::tx::{BackingTerms, DomainTerms, FeeMove, Licence, NewVersion, Parent};
use dn_ledger::{Params, Payload, Role};

use super::publishing_income::{Backers, Batch, Channel};

/// Taken, or why not.
pub(super) type Verdict = Result<(), &'static str>;

/// What must hold for a request to be taken.
pub(super) fn must(holds: bool, why: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(why) }
}

/// One whole, in basis points.
pub(super) const WHOLE: u128 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) endpoint: String,
    pub(super) collateral: u128,
    pub(super) status: IdentityStatus,
    pub(super) since: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain {
    pub(super) owner: Option<Address>,
    pub(super) name: String,
    pub(super) deposit: u128,
    pub(super) closed: Option<u64>,
    /// In force, and from the next epoch on.
    pub(super) terms: DomainTerms,
    pub(super) next: DomainTerms,
    /// The epoch of the last expense, the most for it, and what was spent in it.
    pub(super) spending: (u64, u128, u128),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) owner: Address,
    pub(super) name: String,
    pub(super) price: Price,
    pub(super) domain: u32,
    pub(super) published: u64,
    pub(super) retired: Option<u64>,
    pub(super) manifest: ModelManifest,
    pub(super) family: ModelId,
    pub(super) licence: Licence,
    pub(super) parents: Vec<Parent>,
    pub(super) fees: Option<FeeMove>,
    pub(super) depth: u8,
    /// What every ancestor gets of an income, in 10⁻³⁶ of it.
    pub(super) royalties: BTreeMap<ModelId, u128>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) owner: Address,
    pub(super) versions: Vec<ModelId>,
    pub(super) backing: Option<BackingTerms>,
}

/// What a worker asks for a model; until when it is served once the offer was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) since: u64,
    pub(super) until: Option<u64>,
    pub(super) price: Price,
}

/// Everything the specification knows.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) params: Params,
    pub(super) height: u64,
    pub(super) balances: BTreeMap<Address, u128>,
    pub(super) pools: BTreeMap<Pool, u128>,
    pub(super) identities: BTreeMap<(Role, Address), Identity>,
    pub(super) domains: Vec<Domain>,
    pub(super) models: BTreeMap<ModelId, Model>,
    pub(super) families: BTreeMap<ModelId, Family>,
    pub(super) offers: BTreeMap<(ModelId, Address), Offer>,
    /// When each was made.
    pub(super) commitments: BTreeMap<(Address, Hash32), u64>,
    pub(super) backers: BTreeMap<ModelId, Backers>,
    /// Backing that was taken back, by the epoch in which it is free.
    pub(super) releases: BTreeMap<(Address, u64, ModelId), u128>,
    pub(super) channel: Channel,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    pub(super) sequences: BTreeMap<Address, u64>,
    /// What is worth counting that happened.
    pub(super) seen: BTreeSet<&'static str>,
}

/// Between so many and so many bytes, all of them printable.
pub(super) fn is_text(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Spec {
    /// Whether a request is taken. One that is refused does nothing at all.
    pub(super) fn submit(&mut self, sender: Address, payload: &Payload) -> Verdict {
        let before = self.clone();
        let verdict = self.transact(sender, payload);
        if verdict.is_err() {
            *self = before;
        }
        verdict
    }

    fn transact(&mut self, sender: Address, payload: &Payload) -> Verdict {
        // Chain, sender, nonce, expiry and fee take 60 bytes.
        let kib = (60 + payload.to_bytes().len()).div_ceil(1024);
        let fee = self.params.min_tx_fee.atto() * kib as u128;
        self.take(sender, fee)?;
        self.fill(Pool::Validators, fee);
        match payload {
            Payload::Register { role, collateral, name, endpoint } => {
                self.register(sender, *role, collateral.atto(), (name, endpoint))
            }
            Payload::Retire { role } => self.retire(sender, *role),
            Payload::UpdateIdentity { role, name, endpoint, add_collateral } => {
                self.update(sender, *role, (name.as_ref(), endpoint.as_ref()), add_collateral.atto())
            }
            Payload::Withdraw {} => self.withdraw(sender),
            Payload::CommitModel { commitment } => self.commit(sender, *commitment),
            Payload::PublishModel { manifest, name, price, domain, salt } => {
                // A family of its own that licenses nothing and takes no backing.
                let (manifest, name, licence) = (manifest.clone(), name.clone(), Licence::default());
                let (price, domain, salt) = (*price, *domain, *salt);
                let (family, parents, fees, backing) = (None, vec![], None, None);
                self.publish(
                    sender,
                    &NewVersion {
                        family,
                        manifest,
                        name,
                        price,
                        domain,
                        licence,
                        parents,
                        fees,
                        backing,
                        salt,
                    },
                )
            }
            Payload::PublishVersion { version } => self.publish(sender, version),
            Payload::SetModelPrice { model, price } => {
                self.check_price(*price)?;
                self.own_model(sender, *model)?.price = *price;
                Ok(())
            }
            Payload::RetireModel { model } => {
                let height = self.height;
                self.own_model(sender, *model)?.retired = Some(height);
                Ok(())
            }
            Payload::TransferModel { family, to } => self.hand_on(sender, *family, *to),
            Payload::Offer { model, price } => self.offer(sender, *model, *price),
            Payload::Unoffer { model } => {
                let until = self.height + self.params.model_grace_blocks;
                let offer = self.offers.get_mut(&(*model, sender)).ok_or("no such offer")?;
                must(offer.until.is_none(), "the offer is taken back")?;
                offer.until = Some(until);
                Ok(())
            }
            Payload::BackModel { family, amount } => self.back(sender, *family, amount.atto()),
            Payload::Unback { family, shares } => self.unback(sender, *family, shares.0),
            Payload::PostBatch { batch, .. } => self.post(sender, &batch.body),
            other => self.change_domain(sender, other),
        }
    }

    // --- books ---

    pub(super) fn epoch(&self) -> u64 {
        self.height / self.params.epoch_blocks
    }

    pub(super) fn take(&mut self, who: Address, amount: u128) -> Verdict {
        let held = self.balances.entry(who).or_default();
        *held = held.checked_sub(amount).ok_or("not enough DN")?;
        Ok(())
    }

    pub(super) fn give(&mut self, who: Address, amount: u128) {
        *self.balances.entry(who).or_default() += amount;
    }

    pub(super) fn fill(&mut self, pool: Pool, amount: u128) {
        *self.pools.entry(pool).or_default() += amount;
    }

    // --- identities ---

    pub(super) fn is_active(&self, role: Role, who: Address) -> bool {
        self.identities.get(&(role, who)).is_some_and(|held| held.status == IdentityStatus::Active)
    }

    fn register(
        &mut self,
        who: Address,
        role: Role,
        collateral: u128,
        (name, endpoint): (&str, &str),
    ) -> Verdict {
        must(is_text(name, 1, 64) && is_text(endpoint, 0, 256), "no name or endpoint")?;
        let before = self.identities.get(&(role, who)).cloned();
        let held = match &before {
            Some(Identity { status: IdentityStatus::Suspended, collateral, .. }) => *collateral,
            Some(Identity { status: IdentityStatus::Retired { .. }, collateral: 0, .. }) | None => 0,
            Some(Identity { status: IdentityStatus::Active, .. }) => return Err("in the role already"),
            Some(_) => return Err("left, and its collateral is still there"),
        };
        must(held + collateral >= self.params.collateral.of(role).atto(), "too little collateral")?;
        // Who is suspended has kept its place.
        let in_role = |held: &Identity| held.status.release_epoch().is_none();
        if role == Role::Worker && !before.as_ref().is_some_and(in_role) {
            let of_role = self.identities.iter().filter(|((of, _), held)| *of == role && in_role(held));
            must(of_role.count() < self.params.max_in_role as usize, "the role is full")?;
        }
        let fee = self.params.registration_fee.atto();
        self.take(who, collateral + fee)?;
        self.fill(Pool::Burned, fee);
        if let Some(before) = &before {
            self.seen.insert(if in_role(before) { "back from a suspension" } else { "back in the role" });
        }
        let identity = Identity {
            name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            collateral: held + collateral,
            status: IdentityStatus::Active,
            since: before.map_or(self.height, |before| before.since),
        };
        self.identities.insert((role, who), identity);
        Ok(())
    }

    /// An identity that has not left the role.
    fn present(&mut self, role: Role, who: Address) -> Result<&mut Identity, &'static str> {
        let identity = self.identities.get_mut(&(role, who)).ok_or("nobody in the role")?;
        must(identity.status.release_epoch().is_none(), "left the role")?;
        Ok(identity)
    }

    fn retire(&mut self, who: Address, role: Role) -> Verdict {
        let release_epoch = self.epoch() + self.params.unbonding_epochs;
        let open = self.open_batches(who);
        let identity = self.present(role, who)?;
        must(role != Role::Worker || open == 0, "batches are open")?;
        identity.status = IdentityStatus::Retired { release_epoch };
        Ok(())
    }

    fn update(
        &mut self,
        who: Address,
        role: Role,
        (name, endpoint): (Option<&String>, Option<&String>),
        more: u128,
    ) -> Verdict {
        must(name.is_none_or(|name| is_text(name, 1, 64)), "no name or endpoint")?;
        must(endpoint.is_none_or(|endpoint| is_text(endpoint, 0, 256)), "no name or endpoint")?;
        let identity = self.present(role, who)?;
        let before = identity.clone();
        name.into_iter().for_each(|name| identity.name.clone_from(name));
        endpoint.into_iter().for_each(|endpoint| identity.endpoint.clone_from(endpoint));
        identity.collateral += more;
        must(*identity != before, "nothing changes")?;
        self.take(who, more)
    }

    /// Retired collateral and backing whose time is over.
    fn withdraw(&mut self, who: Address) -> Verdict {
        let epoch = self.epoch();
        let free = |status: IdentityStatus| status.release_epoch().is_some_and(|release| release <= epoch);
        let mut all = 0;
        for ((_, owner), identity) in &mut self.identities {
            if *owner == who && free(identity.status) {
                all += std::mem::take(&mut identity.collateral);
            }
        }
        for ((owner, release, _), amount) in &mut self.releases {
            if *owner == who && *release <= epoch {
                all += std::mem::take(amount);
                self.seen.insert("backing comes back");
            }
        }
        self.releases.retain(|_, amount| *amount > 0);
        must(all > 0, "nothing is free")?;
        self.give(who, all);
        Ok(())
    }
}
