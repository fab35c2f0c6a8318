//! What a payer signs when the result of a long job is right.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::canonical_struct;
use crate::eip712::{Fields, TypedData};
use crate::hash::{ChannelId, ReceiptId};
use crate::signed::Signable;

/// The payer's countersignature of a job's receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobAcceptance {
    /// The chain that settles it.
    pub chain_id: u64,
    /// The escrow, which the receipt names as its channel.
    pub escrow: ChannelId,
    /// The receipt.
    pub receipt: ReceiptId,
    /// Who pays and signs.
    pub payer: Address,
    /// Last millisecond (Unix time) at which it may accompany a claim.
    pub expires_ms: u64,
}
canonical_struct!(JobAcceptance {
    chain_id: u64,
    escrow: ChannelId,
    receipt: ReceiptId,
    payer: Address,
    expires_ms: u64,
});

impl TypedData for JobAcceptance {
    const TYPE: &'static str =
        "JobAcceptance(uint64 chainId,bytes32 escrow,bytes32 receipt,address payer,uint64 expiresMs)";

    fn fields(&self, f: &mut Fields) {
        f.uint(self.chain_id.into())
            .word(&self.escrow.0)
            .word(&self.receipt.0)
            .address(self.payer)
            .uint(self.expires_ms.into());
    }
}

impl Signable for JobAcceptance {
    fn chain_id(&self) -> u64 {
        self.chain_id
    }
    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
    fn signer(&self) -> Address {
        self.payer
    }
}
