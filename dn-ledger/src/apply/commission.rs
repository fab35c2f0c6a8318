//! Commissions: what a validator keeps of its pool's reward.

use dn_core::{Address, Amount};

use super::Step;
use crate::events::Event;
use crate::reject::{Reject, StakingFault};
use crate::state::{COMMISSIONS, Commission, CommissionRaise, STAKE_POOLS, STAKE_SHARES};
use crate::tx::{Role, Shares};

/// Basis points in one.
const BASIS: u128 = 10_000;

impl Step<'_> {
    pub(super) fn set_commission(&mut self, validator: Address, rate: u16) -> Result<(), Reject> {
        self.active(Role::Validator, validator)?;
        let rules = self.ctx.params.staking;
        let (maximum, epoch) = (rules.max_commission, self.ctx.epoch());
        if rate > maximum {
            return Err(StakingFault::CommissionTooHigh { maximum, found: rate }.into());
        }
        let before = COMMISSIONS.get_or_default(self.state, &validator);
        let current = before.at(epoch);
        let pending = before.next.is_some_and(|next| next.from_epoch > epoch);
        let most = current.saturating_add(rules.max_commission_raise);
        if rate == current && !pending {
            return Err(Reject::NothingToChange {});
        }
        if rate > most {
            return Err(StakingFault::CommissionRaise { current, maximum: most, found: rate }.into());
        }
        // A raise is told of before it is paid, so that delegators can leave; nobody has to be told of a cut, which also
        // takes back an announced raise.
        let (record, from_epoch) = if rate > current {
            let from_epoch = epoch.saturating_add(rules.commission_delay_epochs);
            (Commission { rate: current, next: Some(CommissionRaise { rate, from_epoch }) }, from_epoch)
        } else {
            (Commission { rate, next: None }, epoch)
        };
        COMMISSIONS.put(self.state, &validator, &record);
        self.events.push(Event::CommissionSet { validator, rate, from_epoch });
        Ok(())
    }

    /// Pays a reward, already taken elsewhere, into a validator's pool: first everybody's part, then the commission, which
    /// buys the validator shares at the new price. False, and nothing is paid, when the pool has no shares.
    pub(super) fn reward_pool(&mut self, validator: Address, amount: Amount) -> bool {
        let mut pool = STAKE_POOLS.get_or_default(self.state, &validator);
        let rate = COMMISSIONS.get_or_default(self.state, &validator).at(self.ctx.epoch());
        let rate = rate.min(self.ctx.params.staking.max_commission);
        let commission = amount.mul_div(rate.into(), BASIS).expect("a commission is at most the whole");
        if pool.reward(amount.saturating_sub(commission)).is_err() {
            return false;
        }
        let bought = if commission.is_zero() { 0 } else { pool.deposit(commission).unwrap_or(0) };
        if bought == 0 && pool.reward(commission).is_err() {
            return false;
        }
        STAKE_POOLS.put(self.state, &validator, &pool);
        self.events.push(Event::PoolRewarded { validator, amount });
        if bought > 0 {
            let held = STAKE_SHARES.get_or_default(self.state, &(validator, validator)).0;
            // The pool's total just took these shares in.
            self.set_shares(validator, validator, held.saturating_add(bought));
            let shares = Shares(bought);
            self.events.push(Event::CommissionPaid { validator, amount: commission, shares });
        }
        true
    }
}
