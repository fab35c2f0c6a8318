use proptest::prelude::*;
use std::sync::Arc;

mod families;

use super::hard::HARD;
use super::*;
use crate::formats::gguf::{Array, Gguf, GgufError, GgufWriter, Value, ValueType};

pub(crate) fn alphabet(byte: u8) -> char {
    bpe::alphabet_char(byte)
}

fn original() -> tokenizers::Tokenizer {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/train-tiny/tokenizer.json");
    tokenizers::Tokenizer::from_file(path).unwrap()
}

fn tiny() -> Tokenizer {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-rust-q8_0.gguf");
    let bytes = std::fs::read(path).unwrap();
    Tokenizer::from_metadata(&Gguf::parse(&bytes).unwrap().metadata).unwrap()
}

#[test]
fn ids_are_those_of_the_original_tokenizer() {
    let (ours, mut theirs) = (tiny(), original());
    // As ours: control tokens in a text are text.
    theirs.set_encode_special_tokens(true);
    for text in HARD {
        let ids = ours.encode(text).unwrap();
        assert_eq!(ids, theirs.encode(text, false).unwrap().get_ids(), "{text:?}");
        assert_eq!(ours.decode(&ids), text);
    }
    assert_eq!(ours.vocabulary(), 4096);
    assert_eq!(ours.text_start(), Some(0));
    assert_eq!(ours.control_token("<|user|>"), Some(2));
    assert_eq!(ours.control_token("<|user"), None);
}

proptest! {
    #[test]
    fn any_text_has_the_ids_of_the_original(texts in prop::collection::vec(".{0,40}|[ -~\\n]{0,60}|[ \\t\\r\\n]{0,9}", 20)) {
        thread_local! {
            static BOTH: (Tokenizer, tokenizers::Tokenizer) = (tiny(), {
                let mut theirs = original();
                theirs.set_encode_special_tokens(true);
                theirs
            });
        }
        BOTH.with(|(ours, theirs)| {
            for text in &texts {
                let ids = ours.encode(text).unwrap();
                let expected = theirs.encode(text.as_str(), false).unwrap();
                prop_assert_eq!(&ids, expected.get_ids());
                prop_assert_eq!(&ours.decode(&ids), text);
            }
            Ok(())
        })?;
    }

    /// However tokens cut characters, a stream hands out whole ones, and all of them.
    #[test]
    fn a_stream_gives_the_text_in_whole_characters(text in "\\PC{0,30}", stop in "[a-c]{0,3}") {
        let tokenizer = Arc::new(bytes_only(&[]));
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        let mut stream = TextStream::new(tokenizer, std::slice::from_ref(&stop));
        let mut got = String::new();
        for token in tokens {
            let piece = stream.push(token);
            let broken = piece.contains(char::REPLACEMENT_CHARACTER);
            prop_assert!(!broken || text.contains(char::REPLACEMENT_CHARACTER));
            got.push_str(&piece);
        }
        let stopped = stream.stopped();
        got.push_str(&stream.finish());
        let expected = match text.find(&stop) {
            Some(at) if !stop.is_empty() => &text[..at],
            _ => text.as_str(),
        };
        prop_assert_eq!(&got, expected);
        prop_assert_eq!(stopped, expected.len() < text.len() || (!stop.is_empty() && text.contains(&stop)));
    }

    #[test]
    fn bytes_that_are_no_text_come_out_as_they_would_at_once(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let tokenizer = Arc::new(bytes_only(&[]));
        let mut stream = TextStream::new(Arc::clone(&tokenizer), &[]);
        let mut got: String = bytes.iter().map(|b| stream.push(u32::from(*b))).collect();
        got.push_str(&stream.finish());
        prop_assert_eq!(&got, &String::from_utf8_lossy(&bytes));
    }
}

/// A token for each byte, in the order of the bytes, and more.
fn bytes_only(more: &[(&str, i64)]) -> Tokenizer {
    let mut tokens: Vec<String> = (0..=255u8).map(|b| alphabet(b).to_string()).collect();
    let mut kinds = vec![1; 256];
    for (text, kind) in more {
        tokens.push((*text).to_owned());
        kinds.push(*kind);
    }
    build(|w| {
        w.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", tokens);
        w.key("tokenizer.ggml.token_type", Value::Array(Array::Signed(ValueType::I32, kinds)));
        w.strings("tokenizer.ggml.merges", vec![]);
    })
    .unwrap()
}

fn build(fill: impl FnOnce(&mut GgufWriter)) -> Result<Tokenizer, TokenizerError> {
    let mut w = GgufWriter::new();
    fill(&mut w);
    Tokenizer::from_metadata(&Gguf::parse(&w.finish()).unwrap().metadata)
}

#[test]
fn a_stream_holds_back_what_a_stop_text_could_begin_in() {
    let tokenizer = Arc::new(bytes_only(&[("<end>", 3)]));
    let stops = ["END".to_owned(), "é!".to_owned(), String::new()];
    let mut stream = TextStream::new(tokenizer, &stops);
    let mut feed = |text: &str| -> Vec<String> { text.bytes().map(|b| stream.push(b.into())).collect() };
    assert_eq!(feed("aEN"), ["a", "", ""]);
    assert_eq!(feed("xé"), ["ENx", "", ""]);
    assert_eq!(feed("?EE"), ["é?", "", "E"]);
    assert_eq!(feed("ND"), ["", ""]);
    assert_eq!(feed("more"), ["", "", "", ""]);
    assert!(stream.stopped());
    assert_eq!(stream.finish(), "");
}

#[test]
fn user_defined_tokens_are_matched_whole_and_control_tokens_are_not() {
    let t = bytes_only(&[("<think>", 4), ("<end>", 3), ("  ", 4)]);
    assert_eq!(t.encode("a<think><end>").unwrap()[..2], [u32::from(b'a'), 256]);
    assert_eq!(t.encode("<end>").unwrap(), b"<end>".map(u32::from));
    assert_eq!(t.encode("   ").unwrap(), [258, u32::from(b' ')]);
    assert_eq!(t.decode(&[97, 257, 256, 9999]), "a<think>");
}

/// A small SentencePiece vocabulary: unknown, control, bytes if asked for, then pieces with scores.
fn pieces(with_bytes: bool) -> Tokenizer {
    let mut tokens: Vec<(String, i64, f32)> = vec![("<unk>".into(), 2, 0.0), ("<s>".into(), 3, 0.0)];
    if with_bytes {
        tokens.extend((0..=255u8).map(|b| (format!("<0x{b:02X}>"), 6, 0.0)));
    }
    let words =
        ["\u{2581}h", "el", "lo", "\u{2581}hel", "\u{2581}hello", "\u{2581}", "h", "e", "l", "o", "w"];
    tokens.extend(words.iter().enumerate().map(|(i, w)| ((*w).to_owned(), 1, -(i as f32))));
    build(|w| {
        w.string("tokenizer.ggml.model", "llama");
        w.strings("tokenizer.ggml.tokens", tokens.iter().map(|t| t.0.clone()).collect());
        let kinds = tokens.iter().map(|t| t.1).collect();
        w.key("tokenizer.ggml.token_type", Value::Array(Array::Signed(ValueType::I32, kinds)));
        w.key("tokenizer.ggml.scores", Value::Array(Array::F32(tokens.iter().map(|t| t.2).collect())));
        w.u32("tokenizer.ggml.bos_token_id", 1);
    })
    .unwrap()
}

#[test]
fn sentence_pieces_merge_by_score_and_fall_back_to_bytes() {
    let t = pieces(true);
    let first = 258;
    let ids = t.encode("hello").unwrap();
    assert_eq!(ids, [first + 4]);
    assert_eq!(t.encode("hello hello").unwrap(), [first + 4, first + 4]);
    assert_eq!(t.encode("low").unwrap(), [first + 5, first + 2, first + 10]);
    assert_eq!(t.encode("é\n").unwrap(), [first + 5, 2 + 0xc3, 2 + 0xa9, 2 + 0x0a]);
    assert_eq!(t.decode(&t.encode("hello é\nlow").unwrap()), "hello é\nlow");
    assert_eq!(t.text_start(), Some(1));
    let t = pieces(false);
    assert_eq!(t.encode("oé").unwrap(), [7, 11, 0]);
    assert_eq!(t.decode(&[7, 11, 0]), "o\u{2047}");
}

/// Tokens that are each the one before and a letter can be put together in half a million ways, of a third of a gigabyte.
#[test]
fn pieces_with_too_many_merges_are_refused() {
    let with = |kind: i64| {
        let mut tokens = vec!["?".to_owned()];
        tokens.extend((1..=1024).map(|n| "a".repeat(n)));
        build(|w| {
            w.string("tokenizer.ggml.model", "llama");
            let kinds = [kind].into_iter().chain([1; 1024]).collect();
            w.key("tokenizer.ggml.token_type", Value::Array(Array::Signed(ValueType::I32, kinds)));
            w.key("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; tokens.len()])));
            w.strings("tokenizer.ggml.tokens", tokens);
        })
        .unwrap_err()
    };
    match with(2) {
        TokenizerError::Merges { token, found, limit } => {
            assert_eq!(limit, 64 << 20);
            assert!(token < 1024 && found > limit && found < limit + 2048);
        }
        other => panic!("{other}"),
    }
    // What is refused anyway is refused before.
    assert!(matches!(with(1), TokenizerError::NoFallback));
}

/// The splitting patterns give up on a million blanks, and the rest of the text would be one word.
#[test]
fn longer_runs_of_blanks_than_can_be_split_are_refused() {
    let t = bytes_only(&[("<end>", 3)]);
    let text = |blanks: usize| format!("a{}b", "\u{3000}\n".repeat(blanks / 2));
    assert!(t.check_text(&text(MAX_BLANKS)).is_ok());
    let long = text(MAX_BLANKS + 2);
    for refused in
        [t.encode(&long), t.encode_marked(&long, 9), t.encode_template(&format!("<end>{long}"), '\u{fdd0}')]
    {
        assert!(matches!(refused, Err(TokenizerError::Blanks { limit: MAX_BLANKS })));
    }
    // Nothing is split there by a pattern.
    assert!(
        !Tokenizer { splits: false, ..t }
            .encode(&long)
            .is_err_and(|e| matches!(e, TokenizerError::Blanks { .. }))
    );
}

#[test]
fn a_file_without_a_tokenizer_still_has_one() {
    let t = build(|_| {}).unwrap();
    assert!(matches!(t.encode("x"), Err(TokenizerError::Absent)));
    assert_eq!((t.vocabulary(), t.decode(&[0, 1])), (0, String::new()));
}

#[test]
fn bad_tokenizers_are_refused_by_name() {
    let with = |model: &str, fill: &dyn Fn(&mut GgufWriter)| {
        build(|w| {
            w.string("tokenizer.ggml.model", model);
            fill(w);
        })
        .unwrap_err()
    };
    let ab = || vec!["a".to_owned(), "b".to_owned()];
    assert!(matches!(with("bert", &|_| {}), TokenizerError::Model { found } if found == "bert"));
    let pre = with("gpt2", &|w| {
        w.string("tokenizer.ggml.pre", "other");
    });
    assert!(matches!(pre, TokenizerError::Pre { .. }));
    assert!(matches!(with("gpt2", &|_| {}), TokenizerError::Gguf(GgufError::MissingKey { .. })));
    let tokens = |tokens: Vec<String>, more: &dyn Fn(&mut GgufWriter)| {
        with("gpt2", &|w| {
            w.strings("tokenizer.ggml.tokens", tokens.clone());
            more(w);
        })
    };
    assert!(matches!(tokens(vec![], &|_| {}), TokenizerError::Empty));
    let long = tokens(vec!["x".repeat(1025)], &|_| {});
    assert!(matches!(long, TokenizerError::TokenLength { found: 1025, .. }));
    let kinds = |kinds: Vec<i64>| {
        tokens(ab(), &|w| {
            w.key("tokenizer.ggml.token_type", Value::Array(Array::Signed(ValueType::I32, kinds.clone())));
        })
    };
    assert!(matches!(kinds(vec![1]), TokenizerError::Length { expected: 2, found: 1, .. }));
    assert!(matches!(kinds(vec![1, 7]), TokenizerError::Kind { token: 1, found: 7 }));
    let merges = |merge: &str| {
        tokens(ab(), &|w| {
            w.strings("tokenizer.ggml.merges", vec![merge.to_owned()]);
        })
    };
    assert!(matches!(merges("ab"), TokenizerError::Merge { index: 0 }));
    assert!(matches!(merges("a c"), TokenizerError::Machine(_)));
    let bos = tokens(ab(), &|w| {
        w.strings("tokenizer.ggml.merges", vec![]).u32("tokenizer.ggml.bos_token_id", 2);
    });
    assert!(matches!(bos, TokenizerError::SpecialToken { found: 2, vocabulary: 2, .. }));
    let scores = |scores: Vec<f32>| {
        with("llama", &|w| {
            w.strings("tokenizer.ggml.tokens", ab());
            w.key("tokenizer.ggml.scores", Value::Array(Array::F32(scores.clone())));
        })
    };
    assert!(matches!(scores(vec![0.0, f32::NAN]), TokenizerError::Score { token: 1 }));
    assert!(matches!(scores(vec![0.0, 1.0]), TokenizerError::NoFallback));
    // Not every byte has a token: text with the others is refused.
    let few = build(|w| {
        w.string("tokenizer.ggml.model", "gpt2").strings("tokenizer.ggml.tokens", ab());
        w.strings("tokenizer.ggml.merges", vec![]);
    });
    let few = few.unwrap();
    assert_eq!(few.encode("ba").unwrap(), [1, 0]);
    assert!(matches!(few.encode("abc"), Err(TokenizerError::Byte { byte: b'c' })));
}

/// How texts are split is that of the families' own tokenizers.
#[test]
fn texts_are_split_as_their_families_do() {
    let split = |pre: &str, text: &str| -> Vec<String> {
        let t = build(|w| {
            w.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", pre);
            w.strings("tokenizer.ggml.tokens", (0..=255u8).map(|b| alphabet(b).to_string()).collect());
            w.strings("tokenizer.ggml.merges", vec![]);
        })
        .unwrap();
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
        let mut parts = PreTokenizedString::from(text);
        t.machine.as_ref().unwrap().get_pre_tokenizer().unwrap().pre_tokenize(&mut parts).unwrap();
        let splits = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.iter().map(|(_, (from, to), _)| text[*from..*to].to_owned()).collect()
    };
    let text = "It's 12345 a_b\n\n x";
    assert_eq!(split("gpt-2", text), ["It", "'s", " 12345", " a", "_", "b", "\n\n", " x"]);
    assert_eq!(split("llama-bpe", text), ["It", "'s", " ", "123", "45", " a", "_b", "\n\n", " x"]);
    assert_eq!(split("qwen2", text), ["It", "'s", " ", "1", "2", "3", "4", "5", " a", "_b", "\n\n", " x"]);
    assert_eq!(
        split("smollm", text),
        ["It", "'s", " ", "1", "2", "3", "4", "5", " a", "_", "b", "\n\n", " x"]
    );
}
