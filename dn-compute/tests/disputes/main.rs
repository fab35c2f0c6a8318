//! Disputes about choices at their real sizes: the largest vocabularies and contexts fit what a referee reads.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

use std::time::{Duration, Instant};

use dn_compute::verify::claim::MAX_BYTES;
use dn_compute::verify::{Answer, Dispute, Due, Outcome, Pick, Verdict, referee};
use dn_compute::{trace, verify};
use dn_core::Canonical;
use dn_core::objects::sampling::MAX_LISTED_TOKENS;
use dn_core::objects::{Decoding, Sampling, TokenBias};

#[path = "../../src/verify/tests/synthetic.rs"]
mod synthetic;

use synthetic::{Case, play};

const MICRO: u32 = 1_000_000;

/// Logits that repeat no pattern of the ranges; token 5 is far above all others.
fn logits(vocabulary: u32) -> Vec<f32> {
    let mut logits: Vec<f32> =
        (0..vocabulary).map(|t| (t.wrapping_mul(2_654_435_761) >> 8) as f32 / 2f32.powi(21)).collect();
    logits[5] = 1000.0;
    logits
}

/// Leads a dispute about token 5; the largest number of bytes, and the longest time, of all that a referee is given.
fn largest(case: &Case, picks: &mut dyn FnMut(&Dispute, Pick) -> Pick) -> (usize, Duration) {
    let honest = case.witness();
    let (mut bytes, mut time) = (0, Duration::ZERO);
    let mut judge = |dispute: &Dispute, expected: &mut dyn FnMut(Verdict)| {
        let claim = dispute.claim().to_bytes();
        let opening = honest.tile(dispute.claim()).unwrap().to_bytes();
        let run = |_| {
            let start = Instant::now();
            (referee(&claim, &opening), start.elapsed())
        };
        // Others use the machine too: the shortest of some runs is what it takes.
        let runs: Vec<_> = (0..5).map(run).collect();
        let verdict = runs[0].0.clone();
        time = time.max(runs.iter().map(|(_, time)| *time).min().unwrap());
        bytes = bytes.max(claim.len() + opening.len());
        expected(verdict.unwrap());
    };
    let mut answers = |_: &Dispute, answer: Answer| Some(answer);
    let mut picks = |dispute: &Dispute, pick: Pick| {
        if matches!(dispute.due(), Due::Range | Due::Token | Due::Tile) {
            judge(dispute, &mut |verdict| assert_eq!(verdict, Verdict::Consistent));
        }
        Some(picks(dispute, pick))
    };
    let (outcome, _) = play(case.dispute(), &honest, &honest, &mut answers, &mut picks);
    assert_eq!(outcome, Outcome::Refuted);
    (bytes, time)
}

/// Everything at once: all tokens of a range seen, biased and banned, behind the longest context.
#[test]
fn the_largest_claims_and_openings_fit() {
    let (vocabulary, listed) = (262_144, MAX_LISTED_TOKENS as u32);
    let range = 2048..2048 + listed;
    let sampling = Sampling {
        temperature_micro: 800_000,
        top_k: 5000,
        top_p_micro: 990_000,
        min_p_micro: 1,
        repetition_micro: 1_100_000,
        presence_micro: 100_000,
        frequency_micro: 1,
        penalty_window: 0,
        seed: 9,
    };
    let decoding = Decoding {
        bias: range.clone().map(|token| TokenBias { token, bias_micro: -1 }).collect(),
        banned: range.clone().collect(),
        ..Decoding::default()
    };
    let prompt = (0..100_000).map(|i| range.start + i % listed).collect();
    let mut case = Case::new(prompt, sampling, decoding, logits(vocabulary));
    case.output = (0..131_072 - 100_000).map(|i| range.start + i % listed).collect();
    case.index = case.output.len() as u32 - 1;
    case.output[case.index as usize] = 5;
    let mut sizes = Vec::new();
    for counts in [None, Some(0), Some(120)] {
        let (bytes, time) = largest(&case, &mut |dispute, pick| match (dispute.due(), pick) {
            (Due::Range, _) => Pick::Index { index: 2 },
            (Due::Token, Pick::Tile { .. }) if counts.is_some() => Pick::Index { index: 7 },
            (Due::Tile, Pick::Tile { mut opening }) if counts.is_none() => {
                opening.pick = 0;
                Pick::Tile { opening }
            }
            (_, pick) => pick,
        });
        assert!(bytes <= MAX_BYTES, "{bytes} bytes");
        sizes.push((bytes, time));
    }
    eprintln!("bytes and time of the largest referee call: {sizes:?}");
}

/// The largest vocabulary has two levels of ranges.
#[test]
fn the_largest_vocabulary_fits() {
    let sampling = Sampling { temperature_micro: MICRO, seed: 3, ..Sampling::GREEDY };
    let mut case = Case::new(vec![1, 2, 3], sampling, Decoding::default(), logits(1 << 23));
    case.output = vec![5];
    let mut levels = 0;
    let (bytes, time) = largest(&case, &mut |dispute, pick| {
        levels += u32::from(*dispute.due() == Due::Range);
        pick
    });
    assert!(bytes <= MAX_BYTES && levels == 2, "{bytes} bytes, {levels} levels");
    eprintln!("bytes and time of the largest referee call: {bytes}, {time:?}");
}
