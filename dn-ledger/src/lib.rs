//! The ledger of DeepNode: money, stake, models, channels, audits and rewards as one pure state machine; with feature
//! `node` a node around it that keeps the chain on disk, produces blocks and answers JSON-RPC.
//!
//! - [`tx`]: what identities ask for; [`apply()`] what it does, or the [`Reject`] that says why not;
//! - [`state`]: an ordered map with typed tables, a journal and an authenticated tree;
//! - [`chain`]: propose, validate and commit blocks, the three things a consensus engine asks for;
//! - [`lineage`]: what the ancestors of a model earn;
//! - [`genesis`], [`params`]: where a chain starts and what its rules are parametrised by;
//! - [`supply`]: the equation that holds after every block;
//! - [`events`], [`query`], [`views`]: what happened and what is, for those who look from outside.
//!
//! Without features nothing here knows a clock, a thread, a float, a file or a hash map's order.
//!
//! ```
//! use dn_core::{Amount, SecretKey};
//! use dn_ledger::block::Certificate;
//! use dn_ledger::{Chain, Devnet, DevnetValidator, Genesis, Params, Payload, Tx, query};
//!
//! let (alice, validator) = (SecretKey::from_bytes(&[1; 32])?, SecretKey::from_bytes(&[2; 32])?);
//! let devnet = Devnet {
//!     chain_id: 7,
//!     time_ms: 1_700_000_000_000,
//!     faucet: alice.address(),
//!     funded: vec![],
//!     validators: vec![DevnetValidator {
//!         address: validator.address(),
//!         name: "one".into(),
//!         endpoint: "127.0.0.1:26656".into(),
//!         stake: Amount::from_dn(10_000),
//!     }],
//! };
//! let params = Params::devnet();
//! let fee = params.min_tx_fee;
//! let mut chain = Chain::new(&Genesis::devnet(&devnet, params)?);
//!
//! let payload = Payload::Transfer { to: validator.address(), amount: Amount::from_dn(3) };
//! let (sender, nonce, expires_height) = (alice.address(), 0, 10);
//! let tx = Tx { chain_id: 7, sender, nonce, expires_height, fee, payload }.sign(&alice);
//!
//! let proposal = chain.propose(validator.address(), 1_700_000_001_000, &[tx])?;
//! let certificate = Certificate::sign(&proposal.block.header, 0, [&validator]);
//! chain.commit(&proposal.block.header, certificate, &proposal.executed);
//! assert_eq!(query::account(chain.state(), validator.address()).balance, Amount::from_dn(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

pub mod apply;
pub mod beacon;
pub mod block;
pub mod bytes;
pub mod chain;
pub mod events;
pub mod genesis;
#[cfg(feature = "light")]
pub mod light;
pub mod lineage;
#[cfg(feature = "node")]
pub mod node;
pub mod params;
mod power;
pub mod query;
pub mod referee;
pub mod reject;
#[cfg(feature = "schema")]
mod schema;
mod signatures;
#[cfg(feature = "light")]
pub mod snapshot;
pub mod state;
pub mod supply;
mod tally;
mod text;
pub mod tx;
pub mod upgrades;
pub mod validators;
pub mod views;
pub mod vote;

pub use apply::{BlockContext, Outcome, Signatures, apply};
pub use chain::{BlockError, Chain, Executed, Proposal};
pub use genesis::{Devnet, DevnetValidator, Genesis, GenesisError};
pub use params::Params;
pub use power::voting_power;
pub use referee::{Referee, RefereeHandle};
pub use reject::Reject;
pub use tally::tally;
pub use tx::{Payload, Role, SignedTx, Tx};
pub use validators::ValidatorSet;
