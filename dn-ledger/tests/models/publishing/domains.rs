//! Domains as the design says them: who owns one, what its owner chooses within which bounds, what is spent of its treasury, how it ends.

use dn_core::Address;
use dn_ledger::state::Pool;
use dn_ledger::tx::{DomainTerms, FeeMove};
use dn_ledger::{Params, Payload};

use super::publishing_spec::{Domain, Spec, Verdict, WHOLE, must};

/// Four shares within their bounds that leave the others what the chain gives them.
pub(super) fn is_allowed(params: &Params, to: FeeMove) -> bool {
    let (chain, bounds) = (&params.fees, &params.registry.fee_bounds);
    let shares = [
        (to.worker, bounds.worker),
        (to.owner, bounds.owner),
        (to.validators, bounds.validators),
        (to.domain, bounds.domain),
    ];
    let sum: u32 = shares.iter().map(|(share, _)| u32::from(*share)).sum();
    let rest = u32::from(chain.foundation) + u32::from(chain.burn) + u32::from(chain.reinforcement);
    shares.iter().all(|(share, bound)| *share >= bound.min && *share <= bound.max) && sum + rest == 10_000
}

impl Spec {
    pub(super) fn change_domain(&mut self, sender: Address, payload: &Payload) -> Verdict {
        match payload {
            Payload::CreateDomain { name, terms } => self.create_domain(sender, name, *terms),
            Payload::ConfigureDomain { domain, terms } => {
                self.check_terms(terms)?;
                self.own_domain(sender, *domain)?.next = *terms;
                Ok(())
            }
            Payload::TransferDomain { domain, to } => {
                self.own_domain(sender, *domain)?.owner = Some(*to);
                Ok(())
            }
            Payload::SpendTreasury { domain, to, amount } => self.spend(sender, *domain, *to, amount.atto()),
            Payload::CloseDomain { domain } => self.close_domain(sender, *domain),
            other => panic!("nothing is specified for {other:?}"),
        }
    }

    pub(super) fn domain(&self, id: u32) -> Result<&Domain, &'static str> {
        let domain = self.domains.get(id as usize).ok_or("no such domain")?;
        must(domain.closed.is_none(), "the domain is closed")?;
        Ok(domain)
    }

    fn own_domain(&mut self, sender: Address, id: u32) -> Result<&mut Domain, &'static str> {
        must(self.domain(id)?.owner == Some(sender), "somebody else's domain")?;
        Ok(&mut self.domains[id as usize])
    }

    fn check_terms(&self, terms: &DomainTerms) -> Verdict {
        must(terms.fees.is_none_or(|to| is_allowed(&self.params, to)), "fees out of bounds")?;
        let Some(split) = terms.emission else { return Ok(()) };
        let bounds = &self.params.registry.emission_bounds;
        let moved = [
            (split.workers, bounds.workers),
            (split.validators, bounds.validators),
            (split.stakers, bounds.stakers),
            (split.creators, bounds.creators),
        ];
        let inside = moved.iter().all(|(share, bound)| *share >= bound.min && *share <= bound.max);
        let sum = moved.iter().map(|(share, _)| u32::from(*share)).sum::<u32>()
            + u32::from(split.treasury)
            + u32::from(split.foundation);
        // A treasury has a tenth at most, the foundation always a hundredth.
        must(inside && split.treasury <= 1_000 && split.foundation == 100, "weights out of bounds")?;
        must(sum == 10_000, "weights do not add up")
    }

    fn create_domain(&mut self, owner: Address, name: &str, terms: DomainTerms) -> Verdict {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        must((1..=64).contains(&name.len()) && name.chars().all(plain), "no name of a domain")?;
        self.check_terms(&terms)?;
        let open = || self.domains.iter().filter(|domain| domain.closed.is_none());
        must(open().all(|domain| domain.name != name), "the name is taken")?;
        must(open().count() < self.params.registry.max_domains as usize, "domains are full")?;
        if self.domains.iter().any(|domain| domain.name == name) {
            self.seen.insert("a name is used again");
        }
        let (fee, deposit) =
            (self.params.registry.domain_fee.atto(), self.params.registry.domain_deposit.atto());
        self.take(owner, fee + deposit)?;
        self.fill(Pool::Burned, fee);
        let (owner, name, closed, next) = (Some(owner), name.to_owned(), None, terms);
        self.domains.push(Domain { owner, name, deposit, closed, terms, next, spending: (0, 0, 0) });
        Ok(())
    }

    /// In an epoch no more than a part of what was there at its first expense.
    fn spend(&mut self, sender: Address, id: u32, to: Address, amount: u128) -> Verdict {
        let epoch = self.epoch();
        let held = self.pools.get(&Pool::Domain { domain: id }).copied().unwrap_or_default();
        let most = held * u128::from(self.params.registry.treasury_spend_bps) / WHOLE;
        let domain = self.own_domain(sender, id)?;
        must(amount > 0, "an expense of nothing")?;
        let (_, limit, spent) =
            Some(domain.spending).filter(|(of, limit, _)| *of == epoch && *limit > 0).unwrap_or((0, most, 0));
        must(spent + amount <= limit, "more than an epoch's expenses")?;
        domain.spending = (epoch, limit, spent + amount);
        *self.pools.get_mut(&Pool::Domain { domain: id }).ok_or("an empty treasury")? -= amount;
        self.give(to, amount);
        Ok(())
    }

    fn close_domain(&mut self, sender: Address, id: u32) -> Verdict {
        let height = self.height;
        let used = self.models.values().any(|model| model.domain == id && model.retired.is_none());
        let domain = self.own_domain(sender, id)?;
        must(!used, "the domain has models")?;
        domain.closed = Some(height);
        let deposit = std::mem::take(&mut domain.deposit);
        self.give(sender, deposit);
        let treasury = self.pools.remove(&Pool::Domain { domain: id }).unwrap_or_default();
        self.fill(Pool::Community, treasury);
        Ok(())
    }
}
