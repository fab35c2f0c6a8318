//! The typed objects that cross crates, each with one canonical encoding.

mod acceptance;
mod batch;
mod encoder;
pub mod feedback;
mod manifest;
mod receipt;
mod request;
pub mod sampling;
mod session;
mod verdict;
mod voucher;

pub use acceptance::JobAcceptance;
pub use batch::{BatchLine, BatchRoot};
pub use encoder::{EncoderHyperparameters, EncoderManifest, Pooling};
pub use manifest::{
    Hyperparameters, MAX_STOP_TOKENS, ModelManifest, NO_NUMERIC_SPEC, RopePairing, RopeScaling,
};
pub use receipt::{FinishReason, Receipt};
pub use request::{JobRequest, Price, token_hash};
pub use sampling::{Decoding, Grammar, Sampling, SettingsError, TokenBias, TokenLogprob, TokenLogprobs};
pub use session::{MAX_SESSION_MODELS, SessionGrant};
pub use verdict::{AuditOutcome, Verdict};
pub use voucher::Voucher;
