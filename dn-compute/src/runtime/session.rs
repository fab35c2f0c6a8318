//! One sequence: its keys and values, and the trace of its positions.

use std::sync::Arc;

use dn_core::Hash32;

use crate::spec::attention::{KEY_BLOCK, KvPage};
use crate::spec::{KvLayer, NumericError};
use crate::trace::{Leaf, LeafForms, Trace};

/// One sequence: its keys and values, and the trace of its positions.
///
/// A clone shares the pages of keys and values until one side writes.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) kv: Vec<KvLayer>,
    trace: Trace,
    /// Each position's leaf as it is inside a longer prompt.
    plain: Vec<Hash32>,
    pub(super) traced: bool,
}

/// Keys and values of 64 positions in all layers, and their leaves, to be shared between sequences.
#[derive(Debug, Clone)]
pub(crate) struct SessionPage {
    kv: Arc<[Arc<KvPage>]>,
    plain: Arc<[Hash32]>,
}

#[cfg(test)]
impl SessionPage {
    /// A page of nothing.
    pub(crate) fn empty() -> Self {
        Self { kv: Arc::new([]), plain: Arc::new([]) }
    }
}

impl Session {
    pub(super) fn new(kv: Vec<KvLayer>, traced: bool) -> Self {
        Self { kv, trace: Trace::default(), plain: Vec::new(), traced }
    }

    /// Positions fed.
    pub fn len(&self) -> usize {
        self.kv[0].len()
    }

    /// Whether nothing was fed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The trace of the positions fed.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The trace alone.
    pub(crate) fn into_trace(self) -> Trace {
        self.trace
    }

    /// Bytes that keys and values take now, pages shared with others included.
    ///
    /// # Units
    /// Bytes.
    pub fn memory_bytes(&self) -> usize {
        self.kv.iter().map(KvLayer::memory_bytes).sum()
    }

    /// Forgets what a step that failed half-way has appended.
    pub(super) fn roll_back(&mut self, positions: usize) {
        self.kv.iter_mut().for_each(|kv| kv.truncate(positions));
    }

    pub(super) fn extend_trace(&mut self, leaves: &[LeafForms]) {
        self.trace.extend_with(leaves.iter().map(|leaf| (leaf.own, leaf.body.clone())));
        self.plain.extend(leaves.iter().map(|leaf| leaf.plain));
    }

    /// Makes the trace, which is empty, one that keeps what its leaves are hashes of.
    pub(crate) fn detail(&mut self) {
        self.trace = Trace::detailed();
    }

    /// Adds the leaf of a position that was computed operation by operation.
    pub(super) fn push_leaf(&mut self, leaf: &Leaf) {
        let body = leaf.to_bytes().into_boxed_slice();
        self.trace.extend_with([(leaf.hash(), body)]);
        self.plain.push(Leaf { logits: None, ..leaf.clone() }.hash());
    }

    /// Keeps its trace, and remembers what another sequence does.
    #[cfg(test)]
    pub(crate) fn remember_as(&mut self, other: &Self) {
        self.kv.clone_from(&other.kv);
    }

    /// The sequence with the first `len` positions only; pages are shared.
    pub(crate) fn prefix(&self, len: usize) -> Self {
        let mut out = self.clone();
        out.roll_back(len);
        out.trace.truncate(len);
        out.plain.truncate(len);
        out
    }

    /// What a layer keeps of a position.
    pub(crate) fn entry(&self, layer: u32, position: u32) -> Vec<u8> {
        let mut out = Vec::new();
        self.kv[layer as usize].entry(position as usize, &mut out);
        out
    }

    /// The page of positions from `64 * index` on, once they all are fed.
    pub(crate) fn page(&self, index: usize) -> Option<SessionPage> {
        let kv: Option<Vec<_>> = self.kv.iter().map(|kv| kv.shared_page(index)).collect();
        let plain = self.plain.get(index * KEY_BLOCK..(index + 1) * KEY_BLOCK)?;
        Some(SessionPage { kv: kv?.into(), plain: plain.into() })
    }

    /// Takes over 64 positions that another sequence fed after the same tokens: the result is as if they had been
    /// fed here, as a part of the prompt.
    ///
    /// # Errors
    /// [`NumericError::CacheFull`]; the session then is as it was before.
    pub(crate) fn append_page(&mut self, page: &SessionPage) -> Result<(), NumericError> {
        let before = self.len();
        let mut pages = self.kv.iter_mut().zip(page.kv.iter());
        if let Err(error) = pages.try_for_each(|(kv, page)| kv.append_page(Arc::clone(page))) {
            self.roll_back(before);
            return Err(error);
        }
        if self.traced {
            self.trace.extend(page.plain.iter().copied());
            self.plain.extend_from_slice(&page.plain);
        }
        Ok(())
    }
}
