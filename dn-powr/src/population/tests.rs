use dn_core::amount::SUPPLY_CAP;
use dn_core::{Amount, wide::mul_div_rem};
use dn_trust::{Weight, WorkerEpoch};
use proptest::prelude::*;

use super::*;
use crate::{Payout, payout, score};

/// A row of an epoch: events, work, quality.
type Row = (WorkerEpoch, u64, Unit);

fn row() -> impl Strategy<Value = Row> {
    let weight = || prop_oneof![Just(0), 1..4u64 << 16, any::<u64>()];
    let busy = (
        (weight(), weight(), weight(), weight()),
        (0..4u32, 0..4u32, prop_oneof![Just(0), Just(0), 0..3u32]),
        (weight(), any::<u32>(), any::<u32>()),
        (any::<u64>(), 0..64u32, 0..=1u64 << 32),
    )
        .prop_map(
            |((done, failed, right, wrong), (online, offline, frauds), speed, (work, shift, quality))| {
                let mut e = WorkerEpoch::default();
                let w = Weight::from_bits;
                e.completed(w(done));
                e.failed(w(failed));
                e.audit_passed(w(right));
                e.audit_failed(w(wrong));
                (0..online).for_each(|_| e.online());
                (0..offline).for_each(|_| e.offline());
                (0..frauds).for_each(|_| e.proven_fraud());
                e.latency(w(speed.0), speed.1, speed.2);
                (e, work >> shift, Unit::from_bits(quality))
            },
        );
    let idle = (WorkerEpoch::default(), 0, Unit::ONE);
    prop_oneof![3 => busy, 2 => Just(idle), 1 => Just((WorkerEpoch::default(), 77, Unit::ONE))]
}

/// Some epochs of some rows.
fn life() -> impl Strategy<Value = Vec<Vec<Row>>> {
    (0..150usize, 0..6usize)
        .prop_flat_map(|(rows, epochs)| prop::collection::vec(prop::collection::vec(row(), rows), epochs))
}

/// Closes an epoch in blocks of so many rows; returns the points.
fn close(
    p: &Params,
    states: &mut [WorkerTrust],
    idle: &mut [u16],
    rows: &[Row],
    scores: &mut [u64],
    block: usize,
) -> u128 {
    let sums: Vec<_> = rows.iter().map(|(e, ..)| e.sums(p)).collect();
    let work: Vec<_> = rows.iter().map(|(_, work, _)| *work).collect();
    let quality: Vec<_> = rows.iter().map(|(.., quality)| *quality).collect();
    let mut points = 0;
    for first in (0..rows.len()).step_by(block) {
        let range = first..(first + block).min(rows.len());
        points += Block {
            states: &mut states[range.clone()],
            idle_epochs: &mut idle[range.clone()],
            sums: &sums[range.clone()],
            work: &work[range.clone()],
            quality: &quality[range.clone()],
            scores: &mut scores[range],
        }
        .close(p)
        .expect("columns fit");
    }
    points
}

/// Divides a pot in blocks of so many rows; returns the amounts, the plan and the number of surveys.
fn divide(pot: Amount, scores: &[u64], block: usize) -> (Vec<Amount>, Payout<u32>, usize) {
    let total = scores.iter().map(|s| u128::from(*s)).sum();
    let mut state = Pot::new(pot, total).expect("a sum of scores");
    let blocks = || (0u32..).step_by(block).zip(scores.chunks(block));
    let mut surveys = 0;
    let shares = loop {
        surveys += 1;
        let mut all = Survey::default();
        for (first, scores) in blocks() {
            let mut one = Survey::default();
            state.survey(first, scores, &mut one).expect("rows fit");
            all.merge(&one);
        }
        match state.narrow(&all) {
            Narrowed::Further(narrower) => state = narrower,
            Narrowed::Ready(shares) => break shares,
        }
    };
    let (mut amounts, mut near) = (vec![Amount::ZERO; scores.len()], Vec::new());
    for ((first, scores), amounts) in blocks().zip(amounts.chunks_mut(block)) {
        shares.pay(first, scores, amounts, &mut near).expect("rows fit");
    }
    let plan = shares.settle(&mut near, &mut amounts);
    (amounts, plan, surveys)
}

/// The same by `payout`, for which order and cut do not exist.
fn check(pot: Amount, scores: &[u64], block: usize) -> usize {
    let ids: Vec<u32> = (0u32..).take(scores.len()).collect();
    let points: Vec<u128> = scores.iter().map(|s| u128::from(*s)).collect();
    let mut expected = vec![Amount::ZERO; scores.len()];
    let carried = payout(pot, &ids, &points, &mut expected).expect("fits");
    let (amounts, plan, surveys) = divide(pot, scores, block);
    assert_eq!(amounts, expected);
    assert_eq!(plan.carried_over(), carried);
    for (id, points) in ids.iter().zip(&points) {
        assert_eq!(plan.share_of(*id, *points), expected[*id as usize]);
    }
    surveys
}

/// States, scores and points are those of one identity at a time, whatever the blocks.
fn are_identities(life: &[Vec<Row>], block: usize) -> Result<(), TestCaseError> {
    let p = Params::default();
    let rows = life.first().map_or(0, Vec::len);
    let (mut one, mut many) = (vec![WorkerTrust::newcomer(&p); rows], vec![WorkerTrust::newcomer(&p); rows]);
    let (mut idle, mut scores) = (vec![0; rows], vec![7; rows]);
    for epoch in life {
        let points = close(&p, &mut many, &mut idle, epoch, &mut scores, block);
        for ((state, (e, work, quality)), got) in one.iter_mut().zip(epoch).zip(&scores) {
            state.close_epoch(&p, e);
            prop_assert_eq!(u128::from(*got), score((*work).into(), *quality, state.weight(&p)));
        }
        prop_assert_eq!(points, scores.iter().map(|s| u128::from(*s)).sum::<u128>());
    }
    settle_idle(&p, &mut many, &mut idle).expect("columns fit");
    prop_assert_eq!(one, many);
    prop_assert!(idle.iter().all(|idle| *idle == 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn blocks_are_identities(life in life(), block in 1..200usize) {
        are_identities(&life, block)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    #[ignore = "long: cargo test --release -p dn-powr -- --ignored"]
    fn blocks_are_identities_at_length(life in life(), block in 1..200usize) {
        are_identities(&life, block)?;
    }

    #[test]
    fn amounts_are_payouts(
        pot in prop_oneof![0..100u128, 0..=SUPPLY_CAP.atto(), any::<u128>()],
        scores in prop::collection::vec(prop_oneof![0..5u64, 0..1_000u64, any::<u64>()], 0..60),
        block in 1..70usize,
    ) {
        check(Amount::from_atto(pot), &scores, block);
    }

    /// With few different scores most remainders are equal: ties decide.
    #[test]
    fn amounts_among_equals(
        pot in 0..10_000u128, scores in prop::collection::vec(0..3u64, 0..60), block in 1..70usize,
    ) {
        check(Amount::from_atto(pot), &scores, block);
    }
}

/// More equal remainders than are sorted out one by one: the range narrows down to rows.
#[test]
fn a_crowd_of_equals() {
    let pot = Amount::from_dn(1_000);
    let equal = vec![3; 200_001];
    assert!((2..=12).contains(&check(pot, &equal, 5_000)));
    let mut two: Vec<u64> = (0..200_001).map(|row| 1_000 + row % 2).collect();
    assert!((2..=12).contains(&check(pot, &two, 100_000)));
    two[77] = u64::MAX;
    check(pot, &two, 200_001);
    let spread: Vec<u64> = (0..200_001u64).map(|row| row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20).collect();
    assert_eq!(check(pot, &spread, 64), 1);
}

/// The largest scores of the largest population with the whole supply: nothing overflows, and the rows' amounts are exact.
#[test]
fn the_largest_population() {
    let total = u128::from(u64::MAX) << 32;
    let pot = Pot::new(SUPPLY_CAP, total).expect("the most that 2^32 scores come to");
    let mut survey = Survey::default();
    let (first, scores) = (u32::MAX - 3, [u64::MAX; 4]);
    pot.survey(first, &scores, &mut survey).expect("the last rows");
    // All others like these: floors and counts times 2^30.
    let mut all = Survey::default();
    all.merge(&survey);
    for _ in 0..30 {
        let half = all.clone();
        all.merge(&half);
    }
    let floor = SUPPLY_CAP.atto() / (1 << 32);
    assert_eq!(mul_div_rem(SUPPLY_CAP.atto(), u64::MAX.into(), total).map(|x| x.0), Some(floor));
    let Narrowed::Further(_) = pot.clone().narrow(&all) else { panic!("2^32 equal remainders") };
    let Narrowed::Ready(shares) = pot.narrow(&survey) else { panic!("four rows") };
    let mut amounts = [Amount::ZERO; 4];
    shares.pay(first, &scores, &mut amounts, &mut Vec::new()).expect("the last rows");
    assert!(amounts.iter().all(|a| a.atto() == floor || a.atto() == floor + 1));
    assert_eq!(Pot::new(SUPPLY_CAP, total + 1).err(), Some(PopulationError::Total { found: total + 1 }));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let pot = Pot::new(Amount::from_dn(1), 10).expect("small");
    let mut survey = Survey::default();
    let error = PopulationError::Rows { first: u32::MAX, rows: 2 };
    assert_eq!(pot.survey(u32::MAX, &[1, 2], &mut survey), Err(error));
    assert_eq!(survey, Survey::default());
    let Narrowed::Ready(shares) = pot.narrow(&survey) else { panic!("nothing was counted") };
    let (mut amounts, mut near) = ([Amount::from_atto(7)], Vec::new());
    let error = PopulationError::Length { column: "amounts", expected: 2, found: 1 };
    assert_eq!(shares.pay(0, &[1, 2], &mut amounts, &mut near), Err(error));
    assert_eq!((amounts, near.len()), ([Amount::from_atto(7)], 0));
    assert_eq!(narrow_work(1 << 64), Err(PopulationError::Work { found: 1 << 64 }));
    assert_eq!(narrow_work(u64::MAX.into()), Ok(u64::MAX));

    let p = Params::default();
    let mut states = [WorkerTrust::newcomer(&p); 2];
    let block = Block {
        states: &mut states,
        idle_epochs: &mut [0; 2],
        sums: &[WorkerEpoch::default().sums(&p); 2],
        work: &[1],
        quality: &[Unit::ONE; 2],
        scores: &mut [0; 2],
    };
    let error = PopulationError::Length { column: "work", expected: 2, found: 1 };
    assert_eq!(block.close(&p), Err(error));
    assert_eq!(states, [WorkerTrust::newcomer(&p); 2]);
    assert!(settle_idle(&p, &mut states, &mut [0]).is_err());
}

/// Idle epochs beyond what the column counts.
#[test]
fn a_long_sleep() {
    let p = Params::default();
    let mut e = WorkerEpoch::default();
    e.completed(Weight::from_bits(1 << 40));
    e.failed(Weight::ONE);
    let mut awake = WorkerTrust::newcomer(&p);
    awake.close_epoch(&p, &e);
    let (mut states, mut idle, mut scores) = ([awake], [u16::MAX - 1], [0]);
    for _ in 0..3 {
        let rows = [(WorkerEpoch::default(), 0, Unit::ONE)];
        assert_eq!(close(&p, &mut states, &mut idle, &rows, &mut scores, 1), 0);
    }
    assert_eq!(idle, [2]);
    settle_idle(&p, &mut states, &mut idle).expect("columns fit");
    awake.close_idle_epochs(&p, u64::from(u16::MAX) + 2);
    assert_eq!(states, [awake]);
}
