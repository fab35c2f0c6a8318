use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::formats::gguf::{Array, Gguf, GgufWriter, Value as Meta, ValueType};
use crate::tokenizer::hard::HARD;

const BLIND: char = '\u{fdd0}';

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn bytes(json: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(json).unwrap()
}

/// The original, that takes control tokens in a text for text, or not.
fn original(json: &[u8], control_is_text: bool) -> tokenizers::Tokenizer {
    let mut out = tokenizers::Tokenizer::from_bytes(json).unwrap();
    out.set_encode_special_tokens(control_is_text);
    out
}

fn ids(machine: &tokenizers::Tokenizer, text: &str, marked: bool) -> Vec<u32> {
    machine.encode(text, marked).unwrap().get_ids().to_vec()
}

#[test]
fn the_file_and_the_gguf_made_from_it_give_the_same_ids() {
    let json = file("../tools/train-tiny/tokenizer.json");
    let ours = Tokenizer::from_json(&json).unwrap();
    let gguf = Gguf::parse(&file("models/tiny-rust-q8_0.gguf")).unwrap();
    let from_gguf = Tokenizer::from_metadata(&gguf.metadata).unwrap();
    let theirs = original(&json, true);
    for text in HARD {
        let found = ours.encode(text).unwrap();
        assert_eq!(found, ids(&theirs, text, false), "{text:?}");
        assert_eq!(found, from_gguf.encode(text).unwrap(), "{text:?}");
        assert_eq!(ours.decode(&found), text);
    }
    assert_eq!((ours.vocabulary(), ours.text_start()), (4096, None));
    assert_eq!(ours.control_token("<|user|>"), Some(2));
    for token in 0..4096 {
        assert_eq!(ours.token_bytes(token), from_gguf.token_bytes(token), "{token}");
    }
    let started = Tokenizer::from_json_with_start(&json, Some(0)).unwrap();
    assert_eq!(started.text_start(), Some(0));
    assert_ne!(started.hash(), ours.hash());
}

/// A WordPiece pipeline as BERT's files have it.
fn word_piece() -> serde_json::Value {
    let words = "[PAD] [UNK] [CLS] [SEP] [MASK] hello world un ##aff ##able ! , . ' ##s h ##ello # 1 ##2 中 文 user \
                 [ ] sep cls";
    let vocabulary: serde_json::Map<_, _> =
        words.split_whitespace().enumerate().map(|(i, w)| (w.to_owned(), json!(i))).collect();
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]"),
                         special(4, "[MASK]")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

#[test]
fn an_encoders_texts_stand_between_its_markers() {
    let json = bytes(&word_piece());
    let ours = Tokenizer::from_json(&json).unwrap();
    let mut theirs = original(&json, true);
    theirs.with_padding(None).with_truncation(None).unwrap();
    assert_eq!(ours.encode_marked("Hello, UNAFFABLE world!", 99).unwrap(), [2, 5, 11, 7, 8, 9, 6, 10, 3]);
    assert_eq!(ours.encode_marked("Hello, UNAFFABLE world!", 5).unwrap(), [2, 5, 11, 7, 3]);
    assert_eq!(ours.encode_marked("", 9).unwrap(), [2, 3]);
    assert_eq!(ours.encode_marked("hello", 1).unwrap(), [2]);
    assert_eq!(ours.text_start(), Some(2));
    // Markers in a text are text.
    assert_eq!(ours.encode("[SEP]").unwrap(), [23, 25, 24]);
    for text in HARD {
        assert_eq!(ours.encode_marked(text, 4096).unwrap(), ids(&theirs, text, true), "{text:?}");
        assert_eq!(ours.encode(text).unwrap(), ids(&theirs, text, false), "{text:?}");
    }
    assert_eq!(ours.decode(&[2, 5, 7, 8, 9, 3]), "hello unaffable");
}

/// Pieces and their scores: single characters worst, so that merges go from short to long.
fn pieces() -> Vec<(String, f32)> {
    let words = [
        "\u{2581}t",
        "he",
        "in",
        "\u{2581}a",
        "re",
        "on",
        "er",
        "\u{2581}the",
        "\u{2581}th",
        "ing",
        "\u{2581}\u{2581}",
        "ello",
        "\u{2581}hello",
        "el",
        "lo",
        "\u{2581}h",
        "\u{2581}hel",
    ];
    let letters = ('a'..='z').chain(['\u{2581}', '.', ',', '<', '>', 's', '/', 'é', '中']);
    let singles: std::collections::BTreeSet<String> = letters.map(String::from).collect();
    let all = words.iter().map(|w| (*w).to_owned()).chain(singles);
    all.enumerate().map(|(i, w)| (w, -(i as f32))).collect()
}

/// The vocabulary in order: three special tokens, 256 bytes, the pieces.
fn tokens() -> Vec<String> {
    let bytes = (0..=255u8).map(|b| format!("<0x{b:02X}>"));
    ["<unk>", "<s>", "</s>"]
        .map(String::from)
        .into_iter()
        .chain(bytes)
        .chain(pieces().into_iter().map(|p| p.0))
        .collect()
}

/// As Llama 2's file is: normalised with a space in front, one word, merges by score, bytes where there is no piece.
fn llama(normalizer: serde_json::Value, pre_tokenizer: serde_json::Value, rstrip: bool) -> serde_json::Value {
    let tokens = tokens();
    let vocabulary: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(i, t)| (t.clone(), json!(i))).collect();
    let mut merges = Vec::new();
    for (piece, score) in pieces() {
        for (at, _) in piece.char_indices().skip(1) {
            let (l, r) = piece.split_at(at);
            if let (Some(a), Some(b)) = (vocabulary.get(l), vocabulary.get(r)) {
                merges.push((score, a.as_u64(), b.as_u64(), l.to_owned(), r.to_owned()));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let merges: Vec<_> = merges.into_iter().map(|(_, _, _, l, r)| json!([l, r])).collect();
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": rstrip, "rstrip": rstrip,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary,
                  "merges": merges},
    })
}

fn prepend() -> serde_json::Value {
    json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]})
}

fn metaspace() -> serde_json::Value {
    json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false})
}

#[test]
fn sentence_pieces_from_gguf_and_from_json_are_those_of_the_original() {
    let json = bytes(&llama(prepend(), json!(null), false));
    let ours = Tokenizer::from_json(&json).unwrap();
    let theirs = original(&json, true);
    let mut w = GgufWriter::new();
    w.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", tokens());
    let kinds = [2, 3, 3].into_iter().chain([6; 256]).chain(pieces().iter().map(|_| 1)).collect();
    w.key("tokenizer.ggml.token_type", Meta::Array(Array::Signed(ValueType::I32, kinds)));
    let scores = [0.0; 259].into_iter().chain(pieces().iter().map(|p| p.1)).collect();
    w.key("tokenizer.ggml.scores", Meta::Array(Array::F32(scores)));
    w.u32("tokenizer.ggml.bos_token_id", 1);
    let gguf = Tokenizer::from_metadata(&Gguf::parse(&w.finish()).unwrap().metadata).unwrap();
    assert_eq!((ours.text_start(), gguf.text_start()), (Some(1), Some(1)));
    for text in HARD {
        let found = ours.encode(text).unwrap();
        assert_eq!(found, ids(&theirs, text, false), "{text:?}");
        assert_eq!(found, gguf.encode(text).unwrap(), "{text:?}");
        assert_eq!(ours.decode(&found), text);
        assert_eq!(gguf.decode(&found), text);
    }
    for token in 0..tokens().len() as u32 {
        // The unknown token is a control token in one and a sign in the other.
        assert!(token == 0 || ours.token_bytes(token) == gguf.token_bytes(token), "{token}");
    }
}

#[test]
fn templates_are_encoded_as_the_original_encodes_them_whole() {
    let files = [
        llama(prepend(), json!(null), false),
        llama(prepend(), json!(null), true),
        llama(json!(null), metaspace(), false),
        llama(json!(null), metaspace(), true),
    ];
    let texts = [
        "<s>the hello</s> the  <s>\n\n hello ing</s>",
        "the <s> </s>the",
        "  <s>  </s>  ",
        " a<s>",
        "hello",
        "<s><s>",
        "",
    ];
    for file in files {
        let json = bytes(&file);
        let (ours, theirs) = (Tokenizer::from_json(&json).unwrap(), original(&json, false));
        for text in texts.iter().chain(&HARD) {
            assert_eq!(
                ours.encode_template(text, BLIND).unwrap_or_default(),
                ids(&theirs, &text.replace(BLIND, ""), false),
                "{text:?}"
            );
        }
        let blinded = format!("<s>the <{BLIND}s>");
        assert!(!ours.encode_template(&blinded, BLIND).unwrap()[1..].contains(&1));
    }
}

#[test]
fn what_is_not_run_is_refused_by_name() {
    let with = |path: &str, value: serde_json::Value| {
        let mut file = llama(prepend(), json!(null), false);
        *file.pointer_mut(path).unwrap() = value;
        Tokenizer::from_json(&bytes(&file)).unwrap_err()
    };
    let component = |path: &str, kind: &str| match with(path, json!({"type": kind})) {
        TokenizerError::Component { found, .. } => assert_eq!(found, kind, "{path}"),
        other => panic!("{path} {kind}: {other}"),
    };
    component("/model", "Unigram");
    component("/normalizer", "Precompiled");
    component("/pre_tokenizer", "UnicodeScripts");
    component("/post_processor", "Other");
    component("/decoder", "CTC");
    let message = with("/model", json!({"type": "Unigram"})).to_string();
    assert!(message.contains("Unigram; supported are BPE and WordPiece"), "{message}");
    let field = |path: &str, value: serde_json::Value| {
        assert!(matches!(with(path, value), TokenizerError::JsonField { .. }), "{path}");
    };
    field("/model/dropout", json!(0.1));
    field("/model/continuing_subword_prefix", json!("##"));
    field("/model/vocab", json!([]));
    field("/added_tokens", json!({}));
    field("/added_tokens/0", json!({"content": "x"}));
    field("/added_tokens/0/single_word", json!(true));
    field("/normalizer", json!({"type": "Sequence"}));
    field("/normalizer", json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"}));
    field("/normalizer", json!({"type": "Replace", "pattern": {"Regex": "x".repeat(5000)}, "content": "x"}));
    assert!(matches!(with("/added_tokens/0/id", json!(7)), TokenizerError::AddedId { expected: 7, .. }));
    assert!(matches!(
        with("/added_tokens/0/content", json!("x".repeat(2000))),
        TokenizerError::TokenLength { .. }
    ));
    assert!(matches!(with("/model/vocab/a", json!(1u64 << 31)), TokenizerError::JsonId { .. }));
    assert!(matches!(with("/model/vocab/a", json!(5)), TokenizerError::JsonTwice { id: 5 }));
    assert!(matches!(with("/model/merges", json!([["a", "nosuch"]])), TokenizerError::Machine(_)));
    assert!(matches!(with("/version", json!("2.0")), TokenizerError::Machine(_)));
    assert!(matches!(Tokenizer::from_json(b"{"), Err(TokenizerError::Json(_))));
    assert!(matches!(Tokenizer::from_json(b"[]"), Err(TokenizerError::Component { .. })));
    let start = Tokenizer::from_json_with_start(&file("../tools/train-tiny/tokenizer.json"), Some(4096));
    assert!(matches!(start, Err(TokenizerError::SpecialToken { found: 4096, .. })));
}

/// Parts that each lengthen a text a little lengthen it beyond all bounds together.
#[test]
fn what_makes_texts_too_long_is_refused() {
    let with = |normalizers: serde_json::Value, pre_tokenizers: serde_json::Value| {
        let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
        let pre = json!({"type": "Sequence", "pretokenizers": pre_tokenizers});
        Tokenizer::from_json(&bytes(&llama(normalizer, pre, false)))
    };
    let replace =
        |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let regex = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"Regex": from}, "content": to});
    let prepend = |text: &str| json!({"type": "Prepend", "prepend": text});
    let growth = |found| move |e: &TokenizerError| matches!(e, TokenizerError::Growth { found: f, limit: 8, .. } if *f == found);
    let refused = |normalizers: Vec<serde_json::Value>, test: &dyn Fn(&TokenizerError) -> bool| {
        let error = with(json!(normalizers), json!([])).unwrap_err();
        assert!(test(&error), "{error}");
    };
    refused(vec![replace("a", "aa"); 4], &growth(16));
    refused(vec![regex("x*", "\u{2581}"); 2], &growth(16));
    refused(vec![replace("ab", &"a".repeat(17))], &growth(9));
    let too_long: fn(&TokenizerError) -> bool =
        |e| matches!(e, TokenizerError::JsonField { field: "normalizer", .. });
    refused(vec![replace(&"a".repeat(65), &"a".repeat(65))], &too_long);
    refused(vec![prepend("12345678"), prepend("12345678"), prepend("9")], &too_long);
    let too_many = |e: &TokenizerError| matches!(e, TokenizerError::Parts { field: "normalizer", limit: 16 });
    refused(vec![json!({"type": "NFC"}); 17], &too_many);
    let nested = json!({"type": "Sequence", "normalizers": vec![replace("a", "b"); 9]});
    refused(vec![nested.clone(), nested], &too_many);
    let bytes_of_bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let twice = with(json!([]), json!([bytes_of_bytes, bytes_of_bytes])).unwrap_err();
    assert!(matches!(twice, TokenizerError::Growth { field: "pre_tokenizer", found: 9, .. }), "{twice}");
    // As much as real files have, and what has limits of its own.
    let nfkd = json!({"type": "NFKD"});
    let real =
        vec![prepend("\u{2581}"), replace(" ", "\u{2581}"), replace("``", "\""), regex("\\s+", " "), nfkd];
    let parts = json!([{"type": "Digits", "individual_digits": true}, bytes_of_bytes]);
    with(json!(real), parts).unwrap();
    with(json!(vec![json!({"type": "Lowercase"}); 16]), json!([metaspace()])).unwrap();
}

/// A token of which the normalizer leaves nothing would be found everywhere, also inside of characters.
#[test]
fn added_tokens_that_vanish_or_are_too_long_together_are_refused() {
    let gone = json!({"type": "Replace", "pattern": {"String": "x"}, "content": ""});
    let with = |normalizer: serde_json::Value, content: &str, normalized: bool| {
        let mut file = llama(normalizer, json!(null), false);
        let id = tokens().len();
        let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": normalized, "special": false});
        file["added_tokens"].as_array_mut().unwrap().push(token);
        Tokenizer::from_json(&bytes(&file))
    };
    let refused = with(gone.clone(), "xx", true).unwrap_err();
    assert!(matches!(refused, TokenizerError::JsonField { field: "added_tokens", .. }), "{refused}");
    for kept in [with(gone.clone(), "xx", false), with(gone, "xy", true), with(prepend(), "xx", true)] {
        assert!(kept.unwrap().encode("\u{e9}x y").is_ok());
    }
    let many = |count: usize| {
        let mut file = llama(prepend(), json!(null), false);
        let first = tokens().len();
        let token = |n: usize| json!({"id": first + n, "content": format!("{n:01024}"), "special": false, "normalized": false});
        file["added_tokens"].as_array_mut().unwrap().extend((0..count).map(token));
        Tokenizer::from_json(&bytes(&file)).err()
    };
    let limit = 2 << 20;
    assert!(
        matches!(many(2_048), Some(TokenizerError::AddedSize { found, limit: l }) if found > limit && l == limit)
    );
}

/// One large id would make tables of hundreds of megabytes.
#[test]
fn ids_far_beyond_the_number_of_tokens_are_refused() {
    let with = |id: usize| {
        let mut file = llama(prepend(), json!(null), false);
        file["model"]["vocab"]["a"] = json!(id);
        Tokenizer::from_json(&bytes(&file))
    };
    let limit = 4 * tokens().len() + 65_536;
    let refused = with(limit).unwrap_err();
    assert!(
        matches!(refused, TokenizerError::JsonSparse { found, limit: l, .. } if found as usize == limit && l == limit)
    );
    assert_eq!(with(limit - 1).unwrap().vocabulary(), limit);
}

/// A template may only name tokens and texts that are there.
#[test]
fn templates_of_nothing_are_refused() {
    let with = |path: &str, value: serde_json::Value| {
        let mut file = word_piece();
        *file.pointer_mut(path).unwrap() = value;
        Tokenizer::from_json(&bytes(&file))
    };
    assert!(with("/post_processor/pair", json!([{"Sequence": {"id": "B", "type_id": 1}}])).is_ok());
    for (path, value) in [
        ("/post_processor/single/0/SpecialToken/id", json!("[CLX]")),
        ("/post_processor/single/1/Sequence/id", json!("B")),
        ("/post_processor/special_tokens", json!({})),
        ("/post_processor/single", json!({})),
        ("/post_processor/pair", json!([{"SpecialToken": {"id": "[X]", "type_id": 0}}])),
    ] {
        assert!(matches!(with(path, value), Err(TokenizerError::JsonField { .. })), "{path}");
    }
}

/// What the fuzz target runs too: any bytes give a tokenizer that encodes, or an error.
fn build_anything(json: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::from_json(json) {
        for text in ["the hello <s>\u{e9}\u{4e2d}  x", ""] {
            let found = tokenizer.encode(text);
            let _ = (tokenizer.encode_marked(text, 7), tokenizer.encode_template(text, BLIND));
            if let Ok(found) = found {
                let _ = tokenizer.decode(&found);
            }
        }
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn no_change_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), second in any::<bool>()) {
        let mut json = bytes(&if second { word_piece() } else { llama(json!(null), metaspace(), true) });
        for (at, byte) in changes {
            let at = at.index(json.len());
            json[at] = byte;
        }
        build_anything(&json);
    }
}
