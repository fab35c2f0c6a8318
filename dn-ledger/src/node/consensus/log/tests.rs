use dn_core::SecretKey;
use malachite_engine::wal::encode_entry;
use malachite_types::{Context as _, NilOrVal, Round, SignedMessage};

use super::*;
use crate::node::consensus::context::{BlockId, Height, Sig, Vote};

const CHAIN: u64 = 77;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).unwrap()
}

fn vote(round: u32, byte: u8) -> Vote {
    let ctx = Ctx { chain_id: CHAIN };
    ctx.new_prevote(Height(9), Round::new(round), NilOrVal::Val(BlockId([7; 32])), key(byte).address().into())
}

/// A log as the engine writes it: votes of two validators.
fn written() -> Vec<u8> {
    let mut bytes = [&1u32.to_be_bytes()[..], &9u64.to_be_bytes()].concat();
    for (round, byte) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let vote = vote(round, byte);
        let signature = Sig::from(key(byte).sign(&vote.content(CHAIN).unwrap().digest()));
        let mut content = Vec::new();
        encode_entry(Input::<Ctx>::Vote(SignedMessage::new(vote, signature)), &Wire, &mut content).unwrap();
        bytes.push(0);
        bytes.extend((content.len() as u64).to_be_bytes());
        bytes.extend(crc32(&content).to_be_bytes());
        bytes.extend(content);
    }
    bytes
}

#[test]
fn the_checksum_is_the_engines() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.wal");
    let mut log = malachite_channel::app::wal::Log::open(&path).unwrap();
    log.reset(9).unwrap();
    log.append(b"what the engine writes").unwrap();
    log.flush().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(holds_entry(&bytes[HEAD_BYTES..]));
    // No kind of entry that consensus knows.
    assert!(matches!(entry(&bytes[HEAD_BYTES..]), Err(LogFault::Content)));
    assert!(matches!(Log::of(&bytes, CHAIN, key(1).address()), Log::Whole { height: 9, end: 12, .. }));
}

#[test]
fn own_signatures_are_found_and_a_torn_end_is_none() {
    let bytes = written();
    let own = |bytes: &[u8]| match Log::of(bytes, CHAIN, key(1).address()) {
        Log::Whole { height: 9, own, .. } => own,
        other => panic!("{other:?}"),
    };
    let entry = |round| {
        let step = Step { height: 9, round, kind: 2 };
        (step, Hash32(vote(round, 1).content(CHAIN).unwrap().digest()))
    };
    assert_eq!(own(&bytes), [entry(0), entry(1)]);
    let length = (bytes.len() - HEAD_BYTES) / 4;
    for torn in 1..length {
        assert_eq!(own(&bytes[..bytes.len() - torn]), [entry(0), entry(1)], "{torn} bytes torn off");
        assert_eq!(own(&bytes[..HEAD_BYTES + 3 * length - torn]), [entry(0)], "{torn} bytes torn off");
    }
    // Space that the file system gave and nothing was written to.
    let zeros = [&bytes[..], &[0; 500]].concat();
    let end = bytes.len() as u64;
    assert!(matches!(Log::of(&zeros, CHAIN, key(1).address()), Log::Whole { end: e, .. } if e == end));
    assert_eq!(Log::of(&bytes[..11], CHAIN, key(1).address()), Log::Missing);
}

/// A flip anywhere is named with its place, or hides nothing but the last entry.
#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = written();
    let length = (bytes.len() - HEAD_BYTES) / 4;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let found = Log::of(&flipped, CHAIN, key(1).address());
            let entry = at.saturating_sub(HEAD_BYTES) / length;
            match found {
                Log::Damaged { at: named, .. } => {
                    let expected = if at < 4 { 0 } else { HEAD_BYTES + entry * length };
                    assert_eq!(named, expected as u64, "byte {at}, bit {bit}");
                }
                // The height is compared with the chain's.
                Log::Whole { height, .. } if (4..HEAD_BYTES).contains(&at) => assert_ne!(height, 9),
                Log::Whole { ref own, end, .. } => {
                    assert!(entry == 3 && own.len() == 2, "byte {at}, bit {bit}: {found:?}");
                    assert_eq!(end, (HEAD_BYTES + 3 * length) as u64);
                }
                Log::Missing => panic!("byte {at}, bit {bit}"),
            }
        }
    }
}
