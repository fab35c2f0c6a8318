//! What a client asks for.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::amount::{Amount, AmountError};
use crate::canonical_struct;
use crate::encoding::Canonical;
use crate::hash::{ChannelId, Hash32, JobId, ModelId, blake3_256};
use crate::objects::{Decoding, Sampling};

/// Prices per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Price {
    /// For one prompt token.
    pub prompt_token: Amount,
    /// For one generated token.
    pub output_token: Amount,
}
canonical_struct!(Price { prompt_token: Amount, output_token: Amount });

impl Price {
    /// Whether it is enough for whoever asks for at least `asked`: no token for less.
    pub fn covers(&self, asked: Self) -> bool {
        self.prompt_token >= asked.prompt_token && self.output_token >= asked.output_token
    }

    /// The fee for these counts.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn fee(&self, prompt_tokens: u64, output_tokens: u64) -> Result<Amount, AmountError> {
        self.prompt_token
            .checked_mul(prompt_tokens)?
            .checked_add(self.output_token.checked_mul(output_tokens)?)
    }
}

/// The canonical request: everything that decides the answer and its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobRequest {
    /// The chain that settles it.
    pub chain_id: u64,
    /// Who pays.
    pub payer: Address,
    /// The gateway that takes it.
    pub gateway: Address,
    /// The channel it is paid from.
    pub channel: ChannelId,
    /// The channel's lane.
    pub lane: u32,
    /// The domain it counts for; 0 is the general one.
    pub domain: u32,
    /// The model.
    pub model: ModelId,
    /// Version of the numeric spec.
    pub numeric_spec: u16,
    /// Prompt as token ids.
    pub prompt: Vec<u32>,
    /// Numbers of the sampler.
    pub sampling: Sampling,
    /// Biases, bans, grammar and log-probabilities.
    pub decoding: Decoding,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Prices agreed.
    pub price: Price,
    /// Makes equal requests different jobs.
    pub nonce: [u8; 16],
    /// Last millisecond (Unix time) at which a worker may start it.
    pub expires_ms: u64,
}
canonical_struct!(JobRequest {
    chain_id: u64,
    payer: Address,
    gateway: Address,
    channel: ChannelId,
    lane: u32,
    domain: u32,
    model: ModelId,
    numeric_spec: u16,
    prompt: Vec<u32>,
    sampling: Sampling,
    decoding: Decoding,
    max_tokens: u32,
    stop: Vec<String>,
    price: Price,
    nonce: [u8; 16],
    expires_ms: u64,
});

impl JobRequest {
    /// Where the token ids of the prompt start in the canonical bytes; what follows them follows 4 bytes per token later.
    pub const PROMPT_OFFSET: usize = u64::MIN_LEN
        + 2 * Address::MIN_LEN
        + ChannelId::MIN_LEN
        + 2 * u32::MIN_LEN
        + ModelId::MIN_LEN
        + u16::MIN_LEN
        + Vec::<u32>::MIN_LEN;

    /// The job's identity: BLAKE3 of the canonical request, so that a few bytes of a long one can be opened against it.
    pub fn id(&self) -> JobId {
        JobId(blake3_256(&[&self.to_bytes()]))
    }

    /// The most it can cost.
    ///
    /// # Errors
    /// [`AmountError::Overflow`].
    pub fn max_fee(&self) -> Result<Amount, AmountError> {
        self.price.fee(self.prompt.len() as u64, self.max_tokens.into())
    }
}

/// BLAKE3 over token ids, each as `u32` little-endian; so a few of many can be opened against it.
pub fn token_hash(tokens: &[u32]) -> Hash32 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    Hash32(blake3_256(&[&bytes]))
}
