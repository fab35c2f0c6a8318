//! The referee: any bytes give a verdict or an error, in bounded time and memory, and what decodes is canonical. The first
//! four bytes are the length of the claim.
#![no_main]

use dn_compute::verify::{Answer, Claim, Dispute, Opening, Pick, Stage, referee};
use dn_core::Canonical;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((length, bytes)) = input.split_first_chunk::<4>() else { return };
    let (claim, opening) = bytes.split_at((u32::from_le_bytes(*length) as usize).min(bytes.len()));
    let _ = referee(claim, opening);
    if let Ok(claim) = Claim::from_bytes(claim) {
        assert_eq!(Claim::from_bytes(&claim.to_bytes()).as_ref(), Ok(&claim));
        // Parts of a choice, where they are judged.
        let (inputs, stage) = (claim.inputs.iter().copied().take(1).collect(), Stage::Choice);
        let choice = Claim { stage, op: 0, element: 0, inputs, ..claim.clone() };
        let _ = referee(&choice.to_bytes(), opening);
        if let Ok(mut dispute) = Dispute::open(claim.subject) {
            // Whatever is moved, in whatever order.
            let mut rest = opening;
            while let Some((kind, after)) = rest.split_first() {
                let (part, after) = after.split_at(after.len().min(usize::from(*kind)));
                let _ = Answer::from_bytes(part).map(|answer| dispute.answer(answer));
                let _ = Pick::from_bytes(part).map(|pick| dispute.pick(pick));
                rest = after;
            }
        }
    }
    if let Ok(decoded) = Opening::from_bytes(opening) {
        assert_eq!(decoded.to_bytes(), opening);
    }
});
