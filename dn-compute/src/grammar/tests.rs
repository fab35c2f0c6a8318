#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

use std::collections::BTreeSet;

use dn_core::objects::Grammar;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::formats::gguf::{Array, Gguf, GgufWriter, Value as Meta, ValueType};
use crate::sampling::Progress;
use crate::testing::Rng;
use crate::tokenizer::Tokenizer;

/// The token that ends a text.
const STOP: u32 = 1;
const WORDS: [&str; 33] = [
    "{",
    "}",
    "\"",
    "\":",
    "{\"",
    "\"}",
    "true",
    "false",
    "null",
    "na",
    "name",
    "age",
    "\u{2581}",
    "12",
    "0",
    "1",
    ",",
    ",\u{2581}",
    ":",
    "é",
    "日本",
    "a",
    "b",
    "ab",
    "[",
    "]",
    "],",
    "\"a\"",
    "-",
    "e",
    "E+",
    "\\",
    "\\u00",
];
/// Three ids have no text.
const IDS: u32 = 3 + 256 + 33 + 3;

/// Byte tokens in an order of their own, some words, a stop token and a control token.
fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<(String, i64)> = vec![("<unk>".into(), 2), ("</s>".into(), 3), ("<x>".into(), 3)];
    tokens.extend((0..=255u8).rev().map(|b| (format!("<0x{b:02X}>"), 6)));
    tokens.extend(WORDS.iter().map(|w| ((*w).to_owned(), 1)));
    let mut w = GgufWriter::new();
    let (texts, kinds): (Vec<String>, Vec<i64>) = tokens.into_iter().unzip();
    let scores = vec![0.0; texts.len()];
    w.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", texts);
    w.key("tokenizer.ggml.scores", Meta::Array(Array::F32(scores)));
    w.key("tokenizer.ggml.token_type", Meta::Array(Array::Signed(ValueType::I32, kinds)));
    w.u32("tokenizer.ggml.bos_token_id", 2);
    Tokenizer::from_metadata(&Gguf::parse(&w.finish()).unwrap().metadata).unwrap()
}

fn constrainer() -> Constrainer {
    Constrainer::new(&tokenizer(), IDS, &[STOP]).unwrap()
}

fn schema(schema: &Value) -> Grammar {
    Grammar::JsonSchema { schema: schema.to_string() }
}

fn regex(pattern: &str) -> Grammar {
    Grammar::Regex { pattern: pattern.into() }
}

fn lark(grammar: &str) -> Grammar {
    Grammar::Lark { grammar: grammar.into() }
}

fn allowed(constraint: &Constraint) -> BTreeSet<u32> {
    (0..IDS).filter(|t| constraint.mask().is_allowed(*t)).collect()
}

/// The byte's own token.
fn byte(b: u8) -> u32 {
    3 + 255 - u32::from(b)
}

/// Whether a text is a whole text of the grammar.
fn matches(constrainer: &Constrainer, grammar: &Grammar, text: &str) -> bool {
    let mut constraint = constrainer.start(grammar).unwrap();
    for (at, b) in text.bytes().enumerate() {
        match constraint.accept(byte(b)) {
            Progress::Open => {}
            Progress::Complete => return at + 1 == text.len(),
            Progress::Stuck | Progress::Refused => return false,
        }
    }
    constraint.mask().is_allowed(STOP)
}

#[test]
fn the_engine_is_the_one_that_the_spec_names() {
    let lock = include_str!("../../../Cargo.lock");
    for name in ["llguidance", "toktrie"] {
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{ENGINE_VERSION}\"\n")), "{name}");
    }
}

#[test]
fn a_token_is_allowed_where_its_bytes_fit() {
    let c = constrainer();
    let word = |text: &str| 259 + WORDS.iter().position(|w| *w == text).unwrap() as u32;
    let mut choice = c.start(&regex("(true|false|é+)")).unwrap();
    let first: BTreeSet<u32> =
        [byte(b't'), byte(b'f'), byte(0xc3), word("true"), word("false"), word("é")].into();
    assert_eq!(allowed(&choice), first);
    // A character in two byte tokens; after it the text is complete but may go on.
    assert_eq!(choice.accept(byte(0xc3)), Progress::Open);
    assert_eq!(allowed(&choice), [byte(0xa9)].into());
    assert_eq!(choice.accept(byte(0xa9)), Progress::Open);
    assert_eq!(allowed(&choice), [STOP, byte(0xc3), word("é")].into());
    // Nothing can follow: the answer is complete.
    let mut choice = c.start(&regex("(true|false|é+)")).unwrap();
    assert_eq!(choice.accept(word("true")), Progress::Complete);
    assert!(allowed(&choice).is_empty());
    // What is not allowed is refused, and for good.
    let mut choice = c.start(&regex("ab")).unwrap();
    assert_eq!(choice.accept(STOP), Progress::Refused);
    assert_eq!(choice.accept(word("a")), Progress::Refused);
    // A blank is written as another character in this vocabulary; control tokens and ids without a text never fit.
    let any = c.start(&regex("(?s:.*)")).unwrap();
    assert!(allowed(&any).contains(&word("\u{2581}")) && allowed(&any).contains(&STOP));
    assert!([0, 2, IDS - 1].iter().all(|t| *t == 0 || !allowed(&any).contains(t)));
    assert!(!allowed(&any).contains(&byte(0xff)) && !allowed(&any).contains(&byte(0x80)));
}

#[test]
fn schemas_mean_what_they_say() {
    let c = constrainer();
    let person = schema(&json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 3 },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "kind": { "enum": ["a", "b", null, 7] },
        },
        "required": ["name"],
        "additionalProperties": false,
    }));
    for good in [
        r#"{"name":"ab"}"#,
        r#"{ "name" : "é\n", "age": 120, "kind":null}"#,
        r#"{"name":"","kind":7}"#,
        "{\n  \"name\": \"a\"\n}",
    ] {
        assert!(matches(&c, &person, good), "{good}");
    }
    for bad in [
        "{}",
        r#"{"age":1,"name":"a"}"#,
        r#"{"name":"abcd"}"#,
        r#"{"name":"a","age":121}"#,
        r#"{"name":"a","age":1.5}"#,
        r#"{"name":"a","kind":"c"}"#,
        r#"{"name":"a","x":1}"#,
        r#"{"name":"a"} "#,
        r#"["name"]"#,
    ] {
        assert!(!matches(&c, &person, bad), "{bad}");
    }
    // Not more blanks than the limit.
    let blanks = |n: usize| format!("{{{}\"name\":\"\"}}", " ".repeat(n));
    assert!(matches(&c, &person, &blanks(limits::JSON_BLANKS)));
    assert!(matches(&c, &Grammar::JsonObject, r#"{"any":[1,{"thing":null}]}"#));
    assert!(!matches(&c, &Grammar::JsonObject, "[1]"));
    let list = schema(
        &json!({ "type": "array", "items": { "$ref": "#/$defs/n" }, "$defs": { "n": { "const": 1 } } }),
    );
    assert!(matches(&c, &list, "[1,1]") && !matches(&c, &list, "[1,2]"));
}

#[test]
fn context_free_grammars_mean_what_they_say() {
    let c = constrainer();
    let pairs = lark("start: \"(\" start \")\" | \"x\"");
    assert!(matches(&c, &pairs, "((x))") && !matches(&c, &pairs, "((x)"));
    let sum = lark("start: NUMBER (\"+\" NUMBER)*\nNUMBER: /[0-9]+/");
    assert!(matches(&c, &sum, "12+3") && !matches(&c, &sum, "+3"));
    let mixed = lark("start: \"say \" %json {\"type\":\"boolean\"}");
    assert!(matches(&c, &mixed, "say true") && !matches(&c, &mixed, "say 1"));
}

/// Grammars and texts that begin one of their texts.
fn pinned() -> Vec<(Grammar, &'static str)> {
    let person = json!({ "type": "object", "properties": { "name": { "type": "string" }, "age": { "type": "number" } },
        "required": ["age"] });
    vec![
        (Grammar::JsonObject, "{\"a\": [1.5e3, {\"é\":\"\\u0007\"}], \"b\":null"),
        (schema(&person), "{\"name\":\"日本\",\"age\":-12.50,\"more\":tru"),
        (
            schema(&json!({ "type": "array", "minItems": 2, "maxItems": 3, "items": { "type": "integer" } })),
            "[ 1, -2",
        ),
        (
            schema(&json!({ "anyOf": [{ "const": "ab" }, { "type": "string", "pattern": "^a[0-9]{2}$" }] })),
            "\"a12",
        ),
        (schema(&json!({ "type": "string", "format": "date" })), "\"2024-02-2"),
        (regex(r"[a-z]+@[a-z]+\.(com|org)"), "ab@ab.c"),
        (regex(r"(?i)select \w{1,8}( from \w+)?"), "SELECT é"),
        (lark("start: expr\nexpr: term (\"+\" term)*\nterm: /[0-9]+/ | \"(\" expr \")\""), "(1+(22+3"),
        (lark("start: item+\nitem: \"- \" /[^\\n]+/ \"\\n\""), "- é\n- x"),
    ]
}

/// BLAKE3 of the masks at every byte of the pinned grammars' texts.
fn masks(c: &Constrainer) -> dn_core::Hash32 {
    let mut bytes = Vec::new();
    for (grammar, text) in pinned() {
        let mut constraint = c.start(&grammar).unwrap();
        let mut note = |constraint: &Constraint| {
            allowed(constraint).iter().for_each(|t| bytes.extend_from_slice(&t.to_le_bytes()));
            bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        };
        note(&constraint);
        for b in text.bytes() {
            assert_eq!(constraint.accept(byte(b)), Progress::Open, "{text}");
            note(&constraint);
        }
    }
    dn_core::Hash32(dn_core::blake3_256(&[&bytes]))
}

/// Another hash is another numeric spec: replicas with different masks disagree about honest answers.
#[test]
fn masks_are_pinned() {
    assert_eq!(
        masks(&constrainer()).to_string(),
        "0x9302f64468df0226315621c04f88a9493afc7e262ab6e11b9191ff9d9aae1f15"
    );
}

/// Hash seeds, caches and the shortcuts of the engine change no mask.
#[test]
fn masks_do_not_depend_on_the_instance_or_its_shortcuts() {
    let expected = masks(&constrainer());
    assert_eq!(masks(&constrainer()), expected);
    assert_eq!(masks(&Constrainer::without_shortcuts(&tokenizer(), IDS, &[STOP]).unwrap()), expected);
}

#[test]
fn grammars_that_cannot_be_used_say_why() {
    let c = constrainer();
    let refused = |grammar: &Grammar| c.start(grammar).map(|_| ()).unwrap_err();
    let deep = |open: &str, close: &str, n: usize| format!("{}a{}", open.repeat(n), close.repeat(n));
    assert_eq!(
        refused(&regex(&deep("(", ")", 65))),
        GrammarError::Nesting { limit: limits::NESTING, found: 65 }
    );
    assert_eq!(refused(&regex("a{100000}")), GrammarError::Repetitions { limit: 10_000, found: 100_000 });
    let long = json!({ "type": "string", "minLength": 1u64 << 40 });
    assert_eq!(refused(&schema(&long)), GrammarError::Repetitions { limit: 10_000, found: 1 << 40 });
    let options = GrammarError::Size { what: "optional or repeated parts", limit: 512, found: 5000 };
    assert_eq!(refused(&regex(&"a?".repeat(5000))), options);
    assert_eq!(refused(&schema(&json!({ "pattern": "a*".repeat(5000) }))), options);
    assert_eq!(
        refused(&Grammar::JsonSchema { schema: "{\n\"type\": }".into() }),
        GrammarError::SchemaSyntax { line: 2, column: 9 }
    );
    for bad in [
        regex("("),
        regex("[z-a]"),
        regex(r"(?=a)b"),
        regex("a(?!b)"),
        lark(""),
        lark("start: other"),
        lark("start: \"a"),
        lark("nothing: \"a\""),
        lark("start: <|im_start|> \"a\""),
        schema(&json!({ "type": "nothing" })),
        schema(&json!({ "$ref": "http://example.com/schema.json" })),
        schema(&json!({ "$ref": "#/$defs/missing" })),
        schema(&json!(3)),
        schema(&json!({ "type": "string", "pattern": "(" })),
    ] {
        assert!(matches!(refused(&bad), GrammarError::Refused(_)), "{bad:?}: {:?}", refused(&bad));
    }
    for impossible in [
        schema(&json!(false)),
        schema(&json!({ "type": "integer", "minimum": 2, "maximum": 1 })),
        schema(&json!({ "allOf": [{ "type": "string" }, { "type": "number" }] })),
        schema(&json!({ "enum": [] })),
        regex("[^\\s\\S]"),
    ] {
        let error = refused(&impossible);
        assert!(
            matches!(error, GrammarError::Refused(_) | GrammarError::Unsatisfiable),
            "{impossible:?}: {error:?}"
        );
    }
    let empty =
        &Tokenizer::from_metadata(&Gguf::parse(&GgufWriter::new().finish()).unwrap().metadata).unwrap();
    let none = Constrainer::new(empty, 5, &[]);
    assert_eq!(none.map(|_| ()).unwrap_err(), GrammarError::NoTokenizer);
}

/// Whatever it is, it is refused or served within the limits: no panic, no overflow of a stack, no endless work.
#[test]
fn hostile_grammars_come_to_an_end() {
    let c = constrainer();
    let chain: String = (0..2500).map(|i| format!("r{i}: \"a\" r{}\n", i + 1)).collect();
    let refs: serde_json::Map<String, Value> = (0..900)
        .map(|i| (format!("d{i}"), json!({ "$ref": format!("#/$defs/d{}", (i + 1) % 900) })))
        .collect();
    let arrays: serde_json::Map<String, Value> = (0..900)
        .map(|i| {
            (
                format!("d{i}"),
                json!({ "type": "array", "items": { "$ref": format!("#/$defs/d{}", (i + 1) % 900) } }),
            )
        })
        .collect();
    let wide: Vec<Value> = (0..2000).map(|i| json!(format!("value {i}"))).collect();
    let properties: serde_json::Map<String, Value> =
        (0..300).map(|i| (format!("p{i}"), json!({ "type": "integer" }))).collect();
    let hostile = [
        regex(&"a?".repeat(limits::OPTIONS)),
        regex(&format!("{}{}", "a?".repeat(300), "a".repeat(2000))),
        regex(&"(a|)".repeat(1000)),
        regex("((((a{100}){100}){100}){100}){100}"),
        regex("(a|b|ab)*c(a|b|ab)*d(a|b|ab)*"),
        regex(&format!("({})*", (0..300).map(|i| format!("w{i}x*")).collect::<Vec<_>>().join("|"))),
        regex(r"(.*a.{30}){1,30}"),
        regex(r"[\p{L}--\p{Lu}]{1,9000}"),
        regex(&"(a|".repeat(60)),
        regex(&format!("{}{}", "(a|".repeat(60), "b)".repeat(60))),
        lark(&format!("start: r0\n{chain}r2500: \"b\"")),
        lark("start: start start | \"a\" | "),
        lark("start: a\na: b\nb: c\nc: a"),
        lark("start: x{0,10000}\nx: y{0,10000}\ny: \"a\"{0,10000}"),
        lark(&format!("start: {}", "\"a\"? ".repeat(limits::OPTIONS))),
        lark("start: /a*/ & /b+/ | ~/a/"),
        lark("%llguidance { \"allow_invalid_utf8\": true }\nstart: /(?s:.)*/"),
        lark("start: <[300]> \"a\""),
        lark("start: <[5]> \"a\""),
        schema(&json!({ "$defs": refs, "$ref": "#/$defs/d0" })),
        schema(&json!({ "$defs": arrays, "$ref": "#/$defs/d0" })),
        schema(&json!({ "enum": wide })),
        schema(&json!({ "type": "object", "properties": properties })),
        schema(
            &json!({ "type": "array", "items": { "type": "array", "items": { "type": "string", "maxLength": 10_000 },
            "maxItems": 10_000 }, "minItems": 10_000 }),
        ),
        schema(
            &json!({ "type": "object", "minProperties": 10_000, "additionalProperties": { "type": "null" } }),
        ),
        schema(&json!({ "x-guidance": { "whitespace_pattern": "(" }, "type": "object" })),
        schema(
            &json!({ "x-guidance": { "item_separator": "", "key_separator": "(a*)*" }, "type": "object" }),
        ),
    ];
    for grammar in &hostile {
        let Ok(mut constraint) = c.start(grammar) else { continue };
        // A walk that prefers what is rare.
        for step in 0..40u32 {
            let tokens = allowed(&constraint);
            let Some(token) = tokens.iter().copied().nth((step as usize * 7919) % tokens.len().max(1)) else {
                break;
            };
            if token == STOP || constraint.accept(token) != Progress::Open {
                break;
            }
        }
    }
}

/// A text of the grammar by a random walk, and whether the walk came to its end.
fn walk(c: &Constrainer, grammar: &Grammar, seed: u64, steps: usize) -> (Vec<u8>, bool) {
    let (tokenizer, mut rng) = (tokenizer(), Rng(seed));
    let mut constraint = c.start(grammar).unwrap();
    let mut text = Vec::new();
    for _ in 0..steps {
        let tokens: Vec<u32> = allowed(&constraint).into_iter().collect();
        assert!(!tokens.is_empty(), "an open text can go on");
        // It ends where it may, half of the time.
        let ends = tokens.contains(&STOP) && rng.next() % 2 == 0;
        let token = if ends { STOP } else { tokens[(rng.next() % tokens.len() as u64) as usize] };
        if token == STOP {
            return (text, true);
        }
        text.extend_from_slice(tokenizer.token_bytes(token));
        match constraint.accept(token) {
            Progress::Open => {}
            Progress::Complete => return (text, true),
            other => panic!("an allowed token leads to {other:?}"),
        }
    }
    (text, false)
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({ "type": "boolean" })),
        Just(json!({ "type": "null" })),
        (0u32..4).prop_map(|n| json!({ "type": "string", "maxLength": n })),
        (-50i32..50, 0i32..9).prop_map(|(a, n)| json!({ "type": "integer", "minimum": a, "maximum": a + n })),
        Just(json!({ "enum": ["a", "é", 12, null, true] })),
        Just(json!({ "type": "string", "pattern": "^[ab]{1,3}$" })),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..3), any::<bool>()).prop_map(|(list, all)| {
                let keys = ["a", "name", "é"];
                let properties: serde_json::Map<String, Value> =
                    keys.iter().map(|k| (*k).to_owned()).zip(list.clone()).collect();
                let required: Vec<&str> = keys.into_iter().take(if all { list.len() } else { 0 }).collect();
                json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
            }),
            (inner.clone(), 0u32..3).prop_map(|(items, n)| json!({ "type": "array", "items": items, "maxItems": n })),
            (inner.clone(), inner).prop_map(|(a, b)| json!({ "anyOf": [a, b] })),
        ]
    })
}

/// Whether a value fits a schema, for the keywords of [`schemas`].
fn fits(value: &Value, schema: &Value) -> bool {
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().any(|s| fits(value, s));
    }
    if let Some(list) = schema["enum"].as_array() {
        return list.contains(value);
    }
    match schema["type"].as_str().unwrap() {
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        // `-0` is an integer, but not one of serde_json's.
        "integer" => value.as_i64().or((value.as_f64() == Some(0.0)).then_some(0)).is_some_and(|n| {
            n >= schema["minimum"].as_i64().unwrap() && n <= schema["maximum"].as_i64().unwrap()
        }),
        "string" => value.as_str().is_some_and(|text| {
            let length = text.chars().count() as u64;
            let pattern =
                |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|b| b == b'a' || b == b'b');
            schema["maxLength"].as_u64().is_none_or(|most| length <= most)
                && (schema["pattern"].is_null() || pattern(text))
        }),
        "array" => value.as_array().is_some_and(|list| {
            list.len() as u64 <= schema["maxItems"].as_u64().unwrap()
                && list.iter().all(|v| fits(v, &schema["items"]))
        }),
        _ => value.as_object().is_some_and(|map| {
            let known = map.iter().all(|(key, v)| schema["properties"].get(key).is_some_and(|s| fits(v, s)));
            let required = schema["required"].as_array().unwrap();
            known && required.iter().all(|key| map.contains_key(key.as_str().unwrap()))
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every text that a mask lets through to its end is JSON and fits its schema.
    #[test]
    fn a_mask_lets_nothing_through_but_the_schema(schema_of in schemas(), seed: u64) {
        thread_local!(static SHARED: Constrainer = constrainer());
        SHARED.with(|c| {
            for seed in [seed, !seed, seed ^ 0xff] {
                let (text, complete) = walk(c, &schema(&schema_of), seed, 400);
                if complete {
                    let value: Result<Value, _> = serde_json::from_slice(&text);
                    let shown = String::from_utf8_lossy(&text);
                    let value = value.map_err(|e| TestCaseError::fail(format!("{e}: {shown}")))?;
                    prop_assert!(fits(&value, &schema_of), "{} against {}", shown, schema_of);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_text_is_refused_or_served(text in "\\PC{0,60}", lines in "(start: |[a-c]: |\"[a-c]*\"|/[a-c(\\[|*+?]*/| |\\||\n|\\*|\\+|\\(|\\)|%json|\\{|\\}|~|&|[0-9]){0,30}") {
        thread_local!(static SHARED: Constrainer = constrainer());
        SHARED.with(|c| {
            for text in [&text, &lines] {
                for grammar in [regex(text), lark(text), Grammar::JsonSchema { schema: text.clone() }] {
                    if let Ok(mut constraint) = c.start(&grammar) {
                        let first = allowed(&constraint).into_iter().next();
                        first.map(|token| constraint.accept(token));
                    }
                }
            }
        });
    }
}
