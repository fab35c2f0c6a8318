//! What workers and gateways say to each other: canonical binary messages over one WebSocket, which the worker opens
//! at `GET /v1/worker` of the gateway.
//!
//! | message | way | deadline | a duplicate | after a restart |
//! |---|---|---|---|---|
//! | [`ToWorker::Challenge`] | → worker | first message, 5 s | closes the connection | a new connection, a new nonce |
//! | [`ToGateway::Hello`] | → gateway | 5 s after the challenge | closes the connection | sent again on each connection |
//! | [`ToWorker::Welcome`] / [`ToWorker::Refused`] | → worker | 10 s after the hello | ignored | – |
//! | [`ToWorker::Offer`] | → worker | – | refused as busy: lease numbers never repeat | leases end with their connection |
//! | [`ToGateway::Accept`] / [`ToGateway::Busy`] | → gateway | 3 s after the offer | ends the lease | – |
//! | [`ToGateway::Chunk`] | → gateway | 30 s after the one before | ends the lease: `sequence` rises by one | – |
//! | [`ToWorker::Cancel`] | → worker | – | the first counts | – |
//! | [`ToGateway::Done`] / [`ToGateway::Failed`] | → gateway | 30 s after the last chunk | ignored, the lease is over | an unsettled receipt is never charged |
//! | [`ToWorker::Settled`] | → worker | – | harmless | the worker asks by [`ToGateway::Countersign`] |
//! | [`ToGateway::Countersign`] | → gateway | – | the same answer | asked again |
//! | [`ToWorker::Countersigned`] / [`ToWorker::CountersignRefused`] | → worker | 10 s | harmless | – |
//! | [`ToWorker::Ping`] / [`ToGateway::Pong`] | both | one heartbeat | ignored | – |
//! | [`ToGateway::Drain`] | → gateway | – | harmless | – |
//!
//! A message is at most [`MAX_MESSAGE_BYTES`]; a longer or undecodable one closes the connection. A gateway never dials
//! a worker, so a worker needs no open port.

mod auth;
mod lease;

pub use auth::{HelloError, hello_digest, verify_hello, verify_welcome, welcome_digest};
pub use lease::{Effect, Input, Lease, LeaseEnd, LeaseLimits, Violation};

use dn_core::encoding::{Canonical, DecodeError};
use dn_core::objects::{BatchRoot, JobRequest, Price, Receipt, TokenLogprobs, Voucher};
use dn_core::{
    Address, Hash32, ModelId, ReceiptId, Signature, Signed, canonical_enum, canonical_struct, keccak256,
};

/// Version of this protocol.
pub const VERSION: u16 = 2;
/// The most bytes of one message.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// The most receipts of one batch.
pub const MAX_BATCH_RECEIPTS: usize = 4096;
/// Where workers connect.
pub const WORKER_PATH: &str = "/v1/worker";

/// Why a gateway does not take a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefuseReason {
    /// The worker speaks another version.
    Version,
    /// The signature is not the worker's.
    Signature,
    /// The ledger knows no active worker of this address.
    NotRegistered,
    /// None of its models is served here.
    NoModel,
    /// The gateway holds as many workers as it can.
    Full,
    /// The gateway cannot reach the ledger to check.
    LedgerDown,
}
canonical_enum!(RefuseReason {
    0 => Version {}, 1 => Signature {}, 2 => NotRegistered {}, 3 => NoModel {}, 4 => Full {}, 5 => LedgerDown {}
});

/// Why a worker gives a lease up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailReason {
    /// The model is not loaded here.
    UnknownModel,
    /// The request names another chain or gateway, a price below the worker's, or may cost more than the worker's collateral stands for.
    Terms,
    /// The request came too late.
    Expired,
    /// The engine refuses the request.
    Engine,
    /// What is to be continued is not what the model says from this position of prompt and output on.
    Diverges {
        /// First position that differs.
        position: u32,
    },
    /// The worker stops.
    Stopping,
}
canonical_enum!(FailReason {
    0 => UnknownModel {}, 1 => Terms {}, 2 => Expired {}, 3 => Engine {}, 4 => Diverges { position: u32 },
    5 => Stopping {}
});

/// Why a gateway does not countersign a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CountersignReason {
    /// These receipts were never settled here, or stand in another batch.
    Receipts {
        /// Which.
        refused: Vec<ReceiptId>,
    },
    /// Root, count or lines are not those of the receipts.
    Content,
    /// Chain, worker, gateway or expiry are wrong.
    Terms,
    /// The gateway cannot check now.
    Unavailable,
}
canonical_enum!(CountersignReason {
    0 => Receipts { refused: Vec<ReceiptId> }, 1 => Content {}, 2 => Terms {}, 3 => Unavailable {}
});

/// From the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToWorker {
    /// First message: prove your key.
    Challenge {
        /// [`VERSION`].
        version: u16,
        /// The chain that settles.
        chain_id: u64,
        /// Who asks.
        gateway: Address,
        /// What the proof has to cover.
        nonce: [u8; 32],
    },
    /// The worker is taken; proves the gateway's key in turn.
    Welcome {
        /// How often the gateway pings, in milliseconds.
        heartbeat_ms: u32,
        /// Over [`welcome_digest`].
        signature: Signature,
    },
    /// The worker is not taken; the gateway closes.
    Refused {
        /// Why.
        reason: RefuseReason,
    },
    /// A job to do now.
    Offer {
        /// Number of the lease, never used twice on a connection.
        lease: u64,
        /// The job.
        request: JobRequest,
        /// Output that exists already and is to be continued.
        already: Vec<u32>,
    },
    /// Stop; sign for the first `keep` output tokens, or for nothing when it is 0.
    Cancel {
        /// The lease.
        lease: u64,
        /// Output tokens that were delivered.
        keep: u32,
    },
    /// The receipt is charged to the payer and can go into a batch.
    Settled {
        /// The lease.
        lease: u64,
        /// The receipt.
        receipt: ReceiptId,
    },
    /// The batch with the gateway's signature and what the ledger needs to claim its fees.
    Countersigned {
        /// The batch.
        batch: Signed<BatchRoot>,
        /// A voucher for each lane.
        vouchers: Vec<Signed<Voucher>>,
    },
    /// The batch is not signed.
    CountersignRefused {
        /// Its number.
        sequence: u64,
        /// Why.
        reason: CountersignReason,
    },
    /// Are you there?
    Ping {
        /// To be sent back.
        nonce: u64,
    },
}
canonical_enum!(ToWorker {
    0 => Challenge { version: u16, chain_id: u64, gateway: Address, nonce: [u8; 32] },
    1 => Welcome { heartbeat_ms: u32, signature: Signature },
    2 => Refused { reason: RefuseReason },
    3 => Offer { lease: u64, request: JobRequest, already: Vec<u32> },
    4 => Cancel { lease: u64, keep: u32 },
    5 => Settled { lease: u64, receipt: ReceiptId },
    6 => Countersigned { batch: Signed<BatchRoot>, vouchers: Vec<Signed<Voucher>> },
    7 => CountersignRefused { sequence: u64, reason: CountersignReason },
    8 => Ping { nonce: u64 },
});

/// What a worker says that it can do, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// Jobs at a time.
    pub slots: u16,
    /// Loaded models: all of them warm.
    pub models: Vec<ModelId>,
    /// The least prices per token that it works for.
    pub price: Price,
}
canonical_struct!(Abilities { slots: u16, models: Vec<ModelId>, price: Price });

/// From the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "messages are decoded, handled and dropped, never kept in numbers"
)]
pub enum ToGateway {
    /// Answers the challenge and says what the worker can do.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// Who answers.
        worker: Address,
        /// What the gateway's proof has to cover.
        nonce: [u8; 32],
        /// What it can do.
        abilities: Abilities,
        /// Over [`hello_digest`].
        signature: Signature,
    },
    /// The lease is taken.
    Accept {
        /// The lease.
        lease: u64,
    },
    /// All slots are taken.
    Busy {
        /// The lease.
        lease: u64,
    },
    /// More output.
    Chunk {
        /// The lease.
        lease: u64,
        /// 0, 1, 2, … of this lease.
        sequence: u32,
        /// The tokens.
        tokens: Vec<u32>,
        /// One for each token where the job asks for them, else none. The receipt does not bind them; a replay gives them.
        logprobs: Vec<TokenLogprobs>,
        /// [`running_hash`] over all chunks to here.
        hash: Hash32,
    },
    /// The lease is done.
    Done {
        /// The lease.
        lease: u64,
        /// What the worker signs for.
        receipt: Signed<Receipt>,
    },
    /// The lease cannot be done.
    Failed {
        /// The lease.
        lease: u64,
        /// Why.
        reason: FailReason,
    },
    /// Sign this batch, please.
    Countersign {
        /// The batch.
        batch: BatchRoot,
        /// Its receipts in order.
        receipts: Vec<ReceiptId>,
    },
    /// I am here.
    Pong {
        /// The ping's.
        nonce: u64,
    },
    /// No more leases, please; those that run go on.
    Drain {},
}
canonical_enum!(ToGateway {
    0 => Hello {
        version: u16, worker: Address, nonce: [u8; 32], abilities: Abilities, signature: Signature
    },
    1 => Accept { lease: u64 },
    2 => Busy { lease: u64 },
    3 => Chunk { lease: u64, sequence: u32, tokens: Vec<u32>, logprobs: Vec<TokenLogprobs>, hash: Hash32 },
    4 => Done { lease: u64, receipt: Signed<Receipt> },
    5 => Failed { lease: u64, reason: FailReason },
    6 => Countersign { batch: BatchRoot, receipts: Vec<ReceiptId> },
    7 => Pong { nonce: u64 },
    8 => Drain {},
});

impl ToGateway {
    /// The lease that the message is about, if it is about one.
    pub const fn lease(&self) -> Option<u64> {
        match self {
            Self::Accept { lease }
            | Self::Busy { lease }
            | Self::Chunk { lease, .. }
            | Self::Done { lease, .. }
            | Self::Failed { lease, .. } => Some(*lease),
            _ => None,
        }
    }
}

/// Decodes a message of bounded size.
///
/// # Errors
/// [`DecodeError`]; more than [`MAX_MESSAGE_BYTES`] are refused before anything is read.
pub fn decode<M: Canonical>(bytes: &[u8]) -> Result<M, DecodeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::Count { at: 0, found: bytes.len(), limit: MAX_MESSAGE_BYTES });
    }
    M::from_bytes(bytes)
}

/// The hash that chains a lease's chunks: `keccak(before ‖ sequence ‖ canonical tokens)`.
pub fn running_hash(before: Hash32, sequence: u32, tokens: &[u32]) -> Hash32 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    Hash32(keccak256(&[&before.0, &sequence.to_le_bytes(), &bytes]))
}

#[cfg(test)]
mod tests;
