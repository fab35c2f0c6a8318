//! The simulated network: a population, and what happens in it epoch by epoch.

mod committee;
mod epoch;
mod market;
mod population;
mod run;

pub(crate) use run::simulate_until;
pub use run::{Ledger, RunError, Trajectory, simulate};

/// Operations in a unit of work.
pub(crate) const UNIT_OPS: f64 = 1e12;
