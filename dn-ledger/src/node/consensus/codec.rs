//! Bytes of the engine's messages, on the wire and in its log.

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use malachite_channel::app::types::codec::{Codec, HasEncodedLen};
use malachite_channel::app::types::streaming::StreamMessage;
use malachite_channel::app::types::{ProposedValue, SignedConsensusMsg};
use malachite_consensus::LivenessMsg;
use malachite_sync::{RawDecidedValue, Request, Response, Status, ValueResponse};
use malachite_types::{
    CommitCertificate, ExtendedCommitCertificate, PolkaCertificate, ValidatorProof, VoteExtensions,
};

use super::context::{Ctx, Height, NOBODY, Sig};
use super::parts::Part;

/// Borsh for everything.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Wire;

macro_rules! borsh_codec {
    ($($message:ty),* $(,)?) => {
        $(impl Codec<$message> for Wire {
            type Error = std::io::Error;

            fn decode(&self, bytes: Bytes) -> Result<$message, Self::Error> {
                borsh::from_slice(&bytes)
            }

            fn encode(&self, message: &$message) -> Result<Bytes, Self::Error> {
                borsh::to_vec(message).map(Bytes::from)
            }
        })*
    };
}
borsh_codec!(
    Part,
    LivenessMsg<Ctx>,
    StreamMessage<Part>,
    ProposedValue<Ctx>,
    PolkaCertificate<Ctx>,
    Status<Ctx>,
    Request<Ctx>,
);

/// What is in nobody's name was withheld (see `signer`), and leaves this machine in no way.
#[derive(Debug, thiserror::Error)]
#[error("a message of height {height} that this key withholds")]
struct Withheld {
    height: u64,
}

impl Codec<SignedConsensusMsg<Ctx>> for Wire {
    type Error = std::io::Error;

    fn decode(&self, bytes: Bytes) -> Result<SignedConsensusMsg<Ctx>, Self::Error> {
        borsh::from_slice(&bytes)
    }

    fn encode(&self, message: &SignedConsensusMsg<Ctx>) -> Result<Bytes, Self::Error> {
        let (who, height) = match message {
            SignedConsensusMsg::Vote(vote) => (vote.message.validator, vote.message.height.0),
            SignedConsensusMsg::Proposal(proposal) => (proposal.message.proposer, proposal.message.height.0),
        };
        if who == NOBODY {
            return Err(std::io::Error::other(Withheld { height }));
        }
        borsh::to_vec(message).map(Bytes::from)
    }
}

/// A decided block with who stands for it. The engine's own type has no encoding: it may carry vote extensions, ours never does.
#[derive(BorshSerialize, BorshDeserialize)]
struct Decided {
    block: Vec<u8>,
    certificate: CommitCertificate<Ctx>,
}

/// What value synchronisation sends of a height.
pub(crate) fn decided_value(block: Vec<u8>, certificate: CommitCertificate<Ctx>) -> RawDecidedValue<Ctx> {
    let none = VoteExtensions::default();
    let certificate = ExtendedCommitCertificate::from_commit_certificate_and_extensions(certificate, none);
    RawDecidedValue::new(block.into(), certificate)
}

impl Codec<Response<Ctx>> for Wire {
    type Error = std::io::Error;

    fn decode(&self, bytes: Bytes) -> Result<Response<Ctx>, Self::Error> {
        let (start, values): (Height, Vec<Decided>) = borsh::from_slice(&bytes)?;
        let values = values.into_iter().map(|d| decided_value(d.block, d.certificate)).collect();
        Ok(Response::ValueResponse(ValueResponse::new(start, values)))
    }

    fn encode(&self, message: &Response<Ctx>) -> Result<Bytes, Self::Error> {
        let Response::ValueResponse(response) = message;
        let decided = |value: &RawDecidedValue<Ctx>| Decided {
            block: value.value_bytes.to_vec(),
            certificate: value.certificate.trim_vote_extensions(),
        };
        let values: Vec<_> = response.values.iter().map(decided).collect();
        borsh::to_vec(&(response.start_height, values)).map(Bytes::from)
    }
}

impl HasEncodedLen<Response<Ctx>> for Wire {
    fn encoded_len(&self, message: &Response<Ctx>) -> Result<usize, Self::Error> {
        self.encode(message).map(|bytes| bytes.len())
    }
}

impl Codec<ValidatorProof<Ctx>> for Wire {
    type Error = std::io::Error;

    fn decode(&self, bytes: Bytes) -> Result<ValidatorProof<Ctx>, Self::Error> {
        let (public_key, peer_id, signature): (Vec<u8>, Vec<u8>, Sig) = borsh::from_slice(&bytes)?;
        Ok(ValidatorProof::new(public_key, peer_id, signature))
    }

    fn encode(&self, proof: &ValidatorProof<Ctx>) -> Result<Bytes, Self::Error> {
        borsh::to_vec(&(&proof.public_key, &proof.peer_id, &proof.signature)).map(Bytes::from)
    }
}
