//! Blocks: a header that chains them, the transactions, and who stands for them.

use dn_core::merkle::MerkleTree;
use dn_core::{Address, BlockHash, Canonical, Hash32, SecretKey, Signature, canonical_struct, keccak256};
use serde::{Deserialize, Serialize};

use crate::tx::SignedTx;

/// What a block promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Keccak Merkle root over the canonical signed transactions.
    pub tx_root: Hash32,
    /// Root of the authenticated tree over the state after it.
    pub state: Hash32,
}
canonical_struct!(Header {
    chain_id: u64,
    height: u64,
    parent: BlockHash,
    time_ms: u64,
    proposer: Address,
    tx_root: Hash32,
    state: Hash32,
});

impl Header {
    /// The block's identity.
    pub fn hash(&self) -> BlockHash {
        BlockHash(self.keccak())
    }

    /// What a validator signs to stand for the block.
    pub fn digest(&self) -> [u8; 32] {
        keccak256(&[b"DeepNode block v1", &self.hash().0])
    }
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The transactions, in the order in which they apply.
    pub txs: Vec<SignedTx>,
}
canonical_struct!(Block { header: Header, txs: Vec<SignedTx> });

/// The root of a block's transactions.
pub fn tx_root(txs: &[SignedTx]) -> Hash32 {
    MerkleTree::new(txs.iter().map(Canonical::to_bytes)).root()
}

/// Who stands for a block. On this floor its proposer alone; the BFT engine puts a quorum here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Certificate {
    /// Signatures over [`Header::digest`], by signer.
    pub signatures: Vec<(Address, Signature)>,
}
canonical_struct!(Certificate { signatures: Vec<(Address, Signature)> });

impl Certificate {
    /// The certificate of a chain with one producer.
    pub fn solo(header: &Header, key: &SecretKey) -> Self {
        Self { signatures: vec![(key.address(), key.sign(&header.digest()))] }
    }

    /// Checks that the proposer signed the header.
    pub fn proves(&self, header: &Header) -> bool {
        let digest = header.digest();
        let by_proposer = |(who, signature): &(Address, Signature)| {
            *who == header.proposer && signature.verify(&digest, *who).is_ok()
        };
        self.signatures.len() == 1 && self.signatures.iter().all(by_proposer)
    }
}
