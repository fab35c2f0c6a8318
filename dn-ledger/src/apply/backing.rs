//! Backers: DN behind a model family, for a part of what its owner earns.
//!
//! Backing is locked, not spent, and no offence reaches it: it is the price of a share in revenue, and comes back. Income raises
//! the price of a share, so nothing iterates over backers.

use dn_core::{Address, Amount, ModelId};
use dn_powr::BPS;

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::lineage::divide;
use crate::reject::{RegistryReject, Reject};
use crate::state::{
    BACKING_POOLS, BACKING_RELEASES, BACKING_SHARES, FAMILIES, MODEL_TERMS, MODELS, ModelTerms,
};
use crate::tx::Shares;

/// The most releases that one withdrawal pays out; the rest waits for the next.
const MAX_RELEASES: usize = 64;

impl Step<'_> {
    pub(super) fn back_model(
        &mut self,
        backer: Address,
        family: ModelId,
        amount: Amount,
    ) -> Result<(), Reject> {
        let terms = self.family(family)?.backing.ok_or(RegistryReject::NoBacking { family })?;
        let minimum = self.ctx.params.registry.min_backing;
        if amount < minimum {
            return Err(Reject::AmountTooSmall { minimum, found: amount });
        }
        let mut pool = BACKING_POOLS.get_or_default(self.state, &family);
        let (held, cap) = (pool.tokens(), terms.cap);
        if amount > cap.saturating_sub(held) {
            return Err(RegistryReject::BackingFull { family, cap, held, amount }.into());
        }
        self.debit(backer, amount)?;
        let bought =
            pool.deposit(amount).map_err(|_| RegistryReject::BackingWorthNoShare { family, amount })?;
        BACKING_POOLS.put(self.state, &family, &pool);
        // The pool's total just took these shares in, so a part of it cannot overflow.
        BACKING_SHARES.update(self.state, &(backer, family), |held| held.0 = held.0.saturating_add(bought));
        self.events.push(Event::Backed { backer, family, amount, shares: Shares(bought) });
        Ok(())
    }

    pub(super) fn unback(&mut self, backer: Address, family: ModelId, shares: Shares) -> Result<(), Reject> {
        self.family(family)?;
        let key = (backer, family);
        let available = BACKING_SHARES.get_or_default(self.state, &key);
        let short = RegistryReject::BackingShares { family, available, needed: shares };
        if shares > available || shares.0 == 0 {
            return Err(short.into());
        }
        let mut pool = BACKING_POOLS.get_or_default(self.state, &family);
        let amount = pool.withdraw(shares.0).map_err(|_| short)?;
        let left = available.0 - shares.0;
        let (rest, minimum) = (pool.value_of(left), self.ctx.params.registry.min_backing);
        if left > 0 && rest < minimum {
            return Err(RegistryReject::BackingRest { family, minimum, rest }.into());
        }
        if amount.is_zero() {
            return Err(Reject::AmountTooSmall { minimum: Amount::from_atto(1), found: amount });
        }
        match pool.shares() {
            0 => BACKING_POOLS.remove(self.state, &family),
            _ => BACKING_POOLS.put(self.state, &family, &pool),
        }
        match left {
            0 => BACKING_SHARES.remove(self.state, &key),
            left => BACKING_SHARES.put(self.state, &key, &Shares(left)),
        }
        let release_epoch = self.ctx.epoch().saturating_add(self.ctx.params.registry.unbacking_epochs);
        BACKING_RELEASES.update(self.state, &(backer, release_epoch, family), |held| {
            *held = sum(*held, amount);
        });
        self.events.push(Event::Unbacked { backer, family, shares, amount, release_epoch });
        Ok(())
    }

    /// Takes out of the books what a backer's releases hold by now, for the caller to credit; and the epoch of the next one.
    pub(super) fn take_backing_releases(&mut self, backer: Address) -> (Option<Amount>, Option<u64>) {
        let epoch = self.ctx.epoch();
        // In the order of their epochs.
        let waiting: Vec<_> = BACKING_RELEASES.iter_from(self.state, &backer).take(MAX_RELEASES).collect();
        let mut released = None;
        for (key, amount) in waiting {
            if key.1 > epoch {
                return (released, Some(key.1));
            }
            BACKING_RELEASES.remove(self.state, &key);
            released = Some(sum(released.unwrap_or_default(), amount));
        }
        (released, None)
    }

    /// Pays the owner's part of a model's fees: to its ancestors what it owes them, then to each family's backers and owner.
    pub(super) fn pay_owners(&mut self, model: ModelId, income: Amount) {
        let terms = MODEL_TERMS.get(self.state, &model);
        let royalties = terms.as_ref().map_or(&[][..], |terms| &terms.royalties);
        let (parts, rest) = divide(income, royalties);
        self.pay_family(model, terms.as_ref(), rest);
        for (ancestor, amount) in parts {
            if amount.is_zero() {
                continue;
            }
            self.events.push(Event::RoyaltyPaid { model, ancestor, amount });
            let terms = MODEL_TERMS.get(self.state, &ancestor);
            self.pay_family(ancestor, terms.as_ref(), amount);
        }
    }

    /// Divides a model's income between its backers and its owner, who gets what rounding leaves.
    fn pay_family(&mut self, model: ModelId, terms: Option<&ModelTerms>, income: Amount) {
        let family = terms.map_or(model, |terms| terms.family);
        let backing = FAMILIES.get(self.state, &family).and_then(|family| family.backing);
        let bps = backing.map_or(0, |terms| terms.share_bps.min(BPS));
        let part = income.mul_div(bps.into(), BPS.into()).expect("a part is at most the whole");
        let mut pool = BACKING_POOLS.get_or_default(self.state, &family);
        // Without backers the owner has it all.
        let to_backers = if !part.is_zero() && pool.reward(part).is_ok() { part } else { Amount::ZERO };
        if !to_backers.is_zero() {
            BACKING_POOLS.put(self.state, &family, &pool);
            self.events.push(Event::BackersRewarded { family, model, amount: to_backers });
        }
        let owner = MODELS.get(self.state, &model).expect("models are never removed").owner;
        self.credit(owner, income.saturating_sub(to_backers));
    }
}
