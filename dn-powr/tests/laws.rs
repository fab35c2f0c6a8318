//! The list "always true" of the economics: laws that hold through several modules together. Laws of one formula are tested beside it.

use dn_core::amount::SUPPLY_CAP;
use dn_core::{Address, Amount, Hash32};
use dn_powr::{Consensus, DomainDemand, EpochEmission, Offence};
use dn_powr::{
    DomainSplit, EmissionParams, FeeBounds, FeeMove, FeeSplit, MAX_WEIGHT, Payout, PoolError, QualitySum,
    Reveal, ReviewParams, Round, Seal, SlashParams, StakePool, Vote, draw_committee, score, vote_weight,
};
use dn_trust::{ModelTrust, Params, Trust, Unit, ValidatorTrust, Weight, WorkerEpoch, WorkerTrust};
use proptest::prelude::*;

#[path = "laws/records.rs"]
mod records;

use records::{Event, Record, Stretch, event, life, live, params};

const CASES: u32 = 4096;

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![Just(Unit::ZERO), Just(Unit::ONE), (0..=1u64 << 32).prop_map(Unit::from_bits)]
}

/// One more event, at any time, moves the weight the right way, then and ever after.
fn one_more<R: Record>(p: &Params, life: &[Stretch], at: prop::sample::Index, event: Event) {
    let before = live::<R>(p, life, None);
    let at = at.index(before.len());
    let after = live::<R>(p, life, Some((at, event)));
    for (epoch, (x, y)) in before.iter().zip(&after).enumerate() {
        let kept = if event.good { y >= x } else { y <= x };
        assert!(kept, "{event:?} in epoch {at}: {x:.9} became {y:.9} in epoch {epoch}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn any_parameters_are_valid(p in params()) {
        prop_assert_eq!(p.validate(), Ok(()));
    }

    #[test]
    fn trust_stays_between_its_least_and_one(p in params(), life in life()) {
        let paths = [live::<WorkerTrust>(&p, &life, None), live::<ValidatorTrust>(&p, &life, None), live::<ModelTrust>(&p, &life, None)];
        for t in paths.iter().flatten() {
            prop_assert!(t.value() >= p.trust_min && *t <= Trust::ONE);
        }
    }

    #[test]
    fn a_worker_s_trust_is_monotone(p in params(), life in life(), at: prop::sample::Index, event in event()) {
        one_more::<WorkerTrust>(&p, &life, at, event);
    }

    #[test]
    fn a_validator_s_trust_is_monotone(p in params(), life in life(), at: prop::sample::Index, event in event()) {
        one_more::<ValidatorTrust>(&p, &life, at, event);
    }

    #[test]
    fn a_model_s_trust_is_monotone(p in params(), life in life(), at: prop::sample::Index, event in event()) {
        one_more::<ModelTrust>(&p, &life, at, event);
    }
}

fn total(amounts: &[Amount]) -> u128 {
    amounts.iter().map(|a| a.atto()).sum()
}

/// What each of a population is paid out of a pot: (work, quality, trust), by place.
fn pay(pot: u128, nodes: &[(u128, Unit, Trust)]) -> Vec<u128> {
    let points: Vec<_> = nodes.iter().map(|(w, q, t)| score(*w, *q, *t)).collect();
    let entries = points.iter().copied().enumerate();
    let plan = Payout::new(Amount::from_atto(pot), entries.clone()).expect("at most 2^127 points");
    entries.map(|(id, points)| plan.share_of(id, points).atto()).collect()
}

fn nodes() -> impl Strategy<Value = Vec<(u128, Unit, Trust)>> {
    let work = prop_oneof![0..100u128, 0..=QualitySum::MAX_WORK];
    prop::collection::vec((work, unit(), unit().prop_map(Trust::new)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// Every split that governance lets a model or domain choose gives exactly the fee.
    #[test]
    fn a_moved_split_gives_the_fee(fee: u128, owner in 500..=3_500u16, validators in 500..=1_500u16, domain in 0..=1_000u16) {
        // 9,700 are to be divided, 5,000 to 8,500 of them to the worker.
        let rest = validators + domain;
        let owner = owner.clamp(1_200u16.saturating_sub(rest), 4_700 - rest);
        let to = FeeMove { worker: 9_700 - rest - owner, owner, validators, domain };
        let split = FeeSplit::default().moved(to, &FeeBounds::default()).expect("in bounds");
        let shares = split.split(Amount::from_atto(fee));
        prop_assert_eq!(shares.total().atto(), fee);
        prop_assert!(split.lost_by_self_payment() >= validators);
    }

    /// More work, quality or trust never pays less, and names do not matter. (That order does not is tested beside `Payout`.)
    #[test]
    fn pay_is_monotone_and_anonymous(
        nodes in nodes(), pot in 0..=SUPPLY_CAP.atto(), pick: prop::sample::Index, work: u64, q in unit(), t in unit(),
    ) {
        let i = pick.index(nodes.len());
        let before = pay(pot, &nodes);
        for raise in 0..3 {
            let mut better = nodes.clone();
            match raise {
                0 => better[i].0 = better[i].0.saturating_add(work.into()),
                1 => better[i].1 = better[i].1.max(q),
                _ => better[i].2 = better[i].2.max(Trust::new(t)),
            }
            prop_assert!(pay(pot, &better)[i] >= before[i]);
        }
        // The order of ids decides where the last atto goes, and nothing else.
        let mut turned = nodes.clone();
        turned.rotate_left(i);
        let mut after = pay(pot, &turned);
        after.rotate_right(i);
        prop_assert!(before.iter().zip(&after).all(|(a, b)| a.abs_diff(*b) <= 1), "{before:?} became {after:?}");
    }

    /// From the event to the coin: a worker's good event never costs it pay, a bad one never earns it any.
    #[test]
    fn an_event_moves_pay_the_right_way(
        others in nodes(), life in life(), at: prop::sample::Index, event in event(), work in 0..=1u128 << 80, pot in 0..=SUPPLY_CAP.atto(),
    ) {
        let p = Params::default();
        let paid = |extra| {
            let trust = live::<WorkerTrust>(&p, &life, extra).last().copied().expect("at least an epoch");
            let mut nodes = others.clone();
            nodes.push((work, Unit::ONE, trust));
            pay(pot, &nodes).last().copied().expect("the worker")
        };
        let epochs: usize = life.iter().map(|(_, n)| usize::from(*n)).sum();
        let (before, after) = (paid(None), paid(Some((at.index(epochs), event))));
        prop_assert!(if event.good { after >= before } else { after <= before }, "{event:?}: {before} became {after}");
    }

    /// Members with less than half of a committee's weight, whatever they do, leave the quality between two honest scores; the others
    /// are judged as if the liars' weight had no tongue: an honest committee of one mind is never misaligned.
    #[test]
    fn a_minority_of_a_committee_cannot_leave_the_honest_range(
        honest in prop::collection::vec((0..=100u64, 1..1u128 << 90), 1..20),
        liars in prop::collection::vec((0..=100u64, 1..1u128 << 90, 0..3u8), 0..20),
        one_mind: bool,
    ) {
        let percent = |p: u64| Unit::from_bits((p << 32) / 100);
        let mut budget = honest.iter().map(|(_, w)| w).sum::<u128>() - 1;
        let mut committee = Vec::new();
        let mut acts = Vec::new();
        for (score, weight) in &honest {
            acts.push((percent(if one_mind { honest[0].0 } else { *score }), 2));
            committee.push(*weight);
        }
        for (score, weight, act) in &liars {
            let weight = (*weight).min(budget);
            budget -= weight;
            acts.push((percent(*score), *act));
            committee.push(weight);
        }
        let seats: Vec<_> = committee.iter().zip(0u8..).map(|(w, n)| (Address([n; 20]), *w)).collect();
        let (id, salt) = (Hash32([1; 32]), Hash32([2; 32]));
        let seal = Seal { round: id, known: None, salt };
        let mut round = Round::open(id, seal.commitment(), &seats, 1, 2).expect("at most 40 members");
        let reveals: Vec<_> =
            seats.iter().zip(&acts).map(|((validator, _), (score, act))| (Reveal { round: id, validator: *validator, score: *score, salt }, *act)).collect();
        for (reveal, act) in &reveals {
            if *act > 0 {
                round.commit(1, reveal.validator, reveal.commitment()).expect("in time");
            }
        }
        for (reveal, _) in reveals.iter().filter(|(_, act)| *act > 1) {
            round.reveal(2, reveal).expect("in time");
        }
        let settled = round.settle(3, Some(&seal), &ReviewParams::default()).expect("after the last height");
        let quality = settled.consensus.expect("the honest revealed").quality;
        let scores = || acts[..honest.len()].iter().map(|a| a.0);
        prop_assert!(scores().min() <= Some(quality) && Some(quality) <= scores().max());
        if one_mind {
            prop_assert!(settled.members[..honest.len()].iter().all(|m| m.finding == dn_powr::Finding::Aligned));
        }
    }

    /// Epoch after epoch, whatever the demand: what was emitted and what is left are the pool that there was.
    #[test]
    fn emission_never_exceeds_the_pool(
        pool in 0..=SUPPLY_CAP.atto(), half_life in prop_oneof![1..4u64, 1..100_000u64], price in 1..1u128 << 60,
        demands in prop::collection::vec(prop::collection::vec(0..=1u128 << 90, 0..4), 1..30),
    ) {
        let p = EmissionParams { half_life_epochs: half_life, reference_price: Amount::from_atto(price) };
        let mut left = Amount::from_atto(pool);
        let mut paid = 0u128;
        for points in demands {
            let domains: Vec<_> = points
                .into_iter()
                .map(|points| DomainDemand { points, fees: FeeSplit::default(), split: DomainSplit::default() })
                .enumerate()
                .collect();
            let epoch = EpochEmission::new(p, left, domains.iter().copied()).expect("fits");
            for (id, d) in &domains {
                let s = epoch.shares_of(*id, d);
                let parts = [s.workers, s.validators, s.stakers, s.creators, s.treasury, s.foundation];
                prop_assert_eq!(total(&parts) > 0 && d.points == 0, false);
                paid += total(&parts);
            }
            left = epoch.left();
            prop_assert_eq!(paid + left.atto(), pool);
        }
    }

    /// Fees, rewards, slashes and stakes: every atto that went into a pool comes out to a member, a reporter or the fire.
    #[test]
    fn stakes_conserve_tokens(
        stakes in prop::collection::vec(1..=SUPPLY_CAP.atto() / 8, 1..5),
        events in prop::collection::vec((any::<bool>(), 0..=SUPPLY_CAP.atto() / 64, 0..4usize), 0..20),
    ) {
        let offences = [Offence::WorkerFraud, Offence::Availability, Offence::FalseVerdict, Offence::Equivocation];
        let slashes = SlashParams::default();
        let (mut pool, mut inflow, mut outflow) = (StakePool::default(), 0u128, 0u128);
        let mut shares = Vec::new();
        for stake in stakes {
            shares.push(pool.deposit(Amount::from_atto(stake)).expect("an atto a share"));
            inflow += stake;
        }
        for (slash, fee, offence) in events {
            if slash {
                let taken = pool.slash(slashes.fractions(offences[offence]).1);
                let (reporter, burned) = slashes.share_out(taken);
                prop_assert_eq!(total(&[reporter, burned]), taken.atto());
                outflow += total(&[reporter, burned]);
            } else {
                let reward = FeeSplit::default().split(Amount::from_atto(fee)).validators;
                pool.reward(reward).expect("the pool has shares");
                inflow += reward.atto();
            }
            prop_assert_eq!(pool.tokens().atto() + outflow, inflow);
        }
        for s in shares {
            outflow += pool.withdraw(s).expect("held").atto();
        }
        prop_assert_eq!((pool, outflow), (StakePool::default(), inflow));
    }

    /// 2^32 identities, the whole supply, the most work that an epoch's sum holds: nothing overflows, nothing is lost.
    #[test]
    fn the_largest_network_fits(
        work in QualitySum::MAX_WORK / 2..=QualitySum::MAX_WORK, q in unit(), t in unit(), epochs in 0..1_000u64,
    ) {
        const OTHERS: u128 = (1 << 32) - 1;
        let trust = Trust::new(t);
        let mine = score(work, q, trust);
        // All others at their best, as one entry: the total is that of 2^32.
        let others = score(QualitySum::MAX_WORK, Unit::ONE, Trust::ONE) * OTHERS;
        let plan = Payout::new(SUPPLY_CAP, [(0u32, mine), (1, others)]).expect("2^127 points at most");
        prop_assert_eq!(total(&[plan.share_of(0, mine), plan.share_of(1, others)]), SUPPLY_CAP.atto());
        prop_assert!(plan.share_of(0, mine).atto() <= SUPPLY_CAP.atto() / OTHERS);

        // The weights of all validators together are at most the supply, far within what a committee can be drawn from.
        let whole = vote_weight(SUPPLY_CAP, SUPPLY_CAP, trust);
        prop_assert!(whole <= SUPPLY_CAP.atto() && SUPPLY_CAP.atto() < MAX_WEIGHT);
        let mut votes = [Vote { score: q, weight: whole }, Vote { score: t, weight: MAX_WEIGHT - whole }];
        prop_assert!(Consensus::of(&mut votes).is_ok());
        let drawn = draw_committee(&[0; 32], &Hash32::ZERO, 1, &[(0u32, whole), (1, MAX_WEIGHT - whole)], &[]);
        prop_assert!(drawn.is_ok());

        let mut sum = QualitySum::default();
        sum.add(q, work).expect("within the bound");
        prop_assert_eq!(sum.mean(), Some(q));
        let p = EmissionParams { reference_price: EmissionParams::MAX_PRICE, ..EmissionParams::default() };
        let demand = DomainDemand { points: others, fees: FeeSplit::default(), split: DomainSplit::default() };
        let epoch = EpochEmission::new(p, SUPPLY_CAP, [(0u32, demand)]).expect("fits");
        prop_assert_eq!(epoch.emitted(), p.decay(SUPPLY_CAP));

        // A price of a share that only a whole supply can pay, and one that is almost nothing.
        let mut pool = StakePool::default();
        pool.deposit(Amount::from_atto(1)).expect("first");
        pool.reward(SUPPLY_CAP).expect("has a share");
        let refused = Err(PoolError::TooSmall { amount: SUPPLY_CAP });
        prop_assert_eq!(pool.deposit(SUPPLY_CAP), refused);
        let mut cheap = StakePool::default();
        cheap.deposit(SUPPLY_CAP).expect("first");
        (0..200).for_each(|_| { cheap.slash(9_999); });
        let before = cheap;
        // A price that no deposit can meet is refused, and changes nothing.
        prop_assert!(cheap.deposit(SUPPLY_CAP).is_err());
        prop_assert_eq!(cheap, before);

        // The largest events, for as long as a count can grow.
        let mut w = WorkerTrust::newcomer(&Params::default());
        let mut e = WorkerEpoch::default();
        for _ in 0..3 {
            e.completed(Weight::from_bits(u64::MAX));
            e.audit_passed(Weight::from_bits(u64::MAX));
            e.latency(Weight::from_bits(u64::MAX), u32::MAX, 1);
        }
        (0..epochs).for_each(|_| w.close_epoch(&Params::default(), &e));
        prop_assert!(w.weight(&Params::default()) <= Trust::ONE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// k identities that share the work of one, at the same rate of failures, are paid at most 1.001 times what the one is, over a
    /// whole life, next to another worker and out of the same pot (but for an atto of rounding a head and epoch).
    #[test]
    fn splitting_an_identity_does_not_pay(
        // Work of each of the k, in hundredths of which whole numbers fail.
        part in 1..=100u64, scale in 1..=64u64, k in prop_oneof![2..=20u64, 2..=1_000u64], bad in 0..=50u64, epochs in 1..400usize,
        rival in 1..=1u128 << 40,
    ) {
        let p = Params::default();
        let of = |work: u64| {
            let mut e = WorkerEpoch::default();
            e.completed(Weight::from_bits(work));
            e.audit_passed(Weight::from_bits(work - work / 100 * bad));
            e.audit_failed(Weight::from_bits(work / 100 * bad));
            e.online();
            e
        };
        let small = part * scale * 100;
        let (one, many) = (of(small * k), of(small));
        let (mut a, mut b) = (WorkerTrust::newcomer(&p), WorkerTrust::newcomer(&p));
        let (mut paid_one, mut paid_many, mut scored_one, mut scored_many) = (0u128, 0u128, 0u128, 0u128);
        let pot = Amount::from_dn(1);
        let right = u128::from(small - small / 100 * bad) << 32;
        for _ in 0..epochs {
            a.close_epoch(&p, &one);
            b.close_epoch(&p, &many);
            let s = score(right * u128::from(k), Unit::ONE, a.weight(&p));
            let m = score(right, Unit::ONE, b.weight(&p)) * u128::from(k);
            scored_one += s;
            scored_many += m;
            let paid = |points| Payout::new(pot, [(0, points), (1, rival << 32)]).expect("fits").share_of(0, points).atto();
            paid_one += paid(s);
            paid_many += paid(m);
        }
        prop_assert!(scored_many * 1000 <= scored_one * 1001, "one {scored_one}, {k} of them {scored_many}");
        let dust = u128::from(k) * epochs as u128;
        prop_assert!(paid_many * 1000 <= (paid_one + dust) * 1001, "one {paid_one}, {k} of them {paid_many}");
    }
}
