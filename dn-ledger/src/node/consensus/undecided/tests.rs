use dn_core::{Address, Hash32};

use super::*;
use crate::block::{Certificate, Header, tx_root};

fn candidate(height: u64, round: u32, publisher: u8, mark: u8) -> Candidate {
    let header = Header {
        chain_id: 1,
        height,
        parent: dn_core::BlockHash::ZERO,
        time_ms: u64::from(mark),
        proposer: Address([1; 20]),
        parent_certificate: Certificate::default().hash(),
        validators: Hash32::ZERO,
        next_validators: Hash32::ZERO,
        tx_root: tx_root(&[]),
        state: Hash32([mark; 32]),
        reveal: None,
    };
    let block = Arc::new(Block { header, parent_certificate: Certificate::default(), txs: vec![] });
    let (height, round, valid_round) = (Height(height), Round::new(round), Round::Nil);
    let proposer = Id([1; 20]);
    let place = Place { height, round, valid_round, proposer, block: block.header.hash().into() };
    Candidate { place, publisher: Id([publisher; 20]), block, own: false, old: false, executed: None }
}

#[test]
fn what_was_kept_is_there_after_a_restart_and_a_torn_end_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("undecided.log");
    let mut undecided = Undecided::open(&path, 0).unwrap();
    let (first, second) = (candidate(1, 0, 1, 1), candidate(1, 1, 1, 2));
    assert!(undecided.insert(first.clone(), true).unwrap());
    assert!(undecided.insert(second.clone(), true).unwrap());
    drop(undecided);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let undecided = Undecided::open(&path, 0).unwrap();
    assert_eq!(undecided.block(Height(1), first.place.block).unwrap().block, first.block);
    assert!(undecided.at(&second.place).is_none());
    assert!(undecided.candidates[0].old);
    // Of a height that is decided nothing is left.
    assert!(Undecided::open(&path, 1).unwrap().candidates.is_empty());
}

/// A look says of the file what opening it does to it, and leaves it.
#[test]
fn damage_is_told_from_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("undecided.log");
    assert_eq!(Undecided::look(&path, 0).unwrap(), None);
    let mut undecided = Undecided::open(&path, 0).unwrap();
    for round in 0..3 {
        assert!(undecided.insert(candidate(1, round, 1, 1), true).unwrap());
    }
    drop(undecided);
    let whole = std::fs::read(&path).unwrap();
    let length = whole.len() / 3;
    let look = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let kept = Undecided::look(&path, 0).unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let opened = Undecided::open(&path, 0).unwrap();
        assert_eq!(kept.blocks, opened.candidates.len() as u64);
        (kept.blocks, kept.damaged_at)
    };
    assert_eq!(look(&whole), (3, None));
    for torn in [1, 7, length - 1] {
        assert_eq!(look(&whole[..whole.len() - torn]), (2, None), "{torn} bytes torn off");
    }
    assert_eq!(look(&[&whole[..], &[0; 500]].concat()), (3, None), "space that nothing was written to");
    for record in 0..3 {
        for at in [4, 36, 60, length - 1] {
            let mut bytes = whole.clone();
            bytes[record * length + at] ^= 1;
            assert_eq!(
                look(&bytes),
                (record as u64, Some((record * length) as u64)),
                "record {record}, byte {at}"
            );
        }
    }
    // A length that reaches beyond the end, with whole records behind it.
    let mut bytes = whole.clone();
    bytes[length + 3] = 0xff;
    assert_eq!(look(&bytes), (1, Some(length as u64)));
    // Of what is decided nothing counts.
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(Undecided::look(&path, 1).unwrap(), Some(Kept { blocks: 0, damaged_at: None }));
}

#[test]
fn others_cannot_push_out_what_may_have_been_voted_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("undecided.log");
    let mut undecided = Undecided::open(&path, 0).unwrap();
    let own = Candidate { own: true, ..candidate(1, 0, 1, 1) };
    assert!(undecided.insert(own.clone(), true).unwrap());
    drop(undecided);
    let mut undecided = Undecided::open(&path, 0).unwrap();
    let mut kept = 0;
    for round in 1..60 {
        for mark in 0..4 {
            kept += u32::from(undecided.insert(candidate(1, round, 1, 10 + mark), true).unwrap());
            kept += u32::from(undecided.insert(candidate(1, round, 2, 20 + mark), true).unwrap());
        }
    }
    assert_eq!(kept, 59 * (2 + 1), "two of the proposer and one of anybody else in each round");
    assert!(undecided.candidates.len() <= MAX_BLOCKS);
    assert!(undecided.at(&own.place).is_some());
    undecided.prune(1).unwrap();
    assert!(Undecided::open(&path, 0).unwrap().candidates.is_empty());
}
