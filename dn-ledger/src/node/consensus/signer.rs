//! Signing and checking of the engine's messages with the ledger's own digests.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dn_core::{SecretKey, keccak256};
use malachite_signing::{Error, Signer, VerificationResult, Verifier};
use malachite_types::{NilOrVal, SignedMessage, ValidatorProof, VoteExtensionScope, VoteType};

use super::context::{BlockId, Ctx, Id, NOBODY, Proposal, Sig, Vote};
use super::guard::{Allowed, Guard, PRECOMMIT, PREVOTE, PROPOSAL, Refused, Step, Wanted};

/// Checks what others signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checker {
    pub(crate) chain_id: u64,
}

/// Signs with the validator's key.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    pub(crate) chain_id: u64,
    pub(crate) key: SecretKey,
    pub(crate) guard: Arc<Mutex<Guard>>,
}

type Verdict = Result<VerificationResult, Error>;

fn verdict(valid: bool) -> Verdict {
    Ok(VerificationResult::from_bool(valid))
}

fn proof_digest(proof: &[u8]) -> [u8; 32] {
    keccak256(&[b"DeepNode peer v1", proof])
}

#[async_trait]
impl Verifier<Ctx> for Checker {
    async fn verify_signed_vote(&self, vote: &Vote, signature: &Sig, key: &Id) -> Verdict {
        verdict(vote.content(self.chain_id).is_some_and(|vote| signature.verifies(&vote.digest(), *key)))
    }

    async fn verify_signed_proposal(&self, proposal: &Proposal, signature: &Sig, key: &Id) -> Verdict {
        let content = proposal.content(self.chain_id);
        verdict(content.is_some_and(|content| signature.verifies(&content.digest(), *key)))
    }

    /// Blocks carry no extensions: whatever is signed is none.
    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Ctx>,
        (): &(),
        _: &Sig,
        _: &Id,
    ) -> Verdict {
        verdict(false)
    }

    async fn verify_validator_proof(&self, proof: &ValidatorProof<Ctx>) -> Verdict {
        let digest = proof_digest(&proof.preimage());
        verdict(proof.decoded_public_key().is_ok_and(|key| proof.signature.verifies(&digest, key)))
    }
}

/// The engine asked for what no validator signs, or what is signed cannot be recorded. It ends then.
#[derive(Debug, thiserror::Error)]
#[error("refused to sign: {0}")]
struct SigningRefused(String);

fn refuse(reason: impl ToString) -> Error {
    let refused = SigningRefused(reason.to_string());
    tracing::error!(error = %refused, "the engine asked for a signature that this key must not give");
    Error::from_source(refused)
}

impl Keeper {
    /// What may be signed; none where it would contradict what was signed before.
    fn ask(&self, wanted: Wanted) -> Result<Option<Allowed>, Error> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.note(wanted) {
            Ok(allowed) => Ok(Some(allowed)),
            Err(Refused::Guard(error)) => Err(refuse(error)),
            Err(refused) => {
                tracing::warn!(%refused, "a signature is withheld");
                Ok(None)
            }
        }
    }
}

/// What is withheld goes back to the engine in nobody's name: it is counted nowhere, is not logged, and the codec sends none. The
/// engine itself goes on as if it had voted, so the key signs again in a later round.
#[async_trait]
impl Signer<Ctx> for Keeper {
    async fn sign_vote(&self, mut vote: Vote) -> Result<SignedMessage<Ctx, Vote>, Error> {
        let nothing = || refuse("a vote without a round");
        let content = vote.content(self.chain_id).ok_or_else(nothing)?;
        let kind = match vote.kind {
            VoteType::Prevote => PREVOTE,
            VoteType::Precommit => PRECOMMIT,
        };
        let step = Step { height: content.height, round: content.round, kind };
        let (digest, block) = (content.digest(), content.block.map(|block| block.0));
        match self.ask(Wanted { step, digest, block })? {
            None => {
                vote.validator = NOBODY;
                return Ok(SignedMessage::new(vote, Sig::NONE));
            }
            Some(Allowed::Wanted) => {}
            Some(Allowed::Before { block }) => {
                tracing::warn!(?step, "the vote of before is given again");
                vote.value = block.map_or(NilOrVal::Nil, |block| NilOrVal::Val(BlockId(block)));
            }
        }
        let digest = vote.content(self.chain_id).ok_or_else(nothing)?.digest();
        Ok(SignedMessage::new(vote, self.key.sign(&digest).into()))
    }

    async fn sign_proposal(&self, proposal: Proposal) -> Result<SignedMessage<Ctx, Proposal>, Error> {
        let content = proposal.content(self.chain_id).ok_or_else(|| refuse("a proposal without a round"))?;
        let step = Step { height: content.height, round: content.round, kind: PROPOSAL };
        let (digest, block) = (content.digest(), Some(content.block.0));
        Ok(match self.ask(Wanted { step, digest, block })? {
            // Of proposals only the same one is allowed again.
            Some(_) => SignedMessage::new(proposal, self.key.sign(&digest).into()),
            None => SignedMessage::new(Proposal { proposer: NOBODY, ..proposal }, Sig::NONE),
        })
    }

    async fn sign_vote_extension(
        &self,
        _: VoteExtensionScope<Ctx>,
        (): (),
    ) -> Result<SignedMessage<Ctx, ()>, Error> {
        Err(refuse("a vote extension"))
    }

    async fn sign_validator_proof(
        &self,
        public_key: Vec<u8>,
        peer_id: Vec<u8>,
    ) -> Result<ValidatorProof<Ctx>, Error> {
        let digest = proof_digest(&ValidatorProof::<Ctx>::signing_bytes(&public_key, &peer_id));
        Ok(ValidatorProof::new(public_key, peer_id, self.key.sign(&digest).into()))
    }
}
