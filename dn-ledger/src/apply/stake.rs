//! Stake: pools of shares, unbonding that slashes still reach, withdrawal.

use dn_core::{Address, Amount};

use super::books::sum;
use super::{Step, store_identity};
use crate::events::Event;
use crate::power::self_bond;
use crate::reject::{Reject, StakingFault};
use crate::state::{IDENTITIES, STAKE_POOLS, STAKE_SHARES, UNBONDING, UNBONDING_POOLS};
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
        self.accepts_stake(validator, delegator)?;
        self.debit(delegator, amount)?;
        let mut pool = STAKE_POOLS.get_or_default(self.state, &validator);
        let bought = pool.deposit(amount).map_err(|_| Reject::WorthNoShare { validator, amount })?;
        STAKE_POOLS.put(self.state, &validator, &pool);
        let held = STAKE_SHARES.get_or_default(self.state, &(delegator, validator)).0;
        // The pool's total just took these shares in, so a part of it cannot overflow.
        self.set_shares(delegator, validator, held.saturating_add(bought));
        self.events.push(Event::Staked { delegator, validator, amount, shares: Shares(bought) });
        Ok(())
    }

    pub(super) fn unbond(
        &mut self,
        delegator: Address,
        validator: Address,
        shares: Shares,
    ) -> Result<(), Reject> {
        self.settle_lots(delegator);
        let amount = self.leave_pool(delegator, validator, shares)?;
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

    /// Takes shares out of a pool and returns what they are worth today.
    pub(super) fn leave_pool(
        &mut self,
        delegator: Address,
        validator: Address,
        shares: Shares,
    ) -> Result<Amount, Reject> {
        let available = STAKE_SHARES.get_or_default(self.state, &(delegator, validator));
        let short = Reject::SharesInsufficient { validator, available, needed: shares };
        if shares > available || shares.0 == 0 {
            return Err(short);
        }
        let mut pool = STAKE_POOLS.get_or_default(self.state, &validator);
        let amount = pool.withdraw(shares.0).map_err(|_| short)?;
        STAKE_POOLS.put(self.state, &validator, &pool);
        self.set_shares(delegator, validator, available.0 - shares.0);
        Ok(amount)
    }

    /// Sets what a delegator holds of a pool: the only function that does, since votes follow shares.
    pub(super) fn set_shares(&mut self, delegator: Address, validator: Address, after: u128) {
        let key = (delegator, validator);
        let before = STAKE_SHARES.get_or_default(self.state, &key).0;
        match after {
            0 => STAKE_SHARES.remove(self.state, &key),
            _ => STAKE_SHARES.put(self.state, &key, &Shares(after)),
        }
        self.move_votes(delegator, validator, before, after);
    }

    /// Whether a validator takes a delegator's stake: active, and with enough of its own at risk.
    pub(super) fn accepts_stake(&self, validator: Address, delegator: Address) -> Result<(), Reject> {
        self.active(Role::Validator, validator)?;
        let minimum = self.ctx.params.staking.min_self_bond;
        let found = self_bond(self.state, validator);
        if delegator != validator && found < minimum {
            return Err(StakingFault::SelfBondTooLow { validator, minimum, found }.into());
        }
        Ok(())
    }

    pub(super) fn withdraw(&mut self, sender: Address) -> Result<(), Reject> {
        let epoch = self.ctx.epoch();
        let settled = self.settle_lots(sender);
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
            let Some(release_epoch) = identity.status.release_epoch() else { continue };
            if identity.collateral.is_zero() {
                continue;
            }
            if release_epoch > epoch {
                next = Some(next.map_or(release_epoch, |n| n.min(release_epoch)));
                continue;
            }
            released = (sum(released.0, identity.collateral), released.1 + 1);
            identity.collateral = Amount::ZERO;
            store_identity(self.state, role, sender, &identity);
        }
        let (backing, next_backing) = self.take_backing_releases(sender);
        released = (sum(released.0, backing.unwrap_or_default()), released.1 + u32::from(backing.is_some()));
        next = next.into_iter().chain(next_backing).min();
        if released.1 == 0 && settled > 0 {
            return Ok(());
        }
        if released.1 == 0 {
            let next = next.into_iter().chain(self.next_lot_epoch(sender)).min();
            return Err(Reject::NothingToWithdraw { next_release_epoch: next });
        }
        self.credit(sender, released.0);
        self.events.push(Event::Withdrawn { address: sender, amount: released.0 });
        Ok(())
    }
}
