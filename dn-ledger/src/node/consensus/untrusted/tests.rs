use malachite_engine::wal::encode_entry;
use malachite_types::{Context as _, NilOrVal, SignedMessage};
use proptest::prelude::*;

use super::*;
use crate::block::{Certificate, Header, tx_root};
use crate::node::consensus::context::Id;
use crate::node::consensus::context::Sig;
use crate::node::consensus::parts::MAX_PART_BYTES;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32]).unwrap()
}

/// A block of some transactions; one of them fills more than a part.
fn block(long: bool) -> Block {
    let text = "x".repeat(if long { MAX_PART_BYTES } else { 5 });
    let payload = crate::Payload::Register {
        role: crate::Role::Worker,
        collateral: dn_core::Amount::ZERO,
        name: text,
        endpoint: String::new(),
    };
    let sender = key().address();
    let fee = dn_core::Amount::ZERO;
    let tx = crate::Tx { chain_id: CHAIN_ID, sender, nonce: 0, expires_height: 4, fee, payload }.sign(&key());
    let header = Header {
        chain_id: CHAIN_ID,
        height: 1,
        parent: dn_core::BlockHash::ZERO,
        time_ms: 1,
        proposer: sender,
        parent_certificate: Certificate::default().hash(),
        validators: dn_core::Hash32::ZERO,
        next_validators: dn_core::Hash32::ZERO,
        tx_root: tx_root(std::slice::from_ref(&tx)),
        state: dn_core::Hash32::ZERO,
        reveal: None,
    };
    Block { header, parent_certificate: Certificate::default(), txs: vec![tx] }
}

fn place(block: &Block) -> Place {
    let (height, round, proposer) = (Height(1), Round::new(0), key().address().into());
    Place { height, round, valid_round: Round::Nil, proposer, block: block.header.hash().into() }
}

/// One of each form, as it is written.
fn samples() -> Vec<Vec<u8>> {
    let (block, ctx) = (block(false), Ctx { chain_id: CHAIN_ID });
    let (bytes, place) = (block.to_bytes(), place(&block));
    let chunk = cut(CHAIN_ID, place, &bytes, &key()).remove(0);
    let part = Part::Chunk(Box::new(chunk.clone()));
    let id: Id = key().address().into();
    let vote = ctx.new_prevote(Height(9), Round::new(0), NilOrVal::Val(BlockId([7; 32])), id);
    let signature = Sig::from(key().sign(&vote.content(CHAIN_ID).unwrap().digest()));
    let vote = SignedMessage::new(vote, signature);
    let mut logged = Vec::new();
    encode_entry(malachite_consensus::Input::<Ctx>::Vote(vote.clone()), &Wire, &mut logged).unwrap();
    let own = (place, id, true, bytes.clone());
    vec![
        Wire.encode(&part).unwrap().to_vec(),
        borsh::to_vec(&chunk).unwrap(),
        Wire.encode(&Part::Txs(vec![vec![1, 2], vec![]])).unwrap().to_vec(),
        Wire.encode(&SignedConsensusMsg::Vote(vote)).unwrap().to_vec(),
        Wire.encode(&ValidatorProof::<Ctx>::new(vec![1], vec![2], signature)).unwrap().to_vec(),
        logged,
        borsh::to_vec(&own).unwrap(),
        bytes,
        self::block(true).to_bytes(),
    ]
}

fn try_all(dir: &Path, input: &[u8]) {
    try_message(input);
    try_parts(input);
    try_files(dir, input).unwrap();
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    samples().iter().for_each(|bytes| try_all(dir.path(), bytes));
    let long = block(true);
    assert!(cut(CHAIN_ID, place(&long), &long.to_bytes(), &key()).len() > 1);
    // The forms are reached, also behind the checksums.
    let samples = samples();
    let (entry, head) = (entry_of(&samples[5]), [&1u32.to_be_bytes()[..], &7u64.to_be_bytes()].concat());
    let path = dir.path().join("log");
    std::fs::write(&path, [&head[..], &entry].concat()).unwrap();
    assert!(
        matches!(Log::read(&path, CHAIN_ID, key().address()).unwrap(), Log::Whole { own, .. } if own.len() == 1)
    );
    std::fs::write(&path, undecided_entry(&samples[6])).unwrap();
    assert!(Undecided::open(&path, 0).unwrap().at(&place(&block(false))).is_some());
}

/// The last place that a number can name, in a part from any peer.
#[test]
fn a_part_beyond_all_others_is_refused() {
    let block = block(false);
    for count in [0, 1, u32::MAX] {
        let mut chunk = cut(CHAIN_ID, place(&block), &block.to_bytes(), &key()).remove(0);
        (chunk.index, chunk.count) = (u32::MAX, count);
        let part = Part::Chunk(Box::new(chunk.clone()));
        assert!(!part.is_last());
        let refused = Assembly::new(CHAIN_ID, MAX_BLOCK_BYTES).add(chunk, 0, |_| true);
        assert!(matches!(refused, Err(PartError::Shape { .. })), "{refused:?}");
    }
}

/// An entry of the engine's log with a good checksum, whose payload is said to be longer than any memory.
#[test]
fn no_memory_is_taken_for_an_entry_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [1, 4, 8] {
        try_files(dir.path(), &[&[kind][..], &(u64::MAX >> 8).to_be_bytes(), &[0; 3]].concat()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        try_all(dir.path(), &bytes);
    }

    #[test]
    fn any_change_of_a_form_is_read_or_refused(
        which in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0u8), Just(255), any::<u8>()]), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = samples().swap_remove(which);
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        try_all(dir.path(), &bytes);
    }
}
