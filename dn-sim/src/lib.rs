//! Reward policies, tried out: populations of workers and validators, attacks on them, and what each policy pays whom.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod eval;
pub mod outcome;
pub mod report;
