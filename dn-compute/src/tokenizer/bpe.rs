//! Builds the merging machine from a definition, and the bytes of every token.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{NFC, NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use super::definition::{Definition, TokenKind};
use super::{TokenizerError, TokenizerFault};

/// How Llama 3 splits text.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Mistral's Tekken splits text.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 splits text.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The space of `llama` vocabularies.
const SPACE: char = '\u{2581}';

/// Most bytes of all merges that follow from a `llama` vocabulary, which can be hundreds of times its own; real ones have
/// up to some twenty million.
const MAX_MERGES_BYTES: usize = 64 << 20;
/// What a merge counts beside its text.
const MERGE_BYTES: usize = 32;

/// The machine that encodes text without control tokens.
pub(super) fn machine(def: &Definition) -> Result<tokenizers::Tokenizer, TokenizerError> {
    if def.model == "llama" { sentence_pieces(def) } else { byte_pairs(def) }
}

fn byte_pairs(def: &Definition) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let mut merges = Vec::with_capacity(def.merges.len());
    for (index, merge) in def.merges.iter().enumerate() {
        // The left part may not be empty; a space inside tokens is written as another character.
        match merge.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => {
                merges.push((left.to_owned(), right.to_owned()));
            }
            _ => return Err(TokenizerError::Merge { index }),
        }
    }
    let vocabulary = vocabulary(def, |kind| kind == TokenKind::Normal);
    // A whole word that is a token is that token, whatever the merges say (Llama 3, Tekken).
    let ignore_merges = matches!(def.pre.as_str(), "llama-bpe" | "tekken");
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(TokenizerFault::new)?;
    let mut machine = tokenizers::Tokenizer::new(model);
    let pre: PreTokenizerWrapper = match def.pre.as_str() {
        "llama-bpe" => split_then_bytes(LLAMA3)?,
        "qwen2" => split_then_bytes(QWEN2)?,
        "tekken" => split_then_bytes(TEKKEN)?,
        "smollm" => {
            Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()]).into()
        }
        _ => ByteLevel::new(false, true, true).into(),
    };
    machine.with_pre_tokenizer(Some(pre));
    if def.pre == "qwen2" {
        machine.with_normalizer(Some(NFC));
    }
    Ok(machine)
}

fn split_then_bytes(pattern: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(TokenizerFault::new)?;
    Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into())
}

/// SentencePiece vocabularies hold scores; the pair whose union scores best is merged first.
fn sentence_pieces(def: &Definition) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let vocabulary =
        vocabulary(def, |kind| matches!(kind, TokenKind::Normal | TokenKind::Byte | TokenKind::Unknown));
    let has_bytes = (0..=255u8).all(|b| vocabulary.contains_key(&format!("<0x{b:02X}>")));
    let unknown = (0..def.tokens.len()).find(|t| def.kind(*t) == TokenKind::Unknown);
    if !has_bytes && unknown.is_none() {
        return Err(TokenizerError::NoFallback);
    }
    let mergeable = |piece: &str| {
        let id = *vocabulary.get(piece)?;
        (def.kind(id as usize) == TokenKind::Normal).then_some(id)
    };
    let (mut ranked, mut bytes) = (Vec::new(), 0);
    for (id, piece) in def.tokens.iter().enumerate() {
        if mergeable(piece) != u32::try_from(id).ok() {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(l), Some(r)) = (mergeable(left), mergeable(right)) {
                bytes += piece.len() + MERGE_BYTES;
                if bytes > MAX_MERGES_BYTES {
                    return Err(TokenizerError::Merges { token: id, found: bytes, limit: MAX_MERGES_BYTES });
                }
                ranked.push((f32::from_bits(def.score_bits[id]), l, r, left, right));
            }
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let merges = ranked.into_iter().map(|(_, _, _, l, r)| (l.to_owned(), r.to_owned())).collect();
    let mut builder =
        BPE::builder().vocab_and_merges(vocabulary, merges).byte_fallback(has_bytes).fuse_unk(true);
    if let Some(token) = unknown {
        builder = builder.unk_token(def.tokens[token].clone());
    }
    let mut machine = tokenizers::Tokenizer::new(builder.build().map_err(TokenizerFault::new)?);
    let spaces = Replace::new(" ", SPACE.to_string()).map_err(TokenizerFault::new)?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if def.space_prefix {
        steps.push(Prepend::new(SPACE.to_string()).into());
    }
    steps.push(spaces.into());
    machine.with_normalizer(Some(Normalizers::new(steps)));
    Ok(machine)
}

/// Token texts to ids; of equal texts the lowest id counts.
fn vocabulary(def: &Definition, wanted: impl Fn(TokenKind) -> bool) -> Vocab {
    let mut vocabulary = Vocab::default();
    for (id, token) in def.tokens.iter().enumerate() {
        if wanted(def.kind(id)) && !vocabulary.contains_key(token.as_str()) {
            vocabulary.insert(token.clone(), id as u32);
        }
    }
    vocabulary
}

/// The bytes that a token stands for in text; control tokens have none.
pub(super) fn token_bytes(def: &Definition, token: usize) -> Vec<u8> {
    let text = &def.tokens[token];
    match (def.kind(token), def.model.as_str()) {
        (TokenKind::Control | TokenKind::Unused, _) => Vec::new(),
        (TokenKind::UserDefined, _) => text.as_bytes().to_vec(),
        (TokenKind::Byte, _) => match byte_of(text) {
            Some(byte) => vec![byte],
            None => text.as_bytes().to_vec(),
        },
        (TokenKind::Unknown, "llama") => "\u{2047}".as_bytes().to_vec(),
        (_, "llama") => text.replace(SPACE, " ").into_bytes(),
        _ => {
            let mut out = Vec::with_capacity(text.len());
            append_alphabet(text, &mut out);
            out
        }
    }
}

/// The bytes that a text in GPT-2's alphabet stands for; what is not in the alphabet stands for itself.
pub(super) fn append_alphabet(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match alphabet_byte(c) {
            Some(byte) => out.push(byte),
            None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// `<0x0A>` to 10.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// GPT-2's alphabet: printable Latin-1 bytes are themselves, the other 68 follow from U+0100 in order.
pub(super) fn alphabet_char(byte: u8) -> char {
    let own = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if own(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|b| !own(*b)).count() as u32;
    char::from_u32(256 + place).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn alphabet_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        n @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(n).ok(),
        n @ 0x100..=0x120 => u8::try_from(n - 0x100).ok(),
        n @ 0x121..=0x142 => u8::try_from(n - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_has_a_character_for_every_byte() {
        for byte in 0..=255u8 {
            assert_eq!(alphabet_byte(alphabet_char(byte)), Some(byte));
            assert!(ByteLevel::alphabet().contains(&alphabet_char(byte)));
        }
        assert_eq!(alphabet_char(b' '), '\u{120}');
    }
}
