//! Redelegation: stake moves to another pool at today's prices, and the old validator's slashes follow it.
//!
//! What moves becomes a lot: a part of the shares that everybody who moved between the same pools in the same epoch
//! has in the new pool. It earns and is slashed there like other stake, votes with the new validator, and cannot move again
//! until the old validator's claim on it is over; then it is plain shares (docs/adr/0011-staking-and-governance.md).

use dn_core::{Address, Amount};

use super::Step;
use crate::events::Event;
use crate::reject::{Reject, StakingFault};
use crate::state::{REDELEGATION_POOLS, REDELEGATIONS, STAKE_POOLS, STAKE_SHARES};
use crate::tx::Shares;

/// The most lots that one transaction settles; the rest waits for the next.
const MAX_LOTS: usize = 64;

impl Step<'_> {
    pub(super) fn redelegate(
        &mut self,
        delegator: Address,
        from: Address,
        to: Address,
        shares: Shares,
    ) -> Result<(), Reject> {
        if from == to {
            return Err(StakingFault::SamePool { validator: from }.into());
        }
        self.settle_lots(delegator);
        self.accepts_stake(to, delegator)?;
        let amount = self.leave_pool(delegator, from, shares)?;
        let minimum = self.ctx.params.min_stake;
        if amount < minimum {
            return Err(
                StakingFault::WorthTooLittle { validator: from, shares, minimum, found: amount }.into()
            );
        }
        let worthless = Reject::WorthNoShare { validator: to, amount };
        let mut pool = STAKE_POOLS.get_or_default(self.state, &to);
        let bought = pool.deposit(amount).map_err(|_| worthless.clone())?;
        STAKE_POOLS.put(self.state, &to, &pool);
        let release_epoch = self.ctx.epoch().saturating_add(self.ctx.params.unbonding_epochs);
        let key = (from, release_epoch, to);
        let mut lots = REDELEGATION_POOLS.get_or_default(self.state, &key);
        let part = lots.deposit(Amount::from_atto(bought)).map_err(|_| worthless)?;
        REDELEGATION_POOLS.put(self.state, &key, &lots);
        // The lots' total just took this part in, so it cannot overflow.
        REDELEGATIONS.update(self.state, &(delegator, release_epoch, (from, to)), |held| {
            held.0 = held.0.saturating_add(part);
        });
        self.events.push(Event::Redelegated { delegator, from, to, shares, amount, release_epoch });
        Ok(())
    }

    /// Turns lots whose time is over into plain shares, and says how many there were.
    pub(super) fn settle_lots(&mut self, delegator: Address) -> usize {
        let epoch = self.ctx.epoch();
        let due: Vec<_> = REDELEGATIONS
            .iter_from(self.state, &delegator)
            .take(MAX_LOTS)
            .take_while(|((_, release, _), _)| *release <= epoch)
            .collect();
        for ((_, release, (from, to)), part) in &due {
            let key = (*from, *release, *to);
            let mut lots = REDELEGATION_POOLS.get_or_default(self.state, &key);
            let shares = lots.withdraw(part.0).expect("parts are shares of their pool").atto();
            match lots.shares() {
                0 => REDELEGATION_POOLS.remove(self.state, &key),
                _ => REDELEGATION_POOLS.put(self.state, &key, &lots),
            }
            REDELEGATIONS.remove(self.state, &(delegator, *release, (*from, *to)));
            let held = STAKE_SHARES.get_or_default(self.state, &(delegator, *to)).0;
            // Both are shares of one pool, whose total fits.
            self.set_shares(delegator, *to, held.saturating_add(shares));
            let (from, to, shares) = (*from, *to, Shares(shares));
            self.events.push(Event::RedelegationSettled { delegator, from, to, shares });
        }
        due.len()
    }

    /// When the next lot of a delegator is settled.
    pub(super) fn next_lot_epoch(&self, delegator: Address) -> Option<u64> {
        REDELEGATIONS.iter_from(self.state, &delegator).next().map(|((_, release, _), _)| release)
    }
}
