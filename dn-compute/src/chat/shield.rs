//! Keeps text of a user from being read as control tokens.

use crate::tokenizer::special::Matcher;

/// A character that occurs in none of these texts: one of the 32 that Unicode reserves for such use.
pub(super) fn blind_for<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Option<char> {
    ('\u{fdd0}'..='\u{fdef}').find(|blind| texts.clone().all(|text| !text.contains(*blind)))
}

/// Puts `blind` into `content` wherever it holds, begins or ends a control token's text, so that no such text can be
/// read in it, over its edges or around it once it stands in a template. Other content is left as it is, so that
/// templates may trim, search and split it.
pub(super) fn shield(content: &str, control: &Matcher, blind: char) -> String {
    let mut breaks = vec![false; content.len() + 1];
    let bytes = content.as_bytes();
    let after = |at: usize| at + content[at..].chars().next().map_or(0, char::len_utf8);
    for (at, _) in content.char_indices() {
        if control.at_start(&bytes[at..]).is_some() {
            breaks[after(at)] = true;
        }
    }
    // A template may trim, so both the outer and the trimmed edges count.
    let trimmed = content.trim();
    let start = content.len() - content.trim_start().len();
    for (from, text) in [(0, content), (start, trimmed)] {
        for token in control.texts() {
            let (before, behind) = reaches(token, text.as_bytes());
            breaks[from] |= before;
            breaks[from + text.len()] |= behind;
        }
    }
    let mut out = String::with_capacity(content.len());
    for (at, c) in content.char_indices() {
        if breaks[at] {
            out.push(blind);
        }
        out.push(c);
    }
    if breaks[content.len()] {
        out.push(blind);
    }
    out
}

/// Whether `token` could begin before `text` and end in or after it, and whether it could begin in `text` and end
/// after it.
fn reaches(token: &[u8], text: &[u8]) -> (bool, bool) {
    if text.is_empty() {
        return (false, false);
    }
    let around = token.windows(text.len()).any(|w| w == text);
    let most = token.len().min(text.len() + 1);
    let before = (1..most).any(|n| text.starts_with(&token[token.len() - n..]));
    let behind = (1..most).any(|n| text.ends_with(&token[..n]));
    (around || before, behind)
}
