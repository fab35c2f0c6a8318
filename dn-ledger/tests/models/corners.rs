//! The last block on which something may be done and the first on which it may not, which chance seldom meets.

use super::payments::{Both, rules};
use super::requests::{Line, Op};

/// Whoever has the right: the payer of the channel.
const PAYER: u8 = 11;

fn block(both: &mut Both) {
    both.step(&Op::Blocks { count: 1 });
}

#[test]
fn a_channel_is_finished_when_its_delay_is_over() {
    let mut both = Both::new(rules(0));
    both.step(&Op::Close { who: PAYER, channel: 0 });
    for _ in 0..6 {
        both.step(&Op::Finish { who: PAYER, channel: 0 });
        block(&mut both);
    }
    assert_eq!(both.times("took finish_channel"), 1);
    assert!(both.times("refused finish_channel") >= 4);
}

/// Two jobs are over at once, and one block refunds one: the other cannot be claimed meanwhile.
#[test]
fn an_overdue_job_is_not_claimed() {
    let mut both = Both::new(rules(0));
    for _ in 0..2 {
        both.step(&Op::Lock { payer: 0, worker: 3, model: 0, amount: 500, ahead: 2, bond: 0 });
    }
    (0..3).for_each(|_| block(&mut both));
    assert_eq!(both.times("job_refunded"), 1);
    let claim = Op::Claim { worker: 0, job: 0, tokens: 50, fee: 9, accepted: true, spoil: 20, fate: 11 };
    both.step(&claim);
    assert_eq!(both.times("refused claim_job"), 1);
    block(&mut both);
    assert_eq!(both.times("job_refunded"), 2);
    // In time it is.
    both.step(&Op::Lock { payer: 0, worker: 3, model: 0, amount: 500, ahead: 2, bond: 0 });
    (0..2).for_each(|_| block(&mut both));
    both.step(&claim);
    assert_eq!(both.times("took claim_job"), 1);
}

#[test]
fn a_job_is_claimed_by_whom_it_names() {
    let mut both = Both::new(rules(0));
    both.step(&Op::Lock { payer: 0, worker: 0, model: 0, amount: 500, ahead: 4, bond: 6 });
    let claim =
        |worker, spoil| Op::Claim { worker, job: 0, tokens: 50, fee: 9, accepted: true, spoil, fate: 11 };
    both.step(&claim(1, 0));
    // The payer's word in another's hand, and one that has expired.
    both.step(&claim(0, 8));
    both.step(&claim(0, 7));
    assert_eq!(both.times("refused claim_job"), 3);
    both.step(&claim(0, 0));
    assert_eq!(both.times("took claim_job"), 1);
}

/// A session that was taken back, or has expired, spends until then and no longer.
#[test]
fn a_session_spends_until_it_is_over() {
    for revoked in [true, false] {
        let mut both = Both::new(rules(0));
        let blocks = if revoked { 200 } else { 3 };
        both.step(&Op::Grant {
            owner: 0,
            per_call: 4_000,
            total: 12_000,
            models: 0,
            blocks,
            serial: 1,
            spoil: 5,
        });
        assert_eq!(both.times("took grant_session"), 1);
        if revoked {
            both.step(&Op::Revoke { owner: 0, serial: 1 });
        }
        for _ in 0..7 {
            for channel in 0..2 {
                let lines = vec![Line { channel, lane: 0, model: 0, receipts: 1, fee: 100 }];
                both.step(&Op::Post { worker: 0, lines, signer: 5, spoil: 30, fate: 11 });
            }
            block(&mut both);
        }
        // The other channel is another payer's.
        let spent = if revoked { 5 } else { 4 };
        assert_eq!((both.times("a session spends"), both.times("a session is refused")), (spent, 14 - spent));
    }
}
