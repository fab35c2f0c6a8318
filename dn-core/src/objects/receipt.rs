//! What a worker signs for an answer.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::amount::Amount;
use crate::eip712::{Fields, TypedData};
use crate::encoding::Canonical;
use crate::hash::{ChannelId, Hash32, JobId, ModelId, ReceiptId};
use crate::objects::Price;
use crate::signed::Signable;
use crate::{canonical_enum, canonical_struct};

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token or stop text.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The client went away; what was delivered is paid.
    Cancelled,
}
canonical_enum!(FinishReason { 0 => Stop {}, 1 => Length {}, 2 => Cancelled {} });

/// The worker's promise that this answer is the model's, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Receipt {
    /// The chain that settles it.
    pub chain_id: u64,
    /// Hash of the canonical request.
    pub job: JobId,
    /// The domain it counts for.
    pub domain: u32,
    /// The model, so its quantisation too.
    pub model: ModelId,
    /// Version of the numeric spec.
    pub numeric_spec: u16,
    /// Hash of the prompt's token ids, see [`token_hash`](crate::objects::token_hash).
    pub prompt_hash: Hash32,
    /// Hash of the generated token ids.
    pub output_hash: Hash32,
    /// The trace commitment.
    pub trace_root: Hash32,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Generated tokens.
    pub output_tokens: u32,
    /// Why generation ended.
    pub finish: FinishReason,
    /// Prices agreed.
    pub price: Price,
    /// What is charged.
    pub fee: Amount,
    /// Who pays.
    pub payer: Address,
    /// The channel it is paid from.
    pub channel: ChannelId,
    /// The channel's lane.
    pub lane: u32,
    /// Who computed it and signs.
    pub worker: Address,
    /// Who passed it on.
    pub gateway: Address,
    /// When work started, Unix milliseconds.
    pub started_ms: u64,
    /// When it ended, Unix milliseconds.
    pub finished_ms: u64,
    /// Last millisecond (Unix time) at which it may enter a batch.
    pub expires_ms: u64,
}
canonical_struct!(Receipt {
    chain_id: u64,
    job: JobId,
    domain: u32,
    model: ModelId,
    numeric_spec: u16,
    prompt_hash: Hash32,
    output_hash: Hash32,
    trace_root: Hash32,
    prompt_tokens: u32,
    output_tokens: u32,
    finish: FinishReason,
    price: Price,
    fee: Amount,
    payer: Address,
    channel: ChannelId,
    lane: u32,
    worker: Address,
    gateway: Address,
    started_ms: u64,
    finished_ms: u64,
    expires_ms: u64,
});

impl Receipt {
    /// The receipt's identity.
    pub fn id(&self) -> ReceiptId {
        ReceiptId(self.keccak())
    }
}

impl TypedData for Receipt {
    const TYPE: &'static str = "Receipt(uint64 chainId,bytes32 job,uint32 domain,bytes32 model,uint16 numericSpec,\
        bytes32 promptHash,bytes32 outputHash,bytes32 traceRoot,uint32 promptTokens,uint32 outputTokens,\
        uint8 finish,uint128 pricePromptToken,uint128 priceOutputToken,uint128 fee,address payer,\
        bytes32 channel,uint32 lane,address worker,address gateway,uint64 startedMs,uint64 finishedMs,\
        uint64 expiresMs)";

    fn fields(&self, f: &mut Fields) {
        f.uint(self.chain_id.into())
            .word(&self.job.0)
            .uint(self.domain.into())
            .word(&self.model.0)
            .uint(self.numeric_spec.into())
            .word(&self.prompt_hash.0)
            .word(&self.output_hash.0)
            .word(&self.trace_root.0)
            .uint(self.prompt_tokens.into())
            .uint(self.output_tokens.into())
            .uint(self.finish.to_bytes()[0].into())
            .amount(self.price.prompt_token)
            .amount(self.price.output_token)
            .amount(self.fee)
            .address(self.payer)
            .word(&self.channel.0)
            .uint(self.lane.into())
            .address(self.worker)
            .address(self.gateway)
            .uint(self.started_ms.into())
            .uint(self.finished_ms.into())
            .uint(self.expires_ms.into());
    }
}

impl Signable for Receipt {
    fn chain_id(&self) -> u64 {
        self.chain_id
    }
    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
    fn signer(&self) -> Address {
        self.worker
    }
}
