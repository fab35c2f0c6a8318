//! A referee whose game is a few counted moves, for tests of the ledger's part of disputes.

use dn_core::objects::{FinishReason, ModelManifest, Receipt};
use dn_core::{Hash32, JobId};
use dn_ledger::Referee;
use dn_ledger::referee::{Case, Ending, Finding, MoveFault, Played, Side, Standing};

use super::{CHAIN_ID, World, address, dn, price};

/// `rounds` times the worker answers and the accuser picks; the receipt's trace root says whether the last pick finds a fraud. A
/// move's bytes are its number.
#[derive(Debug)]
pub(crate) struct Counting;

pub(crate) const RULES: u32 = 9;
pub(crate) const FINDING: Finding = Finding { position: 3, stage: 2, op: 1, element: 4 };

pub(crate) fn rounds(receipt: &Receipt) -> u32 {
    u32::from(receipt.trace_root.0[1])
}

pub(crate) fn is_wrong(receipt: &Receipt) -> bool {
    receipt.trace_root.0[0] == 1
}

impl Referee for Counting {
    fn rules(&self) -> u32 {
        RULES
    }

    fn judges(&self, manifest: &ModelManifest) -> bool {
        manifest.architecture != "unknown"
    }

    fn open(&self, case: Case<'_>) -> Standing {
        match rounds(case.receipt) {
            0 => Standing::Ended(Ending::Impossible {}),
            _ => Standing::Turn(Side::Worker),
        }
    }

    fn play(
        &self,
        case: Case<'_>,
        moves: &[Played],
        side: Side,
        bytes: &[u8],
    ) -> Result<Standing, MoveFault> {
        let step = u8::try_from(moves.len()).unwrap();
        assert_eq!(side, if step.is_multiple_of(2) { Side::Worker } else { Side::Accuser });
        for (n, played) in (0u8..).zip(moves) {
            assert_eq!(
                (played.bytes.0.as_slice(), played.side == Side::Worker),
                (&[n][..], n.is_multiple_of(2))
            );
        }
        if bytes != [step] {
            return Err(MoveFault::Unbound);
        }
        Ok(match side {
            Side::Worker => Standing::Turn(Side::Accuser),
            Side::Accuser if u32::from(step) + 1 < 2 * rounds(case.receipt) => Standing::Turn(Side::Worker),
            Side::Accuser if is_wrong(case.receipt) => Standing::Ended(Ending::Fraud { finding: FINDING }),
            Side::Accuser => Standing::Ended(Ending::Refuted {}),
        })
    }
}

/// A receipt that its referee finds right or wrong after so many rounds.
pub(crate) fn receipt(w: &World, n: u8, wrong: bool, rounds: u8) -> Receipt {
    let mut trace_root = Hash32([n; 32]);
    (trace_root.0[0], trace_root.0[1]) = (u8::from(wrong), rounds);
    Receipt {
        chain_id: CHAIN_ID,
        job: JobId([n; 32]),
        domain: 0,
        model: w.model,
        numeric_spec: 1,
        prompt_hash: Hash32([n; 32]),
        output_hash: Hash32([n; 32]),
        trace_root,
        prompt_tokens: 4,
        output_tokens: 5,
        finish: FinishReason::Stop,
        price: price(),
        fee: dn(1),
        payer: address("payer"),
        channel: w.channel,
        lane: 0,
        worker: address("worker"),
        gateway: address("gateway"),
        started_ms: 1,
        finished_ms: 2,
        expires_ms: u64::MAX,
    }
}
