use super::*;
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
        "max_completion_tokens": 9 });
    let body = chat(&change).unwrap();
    let expected = Sampling {
        temperature_micro: 700_000,
        top_k: 40,
        top_p_micro: 950_000,
        min_p_micro: 50_000,
        seed: u64::MAX,
    };
    assert_eq!((body.sampling, body.seeded, body.max_tokens), (expected, true, Some(9)));
    assert_eq!(body.stop, ["x"]);
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
            "stream", "stream_options", "max_tokens", "n", "tools", "logit_bias", "response_format"]),
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
