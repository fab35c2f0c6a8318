//! A panic in the rules is kept to the transaction or the block that it is in.
//!
//! Anybody can propose a block, and every node executes what is proposed. So a bug that one transaction can reach must not end the nodes
//! that look at it: the block is refused, or, for its own, built without the transaction. What was decided is another matter: a node
//! that cannot execute it must stop.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Chain, Proposal};
use crate::apply::{BlockContext, Outcome, Signatures, apply_with};
use crate::chain::BlockError;
use crate::reject::Reject;
use crate::state::State;
use crate::tx::SignedTx;

/// Runs something, and gives a panic's message instead of passing the panic on. What it changed is for the caller to take back.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

/// Applies a transaction; a panic in it changes nothing and is a refusal.
pub(super) fn attempt(
    state: &mut State,
    tx: &SignedTx,
    ctx: &BlockContext,
    signatures: Signatures,
) -> Result<Outcome, Reject> {
    let point = state.checkpoint();
    caught(|| apply_with(state, tx, ctx, signatures)).unwrap_or_else(|_| {
        state.rollback(point);
        Err(Reject::Bug {})
    })
}

impl Chain {
    /// Builds a block with `build`, which takes candidates and leaves the state as it wants. If that panics, or its books do not add up,
    /// and an empty block is sound, the candidates end before the first one with which it is not, and that one is among the refused: what is
    /// behind it waits.
    pub(super) fn build_around(
        &mut self,
        height: u64,
        candidates: &[SignedTx],
        build: impl Fn(&mut Self, &[SignedTx]) -> Result<Proposal, BlockError>,
    ) -> Result<Proposal, BlockError> {
        let start = self.state.checkpoint();
        let mut build = |count: usize| {
            let built = caught(|| build(self, &candidates[..count]));
            self.state.rollback(start);
            match built {
                // Books that do not add up are a bug of a rule, like a panic.
                Ok(Err(error @ BlockError::Supply { .. })) => Err(error),
                Ok(built) => Ok(built),
                Err(message) => Err(BlockError::Panicked { height, tx: None, message }),
            }
        };
        let (mut bad, mut good) = match build(candidates.len()) {
            Ok(built) => return built,
            Err(_) => (candidates.len(), 0),
        };
        let mut best = build(0)?;
        while good + 1 < bad {
            let middle = good + (bad - good) / 2;
            match build(middle) {
                Ok(built) => (best, good) = (built, middle),
                Err(_) => bad = middle,
            }
        }
        let mut best = best?;
        best.rejected.extend(candidates.get(good).map(|tx| (tx.clone(), Reject::Bug {})));
        Ok(best)
    }
}

/// A transaction that runs into a bug, for tests (and feature `faults`).
#[cfg(any(test, feature = "faults"))]
pub(crate) mod fault {
    use std::cell::Cell;

    use dn_core::Address;

    use crate::tx::{Payload, Tx};

    /// Transfers to this address run into the bug.
    pub(crate) const TRAP: Address = Address([0xbd; 20]);

    /// Where a thread runs into it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Trap {
        /// Nowhere.
        Off,
        /// When the transaction is applied.
        InTx,
        /// At the end of a block after which the address holds something.
        #[cfg(test)]
        InEnd,
        /// There too, but what the address holds becomes more, from nothing.
        #[cfg(test)]
        Mint,
        /// At the end of every block.
        #[cfg(test)]
        Always,
    }

    thread_local!(static TRAPPED: Cell<Trap> = const { Cell::new(Trap::Off) });

    /// From now on this thread runs into the bug there.
    pub(crate) fn set(trap: Trap) {
        TRAPPED.set(trap);
    }

    pub(crate) fn strike(tx: &Tx) {
        let trapped = matches!(tx.payload, Payload::Transfer { to: TRAP, .. });
        assert!(!trapped || TRAPPED.get() != Trap::InTx, "a bug in the rules");
    }

    #[cfg(test)]
    pub(crate) fn strike_at_end(state: &mut crate::state::State) {
        let held = crate::state::ACCOUNTS.contains(state, &TRAP);
        if held && TRAPPED.get() == Trap::Mint {
            let more = dn_core::Amount::from_atto(1);
            crate::state::ACCOUNTS.update(state, &TRAP, |account| {
                account.balance = account.balance.checked_add(more).unwrap_or(more);
            });
        }
        let struck = match TRAPPED.get() {
            Trap::InEnd => held,
            Trap::Always => true,
            Trap::Off | Trap::InTx | Trap::Mint => false,
        };
        assert!(!struck, "a bug at the end of a block");
    }
}
