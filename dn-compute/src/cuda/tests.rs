//! The backend over the emulated card: the conformance suite, whole layers, a whole model, and memory that is used up.

use std::time::Instant;

use super::Cuda;
use super::emulation::{Emulation, emulated};
use crate::conformance;
use crate::spec::{Backend, DeviceFault, NumericError, QuantMatrix};

fn suite(card: &Cuda, every: usize, what: &str) -> conformance::Report {
    let started = Instant::now();
    match conformance::sample(card, every) {
        Ok(report) => {
            println!("{what}, one of {every}: {report:?} in {:.1?}", started.elapsed());
            report
        }
        Err(mismatch) => panic!("{what}: {mismatch}"),
    }
}

#[test]
fn every_case_with_tiles() {
    let Some(card) = emulated(Emulation::default()) else { return };
    let report = suite(&card, 1, "with tiles");
    assert!(report.outputs > 1_000_000 && report.refusals > 50, "{report:?}");
}

#[test]
fn an_older_card_without_tiles() {
    let Some(card) = emulated(Emulation { tiles: false, ..Emulation::default() }) else { return };
    suite(&card, 3, "without tiles");
}

/// Small limits: every call in many parts.
#[test]
fn parts_give_the_same_bits() {
    let options = Emulation { max_launch_words: Some(1 << 10), ..Emulation::default() };
    let Some(card) = emulated(options) else { return };
    suite(&card, 5, "in parts");
}

#[test]
fn a_full_card_is_an_error_of_its_own_and_the_next_call_works() {
    let Some(card) = emulated(Emulation { memory: 1 << 20, ..Emulation::default() }) else { return };
    let matrix = |rows| QuantMatrix::from_f32(rows, 64, &vec![0.5; rows * 64]).unwrap();
    let small = card.prepare(matrix(100)).unwrap();
    let full = |result: Result<(), NumericError>| match result {
        Err(NumericError::Device { device, fault, .. }) => {
            assert_eq!((&*device, fault), ("emulated card", DeviceFault::OutOfMemory));
        }
        other => panic!("{other:?}"),
    };
    full(card.prepare(matrix(20_000)).map(|_| ()));
    let multiply = |tokens: usize| {
        let mut out = vec![0.0; tokens * 100];
        card.linear(&[&small], &vec![1.0; tokens * 64], tokens, &mut [&mut out]).map(|()| assert_eq!(out[0], 32.0))
    };
    full(multiply(5000));
    multiply(7).unwrap();
    // What an earlier call left over makes room for a later one of another size.
    for tokens in [150, 230, 310, 390, 470] {
        multiply(tokens).unwrap();
    }
}
