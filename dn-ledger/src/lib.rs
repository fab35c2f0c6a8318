//! The ledger (being written).
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

pub mod block;
pub mod events;
pub mod genesis;
pub mod params;
pub mod reject;
pub mod state;
mod text;
pub mod tx;
pub mod views;

pub use genesis::{Devnet, DevnetValidator, Genesis, GenesisError};
pub use params::Params;
pub use reject::Reject;
pub use tx::{Payload, Role, SignedTx, Tx};
