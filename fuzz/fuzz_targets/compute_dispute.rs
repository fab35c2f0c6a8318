//! Records of disputes: any bytes give a dispute or an error, in bounded time and memory; what decodes has this encoding, and
//! goes on as the dispute that it is a record of.
#![no_main]

use dn_compute::verify::{Answer, Dispute, Move, Opening, Pick, Record};
use dn_core::{Canonical, Hash32};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(record) = Record::from_bytes(input) {
        assert_eq!(record.to_bytes(), input);
        // What leads nowhere else may lead on: a dispute about the subject, as far as the moves are accepted.
        if let Ok(mut dispute) = Dispute::open(record.subject) {
            for one in record.moves {
                let before = dispute.to_bytes();
                let done = match one {
                    Move::Answer { answer } => dispute.answer(answer).is_ok(),
                    Move::Pick { pick } => dispute.pick(pick).is_ok(),
                    Move::Silence => false,
                };
                assert!(done || dispute.to_bytes() == before, "a refused move changes nothing");
            }
            check(&dispute);
        }
    }
    if let Ok(mut dispute) = Dispute::from_bytes(input) {
        assert_eq!(dispute.to_bytes(), input);
        check(&dispute);
        let _ = dispute.answer(Answer::Nodes { nodes: vec![Hash32::ZERO] });
        let _ = dispute.pick(Pick::Index { index: 0 });
        let _ = dispute.pick(Pick::Tile { opening: Opening::default() });
        check(&dispute);
    }
});

fn check(dispute: &Dispute) {
    let again = Dispute::from_bytes(&dispute.to_bytes()).expect("its own record");
    assert_eq!(again.due(), dispute.due());
    assert_eq!(again.claim(), dispute.claim());
}
