//! Dynamic trust weights: what an identity's record says about its next job, in fixed point.
//!
//! Events of an epoch add up in an accumulator ([`WorkerEpoch`], [`ValidatorEpoch`], [`ModelEpoch`]); sums do not
//! depend on the order of the events. At the end of the epoch the accumulator is folded into the state
//! ([`WorkerTrust`], [`ValidatorTrust`], [`ModelTrust`], each at most 32 bytes) exactly once, and
//! the state yields the indicators and the one weight [`Trust`] that routing, revenue and votes use.
//!
//! ```
//! use dn_trust::{Params, Weight, WorkerEpoch, WorkerTrust};
//! let params = Params::default();
//! let mut worker = WorkerTrust::newcomer(&params);
//! assert_eq!(worker.weight(&params).to_string(), "0.0066");
//!
//! let mut epoch = WorkerEpoch::default();
//! let job = Weight::of_work(&params, 1_000_000_000_000); // one unit of work
//! epoch.completed(job);
//! epoch.audit_passed(job);
//! epoch.online();
//! worker.close_epoch(&params, &epoch);
//! assert!(worker.weight(&params) > WorkerTrust::newcomer(&params).weight(&params));
//! ```
//!
//! Everything here runs inside the replicated ledger: integers only, no hash maps, no clock, nothing that panics.
//! `docs/economics.md` has every formula with a worked example.
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

mod audit;
pub mod decimal;
mod evidence;
mod fixed;
mod history;
mod model;
mod params;
mod root;
mod validator;
mod worker;

pub use audit::{AuditParams, audit_rate};
pub use evidence::{Counts, Weight};
pub use fixed::{Trust, Unit};
pub use model::{ModelEpoch, ModelIndicators, ModelTrust};
pub use params::{ParamError, Params};
pub use validator::{ValidatorEpoch, ValidatorIndicators, ValidatorTrust};
pub use worker::{WorkerEpoch, WorkerIndicators, WorkerSums, WorkerTrust, worker_weights};
