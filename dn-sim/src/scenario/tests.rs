use proptest::prelude::*;

use super::*;

const LEAST: &str = "name = 't'\nattacks = [{ kind = 'junk' }]\n";

fn with(lines: &str) -> String {
    format!("{LEAST}{lines}\n")
}

fn error(text: &str) -> String {
    Scenario::from_toml(text).expect_err("refused").to_string()
}

#[test]
fn the_least_scenario_has_the_defaults() {
    let least = Scenario::from_toml(LEAST).expect("allowed");
    let all = Scenario::from_toml(&defaults()).expect("the printed defaults are a scenario");
    assert_eq!(Scenario { name: "defaults".into(), ..least }, all);
}

#[test]
fn errors_say_where_and_what_is_allowed() {
    for (lines, want) in [
        ("[workers]\ncuont = 3", "workers.cuont: unknown field `cuont`"),
        ("[workers]\ncount = 0", "workers.count: 0 is out of range; it must be from 2 to 100000"),
        ("[workers]\ncount = -1", "workers.count: invalid value: integer `-1`"),
        ("[workers]\nuptime = 1.5", "workers.uptime: 1.5 is out of range; it must be from 0 to 1"),
        ("[workers]\nuptime = nan", "workers.uptime: NaN is out of range"),
        (
            "[workers]\npower = { kind = 'uniform', min = 3, max = 2 }",
            "workers.power.max: 2 is out of range; it must be from 3 to 1000000",
        ),
        (
            "[workers]\nquality = { kind = 'choice', values = [0.1, 0.9], chances = [0.5, 0.4] }",
            "workers.quality: the chances add up to 0.9; they must add up to 1",
        ),
        (
            "[workers]\nquality = { kind = 'choice', values = [0.1], chances = [] }",
            "workers.quality: 1 values and 0 chances",
        ),
        (
            "[workers]\npower = { kind = 'cauchy' }",
            "workers.power: unknown variant `cauchy`, expected one of `uniform`",
        ),
        ("[workers]\npower = { kind = 'normal', mean = 1 }", "workers.power: missing field `deviation`"),
        ("[workers]\npower = 'big'", "workers.power: invalid type: string, expected a number or a table"),
        ("[powr.audit]\nfloor = 9000", "powr.audit: the audit rate of newcomers (5000"),
        ("[powr.slash]\nfraud = 1", "powr.slash: `fraud` is unknown; known: "),
        ("[rewards]\nworkers = -5.0", "rewards.workers: -5 is out of range"),
        ("[rewards]\nworkers = 1e300", "rewards.workers: 1000"),
        ("[seeds]\ncount = 0", "seeds.count: 0 is out of range; it must be from 1 to 10000"),
        ("[review]\ncommittee = 21", "review.committee: 21 is out of range; it must be from 1 to 20"),
        ("[powr.trust]\nepoch_cap = 1", "powr.trust: epoch_cap is 1; it must be from 4096 to 8388608"),
        ("[powr.trust]\nhistory = 1", "powr.trust: `history` is unknown; known: average_rate, average_start"),
        ("[powr.trust]\nepoch_cap = 'x'", "powr.trust.epoch_cap: invalid type: string"),
        ("[powr.slash]\nreporter = 9000", "powr.slash"),
        ("[population]\nsnapshot = 3", "population.snapshot: invalid type: integer `3`"),
    ] {
        let found = error(&with(lines));
        assert!(found.starts_with(want), "{lines}:\n  {found}\n  expected {want}");
    }
}

#[test]
fn errors_of_attacks_name_the_attack() {
    for (attacks, want) in [
        ("[]", "attacks: the list has 0 entries; it must have from 1 to 1000"),
        ("[{ kind = 'jnuk' }]", "attacks[0]: unknown attack `jnuk`; known: junk, "),
        (
            "[{ kind = 'junk', rate = 1 }]",
            "attacks[0]: the attack `junk` has no parameter `rate`; it has stake, rebond, workers",
        ),
        (
            "[{ kind = 'junk', stake = 0.99 }]",
            "attacks[0].stake: 0.99 is out of range; it must be from 0 to 0.9",
        ),
        ("[{ kind = 'sybil', identities = 2.5 }]", "attacks[0].identities: 2.5 must be a whole number"),
        ("[{ kind = 'junk' }, { kind = 'junk' }]", "attacks: `junk` is there twice"),
        ("3", "attacks: invalid type: integer `3`"),
    ] {
        let found = error(&format!("name = 't'\nattacks = {attacks}"));
        assert!(found.starts_with(want), "{attacks}:\n  {found}\n  expected {want}");
    }
    let small = "name = 't'\nworkers.count = 2\nattacks = [{ kind = 'junk', workers = 0.9 }]";
    assert!(
        error(small).starts_with("attacks[0]: the attackers would be 2 of 2 workers"),
        "{}",
        error(small)
    );
}

#[test]
fn documents_that_are_none() {
    assert!(error("name = ").starts_with("line 1: "));
    assert!(error("x").starts_with("line 1: "));
    assert_eq!(
        error(&" ".repeat(MAX_BYTES + 1)),
        format!("the document has {} bytes; at most {MAX_BYTES} are read", MAX_BYTES + 1)
    );
    assert!(error("name = '../x'\nattacks = [{ kind = 'junk' }]").starts_with("name: `../x` must be"));
    assert!(error("attacks = []").contains("missing field `name`"));
}

#[test]
fn sweeps_set_any_value() {
    let value = |v: i64| toml::Value::Integer(v);
    let text = Scenario::with_value(LEAST, "powr.trust.history_gain", &value(512)).expect("allowed");
    let scenario = Scenario::from_toml(&text).expect("allowed");
    assert_eq!(scenario.powr.trust_params().expect("allowed").history_gain, 512);
    let found = Scenario::with_value(LEAST, "name.x", &value(1)).expect_err("refused").to_string();
    assert_eq!(found, "name.x: the path leads through a value that is no table");
    let found = Scenario::with_value(LEAST, "workers.count", &value(1)).expect_err("refused").to_string();
    assert!(found.starts_with("workers.count: 1 is out of range"), "{found}");
    let stake = toml::Value::Float(0.25);
    let text = Scenario::with_value(LEAST, "attacks[0].stake", &stake).expect("allowed");
    assert_eq!(Scenario::from_toml(&text).expect("allowed").attacks[0].level(), "stake=0.25");
    for path in [
        "attacks[1].stake",
        "attacks[x].stake",
        "attacks[00].stake",
        "attacks[+0].stake",
        "attacks[].stake",
        "attacks[0]",
        "attacks[0.stake",
        "policies[0].x",
        "seeds[0].count",
    ] {
        let found = Scenario::with_value(LEAST, path, &stake).expect_err("refused").to_string();
        assert!(found.starts_with(&format!("{path}: ")) || path == "attacks[0.stake", "{found}");
    }
}

/// A document of a megabyte has no error of a megabyte, and no path builds tables that overflow the stack.
#[test]
fn errors_are_short_and_lists_too() {
    let long = "x".repeat(500_000);
    for text in [
        with(&format!("{long} = 1")),
        with(&format!("powr.trust.{long} = 1")),
        with(&format!("policies = ['{long}', '{long}']")),
        format!("name = '{long}'\nattacks = [{{ kind = 'junk' }}]"),
        format!("name = 't'\nattacks = [{{ kind = '{long}' }}]"),
        format!("name = 't'\nattacks = [{{ kind = 'junk', {long} = 1 }}]"),
        format!("a{} = 1", ".a".repeat(500_000)),
    ] {
        let found = error(&text);
        assert!(found.len() < 2_000, "{} bytes: {}…", found.len(), &found[..200]);
    }
    let many: String =
        (1..=1_001).map(|n| format!("{{ kind = 'junk', stake = {} }}, ", n as f64 / 1e4)).collect();
    let found = error(&format!("name = 't'\nattacks = [{many}]"));
    assert_eq!(found, "attacks: the list has 1001 entries; it must have from 1 to 1000");
    let deep = format!("a{}", ".a".repeat(50_000));
    let found =
        Scenario::with_value(LEAST, &deep, &toml::Value::Integer(1)).expect_err("refused").to_string();
    assert!(found.ends_with("…: the path has more parts than that of any value"), "{found}");
}

proptest! {
    /// Whatever the text: a scenario or an error, and what is a scenario can be written and read again.
    #[test]
    fn any_text(text in "\\PC*", lines in prop::collection::vec("(name|workers|count|attacks|kind|=|\\{|\\}|\\[|\\]|'t'|3|0.5|,|\\.| |\n)", 0..40)) {
        let _ = Scenario::from_toml(&text);
        let _ = Scenario::from_toml(&lines.concat());
        let _ = Scenario::from_toml(&with(&lines.concat()));
    }

    #[test]
    fn draws_stay_in_the_range_of_the_trait(
        a in 0.0..1.0f64, b in 0.0..1.0f64, seed: u64, kind in 0..4usize,
    ) {
        let (low, high) = (a.min(b), a.max(b));
        let shape = match kind {
            0 => Shape::Uniform { min: low, max: high },
            1 => Shape::Normal { mean: low, deviation: high },
            2 => Shape::Lognormal { median: high.max(1e-9), sigma: 5.0 * low },
            _ => Shape::Pareto { min: high.max(1e-9), alpha: 0.1 + low },
        };
        let distribution = Distribution::Shape(shape);
        prop_assume!(distribution.check("x", UNIT).is_ok());
        let mut stream = crate::rng::Stream::new(seed, crate::rng::Purpose::Population, (0, 0));
        for _ in 0..100 {
            prop_assert!((0.0..=1.0).contains(&distribution.draw(&mut stream, UNIT)));
        }
    }
}
