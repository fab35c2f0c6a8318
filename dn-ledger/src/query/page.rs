//! One page of a table.

use dn_core::Canonical;

use super::MAX_LIST;
use crate::state::{Key, State, Table, table_name};
use crate::views::{Cursor, Page, PageRequest};

/// Entries of a page when it is not said how many.
pub const DEFAULT_LIMIT: usize = 100;
/// The most records that are looked at for one page of a list that leaves some out.
pub const MAX_SCAN: usize = 10_000;

/// Why there is no such page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// No page has so many entries.
    #[error("limit: {found}; between 1 and {max} expected")]
    Limit {
        /// The most.
        max: usize,
        /// What was asked for.
        found: u32,
    },
    /// The cursor is of another list.
    #[error("after: not the `next` of a page of this list of {table}")]
    Cursor {
        /// The table that the list is of.
        table: &'static str,
    },
}

impl PageRequest {
    /// The most entries of the page.
    pub(super) fn limit(&self, max: usize) -> Result<usize, PageError> {
        let Some(found) = self.limit else { return Ok(DEFAULT_LIMIT.min(max)) };
        let limit = usize::try_from(found).ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or(PageError::Limit { max, found })
    }

    /// The key after which the page begins, of a table and in a part of it.
    pub(super) fn after<K: Key, V: Canonical>(
        &self,
        table: &Table<K, V>,
        prefix: &[u8],
    ) -> Result<Option<K>, PageError> {
        let Some(Cursor(bytes)) = &self.after else { return Ok(None) };
        let key = table.read_key(bytes).filter(|_| bytes.starts_with(prefix));
        key.map(Some).ok_or(PageError::Cursor { table: table_name(table.prefix()) })
    }
}

/// The page of the records under a prefix that `view` shows, at most `max` of them.
pub(super) fn page_of<K: Key, V: Canonical, T>(
    state: &State,
    table: &Table<K, V>,
    prefix: Vec<u8>,
    request: &PageRequest,
    max: usize,
    mut view: impl FnMut(K, V) -> Option<T>,
) -> Result<Page<T>, PageError> {
    let limit = request.limit(max)?;
    let after = request.after(table, &prefix)?.map(|key| table.key(&key));
    let mut items = Vec::new();
    let mut last = None;
    for (at, (key, value)) in state.range_after(prefix, after.as_deref()).enumerate() {
        if items.len() == limit || at == MAX_SCAN {
            return Ok(Page { items, next: last.map(|key: &[u8]| Cursor(key.to_vec())) });
        }
        let read = table.read_key(key).zip(table.read(value)).expect("written by this table");
        items.extend(view(read.0, read.1));
        last = Some(key);
    }
    Ok(Page { items, next: None })
}

/// The page of all records of a table.
pub(super) fn page<K: Key, V: Canonical, T>(
    state: &State,
    table: &Table<K, V>,
    request: &PageRequest,
    view: impl FnMut(K, V) -> Option<T>,
) -> Result<Page<T>, PageError> {
    page_of(state, table, vec![table.prefix()], request, MAX_LIST, view)
}

/// The page of the records whose key starts with `group`.
pub(super) fn page_in<K: Key, V: Canonical, P: Key, T>(
    state: &State,
    table: &Table<K, V>,
    group: &P,
    request: &PageRequest,
    view: impl FnMut(K, V) -> Option<T>,
) -> Result<Page<T>, PageError> {
    page_of(state, table, table.prefix_of(group), request, MAX_LIST, view)
}

/// The page of a numbered list, the newest first: numbers below `next` in the group.
pub(super) fn newest<K: Key, V: Canonical, T>(
    table: &Table<K, V>,
    prefix: &[u8],
    number: impl Fn(&K) -> u64,
    key: impl Fn(u64) -> K,
    (next, max): (u64, usize),
    request: &PageRequest,
    mut view: impl FnMut(u64) -> Option<T>,
) -> Result<Page<T>, PageError> {
    let limit = request.limit(max)? as u64;
    let end = request.after(table, prefix)?.map_or(next, |after| number(&after).min(next));
    let start = end.saturating_sub(limit);
    let items = (start..end).rev().filter_map(&mut view).collect();
    Ok(Page { items, next: (start > 0).then(|| Cursor(table.key(&key(start)))) })
}
