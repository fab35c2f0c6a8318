//! The simulated network: a population, and what happens in it epoch by epoch.

mod books;
mod committee;
mod epoch;
mod market;
mod population;
mod run;
mod shift;

pub(crate) use run::Game;
pub use run::{Ledger, RunError, Simulation, Trajectory};

/// Operations in a unit of work.
pub(crate) const UNIT_OPS: f64 = 1e12;
