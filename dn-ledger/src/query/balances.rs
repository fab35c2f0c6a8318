//! Every holding, one by one.

use super::MAX_LIST;
use super::page::{MAX_SCAN, PageError, page};
use crate::state::{
    ACCOUNTS, BACKING_POOLS, BACKING_RELEASES, BATCHES, CHANNELS, DOMAINS, IDENTITIES, JOBS, POOLS, Pool,
    STAKE_POOLS, State, UNBONDING_POOLS,
};
use crate::views::{
    AccountBalance, BalancesPage, BalancesView, BatchBalance, ChannelBalance, Cursor, DomainBalance,
    FamilyBalance, Page, PageRequest, PoolBalance, ReleaseBalance, RoleBalance, UnbondingBalance,
};

/// The tables with holdings, ascending.
const HOLDINGS: [u8; 11] = [
    ACCOUNTS.prefix(),
    IDENTITIES.prefix(),
    STAKE_POOLS.prefix(),
    UNBONDING_POOLS.prefix(),
    CHANNELS.prefix(),
    BATCHES.prefix(),
    POOLS.prefix(),
    DOMAINS.prefix(),
    BACKING_POOLS.prefix(),
    BACKING_RELEASES.prefix(),
    JOBS.prefix(),
];

/// Every holding that is not nothing.
pub fn balances(state: &State, height: u64) -> BalancesView {
    let mut view = empty(state, height);
    for prefix in HOLDINGS {
        for (key, value) in state.range(vec![prefix]) {
            add(&mut view, key, value);
        }
    }
    view
}

/// A page of the holdings that are not nothing: its limit counts all kinds together.
///
/// # Errors
/// [`PageError`].
pub fn balances_page(state: &State, height: u64, request: &PageRequest) -> Result<BalancesPage, PageError> {
    let limit = request.limit(MAX_LIST)?;
    let after = request.after.as_ref().map(|cursor| cursor.0.as_slice());
    let table = after.map(|key| key.first().copied().unwrap_or_default());
    if table.is_some_and(|prefix| !HOLDINGS.contains(&prefix)) {
        return Err(PageError::Cursor { table: "balances" });
    }
    let mut balances = empty(state, height);
    let (mut found, mut seen, mut last) = (0, 0, None);
    for prefix in HOLDINGS.into_iter().filter(|prefix| table.is_none_or(|table| *prefix >= table)) {
        for (key, value) in state.range_after(vec![prefix], after) {
            if found == limit || seen == MAX_SCAN {
                return Ok(BalancesPage { balances, next: last.map(|key: &[u8]| Cursor(key.to_vec())) });
            }
            seen += 1;
            found += usize::from(add(&mut balances, key, value));
            last = Some(key);
        }
    }
    Ok(BalancesPage { balances, next: None })
}

/// The pools of DN that belong to no account, the burned and the treasuries of domains among them.
///
/// # Errors
/// [`PageError`].
pub fn pools(state: &State, request: &PageRequest) -> Result<Page<PoolBalance>, PageError> {
    page(state, &POOLS, request, |pool, amount| Some(PoolBalance { pool, amount }))
}

fn empty(state: &State, height: u64) -> BalancesView {
    BalancesView {
        height,
        burned: POOLS.get_or_default(state, &Pool::Burned),
        supply: dn_core::amount::SUPPLY_CAP,
        ..BalancesView::default()
    }
}

/// Adds what a record holds; whether that is anything.
fn add(view: &mut BalancesView, key: &[u8], value: &[u8]) -> bool {
    read(view, key, value).unwrap_or(false)
}

fn read(view: &mut BalancesView, key: &[u8], value: &[u8]) -> Option<bool> {
    /// Adds an entry unless it holds nothing.
    macro_rules! holding {
        ($list:ident, $entry:expr) => {{
            let entry = $entry;
            let held = !entry.amount.is_zero();
            if held {
                view.$list.push(entry);
            }
            Some(held)
        }};
    }
    let prefix = *key.first()?;
    if prefix == ACCOUNTS.prefix() {
        let (address, amount) = (ACCOUNTS.read_key(key)?, ACCOUNTS.read(value)?.balance);
        return holding!(accounts, AccountBalance { address, amount });
    }
    if prefix == IDENTITIES.prefix() {
        let ((role, address), amount) = (IDENTITIES.read_key(key)?, IDENTITIES.read(value)?.collateral);
        return holding!(collateral, RoleBalance { address, role, amount });
    }
    if prefix == STAKE_POOLS.prefix() {
        let (address, amount) = (STAKE_POOLS.read_key(key)?, STAKE_POOLS.read(value)?.tokens());
        return holding!(stake, AccountBalance { address, amount });
    }
    if prefix == UNBONDING_POOLS.prefix() {
        let (validator, release_epoch) = UNBONDING_POOLS.read_key(key)?;
        let amount = UNBONDING_POOLS.read(value)?.tokens();
        return holding!(unbonding, UnbondingBalance { validator, release_epoch, amount });
    }
    if prefix == CHANNELS.prefix() {
        let (channel, amount) = (CHANNELS.read_key(key)?, CHANNELS.read(value)?.balance());
        return holding!(channels, ChannelBalance { channel, amount });
    }
    if prefix == BATCHES.prefix() {
        let (batch, amount) = (BATCHES.read_key(key)?, BATCHES.read(value)?.held());
        return holding!(batches, BatchBalance { batch, amount });
    }
    if prefix == DOMAINS.prefix() {
        let (domain, amount) = (DOMAINS.read_key(key)?, DOMAINS.read(value)?.deposit);
        return holding!(domains, DomainBalance { domain, amount });
    }
    if prefix == BACKING_POOLS.prefix() {
        let (family, amount) = (BACKING_POOLS.read_key(key)?, BACKING_POOLS.read(value)?.tokens());
        return holding!(backing, FamilyBalance { family, amount });
    }
    if prefix == BACKING_RELEASES.prefix() {
        let (address, release_epoch, family) = BACKING_RELEASES.read_key(key)?;
        let amount = BACKING_RELEASES.read(value)?;
        return holding!(backing_releases, ReleaseBalance { address, family, release_epoch, amount });
    }
    if prefix == JOBS.prefix() {
        let (channel, amount) = (JOBS.read_key(key)?, JOBS.read(value)?.amount);
        return holding!(jobs, ChannelBalance { channel, amount });
    }
    let pool = POOLS.read_key(key).filter(|pool| *pool != Pool::Burned)?;
    holding!(pools, PoolBalance { pool, amount: POOLS.read(value)? })
}
