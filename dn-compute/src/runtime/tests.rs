use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cpu::Cpu;
use crate::testing::{Rng, Shape};

fn decoder(shape: &Shape) -> Decoder {
    let model = Model::from_bytes(shape.file(6)).unwrap();
    Decoder::new(&model, Box::new(Cpu::detect().unwrap())).unwrap()
}

fn tokens(len: usize) -> Vec<u32> {
    let mut rng = Rng(1);
    (0..len).map(|_| (rng.next() % 131) as u32).collect()
}

#[test]
fn a_step_given_up_between_layers_leaves_no_trace() {
    let shape = Shape { layers: 3, ..Shape::default() };
    let decoder = decoder(&shape);
    let all = tokens(100);
    let mut whole = decoder.session(128).unwrap();
    decoder.feed(&mut whole, &all, 99, &mut |_, _| {}).unwrap();
    for layer in 0..3 {
        let mut session = decoder.session(128).unwrap();
        decoder.feed(&mut session, &all[..60], 99, &mut |_, _| {}).unwrap();
        let seen = AtomicUsize::new(0);
        let part = Part { session: &mut session, tokens: &all[60..], logits_from: 0 };
        let abort = || seen.fetch_add(1, Ordering::Relaxed) == layer;
        let given_up = decoder.step(&mut [part], &abort, &mut |_, _| panic!("no logits"));
        assert_eq!(given_up, Err(StepError::Aborted));
        assert_eq!((session.len(), session.trace().leaves().len()), (60, 60));
        assert_eq!(session.memory_bytes() as u64, decoder.kv_bytes(60));
        decoder.feed(&mut session, &all[60..], 99, &mut |_, _| {}).unwrap();
        assert_eq!(session.trace(), whole.trace());
    }
}

#[test]
fn memory_grows_with_what_is_used_not_with_what_is_allowed() {
    let shape = Shape { context: 131_072, ..Shape::default() };
    let decoder = decoder(&shape);
    let mut session = decoder.session(131_072).unwrap();
    assert_eq!(session.memory_bytes(), 0);
    decoder.feed(&mut session, &tokens(65), 99, &mut |_, _| {}).unwrap();
    assert_eq!(session.memory_bytes() as u64, decoder.kv_bytes(65));
    assert_eq!(decoder.kv_bytes(65), 2 * decoder.kv_bytes(1));
    assert_eq!(decoder.rope(1).unwrap().positions(), FIRST_ROPE);
    let far = decoder.rope(5000).unwrap();
    assert_eq!(far.positions(), 8192);
    let near = decoder.rope(3).unwrap();
    assert!(Arc::ptr_eq(&far, &near), "the larger table serves all");
    assert_eq!(decoder.rope(131_072).unwrap().positions(), 131_072);
}

#[test]
fn pages_taken_over_are_as_if_fed() {
    let decoder = decoder(&Shape::default());
    let all = tokens(100);
    let mut donor = decoder.session(128).unwrap();
    // The donor chose a token after each position: inside a longer prompt the leaves have no logits.
    decoder.feed(&mut donor, &all, 0, &mut |_, _| {}).unwrap();
    assert!(donor.page(1).is_none(), "it is not full");
    let mut taker = decoder.session(128).unwrap();
    taker.append_page(&donor.page(0).unwrap()).unwrap();
    decoder.feed(&mut taker, &all[64..], 99, &mut |_, _| {}).unwrap();
    let mut alone = decoder.session(128).unwrap();
    decoder.feed(&mut alone, &all, 99, &mut |_, _| {}).unwrap();
    assert_eq!(taker.trace(), alone.trace());
    // Writing after a shared page leaves the donor's alone.
    let before = donor.page(0).unwrap();
    let mut other = taker.clone();
    decoder.feed(&mut other, &all[..20], 999, &mut |_, _| {}).unwrap();
    let (page, mut again) = (before, decoder.session(128).unwrap());
    again.append_page(&page).unwrap();
    decoder.feed(&mut again, &all[64..], 99, &mut |_, _| {}).unwrap();
    assert_eq!(again.trace(), alone.trace());
    // A page fits only where a page begins, and where there is room.
    assert!(taker.append_page(&page).is_err());
    assert!(decoder.session(63).unwrap().append_page(&page).is_err());
}
