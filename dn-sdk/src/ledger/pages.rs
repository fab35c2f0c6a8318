//! Lists: read page by page, to the end.

use dn_ledger::views::{BalancesPage, BalancesView, Cursor, Page};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{LedgerClient, LedgerError};

/// The most entries that a list is read to.
pub const MAX_ENTRIES: usize = 100_000;
/// The most pages of one list: a node that leaves pages empty does not go on for ever.
const MAX_PAGES: usize = 10_000;
/// Entries of a page of small entries.
const PAGE: u32 = 1_000;
/// How many times all holdings are read anew because a block came in between.
const BALANCES_ATTEMPTS: usize = 8;

/// Size of a list's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    /// A thousand fit into an answer.
    Small,
    /// The node says how many come at once.
    Large,
}

impl LedgerClient {
    /// All entries of a list.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        method: &'static str,
        mut params: Value,
        entries: Entries,
    ) -> Result<Vec<T>, LedgerError> {
        if entries == Entries::Small {
            params["limit"] = json!(PAGE);
        }
        let mut all = Vec::new();
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let page: Page<T> = self.query(method, with_cursor(&params, after.as_ref())).await?;
            all.extend(page.items);
            if all.len() > MAX_ENTRIES {
                break;
            }
            if page.next.is_none() {
                return Ok(all);
            }
            // The same page again would never end.
            if page.next == after {
                break;
            }
            after = page.next;
        }
        Err(LedgerError::TooMany { method, limit: MAX_ENTRIES })
    }

    /// Every holding, all at one height.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Moving`] when a new block came in between, time and again.
    pub async fn balances(&self) -> Result<BalancesView, LedgerError> {
        const METHOD: &str = "dn_balances";
        for _ in 0..BALANCES_ATTEMPTS {
            if let Some(view) = self.balances_once(METHOD).await? {
                return Ok(view);
            }
        }
        Err(LedgerError::Moving { method: METHOD })
    }

    /// None when a block came in between.
    async fn balances_once(&self, method: &'static str) -> Result<Option<BalancesView>, LedgerError> {
        let params = json!({ "limit": PAGE });
        let first: BalancesPage = self.query(method, params.clone()).await?;
        let (mut view, mut after) = (first.balances, first.next);
        for _ in 0..MAX_PAGES {
            let Some(cursor) = after else { return Ok(Some(view)) };
            let page: BalancesPage = self.query(method, with_cursor(&params, Some(&cursor))).await?;
            if page.balances.height != view.height {
                return Ok(None);
            }
            view.append(page.balances);
            after = page.next;
        }
        Err(LedgerError::TooMany { method, limit: MAX_ENTRIES })
    }
}

fn with_cursor(params: &Value, after: Option<&Cursor>) -> Value {
    let mut params = params.clone();
    if let Some(after) = after {
        params["after"] = json!(after);
    }
    params
}
