//! A whole network in one process, over real sockets and real stores: for trying things out, for tests, and for
//! `dn devnet`.
//!
//! [`Devnet::start`] runs a ledger node, two auditing validators (the first produces the blocks), three workers, a
//! gateway, a model owner and a payer with an open channel. Everything lies in one directory and goes on from there at
//! the next start. [`tour`] makes calls on it, lets a worker cheat, and accounts for every atto in a [`Report`].

mod account;
mod books;
mod cheat;
mod error;
mod home;
mod keys;
mod network;
mod parts;
mod processes;
mod report;
mod roster;
mod tour;

pub use books::{BooksError, write_balances};
pub use cheat::{Cheat, CheatingExecutor};
pub use error::{DevnetError, DevnetFailure};
pub(crate) use home::create_private;
pub use home::{Home, HomeError};
pub use keys::{Keys, KeysError, keep_keys};
pub use network::{Devnet, DevnetConfig, DevnetModel};
pub use processes::{WrittenConfig, write_config};
pub use report::{AuditSummary, Call, Check, Earning, Refund, Report, Slash, SupplyReport, TrustChange};
pub use roster::{CHAIN_ID, Member, Roster, genesis};
pub use tour::{Scene, TourError, tour};
