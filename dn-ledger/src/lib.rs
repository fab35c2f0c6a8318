//! The ledger (being written).
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

pub mod apply;
pub mod block;
pub mod chain;
pub mod events;
pub mod genesis;
#[cfg(feature = "node")]
pub mod node;
pub mod params;
mod power;
pub mod query;
pub mod reject;
pub mod state;
pub mod supply;
mod text;
pub mod tx;
pub mod views;

pub use apply::{BlockContext, Outcome, apply};
pub use chain::{BlockError, Chain, Executed, Proposal};
pub use genesis::{Devnet, DevnetValidator, Genesis, GenesisError};
pub use params::Params;
pub use power::voting_power;
pub use reject::Reject;
pub use tx::{Payload, Role, SignedTx, Tx};
