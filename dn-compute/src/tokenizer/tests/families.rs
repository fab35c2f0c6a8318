//! The families' own pipelines, next to those that are built for their GGUF files.

use serde_json::json;

use super::*;

/// Texts on which the families differ, beside [`HARD`].
const MORE: [&str; 14] = [
    "1234567 12 345 1",
    "don't DON'T we'Re I'lL it’s 'sure",
    "helloWorld HELLOworld HelloWORLD hello",
    " hello  hello\n\nhello",
    "e\u{301}e\u{300} caf\u{e9} cafe\u{301}",
    "a\u{30a}\u{212b}\u{c5} \u{1100}\u{1161}",
    "x/\r\n//\n/ ./.\n",
    "é é éé É",
    "日本語 12 日本12語",
    "٣٤٥ १२३४ ⅧⅨ ½¾",
    "_hello-hello.hello",
    "\u{a0}hello\u{2003}\u{3000}hello",
    "ǅungla ʰhello मात्रा",
    "\n\n\n   \n hello \t ",
];

/// A token for each byte, and merges of them in the order of their ranks; words that no merges give are behind.
fn vocabulary() -> (Vec<String>, Vec<(String, String)>) {
    let written = |text: &str| text.bytes().map(alphabet).collect::<String>();
    let merges = [
        ("h", "e"),
        ("l", "l"),
        ("he", "ll"),
        ("hell", "o"),
        (" ", "hello"),
        ("o", "W"),
        ("o", "r"),
        ("W", "or"),
        ("'", "t"),
        ("'", "T"),
        ("n", "'"),
        ("'", "s"),
        ("'", "l"),
        ("1", "2"),
        ("12", "3"),
        ("123", "4"),
        ("3", "4"),
        (" ", "1"),
        (" ", " "),
        ("  ", " "),
        ("\n", "\n"),
        ("/", "\n"),
        ("/", "/"),
        ("\r", "\n"),
        (".", "h"),
        ("_", "h"),
        ("-", "he"),
        ("L", "O"),
        ("O", "w"),
        ("a", "b"),
        ("E", "L"),
        ("\n", " "),
        ("s", "u"),
    ];
    let mut merges: Vec<_> = merges.map(|(l, r)| (written(l), written(r))).into();
    // Bytes of characters, composed and not.
    for text in ["é", "\u{301}", "Å", "日", "本", "語", "\u{a0}", "\u{3000}", "٣", "½", "¾"] {
        let bytes: Vec<char> = text.bytes().map(alphabet).collect();
        let mut left = bytes[0].to_string();
        for right in &bytes[1..] {
            if !merges.contains(&(left.clone(), right.to_string())) {
                merges.push((left.clone(), right.to_string()));
            }
            left.push(*right);
        }
    }
    let (e, space) = (written("é"), written(" "));
    merges.extend([(e.clone(), e.clone()), (space, e), (written("日"), written("本"))]);
    let mut tokens: Vec<String> = (0..=255u8).map(|b| alphabet(b).to_string()).collect();
    for token in merges.iter().map(|(l, r)| format!("{l}{r}")) {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens.extend([" World", " caf", "we", "é́", "World", "345", "HELL", "   \n"].map(written));
    (tokens, merges)
}

/// Typed after the families' published `tokenizer.json`, with their normalizers, patterns and settings; not those files
/// themselves, whose vocabularies are theirs.
fn published(family: &str) -> serde_json::Value {
    let (normalizer, pattern, trim_offsets, ignore_merges) = match family {
        "llama-bpe" => (
            json!(null),
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            true,
            true,
        ),
        "qwen2" => (
            json!({"type": "NFC"}),
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            false,
            false,
        ),
        _ => (
            json!(null),
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            true,
            true,
        ),
    };
    let (tokens, merges) = vocabulary();
    let ids: serde_json::Map<_, _> =
        tokens.into_iter().zip(0..).map(|(t, id): (_, u32)| (t, json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim_offsets, "use_regex": false}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": ignore_merges, "vocab": ids,
                  "merges": merges.iter().map(|(l, r)| format!("{l} {r}")).collect::<Vec<_>>()},
    })
}

#[test]
fn families_give_the_ids_of_their_published_pipelines() {
    let mut all = Vec::new();
    for family in ["llama-bpe", "qwen2", "tekken"] {
        let (tokens, merges) = vocabulary();
        let ours = build(|w| {
            w.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", family);
            w.strings("tokenizer.ggml.tokens", tokens);
            w.strings("tokenizer.ggml.merges", merges.iter().map(|(l, r)| format!("{l} {r}")).collect());
        })
        .unwrap();
        let json = serde_json::to_vec(&published(family)).unwrap();
        let theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        let from_json = Tokenizer::from_json(&json).unwrap();
        let mut ids = Vec::new();
        for text in HARD.into_iter().chain(MORE) {
            let found = ours.encode(text).unwrap();
            assert_eq!(found, theirs.encode(text, false).unwrap().get_ids(), "{family} {text:?}");
            assert_eq!(found, from_json.encode(text).unwrap(), "{family} {text:?}");
            if family != "qwen2" {
                assert_eq!(ours.decode(&found), text);
            }
            ids.push(found);
        }
        all.push(ids);
    }
    // A pipeline in another's place would be seen, and more than once.
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let differ = all[one].iter().zip(&all[other]).filter(|(a, b)| a != b).count();
        assert!(differ > 3, "{one} {other}: {differ}");
    }
}
