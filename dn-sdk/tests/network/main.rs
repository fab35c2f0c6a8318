//! A real network in one process: real sockets, a real ledger, the embedded model.

mod calls;
mod errors;
mod executors;
mod faults;
mod money;
mod net;
