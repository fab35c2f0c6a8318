//! Studies as a researcher runs them: the same for any number of threads, resumable after a kill, and what they find.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use dn_core::keccak256;
use dn_sim::attack::{AttackSpec, Group, Honest, Kind};
use dn_sim::outcome::Cell;
use dn_sim::policy::{self, Epoch, Payment, Policy};
use dn_sim::scenario::Scenario;
use dn_sim::study::{FORMULAS, Store, StoreError, Study, StudyError};
use dn_sim::world::Simulation;

/// Small and quick, with every kind of attack, voters among them.
fn scenario(epochs: u32, seeds: u32, attacks: &str) -> Scenario {
    let text = format!(
        "name = 'test'\nwarmup = 20\nepochs = {epochs}\nseeds = {{ first = 3, count = {seeds} }}\nattacks = [{attacks}]\n\
         [workers]\ncount = 12\n[validators]\ncount = 8\n[review]\ncommittee = 5\n"
    );
    Scenario::from_toml(&text).expect("allowed")
}

const ATTACKS: &str = "{ kind = 'junk', stake = 0.3 }, { kind = 'cheaper-model', rate = 0.2 }, { kind = 'sybil', identities = 5 }, \
                       { kind = 'milk-whitewash', build = 5 }, { kind = 'adaptive', candidates = 3 }";

fn study(scenario: Scenario) -> Study {
    Study::new(scenario).expect("allowed")
}

fn run(study: &Study, threads: usize) -> Vec<Cell> {
    study.run(threads, None, &|_| true).expect("runs")
}

fn digest(cells: &[Cell]) -> String {
    let bytes = serde_json::to_vec(cells).expect("numbers and strings");
    keccak256(&[&bytes]).iter().map(|b| format!("{b:02x}")).collect()
}

/// Every built-in policy and attack, and every key that is off by default.
fn everything() -> Scenario {
    let attacks: Vec<_> = Kind::ALL
        .map(|kind| match kind {
            Kind::Adaptive => "{ kind = 'adaptive', candidates = 3 }".to_owned(),
            Kind::MilkWhitewash => "{ kind = 'milk-whitewash', build = 5 }".to_owned(),
            kind => format!("{{ kind = '{}' }}", kind.name()),
        })
        .into();
    let mut scenario = scenario(12, 1, &attacks.join(", "));
    scenario.policies.extend(["yuma1", "yuma2", "yuma3-audits"].map(String::from));
    scenario.workers.drift = 0.01;
    scenario.workers.honesty = dn_sim::scenario::Distribution::Constant(0.99);
    scenario.rewards.job_bond = 0.5;
    scenario.check().expect("allowed");
    scenario
}

/// When this fails because results were meant to change, the new digest goes into [`FORMULAS`]: stores of older runs are then refused instead of mixed
/// with new ones.
#[test]
fn any_number_of_threads_gives_the_same_bits_and_they_are_pinned() {
    let study = study(everything());
    let one = run(&study, 1);
    assert_eq!(one.len(), 10 * 17);
    for threads in [2, 7] {
        assert_eq!(digest(&one), digest(&run(&study, threads)), "{threads} threads");
    }
    // The same on every machine.
    assert_eq!(
        digest(&one),
        FORMULAS,
        "results changed: if they should, this is the new dn_sim::study::FORMULAS"
    );
}

/// The epochs before an attack are played once for all attacks where the policy can be copied, and for each where it cannot.
#[test]
fn policies_that_cannot_be_copied_find_the_same() {
    struct Alone(Box<dyn Policy>);
    impl Policy for Alone {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn join(&mut self, worker: usize) {
            self.0.join(worker);
        }
        fn routing(&self, worker: usize) -> f64 {
            self.0.routing(worker)
        }
        fn voice(&self, validator: usize, stake: f64) -> f64 {
            self.0.voice(validator, stake)
        }
        fn audit_rate(&self, worker: usize) -> f64 {
            self.0.audit_rate(worker)
        }
        fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
            self.0.close(epoch, payment);
        }
    }
    let build = |name: &str, s: &Scenario| policy::build(name, s).expect("known").expect("allowed");
    let scenario = everything();
    let mut study = study(scenario.clone());
    for name in scenario.policies.clone() {
        assert!(build(&name, &scenario).fork().is_some(), "{name}");
        study.policy(&name.clone(), move |s| Box::new(Alone(build(&name, s))));
    }
    assert_eq!(digest(&run(&study, 2)), FORMULAS);
}

#[test]
fn a_stopped_study_goes_on_where_it_was() {
    let whole = run(&study(scenario(10, 2, ATTACKS)), 2);
    let folder = tempfile::tempdir().expect("a folder");
    let study = study(scenario(10, 2, ATTACKS));
    let mut starts = 0;
    let cells = loop {
        starts += 1;
        let mut store = Store::open(folder.path(), "study 1", FORMULAS).expect("opens");
        let runs = AtomicUsize::new(0);
        // Each time some runs, then the plug.
        match study.run(2, Some(&mut store), &|_| runs.fetch_add(1, Ordering::Relaxed) < 9) {
            Ok(cells) => break cells,
            Err(StudyError::Stopped { done, total }) => assert!(done < total),
            Err(other) => panic!("{other}"),
        }
        // The line that was being written is torn.
        let path = folder.path().join("runs.jsonl");
        let text = fs::read(&path).expect("there");
        fs::write(&path, &text[..text.len() - 40]).expect("writes");
    };
    assert!(starts > 3, "{starts}");
    assert_eq!(digest(&cells), digest(&whole));
    let again = Store::open(folder.path(), "study 1", FORMULAS).expect("opens");
    assert_eq!(again.cells().len(), whole.len());
}

/// What the search found is known after an interruption, and after going on from it without searching again.
#[test]
fn what_adaptive_attackers_found_survives_a_stop() {
    let attacks = "{ kind = 'adaptive', candidates = 3 }";
    let mut scenario = scenario(10, 2, attacks);
    scenario.policies = ["powr", "work", "stake"].map(String::from).into();
    let whole = study(scenario.clone());
    run(&whole, 1);
    assert_eq!(whole.found().len(), 3);
    let folder = tempfile::tempdir().expect("a folder");
    for finished in 1..=6 {
        let study = study(scenario.clone());
        let mut store = Store::open(folder.path(), "study 1", FORMULAS).expect("opens");
        let result = study.run(1, Some(&mut store), &|now| now.done == now.resumed);
        assert_eq!(matches!(result, Err(StudyError::Stopped { .. })), finished < 6, "{result:?}");
        assert_eq!(study.found().len(), finished.min(3), "one more policy at each start");
        assert!(study.found().iter().all(|found| whole.found().contains(found)));
    }
}

#[test]
fn a_store_of_other_formulas_is_refused_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Store::open(folder.path(), "study 1", "other formulas").expect("opens"));
    let error = Store::open(folder.path(), "study 1", FORMULAS).expect_err("other formulas");
    assert!(matches!(&error, StoreError::Formulas { found, .. } if found == "other formulas"), "{error}");
    let text = error.to_string();
    assert!(text.contains(FORMULAS) && text.contains("another folder"), "{text}");
    assert!(Store::open(folder.path(), "study 1", "other formulas").expect("still there").cells().is_empty());
    // A store from before they had a digest.
    fs::write(folder.path().join("runs.jsonl"), "{\"study\":\"study 1\"}\n").expect("writes");
    let error = Store::open(folder.path(), "study 1", FORMULAS).expect_err("older");
    assert!(matches!(&error, StoreError::Formulas { found, .. } if found.is_empty()), "{error}");
}

#[test]
fn a_store_of_another_study_or_with_garbage_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Store::open(folder.path(), "study 1", FORMULAS).expect("opens"));
    let path = folder.path().join("runs.jsonl");
    let other = Store::open(folder.path(), "study 2", FORMULAS).expect_err("another study");
    assert!(matches!(other, StoreError::Other { .. }), "{other}");
    let mut text = fs::read_to_string(&path).expect("there");
    text.push_str("{\"key\": 3}\n");
    fs::write(&path, &text).expect("writes");
    let wrong = Store::open(folder.path(), "study 1", FORMULAS).expect_err("garbage").to_string();
    assert!(wrong.contains("line 2: "), "{wrong}");
    assert_eq!(fs::read_to_string(&path).expect("there"), text);
    fs::write(&path, "").expect("writes");
    assert!(
        Store::open(folder.path(), "study 2", FORMULAS)
            .expect("an empty file is a new store")
            .cells()
            .is_empty()
    );
}

#[test]
fn who_behaves_gains_nothing_and_loses_nothing() {
    let mut study = study(scenario(25, 2, "{ kind = 'junk' }"));
    study.attacker("nobody", Group::new(0.25, 0.3), || Box::new(Honest));
    for cell in run(&study, 2).iter().filter(|cell| cell.key.attack == "nobody") {
        let m = &cell.metrics;
        assert_eq!((m.gain, m.net_gain, m.honest_loss), (Some(1.0), Some(1.0), Some(0.0)), "{:?}", cell.key);
        assert_eq!(m.attacker_share, m.twin_share);
        assert_eq!(m.detection_epochs, None);
    }
}

#[test]
fn no_policy_pays_more_than_the_pots() {
    let scenario = scenario(25, 1, "{ kind = 'cabal' }");
    let (group, script) = AttackSpec::new(Kind::Cabal).build();
    let pot = scenario.rewards.workers + scenario.rewards.validators;
    for name in ["powr", "yuma1", "yuma2", "yuma3", "yuma3-canaries", "eigentrust", "work", "stake"] {
        let mut policy = policy::build(name, &scenario).expect("known").expect("allowed");
        let run = Simulation::new(&scenario, 5).with_group(group);
        let run = run.run(&mut script.clone(), policy.as_mut()).expect("runs");
        assert_eq!(run.total.len(), 45);
        for (total, group) in run.total.iter().zip(&run.group) {
            assert!(*total <= pot * (1.0 + 1e-12) && *group <= *total, "{name}: {group} of {total}");
        }
        assert!(run.total[10..].iter().all(|total| *total > 0.0), "{name} pays nobody");
        assert!(run.group_stake.iter().chain(&run.group_trust).all(|x| (0.0..=1.0).contains(x)), "{name}");
    }
}

/// The shape of the findings in docs/economics.md, on a network small enough for every test run.
#[test]
fn what_powr_punishes_and_work_alone_does_not() {
    let attacks = "{ kind = 'junk', stake = 0.3 }, { kind = 'cheaper-model', rate = 0.2 }, { kind = 'cabal', stake = 0.3 }, \
                   { kind = 'weight-copying' }";
    let mut scenario = scenario(80, 3, attacks);
    scenario.warmup = 60;
    let cells = run(&study(scenario), 2);
    let mean = |policy: &str, attack: &str| {
        let of = cells.iter().filter(|c| c.key.policy == policy && c.key.attack == attack);
        let gains: Vec<_> = of
            .map(|c| c.metrics.worker_gain.or(c.metrics.validator_gain).expect("earned in the twin"))
            .collect();
        gains.iter().sum::<f64>() / gains.len() as f64
    };
    for attack in ["junk", "cheaper-model", "cabal"] {
        assert!(mean("powr", attack) < 0.2, "{attack}: {}", mean("powr", attack));
        assert_eq!(mean("work", attack), 1.0, "{attack}");
    }
    assert!(mean("powr", "weight-copying") < 0.7, "{}", mean("powr", "weight-copying"));
    assert!(mean("yuma3", "weight-copying") > 0.95, "copying pays under Yuma");
}

#[test]
fn a_policy_that_pays_nonsense_is_an_error_that_names_it() {
    struct Bad(f64, f64);
    impl Policy for Bad {
        fn name(&self) -> &str {
            "bad"
        }
        fn close(&mut self, epoch: &Epoch, payment: &mut Payment) {
            if epoch.number == 3 {
                payment.workers[2] = self.0;
                payment.part = self.1;
            }
        }
    }
    for (points, part) in [(f64::NAN, 1.0), (-1.0, 1.0), (f64::INFINITY, 1.0), (1.0, 1.5), (1.0, f64::NAN)] {
        let mut study = study(scenario(5, 1, "{ kind = 'junk' }"));
        study.policy("bad", move |_| Box::new(Bad(points, part)));
        let error = study.run(2, None, &|_| true).expect_err("nonsense").to_string();
        assert!(error.contains("`bad`") && error.contains("epoch 3"), "{error}");
    }
}

/// Workers that are only partly honest lose under PoWR without any attack; nobody else can tell.
#[test]
fn dishonest_populations_are_seen() {
    let mut half = scenario(80, 1, "{ kind = 'junk' }");
    half.workers.honesty = dn_sim::scenario::Distribution::Constant(0.5);
    let whole = scenario(80, 1, "{ kind = 'junk' }");
    let trust = |scenario: &Scenario, name: &str| {
        let mut policy = policy::build(name, scenario).expect("known").expect("allowed");
        let group = AttackSpec::new(Kind::Junk).build().0;
        let run = Simulation::new(scenario, 5).with_group(group);
        let run = run.run(&mut Honest, policy.as_mut()).expect("runs");
        (*run.honest_trust.last().expect("epochs"), run.user_quality)
    };
    let ((low, worse), (high, better)) = (trust(&half, "powr"), trust(&whole, "powr"));
    assert!(low < high / 10.0, "{low} {high}");
    assert!(worse < better);
    assert_eq!(trust(&half, "work").0, trust(&whole, "work").0);
}

/// Buying one's own work never pays under PoWR, however the fee is written: as the network's price or as the worker's.
#[test]
fn wash_work_does_not_pay_at_any_price() {
    for (network, own) in [(20.0, 1.0), (2_000.0, 0.01), (400.0, 1.0), (40.0, 5.0)] {
        let mut scenario = scenario(60, 2, "{ kind = 'wash-work', workers = 0.2 }");
        scenario.rewards.price = network;
        scenario.workers.price = dn_sim::scenario::Distribution::Constant(own);
        scenario.policies = vec!["powr".into()];
        for cell in run(&study(scenario), 2) {
            assert!(cell.metrics.gain.expect("earned") <= 1.0, "{network} {own}: {:?}", cell.metrics);
        }
    }
}

/// Where the group is paid nothing by behaving there is nothing to compare with, and no gate is met or missed.
#[test]
fn nothing_to_compare_with_is_absent() {
    let mut scenario = scenario(5, 1, "{ kind = 'junk' }, { kind = 'sybil' }");
    scenario.workers.uptime = dn_sim::scenario::Distribution::Constant(0.0);
    let cells = run(&study(scenario), 1);
    assert!(cells.iter().filter(|c| c.key.policy == "work").all(|c| c.metrics.worker_gain.is_none()));
    assert!(cells.iter().filter(|c| c.key.attack == "sybil").all(|c| c.metrics.gain.is_none()));
    assert!(dn_sim::study::gates(&cells).iter().all(|gate| !gate.name.starts_with("sybil")));
}
