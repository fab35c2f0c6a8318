//! The supply equation: Σ balances + bonds + escrows + pools + burned = supply.

use dn_core::amount::SUPPLY_CAP;
use dn_core::{Amount, Canonical};
use dn_powr::StakePool;

use crate::state::{
    ACCOUNTS, Account, BACKING_POOLS, BACKING_RELEASES, BATCHES, Batch, CHANNELS, Channel, DOMAINS, Domain,
    IDENTITIES, Identity, JOBS, JobEscrow, POOLS, Pending, Pool, STAKE_POOLS, State, UNBONDING_POOLS,
};

/// The supply equation does not hold: a bug, never the outcome of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the books hold {found} DN; the supply is {expected} DN")]
pub struct SupplyError {
    /// What must be there.
    pub expected: Amount,
    /// What is there.
    pub found: Amount,
}

/// What exists, by the kind of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Supply {
    /// Balances of accounts.
    pub accounts: Amount,
    /// Collateral of identities.
    pub collateral: Amount,
    /// Stake in pools.
    pub stake: Amount,
    /// Unbonding stake.
    pub unbonding: Amount,
    /// Channel escrow.
    pub channels: Amount,
    /// Batch escrow, bonds of jobs included.
    pub batches: Amount,
    /// Deposits of domains.
    pub domains: Amount,
    /// Backing of models, that on its way back included.
    pub backing: Amount,
    /// Job escrows.
    pub jobs: Amount,
    /// Pools without the burned.
    pub pools: Amount,
    /// Burned.
    pub burned: Amount,
}

impl Supply {
    /// Everything; saturating, so that a wrong sum is reported and not a panic.
    pub fn total(&self) -> Amount {
        let parts = [
            self.accounts,
            self.collateral,
            self.stake,
            self.unbonding,
            self.channels,
            self.batches,
            self.domains,
            self.backing,
            self.jobs,
            self.pools,
            self.burned,
        ];
        parts.into_iter().fold(Amount::ZERO, saturating_sum)
    }

    /// What there is after changes.
    #[must_use]
    pub(crate) fn after(mut self, changes: &[HoldingChange<'_>]) -> Self {
        for change in changes {
            let Some(part) = self.part_mut(change.key) else { continue };
            *part = saturating_sum(part.saturating_sub(change.before), change.after);
        }
        self
    }

    fn count(&mut self, key: &[u8], value: &[u8]) {
        if let Some(part) = self.part_mut(key) {
            *part = saturating_sum(*part, holding(key, value));
        }
    }

    fn part_mut(&mut self, key: &[u8]) -> Option<&mut Amount> {
        Some(match key.first().copied() {
            p if p == Some(ACCOUNTS.prefix()) => &mut self.accounts,
            p if p == Some(IDENTITIES.prefix()) => &mut self.collateral,
            p if p == Some(STAKE_POOLS.prefix()) => &mut self.stake,
            p if p == Some(UNBONDING_POOLS.prefix()) => &mut self.unbonding,
            p if p == Some(CHANNELS.prefix()) => &mut self.channels,
            p if p == Some(BATCHES.prefix()) => &mut self.batches,
            p if p == Some(DOMAINS.prefix()) => &mut self.domains,
            p if p == Some(BACKING_POOLS.prefix()) => &mut self.backing,
            p if p == Some(BACKING_RELEASES.prefix()) => &mut self.backing,
            p if p == Some(JOBS.prefix()) => &mut self.jobs,
            p if p == Some(POOLS.prefix()) && key == POOLS.key(&Pool::Burned) => &mut self.burned,
            p if p == Some(POOLS.prefix()) => &mut self.pools,
            _ => return None,
        })
    }
}

/// Adds up the whole state.
pub fn supply(state: &State) -> Supply {
    let mut supply = Supply::default();
    for (key, value) in state.entries() {
        supply.count(key, value);
    }
    supply
}

/// Checks the equation over the whole state.
///
/// # Errors
/// [`SupplyError`].
pub fn check_all(state: &State) -> Result<(), SupplyError> {
    let (expected, found) = (SUPPLY_CAP, supply(state).total());
    if found == expected { Ok(()) } else { Err(SupplyError { expected, found }) }
}

/// A record whose DN the pending changes moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldingChange<'a> {
    /// The record's key, with its table's prefix.
    pub key: &'a [u8],
    /// What it held.
    pub before: Amount,
    /// What it holds.
    pub after: Amount,
}

/// Every record whose DN the pending changes move, in the order of the keys.
pub fn changed_holdings<'a>(pending: &[Pending<'a>]) -> Vec<HoldingChange<'a>> {
    let changes = pending.iter().map(|Pending { key, before, now }| {
        let of = |value: &Option<&[u8]>| value.map_or(Amount::ZERO, |value| holding(key, value));
        HoldingChange { key, before: of(before), after: of(now) }
    });
    changes.filter(|change| change.before != change.after).collect()
}

/// Checks that changes move DN but neither make nor lose any: what the changed records held before they hold after. With
/// [`check_all`] at the start this is the equation at every block, at the cost of the changes alone.
///
/// # Errors
/// [`SupplyError`].
pub fn check_changes(changes: &[HoldingChange<'_>]) -> Result<(), SupplyError> {
    let expected = changes.iter().map(|change| change.before).fold(Amount::ZERO, saturating_sum);
    let found = changes.iter().map(|change| change.after).fold(Amount::ZERO, saturating_sum);
    if found == expected { Ok(()) } else { Err(SupplyError { expected, found }) }
}

/// DN that a record holds.
fn holding(key: &[u8], value: &[u8]) -> Amount {
    fn read<V: Canonical>(value: &[u8]) -> V {
        V::from_bytes(value).expect("the state holds what its tables wrote")
    }
    match key.first().copied() {
        p if p == Some(ACCOUNTS.prefix()) => read::<Account>(value).balance,
        p if p == Some(IDENTITIES.prefix()) => read::<Identity>(value).collateral,
        p if p == Some(STAKE_POOLS.prefix()) => read::<StakePool>(value).tokens(),
        p if p == Some(UNBONDING_POOLS.prefix()) => read::<StakePool>(value).tokens(),
        p if p == Some(CHANNELS.prefix()) => read::<Channel>(value).balance(),
        p if p == Some(BATCHES.prefix()) => read::<Batch>(value).held(),
        p if p == Some(DOMAINS.prefix()) => read::<Domain>(value).deposit,
        p if p == Some(BACKING_POOLS.prefix()) => read::<StakePool>(value).tokens(),
        p if p == Some(BACKING_RELEASES.prefix()) => read::<Amount>(value),
        p if p == Some(JOBS.prefix()) => read::<JobEscrow>(value).amount,
        p if p == Some(POOLS.prefix()) => read::<Amount>(value),
        _ => Amount::ZERO,
    }
}

fn saturating_sum(a: Amount, b: Amount) -> Amount {
    a.checked_add(b).unwrap_or(Amount::from_atto(u128::MAX))
}
