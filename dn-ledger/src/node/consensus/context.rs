//! The types that the engine is generic over: shells around this crate's own, so that what is signed, who decides and whose turn
//! it is have one definition.

use std::fmt;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use dn_core::{Address, BlockHash, Hash32, SecretKey, Signature};
use malachite_types::{
    Context, LinearTimeouts, NilOrVal, Round, SignedExtension, SigningScheme, VoteType, VotingPower,
};

use super::parts::Part;
use crate::validators::ValidatorSet;
use crate::vote;

/// A validator's address. Signatures are recoverable, so it stands for the public key as well.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub(crate) struct Id(pub(crate) [u8; 20]);

/// Who follows, and in whose name what must not be signed comes back to the engine.
pub(crate) const NOBODY: Id = Id([0; 20]);

impl Id {
    pub(crate) const fn address(self) -> Address {
        Address(self.0)
    }
}

impl From<Address> for Id {
    fn from(address: Address) -> Self {
        Self(address.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

impl malachite_types::Address for Id {}

/// A signature's 65 bytes; checked where it is verified.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub(crate) struct Sig(pub(crate) [u8; 65]);

impl Sig {
    /// No signature: it verifies for nobody.
    pub(crate) const NONE: Self = Self([0; 65]);

    /// Whether this validator signed the digest.
    pub(crate) fn verifies(&self, digest: &[u8; 32], signer: Id) -> bool {
        Signature::from_bytes(self.0).is_ok_and(|s| s.verify(digest, signer.address()).is_ok())
    }
}

impl From<Signature> for Sig {
    fn from(signature: Signature) -> Self {
        Self(*signature.as_bytes())
    }
}

impl fmt::Debug for Sig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sig({:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2])
    }
}

/// A height.
#[derive(
    Copy, Clone, Default, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite_types::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A block, by its hash: what is voted on. Its bytes travel as parts.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub(crate) struct BlockId(pub(crate) [u8; 32]);

impl BlockId {
    pub(crate) const fn hash(self) -> BlockHash {
        BlockHash(self.0)
    }
}

impl From<BlockHash> for BlockId {
    fn from(hash: BlockHash) -> Self {
        Self(hash.0)
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash().fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash().fmt(f)
    }
}

impl malachite_types::Value for BlockId {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

/// The scheme of every signature in DeepNode.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secp256k1;

/// Bytes of another length than expected.
#[derive(Debug, thiserror::Error)]
#[error("{found} bytes; {expected} expected")]
pub(crate) struct LengthError {
    expected: usize,
    found: usize,
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], LengthError> {
    bytes.try_into().map_err(|_| LengthError { expected: N, found: bytes.len() })
}

impl SigningScheme for Secp256k1 {
    type DecodingError = LengthError;
    type Signature = Sig;
    type PublicKey = Id;
    type PrivateKey = SecretKey;

    fn decode_signature(bytes: &[u8]) -> Result<Sig, LengthError> {
        exactly(bytes).map(Sig)
    }

    fn encode_signature(signature: &Sig) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<Id, LengthError> {
        exactly(bytes).map(Id)
    }

    fn encode_public_key(key: &Id) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// A validator with its power.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    id: Id,
    power: VotingPower,
}

impl malachite_types::Validator<Ctx> for Member {
    fn address(&self) -> &Id {
        &self.id
    }

    fn public_key(&self) -> &Id {
        &self.id
    }

    fn voting_power(&self) -> VotingPower {
        self.power
    }
}

/// Who decides a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators(Arc<Electorate>);

#[derive(Debug, PartialEq, Eq)]
struct Electorate {
    set: ValidatorSet,
    /// What turns are drawn from.
    seed: Hash32,
    members: Vec<Member>,
}

impl Validators {
    /// A set whose turns are drawn from this seed.
    pub(crate) fn new(set: ValidatorSet, seed: Hash32) -> Self {
        let members = set.members.iter().map(|m| Member { id: m.address.into(), power: m.power }).collect();
        Self(Arc::new(Electorate { set, seed, members }))
    }
}

impl malachite_types::ValidatorSet<Ctx> for Validators {
    fn count(&self) -> usize {
        self.0.members.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.members.iter().map(|m| m.power).sum()
    }

    fn get_by_address(&self, id: &Id) -> Option<&Member> {
        self.0.members.iter().find(|m| m.id == *id)
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.0.members.get(index)
    }
}

/// A proposer's choice.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: BlockId,
    pub(crate) pol_round: Round,
    pub(crate) proposer: Id,
}

impl Proposal {
    /// What its proposer signs; none for a round that no validator signs in.
    pub(crate) fn content(&self, chain_id: u64) -> Option<vote::RoundProposal> {
        Some(vote::RoundProposal {
            chain_id,
            height: self.height.0,
            round: self.round.as_u32()?,
            block: self.value.hash(),
            valid_round: self.pol_round.as_u32(),
        })
    }
}

impl malachite_types::Proposal<Ctx> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.value
    }

    fn take_value(self) -> BlockId {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Id {
        &self.proposer
    }
}

/// A validator's vote.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Vote {
    pub(crate) kind: VoteType,
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<BlockId>,
    pub(crate) validator: Id,
    /// Not used: the chain's blocks carry no extensions.
    #[borsh(skip)]
    extension: Option<SignedExtension<Ctx>>,
}

impl Vote {
    /// What its validator signs; none for a round that no validator signs in.
    pub(crate) fn content(&self, chain_id: u64) -> Option<vote::Vote> {
        let kind = match self.kind {
            VoteType::Prevote => vote::VoteKind::Prevote,
            VoteType::Precommit => vote::VoteKind::Precommit,
        };
        let block = match self.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(id) => Some(id.hash()),
        };
        Some(vote::Vote { chain_id, height: self.height.0, round: self.round.as_u32()?, kind, block })
    }
}

impl malachite_types::Vote<Ctx> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Id {
        &self.validator
    }

    fn extension(&self) -> Option<&SignedExtension<Ctx>> {
        self.extension.as_ref()
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ctx>> {
        self.extension.take()
    }

    fn extend(self, extension: SignedExtension<Ctx>) -> Self {
        Self { extension: Some(extension), ..self }
    }
}

/// The engine's view of a chain.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ctx {
    pub(crate) chain_id: u64,
}

impl Context for Ctx {
    type Address = Id;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Member;
    type ValidatorSet = Validators;
    type Timeouts = LinearTimeouts;
    type Value = BlockId;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Secp256k1;

    fn select_proposer<'a>(&self, validators: &'a Validators, height: Height, round: Round) -> &'a Member {
        let round = round.as_u32().unwrap_or(0);
        let Electorate { set, seed, .. } = &*validators.0;
        let proposer = set.proposer(self.chain_id, *seed, height.0, round);
        let member = malachite_types::ValidatorSet::get_by_address(validators, &proposer.into());
        member.expect("the proposer is drawn from the set")
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: BlockId,
        pol_round: Round,
        proposer: Id,
    ) -> Proposal {
        Proposal { height, round, value, pol_round, proposer }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<BlockId>, validator: Id) -> Vote {
        Vote { kind: VoteType::Prevote, height, round, value, validator, extension: None }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<BlockId>, validator: Id) -> Vote {
        Vote { kind: VoteType::Precommit, height, round, value, validator, extension: None }
    }
}
