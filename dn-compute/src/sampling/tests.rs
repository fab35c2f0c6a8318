use proptest::prelude::*;

use super::*;

fn settings(temperature_micro: u32, top_k: u32, top_p_micro: u32, min_p_micro: u32) -> Sampling {
    Sampling { temperature_micro, top_k, top_p_micro, min_p_micro, seed: 7 }
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
    // Closer than the fixed point of the other settings can tell apart.
    let next = f32::from_bits(1.0f32.to_bits() + 1);
    assert_eq!(sample(&[1.0, next], &Sampling::GREEDY, 0), 1);
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [1.0f32, 0.0, 2.5, -3.0, 2.5];
    for temperature in [0.5, 1.0, 2.0] {
        let sampling = settings((temperature * 1e6) as u32, 0, MICRO, 0);
        let powers: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / temperature).exp()).collect();
        let total: f64 = powers.iter().sum();
        for (share, power) in shares(&logits, &sampling, 40_000).iter().zip(powers) {
            assert!((share - power / total).abs() < 0.012, "{share} against {}", power / total);
        }
    }
}

#[test]
fn weights_are_those_of_real_numbers() {
    for below in [0.0f64, 0.25, 1.0, 3.7, 12.0, 25.0] {
        for temperature in [0.1f64, 0.7, 1.0, 4.0] {
            let fixed = (below * f64::from(1 << 24)) as i64;
            let got = Powers::new((temperature * 1e6) as u32).weight(fixed) as f64;
            let exact = (-below / temperature).exp() * (1u64 << WEIGHT_BITS) as f64;
            assert!((got - exact).abs() <= 1.0 + exact * 4e-7, "{below} {temperature}: {got} {exact}");
        }
    }
}

/// Settings (temperature, top_k, top_p, min_p, seed) and the first eight choices, from `tools/golden/sampler.py`.
const GOLDEN: [((u32, u32, u32, u32, u64), [u32; 8]); 5] = [
    ((800_000, 50, 900_000, 20_000, 7), [926, 124, 803, 667, 889, 321, 667, 778]),
    ((1_000_000, 0, 1_000_000, 0, 1), [322, 569, 989, 741, 75, 556, 51, 482]),
    ((250_000, 0, 500_000, 0, u64::MAX), [210, 605, 852, 741, 852, 284, 531, 963]),
    ((4_000_000_000, 0, 999_999, 0, 3), [561, 427, 184, 488, 456, 184, 359, 269]),
    ((1_000_000, 3, 1_000_000, 1_000_000, 4), [321; 8]),
];

#[test]
fn choices_are_those_of_the_independent_generator() {
    let sums = TABLES
        .map(|table| table.iter().zip(1..).fold(0u64, |sum, (x, i)| sum.wrapping_add(x.wrapping_mul(i))));
    assert_eq!(sums, [23_143_523_715_933_559, 36_104_566_783_391_783, 36_169_280_471_055_739]);
    let logits: Vec<f32> = (0..1000).map(|i| (i * 7919 % 1000) as f32 / 128.0).collect();
    for ((temperature_micro, top_k, top_p_micro, min_p_micro, seed), expected) in GOLDEN {
        let s = Sampling { temperature_micro, top_k, top_p_micro, min_p_micro, seed };
        let drawn: [u32; 8] = std::array::from_fn(|i| sample(&logits, &s, i as u32));
        assert_eq!(drawn, expected, "{s:?}");
    }
}

/// The meaning, written as plainly as it can be.
fn plain(logits: &[f32], s: &Sampling, index: u32) -> u32 {
    let fixed: Vec<i64> = logits.iter().map(|l| to_fixed(*l)).collect();
    let max = *fixed.iter().max().unwrap();
    let mut ranking: Vec<usize> = (0..logits.len()).collect();
    ranking.sort_by_key(|t| (-fixed[*t], *t));
    if s.top_k > 0 {
        ranking.truncate(s.top_k as usize);
    }
    let powers = Powers::new(s.temperature_micro);
    let w = |t: usize| u128::from(powers.weight(max - fixed[t]));
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
    ranking.sort_unstable();
    let mut weights = vec![0; logits.len()];
    ranking.iter().for_each(|t| weights[*t] = w(*t) as u64);
    draw(&weights, s.seed, index)
}

proptest! {
    #[test]
    fn the_fast_way_is_the_plain_way(
        logits in prop::collection::vec(prop_oneof![-8.0f32..8.0, Just(1.0), Just(-1.0)], 1..400),
        temperature in 1u32..3_000_000,
        top_k in prop_oneof![Just(0u32), 1u32..500],
        top_p in prop_oneof![Just(MICRO), 0u32..MICRO],
        min_p in prop_oneof![Just(0u32), 0u32..=u32::MAX],
        seed: u64,
        index: u32,
    ) {
        let s = Sampling { temperature_micro: temperature, top_k, top_p_micro: top_p, min_p_micro: min_p, seed };
        prop_assert_eq!(sample(&logits, &s, index), plain(&logits, &s, index));
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
        temperature: u32, top_k: u32, top_p: u32, min_p: u32, seed: u64, index: u32,
    ) {
        let s = Sampling { temperature_micro: temperature, top_k, top_p_micro: top_p, min_p_micro: min_p, seed };
        prop_assert!((sample(&bits, &s, index) as usize) < bits.len());
    }
}
