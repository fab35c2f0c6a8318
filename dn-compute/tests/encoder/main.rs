//! Tests of encoders: nearness to real numbers, independence of neighbours, identity, bad input.

mod files;
mod laws;
mod minilm;
mod oracle;
mod random;
