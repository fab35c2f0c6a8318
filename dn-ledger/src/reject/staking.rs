//! Why commissions, stake and redelegations are refused.

use dn_core::{Address, Amount};
use serde::{Deserialize, Serialize};

use crate::tx::Shares;

/// A rule of stake pools that refuses a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message names its fields")]
pub enum StakingFault {
    /// A commission over the chain's bound.
    #[error("commission of {found} basis points; at most {maximum}")]
    CommissionTooHigh { maximum: u16, found: u16 },
    /// A commission that rises too much at once.
    #[error("commission from {current} to {found} basis points; {maximum} is the most for now")]
    CommissionRaise { current: u16, maximum: u16, found: u16 },
    /// A validator with too little stake of its own to take stake of others.
    #[error("{validator} has {found} DN of its own at stake; {minimum} DN needed to take more from others")]
    SelfBondTooLow { validator: Address, minimum: Amount, found: Amount },
    /// A redelegation that goes nowhere.
    #[error("the stake is in the pool of {validator} already")]
    SamePool { validator: Address },
    /// Shares that are worth less than what has to be moved at least.
    #[error(
        "{shares} shares of the pool of {validator} are worth {found} DN; at least {minimum} DN can be moved"
    )]
    WorthTooLittle { validator: Address, shares: Shares, minimum: Amount, found: Amount },
}
