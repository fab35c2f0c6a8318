//! Bit-exact inference for DeepNode: the numeric specification and the backends that follow it.
//!
//! - [`spec`]: what every operation means, and the [`Backend`](spec::Backend) interface;
//! - [`reference`](mod@reference): the scalar meaning, safe and slow.
#![deny(unsafe_code)]

pub mod reference;
pub mod spec;
