//! A real network in one process: real sockets, a real ledger, the embedded model.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

mod breaking;
mod calls;
mod devices;
mod errors;
mod executors;
mod faults;
mod money;
mod net;
mod unjudged;
