//! A validator's stake pool: delegators hold shares (stDN), so a reward or a slash moves the price of a share and nothing
//! iterates over delegators.

use dn_core::{Amount, canonical_struct};

use crate::bps::{BPS, portion_up};

/// Why a pool refuses an operation. The pool is then unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The deposit is worth less than one share.
    #[error("{amount} DN is worth less than one share of the pool")]
    TooSmall {
        /// The deposit.
        amount: Amount,
    },
    /// Everything in the pool was slashed: its shares are worth nothing and new ones have no price.
    #[error("the pool's {shares} shares are worth nothing; it takes no deposits")]
    Worthless {
        /// Shares that exist.
        shares: u128,
    },
    /// More shares than the pool has.
    #[error("{found} shares asked for; the pool has {available}")]
    Shares {
        /// Shares asked for.
        found: u128,
        /// Shares that exist.
        available: u128,
    },
    /// A reward for a pool without shares would belong to nobody.
    #[error("the pool has no shares that a reward could belong to")]
    Empty,
    /// Numbers over 128 bits.
    #[error("{amount} DN more than the pool can hold")]
    Overflow {
        /// What was to be added.
        amount: Amount,
    },
}

/// Tokens that shares are claims on. Every rounding is in favour of those who stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StakePool {
    /// What the pool holds.
    tokens: Amount,
    /// Shares that exist.
    #[serde(with = "dn_trust::decimal")]
    #[cfg_attr(feature = "schema", schemars(with = "dn_core::schema::Decimal"))]
    shares: u128,
}
canonical_struct!(StakePool { tokens: Amount, shares: u128 });

impl StakePool {
    /// What the pool holds.
    pub const fn tokens(&self) -> Amount {
        self.tokens
    }

    /// Shares that exist.
    pub const fn shares(&self) -> u128 {
        self.shares
    }

    /// What shares are worth now, rounded down.
    pub fn value_of(&self, shares: u128) -> Amount {
        // No shares, no value; more shares than exist are worth no more than the pool.
        self.tokens.mul_div(shares.min(self.shares), self.shares).unwrap_or(Amount::ZERO)
    }

    /// Adds a deposit and returns the shares it buys: `⌊amount · shares / tokens⌋`, one for each atto at first.
    ///
    /// # Errors
    /// [`PoolError::TooSmall`], [`PoolError::Worthless`] or [`PoolError::Overflow`].
    pub fn deposit(&mut self, amount: Amount) -> Result<u128, PoolError> {
        let overflow = PoolError::Overflow { amount };
        let bought = match (self.tokens.is_zero(), self.shares) {
            // Tokens without shares cannot be: the last withdrawal takes everything.
            (_, 0) => amount.atto(),
            (true, shares) => return Err(PoolError::Worthless { shares }),
            (false, shares) => amount.mul_div(shares, self.tokens.atto()).map_err(|_| overflow)?.atto(),
        };
        if bought == 0 {
            return Err(PoolError::TooSmall { amount });
        }
        let tokens = self.tokens.checked_add(amount).map_err(|_| overflow)?;
        self.shares = self.shares.checked_add(bought).ok_or(overflow)?;
        self.tokens = tokens;
        Ok(bought)
    }

    /// Destroys shares and returns what they were worth, rounded down; the last share takes everything.
    ///
    /// # Errors
    /// [`PoolError::Shares`].
    pub fn withdraw(&mut self, shares: u128) -> Result<Amount, PoolError> {
        if shares > self.shares {
            return Err(PoolError::Shares { found: shares, available: self.shares });
        }
        let amount = self.value_of(shares);
        self.tokens = self.tokens.saturating_sub(amount);
        self.shares -= shares;
        Ok(amount)
    }

    /// Adds a reward, which raises the price of every share.
    ///
    /// # Errors
    /// [`PoolError::Empty`] or [`PoolError::Overflow`].
    pub fn reward(&mut self, amount: Amount) -> Result<(), PoolError> {
        if self.shares == 0 {
            return Err(PoolError::Empty);
        }
        self.tokens = self.tokens.checked_add(amount).map_err(|_| PoolError::Overflow { amount })?;
        Ok(())
    }

    /// Takes a fraction in basis points, rounded up, from everyone alike and returns it. Less than all of it leaves an atto, so that rounding
    /// does not make the shares worthless: nobody could join them any more.
    pub fn slash(&mut self, bps: u16) -> Amount {
        let least = if bps < BPS { Amount::from_atto(1) } else { Amount::ZERO };
        let taken = portion_up(self.tokens, bps).min(self.tokens.saturating_sub(least));
        self.tokens = self.tokens.saturating_sub(taken);
        taken
    }
}

#[cfg(test)]
mod tests;
