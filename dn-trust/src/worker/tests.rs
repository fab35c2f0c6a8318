use dn_core::Canonical;
use proptest::prelude::*;

use super::*;

/// A worker of the reference scenario of `docs/economics.md`: 1 1/8 units of work an epoch, all of it audited; in
/// expectation 1/64 of the jobs fail and 1/64 of the audits fail; online 98 % of the time, at 0.9 of the speed of its class.
///
/// Everything enters as an expected value, so one run gives the mean path without sampling noise.
#[derive(Clone, Copy)]
struct Reference {
    /// Cheated share of the audited work, in percent.
    cheat: u64,
}

const UNIT: u64 = 1 << 16;
const WORK: u64 = UNIT * 9 / 8;
const NOISE: u64 = WORK / 64;
const STEADY: usize = 4000;

impl Reference {
    fn epoch(self) -> WorkerEpoch {
        let mut e = WorkerEpoch::default();
        e.completed(Weight::from_bits(WORK - NOISE));
        e.failed(Weight::from_bits(NOISE));
        let bad = NOISE + (WORK - NOISE) * self.cheat / 100;
        e.audit_passed(Weight::from_bits(WORK - bad));
        e.audit_failed(Weight::from_bits(bad));
        (0..98).for_each(|_| e.online());
        (0..2).for_each(|_| e.offline());
        e.latency(Weight::ONE, 900, 1000);
        e
    }

    /// The state after many epochs, and the weight after each.
    fn run(self) -> (WorkerTrust, Vec<u64>) {
        let p = Params::default();
        let mut worker = WorkerTrust::newcomer(&p);
        let mut path = vec![bits(&worker)];
        for _ in 0..STEADY {
            worker.close_epoch(&p, &self.epoch());
            path.push(bits(&worker));
        }
        (worker, path)
    }
}

fn bits(w: &WorkerTrust) -> u64 {
    w.weight(&Params::default()).value().bits()
}

/// `part / whole` in 1/10,000.
fn parts(part: u64, whole: u64) -> u64 {
    (part * 10_000 + whole / 2) / whole
}

/// Every figure of the design, as measured, and that it is within a tenth of the design's.
fn check(what: &str, measured: &[u64], pinned: &[u64], design: &[u64]) {
    assert_eq!(measured, pinned, "{what}");
    for (m, d) in measured.iter().zip(design) {
        assert!(m.abs_diff(*d) * 10 <= *d, "{what}: measured {m}, the design says {d}");
    }
}

#[test]
fn the_design_s_newcomer_and_rise() {
    let (_, path) = Reference { cheat: 0 }.run();
    let level = path[STEADY];
    let after = |percent: u64| {
        path.iter().position(|t| t * 100 >= level * percent).expect("the level is reached") as u64
    };
    check(
        "newcomer and steady trust",
        &[parts(path[0], 1 << 32), parts(level, 1 << 32)],
        &[66, 8_105],
        &[70, 7_900],
    );
    check("epochs to 50, 80, 95 %", &[after(50), after(80), after(95)], &[111, 287, 541], &[121, 302, 519]);
}

/// Failures in a row of weight one, by a worker at its steady level that stays online and delivers.
#[test]
fn the_design_s_failures_in_a_row() {
    let p = Params::default();
    let (mut w, path) = Reference { cheat: 0 }.run();
    let mut left = Vec::new();
    for n in 1..=100 {
        let mut e = WorkerEpoch::default();
        e.completed(Weight::ONE);
        e.audit_failed(Weight::ONE);
        e.online();
        e.latency(Weight::ONE, 900, 1000);
        w.close_epoch(&p, &e);
        if [5, 25, 100].contains(&n) {
            left.push(parts(bits(&w), path[STEADY]));
        }
    }
    check("left after 5, 25, 100 failures", &left, &[8_364, 4_109, 292], &[8_300, 4_100, 300]);
}

/// Reward is work that was not refused times trust: (1 − c)·T(c) against T(0).
#[test]
fn the_design_s_cheaters() {
    let honest = Reference { cheat: 0 }.run().1[STEADY];
    let earns: Vec<u64> = [1, 5, 10, 20]
        .into_iter()
        .map(|cheat| parts(Reference { cheat }.run().1[STEADY] * (100 - cheat), honest * 100))
        .collect();
    check(
        "earned by cheating in 1, 5, 10, 20 %",
        &earns,
        &[9_028, 6_214, 4_112, 1_986],
        &[9_200, 6_200, 4_000, 2_100],
    );
    // The gate of the attack suite: at most 1 − 2c.
    for (cheat, earned) in [1, 5, 10, 20].into_iter().zip(&earns) {
        assert!(*earned <= 10_000 - 200 * cheat);
    }
}

/// What re-registering gains after failures in a row: the reward of the next 1,000 epochs of good work as a newcomer, less that under the
/// old name, in epochs of steady reward. The entry bond must be worth more than this.
#[test]
fn what_whitewashing_gains() {
    let p = Params::default();
    let (steady, path) = Reference { cheat: 0 }.run();
    let future = |mut w: WorkerTrust| -> u64 {
        (0..1000)
            .map(|_| {
                w.close_epoch(&p, &Reference { cheat: 0 }.epoch());
                bits(&w)
            })
            .sum()
    };
    let fresh = future(WorkerTrust::newcomer(&p));
    let gain = |failures: usize| {
        let mut w = steady;
        for _ in 0..failures {
            let mut e = WorkerEpoch::default();
            e.completed(Weight::ONE);
            e.audit_failed(Weight::ONE);
            e.online();
            w.close_epoch(&p, &e);
        }
        (fresh as i64 - future(w) as i64) / path[STEADY] as i64
    };
    // Dues: a newcomer's first 1,000 epochs are worth so many steady ones.
    assert_eq!(fresh / path[STEADY], 832);
    assert_eq!([0, 5, 25, 50, 100, 200, 400].map(gain), [-167, -129, -24, 47, 114, 174, 237]);
}

#[test]
fn trust_by_hand() {
    let p = Params::default();
    let newcomer = WorkerTrust::newcomer(&p).indicators(&p);
    assert_eq!(newcomer.stability.to_string(), "0.5000");
    assert_eq!(newcomer.history.to_string(), "0.1250");
    assert_eq!(format!("{:.5}", newcomer.completion), "0.02512");
    // 0.125 · √(0.02512 · √(0.02512 · √(0.5 · 0.5))) = 0.125 · √(0.02512 · 0.11207) = 0.00663.
    assert_eq!(format!("{:.5}", newcomer.weight(&p)), "0.00663");
}

#[test]
fn one_epoch_by_hand() {
    let p = Params::default();
    let mut w = WorkerTrust::newcomer(&p);
    let mut e = WorkerEpoch::default();
    // Four units, capped to two in the same proportion.
    e.completed(Weight::from_bits(3 * UNIT));
    e.failed(Weight::from_bits(UNIT));
    e.audit_passed(Weight::from_bits(2 * UNIT));
    e.online();
    e.latency(Weight::from_bits(3 * UNIT), 100, 100);
    e.latency(Weight::from_bits(UNIT), 100, 200);
    w.close_epoch(&p, &e);
    assert_eq!((w.completion.good(), w.completion.bad()), (3 << 15, 1 << 16));
    assert_eq!((w.accuracy.good(), w.accuracy.bad()), (2 << 16, 0));
    assert_eq!(w.stability, (1 << 31) + (1 << 25)); // ½ + ½/64
    assert_eq!(w.speed, (1 << 31) + (3 << 25)); // ½ + (⅞ − ½)/16, rising and falling parts apart
    assert_eq!(w.history, (1 << 29) + 7 * (1 << 22)); // ⅛ + 2·(⅞)/256
    w.close_epoch(&p, &WorkerEpoch::default());
    // ⌊1.5·2^16·2^(−1/168)⌋ and ⌊2^16·2^(−1/336)⌋; nothing else moves without events.
    assert_eq!((w.completion.good(), w.completion.bad()), (97_899, 65_400));
    assert_eq!(w.stability, (1 << 31) + (1 << 25));
}

#[test]
fn fraud_halves_history() {
    let p = Params::default();
    let (mut w, path) = Reference { cheat: 0 }.run();
    let before = w.indicators(&p).history.bits();
    let mut e = WorkerEpoch::default();
    e.proven_fraud();
    w.close_epoch(&p, &e);
    assert_eq!(w.indicators(&p).history.bits(), before / 2);
    assert!(bits(&w) < path[STEADY] * 51 / 100);
}

#[test]
fn the_encoding_is_pinned() {
    let p = Params::default();
    let (w, _) = Reference { cheat: 5 }.run();
    assert_eq!(w.to_bytes().len(), 28);
    assert_eq!(WorkerTrust::from_bytes(&w.to_bytes()), Ok(w));
    let e = Reference { cheat: 5 }.epoch();
    assert_eq!(WorkerEpoch::from_bytes(&e.to_bytes()), Ok(e));
    let hash = |b: [u8; 32]| dn_core::Hash32(b).to_string();
    assert_eq!(
        hash(WorkerTrust::newcomer(&p).keccak()),
        "0x48db6837ca616f3983b34b04f177bfec74ac53c44fc715cb297b40c49a08d514"
    );
    assert_eq!(hash(w.keccak()), "0x8cd6829729547f149703e99ff723ace5e04217c4c867332bb0aeaa0805576e4d");
    assert_eq!(hash(e.keccak()), "0x4d822c365460be16db28cfdac4b30cbd7323a87d4ee3d41e671a8dc343349975");
    assert_eq!(hash(p.keccak()), "0xcfbe3cc366d36ae0e7f72a5eab2a39c38173de709797f77878fbfb53c820ec3f");
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Completed(u64),
    Failed(u64),
    Passed(u64),
    AuditFailed(u64),
    Fraud,
    Online,
    Offline,
    Latency(u64, u32, u32),
}

fn add(e: &mut WorkerEpoch, event: Event) {
    let w = Weight::from_bits;
    match event {
        Event::Completed(x) => e.completed(w(x)),
        Event::Failed(x) => e.failed(w(x)),
        Event::Passed(x) => e.audit_passed(w(x)),
        Event::AuditFailed(x) => e.audit_failed(w(x)),
        Event::Fraud => e.proven_fraud(),
        Event::Online => e.online(),
        Event::Offline => e.offline(),
        Event::Latency(x, median, own) => e.latency(w(x), median, own),
    }
}

fn epoch_of(events: &[Event]) -> WorkerEpoch {
    let mut e = WorkerEpoch::default();
    events.iter().for_each(|x| add(&mut e, *x));
    e
}

fn weight() -> impl Strategy<Value = u64> {
    prop_oneof![1..100u64, 1..20 * UNIT, any::<u64>()]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        weight().prop_map(Event::Completed),
        weight().prop_map(Event::Failed),
        weight().prop_map(Event::Passed),
        weight().prop_map(Event::AuditFailed),
        Just(Event::Fraud),
        Just(Event::Online),
        Just(Event::Offline),
        (weight(), any::<u32>(), any::<u32>()).prop_map(|(w, m, o)| Event::Latency(w, m, o)),
    ]
}

fn life() -> impl Strategy<Value = Vec<Vec<Event>>> {
    prop::collection::vec(prop::collection::vec(event(), 0..5), 0..10)
}

fn live(life: &[Vec<Event>]) -> WorkerTrust {
    let p = Params::default();
    let mut w = WorkerTrust::newcomer(&p);
    life.iter().for_each(|events| w.close_epoch(&p, &epoch_of(events)));
    w
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn trust_stays_in_bounds(life in life()) {
        let p = Params::default();
        let t = live(&life).weight(&p);
        prop_assert!(t.value() >= p.trust_min && t <= Trust::ONE);
    }

    #[test]
    fn the_order_of_events_does_not_matter(
        (a, b) in prop::collection::vec(event(), 0..20).prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
    ) {
        prop_assert_eq!(epoch_of(&a), epoch_of(&b));
    }

    /// One more good event, at any time, of any size, never lowers trust, then or later.
    #[test]
    fn monotone_in_every_good_event(life in life(), w in weight(), kind in 0..4, pick: prop::sample::Index) {
        let good = match kind {
            0 => Event::Completed(w),
            1 => Event::Passed(w),
            2 => Event::Online,
            _ => Event::Latency(w, 1, 1),
        };
        prop_assume!(!life.is_empty());
        let mut better = life.clone();
        better[pick.index(life.len())].push(good);
        prop_assert!(bits(&live(&better)) >= bits(&live(&life)), "{good:?}");
    }

    /// Catching up on idle epochs at once gives the bits that closing each of them gives.
    #[test]
    fn idle_epochs_can_be_closed_together(life in life(), epochs in prop_oneof![0..500u64, Just(20_000)]) {
        let p = Params::default();
        let (mut one, mut all) = (live(&life), live(&life));
        (0..epochs).for_each(|_| one.close_epoch(&p, &WorkerEpoch::default()));
        all.close_idle_epochs(&p, epochs);
        prop_assert_eq!(one, all);
    }

    #[test]
    fn no_bad_event_raises_trust(life in life(), w in weight(), kind in 0..4, pick: prop::sample::Index) {
        let bad = match kind {
            0 => Event::Failed(w),
            1 => Event::AuditFailed(w),
            2 => Event::Offline,
            _ => Event::Fraud,
        };
        prop_assume!(!life.is_empty());
        let mut worse = life.clone();
        worse[pick.index(life.len())].push(bad);
        prop_assert!(bits(&live(&worse)) <= bits(&live(&life)), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Cheating in bursts: splitting gains at most 0.1 % of what honest work of the same size would have earned. (The part above
    /// 1.001 times its own earnings is the slower fall of small identities from a newcomer's history to a lower one.)
    #[test]
    fn splitting_a_bursting_cheater_gains_little(
        work in UNIT / 4..32 * UNIT, k in 2..=20u64, period in 2..200usize, burst in 1..100usize,
    ) {
        prop_assume!(burst < period);
        let p = Params::default();
        let run = |work: u64, burst: usize| {
            let mut w = WorkerTrust::newcomer(&p);
            let mut earned = 0u128;
            for n in 0..1000 {
                let mut e = WorkerEpoch::default();
                e.completed(Weight::from_bits(work));
                e.online();
                if n % period < burst {
                    e.audit_failed(Weight::from_bits(work));
                } else {
                    e.audit_passed(Weight::from_bits(work));
                    earned += u128::from(work) * u128::from(bits(&w));
                }
                w.close_epoch(&p, &e);
            }
            earned
        };
        let (one, many) = (run(work, burst), u128::from(k) * run(work / k, burst));
        let honest = run(work, 0);
        prop_assert!(many <= one + honest / 1000, "{} of {} of {}", many, one, honest);
    }
}
