//! Hugging Face's `tokenizer.json`.
//!
//! The file describes a pipeline of the `tokenizers` crate, and that crate runs it; so ids are those of the original. What
//! it may be made of is a list: everything on it is known to be deterministic and not to panic on any setting that
//! passes the checks here.

mod check;

use dn_core::{Hash32, blake3_256};
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{NormalizedString, Normalizer, PreTokenizerWrapper};

use super::special::{Matcher, is_long};
use super::{Tokenizer, TokenizerError, TokenizerFault, bpe};
use crate::spec::limits::MAX_ROWS;
use check::{Added, Decoding};

/// Longest file, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Ids that a vocabulary may reach to: some for each token, and a gap. There are tables with a row for each id.
const MAX_IDS_PER_TOKEN: usize = 4;
const MAX_GAP: usize = 65_536;

/// The character that stands for a space in SentencePiece vocabularies.
const SPACE: char = '\u{2581}';

/// White space that a control token of a template takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strip {
    pub(super) token: u32,
    pub(super) left: bool,
    pub(super) right: bool,
}

impl Tokenizer {
    /// Builds the tokenizer of a `tokenizer.json`: byte pairs or WordPiece.
    ///
    /// # Errors
    /// [`TokenizerError`].
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        Self::from_json_with_start(json, None)
    }

    /// As [`from_json`](Self::from_json); `start` is the token that plain text begins with where the file itself names
    /// none.
    pub(crate) fn from_json_with_start(json: &[u8], start: Option<u32>) -> Result<Self, TokenizerError> {
        if json.len() > MAX_BYTES {
            return Err(TokenizerError::JsonSize { found: json.len(), limit: MAX_BYTES });
        }
        let file: serde_json::Value = serde_json::from_slice(json).map_err(TokenizerError::Json)?;
        let checked = check::file(&file)?;
        drop(file);
        let mut machine = tokenizers::Tokenizer::from_bytes(json).map_err(TokenizerFault::new)?;
        machine.with_padding(None);
        machine.with_truncation(None).map_err(TokenizerFault::new)?;
        for added in &checked.added {
            let found = machine.token_to_id(&added.content);
            if found != Some(added.id) {
                let (text, id) = (added.content.clone(), added.id);
                return Err(TokenizerError::AddedId { text, expected: id, found });
            }
        }
        refuse_vanishing(&machine, &checked.added)?;
        // Control tokens in a text are text. Templates find them by themselves.
        machine.set_encode_special_tokens(true);
        let (bytes, ends) = token_bytes(&machine, &checked.added, checked.decoding)?;
        let vocabulary = ends.len();
        let start = checked.start.or(start);
        if let Some(found) = start.filter(|id| *id as usize >= vocabulary) {
            let key = "the token that starts a text".to_owned();
            return Err(TokenizerError::SpecialToken { key, found, vocabulary });
        }
        let control = checked.added.iter().filter(|t| t.special && is_long(&t.content));
        let missing = match checked.decoding {
            Decoding::Bytes => (0..=255u8)
                .filter(|b| machine.token_to_id(bpe::alphabet_char(*b).encode_utf8(&mut [0; 4])).is_none())
                .collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            later: later(&machine),
            bytes,
            ends,
            control: Matcher::new(control.map(|t| (t.content.as_str(), t.id)))?,
            strips: checked.added.iter().filter_map(Added::strip).collect(),
            user_defined: Matcher::default(),
            splits: checked.splits,
            missing,
            space_prefix: matches!(
                checked.decoding,
                Decoding::Pieces { space_prefix: true } | Decoding::WordPiece
            ),
            add_bos: start,
            hash: hash(json, start),
            machine: Some(machine),
        })
    }
}

/// Refuses added tokens of which the normalizer leaves nothing: they would be found everywhere, also inside of characters.
fn refuse_vanishing(machine: &tokenizers::Tokenizer, added: &[Added]) -> Result<(), TokenizerError> {
    let Some(normalizer) = machine.get_normalizer() else { return Ok(()) };
    for token in added.iter().filter(|token| token.normalized) {
        let mut text = NormalizedString::from(token.content.as_str());
        normalizer.normalize(&mut text).map_err(TokenizerFault::new)?;
        if text.get().is_empty() {
            let expected = "tokens of which the normalizer leaves something";
            return Err(TokenizerError::JsonField { field: "added_tokens", expected });
        }
    }
    Ok(())
}

/// What a tokenizer from a `tokenizer.json` is: its bytes, and the token that starts a text.
fn hash(json: &[u8], start: Option<u32>) -> Hash32 {
    let start = start.map_or(u64::MAX, u64::from).to_le_bytes();
    Hash32(blake3_256(&[b"deepnode tokenizer json v1\0", &start, json]))
}

/// The machine for the parts of a text behind a control token, where those are encoded in another way than the first.
fn later(machine: &tokenizers::Tokenizer) -> Option<tokenizers::Tokenizer> {
    fn without_first(pre: &PreTokenizerWrapper) -> Option<PreTokenizerWrapper> {
        match pre {
            PreTokenizerWrapper::Metaspace(space) if space.prepend_scheme == PrependScheme::First => {
                let mut space = space.clone();
                space.set_prepend_scheme(PrependScheme::Never);
                Some(PreTokenizerWrapper::Metaspace(space))
            }
            _ => None,
        }
    }
    let pre = without_first(machine.get_pre_tokenizer()?)?;
    let mut later = machine.clone();
    later.with_pre_tokenizer(Some(pre));
    Some(later)
}

/// The bytes of all tokens, one after another, and where each ends.
fn token_bytes(
    machine: &tokenizers::Tokenizer,
    added: &[Added],
    decoding: Decoding,
) -> Result<(Vec<u8>, Vec<usize>), TokenizerError> {
    let vocabulary = machine.get_vocab(true);
    let most = vocabulary.values().copied().max().ok_or(TokenizerError::Empty)?;
    if most as usize >= MAX_ROWS {
        return Err(TokenizerError::JsonId { found: most, limit: MAX_ROWS });
    }
    let limit = vocabulary.len().saturating_mul(MAX_IDS_PER_TOKEN).saturating_add(MAX_GAP);
    if most as usize >= limit {
        return Err(TokenizerError::JsonSparse { found: most, tokens: vocabulary.len(), limit });
    }
    let mut texts = vec![None; most as usize + 1];
    for (text, id) in &vocabulary {
        if texts[*id as usize].replace(text).is_some() {
            return Err(TokenizerError::JsonTwice { id: *id });
        }
    }
    let mut plain = vec![None; texts.len()];
    for token in added {
        plain[token.id as usize] = Some(token);
    }
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(texts.len()));
    for (text, added) in texts.into_iter().zip(plain) {
        match (text, added) {
            (_, Some(token)) if token.special => {}
            (_, Some(token)) => bytes.extend(token.content.as_bytes()),
            (Some(text), None) => decoding.append(text, &mut bytes),
            (None, None) => {}
        }
        ends.push(bytes.len());
    }
    Ok((bytes, ends))
}

impl Decoding {
    fn append(self, text: &str, out: &mut Vec<u8>) {
        match self {
            Self::Bytes => bpe::append_alphabet(text, out),
            Self::Pieces { .. } => match bpe::byte_of(text) {
                Some(byte) => out.push(byte),
                None => out.extend(text.replace(SPACE, " ").into_bytes()),
            },
            Self::WordPiece => match text.strip_prefix("##") {
                Some(rest) => out.extend(rest.as_bytes()),
                None => {
                    out.push(b' ');
                    out.extend(text.as_bytes());
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
