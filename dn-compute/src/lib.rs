//! Bit-exact inference for DeepNode: the numeric specification and the backends that follow it.
//!
//! - [`spec`]: what every operation means, and the [`Backend`](spec::Backend) interface;
//! - [`reference`](mod@reference): the scalar meaning, safe and slow;
//! - [`cpu`]: the same bits, fast, on threads and vector instructions;
//! - [`conformance`]: the suite that compares any backend with the reference.
#![deny(unsafe_code)]

pub mod conformance;
#[allow(unsafe_code)]
pub mod cpu;
pub mod reference;
pub mod spec;
