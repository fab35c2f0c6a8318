//! Blocks: a header that chains them, the transactions, and who stands for them.

use dn_core::merkle::MerkleTree;
use dn_core::{Address, BlockHash, Canonical, Hash32, SecretKey, Signature, canonical_struct};
use serde::{Deserialize, Serialize};

use crate::beacon::Reveal;
use crate::tx::SignedTx;
use crate::validators::ValidatorSet;
use crate::vote::{Vote, VoteKind};

/// What a block promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Header {
    /// The chain.
    pub chain_id: u64,
    /// The block's height; the genesis is block 0.
    pub height: u64,
    /// Hash of the block before.
    pub parent: BlockHash,
    /// When it was proposed, Unix milliseconds; later than its parent.
    pub time_ms: u64,
    /// Who proposed it.
    pub proposer: Address,
    /// Keccak-256 of the parent's canonical certificate; of the empty one in blocks 0 and 1.
    pub parent_certificate: Hash32,
    /// Hash of the [`ValidatorSet`] that decides this block.
    pub validators: Hash32,
    /// Hash of the set that decides the next one.
    pub next_validators: Hash32,
    /// Keccak Merkle root over the canonical signed transactions.
    pub tx_root: Hash32,
    /// Root of the authenticated tree over the state after it.
    pub state: Hash32,
    /// What the proposer adds to the beacon.
    pub reveal: Option<Reveal>,
}
canonical_struct!(Header {
    chain_id: u64,
    height: u64,
    parent: BlockHash,
    time_ms: u64,
    proposer: Address,
    parent_certificate: Hash32,
    validators: Hash32,
    next_validators: Hash32,
    tx_root: Hash32,
    state: Hash32,
    reveal: Option<Reveal>,
});

impl Header {
    /// The block's identity.
    pub fn hash(&self) -> BlockHash {
        BlockHash(self.keccak())
    }

    /// The vote that stands for the block when it is decided in a round.
    pub fn precommit(&self, round: u32) -> Vote {
        let (chain_id, height, block) = (self.chain_id, self.height, Some(self.hash()));
        Vote { chain_id, height, round, kind: VoteKind::Precommit, block }
    }
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Block {
    /// The header.
    pub header: Header,
    /// Who stands for the parent: a quorum, though perhaps not all who signed. Empty in block 1.
    pub parent_certificate: Certificate,
    /// The transactions, in the order in which they apply.
    pub txs: Vec<SignedTx>,
}
canonical_struct!(Block { header: Header, parent_certificate: Certificate, txs: Vec<SignedTx> });

/// The root of a block's transactions.
pub fn tx_root(txs: &[SignedTx]) -> Hash32 {
    MerkleTree::new(txs.iter().map(Canonical::to_bytes)).root()
}

/// Why a certificate does not stand for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Signers must be sorted without repeats.
    #[error("signers must be sorted by address without repeats; {signer} is not")]
    Order {
        /// The signer.
        signer: Address,
    },
    /// A signer outside the set.
    #[error("{signer} is not in the validator set")]
    NotMember {
        /// The signer.
        signer: Address,
    },
    /// Somebody else's signature, or one over something else.
    #[error("the signature of {signer} is not its precommit for this block in round {round}")]
    Signature {
        /// The signer.
        signer: Address,
        /// The round.
        round: u32,
    },
    /// Not more than two thirds.
    #[error("power {found} of {total} signed; more than two thirds expected")]
    Quorum {
        /// What signed.
        found: u128,
        /// All of the set.
        total: u128,
    },
}

/// Who stands for a block: precommits of more than two thirds of the power.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The round in which it was decided.
    pub round: u32,
    /// Signatures over [`Header::precommit`], sorted by signer.
    pub signatures: Vec<(Address, Signature)>,
}
canonical_struct!(Certificate { round: u32, signatures: Vec<(Address, Signature)> });

impl Certificate {
    /// The certificate that these keys sign.
    pub fn sign<'a>(header: &Header, round: u32, keys: impl IntoIterator<Item = &'a SecretKey>) -> Self {
        let digest = header.precommit(round).digest();
        let mut signatures: Vec<_> = keys.into_iter().map(|key| (key.address(), key.sign(&digest))).collect();
        signatures.sort_by_key(|(signer, _)| *signer);
        Self { round, signatures }
    }

    /// What the next header carries: Keccak-256 of the canonical bytes.
    pub fn hash(&self) -> Hash32 {
        Hash32(self.keccak())
    }

    /// Checks that a quorum of the set decided the header. Powers are counted before any signature is looked at.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify(&self, header: &Header, set: &ValidatorSet) -> Result<(), CertificateError> {
        let signers = self.signatures.iter().map(|(signer, _)| *signer);
        if let Some(pair) = self.signatures.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(CertificateError::Order { signer: pair[1].0 });
        }
        let mut found = 0;
        for signer in signers {
            match set.power(signer) {
                0 => return Err(CertificateError::NotMember { signer }),
                power => found += u128::from(power),
            }
        }
        if !set.is_quorum(found) {
            return Err(CertificateError::Quorum { found, total: set.total() });
        }
        let (round, digest) = (self.round, header.precommit(self.round).digest());
        for (signer, signature) in &self.signatures {
            signature
                .verify(&digest, *signer)
                .map_err(|_| CertificateError::Signature { signer: *signer, round })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<SecretKey> {
        (1..=4).map(|n| SecretKey::from_bytes(&[n; 32]).unwrap()).collect()
    }

    fn header() -> Header {
        Header {
            chain_id: 7,
            height: 3,
            parent: BlockHash([1; 32]),
            time_ms: 9,
            proposer: keys()[0].address(),
            parent_certificate: Hash32([2; 32]),
            validators: Hash32([3; 32]),
            next_validators: Hash32([4; 32]),
            tx_root: Hash32([5; 32]),
            state: Hash32([6; 32]),
            reveal: None,
        }
    }

    #[test]
    fn only_a_quorum_of_the_set_stands_for_a_block() {
        let (keys, header) = (keys(), header());
        let set = ValidatorSet::new(keys.iter().take(3).map(|key| (key.address(), 10)));
        let good = Certificate::sign(&header, 2, &keys[..3]);
        assert_eq!(good.verify(&header, &set), Ok(()));
        let few = Certificate::sign(&header, 2, &keys[..2]);
        assert_eq!(few.verify(&header, &set), Err(CertificateError::Quorum { found: 20, total: 30 }));
        let stranger = Certificate::sign(&header, 2, &keys);
        let signer = keys[3].address();
        assert_eq!(stranger.verify(&header, &set), Err(CertificateError::NotMember { signer }));

        let mut twice = few.clone();
        twice.signatures.push(few.signatures[1]);
        let signer = few.signatures[1].0;
        assert_eq!(twice.verify(&header, &set), Err(CertificateError::Order { signer }));
        let mut swapped = good.clone();
        swapped.signatures[0].1 = good.signatures[1].1;
        let signer = good.signatures[0].0;
        assert_eq!(swapped.verify(&header, &set), Err(CertificateError::Signature { signer, round: 2 }));
    }

    #[test]
    fn a_certificate_stands_for_one_block_in_one_round() {
        let (keys, header) = (keys(), header());
        let set = ValidatorSet::new(keys.iter().map(|key| (key.address(), 10)));
        let good = Certificate::sign(&header, 0, &keys);
        let later = Certificate { round: 1, ..good.clone() };
        assert!(matches!(later.verify(&header, &set), Err(CertificateError::Signature { round: 1, .. })));
        for change in [
            &|h: &mut Header| h.chain_id += 1,
            &|h: &mut Header| h.height += 1,
            &|h: &mut Header| h.state.0[31] ^= 1,
            &|h: &mut Header| h.next_validators.0[0] ^= 1,
        ] as [&dyn Fn(&mut Header); 4]
        {
            let mut other = header.clone();
            change(&mut other);
            assert!(matches!(good.verify(&other, &set), Err(CertificateError::Signature { .. })));
        }
        let prevote = Vote { kind: VoteKind::Prevote, ..header.precommit(0) }.digest();
        let signatures = keys.iter().map(|key| (key.address(), key.sign(&prevote))).collect();
        let mut prevotes = Certificate { round: 0, signatures };
        prevotes.signatures.sort_by_key(|(signer, _)| *signer);
        assert!(matches!(prevotes.verify(&header, &set), Err(CertificateError::Signature { .. })));
    }
}
