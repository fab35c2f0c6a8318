//! Which keys a query of attention sees.

use std::ops::Range;

/// Which keys a query sees. A key that it does not see does not exist for it: it enters neither a sum nor a maximum.
///
/// Blocks of keys stay aligned to position 0 under every mask; the first and last block that a query sees may be partly seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mask {
    /// The query at position `t` sees `0..=t`.
    #[default]
    Causal,
    /// The query at position `t` sees its own position and those before it, `positions` in all.
    Window {
        /// Most keys seen, at least 1.
        positions: usize,
    },
    /// Every query sees every key of the cache, as encoders do. A row of the output depends on the whole sequence, so
    /// the keys must all be there first.
    Full,
}

impl Mask {
    /// The keys that a query at `position` sees in a cache of `held` positions, of which it is one.
    pub fn keys(self, position: usize, held: usize) -> Range<usize> {
        match self {
            Self::Causal => 0..position + 1,
            Self::Window { positions } => (position + 1).saturating_sub(positions)..position + 1,
            Self::Full => 0..held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_always_sees_itself_and_a_window_ends_with_it() {
        for position in 0..200 {
            for positions in [1, 2, 64, 65, 131_072, usize::MAX] {
                let keys = Mask::Window { positions }.keys(position, 300);
                assert_eq!(keys, (position + 1 - positions.min(position + 1))..position + 1);
                assert!(keys.contains(&position) && keys.len() <= positions);
            }
            assert_eq!(Mask::Window { positions: 200 }.keys(position, 300), Mask::Causal.keys(position, 300));
            assert_eq!(Mask::Full.keys(position, 300), 0..300);
        }
    }
}
