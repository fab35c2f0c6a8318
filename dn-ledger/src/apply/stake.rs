//! Stake: pools of shares, unbonding that slashes still reach, withdrawal.

use dn_core::{Address, Amount};

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::reject::Reject;
use crate::state::{IDENTITIES, IdentityStatus, STAKE_POOLS, STAKE_SHARES, UNBONDING, UNBONDING_POOLS};
use crate::tx::{Role, Shares};

/// The most releases that one withdrawal pays out; the rest waits for the next.
const MAX_RELEASES: usize = 64;

impl Step<'_> {
    pub(super) fn stake(
        &mut self,
        delegator: Address,
        validator: Address,
        amount: Amount,
    ) -> Result<(), Reject> {
        let minimum = self.ctx.params.min_stake;
        if amount < minimum {
            return Err(Reject::AmountTooSmall { minimum, found: amount });
        }
        self.active(Role::Validator, validator)?;
        self.debit(delegator, amount)?;
        let mut pool = STAKE_POOLS.get_or_default(self.state, &validator);
        let bought = pool.deposit(amount).map_err(|_| Reject::WorthNoShare { validator, amount })?;
        STAKE_POOLS.put(self.state, &validator, &pool);
        let key = (delegator, validator);
        // The pool's total just took these shares in, so a part of it cannot overflow.
        STAKE_SHARES.update(self.state, &key, |held| held.0 = held.0.saturating_add(bought));
        self.events.push(Event::Staked { delegator, validator, amount, shares: Shares(bought) });
        Ok(())
    }

    pub(super) fn unbond(
        &mut self,
        delegator: Address,
        validator: Address,
        shares: Shares,
    ) -> Result<(), Reject> {
        let key = (delegator, validator);
        let available = STAKE_SHARES.get_or_default(self.state, &key);
        let short = Reject::SharesInsufficient { validator, available, needed: shares };
        if shares > available || shares.0 == 0 {
            return Err(short);
        }
        let mut pool = STAKE_POOLS.get_or_default(self.state, &validator);
        let amount = pool.withdraw(shares.0).map_err(|_| short)?;
        STAKE_POOLS.put(self.state, &validator, &pool);
        match available.0 - shares.0 {
            0 => STAKE_SHARES.remove(self.state, &key),
            left => STAKE_SHARES.put(self.state, &key, &Shares(left)),
        }
        let release_epoch = self.ctx.epoch().saturating_add(self.ctx.params.unbonding_epochs);
        let mut waiting = UNBONDING_POOLS.get_or_default(self.state, &(validator, release_epoch));
        let part = waiting.deposit(amount).map_err(|_| Reject::WorthNoShare { validator, amount })?;
        UNBONDING_POOLS.put(self.state, &(validator, release_epoch), &waiting);
        UNBONDING.update(self.state, &(delegator, release_epoch, validator), |held| {
            held.0 = held.0.saturating_add(part);
        });
        self.events.push(Event::Unbonding { delegator, validator, shares, amount, release_epoch });
        Ok(())
    }

    pub(super) fn withdraw(&mut self, sender: Address) -> Result<(), Reject> {
        let epoch = self.ctx.epoch();
        let waiting: Vec<_> = UNBONDING.iter_from(self.state, &sender).take(MAX_RELEASES).collect();
        let mut next = waiting.iter().map(|((_, release, _), _)| *release).filter(|r| *r > epoch).min();
        let mut released = (Amount::ZERO, 0u32);
        for ((_, release_epoch, validator), part) in waiting {
            if release_epoch > epoch {
                continue;
            }
            let key = (validator, release_epoch);
            let mut pool = UNBONDING_POOLS.get_or_default(self.state, &key);
            let worth = pool.withdraw(part.0).expect("parts are shares of their pool");
            released = (sum(released.0, worth), released.1 + 1);
            match pool.shares() {
                0 => UNBONDING_POOLS.remove(self.state, &key),
                _ => UNBONDING_POOLS.put(self.state, &key, &pool),
            }
            UNBONDING.remove(self.state, &(sender, release_epoch, validator));
        }
        for role in Role::ALL {
            let Some(mut identity) = IDENTITIES.get(self.state, &(role, sender)) else { continue };
            let IdentityStatus::Retired { release_epoch } = identity.status else { continue };
            if identity.collateral.is_zero() {
                continue;
            }
            if release_epoch > epoch {
                next = Some(next.map_or(release_epoch, |n| n.min(release_epoch)));
                continue;
            }
            released = (sum(released.0, identity.collateral), released.1 + 1);
            identity.collateral = Amount::ZERO;
            IDENTITIES.put(self.state, &(role, sender), &identity);
        }
        let (backing, next_backing) = self.take_backing_releases(sender);
        released = (sum(released.0, backing.unwrap_or_default()), released.1 + u32::from(backing.is_some()));
        next = next.into_iter().chain(next_backing).min();
        if released.1 == 0 {
            return Err(Reject::NothingToWithdraw { next_release_epoch: next });
        }
        self.credit(sender, released.0);
        self.events.push(Event::Withdrawn { address: sender, amount: released.0 });
        Ok(())
    }
}
