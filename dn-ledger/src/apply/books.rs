//! Moving DN: the only functions that change balances, pools and bonds.

use dn_core::{Address, Amount};
use dn_powr::Offence;

use super::{Step, store_identity};
use crate::events::{Event, SlashCause};
use crate::reject::Reject;
use crate::state::{ACCOUNTS, IDENTITIES, Identity, IdentityStatus, POOLS, Pool};
use crate::tx::Role;

/// The sum of two holdings, which the supply bounds.
pub(super) fn sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).expect("holdings are parts of the supply, which fits 128 bits")
}

impl Step<'_> {
    pub(super) fn transfer(&mut self, from: Address, to: Address, amount: Amount) -> Result<(), Reject> {
        if amount.is_zero() {
            return Err(Reject::AmountTooSmall { minimum: Amount::from_atto(1), found: amount });
        }
        self.debit(from, amount)?;
        self.credit(to, amount);
        self.events.push(Event::Transferred { from, to, amount });
        Ok(())
    }

    /// Takes DN from an account.
    pub(super) fn debit(&mut self, account: Address, needed: Amount) -> Result<(), Reject> {
        let mut record = ACCOUNTS.get_or_default(self.state, &account);
        let available = record.balance;
        record.balance =
            available.checked_sub(needed).map_err(|_| Reject::Insufficient { account, available, needed })?;
        ACCOUNTS.put(self.state, &account, &record);
        Ok(())
    }

    /// Gives DN, taken elsewhere, to an account.
    pub(super) fn credit(&mut self, account: Address, amount: Amount) {
        if !amount.is_zero() {
            ACCOUNTS.update(self.state, &account, |record| record.balance = sum(record.balance, amount));
        }
    }

    /// Puts DN, taken elsewhere, into a pool.
    pub(super) fn add_to_pool(&mut self, pool: Pool, amount: Amount) {
        if !amount.is_zero() {
            POOLS.update(self.state, &pool, |held| *held = sum(*held, amount));
        }
    }

    /// Takes DN out of a pool, which must hold it.
    pub(super) fn take_from_pool(&mut self, pool: Pool, amount: Amount) {
        if !amount.is_zero() {
            POOLS.update(self.state, &pool, |held| {
                *held = held.checked_sub(amount).expect("callers take what they read from the pool");
            });
        }
    }

    /// Cuts the collateral of a worker or gateway, and its bond on the job, for an offence, pays the reporter's part and burns the rest; what of the bond,
    /// which the caller holds, is taken.
    pub(super) fn slash(
        &mut self,
        role: Role,
        address: Address,
        cause: SlashCause,
        bond: Amount,
        reporter: Address,
    ) -> Amount {
        let identity = IDENTITIES.get(self.state, &(role, address));
        let mut identity = identity.expect("identities are never removed");
        let offence = if cause == SlashCause::Fraud { Offence::WorkerFraud } else { Offence::Availability };
        let penalty = self.ctx.params.slash.penalty(offence, bond, identity.collateral);
        identity.collateral = identity.collateral.saturating_sub(penalty.from_collateral);
        self.credit(reporter, penalty.to_reporter);
        self.add_to_pool(Pool::Burned, penalty.burned);
        self.events.push(Event::Slashed {
            address,
            role,
            cause,
            amount: sum(penalty.from_bond, penalty.from_collateral),
            reporter: Some(reporter),
            reward: penalty.to_reporter,
            burned: penalty.burned,
        });
        self.suspend_if_under(role, address, identity);
        penalty.from_bond
    }

    /// Stores an identity, suspended when its collateral no longer reaches the role's minimum.
    pub(super) fn suspend_if_under(&mut self, role: Role, address: Address, mut identity: Identity) {
        let short = identity.collateral < self.ctx.params.collateral.of(role);
        if short && identity.status == IdentityStatus::Active {
            identity.status = IdentityStatus::Suspended;
            let collateral = identity.collateral;
            self.events.push(Event::Suspended { address, role, collateral });
        }
        store_identity(self.state, role, address, &identity);
    }
}
