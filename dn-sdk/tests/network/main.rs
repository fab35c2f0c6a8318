//! A real network in one process: real sockets, a real ledger, the embedded model.
#![cfg(all(feature = "worker", feature = "validator", feature = "gateway"))]

mod calls;
mod net;
