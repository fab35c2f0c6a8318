//! Pages of earlier requests, found again by their tokens.

use std::collections::{BTreeMap, HashMap};

use dn_core::blake3_256;

use crate::runtime::SessionPage;
use crate::spec::attention::KEY_BLOCK;

/// With whom a request shares pages of a common beginning.
///
/// Time tells: a beginning that is in the cache is answered sooner. Requests that must not learn about each other get
/// different scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheScope([u8; 32]);

impl CacheScope {
    /// Shared with everybody who chooses it: for beginnings that are no secret.
    pub const PUBLIC: Self = Self([0; 32]);

    /// The scope of one owner, such as the bytes of an address.
    pub fn new(owner: &[u8]) -> Self {
        Self(blake3_256(&[b"deepnode cache scope v1\0", owner]))
    }
}

/// Names a page: by its scope and every token up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PageKey([u8; 32]);

impl PageKey {
    /// The beginning of every chain of pages in a scope.
    pub(super) fn root(scope: CacheScope) -> Self {
        Self(blake3_256(&[b"deepnode prefix root v1\0", &scope.0]))
    }

    /// The page of these tokens after this one.
    pub(super) fn next(self, tokens: &[u32]) -> Self {
        let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
        Self(blake3_256(&[b"deepnode prefix page v1\0", &self.0, &bytes]))
    }
}

#[derive(Debug)]
struct Entry {
    page: SessionPage,
    /// `None` for the first page of a chain.
    parent: Option<PageKey>,
    children: usize,
    used: u64,
}

/// A forest of pages. Only pages without children can go, the least recently used first: what is kept can be reached.
#[derive(Debug)]
pub(super) struct PrefixCache {
    most: usize,
    page_bytes: u64,
    entries: HashMap<PageKey, Entry>,
    /// Pages without children by the time of their last use.
    leaves: BTreeMap<u64, PageKey>,
    clock: u64,
    found: u64,
}

impl PrefixCache {
    /// A cache of at most `bytes`, for pages whose keys and values take `kv_bytes`.
    pub(super) fn new(bytes: u64, kv_bytes: u64) -> Self {
        let page_bytes = kv_bytes + 32 * KEY_BLOCK as u64;
        Self {
            most: usize::try_from(bytes / page_bytes).unwrap_or(usize::MAX),
            page_bytes,
            entries: HashMap::new(),
            leaves: BTreeMap::new(),
            clock: 0,
            found: 0,
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.len() as u64 * self.page_bytes
    }

    /// Pages given out so far.
    pub(super) const fn found(&self) -> u64 {
        self.found
    }

    /// A page, which counts as used.
    pub(super) fn get(&mut self, key: PageKey) -> Option<SessionPage> {
        let entry = self.entries.get_mut(&key)?;
        self.clock += 1;
        if entry.children == 0 {
            self.leaves.remove(&entry.used);
            self.leaves.insert(self.clock, key);
        }
        entry.used = self.clock;
        self.found += 1;
        Some(entry.page.clone())
    }

    /// Keeps the page `key` after `parent`; says whether pages after it can be kept.
    pub(super) fn put(
        &mut self,
        parent: Option<PageKey>,
        key: PageKey,
        page: impl FnOnce() -> Option<SessionPage>,
    ) -> bool {
        if self.entries.contains_key(&key) {
            return true;
        }
        // A page whose parent has gone could not be found.
        let rooted = parent.is_none_or(|parent| self.entries.contains_key(&parent));
        if !rooted || self.most == 0 {
            return false;
        }
        let Some(page) = page() else { return false };
        if let Some(parent) = parent.and_then(|parent| self.entries.get_mut(&parent)) {
            if parent.children == 0 {
                self.leaves.remove(&parent.used);
            }
            parent.children += 1;
        }
        self.clock += 1;
        self.entries.insert(key, Entry { page, parent, children: 0, used: self.clock });
        self.leaves.insert(self.clock, key);
        while self.entries.len() > self.most {
            self.drop_oldest();
        }
        self.entries.contains_key(&key)
    }

    fn drop_oldest(&mut self) {
        let Some((_, key)) = self.leaves.pop_first() else { return };
        let parent = self.entries.remove(&key).and_then(|entry| entry.parent);
        if let Some((key, entry)) = parent.and_then(|key| Some((key, self.entries.get_mut(&key)?))) {
            entry.children -= 1;
            if entry.children == 0 {
                self.leaves.insert(entry.used, key);
            }
        }
    }
}
