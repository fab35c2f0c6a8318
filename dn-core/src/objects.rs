//! The typed objects that cross crates, each with one canonical encoding.

mod batch;
mod manifest;
mod receipt;
mod request;
mod verdict;
mod voucher;

pub use batch::{BatchLine, BatchRoot};
pub use manifest::{Hyperparameters, ModelManifest, RopePairing, RopeScaling};
pub use receipt::{FinishReason, Receipt};
pub use request::{JobRequest, Price, Sampling, token_hash};
pub use verdict::{AuditOutcome, Verdict};
pub use voucher::Voucher;
