use super::*;
use dn_core::objects::{Grammar, TokenBias};
use proptest::prelude::*;
use serde_json::json;

fn chat(change: &Value) -> Result<CallBody, ApiError> {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    parse(Kind::Chat, body.to_string().as_bytes())
}

fn text(change: &Value) -> Result<CallBody, ApiError> {
    let mut body = json!({ "model": "m", "prompt": "hi" });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    parse(Kind::Text, body.to_string().as_bytes())
}

#[test]
fn defaults_are_those_of_the_api() {
    let body = chat(&json!({})).unwrap();
    let sampling = Sampling { temperature_micro: 1_000_000, ..Sampling::GREEDY };
    assert_eq!((body.sampling, body.seeded, body.max_tokens), (sampling, false, None));
    assert!(!body.stream && body.stop.is_empty());
    assert_eq!(text(&json!({})).unwrap().max_tokens, Some(16));
}

#[test]
fn settings_become_integers_that_hash_the_same_everywhere() {
    let change = json!({ "temperature": 0.7, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "seed": -1, "stop": "x",
        "repetition_penalty": 1.1, "presence_penalty": -0.5, "frequency_penalty": 2, "penalty_window": 64,
        "max_completion_tokens": 9 });
    let body = chat(&change).unwrap();
    let expected = Sampling {
        temperature_micro: 700_000,
        top_k: 40,
        top_p_micro: 950_000,
        min_p_micro: 50_000,
        repetition_micro: 1_100_000,
        presence_micro: -500_000,
        frequency_micro: 2_000_000,
        penalty_window: 64,
        seed: u64::MAX,
    };
    assert_eq!((body.sampling, body.seeded, body.max_tokens), (expected, true, Some(9)));
    assert_eq!(body.stop, ["x"]);
}

#[test]
fn biases_bans_and_log_probabilities_are_ordered_and_bounded() {
    let change = json!({ "logit_bias": { "50256": -100, "7": 0.25 }, "banned_tokens": [9, 3, 9], "logprobs": true,
        "top_logprobs": 5 });
    let decoding = chat(&change).unwrap().decoding;
    let bias = |token, bias_micro| TokenBias { token, bias_micro };
    assert_eq!(decoding.bias, [bias(7, 250_000), bias(50_256, -100_000_000)]);
    assert_eq!((decoding.banned.as_slice(), decoding.logprobs), ([3, 9].as_slice(), Some(5)));
    assert_eq!(decoding.check(), Ok(()));
    assert_eq!(chat(&json!({ "logprobs": true })).unwrap().decoding.logprobs, Some(0));
    assert_eq!(chat(&json!({ "logprobs": false, "top_logprobs": 0 })).unwrap().decoding.logprobs, None);
    assert_eq!(text(&json!({ "logprobs": 3 })).unwrap().decoding.logprobs, Some(3));
    for bad in [
        json!({ "logit_bias": { "7": 101 } }),
        json!({ "logit_bias": { "a": 1 } }),
        json!({ "logit_bias": { "07": 1 } }),
        json!({ "logit_bias": { "4294967296": 1 } }),
        json!({ "top_logprobs": 2 }),
        json!({ "logprobs": true, "top_logprobs": 21 }),
        json!({ "presence_penalty": 2.1 }),
        json!({ "repetition_penalty": 0 }),
    ] {
        assert!(matches!(chat(&bad), Err(ApiError::Range { .. })), "{bad}");
    }
}

#[test]
fn formats_become_grammars_with_keys_in_their_order() {
    let grammar = |change: &Value| chat(change).map(|body| body.decoding.grammar);
    let format = |format: Value| grammar(&json!({ "response_format": format }));
    assert_eq!(format(json!({ "type": "text" })), Ok(Grammar::None));
    assert_eq!(format(json!({ "type": "json_object" })), Ok(Grammar::JsonObject));
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],
        "response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"z":1,"a":2}}}}"#;
    let schema = r#"{"z":1,"a":2}"#.to_owned();
    assert_eq!(parse(Kind::Chat, body).unwrap().decoding.grammar, Grammar::JsonSchema { schema });
    assert_eq!(grammar(&json!({ "guided_regex": "a+" })), Ok(Grammar::Regex { pattern: "a+".into() }));
    let choice = Grammar::Lark { grammar: r#"start: "yes" | "n\"o""#.into() };
    assert_eq!(grammar(&json!({ "guided_choice": ["yes", "n\"o"] })), Ok(choice));
    for bad in [
        json!({ "response_format": { "type": "xml" } }),
        json!({ "response_format": { "type": "json_schema" } }),
        json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": 3 } } }),
        json!({ "response_format": { "type": "json_object" }, "guided_regex": "a" }),
        json!({ "guided_choice": [] }),
        json!({ "guided_regex": "a".repeat(70_000) }),
    ] {
        assert!(chat(&bad).is_err(), "{bad}");
    }
}

#[test]
fn messages_take_text_parts_and_developer_instructions() {
    let messages = json!([
        { "role": "developer", "content": [{ "type": "text", "text": "be" }, { "type": "text", "text": " brief" }] },
        { "role": "assistant", "content": "ok", "tool_calls": null, "name": "a" },
    ]);
    let body = chat(&json!({ "messages": messages })).unwrap();
    let expected = vec![
        ChatMessage { role: Role::System, content: "be brief".into() },
        ChatMessage { role: Role::Assistant, content: "ok".into() },
    ];
    assert_eq!(body.prompt, Prompt::Chat(expected));
}

#[test]
fn prompts_are_text_or_tokens_but_one() {
    assert_eq!(text(&json!({ "prompt": ["a"] })).unwrap().prompt, Prompt::Text("a".into()));
    assert_eq!(text(&json!({ "prompt": [1, 2] })).unwrap().prompt, Prompt::Tokens(vec![1, 2]));
    assert_eq!(text(&json!({ "prompt": [[3]] })).unwrap().prompt, Prompt::Tokens(vec![3]));
    for bad in [json!([]), json!(["a", "b"]), json!([[1], [2]]), json!([1, "a"]), json!([-1]), json!(7)] {
        assert!(text(&json!({ "prompt": bad })).is_err(), "{bad}");
    }
}

#[test]
fn syntax_errors_say_where() {
    let error = parse(Kind::Chat, b"{\n\"model\": }").unwrap_err();
    assert!(matches!(error, ApiError::Json { line: 2, column: 10, .. }), "{error:?}");
    let deep = [vec![b'['; 200], vec![b']'; 200]].concat();
    assert!(matches!(parse(Kind::Chat, &deep), Err(ApiError::Json { .. })));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,5}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_of_any_field_is_parsed_or_refused_by_name(
        field in prop::sample::select(vec!["model", "messages", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
            "stream", "stream_options", "max_tokens", "n", "tools", "logit_bias", "response_format", "banned_tokens", "logprobs",
            "top_logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty", "penalty_window", "guided_json",
            "guided_regex", "guided_choice", "guided_grammar"]),
        value in any_json(),
    ) {
        if let Err(error) = chat(&json!({ field: value })) {
            let body = error.body();
            let param = body["error"]["param"].as_str().unwrap_or_default();
            prop_assert!(param.starts_with(field), "{} for {}", body, field);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Kind::Chat, &bytes);
        let _ = parse(Kind::Text, &bytes);
    }
}
