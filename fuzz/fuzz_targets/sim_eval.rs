//! The simulator's pipe: whatever the line, one line of JSON with `out` or `error` and the question's id.
#![no_main]

use dn_sim::eval::answer;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|line: &str| {
    let text = answer(line);
    assert!(!text.contains('\n'));
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert!(answer["out"].is_object() != answer["error"].is_string());
    let question: Option<Value> = serde_json::from_str(line).ok();
    let id = question.as_ref().and_then(|question| question.get("id")).unwrap_or(&Value::Null);
    assert_eq!(&answer["id"], id);
});
