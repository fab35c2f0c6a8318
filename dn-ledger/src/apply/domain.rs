//! Domains: who owns them, how they split emission and fees, what is spent of their treasuries.

use dn_core::{Address, Amount, Hash32, keccak256};
use dn_powr::{DomainSplit, FeeSplit, Range, SplitError};

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::params::{Params, RegistryParams};
use crate::reject::{Field, RegistryReject, Reject};
use crate::state::{DOMAIN_COUNT, DOMAIN_NAMES, DOMAINS, Domain, NextTerms, POOLS, Pool, Spending, State};
use crate::text::check_size;
use crate::tx::{Admission, DomainTerms, MAX_NAME_BYTES};

impl Step<'_> {
    pub(super) fn create_domain(
        &mut self,
        owner: Address,
        name: &str,
        terms: DomainTerms,
    ) -> Result<(), Reject> {
        check_name(name)?;
        self.check_terms(&terms)?;
        if let Some(domain) = DOMAIN_NAMES.get(self.state, &name_key(name)) {
            return Err(RegistryReject::DomainNameTaken { name: name.to_owned(), domain }.into());
        }
        let RegistryParams { max_domains, domain_fee, domain_deposit, .. } = self.ctx.params.registry;
        if DOMAIN_COUNT.get_or_default(self.state, &0).open >= max_domains {
            return Err(RegistryReject::DomainsFull { limit: max_domains }.into());
        }
        self.debit(owner, domain_fee)?;
        self.debit(owner, domain_deposit)?;
        self.add_to_pool(Pool::Burned, domain_fee);
        let domain = Domain::new(Some(owner), name.to_owned(), domain_deposit, self.ctx.height);
        let id = put_domain(self.state, &Domain { terms, ..domain });
        let (name, deposit) = (name.to_owned(), domain_deposit);
        self.events.push(Event::DomainCreated { domain: id, owner, name, deposit });
        Ok(())
    }

    pub(super) fn configure_domain(
        &mut self,
        sender: Address,
        id: u32,
        terms: DomainTerms,
    ) -> Result<(), Reject> {
        let mut domain = self.own_domain(sender, id)?;
        self.check_terms(&terms)?;
        // Nobody changes what the running epoch's work is paid by.
        let epoch = self.ctx.epoch();
        let from_epoch = epoch.saturating_add(1);
        domain.terms = domain.terms_in(epoch);
        domain.next = Some(NextTerms { from_epoch, terms });
        DOMAINS.put(self.state, &id, &domain);
        self.events.push(Event::DomainConfigured { domain: id, from_epoch, terms });
        Ok(())
    }

    pub(super) fn transfer_domain(&mut self, sender: Address, id: u32, to: Address) -> Result<(), Reject> {
        let mut domain = self.own_domain(sender, id)?;
        domain.owner = Some(to);
        DOMAINS.put(self.state, &id, &domain);
        self.events.push(Event::DomainTransferred { domain: id, from: sender, to });
        Ok(())
    }

    pub(super) fn spend_treasury(
        &mut self,
        sender: Address,
        id: u32,
        to: Address,
        amount: Amount,
    ) -> Result<(), Reject> {
        let mut domain = self.own_domain(sender, id)?;
        if amount.is_zero() {
            return Err(Reject::AmountTooSmall { minimum: Amount::from_atto(1), found: amount });
        }
        let (epoch, pool) = (self.ctx.epoch(), Pool::Domain { domain: id });
        // An unused record is of epoch 0, where a limit of zero would be wrong.
        if domain.spending.epoch != epoch || domain.spending.limit.is_zero() {
            let held = POOLS.get_or_default(self.state, &pool);
            let limit = self.ctx.params.registry.spend_limit(held);
            domain.spending = Spending { epoch, limit, spent: Amount::ZERO };
        }
        let Spending { limit, spent, .. } = domain.spending;
        if amount > limit.saturating_sub(spent) {
            return Err(RegistryReject::SpendLimit { domain: id, epoch, limit, spent, amount }.into());
        }
        domain.spending.spent = sum(spent, amount);
        DOMAINS.put(self.state, &id, &domain);
        self.take_from_pool(pool, amount);
        self.credit(to, amount);
        self.events.push(Event::TreasurySpent { domain: id, to, amount });
        Ok(())
    }

    pub(super) fn close_domain(&mut self, sender: Address, id: u32) -> Result<(), Reject> {
        let mut domain = self.own_domain(sender, id)?;
        if domain.models > 0 {
            return Err(RegistryReject::DomainInUse { domain: id, models: domain.models }.into());
        }
        let deposit = std::mem::take(&mut domain.deposit);
        domain.closed_height = Some(self.ctx.height);
        let name = name_key(&domain.name);
        DOMAINS.put(self.state, &id, &domain);
        DOMAIN_NAMES.remove(self.state, &name);
        DOMAIN_COUNT.update(self.state, &0, |count| count.open = count.open.saturating_sub(1));
        let pool = Pool::Domain { domain: id };
        let treasury = POOLS.get_or_default(self.state, &pool);
        self.take_from_pool(pool, treasury);
        self.add_to_pool(Pool::Community, treasury);
        self.credit(sender, deposit);
        self.events.push(Event::DomainClosed { domain: id, deposit, treasury });
        Ok(())
    }

    /// Whether somebody may publish a model in a domain now.
    pub(super) fn admits(&self, id: u32, publisher: Address) -> Result<(), Reject> {
        let domain = self.open_domain(id)?;
        match domain.terms_in(self.ctx.epoch()).admission {
            Admission::Owner if domain.owner != Some(publisher) => {
                Err(RegistryReject::NotAdmitted { domain: id, owner: domain.owner }.into())
            }
            Admission::Owner | Admission::Open => Ok(()),
        }
    }

    /// The domain, if it is not closed.
    pub(super) fn open_domain(&self, id: u32) -> Result<Domain, Reject> {
        let domain = DOMAINS.get(self.state, &id).ok_or_else(|| Reject::UnknownDomain {
            domains: DOMAIN_COUNT.get_or_default(self.state, &0).created,
            found: id,
        })?;
        match domain.closed_height {
            None => Ok(domain),
            Some(height) => Err(RegistryReject::DomainClosed { domain: id, height }.into()),
        }
    }

    /// Counts a model into or out of its domain.
    pub(super) fn count_model(&mut self, id: u32, published: bool) {
        let mut domain = DOMAINS.get(self.state, &id).expect("a model's domain is never removed");
        domain.models =
            if published { domain.models.saturating_add(1) } else { domain.models.saturating_sub(1) };
        DOMAINS.put(self.state, &id, &domain);
    }

    /// The terms of a domain in this block's epoch.
    pub(super) fn domain_terms(&self, id: u32) -> DomainTerms {
        DOMAINS.get(self.state, &id).map_or_else(DomainTerms::default, |d| d.terms_in(self.ctx.epoch()))
    }

    /// Pays into a treasury; that of a closed domain is the community pool.
    pub(super) fn add_to_treasury(&mut self, id: u32, amount: Amount) {
        let open = DOMAINS.get(self.state, &id).is_some_and(|domain| domain.closed_height.is_none());
        self.add_to_pool(if open { Pool::Domain { domain: id } } else { Pool::Community }, amount);
    }

    fn own_domain(&self, sender: Address, id: u32) -> Result<Domain, Reject> {
        let domain = self.open_domain(id)?;
        if domain.owner == Some(sender) {
            Ok(domain)
        } else {
            Err(RegistryReject::NotDomainOwner { domain: id, owner: domain.owner }.into())
        }
    }

    fn check_terms(&self, terms: &DomainTerms) -> Result<(), Reject> {
        let params = &self.ctx.params;
        if let Some(split) = &terms.emission {
            check_emission(split, &params.registry).map_err(RegistryReject::from)?;
        }
        if let Some(to) = terms.fees {
            params.fees.moved(to, &params.registry.fee_bounds).map_err(RegistryReject::from)?;
        }
        Ok(())
    }
}

/// How a domain's fees are split where a model has no split of its own. What governance has moved out of bounds since
/// gives way to the chain's.
pub(crate) fn domain_fees(params: &Params, terms: &DomainTerms) -> FeeSplit {
    let own = terms.fees.and_then(|to| params.fees.moved(to, &params.registry.fee_bounds).ok());
    own.unwrap_or(params.fees)
}

/// How a domain's emission is split, likewise.
pub(crate) fn domain_emission(params: &Params, terms: &DomainTerms) -> DomainSplit {
    let own = terms.emission.filter(|split| check_emission(split, &params.registry).is_ok());
    own.unwrap_or(params.domain_split)
}

/// Stores a new domain under the next id.
pub(crate) fn put_domain(state: &mut State, domain: &Domain) -> u32 {
    let id = DOMAIN_COUNT.get_or_default(state, &0).created;
    DOMAINS.put(state, &id, domain);
    DOMAIN_NAMES.put(state, &name_key(&domain.name), &id);
    DOMAIN_COUNT.update(state, &0, |count| {
        count.created = count.created.saturating_add(1);
        count.open = count.open.saturating_add(1);
    });
    id
}

/// Checks a domain's name: names are compared by bytes, so look-alikes of capitals and other scripts are kept out.
pub(crate) fn check_name(name: &str) -> Result<(), Reject> {
    check_size(Field::Name, name.len(), 1, MAX_NAME_BYTES)?;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match name.bytes().position(|b| !allowed(b)) {
        None => Ok(()),
        Some(at) => Err(RegistryReject::DomainName { at: at as u64 }.into()),
    }
}

fn name_key(name: &str) -> Hash32 {
    Hash32(keccak256(&[name.as_bytes()]))
}

fn check_emission(split: &DomainSplit, params: &RegistryParams) -> Result<(), SplitError> {
    let bounds = &params.emission_bounds;
    let ranges: [(&'static str, u16, Range); 4] = [
        ("workers", split.workers, bounds.workers),
        ("validators", split.validators, bounds.validators),
        ("stakers", split.stakers, bounds.stakers),
        ("creators", split.creators, bounds.creators),
    ];
    for (name, found, Range { min, max }) in ranges {
        if !(min..=max).contains(&found) {
            return Err(SplitError::OutOfBounds { name, found, min, max });
        }
    }
    split.validate()
}

#[cfg(test)]
mod tests {
    use dn_powr::FeeMove;

    use super::*;

    #[test]
    fn terms_that_left_the_bounds_give_way_to_the_chains() {
        let mut params = Params::devnet();
        let to = FeeMove { worker: 6_000, owner: 2_500, validators: 800, domain: 400 };
        let emission = DomainSplit { workers: 4_000, creators: 2_500, ..DomainSplit::default() };
        let terms = DomainTerms { emission: Some(emission), fees: Some(to), ..DomainTerms::default() };
        assert_eq!(domain_fees(&params, &terms).owner, 2_500);
        assert_eq!(domain_emission(&params, &terms), emission);
        params.registry.fee_bounds.owner.max = 2_499;
        params.registry.emission_bounds.creators.max = 2_499;
        assert_eq!(domain_fees(&params, &terms), params.fees);
        assert_eq!(domain_emission(&params, &terms), params.domain_split);
        // Also when the chain's own shares leave the four another sum.
        params.registry = RegistryParams::devnet();
        params.fees = FeeSplit { burn: 200, worker: 6_400, ..params.fees };
        assert_eq!(domain_fees(&params, &terms), params.fees);
        let own = DomainTerms::default();
        assert_eq!(
            (domain_fees(&params, &own), domain_emission(&params, &own)),
            (params.fees, params.domain_split)
        );
    }
}
