//! Slashing a validator: everything that stands for its word is cut, wherever it is.

use dn_core::{Address, Amount};
use dn_powr::Offence;

use super::Step;
use super::books::sum;
use crate::events::{Event, SlashCause};
use crate::state::{IDENTITIES, Pool, REDELEGATION_POOLS, STAKE_POOLS, UNBONDING_POOLS};
use crate::tx::Role;

impl Step<'_> {
    /// Cuts collateral, stake, unbonding stake and redelegated stake of a validator by an offence's fraction. With a
    /// reporter a part is its own; the rest, or all, is burned.
    ///
    /// The loops are over release epochs to come and validators, never over delegators nor over what nobody fetched. What was released is free, withdrawn or not:
    /// its owner answered for the validator as long as was promised.
    pub(super) fn slash_validator(
        &mut self,
        validator: Address,
        offence: Offence,
        cause: SlashCause,
        reporter: Option<Address>,
    ) {
        let key = (Role::Validator, validator);
        let Some(mut identity) = IDENTITIES.get(self.state, &key) else { return };
        let slash = self.ctx.params.slash;
        let (_, bps) = slash.fractions(offence);
        let own = slash.penalty(offence, Amount::ZERO, identity.collateral).from_collateral;
        identity.collateral = identity.collateral.saturating_sub(own);
        let mut taken = own;
        if let Some(mut pool) = STAKE_POOLS.get(self.state, &validator) {
            taken = sum(taken, pool.slash(bps));
            STAKE_POOLS.put(self.state, &validator, &pool);
        }
        let first_bound = self.ctx.epoch() + 1;
        let unbonding: Vec<_> = UNBONDING_POOLS.iter_since(self.state, &validator, &first_bound).collect();
        for (key, mut pool) in unbonding {
            taken = sum(taken, pool.slash(bps));
            UNBONDING_POOLS.put(self.state, &key, &pool);
        }
        taken = sum(taken, self.slash_redelegated(validator, bps));
        let (reward, burned) = match reporter {
            Some(_) => slash.share_out(taken),
            None => (Amount::ZERO, taken),
        };
        if let Some(reporter) = reporter {
            self.credit(reporter, reward);
        }
        self.add_to_pool(Pool::Burned, burned);
        self.events.push(Event::Slashed {
            address: validator,
            role: Role::Validator,
            cause,
            amount: taken,
            reporter,
            reward,
            burned,
        });
        self.suspend_if_under(Role::Validator, validator, identity);
    }

    /// Takes a fraction of the shares that stake from this validator's pool has in other pools, and the DN behind them.
    fn slash_redelegated(&mut self, validator: Address, bps: u16) -> Amount {
        let first_bound = self.ctx.epoch() + 1;
        let lots: Vec<_> = REDELEGATION_POOLS.iter_since(self.state, &validator, &first_bound).collect();
        let mut taken = Amount::ZERO;
        for (key, mut lot) in lots {
            let shares = lot.slash(bps).atto();
            REDELEGATION_POOLS.put(self.state, &key, &lot);
            let mut pool = STAKE_POOLS.get_or_default(self.state, &key.2);
            let worth = pool.withdraw(shares).expect("the lots hold these shares of the pool");
            STAKE_POOLS.put(self.state, &key.2, &pool);
            taken = sum(taken, worth);
        }
        taken
    }
}
