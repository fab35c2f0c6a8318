//! Models as the design says them: commitments, families, licences, lineage, prices, offers.
//!
//! Sources: ADR 12 and the paragraphs on families, commitments and lineage of the ledger's README.

use std::collections::BTreeMap;

use dn_core::objects::{ModelManifest, Price};
use dn_core::{Address, Hash32, ModelId, keccak256};
use dn_ledger::Role;
use dn_ledger::tx::{Admission, NewVersion, Parent};

use super::publishing_domains::is_allowed;
use super::publishing_spec::{Family, Model, Offer, Spec, Verdict, WHOLE, is_text, must};

/// One whole income: with eight generations of basis points every share is a multiple of its 10⁻³⁶.
pub(super) const INCOME: u128 = 10u128.pow(36);
/// The most generations between a model and its farthest ancestor.
const GENERATIONS: u8 = 8;
/// How long a commitment that is old enough can be used.
const USABLE_BLOCKS: u64 = 10_000;
/// The most commitments of an owner that were neither used nor forgotten.
const OPEN_COMMITMENTS: usize = 16;

/// Whether somebody can run it and others can check it.
fn is_runnable(m: &ModelManifest) -> bool {
    let h = &m.hyperparameters;
    let sizes = [h.layers, h.width, h.heads, h.kv_heads, h.head_size, h.ffn_width];
    let sized = sizes.iter().all(|n| (1..=1 << 24).contains(n));
    let long = [h.vocabulary, h.context].iter().all(|n| (1..=1 << 31).contains(n));
    let known = |token: &u32| *token < h.vocabulary;
    let stops = m.stop_tokens.iter().all(known) && m.stop_tokens.is_sorted_by(|a, b| a < b);
    m.numeric_spec <= 1
        && is_text(&m.architecture, 1, 32)
        && (sized && long && m.block > 0 && h.heads.is_multiple_of(h.kv_heads))
        && stops
        && m.bos_token.iter().all(known)
}

impl Spec {
    pub(super) fn check_price(&self, price: Price) -> Verdict {
        let most = self.params.max_token_price;
        must(price.prompt_token <= most && price.output_token <= most, "the price is too high")
    }

    pub(super) fn own_model(&mut self, sender: Address, id: ModelId) -> Result<&mut Model, &'static str> {
        let model = self.models.get_mut(&id).ok_or("no such model")?;
        must(model.retired.is_none(), "the model is retired")?;
        must(model.owner == sender, "somebody else's model")?;
        Ok(model)
    }

    pub(super) fn offer(&mut self, worker: Address, id: ModelId, price: Price) -> Verdict {
        must(self.is_active(Role::Worker, worker), "no active worker")?;
        let model = self.models.get(&id).ok_or("no such model")?;
        must(model.retired.is_none(), "the model is retired")?;
        self.check_price(price)?;
        let standing = self.offers.get(&(id, worker)).filter(|offer| offer.until.is_none());
        must(standing.is_none_or(|offer| offer.price != price), "offered at these prices")?;
        let since = standing.map_or(self.height, |offer| offer.since);
        self.offers.insert((id, worker), Offer { since, until: None, price });
        Ok(())
    }

    /// Whether a worker's batches for a model are taken: it hosts it, or did until not longer ago than the grace time.
    pub(super) fn check_served(&mut self, id: ModelId, worker: Address) -> Verdict {
        let model = self.models.get(&id).ok_or("no such model")?;
        let last = model.retired.map(|retired| retired + self.params.model_grace_blocks);
        must(last.is_none_or(|last| self.height <= last), "retired for too long")?;
        let offer = self.offers.get(&(id, worker)).ok_or("no such offer")?;
        must(offer.until.is_none_or(|until| self.height <= until), "taken back for too long")?;
        if last.is_some() || offer.until.is_some() {
            self.seen.insert("a batch in the grace time");
        }
        Ok(())
    }

    // --- commitments ---

    pub(super) fn commit(&mut self, owner: Address, commitment: Hash32) -> Verdict {
        must(self.is_active(Role::ModelOwner, owner), "no active model owner")?;
        must(!self.commitments.contains_key(&(owner, commitment)), "committed already")?;
        let open = self.commitments.keys().filter(|(by, _)| *by == owner).count();
        must(open < OPEN_COMMITMENTS, "commitments are full")?;
        self.commitments.insert((owner, commitment), self.height);
        Ok(())
    }

    /// The last height at which a commitment can be used.
    pub(super) fn usable_until(&self, made: u64) -> u64 {
        made + self.params.registry.commit_blocks + USABLE_BLOCKS
    }

    /// Who publishes has said so before anybody could read the manifest.
    fn use_commitment(&mut self, owner: Address, model: ModelId, salt: Option<Hash32>) -> Verdict {
        let blocks = self.params.registry.commit_blocks;
        if blocks == 0 {
            return Ok(());
        }
        let salt = salt.ok_or("no salt")?;
        let parts: [&[u8]; 4] = [b"DeepNode model commitment v1", &model.0, &owner.0, &salt.0];
        let made = self.commitments.remove(&(owner, Hash32(keccak256(&parts))));
        let made = made.ok_or("no commitment")?;
        must(self.height >= made + blocks, "the commitment is too young")?;
        must(self.height <= self.usable_until(made), "the commitment is too old")?;
        if self.height == self.usable_until(made) {
            self.seen.insert("a commitment on its last block");
        }
        Ok(())
    }

    pub(super) fn forget_commitments(&mut self) {
        let (height, blocks) = (self.height, self.params.registry.commit_blocks + USABLE_BLOCKS);
        self.commitments.retain(|_, made| height <= *made + blocks);
    }

    // --- publication ---

    pub(super) fn publish(&mut self, sender: Address, new: &NewVersion) -> Verdict {
        must(self.is_active(Role::ModelOwner, sender), "no active model owner")?;
        must(is_text(&new.name, 1, 64), "no name or endpoint")?;
        must(is_runnable(&new.manifest), "nobody could run it")?;
        self.check_price(new.price)?;
        let domain = self.domain(new.domain)?;
        let closed_to = domain.terms.admission == Admission::Owner && domain.owner != Some(sender);
        must(!closed_to, "the domain takes its owner's models alone")?;
        let id = new.manifest.id();
        must(!self.models.contains_key(&id), "published already")?;
        self.check_licence(new)?;
        self.check_fees(new)?;
        let family = self.next_in_family(sender, id, new)?;
        let depth = self.check_lineage(sender, new)?;
        self.use_commitment(sender, id, new.salt)?;
        let record = self.families.get_mut(&family).expect("made just now, or held before");
        record.versions.push(id);
        let model = Model {
            owner: sender,
            name: new.name.clone(),
            price: new.price,
            domain: new.domain,
            published: self.height,
            retired: None,
            manifest: new.manifest.clone(),
            family,
            licence: new.licence.clone(),
            parents: new.parents.clone(),
            fees: new.fees,
            depth,
            royalties: self.royalties(&new.parents),
        };
        let payees = model.royalties.len();
        must(payees <= self.params.registry.max_royalty_payees as usize, "too many ancestors to pay")?;
        if depth > 2 {
            self.seen.insert("three generations");
        }
        self.models.insert(id, model);
        Ok(())
    }

    fn check_licence(&self, new: &NewVersion) -> Verdict {
        must(is_text(&new.licence.id, 1, 64), "no licence")?;
        must(new.licence.royalty_bps <= self.params.registry.max_royalty_bps, "it asks for too much")
    }

    /// A split of its own leaves validators and treasury what its domain's leaves them now.
    fn check_fees(&self, new: &NewVersion) -> Verdict {
        let Some(own) = new.fees else { return Ok(()) };
        must(is_allowed(&self.params, own), "fees out of bounds")?;
        let [_, _, validators, treasury, ..] = self.split(None, new.domain);
        let left = u128::from(own.validators) >= validators && u128::from(own.domain) >= treasury;
        must(left, "less than its domain leaves others")
    }

    /// The family, which a first version starts. What its backers get is fixed then.
    fn next_in_family(
        &mut self,
        sender: Address,
        id: ModelId,
        new: &NewVersion,
    ) -> Result<ModelId, &'static str> {
        let rules = &self.params.registry;
        let Some(family) = new.family else {
            if let Some(terms) = new.backing {
                must((1..=rules.max_backers_bps).contains(&terms.share_bps), "backers' share")?;
                must(terms.cap >= rules.min_backing, "no room for a backer")?;
            }
            let (owner, versions, backing) = (sender, vec![], new.backing);
            self.families.insert(id, Family { owner, versions, backing });
            return Ok(id);
        };
        let record = self.families.get(&family).ok_or("no such family")?;
        must(record.owner == sender, "somebody else's family")?;
        must(new.backing.is_none(), "what backers get is fixed")?;
        must(record.versions.len() < rules.max_versions as usize, "the family is full")?;
        Ok(family)
    }

    /// The generations above it, if every licence lets the sender derive on these terms. Nobody needs one of his own, and a retired parent still
    /// licenses.
    fn check_lineage(&mut self, sender: Address, new: &NewVersion) -> Result<u8, &'static str> {
        must(new.parents.len() <= 4, "too many parents")?;
        must(new.parents.is_sorted_by(|a, b| a.model < b.model), "parents out of order")?;
        let mut depth = 0;
        for parent in &new.parents {
            let held = self.models.get(&parent.model).ok_or("no such model")?;
            depth = depth.max(held.depth + 1);
            if held.retired.is_some() {
                self.seen.insert("a retired parent licenses");
            }
            if held.owner == sender {
                continue;
            }
            let licence = &held.licence;
            must(licence.derivatives, "no derivatives")?;
            must(licence.commercial || !new.licence.commercial, "no commercial derivatives")?;
            must(parent.share_bps >= licence.royalty_bps, "less than the licence asks for")?;
        }
        let granted: u32 = new.parents.iter().map(|parent| u32::from(parent.share_bps)).sum();
        must(granted <= self.params.registry.max_royalty_bps.into(), "too much granted")?;
        must(depth <= GENERATIONS, "too many generations")?;
        Ok(depth)
    }

    /// What each ancestor gets of an income: of what a parent is granted it keeps what it does not grant itself, and so on upwards.
    fn royalties(&self, parents: &[Parent]) -> BTreeMap<ModelId, u128> {
        let mut shares = BTreeMap::new();
        self.climb(parents, INCOME, &mut shares);
        shares.retain(|_, share| *share > 0);
        shares
    }

    fn climb(&self, parents: &[Parent], part: u128, shares: &mut BTreeMap<ModelId, u128>) {
        for parent in parents {
            let granted = part / WHOLE * u128::from(parent.share_bps);
            let above = &self.models[&parent.model].parents;
            let passed_on: u128 = above.iter().map(|p| u128::from(p.share_bps)).sum();
            *shares.entry(parent.model).or_default() += granted / WHOLE * (WHOLE - passed_on);
            if granted > 0 {
                self.climb(above, granted, shares);
            }
        }
    }

    /// All versions go with their family.
    pub(super) fn hand_on(&mut self, sender: Address, id: ModelId, to: Address) -> Verdict {
        let active = self.is_active(Role::ModelOwner, to);
        let family = self.families.get_mut(&id).ok_or("no such family")?;
        must(family.owner == sender, "somebody else's family")?;
        must(active, "no active model owner")?;
        family.owner = to;
        for version in &family.versions {
            self.models.get_mut(version).expect("versions are published").owner = to;
        }
        Ok(())
    }
}
