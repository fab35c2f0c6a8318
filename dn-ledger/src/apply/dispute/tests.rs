use dn_core::Amount;
use dn_core::objects::BatchRoot;
use dn_trust::ValidatorEpoch;

use super::*;
use crate::chain::tests::chain;
use crate::state::{Audit, State};

#[test]
fn a_block_asks_for_so_many_votes_and_for_those_of_one_receipt_always() {
    let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
    let mut ask = |height, votes| {
        ctx.height = height;
        Step::new(&mut state, &ctx).count_votes(votes)
    };
    assert_eq!((ask(5, MAX_VOTES - 1), ask(5, 1)), (Ok(()), Ok(())));
    let busy = |height, held| Err(Reject::VotesBusy { limit: MAX_VOTES, height, held, votes: 1 });
    assert_eq!(ask(5, 1), busy(5, MAX_VOTES));
    assert_eq!((ask(6, MAX_VOTES + 9), ask(6, 1)), (Ok(()), busy(6, MAX_VOTES + 9)));
}

const ID: BatchId = BatchId([4; 32]);

fn accuser(index: u32) -> Address {
    let mut who = [7; 20];
    who[..4].copy_from_slice(&index.to_be_bytes());
    Address(who)
}

/// A batch of so many receipts, each accused by somebody else, and each accuser has to move by its deadline.
fn accused(state: &mut State, count: u32, deadline: impl Fn(u32) -> u64) {
    let body = BatchRoot {
        chain_id: 1,
        worker: Address([200; 20]),
        gateway: Address([201; 20]),
        sequence: 0,
        root: Default::default(),
        count,
        lines: Vec::new(),
        expires_ms: 0,
    };
    let batch = Batch {
        body,
        payers: Vec::new(),
        escrow: Amount::ZERO,
        status: BatchStatus::Disputed,
        posted_height: 0,
        // Nothing is paid in this test.
        window_end_height: u64::MAX,
        open_audits: count,
        passed_audits: 0,
        bond: Amount::ZERO,
    };
    BATCHES.put(state, &ID, &batch);
    for index in 0..count {
        let (accuser, deadline) = (accuser(index), deadline(index));
        let audit = Audit {
            accuser: Some(accuser),
            redraws: 0,
            commit_deadline: 1,
            reveal_deadline: 1,
            waiting: 0,
            uncommitted: 0,
            result: None,
        };
        AUDITS.put(state, &(ID, index), &audit);
        let dispute = Dispute {
            accuser,
            worker: batch.body.worker,
            receipt: None,
            turn: Side::Accuser,
            since_height: 1,
            deadline,
            worker_blocks: 9,
            accuser_blocks: 9,
            moves: 0,
            ending: None,
        };
        DISPUTES.put(state, &(ID, index), &dispute);
        DISPUTE_DUE.put(state, &(deadline + 1, ID, index), &true);
    }
}

/// Clocks that ran out and for which a block has no room end in the next one, the oldest first, each once.
#[test]
fn a_block_ends_so_many_silent_disputes() {
    let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
    let (rest, count) = (10, MAX_EXPIRED_PER_BLOCK as u32 + 10);
    // The first ones are due a block later than those after them, and the last one is not due yet.
    let deadline = |index: u32| if index == count { 8 } else { 4 + u64::from(index < rest) };
    accused(&mut state, count + 1, deadline);
    let mut ended_at = |height| {
        ctx.height = height;
        let mut step = Step::new(&mut state, &ctx);
        step.expire_disputes();
        let ended = |event: &Event| match event {
            Event::DisputeEnded { index, outcome: Ending::AccuserSilent {}, .. } => Some(*index),
            _ => None,
        };
        step.events.iter().filter_map(ended).collect::<Vec<_>>()
    };
    assert_eq!(ended_at(6), (rest..count).collect::<Vec<_>>());
    assert_eq!(ended_at(7), (0..rest).collect::<Vec<_>>());
    assert!(ended_at(8).is_empty());
    let mut once = ValidatorEpoch::default();
    once.misaligned(Weight::ONE);
    once.proven_fraud();
    for index in 0..count {
        assert_eq!(VALIDATOR_EPOCHS.get(&state, &accuser(index)), Some(once), "the accuser of {index}");
        let result = AUDITS.get(&state, &(ID, index)).unwrap().result;
        assert_eq!(result, Some(AuditResult::Refuted), "the audit of {index}");
        let ending = DISPUTES.get(&state, &(ID, index)).unwrap().ending;
        assert_eq!(ending, Some(Ending::AccuserSilent {}), "the dispute about {index}");
    }
    let batch = BATCHES.get(&state, &ID).unwrap();
    assert_eq!((batch.open_audits, batch.passed_audits), (1, count));
    assert_eq!(DISPUTES.get(&state, &(ID, count)).unwrap().ending, None);
    let waiting: Vec<_> = DISPUTE_DUE.iter(&state).map(|(key, _)| key).collect();
    assert_eq!(waiting, [(9, ID, count)]);
}
