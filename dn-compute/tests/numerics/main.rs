//! Tests of the arithmetic: the conformance suite on every instruction set, the laws of the specification, golden
//! vectors, and accuracy against f64.

mod accuracy;
mod conformance;
mod encoder;
mod golden;
mod laws;
mod rope;
