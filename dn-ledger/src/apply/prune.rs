//! Batches that ended long ago are forgotten, with their audits. Who wants to know reads the events.

use dn_core::{BatchId, Canonical};

use super::Step;
use super::draw::MAX_AUDIT_LOAD;
use crate::state::{AUDIT_TASKS, AUDITS, BATCHES, DISPUTES, ENDED_BATCHES, Key, State, Table};

/// The most entries that a block forgets: four for each audit that it may take in, which leaves itself, two tasks unless there was a vote, and its part of a
/// batch. So what is to be forgotten becomes less even where all blocks are full.
const MAX_PRUNED: usize = 4 * MAX_AUDIT_LOAD as usize;

impl Step<'_> {
    /// Takes note that nothing is to come of a batch any more.
    pub(super) fn batch_ended(&mut self, id: BatchId) {
        ENDED_BATCHES.put(self.state, &(self.ctx.height, id), &true);
    }

    /// Forgets batches that ended long ago, the oldest first, so many entries in each block. That a sequence was taken, and by which batch, stays.
    pub(super) fn prune_batches(&mut self) {
        let params = &self.ctx.params;
        let kept_blocks = params.governance.kept_epochs.saturating_mul(params.epoch_blocks);
        let old = |ended: u64| ended.saturating_add(kept_blocks) < self.ctx.height;
        let mut left = MAX_PRUNED;
        loop {
            let oldest = ENDED_BATCHES.iter(self.state).map(|(key, _)| key).next();
            let Some((ended, id)) = oldest.filter(|(ended, _)| old(*ended)) else { return };
            forget(self.state, &AUDIT_TASKS, id, &mut left);
            forget(self.state, &AUDITS, id, &mut left);
            forget(self.state, &DISPUTES, id, &mut left);
            // The batch goes with the last of what belongs to it.
            if left < 2 {
                return;
            }
            left -= 2;
            BATCHES.remove(self.state, &id);
            ENDED_BATCHES.remove(self.state, &(ended, id));
        }
    }
}

/// Removes up to `left` of a batch's entries in a table.
fn forget<K: Key, V: Canonical>(state: &mut State, table: &Table<K, V>, id: BatchId, left: &mut usize) {
    let keys: Vec<_> = table.iter_from(state, &id).take(*left).map(|(key, _)| key).collect();
    keys.iter().for_each(|key| table.remove(state, key));
    *left -= keys.len();
}

#[cfg(test)]
mod tests {
    use dn_core::{Address, Amount};

    use super::*;
    use crate::chain::tests::chain;
    use crate::state::{AuditPhase, AuditTask};

    /// A vote of many validators is forgotten in slices, and its batch with the last one.
    #[test]
    fn a_block_forgets_so_much() {
        let mut state = chain().state().clone();
        let mut ctx = chain().next_context(1);
        let before = state.len();
        let task = AuditTask {
            phase: AuditPhase::Done,
            weight: Amount::ZERO,
            commitment: Default::default(),
            outcome: None,
        };
        let (first, second) = (BatchId([1; 32]), BatchId([2; 32]));
        for n in 0..MAX_PRUNED as u32 + 10 {
            let mut who = Address([0; 20]);
            who.0[..4].copy_from_slice(&n.to_be_bytes());
            AUDIT_TASKS.put(&mut state, &(first, n % 3, who), &task);
        }
        ENDED_BATCHES.put(&mut state, &(5, first), &true);
        AUDIT_TASKS.put(&mut state, &(second, 0, Address([7; 20])), &task);
        ENDED_BATCHES.put(&mut state, &(6, second), &true);
        let kept = ctx.params.governance.kept_epochs * ctx.params.epoch_blocks;
        let mut left = |height| {
            ctx.height = height;
            Step::new(&mut state, &ctx).prune_batches();
            state.len() - before
        };
        assert_eq!(left(5 + kept), MAX_PRUNED + 13, "not old enough");
        assert_eq!(left(6 + kept), 13);
        assert_eq!(left(6 + kept), 2, "the second one is not old enough");
        assert_eq!(left(7 + kept), 0);
    }
}
