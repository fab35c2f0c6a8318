//! What a payer says about an answer that it paid for.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::canonical_struct;
use crate::eip712::{Fields, TypedData};
use crate::hash::{BatchId, Hash32, ReceiptId};
use crate::signed::Signable;

/// The highest score.
pub const MAX_SCORE: u8 = 100;
/// The most bytes of a tag.
pub const MAX_TAG_BYTES: usize = 32;

/// Feedback, bound to one receipt of one batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Feedback {
    /// The chain that settled the receipt.
    pub chain_id: u64,
    /// The batch that holds it.
    pub batch: BatchId,
    /// Its place there.
    pub index: u32,
    /// The receipt.
    pub receipt: ReceiptId,
    /// From 0, useless, to [`MAX_SCORE`].
    pub score: u8,
    /// A word for what was scored; may be empty. At most [`MAX_TAG_BYTES`].
    pub tag: String,
    /// Hash of a longer text that lies elsewhere; zero where there is none.
    pub uri_hash: Hash32,
    /// Who speaks: the payer, or the spender of its channel.
    pub signer: Address,
    /// Last millisecond (Unix time) at which the ledger may take it.
    pub expires_ms: u64,
}
canonical_struct!(Feedback {
    chain_id: u64,
    batch: BatchId,
    index: u32,
    receipt: ReceiptId,
    score: u8,
    tag: String,
    uri_hash: Hash32,
    signer: Address,
    expires_ms: u64,
});

impl TypedData for Feedback {
    const TYPE: &'static str = "Feedback(uint64 chainId,bytes32 batch,uint32 index,bytes32 receipt,uint8 score,string tag,\
        bytes32 uriHash,address signer,uint64 expiresMs)";

    fn fields(&self, f: &mut Fields) {
        f.uint(self.chain_id.into())
            .word(&self.batch.0)
            .uint(self.index.into())
            .word(&self.receipt.0)
            .uint(self.score.into())
            .text(&self.tag)
            .word(&self.uri_hash.0)
            .address(self.signer)
            .uint(self.expires_ms.into());
    }
}

impl Signable for Feedback {
    fn chain_id(&self) -> u64 {
        self.chain_id
    }
    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
    fn signer(&self) -> Address {
        self.signer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Canonical, SecretKey, Signed};

    #[test]
    fn feedback_is_signed_as_a_whole() {
        let key = SecretKey::from_bytes(&[3; 32]).unwrap();
        let body = Feedback {
            chain_id: 7,
            batch: BatchId([1; 32]),
            index: 2,
            receipt: ReceiptId([2; 32]),
            score: 90,
            tag: "code".into(),
            uri_hash: Hash32::ZERO,
            signer: key.address(),
            expires_ms: 9,
        };
        let signed = Signed::sign(body, &key);
        assert_eq!(signed.verify(7, 9), Ok(()));
        assert_eq!(Signed::<Feedback>::from_bytes(&signed.to_bytes()), Ok(signed.clone()));
        let change = |change: &dyn Fn(&mut Feedback)| {
            let mut other = signed.clone();
            change(&mut other.body);
            assert!(other.verify(7, 9).is_err());
        };
        change(&|f| f.score = 89);
        change(&|f| f.tag.push('s'));
        change(&|f| f.index = 3);
        change(&|f| f.batch.0[0] ^= 1);
        change(&|f| f.receipt.0[0] ^= 1);
        change(&|f| f.uri_hash.0[0] ^= 1);
        change(&|f| f.expires_ms = 10);
    }
}
