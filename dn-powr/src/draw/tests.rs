use proptest::prelude::*;

use super::*;

const BEACON: [u8; 32] = [5; 32];
const ROUND: Hash32 = Hash32([1; 32]);

fn ids(drawn: Result<Vec<(u32, u128)>, DrawError>) -> Vec<u32> {
    drawn.expect("drawn").into_iter().map(|(id, _)| id).collect()
}

/// From a program that does not share a line with this one: Keccak written out, the line walked, those drawn cut out of it.
#[test]
fn golden_draws() {
    let squares: Vec<_> = (0..20u32).map(|i| (i, u128::from(i * i))).collect();
    assert_eq!(ids(draw_committee(&BEACON, &ROUND, 7, &squares, &[19])), [15, 18, 17, 13, 8, 6, 12]);
    let heavy: Vec<_> = (0..1000u32).map(|i| (i, 10u128.pow(26) + u128::from(i))).collect();
    assert_eq!(ids(draw_committee(&[6; 32], &ROUND, 3, &heavy, &[])), [885, 789, 263]);

    let chosen = [6326, 4391, 6176, 1513, 3907, 7631, 821, 1055];
    for (i, place) in (0..8u8).zip(chosen) {
        let id = ReceiptId([i; 32]);
        assert!(is_audited(&BEACON, &id, place + 1) && !is_audited(&BEACON, &id, place));
    }
    let canary = |i: &u8| is_canary(&[7; 32], &BEACON, &Hash32([*i; 32]), 500);
    let canaries: Vec<u8> = (0..200).filter(canary).collect();
    assert_eq!(canaries, [44, 55, 57, 97, 115, 137, 151, 156, 158, 168, 195]);
    assert_eq!(
        secret_commitment(&[7; 32]).to_string(),
        "0x5d4bb503e4862a2a598fe9b437f73b4b055e2b42de8df2b1b09b1990385be8e0"
    );
}

#[test]
fn what_cannot_be_drawn() {
    let draw = |seats, candidates: &[(u32, u128)]| draw_committee(&BEACON, &ROUND, seats, candidates, &[9]);
    assert_eq!(draw(0, &[(1, 1)]), Err(DrawError::Seats { found: 0 }));
    assert_eq!(draw(65, &[(1, 1)]), Err(DrawError::Seats { found: 65 }));
    assert_eq!(draw(2, &[(1, 1), (2, 0), (9, 5)]), Err(DrawError::Candidates { found: 1, needed: 2 }));
    assert_eq!(draw(1, &[(2, 1), (1, 1), (2, 3)]), Err(DrawError::Duplicate { first: 1, second: 2 }));
    let overflow = DrawError::Overflow { candidates: 2 };
    assert_eq!(draw(1, &[(1, MAX_WEIGHT), (2, 1)]), Err(overflow));
    assert_eq!(draw(1, &[(1, u128::MAX), (2, u128::MAX)]), Err(overflow));
    assert_eq!(draw(1, &[(1, MAX_WEIGHT)]), Ok(vec![(1, MAX_WEIGHT)]));
}

#[test]
fn the_ticket_by_hand() {
    // Three quarters of 2^256, times 10.
    let mut hash = [0; 32];
    hash[31] = 0xc0;
    assert_eq!(below(&hash, 10), 7);
    assert_eq!(below(&[0xff; 32], u128::MAX), u128::MAX - 1);
    assert_eq!(below(&[0; 32], u128::MAX), 0);
    // The carry of the lower half: (2^128 + 2^128 − 1) · 2 / 2^256 with the whole product at 2^257 − 2.
    assert_eq!(below(&[0xff; 32], 2), 1);
    let mut half = [0xff; 32];
    half[31] = 0x7f;
    assert_eq!(below(&half, 2), 0);
}

fn beacon(n: u32) -> [u8; 32] {
    keccak256(&[&n.to_le_bytes()])
}

/// Ordered pairs out of weights 1, 2, 3 have the chances w_i/6 · w_j/(6 − w_i).
#[test]
fn chances_follow_the_weights() {
    let candidates = [(1u32, 1u128), (2, 2), (3, 3)];
    let mut counts = [[0i64; 4]; 4];
    for n in 0..12_000 {
        let drawn = ids(draw_committee(&beacon(n), &ROUND, 2, &candidates, &[]));
        counts[drawn[0] as usize][drawn[1] as usize] += 1;
    }
    for (i, j, expected) in
        [(1, 2, 800), (1, 3, 1200), (2, 1, 1000), (2, 3, 3000), (3, 1, 2000), (3, 2, 4000)]
    {
        // Five standard deviations of the binomial are under 5·√expected.
        let (found, off) = (counts[i][j], counts[i][j] - expected);
        assert!(off * off < 25 * expected, "{i} then {j}: {found} times, expected {expected}");
    }
}

#[test]
fn rates_are_kept() {
    for rate in [0u16, 500, 2_500, 9_999, 10_000, u16::MAX] {
        let hits = (0..20_000).filter(|n| is_audited(&BEACON, &ReceiptId(beacon(*n)), rate)).count() as i64;
        let canaries =
            (0..20_000).filter(|n| is_canary(&[1; 32], &BEACON, &Hash32(beacon(*n)), rate)).count() as i64;
        let expected = i64::from(rate.min(10_000)) * 2;
        // Five standard deviations are at most 5·√5000 = 354.
        assert!((hits - expected).abs() < 354 && (canaries - expected).abs() < 354, "{rate}");
        if rate == 0 || rate >= 10_000 {
            assert_eq!((hits, canaries), (expected, expected));
        }
    }
}

/// The definition, literally: walk the line, take one out, start again.
fn by_definition(beacon: &[u8; 32], seats: usize, candidates: &[(u32, u128)], excluded: &[u32]) -> Vec<u32> {
    let mut line: Vec<_> =
        candidates.iter().copied().filter(|(id, w)| *w > 0 && !excluded.contains(id)).collect();
    line.sort();
    let mut drawn = Vec::new();
    for seat in 0..seats as u32 {
        let hash = keccak256(&[b"DeepNode committee draw v1", beacon, ROUND.as_bytes(), &seat.to_le_bytes()]);
        let mut ticket = below(&hash, line.iter().map(|x| x.1).sum());
        let place = line
            .iter()
            .position(|(_, weight)| match ticket.checked_sub(*weight) {
                Some(rest) => {
                    ticket = rest;
                    false
                }
                None => true,
            })
            .expect("the ticket is below the total");
        drawn.push(line.remove(place).0);
    }
    drawn
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_definition_in_any_order(
        (a, b) in prop::collection::btree_map(0..200u32, prop_oneof![Just(0u128), 1..4u128, 1..1u128 << 100], 0..80)
            .prop_flat_map(|m| {
                let v: Vec<_> = m.into_iter().collect();
                (Just(v.clone()), Just(v).prop_shuffle())
            }),
        beacon: [u8; 32],
        seats in 1..=MAX_SEATS,
        excluded in prop::collection::vec(0..200u32, 0..5),
    ) {
        let able = a.iter().filter(|(id, w)| *w > 0 && !excluded.contains(id)).count();
        let drawn = draw_committee(&beacon, &ROUND, seats, &a, &excluded);
        prop_assert_eq!(&drawn, &draw_committee(&beacon, &ROUND, seats, &b, &excluded));
        if able < seats {
            prop_assert_eq!(drawn, Err(DrawError::Candidates { found: able, needed: seats }));
        } else {
            prop_assert!(drawn.iter().flatten().all(|seat| a.contains(seat)));
            prop_assert_eq!(ids(drawn), by_definition(&beacon, seats, &a, &excluded));
        }
    }
}
