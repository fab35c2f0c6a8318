//! Whatever comes in, an answer comes out.

use proptest::prelude::*;

use super::*;

/// Values of every kind, with the words of the operations as keys and texts.
fn value() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "id",
        "op",
        "in",
        "trust",
        "powr",
        "split",
        "role",
        "worker",
        "model",
        "epochs",
        "params",
        "pot",
        "nodes",
        "work",
        "quality",
        "votes",
        "score",
        "weight",
        "stake",
        "history",
        "fee",
        "fee_dn",
        "shares",
        "event",
        "completed",
        "online",
        "latency",
        "own_ms",
        "keep_good",
        "1",
        "0.5",
        "nan",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        any::<u128>().prop_map(|n| Value::from(n.to_string())),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let key = words.clone().prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Whatever comes in: one answer, JSON, with the id that the line had.
    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,200}", cut in any::<prop::sample::Index>()) {
        let got: Value = serde_json::from_str(&answer(&text)).expect("JSON");
        prop_assert!(got["error"].is_string() && got["id"].is_null());
        // A right question, cut somewhere or with something put in.
        let line = r#"{"id": 5, "op": "powr", "in": {"pot": "9", "nodes": [{"id": "é", "work": 1, "quality": 0.5, "trust": "1"}]}}"#;
        let at = (0..=cut.index(line.len())).rev().find(|at| line.is_char_boundary(*at)).expect("0 is one");
        for broken in [line[..at].to_owned(), format!("{}{text}{}", &line[..at], &line[at..])] {
            let got: Value = serde_json::from_str(&answer(&broken)).expect("JSON");
            prop_assert!(got["error"].is_string() != got["out"].is_object());
        }
    }

    #[test]
    fn any_document_has_an_answer(id in value(), op in prop::sample::select(OPS.map(|(name, _)| name).to_vec()), input in value(), part in value(), kind in 0..9usize) {
        // Mostly right documents with something anywhere.
        let input = match kind {
            0 => input,
            1 => json!({"role": "worker", "epochs": [[part], input]}),
            2 => json!({"role": "model", "epochs": [input], "params": part}),
            3 => json!({"pot": 7, "nodes": [{"id": part, "work": 3, "quality": 1, "trust": input}]}),
            4 => json!({"pot": part, "nodes": [{"id": 1, "work": 3, "votes": [input], "history": [part]}]}),
            5 => json!({"fee": part, "shares": input}),
            6 => json!({"stake": [1, part], "weights_per_epoch": [[[1, 0], [input, 1]]]}),
            7 => json!({"stake": [1, part], "values": [input, 1], "support": 0.5}),
            _ => json!({"pretrust": [1, 1], "local_trust": [[0, part], [1, input]], "alpha": 0.5}),
        };
        let line = json!({"id": id, "op": op, "in": input}).to_string();
        let got: Value = serde_json::from_str(&answer(&line)).expect("JSON");
        prop_assert_eq!(&got["id"], &id);
        prop_assert!(got["error"].is_string() != got["out"].is_object());
    }

    /// What an answer says as a number can be asked again: it is the same 33 bits.
    #[test]
    fn numbers_come_back_as_they_went(bits in 0..=1u64 << 32) {
        let text = json!(trust::number(dn_trust::Unit::from_bits(bits))).to_string();
        let node = json!({"id": 1, "work": 1, "quality": serde_json::from_str::<Value>(&text).expect("JSON"), "trust": text});
        let got = out("powr", json!({"pot": 1, "nodes": [node]}));
        prop_assert_eq!(&got["nodes"][0]["quality_q32"], &json!(bits));
        prop_assert_eq!(&got["nodes"][0]["trust_q32"], &json!(bits));
    }

    /// Nothing that a good answer says is lost: payouts add up to the pot.
    #[test]
    fn payouts_add_up(pot: u128, nodes in prop::collection::vec((any::<u64>(), 0..=100u32, 0..=100u32), 0..20)) {
        let nodes: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(id, (work, q, t))| json!({"id": id, "work": work, "quality": f64::from(*q) / 100.0, "trust": format!("0.{t:03}")}))
            .collect();
        let got = out("powr", json!({"pot": pot.to_string(), "nodes": nodes}));
        let amount = |v: &Value| v.as_str().expect("text").parse::<u128>().expect("integer");
        let paid: u128 = got["nodes"].as_array().expect("list").iter().map(|n| amount(&n["payout"])).sum();
        prop_assert_eq!(paid, amount(&got["paid"]));
        prop_assert_eq!(paid + amount(&got["carried_over"]), pot);
    }
}
