//! Model families: versions, licences, lineage, ownership.

use dn_core::{Address, ModelId};
use dn_powr::{FeeMove, FeeSplit};

use super::Step;
use super::domain::domain_fees;
use crate::events::Event;
use crate::lineage::{Grant, MAX_DEPTH, Royalty, flatten};
use crate::reject::{Field, RegistryReject, Reject};
use crate::state::{FAMILIES, FAMILY_VERSIONS, Family, MODEL_TERMS, MODELS, ModelTerms};
use crate::text::{check_size, check_text};
use crate::tx::{BackingTerms, Licence, MAX_LICENCE_BYTES, MAX_PARENTS, NewVersion, Parent, Role};

impl Step<'_> {
    pub(super) fn publish_version(&mut self, sender: Address, new: &NewVersion) -> Result<(), Reject> {
        let NewVersion { family, manifest, name, price, domain, licence, parents, fees, backing, salt } = new;
        self.check_licence(licence)?;
        let (depth, royalties) = self.check_lineage(sender, licence.commercial, parents)?;
        self.check_model_fees(*domain, *fees)?;
        let (family_id, record) = match family {
            None => (manifest.id(), Family { owner: sender, versions: 0, backing: *backing }),
            Some(id) => (*id, self.next_in_family(sender, *id, backing.is_some())?),
        };
        // Fixed when the family starts: a vote that moves the bounds afterwards takes no version from it.
        if family.is_none() {
            self.check_backing_terms(record.backing)?;
        }
        let id = self.put_model(sender, manifest, name, *price, *domain, *salt)?;
        let terms = ModelTerms {
            family: family_id,
            version: record.versions,
            licence: licence.clone(),
            parents: parents.clone(),
            depth,
            royalties,
            fees: *fees,
        };
        self.put_version(id, record, &terms);
        Ok(())
    }

    /// The terms of a model that was published without any: a family of its own, no derivatives, no backers.
    pub(super) fn put_plain_version(&mut self, owner: Address, id: ModelId) {
        let family = Family { owner, versions: 0, backing: None };
        let terms = ModelTerms {
            family: id,
            version: 0,
            licence: Licence::default(),
            parents: Vec::new(),
            depth: 0,
            royalties: Vec::new(),
            fees: None,
        };
        self.put_version(id, family, &terms);
    }

    fn put_version(&mut self, model: ModelId, mut family: Family, terms: &ModelTerms) {
        FAMILY_VERSIONS.put(self.state, &(terms.family, terms.version), &model);
        family.versions = terms.version.saturating_add(1);
        FAMILIES.put(self.state, &terms.family, &family);
        MODEL_TERMS.put(self.state, &model, terms);
        let (family, version) = (terms.family, terms.version);
        self.events.push(Event::VersionPublished { model, family, version });
    }

    pub(super) fn transfer_model(&mut self, sender: Address, id: ModelId, to: Address) -> Result<(), Reject> {
        let mut family = self.own_family(sender, id)?;
        self.active(Role::ModelOwner, to)?;
        family.owner = to;
        FAMILIES.put(self.state, &id, &family);
        // At most `max_versions`, which is at most 256.
        for version in 0..family.versions {
            let Some(model) = FAMILY_VERSIONS.get(self.state, &(id, version)) else { continue };
            let mut record = MODELS.get(self.state, &model).expect("models are never removed");
            record.owner = to;
            MODELS.put(self.state, &model, &record);
            self.inherit_quality(record.domain, sender, to);
        }
        self.events.push(Event::ModelTransferred { family: id, from: sender, to });
        Ok(())
    }

    /// How the fees of a model's tasks are split: by the model, else its domain, else the chain. Governance may have moved bounds
    /// since; a split out of them gives way to the next.
    pub(super) fn fee_split(&self, model: ModelId, domain: u32) -> FeeSplit {
        let params = &self.ctx.params;
        let own = MODEL_TERMS.get(self.state, &model).and_then(|terms| terms.fees);
        let own = own.and_then(|to| params.fees.moved(to, &params.registry.fee_bounds).ok());
        own.unwrap_or_else(|| domain_fees(params, &self.domain_terms(domain)))
    }

    pub(super) fn family(&self, id: ModelId) -> Result<Family, Reject> {
        if let Some(family) = FAMILIES.get(self.state, &id) {
            return Ok(family);
        }
        Err(match MODEL_TERMS.get(self.state, &id) {
            Some(terms) => RegistryReject::NotFamily { model: id, family: terms.family }.into(),
            None => Reject::UnknownModel { model: id },
        })
    }

    fn own_family(&self, sender: Address, id: ModelId) -> Result<Family, Reject> {
        let family = self.family(id)?;
        if family.owner == sender {
            Ok(family)
        } else {
            Err(Reject::NotOwner { model: id, owner: family.owner })
        }
    }

    fn next_in_family(&self, sender: Address, id: ModelId, backing: bool) -> Result<Family, Reject> {
        let family = self.own_family(sender, id)?;
        if backing {
            return Err(RegistryReject::BackingFixed { family: id }.into());
        }
        let limit = self.ctx.params.registry.max_versions;
        if family.versions >= limit {
            return Err(RegistryReject::FamilyFull { family: id, limit }.into());
        }
        Ok(family)
    }

    fn check_licence(&self, licence: &Licence) -> Result<(), Reject> {
        check_text(Field::Licence, &licence.id, 1, MAX_LICENCE_BYTES)?;
        self.check_royalties(u32::from(licence.royalty_bps))
    }

    fn check_royalties(&self, found: u32) -> Result<(), Reject> {
        let limit = self.ctx.params.registry.max_royalty_bps;
        if found > u32::from(limit) {
            return Err(RegistryReject::RoyaltyTooHigh { limit, found }.into());
        }
        Ok(())
    }

    /// The depth and royalties of a model of these parents. Parents are published already and a model's id is its hash, so that
    /// lineage has no cycles. A retired parent still licenses and still earns.
    fn check_lineage(
        &self,
        sender: Address,
        commercial: bool,
        parents: &[Parent],
    ) -> Result<(u8, Vec<Royalty>), Reject> {
        check_size(Field::Parents, parents.len(), 0, MAX_PARENTS)?;
        if let Some(pair) = parents.windows(2).find(|pair| pair[0].model >= pair[1].model) {
            return Err(RegistryReject::ParentsUnsorted { model: pair[1].model }.into());
        }
        let mut ancestry = Vec::with_capacity(parents.len());
        for parent in parents {
            ancestry.push((*parent, self.licensed_parent(sender, commercial, *parent)?));
        }
        self.check_royalties(parents.iter().map(|parent| u32::from(parent.share_bps)).sum())?;
        let grants = ancestry.iter().map(|(parent, terms)| Grant {
            model: parent.model,
            share_bps: parent.share_bps,
            depth: terms.depth,
            royalties: &terms.royalties,
        });
        let (depth, royalties) = flatten(&grants.collect::<Vec<_>>());
        if depth > MAX_DEPTH {
            return Err(RegistryReject::LineageDepth { limit: MAX_DEPTH, found: depth }.into());
        }
        let (limit, found) = (self.ctx.params.registry.max_royalty_payees, royalties.len());
        if found > limit as usize {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(RegistryReject::LineagePayees { limit, found }.into());
        }
        Ok((depth, royalties))
    }

    /// The terms of a parent, if its licence lets the sender derive from it on these terms.
    fn licensed_parent(
        &self,
        sender: Address,
        commercial: bool,
        Parent { model, share_bps: granted }: Parent,
    ) -> Result<ModelTerms, Reject> {
        let record = MODELS.get(self.state, &model).ok_or(Reject::UnknownModel { model })?;
        let terms = MODEL_TERMS.get(self.state, &model).ok_or(Reject::UnknownModel { model })?;
        let Licence { derivatives, commercial: allowed, royalty_bps: demanded, .. } = terms.licence;
        // Nobody needs a licence of his own.
        if record.owner == sender {
            return Ok(terms);
        }
        if !derivatives {
            return Err(RegistryReject::NoDerivatives { model }.into());
        }
        if commercial && !allowed {
            return Err(RegistryReject::NotCommercial { model }.into());
        }
        if granted < demanded {
            return Err(RegistryReject::RoyaltyTooLow { model, demanded, granted }.into());
        }
        Ok(terms)
    }

    /// A model's own split leaves validators and treasury at least what its domain's gives them now.
    fn check_model_fees(&self, domain: u32, fees: Option<FeeMove>) -> Result<(), Reject> {
        let Some(to) = fees else { return Ok(()) };
        self.open_domain(domain)?;
        let params = &self.ctx.params;
        let own = params.fees.moved(to, &params.registry.fee_bounds).map_err(RegistryReject::from)?;
        let base = domain_fees(params, &self.domain_terms(domain));
        let shares = [("validators", own.validators, base.validators), ("domain", own.domain, base.domain)];
        for (share, found, minimum) in shares {
            if found < minimum {
                let share = share.to_owned();
                return Err(RegistryReject::ShareUnderDomain { share, minimum, found }.into());
            }
        }
        Ok(())
    }

    fn check_backing_terms(&self, terms: Option<BackingTerms>) -> Result<(), Reject> {
        let Some(BackingTerms { share_bps, cap }) = terms else { return Ok(()) };
        let params = &self.ctx.params.registry;
        let (min, max) = (1, params.max_backers_bps);
        if !(min..=max).contains(&share_bps) {
            let share = "backers".to_owned();
            return Err(RegistryReject::ShareBounds { share, found: share_bps, min, max }.into());
        }
        if cap < params.min_backing {
            return Err(Reject::AmountTooSmall { minimum: params.min_backing, found: cap });
        }
        Ok(())
    }
}
