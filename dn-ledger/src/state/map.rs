//! The ordered map with its journal.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::tree::{LeafHash, Tree};

/// Changed keys with their new values; `None` is a removal.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A key that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value before.
    pub before: Option<&'a [u8]>,
    /// Its value now.
    pub now: Option<&'a [u8]>,
}

impl Pending<'_> {
    /// The key with its value now, as in [`Changes`].
    pub fn to_change(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        (self.key.to_vec(), self.now.map(<[u8]>::to_vec))
    }
}

/// A point to which changes can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint(usize);

/// The state: canonical keys to canonical values, in order.
///
/// Every change is journalled with the value before it, so a refused transaction or a block that was only tried is
/// undone to the byte, and a block's changes can be listed. The tree follows the sealed state; of pending changes it is made on demand.
#[derive(Debug, Clone, Default)]
pub struct State {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    journal: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    tree: Tree,
}

impl PartialEq for State {
    /// Equal entries; the journal is not part of the state.
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl State {
    /// A state of these entries, without pending changes.
    pub fn from_entries(entries: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let leaves = entries.iter().map(|(key, value)| LeafHash::of(key, value)).collect();
        Self { entries, journal: Vec::new(), tree: Tree::of_leaves(leaves) }
    }

    /// Entries that were proven one by one; there is no tree over a part of a state.
    #[cfg(feature = "light")]
    pub(crate) fn from_proven(entries: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        Self { entries, ..Self::default() }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let old = self.entries.insert(key.clone(), value);
        self.journal.push((key, old));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) {
        if let Some(old) = self.entries.remove(key) {
            self.journal.push((key.to_vec(), Some(old)));
        }
    }

    /// The entries whose key starts with the prefix, in order.
    pub fn range(&self, prefix: Vec<u8>) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries
            .range::<[u8], _>((Bound::Included(prefix.as_slice()), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The entries whose key starts with the prefix, from the key `first` on, in order.
    pub fn range_from(
        &self,
        prefix: Vec<u8>,
        first: &[u8],
    ) -> impl Iterator<Item = (&[u8], &[u8])> + use<'_> {
        self.entries
            .range::<[u8], _>((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The entries whose key starts with the prefix and comes after `after`, in order.
    pub fn range_after(
        &self,
        prefix: Vec<u8>,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&[u8], &[u8])> + use<'_> {
        let start = match after {
            Some(after) if after >= prefix.as_slice() => Bound::Excluded(after.to_vec()),
            _ => Bound::Included(prefix.clone()),
        };
        self.entries
            .range::<Vec<u8>, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// A point to return to.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint(self.journal.len())
    }

    /// Takes back everything since the checkpoint.
    pub fn rollback(&mut self, to: Checkpoint) {
        while self.journal.len() > to.0 {
            let Some((key, old)) = self.journal.pop() else { return };
            match old {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
    }

    /// The keys changed since the last [`seal`](Self::seal), in order, without those whose changes came to nothing.
    pub fn pending(&self) -> Vec<Pending<'_>> {
        let mut first: Vec<_> =
            self.journal.iter().map(|(key, old)| (key.as_slice(), old.as_deref())).collect();
        // Stable: of several changes of one key the first one stays, which knows the value before all.
        first.sort_by_key(|(key, _)| *key);
        first.dedup_by_key(|(key, _)| *key);
        let pending = first.into_iter().map(|(key, before)| Pending { key, before, now: self.get(key) });
        pending.filter(|change| change.before != change.now).collect()
    }

    /// What is [`pending`](Self::pending), to be applied to another state.
    pub fn changes(&self) -> Changes {
        self.pending().iter().map(Pending::to_change).collect()
    }

    /// The authenticated tree over the state with all pending changes.
    pub fn commitment(&self) -> Tree {
        self.commitment_of(&self.pending())
    }

    /// The authenticated tree as of the last [`seal`](Self::seal).
    pub const fn sealed(&self) -> &Tree {
        &self.tree
    }

    /// Makes the pending changes permanent; they can no longer be taken back.
    pub fn seal(&mut self) {
        self.tree = self.commitment();
        self.journal.clear();
    }

    /// Applies a block's changes and seals them.
    pub fn apply_changes(&mut self, changes: &Changes) {
        self.write(changes);
        self.seal();
    }

    /// Takes back everything since the last [`seal`](Self::seal).
    pub fn take_back(&mut self) {
        self.rollback(Checkpoint(0));
    }

    /// Writes changes that stay pending until [`seal_known`](Self::seal_known). What was pending is taken back: it is of something
    /// that was interrupted.
    pub(crate) fn write_known(&mut self, changes: &Changes) {
        self.take_back();
        self.write(changes);
    }

    /// Seals what is pending, whose tree is known. Returns the tree before.
    pub(crate) fn seal_known(&mut self, tree: &Tree) -> Tree {
        debug_assert_eq!(self.commitment().hash(), tree.hash());
        self.journal.clear();
        std::mem::replace(&mut self.tree, tree.clone())
    }

    /// What [`commitment`](Self::commitment) gives, of changes that the caller has asked for already.
    pub(crate) fn commitment_of(&self, pending: &[Pending<'_>]) -> Tree {
        self.tree.update(pending.iter().map(|change| (change.key, change.now)))
    }

    fn write(&mut self, changes: &Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => self.put(key.clone(), value.clone()),
                None => self.remove(key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(state: &mut State, ops: &[(u8, Option<u8>)]) {
        for (key, value) in ops {
            match value {
                Some(v) => state.put(vec![*key], vec![*v]),
                None => state.remove(&[*key]),
            }
        }
    }

    proptest! {
        /// Rolling back restores every byte; changes applied elsewhere give the same state and commitment.
        #[test]
        fn rollback_and_replay(
            first in prop::collection::vec((0u8..8, prop::option::of(0u8..4)), 0..20),
            second in prop::collection::vec((0u8..8, prop::option::of(0u8..4)), 0..20),
        ) {
            let mut state = State::default();
            apply(&mut state, &first);
            let changes = state.changes();
            let mut replica = State::default();
            replica.apply_changes(&changes);
            prop_assert_eq!(&replica, &state);
            prop_assert_eq!(replica.commitment(), state.commitment());
            let mut known = State::default();
            // Whatever was interrupted before leaves no trace.
            apply(&mut known, &second);
            known.write_known(&changes);
            let empty = known.seal_known(&state.commitment());
            prop_assert_eq!(empty, Tree::default());
            prop_assert_eq!(&known, &state);
            prop_assert_eq!(known.sealed(), &state.commitment());
            state.seal();
            let before = (state.clone(), state.commitment());
            let point = state.checkpoint();
            apply(&mut state, &second);
            let (after, after_commitment) = (state.clone(), state.commitment());
            state.rollback(point);
            prop_assert_eq!(&state, &before.0);
            prop_assert_eq!(state.commitment(), before.1);
            // From scratch the commitment is the same as along the way.
            let entries = after.entries().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(State::from_entries(entries).commitment(), after_commitment);
        }
    }
}
