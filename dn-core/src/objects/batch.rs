//! A worker's commitment to an epoch's receipts, countersigned by the gateway that passed them on.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::amount::{Amount, AmountError};
use crate::canonical_struct;
use crate::eip712::{Fields, TypedData};
use crate::encoding::Canonical;
use crate::hash::{BatchId, ChannelId, Hash32, ModelId};
use crate::objects::Receipt;
use crate::signed::Signable;

/// What a batch claims from one lane of one channel for one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchLine {
    /// The channel.
    pub channel: ChannelId,
    /// The lane.
    pub lane: u32,
    /// The model.
    pub model: ModelId,
    /// The domain.
    pub domain: u32,
    /// Number of receipts.
    pub receipts: u32,
    /// Their prompt tokens.
    pub prompt_tokens: u64,
    /// Their generated tokens.
    pub output_tokens: u64,
    /// Their fees.
    pub fees: Amount,
}
canonical_struct!(BatchLine {
    channel: ChannelId,
    lane: u32,
    model: ModelId,
    domain: u32,
    receipts: u32,
    prompt_tokens: u64,
    output_tokens: u64,
    fees: Amount,
});

impl BatchLine {
    /// The place of the line that a receipt belongs to: of its channel, lane, model and domain, with at least its tokens and its fee. None where no line can
    /// hold it, and then it is not what the batch claims to be.
    pub fn holding(lines: &[Self], receipt: &Receipt) -> Option<usize> {
        lines.iter().position(|line| {
            (line.channel, line.lane, line.model, line.domain)
                == (receipt.channel, receipt.lane, receipt.model, receipt.domain)
                && u64::from(receipt.prompt_tokens) <= line.prompt_tokens
                && u64::from(receipt.output_tokens) <= line.output_tokens
                && receipt.fee <= line.fees
        })
    }
}

/// The commitment. Signed by the gateway, submitted by the worker; audits are drawn only after it stands on the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchRoot {
    /// The chain that settles it.
    pub chain_id: u64,
    /// Who computed the answers.
    pub worker: Address,
    /// Who passed them on and countersigns.
    pub gateway: Address,
    /// The worker's batch number: 0, 1, 2, … without gaps.
    pub sequence: u64,
    /// Keccak Merkle root over the canonical signed receipts, in order.
    pub root: Hash32,
    /// Number of receipts.
    pub count: u32,
    /// Totals by channel, lane and model, sorted by (channel, lane, model, domain) without repeats.
    pub lines: Vec<BatchLine>,
    /// Last millisecond (Unix time) at which the ledger may take it.
    pub expires_ms: u64,
}
canonical_struct!(BatchRoot {
    chain_id: u64,
    worker: Address,
    gateway: Address,
    sequence: u64,
    root: Hash32,
    count: u32,
    lines: Vec<BatchLine>,
    expires_ms: u64,
});

impl BatchRoot {
    /// The batch's identity.
    pub fn id(&self) -> BatchId {
        BatchId(self.keccak())
    }

    /// All fees.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn total_fees(&self) -> Result<Amount, AmountError> {
        Amount::sum(self.lines.iter().map(|line| line.fees))
    }
}

impl TypedData for BatchLine {
    const TYPE: &'static str = "BatchLine(bytes32 channel,uint32 lane,bytes32 model,uint32 domain,uint32 receipts,\
        uint64 promptTokens,uint64 outputTokens,uint128 fees)";

    fn fields(&self, f: &mut Fields) {
        f.word(&self.channel.0)
            .uint(self.lane.into())
            .word(&self.model.0)
            .uint(self.domain.into())
            .uint(self.receipts.into())
            .uint(self.prompt_tokens.into())
            .uint(self.output_tokens.into())
            .amount(self.fees);
    }
}

impl TypedData for BatchRoot {
    const TYPE: &'static str = "BatchRoot(uint64 chainId,address worker,address gateway,uint64 sequence,bytes32 root,\
        uint32 count,BatchLine[] lines,uint64 expiresMs)\
        BatchLine(bytes32 channel,uint32 lane,bytes32 model,uint32 domain,uint32 receipts,\
        uint64 promptTokens,uint64 outputTokens,uint128 fees)";

    fn fields(&self, f: &mut Fields) {
        f.uint(self.chain_id.into())
            .address(self.worker)
            .address(self.gateway)
            .uint(self.sequence.into())
            .word(&self.root.0)
            .uint(self.count.into())
            .array(&self.lines)
            .uint(self.expires_ms.into());
    }
}

impl Signable for BatchRoot {
    fn chain_id(&self) -> u64 {
        self.chain_id
    }
    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
    fn signer(&self) -> Address {
        self.gateway
    }
}
