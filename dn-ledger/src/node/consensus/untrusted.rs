//! What peers send and what a damaged disk holds, tried as every form that consensus reads: no panic, nothing forged is accepted, what
//! is read is written the same. The fuzz targets and the tests of this crate run these functions alike.

use std::io;
use std::path::Path;

use borsh::BorshDeserialize;
use bytes::Bytes;
use dn_core::{Canonical, SecretKey, keccak256};
use malachite_channel::app::types::codec::Codec;
use malachite_channel::app::types::streaming::StreamMessage;
use malachite_channel::app::types::{ProposedValue, SignedConsensusMsg};
use malachite_consensus::LivenessMsg;
use malachite_sync::{Request, Response, Status};
use malachite_types::{PolkaCertificate, ProposalPart as _, Round, ValidatorProof};

use super::codec::Wire;
use super::context::{BlockId, Ctx, Height};
use super::guard::{Allowed, Guard, GuardError, PRECOMMIT, PROPOSAL, Step, Wanted, framed};
use super::log::{HEAD_BYTES, Log, entry_of};
use super::parts::{Assembly, Chunk, Part, PartError, Place, Received, cut};
use super::undecided::{Undecided, framed as undecided_entry};
use crate::block::Block;

const CHAIN_ID: u64 = 9;
/// Nothing here is signed for it.
const OTHER_CHAIN: u64 = 10;
const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// Tries bytes as every message of the wire, and as a part of a block from whoever it names.
pub fn try_message(input: &[u8]) {
    exact::<Part>(input);
    stable::<LivenessMsg<Ctx>>(input);
    stable::<StreamMessage<Part>>(input);
    stable::<ProposedValue<Ctx>>(input);
    stable::<PolkaCertificate<Ctx>>(input);
    stable::<Status<Ctx>>(input);
    stable::<Request<Ctx>>(input);
    stable::<SignedConsensusMsg<Ctx>>(input);
    stable::<Response<Ctx>>(input);
    stable::<ValidatorProof<Ctx>>(input);
    let wire = Part::try_from_slice(input).ok();
    let bare = Chunk::try_from_slice(input).ok().map(|chunk| Part::Chunk(Box::new(chunk)));
    for part in wire.into_iter().chain(bare) {
        let _ = (part.is_first(), part.is_last());
        let Part::Chunk(chunk) = part else { continue };
        // Whatever height it names is the next one.
        let tip = chunk.place.height.0.saturating_sub(1).min(u64::MAX - 8);
        let mut assembly = Assembly::new(OTHER_CHAIN, MAX_BLOCK_BYTES);
        let refused = assembly.add(*chunk, tip, |_| true).expect_err("a signature out of nowhere");
        assert!(!matches!(refused, PartError::Content), "what nobody signed is not looked into");
    }
}

/// Tries bytes as a block that a validator publishes in parts: it arrives if it is one, and nothing else does.
pub fn try_parts(input: &[u8]) {
    let key = SecretKey::from_bytes(&[5; 32]).expect("in range");
    let block = Block::from_bytes(input).ok();
    if let Some(block) = &block {
        assert_eq!(block.to_bytes(), input);
    }
    let (hash, height) =
        block.as_ref().map_or(([0; 32], 1), |block| (block.header.hash().0, block.header.height));
    let (round, valid_round, proposer) = (Round::new(0), Round::Nil, key.address().into());
    let place = Place { height: Height(height), round, valid_round, proposer, block: BlockId(hash) };
    let expected = Received::decode(place, proposer, input);
    let tip = height.saturating_sub(1).min(u64::MAX - 8);
    let mut assembly = Assembly::new(CHAIN_ID, MAX_BLOCK_BYTES);
    let mut last = None;
    for chunk in cut(CHAIN_ID, place, input, &key) {
        // Twice, and once spoiled: neither changes what comes of it.
        let mut spoiled = chunk.clone();
        spoiled.signature.0[3] ^= 1;
        assert!(assembly.add(spoiled, tip, |_| true).is_err());
        assert_eq!(assembly.add(chunk.clone(), tip, |_| false), outsider(&chunk, tip));
        last = Some(assembly.add(chunk.clone(), tip, |_| true));
        let whole = chunk.index + 1 == chunk.count;
        assert!(whole || assembly.add(chunk, tip, |_| true) == Ok(None));
    }
    match (last, expected) {
        (Some(Ok(Some(received))), Some(expected)) => assert_eq!(received, expected),
        (None | Some(Err(_)), None) => {}
        // A height of which no part is taken.
        (Some(Err(PartError::Height { .. })), Some(_)) if tip + 1 != height => {}
        (last, expected) => panic!("{last:?} of parts, {expected:?} of the bytes"),
    }
}

fn outsider(chunk: &Chunk, tip: u64) -> Result<Option<Received>, PartError> {
    let refused = Assembly::new(CHAIN_ID, MAX_BLOCK_BYTES).add(chunk.clone(), tip, |_| false);
    assert!(refused.is_err());
    refused
}

/// Tries bytes as what a crash or a bad disk left of the files of consensus, in a directory for them.
///
/// # Errors
/// The disk's own.
pub fn try_files(dir: &Path, input: &[u8]) -> io::Result<()> {
    let path = dir.join("untrusted");
    for bytes in [input.to_vec(), [undecided_entry(input), input.to_vec()].concat()] {
        std::fs::write(&path, &bytes)?;
        let undecided = Undecided::open(&path, 0).expect("the file can be read");
        let kept = std::fs::read(&path)?;
        assert!(bytes.starts_with(&kept));
        drop(undecided);
        // What is left is whole.
        drop(Undecided::open(&path, 0).expect("the file can be read"));
        assert_eq!(std::fs::read(&path)?, kept);
    }
    // More signatures than a key can give: no record counts that far.
    if input.first_chunk::<8>().is_some_and(|counter| u64::from_le_bytes(*counter) > u64::MAX - 8) {
        return std::fs::remove_file(&path);
    }
    for bytes in [input.to_vec(), framed(input), [vec![0; 4_096], framed(input)].concat()] {
        std::fs::write(&path, &bytes)?;
        try_guard(&path);
    }
    let entry = entry_of(input);
    let head = [&1u32.to_be_bytes()[..], &7u64.to_be_bytes()].concat();
    for bytes in [input.to_vec(), [&head[..], &entry].concat(), [&head[..], &entry, input].concat()] {
        let own = SecretKey::from_bytes(&[5; 32]).expect("in range").address();
        std::fs::write(&path, &bytes)?;
        match Log::read(&path, CHAIN_ID, own)? {
            Log::Missing => assert!(bytes.len() < HEAD_BYTES),
            Log::Whole { end, .. } => assert!(end as usize <= bytes.len()),
            Log::Damaged { at, .. } => assert!((at as usize) < bytes.len()),
        }
    }
    std::fs::remove_file(&path)
}

/// A record that opens is a floor: nothing else is signed at or below it, also after it is opened again.
fn try_guard(path: &Path) {
    let mut guard = match Guard::open(path) {
        Ok(guard) => guard,
        Err(GuardError::Damaged { .. }) => return,
        Err(other) => panic!("{other}"),
    };
    let height = guard.height();
    let wanted = |height, byte| {
        let step = Step { height, round: 0, kind: PRECOMMIT };
        Wanted { step, digest: keccak256(&[&[byte]]), block: Some([byte; 32]) }
    };
    if height > 0 {
        let below =
            Wanted { step: Step { height: height - 1, round: u32::MAX, kind: PROPOSAL }, ..wanted(0, 1) };
        assert!(!matches!(guard.note(below), Ok(Allowed::Wanted)));
    }
    let Some(next) = height.checked_add(1) else { return };
    assert!(matches!(guard.note(wanted(next, 1)), Ok(Allowed::Wanted)));
    let mut again = Guard::open(path).expect("it was just written");
    assert!(!matches!(again.note(wanted(next, 2)), Ok(Allowed::Wanted)));
    assert!(matches!(again.note(wanted(next, 1)), Ok(Allowed::Wanted)));
}

/// Bytes that are read are those that are written.
fn exact<M>(input: &[u8])
where
    Wire: Codec<M, Error = io::Error>,
{
    if let Ok(message) = Wire.decode(Bytes::copy_from_slice(input)) {
        assert_eq!(Wire.encode(&message).expect("it was read"), input);
    }
}

/// What is read is written in one form, which is read and written the same; what is in nobody's name is not written.
fn stable<M>(input: &[u8])
where
    Wire: Codec<M, Error = io::Error>,
{
    let Ok(message) = Wire.decode(Bytes::copy_from_slice(input)) else { return };
    let Ok(bytes) = Wire.encode(&message) else { return };
    let again: M = Wire.decode(bytes.clone()).expect("its own bytes");
    assert_eq!(Wire.encode(&again).expect("its own bytes"), bytes);
}

#[cfg(test)]
mod tests;
