//! Finds tokens that are matched whole in a text.

use std::collections::HashMap;

/// The texts of some tokens, ready to be found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matcher {
    ids: HashMap<Box<[u8]>, u32>,
    /// Lengths of the texts that start with a byte, longest first.
    lengths: HashMap<u8, Vec<usize>>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Matcher {
    /// Of equal texts the first counts; empty ones are left out.
    pub(crate) fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut out = Self::default();
        for (text, id) in tokens {
            let Some(first) = text.as_bytes().first() else { continue };
            out.ids.entry(text.as_bytes().into()).or_insert(id);
            let lengths = out.lengths.entry(*first).or_default();
            if !lengths.contains(&text.len()) {
                lengths.push(text.len());
            }
        }
        for lengths in out.lengths.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
        }
        out
    }

    /// Leaves out texts of one character: nothing can be put inside them to blind them.
    pub(crate) fn without_single_characters(mut self) -> Self {
        self.ids.retain(|text, _| std::str::from_utf8(text).is_ok_and(|t| t.chars().count() > 1));
        self
    }

    /// The longest token at the start of `text`: its length and id.
    pub(crate) fn at_start(&self, text: &[u8]) -> Option<(usize, u32)> {
        let lengths = self.lengths.get(text.first()?)?;
        lengths.iter().find_map(|len| self.ids.get(text.get(..*len)?).map(|id| (*len, *id)))
    }

    /// The texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.ids.keys().map(AsRef::as_ref)
    }

    /// Splits a text at its tokens, from left to right, the longest at each place.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let (mut from, mut at) = (0, 0);
        while at < text.len() {
            // A token's text is UTF-8, so a match starts and ends between characters.
            let Some((len, id)) = self.at_start(&text.as_bytes()[at..]) else {
                at += 1;
                continue;
            };
            if from < at {
                parts.push(Part::Text(&text[from..at]));
            }
            parts.push(Part::Token(id));
            at += len;
            from = at;
        }
        if from < text.len() {
            parts.push(Part::Text(&text[from..]));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_match_at_the_leftmost_place_wins() {
        let m = Matcher::new([("<a>", 1), ("<a><b>", 2), ("é", 3), ("", 4), ("<a>", 5)]);
        let parts = m.split("x<a><b><a>é<a");
        let expected = [Part::Text("x"), Part::Token(2), Part::Token(1), Part::Token(3), Part::Text("<a")];
        assert_eq!(parts, expected);
        assert!(m.split("").is_empty());
    }
}
