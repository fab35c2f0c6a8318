//! Commitments to models: whoever publishes a manifest has committed to it some blocks before anybody could read it.
//!
//! A model belongs to who publishes it first, and a transaction that waits can be read. Who copies a manifest out of it commits too late: the
//! author's publication is in a block before the copier's commitment is old enough.

use dn_core::{Address, Hash32, ModelId};

use super::Step;
use crate::events::Event;
use crate::reject::{RegistryReject, Reject};
use crate::state::{DUE_COMMITMENTS, MODEL_COMMITMENTS, ModelCommitment};
use crate::tx::{Role, model_commitment};

/// The most commitments of one owner that are neither used nor forgotten.
const MAX_COMMITMENTS: u32 = 16;
/// For how many blocks a commitment that is old enough can be used: more than the most that the parameters let it wait, so that a vote makes none useless.
const USABLE_BLOCKS: u64 = 10_000;
/// The most commitments that a block forgets; the rest follows in the next.
const MAX_PRUNED: usize = 64;

impl Step<'_> {
    pub(super) fn commit_model(&mut self, owner: Address, commitment: Hash32) -> Result<(), Reject> {
        self.active(Role::ModelOwner, owner)?;
        let key = (owner, commitment);
        if let Some(ModelCommitment { height, .. }) = MODEL_COMMITMENTS.get(self.state, &key) {
            return Err(RegistryReject::CommitmentExists { commitment, height }.into());
        }
        let limit = MAX_COMMITMENTS;
        if MODEL_COMMITMENTS.iter_from(self.state, &owner).take(limit as usize).count() == limit as usize {
            return Err(RegistryReject::CommitmentsFull { limit }.into());
        }
        let height = self.ctx.height;
        let from_height = height.saturating_add(self.ctx.params.registry.commit_blocks);
        let expires_height = from_height.saturating_add(USABLE_BLOCKS);
        MODEL_COMMITMENTS.put(self.state, &key, &ModelCommitment { height, expires_height });
        DUE_COMMITMENTS.put(self.state, &(expires_height, owner, commitment), &true);
        self.events.push(Event::ModelCommitted { owner, commitment, from_height, expires_height });
        Ok(())
    }

    /// Uses up the owner's commitment to a model, where the chain asks for one.
    pub(super) fn use_commitment(
        &mut self,
        owner: Address,
        model: ModelId,
        salt: Option<Hash32>,
    ) -> Result<(), Reject> {
        let (blocks, height) = (self.ctx.params.registry.commit_blocks, self.ctx.height);
        if blocks == 0 {
            return Ok(());
        }
        let salt = salt.ok_or(RegistryReject::CommitmentNeeded { model, blocks })?;
        let commitment = model_commitment(model, owner, &salt);
        let key = (owner, commitment);
        let ModelCommitment { height: made, expires_height } = MODEL_COMMITMENTS
            .get(self.state, &key)
            .ok_or(RegistryReject::UnknownCommitment { model, commitment })?;
        let from_height = made.saturating_add(blocks);
        if height < from_height {
            return Err(RegistryReject::CommitmentYoung { commitment, from_height, height }.into());
        }
        if height > expires_height {
            return Err(RegistryReject::CommitmentExpired { commitment, expires_height, height }.into());
        }
        self.forget_commitment(owner, commitment, expires_height);
        Ok(())
    }

    /// Forgets commitments that were not used in time, the oldest first, a bounded number in one block.
    pub(super) fn prune_commitments(&mut self) {
        let due: Vec<_> = DUE_COMMITMENTS
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(expires_height, ..)| *expires_height < self.ctx.height)
            .take(MAX_PRUNED)
            .collect();
        for (expires_height, owner, commitment) in due {
            self.forget_commitment(owner, commitment, expires_height);
            self.events.push(Event::ModelCommitmentExpired { owner, commitment });
        }
    }

    fn forget_commitment(&mut self, owner: Address, commitment: Hash32, expires_height: u64) {
        MODEL_COMMITMENTS.remove(self.state, &(owner, commitment));
        DUE_COMMITMENTS.remove(self.state, &(expires_height, owner, commitment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::chain;

    /// What is left over of a block's share is forgotten by the next ones, the oldest first; what still can be used stays.
    #[test]
    fn a_block_forgets_so_many() {
        let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
        let owner = |n: u8| Address([n; 20]);
        let count = MAX_PRUNED as u8 + 5;
        let record = |expires_height| ModelCommitment { height: 1, expires_height };
        for n in 0..count {
            let (commitment, expires_height) = (Hash32([n; 32]), 20 + u64::from(n % 2));
            MODEL_COMMITMENTS.put(&mut state, &(owner(n), commitment), &record(expires_height));
            DUE_COMMITMENTS.put(&mut state, &(expires_height, owner(n), commitment), &true);
        }
        let mut forgotten = |height| {
            ctx.height = height;
            let mut step = Step::new(&mut state, &ctx);
            step.prune_commitments();
            let expired = |event: &Event| matches!(event, Event::ModelCommitmentExpired { .. });
            assert!(step.events.iter().all(expired));
            let events = step.events.len();
            let left = MODEL_COMMITMENTS.iter(&state).map(|(_, record)| record.expires_height).min();
            assert_eq!(MODEL_COMMITMENTS.iter(&state).count(), DUE_COMMITMENTS.iter(&state).count());
            (events, left)
        };
        assert_eq!(forgotten(20), (0, Some(20)));
        let even = usize::from(count).div_ceil(2);
        assert_eq!(forgotten(21), (even, Some(21)));
        assert_eq!(forgotten(22), (usize::from(count) - even, None));
    }

    #[test]
    fn a_block_forgets_no_more_than_its_share() {
        let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
        for n in 0..MAX_PRUNED as u8 + 5 {
            let key = (Address([n; 20]), Hash32([n; 32]));
            MODEL_COMMITMENTS.put(&mut state, &key, &ModelCommitment { height: 1, expires_height: 9 });
            DUE_COMMITMENTS.put(&mut state, &(9, key.0, key.1), &true);
        }
        ctx.height = 10;
        for left in [5, 0] {
            Step::new(&mut state, &ctx).prune_commitments();
            assert_eq!(
                (MODEL_COMMITMENTS.iter(&state).count(), DUE_COMMITMENTS.iter(&state).count()),
                (left, left)
            );
        }
    }

    /// One that is too old is refused also before it is forgotten.
    #[test]
    fn a_commitment_is_used_until_it_expires() {
        let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
        ctx.params.registry.commit_blocks = 7;
        let (owner, model, salt) = (Address([1; 20]), ModelId([2; 32]), Hash32([3; 32]));
        let commitment = model_commitment(model, owner, &salt);
        let expires_height = 30;
        MODEL_COMMITMENTS.put(
            &mut state,
            &(owner, commitment),
            &ModelCommitment { height: 20, expires_height },
        );
        DUE_COMMITMENTS.put(&mut state, &(expires_height, owner, commitment), &true);
        let mut at = |height| {
            ctx.height = height;
            let mut state = state.clone();
            Step::new(&mut state, &ctx).use_commitment(owner, model, Some(salt))
        };
        let young = |height| RegistryReject::CommitmentYoung { commitment, from_height: 27, height };
        assert_eq!(at(26), Err(young(26).into()));
        assert_eq!((at(27), at(30)), (Ok(()), Ok(())));
        let expired = RegistryReject::CommitmentExpired { commitment, expires_height, height: 31 };
        assert_eq!(at(31), Err(expired.into()));
    }
}
