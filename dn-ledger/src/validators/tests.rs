use proptest::prelude::*;

use super::*;

fn set(powers: &[u64]) -> ValidatorSet {
    let address = |i: usize| Address([u8::try_from(i).unwrap(); 20]);
    ValidatorSet::new(powers.iter().enumerate().map(|(i, power)| (address(i), *power)))
}

fn capped(powers: &[u64]) -> Vec<u64> {
    let mut members = set(powers).members;
    cap(&mut members);
    members.iter().map(|m| m.power).collect()
}

fn in_jail() -> crate::state::Identity {
    crate::state::Identity {
        name: "v".into(),
        endpoint: "v".into(),
        collateral: dn_core::Amount::ZERO,
        status: IdentityStatus::Jailed { release_epoch: 9 },
        registered_height: 0,
        open_batches: 0,
    }
}

#[test]
fn a_cap_takes_no_more_than_it_must() {
    assert_eq!(capped(&[10, 9, 9, 9]), [10, 9, 9, 9]);
    assert_eq!(capped(&[100, 10, 10, 10]), [14, 10, 10, 10]);
    assert_eq!(capped(&[100, 100, 10, 10]), [19, 19, 10, 10]);
    assert_eq!(capped(&[100, 100, 100, 1]), [100, 100, 100, 1]);
    assert_eq!(capped(&[7, 1, 1]), [7, 1, 1]);
}

/// Who is jailed takes its power along; what is left is capped again, also in the block in which the elected set takes over.
#[test]
fn nobody_has_a_third_after_a_jailing() {
    let params = Params::devnet();
    let members = set(&[30, 18, 18, 18, 18]);
    for takes_over in [false, true] {
        let mut state = State::default();
        if takes_over {
            VALIDATOR_SETS.put(&mut state, &NEXT_SET, &set(&[1]));
            ELECTIONS.put(&mut state, &0, &Election { last_height: 6, set: members.clone() });
        } else {
            VALIDATOR_SETS.put(&mut state, &NEXT_SET, &members);
        }
        let before = VALIDATOR_SETS.get_or_default(&state, &NEXT_SET);
        rotate(&mut state, &params, 5);
        assert_eq!(VALIDATOR_SETS.get_or_default(&state, &NEXT_SET), before);
        IDENTITIES.put(&mut state, &(Role::Validator, members.members[4].address), &in_jail());
        rotate(&mut state, &params, 6);
        let after = VALIDATOR_SETS.get_or_default(&state, &NEXT_SET);
        assert_eq!(after.members.iter().map(|m| m.power).collect::<Vec<_>>(), [26, 18, 18, 18]);
    }
}

/// An election and the seed of its turns hold together, `delay_blocks` after the epoch's end.
#[test]
fn an_election_waits_for_its_seed() {
    let (mut state, mut params) = (State::default(), Params::devnet());
    (params.epoch_blocks, params.beacon.delay_blocks) = (20, 3);
    let sets = [set(&[3, 2, 1]), set(&[9, 8]), set(&[7, 1])];
    VALIDATOR_SETS.put(&mut state, &NEXT_SET, &sets[0]);
    let beacon = |height: u8| Hash32([height; 32]);
    for height in 1..=45u8 {
        BEACON.put(&mut state, &0, &beacon(height));
        rotate(&mut state, &params, height.into());
        // Nobody is registered here: what was elected is put in its place.
        let elected = ELECTIONS.get(&state, &0);
        assert_eq!(elected.is_some(), matches!(height, 19..22 | 39..42), "height {height}");
        if let Some(mut election) = elected {
            let nth = usize::from(height / 19);
            assert_eq!(election.last_height, [22, 42][nth - 1]);
            election.set = sets[nth].clone();
            ELECTIONS.put(&mut state, &0, &election);
        }
        let decides = |height: u8| match height {
            ..23 => (Hash32::ZERO, &sets[0]),
            23..43 => (beacon(22), &sets[1]),
            _ => (beacon(42), &sets[2]),
        };
        for (key, height) in [(NEXT_SET, height + 1), (TIP_SET, height.max(2))] {
            let found =
                (TURN_SEEDS.get_or_default(&state, &key), VALIDATOR_SETS.get_or_default(&state, &key));
            let (seed, set) = decides(height);
            assert_eq!(found, (seed, set.clone()), "block {height}");
        }
    }
    let turns = |seed| (0..64).map(|height| set(&[1, 1, 1]).proposer(7, seed, height, 0)).collect::<Vec<_>>();
    assert_ne!(turns(beacon(22)), turns(beacon(42)));
}

/// Who is jailed between its election and its first block never gets there; if all are, the old set goes on without those of it that are, under
/// the new seed.
#[test]
fn who_is_jailed_before_it_decides_does_not() {
    let (params, beacon) = (Params::devnet(), Hash32([8; 32]));
    // The last of the old set is also the strongest that is elected.
    let before = ValidatorSet::new([(Address([1; 20]), 7), (Address([2; 20]), 6), (Address([10; 20]), 2)]);
    for (jailed, expected) in [(0, vec![5, 4, 3]), (1, vec![4, 3]), (3, vec![7, 6])] {
        let mut state = State::default();
        BEACON.put(&mut state, &0, &beacon);
        VALIDATOR_SETS.put(&mut state, &NEXT_SET, &before);
        let members = (10..).zip([5, 4, 3]).map(|(n, power)| (Address([n; 20]), power));
        let elected = ValidatorSet::new(members);
        ELECTIONS.put(&mut state, &0, &Election { last_height: 5, set: elected.clone() });
        rotate(&mut state, &params, 4);
        assert_eq!(VALIDATOR_SETS.get_or_default(&state, &NEXT_SET), before);
        // In the very block in which the sets change.
        for member in &elected.members[..jailed] {
            IDENTITIES.put(&mut state, &(Role::Validator, member.address), &in_jail());
        }
        rotate(&mut state, &params, 5);
        let after = VALIDATOR_SETS.get_or_default(&state, &NEXT_SET);
        assert_eq!(after.members.iter().map(|m| m.power).collect::<Vec<_>>(), expected);
        assert_eq!(TURN_SEEDS.get_or_default(&state, &NEXT_SET), beacon);
        assert_eq!(ELECTIONS.get(&state, &0), None);
    }
}

#[test]
fn a_quorum_is_more_than_two_thirds() {
    let set = set(&[1, 1, 1]);
    assert!(!set.is_quorum(2) && set.is_quorum(3));
}

proptest! {
    /// Nobody has a third, nobody gains, and one unit more for the strongest would be too much.
    #[test]
    fn nobody_has_a_third(powers in prop::collection::vec(1u64..1_000_000, 4..12)) {
        let before: Vec<_> = set(&powers).members.iter().map(|m| m.power).collect();
        let after = capped(&powers);
        let total: u64 = after.iter().sum();
        prop_assert!(after.iter().all(|power| 3 * power < total));
        prop_assert!(after.iter().zip(&before).all(|(a, b)| a <= b && *a > 0));
        prop_assert!(after.is_sorted_by(|a, b| a >= b));
        let lowered = after.iter().zip(&before).filter(|(a, b)| a < b).count() as u64;
        if lowered > 0 {
            prop_assert!(3 * (after[0] + 1) >= total + lowered);
        }
    }

    #[test]
    fn the_high_half_is_exact(a: u128, b in any::<[u128; 2]>(), small: bool) {
        // Half of the factors as small as powers are: schoolbook in limbs of 32 bits.
        let b = if small { b[0] >> 70 } else { b[1] };
        let limbs = |n: u128| std::array::from_fn::<u64, 4, _>(|i| (n >> (32 * i)) as u64 & 0xffff_ffff);
        let mut columns = [0u128; 8];
        for (i, x) in limbs(a).into_iter().enumerate() {
            for (j, y) in limbs(b).into_iter().enumerate() {
                columns[i + j] += u128::from(x) * u128::from(y);
            }
        }
        let mut carry = 0;
        let digits = columns.map(|column| {
            carry += column;
            let digit = carry & 0xffff_ffff;
            carry >>= 32;
            digit
        });
        let high = digits[4..].iter().rev().fold(0, |sum, digit| sum << 32 | digit);
        prop_assert_eq!(high_product(a, b), high);
    }

    /// Stake that moves by little moves few turns, also where it makes the weakest the strongest.
    #[test]
    fn a_little_stake_moves_few_turns(seed: [u8; 32], who in 0usize..4, more in 1u64..1_000) {
        let powers = [1_000_000u64; 4];
        let mut after = powers;
        after[who] += more;
        let turns = |powers: &[u64]| {
            let set = set(powers);
            (0..2_000).map(|height| set.proposer(7, Hash32(seed), height, 0)).collect::<Vec<_>>()
        };
        let moved = turns(&powers).into_iter().zip(turns(&after)).filter(|(a, b)| a != b).count();
        // Borders move by at most a quarter of a thousandth of the whole, three of them: 1.5 of 2,000 turns expected at the most.
        prop_assert!(moved <= 15, "{} of 2,000 turns moved", moved);
    }

    /// Everybody has one turn in as many rounds as there are validators.
    #[test]
    fn turns_go_around(powers in prop::collection::vec(1u64..1_000, 1..8), height in 0u64..1_000) {
        let set = set(&powers);
        let rounds = u32::try_from(powers.len()).unwrap();
        let mut turns: Vec<_> = (0..rounds).map(|round| set.proposer(7, Hash32::ZERO, height, round)).collect();
        prop_assert_eq!(set.proposer(7, Hash32::ZERO, height, rounds), turns[0]);
        turns.sort();
        turns.dedup();
        prop_assert_eq!(turns.len(), powers.len());
    }
}

#[test]
fn turns_follow_power() {
    let set = set(&[60, 30, 10]);
    let first = (0..10_000).map(|height| set.proposer(7, Hash32::ZERO, height, 0));
    let mut turns = [0u32; 3];
    first.for_each(|address| turns[usize::from(address.0[0])] += 1);
    // Four standard deviations of 10,000 draws.
    for (turns, expected) in turns.into_iter().zip([6_000u32, 3_000, 1_000]) {
        assert!(turns.abs_diff(expected) < 200, "{turns} turns; about {expected} expected");
    }
}
