//! Disputes as bytes: kept and resumed in any state.

use super::lies::{any_pick, below};
use super::*;
use crate::verify::record::{MAX_MOVES, MAX_RECORD_BYTES};
use crate::verify::slice::Slice;
use crate::verify::{Move, MoveError, Opening, Record, RefereeError, ResumeError};

fn state(dispute: &Dispute) -> String {
    format!("{dispute:?}")
}

/// The dispute after a rest in the form of bytes.
fn rested(dispute: &Dispute) -> Dispute {
    let bytes = dispute.to_bytes();
    let again = Dispute::from_bytes(&bytes).unwrap();
    assert_eq!(state(&again), state(dispute));
    assert_eq!(again.to_bytes(), bytes);
    again
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Between any two moves of any dispute.
    #[test]
    fn a_dispute_goes_on_after_any_rest_as_it_would_have(seed: u64, silent in 0usize..40) {
        let mut rng = Rng(seed);
        let warm = Sampling { temperature_micro: 800_000, top_k: 40, seed, ..Sampling::GREEDY };
        let scene = scene(seed, 11, 3, if seed % 2 == 0 { Sampling::GREEDY } else { warm });
        let honest = scene.honest(&scene.output);
        let mut dispute = rested(&Dispute::open(honest.subject()).unwrap());
        let mut moves = 0;
        while dispute.outcome().is_none() {
            let mut rest = rested(&dispute);
            let (one, other) = match (dispute.turn(), dispute.due()) {
                _ if moves == silent => {
                    dispute.silence();
                    rest.silence();
                    (Ok(()), Ok(()))
                }
                (Some(Party::Worker), _) => {
                    let answer = honest.answer(&dispute).unwrap().unwrap();
                    (dispute.answer(answer.clone()), rest.answer(answer))
                }
                (_, Due::Tile) => {
                    let opening = honest.tile(&dispute).unwrap();
                    (
                        dispute.pick(Pick::Tile { opening: opening.clone() }),
                        rest.pick(Pick::Tile { opening }),
                    )
                }
                _ => {
                    let pick = any_pick(&mut rng, &honest, &dispute);
                    (dispute.pick(pick.clone()), rest.pick(pick))
                }
            };
            prop_assert_eq!(one, other);
            prop_assert_eq!(state(&dispute), state(&rest));
            moves += 1;
        }
        rested(&dispute);
    }

    /// Damaged records are refused, or are records of some other dispute.
    #[test]
    fn damaged_records_never_panic(seed: u64, changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut rng = Rng(seed);
        let scene = scene(2, 9, 2, Sampling::GREEDY);
        let honest = scene.honest(&scene.output);
        let mut dispute = Dispute::open(honest.subject()).unwrap();
        for _ in 0..below(&mut rng, 14) {
            match dispute.turn() {
                Some(Party::Worker) => dispute.answer(honest.answer(&dispute).unwrap().unwrap()).unwrap(),
                Some(Party::Accuser) => drop(dispute.pick(any_pick(&mut rng, &honest, &dispute))),
                None => {}
            }
        }
        let good = dispute.to_bytes();
        let mut bytes = good.clone();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(other) = Dispute::from_bytes(&bytes) {
            prop_assert_eq!(other.to_bytes(), bytes);
        }
        let end = below(&mut rng, good.len());
        prop_assert!(Dispute::from_bytes(&good[..end]).is_err());
    }
}

#[test]
fn a_record_of_moves_that_cannot_be_is_refused() {
    let scene = scene(0, 9, 3, Sampling::GREEDY);
    let honest = scene.honest(&scene.output);
    let mut dispute = Dispute::open(honest.subject()).unwrap();
    dispute.answer(honest.answer(&dispute).unwrap().unwrap()).unwrap();
    dispute.silence();
    let record = dispute.record();
    let with = |change: &dyn Fn(&mut Record)| {
        let mut record = record.clone();
        change(&mut record);
        Dispute::from_bytes(&record.to_bytes()).map(|dispute| dispute.outcome())
    };
    assert_eq!(with(&|_| {}), Ok(Some(Outcome::AccuserSilent)));
    let refused = |change: &dyn Fn(&mut Record), at| {
        let error = with(change).unwrap_err();
        assert!(matches!(error, ResumeError::Move { index, .. } if index == at), "{error}");
    };
    refused(&|r| r.moves.push(Move::Silence), 2);
    refused(&|r| r.moves.swap(0, 1), 1);
    refused(&|r| r.moves[0] = Move::Pick { pick: Pick::Op { op: 0 } }, 0);
    refused(&|r| r.subject.trace_root = Hash32::ZERO, 0);
    let manifest = with(&|r| r.subject.manifest.hyperparameters.width = 0);
    assert!(matches!(manifest, Err(ResumeError::Manifest(_))));
    let many = with(&|r| r.moves = vec![Move::Silence; MAX_MOVES + 1]);
    assert!(matches!(many, Err(ResumeError::Encoding(_))));
    let slice = Slice { first: 0, bytes: vec![0; 70_000], siblings: Vec::new() };
    let request = crate::verify::claim::RequestSlice { len: 70_000, slice: slice.clone() };
    let huge = dispute.clone().pick(Pick::Settings { request, output: slice });
    assert!(matches!(huge, Err(MoveError::Referee(RefereeError::TooLarge { .. }))), "{huge:?}");
    let long = Dispute::from_bytes(&vec![0; MAX_RECORD_BYTES + 1]).unwrap_err();
    assert!(matches!(long, ResumeError::TooLarge { .. }));
}

/// The bytes of every kind of move, pinned.
#[test]
fn the_encoding_of_records_is_pinned() {
    use crate::verify::claim::{KeyBlock, KeyTerm, Sum};
    let hash = |byte: u8| Hash32([byte; 32]);
    let scene = scene(0, 4, 1, Sampling::GREEDY);
    let mut subject = scene.honest(&scene.output).subject();
    // What a test model happens to hold stays out of it.
    subject.manifest.stop_tokens = vec![3];
    subject.manifest.tokenizer_hash = hash(1);
    subject.manifest.tensors_root = hash(2);
    (subject.trace_root, subject.job, subject.output_hash) = (hash(3), dn_core::JobId([4; 32]), hash(5));
    let slice = Slice { first: 1, bytes: vec![1, 2], siblings: vec![hash(7)] };
    let block = KeyBlock { top: -1, top_value: 2, denominator: 3, numerator: -4 };
    let answers = [
        Answer::Nodes { nodes: vec![hash(8)] },
        Answer::Leaf { bytes: vec![9] },
        Answer::Rows { hashes: vec![hash(10), hash(11)] },
        Answer::Groups { groups: vec![hash(12)] },
        Answer::Values { slice },
        Answer::Sums { sums: vec![Sum { largest: 1, sum: -2 }] },
        Answer::Blocks { blocks: vec![block] },
        Answer::Keys { keys: vec![KeyTerm { score: 1, exponent: -2, value: 3 }] },
    ];
    let picks = [
        Pick::Index { index: 5 },
        Pick::Stage { stage: Stage::Layer { layer: 6 } },
        Pick::Op { op: 7 },
        Pick::Tile { opening: Opening { pick: 8, ..Opening::default() } },
    ];
    let mut moves: Vec<Move> = answers.into_iter().map(|answer| Move::Answer { answer }).collect();
    moves.extend(picks.into_iter().map(|pick| Move::Pick { pick }));
    moves.push(Move::Silence);
    let record = Record { subject, moves };
    assert_eq!(Record::from_bytes(&record.to_bytes()).as_ref(), Ok(&record));
    assert_eq!(
        Hash32(record.keccak()).to_string(),
        "0xf7f4cb6f69934e3e44b7b104c2e0051f827b593019dbc757e02f89aa2e18b28a"
    );
}

#[test]
fn a_manifest_has_no_more_stop_tokens_than_a_ledger_takes() {
    use dn_core::objects::MAX_STOP_TOKENS;

    use crate::verify::plan::{Geometry, ManifestError};
    let scene = scene(3, 3, 1, Sampling::GREEDY);
    let with = |count: usize| {
        let mut manifest = scene.model.manifest().clone();
        manifest.stop_tokens = (0..count as u32).collect();
        Geometry::new(&manifest).map(|_| ())
    };
    assert_eq!(with(MAX_STOP_TOKENS), Ok(()));
    let expected = ManifestError::Size { what: "number of stop tokens", min: 0, max: 64, found: 65 };
    assert_eq!(with(MAX_STOP_TOKENS + 1), Err(expected));
}
