//! Tests of encoders: nearness to real numbers, independence of neighbours, identity, bad input.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

mod files;
mod laws;
mod minilm;
mod oracle;
mod random;
