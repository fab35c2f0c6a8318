//! Reward policies, tried out: populations of workers and validators, attacks on them, and what each policy pays whom.
//!
//! - [`scenario`]: what is simulated, read from TOML;
//! - [`policy`]: PoWR by the ledger's own functions, the policies that it is compared with, and the interface for another;
//! - [`attack`]: the built-in attacks, and the interface for another;
//! - [`world`]: one run;
//! - [`study`]: all runs of a scenario, in parallel and resumable;
//! - [`report`]: tables, plots and a page for people.
//!
//! Every result depends on the scenario and the seed alone: not on the number of threads, not on the machine.
#![forbid(unsafe_code)]

pub mod attack;
pub mod baseline;
mod border;
pub mod document;
pub mod eval;
pub mod import;
pub mod outcome;
pub mod policy;
pub mod report;
mod rng;
pub mod scenario;
pub mod stats;
pub mod study;
pub mod throughput;
pub mod world;
