//! Signing and checking of the engine's messages with the ledger's own digests.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use dn_core::{SecretKey, keccak256};
use malachite_signing::{Error, Signer, VerificationResult, Verifier};
use malachite_types::{SignedMessage, ValidatorProof, VoteExtensionScope, VoteType};

use super::context::{Ctx, Id, Proposal, Sig, Vote};
use super::guard::{Guard, Step};

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

/// A refusal stops the engine: it would sign something that it must not.
#[derive(Debug, thiserror::Error)]
#[error("refused to sign: {0}")]
struct SigningRefused(String);

fn refuse(reason: impl ToString) -> Error {
    let refused = SigningRefused(reason.to_string());
    tracing::error!(error = %refused, "the engine asked for a signature that this key must not give");
    Error::from_source(refused)
}

impl Keeper {
    fn sign(&self, step: Step, digest: [u8; 32]) -> Result<Sig, Error> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.note(step, digest).map_err(refuse)?;
        Ok(self.key.sign(&digest).into())
    }
}

#[async_trait]
impl Signer<Ctx> for Keeper {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Ctx, Vote>, Error> {
        let content = vote.content(self.chain_id).ok_or_else(|| refuse("a vote without a round"))?;
        let kind = match vote.kind {
            VoteType::Prevote => 2,
            VoteType::Precommit => 3,
        };
        let step = Step { height: content.height, round: content.round, kind };
        Ok(SignedMessage::new(vote, self.sign(step, content.digest())?))
    }

    async fn sign_proposal(&self, proposal: Proposal) -> Result<SignedMessage<Ctx, Proposal>, Error> {
        let content = proposal.content(self.chain_id).ok_or_else(|| refuse("a proposal without a round"))?;
        let step = Step { height: content.height, round: content.round, kind: 1 };
        Ok(SignedMessage::new(proposal, self.sign(step, content.digest())?))
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
