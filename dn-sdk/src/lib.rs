//! The client and the roles of DeepNode as libraries.
//!
//! - [`client::Client`] talks to a gateway with the usual chat and completion calls and checks the receipt of every answer.
//! - [`worker::Worker`] (feature `worker`) runs models for gateways, signs receipts and settles them.
//! - [`validator::Auditor`] (feature `validator`) replays the receipts that the ledger draws for it.
//! - [`gateway::Gateway`] (feature `gateway`) serves the OpenAI-compatible API and holds the payers' channels.
//! - [`ledger::LedgerClient`] queries a ledger node and submits transactions.
//! - [`referee`] is the engine's referee behind the ledger's interface, and the two sides of a dispute.
//! - `devnet` (feature `devnet`) is a whole network in one process; `operator` starts a role from a settings file.
//! - [`signing`] makes what an owner or payer signs outside transactions: session grants, acceptances of jobs.
//! - [`wire`] is the protocol between workers and gateways, [`receipt`] and [`opening`] are what everybody checks.
#![forbid(unsafe_code)]

#[cfg(any(feature = "worker", feature = "gateway"))]
mod batch;
mod clock;
#[cfg(any(feature = "worker", feature = "validator", feature = "gateway"))]
pub mod store;

pub mod client;
#[cfg(feature = "devnet")]
pub mod devnet;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod ledger;
pub mod opening;
#[cfg(feature = "devnet")]
pub mod operator;
pub mod receipt;
pub mod referee;
pub mod signing;
#[cfg(feature = "validator")]
pub mod validator;
pub mod wire;
#[cfg(feature = "worker")]
pub mod worker;

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
