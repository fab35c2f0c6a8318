use dn_core::objects::{Decoding, TokenBias};
use proptest::prelude::*;
use serde::Deserialize;

use super::fixed::{MAX_FIXED, MICRO, Powers, TABLES, WEIGHT_BITS, to_fixed};
use super::select::{best, draw_from};
use super::*;

fn settings(temperature_micro: u32, top_k: u32, top_p_micro: u32, min_p_micro: u32) -> Sampling {
    Sampling { temperature_micro, top_k, top_p_micro, min_p_micro, seed: 7, ..Sampling::GREEDY }
}

fn sampler(prompt: &[u32], sampling: &Sampling, decoding: &Decoding, vocabulary: usize) -> Sampler {
    Sampler::assemble(prompt, sampling, decoding, None, vocabulary as u32).unwrap()
}

/// How often each token is drawn over many indices.
fn shares(logits: &[f32], sampling: &Sampling, draws: u32) -> Vec<f64> {
    let mut counts = vec![0u32; logits.len()];
    for index in 0..draws {
        counts[sample(logits, sampling, index) as usize] += 1;
    }
    counts.iter().map(|n| f64::from(*n) / f64::from(draws)).collect()
}

#[test]
fn greedy_takes_the_lowest_index_among_equals() {
    assert_eq!(sample(&[-1.0, 3.0, 3.0, 2.0], &Sampling::GREEDY, 0), 1);
    assert_eq!(sample(&[f32::MIN, f32::MIN], &Sampling::GREEDY, 9), 0);
    // Closer than the fixed point of the other settings can tell apart, with and without something to penalise.
    let next = f32::from_bits(0.25f32.to_bits() + 1);
    assert_eq!(sample(&[0.25, next], &Sampling::GREEDY, 0), 1);
    let harsh = Sampling { presence_micro: 1, ..Sampling::GREEDY };
    let choice = sampler(&[], &harsh, Decoding::plain(), 2).choose(&[0.25, next], &mut Scratch::default());
    assert_eq!(choice.token, 1);
}

#[test]
fn fixed_point_rounds_to_nearest_even() {
    let unit = 1.0 / f64::from(1 << 24);
    for (x, want) in [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (0.75, 1), (3.0, 3)] {
        assert_eq!(to_fixed((x * unit) as f32), want, "{x}");
    }
    for x in [0.1f32, -0.999_999_9, 1.0, 1.234_567_8, -7.5, 1e-9, 300_000.0, -1_048_575.9] {
        assert_eq!(to_fixed(x), (f64::from(x) / unit).round_ties_even() as i64, "{x}");
    }
    assert_eq!((to_fixed(f32::MAX), to_fixed(f32::MIN)), (MAX_FIXED, -MAX_FIXED));
}

/// A statistic of fit to the softmax: with 4 degrees of freedom, 20 is passed once in 2,000 honest experiments, and the seed
/// is fixed.
#[test]
fn draws_follow_the_softmax() {
    let logits = [1.0f32, 0.0, 2.5, -1.0, 2.5];
    for temperature in [0.5, 1.0, 2.0] {
        let draws = 40_000;
        let sampling = settings((temperature * 1e6) as u32, 0, MICRO, 0);
        let powers: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / temperature).exp()).collect();
        let total: f64 = powers.iter().sum();
        let terms = shares(&logits, &sampling, draws).into_iter().zip(powers).map(|(share, power)| {
            let expected = power / total;
            (share - expected).powi(2) / expected * f64::from(draws)
        });
        let statistic: f64 = terms.sum();
        assert!(statistic < 20.0, "{statistic} at temperature {temperature}");
    }
}

/// A seed's stream is as good as another's: the first choice over 20,000 seeds, too.
#[test]
fn seeds_are_independent() {
    let draws = 20_000u32;
    let logits = [0.0f32; 16];
    let mut counts = [0u32; 16];
    for seed in 0..draws {
        counts
            [sample(&logits, &Sampling { seed: seed.into(), ..settings(MICRO, 0, MICRO, 0) }, 0) as usize] +=
            1;
    }
    let expected = f64::from(draws) / 16.0;
    let statistic: f64 = counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
    // 15 degrees of freedom: once in 2,000 above 39.
    assert!(statistic < 39.0, "{statistic}");
}

#[test]
fn weights_are_those_of_real_numbers() {
    for below in [0.0f64, 0.25, 1.0, 3.7, 12.0, 25.0] {
        for temperature in [0.1f64, 0.7, 1.0, 4.0] {
            let fixed = (below * f64::from(1 << 24)) as u64;
            let got = Powers::new((temperature * 1e6) as u32).weight(fixed) as f64;
            let exact = (-below / temperature).exp() * (1u64 << WEIGHT_BITS) as f64;
            assert!((got - exact).abs() <= 1.0 + exact * 4e-7, "{below} {temperature}: {got} {exact}");
        }
    }
}

#[derive(Deserialize)]
struct Golden {
    tables: [String; 3],
    top_logprobs: Vec<(u32, i64)>,
    logprob_of_0: i64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    temperature: u32,
    top_k: u32,
    top_p: u32,
    min_p: u32,
    seed: String,
    repetition: u32,
    presence: i32,
    frequency: i32,
    window: u32,
    bias: Vec<(u32, i32)>,
    banned: Vec<u32>,
    prompt: Vec<u32>,
    output: Vec<u32>,
}

#[test]
fn choices_are_those_of_the_independent_generator() {
    let text = include_str!("golden.json");
    let hash = dn_core::Hash32(dn_core::blake3_256(&[text.as_bytes()]));
    assert_eq!(hash.to_string(), "0x6b281a694312b54988a37f5dde73f712f987b1192940546c11cee4e008904f5e");
    let golden: Golden = serde_json::from_str(text).unwrap();
    let sums = TABLES
        .map(|table| table.iter().zip(1..).fold(0u64, |sum, (x, i)| sum.wrapping_add(x.wrapping_mul(i))));
    assert_eq!(sums.map(|sum| sum.to_string()), golden.tables);
    let logits: Vec<f32> = (0..1000).map(|i| (i * 7919 % 1000 - 384) as f32 / 128.0).collect();
    let shown = token_logprobs(&logits, 0, 5);
    assert_eq!(shown.chosen.logprob_q24, golden.logprob_of_0);
    let top: Vec<_> = shown.top.iter().map(|t| (t.token, t.logprob_q24)).collect();
    assert_eq!(top, golden.top_logprobs);
    for case in golden.cases {
        let sampling = Sampling {
            temperature_micro: case.temperature,
            top_k: case.top_k,
            top_p_micro: case.top_p,
            min_p_micro: case.min_p,
            repetition_micro: case.repetition,
            presence_micro: case.presence,
            frequency_micro: case.frequency,
            penalty_window: case.window,
            seed: case.seed.parse().unwrap(),
        };
        let bias =
            case.bias.iter().map(|(token, bias_micro)| TokenBias { token: *token, bias_micro: *bias_micro });
        let decoding =
            Decoding { bias: bias.collect(), banned: case.banned, logprobs: Some(2), ..Decoding::default() };
        let mut sampler = sampler(&case.prompt, &sampling, &decoding, 1000);
        let mut scratch = Scratch::default();
        let output: Vec<u32> = (0..case.output.len())
            .map(|_| {
                let choice = sampler.choose(&logits, &mut scratch);
                assert_eq!(choice.logprobs, Some(token_logprobs(&logits, choice.token, 2)), "of the model");
                assert_eq!(sampler.accept(choice.token), Progress::Open);
                choice.token
            })
            .collect();
        assert_eq!(output, case.output, "{sampling:?}");
    }
}

/// The meaning, written as plainly as it can be.
fn plain(logits: &[f32], s: &Sampling, d: &Decoding, seen: (&[u32], &[u32]), index: u32) -> u32 {
    let hold = |l: i128| l.clamp(-(1 << 44), 1 << 44);
    let units = |micro: i128| (micro << 24).div_euclid(1_000_000);
    let mut fixed: Vec<i128> = logits.iter().map(|l| to_fixed(*l).into()).collect();
    let marked = seen.0.iter().map(|t| (*t, 0)).chain(seen.1.iter().map(|t| (*t, 1)));
    let mut marked: Vec<(u32, i128)> = marked.collect();
    if s.penalty_window > 0 {
        marked.drain(..marked.len().saturating_sub(s.penalty_window as usize));
    }
    for (t, fixed) in fixed.iter_mut().enumerate() {
        let here = || marked.iter().filter(|(u, _)| *u as usize == t);
        if here().next().is_some() && s.penalises() {
            let (l, r) = (*fixed, i128::from(s.repetition_micro));
            *fixed = if l > 0 { l * 1_000_000 / r } else { -(-l * r / 1_000_000) };
            let count: i128 = here().map(|(_, output)| output).sum();
            if count > 0 {
                *fixed -= units(i128::from(s.presence_micro) + count * i128::from(s.frequency_micro));
            }
            *fixed = hold(*fixed);
        }
    }
    for b in &d.bias {
        fixed[b.token as usize] = hold(fixed[b.token as usize] + units(b.bias_micro.into()));
    }
    let mut ranking: Vec<usize> = (0..logits.len()).filter(|t| !d.banned.contains(&(*t as u32))).collect();
    if s.temperature_micro == 0 {
        let by = |t: &usize| (fixed[*t], to_ordered(logits[*t]), std::cmp::Reverse(*t));
        return ranking.into_iter().max_by_key(by).unwrap() as u32;
    }
    let max = ranking.iter().map(|t| fixed[*t]).max().unwrap();
    ranking.sort_by_key(|t| (-fixed[*t], *t));
    if s.top_k > 0 {
        ranking.truncate(s.top_k as usize);
    }
    let powers = Powers::new(s.temperature_micro);
    let w = |t: usize| u128::from(powers.weight((max - fixed[t]) as u64));
    if s.top_p_micro < MICRO {
        let total: u128 = ranking.iter().map(|t| w(*t)).sum();
        let (mut sum, mut n) = (0, 0);
        while n == 0 || sum * 1_000_000 < total * u128::from(s.top_p_micro) {
            sum += w(ranking[n]);
            n += 1;
        }
        ranking.truncate(n);
    }
    ranking.retain(|t| w(*t) * 1_000_000 >= u128::from(s.min_p_micro.min(MICRO)) << 40);
    let mut weights = vec![0; logits.len()];
    ranking.iter().for_each(|t| weights[*t] = w(*t) as u64);
    draw_from(&weights, s.seed, index)
}

/// An integer that is ordered as the float is.
fn to_ordered(x: f32) -> i32 {
    let bits = if x == 0.0 { 0 } else { x.to_bits().cast_signed() };
    if bits < 0 { i32::MIN.wrapping_sub(bits) } else { bits }
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let penalty = || prop_oneof![Just(0), -2_000_000..=2_000_000i32];
    (
        prop_oneof![1 => Just(0u32), 4 => 1u32..3_000_000, 1 => any::<u32>()],
        prop_oneof![Just(0u32), 1u32..500],
        prop_oneof![Just(MICRO), 0u32..MICRO],
        prop_oneof![Just(0u32), 0u32..MICRO, any::<u32>()],
        prop_oneof![Just(MICRO), 500_000..2_000_000u32, 10_000..=100_000_000u32],
        (penalty(), penalty(), prop_oneof![Just(0u32), 1u32..20]),
        any::<u64>(),
    )
        .prop_map(
            |(temperature_micro, top_k, top_p_micro, min_p_micro, repetition_micro, penalties, seed)| {
                Sampling {
                    temperature_micro,
                    top_k,
                    top_p_micro,
                    min_p_micro,
                    repetition_micro,
                    presence_micro: penalties.0,
                    frequency_micro: penalties.1,
                    penalty_window: penalties.2,
                    seed,
                }
            },
        )
}

proptest! {
    #[test]
    fn the_fast_way_is_the_plain_way(
        logits in prop::collection::vec(prop_oneof![-8.0f32..8.0, Just(1.0), Just(-1.0), -300.0f32..300.0], 40..400),
        s in samplings(),
        prompt in prop::collection::vec(0u32..40, 0..12),
        output in prop::collection::vec(0u32..40, 0..12),
        bias in prop::collection::btree_map(0u32..40, -100_000_000..=100_000_000i32, 0..6),
        banned in prop::collection::btree_set(0u32..40, 0..30),
    ) {
        let bias = bias.into_iter().map(|(token, bias_micro)| TokenBias { token, bias_micro }).collect();
        let d = Decoding { bias, banned: banned.into_iter().collect(), ..Decoding::default() };
        let mut sampler = sampler(&prompt, &s, &d, logits.len());
        output.iter().for_each(|token| { sampler.accept(*token); });
        let choice = sampler.choose(&logits, &mut Scratch::default());
        prop_assert_eq!(choice.token, plain(&logits, &s, &d, (&prompt, &output), output.len() as u32));
        prop_assert_eq!(choice.logprobs, None);
    }

    #[test]
    fn what_is_cut_off_is_never_drawn(logits in prop::collection::vec(-4.0f32..4.0, 2..60), k in 1u32..5, index: u32) {
        let best = best(&logits);
        prop_assert_eq!(sample(&logits, &settings(MICRO, 1, MICRO, 0), index), best);
        prop_assert_eq!(to_fixed(logits[sample(&logits, &settings(MICRO, 0, 0, 0), index) as usize]), to_fixed(logits[best as usize]));
        let drawn = sample(&logits, &settings(MICRO, k, MICRO, 0), index);
        let better = logits.iter().filter(|l| **l > logits[drawn as usize]).count();
        prop_assert!(better < k as usize);
        let near = sample(&logits, &settings(MICRO, 0, MICRO, 500_000), index);
        prop_assert!(logits[best as usize] - logits[near as usize] < 0.694);
    }

    #[test]
    fn any_logits_and_settings_give_a_token(
        bits in prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 1..40),
        s in samplings(),
    ) {
        let seen: Vec<u32> = (0..bits.len() as u32).collect();
        let mut sampler = sampler(&seen, &s, Decoding::plain(), bits.len());
        let mut scratch = Scratch::default();
        for _ in 0..3 {
            let choice = sampler.choose(&bits, &mut scratch);
            prop_assert!((choice.token as usize) < bits.len());
            sampler.accept(choice.token);
        }
    }

    /// A neutral setting changes nothing, whatever was seen; a harsher one never raises a seen token's rank.
    #[test]
    fn penalties_are_neutral_at_their_neutral_values_and_monotone(
        logits in prop::collection::vec(-6.0f32..6.0, 8..40),
        seen in prop::collection::vec(0u32..8, 1..20),
        harsh in 0..=2_000_000i32,
        r in 1_000_000..3_000_000u32,
    ) {
        let mut scratch = Scratch::default();
        let mut choose = |s: &Sampling| {
            let mut sampler = sampler(&[], s, Decoding::plain(), logits.len());
            seen.iter().for_each(|token| { sampler.accept(*token); });
            sampler.choose(&logits, &mut scratch).token
        };
        let plain = choose(&Sampling { penalty_window: 3, ..Sampling::GREEDY });
        prop_assert_eq!(plain, best(&logits));
        for s in [
            Sampling { presence_micro: harsh, ..Sampling::GREEDY },
            Sampling { frequency_micro: harsh, ..Sampling::GREEDY },
            Sampling { repetition_micro: r, ..Sampling::GREEDY },
        ] {
            let other = choose(&s);
            prop_assert!(other == plain || seen.contains(&plain) || harsh == 0, "an unseen best token stays");
            if other != plain {
                prop_assert!(!seen.contains(&other) || logits[other as usize] <= logits[plain as usize]);
            }
        }
    }

    /// Against f64: the error stays below 1e-6, probabilities sum to 1, ranks follow the logits.
    #[test]
    fn logprobs_are_those_of_real_numbers(
        logits in prop::collection::vec(prop_oneof![-30.0f32..30.0, Just(2.5), -2000.0f32..10.0], 1..300),
        top in 0usize..=20,
    ) {
        let max = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
        let sum: f64 = logits.iter().map(|l| (f64::from(*l) - f64::from(max)).exp()).sum();
        let shown = token_logprobs(&logits, (logits.len() - 1) as u32, top);
        prop_assert_eq!(shown.top.len(), top.min(logits.len()));
        for one in shown.top.iter().chain([&shown.chosen]) {
            let exact = f64::from(logits[one.token as usize]) - f64::from(max) - sum.ln();
            let found = one.logprob_q24 as f64 / f64::from(1 << 24);
            prop_assert!((found - exact).abs() < 1e-6, "{} against {}", found, exact);
        }
        for pair in shown.top.windows(2) {
            let (a, b) = (pair[0].token, pair[1].token);
            let (x, y) = (logits[a as usize], logits[b as usize]);
            prop_assert!(x > y || (x == y && a < b));
        }
        let all: f64 = (0..logits.len() as u32).map(|t| (token_logprobs(&logits, t, 0).chosen.logprob_q24 as f64 / f64::from(1 << 24)).exp()).sum();
        prop_assert!((all - 1.0).abs() < 1e-6, "{}", all);
    }
}

#[test]
fn settings_that_cannot_be_served_say_why() {
    let make = |decoding: &Decoding, sampling: &Sampling| {
        Sampler::assemble(&[], sampling, decoding, None, 10).map(|_| ()).unwrap_err()
    };
    let banned = |banned: Vec<u32>| Decoding { banned, ..Decoding::default() };
    let greedy = Sampling::GREEDY;
    assert_eq!(make(&banned(vec![10]), &greedy), SamplerError::Token { token: 10, vocabulary: 10 });
    assert_eq!(make(&banned((0..10).collect()), &greedy), SamplerError::NothingLeft);
    assert!(matches!(make(&banned(vec![2, 1]), &greedy), SamplerError::Settings(_)));
    let wild = Sampling { repetition_micro: 0, ..greedy };
    assert!(matches!(make(Decoding::plain(), &wild), SamplerError::Settings(_)));
}
