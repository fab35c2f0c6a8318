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
    let after = |at: usize| at + content[at..].chars().next().map_or(0, char::len_utf8);
    for at in control.starts_in(content) {
        breaks[after(at)] = true;
    }
    // A template may trim, so both the outer and the trimmed edges count.
    let trimmed = content.trim();
    let start = content.len() - content.trim_start().len();
    for (from, text) in [(0, content), (start, trimmed)] {
        let (before, behind) = control.reach(text);
        breaks[from] |= before;
        breaks[from + text.len()] |= behind;
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
