use std::io::Cursor;

use super::*;
use dn_trust::{
    ModelEpoch, ModelTrust, Params, ValidatorEpoch, ValidatorTrust, Weight, WorkerEpoch, WorkerTrust,
};

mod any;
mod baselines;

fn ask(op: &str, input: Value) -> Value {
    serde_json::from_str(&answer(&json!({"id": [1], "op": op, "in": input}).to_string())).expect("JSON")
}

fn out(op: &str, input: Value) -> Value {
    let mut answer = ask(op, input);
    assert_eq!(answer["id"], json!([1]));
    assert_eq!(answer.get("error"), None);
    answer["out"].take()
}

fn error(op: &str, input: Value) -> String {
    let answer = ask(op, input);
    assert_eq!(answer.get("out"), None);
    answer["error"].as_str().expect("a text").to_owned()
}

#[test]
fn a_worker_s_trust_is_the_library_s() {
    let p = Params::default();
    let mut w = WorkerTrust::newcomer(&p);
    let mut e = WorkerEpoch::default();
    e.completed(Weight::ONE);
    e.failed(Weight::from_bits(1 << 15));
    e.audit_passed(Weight::of_work(&p, 3));
    e.latency(Weight::ONE, 900, 1000);
    e.online();
    w.close_epoch(&p, &e);
    let mut f = WorkerEpoch::default();
    f.completed(Weight::from_bits(3 << 15));
    f.proven_fraud();
    (0..98).for_each(|_| f.online());
    (0..2).for_each(|_| f.offline());
    let first = w;
    w.close_epoch(&p, &f);
    let got = out(
        "trust",
        json!({"role": "worker", "epochs": [
            ["completed", {"event": "failed", "weight": "0.5"}, {"event": "audit_passed", "work": "3"},
             {"event": "latency", "own_ms": 1000, "class_median_ms": 900}, {"event": "online"}],
            {"completed": 1.5, "proven_fraud": 1, "online": 98, "offline": "2"},
        ]}),
    );
    assert_eq!(got["epochs"][0]["weight_q32"], json!(first.weight(&p).value().bits()));
    assert_eq!(got["epochs"][1], got["final"]);
    let i = w.indicators(&p);
    let bits = json!({
        "completion": i.completion.bits(), "accuracy": i.accuracy.bits(), "stability": i.stability.bits(),
        "speed": i.speed.bits(), "history": i.history.bits(),
    });
    assert_eq!(got["final"]["indicators_q32"], bits);
    // Every digit: the number times 2^32 is the bits again.
    let weight = got["final"]["weight"].as_f64().expect("number") * 4_294_967_296.0;
    assert_eq!(weight, w.weight(&p).value().bits() as f64);
    assert_eq!(got["start"]["indicators"]["history"], json!(0.125));
}

#[test]
fn validators_and_models_are_the_library_s() {
    let p = Params { history_gain: 512, ..Params::default() };
    let mut v = ValidatorTrust::newcomer(&p);
    let mut e = ValidatorEpoch::default();
    e.aligned(Weight::ONE);
    e.misaligned(Weight::ONE);
    e.timely(Weight::ONE);
    e.missed(Weight::ONE);
    e.canary_passed(Weight::ONE);
    e.canary_failed(Weight::from_bits(1 << 14));
    e.proven_fraud();
    v.close_epoch(&p, &e);
    let epoch = json!({"aligned": 1, "misaligned": 1, "timely": 1, "missed": 1, "canary_passed": 1, "canary_failed": 0.25, "proven_fraud": 1});
    let got = out("trust", json!({"role": "validator", "params": {"history_gain": 512}, "epochs": [epoch]}));
    assert_eq!(got["final"]["weight_q32"], json!(v.weight(&p).value().bits()));
    assert_eq!(got["final"]["indicators_q32"]["history"], json!(v.indicators(&p).history.bits()));

    let p = Params::default();
    let mut m = ModelTrust::newcomer(&p);
    let mut e = ModelEpoch::default();
    e.succeeded(Weight::from_bits(2 << 16), 2_000_000_000_000);
    e.failed(Weight::ONE);
    e.liked(Weight::ONE);
    e.disliked(Weight::ONE);
    e.audit_passed(Weight::ONE);
    e.audit_failed(Weight::ONE);
    m.close_epoch(&p, &e, 4_000_000_000_000);
    let epoch = json!([{"event": "succeeded", "work": 2_000_000_000_000u64}, "failed", "liked", "disliked", "audit_passed", "audit_failed"]);
    let got = out("trust", json!({"role": "model", "class_median_work": "4000000000000", "epochs": [epoch]}));
    assert_eq!(got["final"]["indicators_q32"]["demand"], json!(m.indicators(&p).demand.bits()));
    assert_eq!(got["final"]["weight_q32"], json!(m.weight(&p).value().bits()));
}

#[test]
fn a_population_by_hand() {
    // The example of docs/economics.md: 100 over 3, 3, 1.
    let node = |id: Value, work: u64| json!({"id": id, "work": work, "quality": 1, "trust": 1});
    let got = out(
        "powr",
        json!({"pot": "100", "nodes": [node(json!("b"), 3), node(json!("a"), 3), node(json!(7), 1)]}),
    );
    let paid: Vec<_> = (0..3).map(|i| got["nodes"][i]["payout"].as_str().expect("text").to_owned()).collect();
    assert_eq!(paid, ["43", "43", "14"]);
    assert_eq!(
        (&got["total_score"], &got["paid"], &got["carried_over"]),
        (&json!("7"), &json!("100"), &json!("0"))
    );

    // Weights 1, 2, 3, 2 at 10, 40, 60, 90 %: half, a quarter and three quarters as in docs/economics.md. Stakes are cut to 3.
    let vote = |score: f64, stake: u64| json!({"score": score, "stake": stake, "trust": 1});
    let votes = json!([vote(0.9, 2), vote(0.1, 1), vote(0.6, 1000), {"score": "0.4", "weight": 2}]);
    let nodes = json!([{"id": 1, "work": "1000", "votes": votes, "history": []}]);
    let got = out("powr", json!({"pot": 5, "stake_cap": 3, "nodes": nodes}));
    let node = &got["nodes"][0];
    let near = |x: &Value, y: f64| (x.as_f64().expect("number") - y).abs() < 1e-9;
    assert!(near(&node["consensus"]["low"], 0.4) && near(&node["consensus"]["high"], 0.6), "{node}");
    assert!(near(&node["quality"], 0.6));
    let newcomer = WorkerTrust::newcomer(&Params::default()).weight(&Params::default());
    assert_eq!(node["trust_q32"], json!(newcomer.value().bits()));
    assert_eq!(node["payout"], json!("5"));
    let got = out(
        "powr",
        json!({"pot": 5, "quality_cap": 0.25, "nodes": [{"id": 1, "work": 8, "quality": 1, "trust": 0.5}, {"id": 2, "work": 0, "quality": 1, "trust": 1}]}),
    );
    assert_eq!((&got["nodes"][0]["score"], &got["nodes"][1]["payout"]), (&json!("1"), &json!("0")));
    let got = out("powr", json!({"pot": "340282366920938463463374607431768211455", "nodes": []}));
    assert_eq!(got["carried_over"], json!("340282366920938463463374607431768211455"));
}

/// Decimals count as they are written: none loses a whole point to the multiple of 2^-32 below it. Amounts may be numbers.
#[test]
fn decimals_are_what_they_say() {
    let node = |id: &str, quality: f64| json!({"id": id, "work": 10, "quality": quality, "trust": 1});
    let got = out("powr", json!({"pot": "100", "nodes": [node("a", 0.1), node("b", 0.3), node("c", 0.7)]}));
    let scores: Vec<_> = got["nodes"].as_array().unwrap().iter().map(|node| &node["score"]).collect();
    assert_eq!(scores, ["1", "3", "7"]);
    assert_eq!(out("split", json!({"fee_dn": 1.5})), out("split", json!({"fee": "1500000000000000000"})));
    let median = json!({"stake": [2.5e-300, 1e37], "values": [2, 1], "support": 0.51});
    assert_eq!(out("weighted_median", median), json!({"median": 1.0}));
}

#[test]
fn refusals_say_where_and_what() {
    for (op, input, says) in [
        (
            "trust",
            json!({"role": "king", "epochs": []}),
            "in.role: expected one of worker, validator, model, found \"king\"",
        ),
        ("trust", json!({"role": "worker"}), "in: the key `epochs` is missing"),
        (
            "trust",
            json!({"role": "worker", "epochs": [[], ["liked"]]}),
            "in.epochs[1][0]: expected one of completed, failed, audit_passed, audit_failed, proven_fraud, online, offline, latency, found",
        ),
        (
            "trust",
            json!({"role": "worker", "epochs": [["latency"]]}),
            "in.epochs[0][0]: expected an object: `latency` needs more than its name, found \"latency\"",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": 1, "work": 1, "quality": 1, "history": vec![json!([]); (1 << 17) + 1]}]}),
            "in.nodes[0].history: expected a list of 0 to 131072, found a list of 131073",
        ),
        (
            "trust",
            json!({"role": "worker", "epochs": [{"online": 101}]}),
            "in.epochs[0].online: expected an integer from 0 to 100, found 101",
        ),
        (
            "trust",
            json!({"role": "worker", "epochs": [{"latency": 1}]}),
            "in.epochs[0]: unknown key `latency`; known are completed",
        ),
        (
            "trust",
            json!({"role": "worker", "epochs": [[{"event": "failed", "weight": -1}]]}),
            "in.epochs[0][0].weight: expected a number from 0 to 1048576, found -1",
        ),
        (
            "trust",
            json!({"role": "worker", "epochs": [[{"event": "failed", "weight": 1, "work": 1}]]}),
            "exactly one of the keys work, weight",
        ),
        (
            "trust",
            json!({"role": "worker", "epochs": [7]}),
            "in.epochs[0]: expected a list of events, or an object",
        ),
        (
            "trust",
            json!({"role": "worker", "epochs": [], "class_median_work": 1}),
            "in.class_median_work: expected nothing, since only models",
        ),
        (
            "trust",
            json!({"role": "model", "epochs": [], "params": {"gamma": 1}}),
            "in.params: unknown key `gamma`; known are version, keep_good",
        ),
        (
            "trust",
            json!({"role": "model", "epochs": [], "params": {"keep_good": 1}}),
            "in.params: keep_good is 1; it must be from 2147483648 to 4294967295",
        ),
        (
            "powr",
            json!({"pot": 1.5, "nodes": []}),
            "in.pot: expected an integer from 0 to 340282366920938463463374607431768211455 (over 18446744073709551615 as a decimal string), found 1.5",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": 1, "work": 1, "quality": 1.01, "trust": 1}]}),
            "in.nodes[0].quality: expected a number from 0 to 1, found 1.01",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": 1, "work": 1, "trust": 1}]}),
            "in.nodes[0]: expected exactly one of the keys quality, votes",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": 1, "work": 1, "votes": [], "trust": 1}]}),
            "in.nodes[0].votes: none of the 0 votes has any weight",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": 1, "work": 1, "votes": [{"score": 1, "weight": 1, "trust": 1}], "trust": 1}]}),
            "in.nodes[0].votes[0].trust: expected nothing",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": -1, "work": 1, "quality": 1, "trust": 1}]}),
            "in.nodes[0].id: expected a string of at most 256 bytes, or an integer",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": "a", "work": 1, "quality": 1, "trust": 1}, {"id": "a"}]}),
            "in.nodes[1]: the id \"a\" came before, at in.nodes[0]",
        ),
        (
            "powr",
            json!({"pot": 1, "nodes": [{"id": 1, "work": u128::MAX.to_string(), "quality": 1, "trust": 1}, {"id": 2, "work": 1, "quality": 1, "trust": 1}]}),
            "in.nodes: the points of 2 entries add up to more than 128 bits hold",
        ),
        ("split", json!({"fee": 1, "fee_dn": "1"}), "in: expected exactly one of the keys fee, fee_dn"),
        ("split", json!({"fee_dn": "1.2.3"}), "in.fee_dn: `1.2.3` is not a decimal amount"),
        (
            "split",
            json!({"fee": 1, "shares": {"worker": 6501}}),
            "in.shares: the shares add up to 10001 basis points",
        ),
        (
            "split",
            json!({"fee": 1, "shares": {"worker": 10_001}}),
            "in.shares.worker: expected an integer from 0 to 10000, found 10001",
        ),
        ("split", json!([]), "in: expected an object, found a list of 0"),
        (
            "slpit",
            json!({}),
            "op: expected one of trust, powr, split, yuma3, weighted_median, eigentrust, found \"slpit\"",
        ),
    ] {
        let found = error(op, input);
        assert!(found.contains(says), "{found}\n  should say\n{says}");
    }
}

#[test]
fn lines_that_cannot_be_read() {
    let says = |line: &str| -> (Value, String) {
        let v: Value = serde_json::from_str(&answer(line)).expect("JSON");
        (v["id"].clone(), v["error"].as_str().expect("a text").to_owned())
    };
    assert_eq!(
        says("{\"id\": 1,"),
        (Value::Null, "not JSON at column 9: EOF while parsing a value".to_owned())
    );
    assert_eq!(says("[1]").1, "document: expected an object, found a list of 1");
    assert_eq!(
        says("{\"id\": {\"a\": 1}}"),
        (json!({"a": 1}), "document: the key `op` is missing".to_owned())
    );
    assert_eq!(says("{\"id\": 1, \"po\": 1}").1, "document: unknown key `po`; known are id, op, in");
    let deep = "[".repeat(100_000);
    assert!(says(&deep).1.starts_with("not JSON at column 128"));
    assert_eq!(out("split", json!({"fee_dn": "1.5"}))["worker"], json!("975000000000000000"));
}

fn pipe(input: &[u8]) -> Vec<Value> {
    let mut output = Vec::new();
    run(Cursor::new(input), &mut output).expect("memory");
    let text = String::from_utf8(output).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_bad_line_stops_no_other() {
    let good = r#"{"id": 1, "op": "split", "in": {"fee": 100}}"#;
    let mut input = format!("{good}\r\n\n  \nnonsense\n").into_bytes();
    input.extend_from_slice(b"\xff\xfe\n");
    input.extend_from_slice(good.as_bytes());
    let got = pipe(&input);
    assert_eq!(got.len(), 4);
    assert_eq!(got[0]["out"]["worker"], json!("65"));
    assert!(got[1]["error"].as_str().expect("text").starts_with("not JSON at column 2"));
    assert_eq!(got[2]["error"], json!("the line is not UTF-8 from byte 0 on"));
    assert_eq!(got[3], got[0]);
    assert!(pipe(b"").is_empty());
}

/// A line that never ends is not kept: it comes in pieces from a source that has no such line.
#[test]
fn a_line_that_is_too_long_is_passed_over() {
    let good = "{\"id\": 2, \"op\": \"split\", \"in\": {\"fee\": 100}}";
    let blanks = |count: usize| io::repeat(b' ').take(count as u64);
    let room = MAX_LINE - good.len();
    for (end, blank, fits) in [
        ("\n", room, true),
        ("\r\n", room, true),
        ("", room, true),
        ("\n", room + 1, false),
        ("\r\n", room + 1, false),
        ("", room + 1, false),
        ("\n", room + 2, false),
        ("\r\n", 2 * room + 5, false),
    ] {
        let line = good.as_bytes().chain(blanks(blank)).chain(end.as_bytes());
        let next = if end.is_empty() { "" } else { good };
        let mut output = Vec::new();
        run(io::BufReader::new(line.chain(next.as_bytes())), &mut output).expect("memory");
        let text = String::from_utf8(output).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let refused =
            format!("{{\"id\":null,\"error\":\"the line is too long: at most {MAX_LINE} bytes are read\"}}");
        let first = if fits { answer(good) } else { refused };
        assert_eq!(lines[0], first, "{blank} blanks and {end:?}");
        assert_eq!(lines[1..], if end.is_empty() { vec![] } else { vec![answer(good)] });
    }
}
