//! A key that is said to be new, and others who may know better.
//!
//! A disk that is lost in the chain's first day takes the record of signatures with it, and `--first-start` may still be in the unit file. So the
//! word is believed only once others are heard, at [`LISTENED`] looks in a row know no further block, and none of theirs carries a signature of the key.

use dn_core::Address;

use super::WATCHED_HEIGHTS;
use super::engine::SYNC_TIMEOUT;
use crate::chain::Chain;

/// Looks in a row, a second apart, at which others are there and no further block comes: they say how far they are, and a request for blocks
/// is answered or given up.
const LISTENED: u32 = 3 + SYNC_TIMEOUT.as_secs() as u32;

/// A block that others know shows that the key signed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "--first-start is not so: block {height} carries a signature of this key, and the record of what it signed is lost. It signs nothing until \
     others have decided {WATCHED_HEIGHTS} heights in a row. If they cannot decide without it, and only then, start once with --unsigned-from and \
     the height that is to be decided"
)]
pub(super) struct NotNew {
    /// The lowest such block.
    pub(super) height: u64,
}

/// A key that no block waits for: perhaps another one than the operator means, or one that is to be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{key} is not in the validator set of height {height}: this node follows until it is elected")]
pub(super) struct NotElected {
    /// The key's address.
    pub(super) key: Address,
    /// The next height.
    pub(super) height: u64,
}

impl NotElected {
    /// Whether this key has no power at the next height.
    pub(super) fn look(key: Address, chain: &Chain) -> Option<Self> {
        (chain.validators().power(key) == 0).then(|| Self { key, height: chain.tip().height + 1 })
    }
}

/// How long others have known no further block.
#[derive(Debug, Default)]
pub(super) struct Listening {
    tip: u64,
    looks: u32,
}

impl Listening {
    /// A look: the tip, the first block that carries the key's signature, and whether others are there. True once the key may count as new.
    pub(super) fn look(&mut self, tip: u64, signed: Option<u64>, heard: bool) -> Result<bool, NotNew> {
        if let Some(height) = signed {
            return Err(NotNew { height });
        }
        let looks = if heard && tip == self.tip { self.looks + 1 } else { 0 };
        *self = Self { tip, looks };
        Ok(looks >= LISTENED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::chain;

    /// An operator with the wrong key is told so, and not that the key may have signed something.
    #[test]
    fn a_key_that_nobody_elected_is_told_so() {
        let chain = chain();
        assert_eq!(NotElected::look(Address([1; 20]), &chain), None);
        let stranger = Address([2; 20]);
        let found = NotElected::look(stranger, &chain).unwrap();
        assert_eq!(found, NotElected { key: stranger, height: 1 });
        let expected = format!(
            "{stranger} is not in the validator set of height 1: this node follows until it is elected"
        );
        assert_eq!(found.to_string(), expected);
    }

    #[test]
    fn others_are_heard_out() {
        let mut listening = Listening::default();
        let looks = |listening: &mut Listening, tip, heard, count: u32| {
            (0..count).filter(|_| listening.look(tip, None, heard).unwrap()).count()
        };
        assert_eq!(looks(&mut listening, 0, false, 20), 0, "nobody is there");
        assert_eq!(looks(&mut listening, 0, true, LISTENED - 1), 0);
        assert_eq!(looks(&mut listening, 7, true, LISTENED), 0, "they knew more");
        assert_eq!(looks(&mut listening, 7, false, 1), 0);
        assert_eq!(looks(&mut listening, 7, true, LISTENED), 1);
        assert_eq!(listening.look(8, Some(3), true), Err(NotNew { height: 3 }));
    }
}
