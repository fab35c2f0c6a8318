//! The vector bodies against the portable ones, at every fraction and distance.

use super::*;
use crate::cpu::isa::Isa;
use crate::spec::exp2::shift_round_u32;

fn levels() -> Vec<Level> {
    Isa::ALL.into_iter().filter_map(Level::detect).collect()
}

fn exponents(value: impl Fn(usize) -> i32) -> Exponents {
    let mut all = Exponents { key: [1.0; KEY_BLOCK], value: [0; KEY_BLOCK], value_ordered: [0; KEY_BLOCK] };
    for position in 0..KEY_BLOCK {
        all.value[slot(position)] = value(position);
        all.value_ordered[position] = value(position) as i16;
    }
    all
}

#[test]
fn every_fraction_at_every_distance_weighs_as_specified() {
    let exponents = exponents(|position| position as i32 % 5 - 3);
    for level in levels() {
        for below in [0, 1, 2, 5, 11, 12, 13, 14, 15, 16, 17, 18, 40, 30_000] {
            for first in (0..65_536i32).step_by(KEY_BLOCK) {
                let mut scores = [0; KEY_BLOCK];
                for position in 0..KEY_BLOCK {
                    scores[slot(position)] = (7 << 16) + first + position as i32;
                }
                let top = 7 + below;
                let (mut sum, mut high, mut low) = ([0], [0; KEY_BLOCK / 2], [0; KEY_BLOCK / 2]);
                weights(level, &scores, &[[top, top + 1]], &exponents, &mut sum, &mut high, &mut low);
                let p = |n: u32, below: i32| {
                    let f = first as u32 + n;
                    shift_round_u32(exp2_q16(f), below.unsigned_abs() + 3).min(MAX_P)
                };
                let expected: u32 = (0..64).map(|n| p(n, below)).sum();
                assert_eq!(sum[0], i64::from(expected), "{level:?}, {below} below, from {first}");
                for n in 0..KEY_BLOCK {
                    let digit = |all: &[i32]| (all[n / 2] >> (16 * (n % 2)) & 0xffff) as u32;
                    let e = n as i32 % 5 - 3;
                    assert_eq!(digit(&high) << 8 | digit(&low), p(n as u32, below + 1 - e), "{level:?}");
                }
            }
        }
    }
}

#[test]
fn tops_are_those_of_the_keys_seen() {
    let exponents = exponents(|position| if position % 7 == 0 { -128 } else { position as i32 - 30 });
    for level in levels() {
        for (start, end) in [(0, 64), (0, 1), (63, 64), (5, 40), (31, 33), (64, 64), (0, 0)] {
            let high: Vec<i32> = (0..KEY_BLOCK as i32).map(|n| (n * 7919 % 641 - 320) << 16).collect();
            let (mut scores, mut tops) = ([0; KEY_BLOCK], [NO_TOPS]);
            let low = [3; KEY_BLOCK];
            let seen = vec![100 + start..100 + end; 1];
            score(level, &high, &low, &[1.0], &seen, 100, &exponents, &mut scores, &mut tops);
            let mut expected = [-32_768; 2];
            for position in 0..KEY_BLOCK {
                let n = slot(position);
                if (start..end).contains(&position) {
                    let s = crate::spec::attention::score(i64::from(high[n]) * 256 + 3, 0);
                    assert_eq!(scores[n], s, "{level:?}");
                    expected[0] = expected[0].max(s >> 16);
                    expected[1] = expected[1].max((s >> 16) + exponents.value[n]);
                } else {
                    assert_eq!(scores[n], UNSEEN);
                }
            }
            // With no key seen the second is anything below the real ones.
            if start < end {
                assert_eq!(tops[0], expected, "{level:?}, {start}..{end}");
            } else {
                assert!(tops[0].iter().all(|top| *top < -32_000));
            }
        }
    }
}
