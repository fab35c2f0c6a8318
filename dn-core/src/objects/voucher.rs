//! What a payer signs so that a gateway can be paid.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::amount::Amount;
use crate::canonical_struct;
use crate::eip712::{Fields, TypedData};
use crate::hash::ChannelId;
use crate::signed::Signable;

/// A cumulative promise on one lane of a channel: the newest, with the largest amount, replaces all before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Voucher {
    /// The chain that settles it.
    pub chain_id: u64,
    /// The channel.
    pub channel: ChannelId,
    /// The lane; lanes are independent, so parallel calls need not wait for each other.
    pub lane: u32,
    /// The most that may be claimed on this lane in all.
    pub max_claimable: Amount,
    /// Who signs: the channel's payer or the spending key that the payer named for the channel.
    pub signer: Address,
    /// Last millisecond (Unix time) at which it can be claimed.
    pub expires_ms: u64,
}
canonical_struct!(Voucher {
    chain_id: u64,
    channel: ChannelId,
    lane: u32,
    max_claimable: Amount,
    signer: Address,
    expires_ms: u64,
});

impl TypedData for Voucher {
    const TYPE: &'static str = "Voucher(uint64 chainId,bytes32 channel,uint32 lane,uint128 maxClaimable,\
        address signer,uint64 expiresMs)";

    fn fields(&self, f: &mut Fields) {
        f.uint(self.chain_id.into())
            .word(&self.channel.0)
            .uint(self.lane.into())
            .amount(self.max_claimable)
            .address(self.signer)
            .uint(self.expires_ms.into());
    }
}

impl Signable for Voucher {
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
