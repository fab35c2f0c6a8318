//! Finds tokens that are matched whole in a text.
//!
//! Searches read a text once, whatever the tokens are: a vocabulary may be made to be slow (but a text shorter than the longest token is
//! also looked for in all of them). The crate `aho-corasick` does not promise that: its search for the longest text goes back to the end
//! of a shorter one, and its other searches list all texts that end with each other.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::TokenizerError;

/// Most bytes of all texts together. The searches take up to some two hundred times as much.
pub(super) const MAX_TEXT_BYTES: usize = 2 << 20;

/// The texts of some tokens, ready to be found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matcher {
    ids: HashMap<Box<str>, u32>,
    /// Whole texts, read backwards.
    starts: Tree,
    /// Built when first asked for: only what users write in chats is looked at with it.
    edges: OnceLock<Edges>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Matcher {
    /// Of equal texts the first counts; empty ones are left out.
    ///
    /// # Errors
    /// [`TokenizerError::WholeTokens`].
    pub(crate) fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, u32)>) -> Result<Self, TokenizerError> {
        let (mut ids, mut starts, mut bytes) = (HashMap::new(), Tree::default(), 0usize);
        for (text, id) in tokens {
            if text.is_empty() || ids.contains_key(text) {
                continue;
            }
            bytes = bytes.saturating_add(text.len());
            if bytes > MAX_TEXT_BYTES {
                return Err(TokenizerError::WholeTokens { found: bytes, limit: MAX_TEXT_BYTES });
            }
            ids.insert(text.into(), id);
            starts.insert(text.bytes().rev(), id);
        }
        Ok(Self { ids, starts: starts.linked(), edges: OnceLock::new() })
    }

    /// The token with this text.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Splits a text at its tokens, from left to right, the longest at each place.
    pub(crate) fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let (mut parts, mut from) = (Vec::new(), 0);
        // A token's text is UTF-8, so a match starts and ends between characters.
        for (at, token) in self.places(text).into_iter().rev() {
            if at < from {
                continue;
            }
            if from < at {
                parts.push(Part::Text(&text[from..at]));
            }
            parts.push(Part::Token(token.id));
            from = at + token.depth as usize;
        }
        if from < text.len() {
            parts.push(Part::Text(&text[from..]));
        }
        parts
    }

    /// The places in a text at which a token starts, from right to left.
    pub(crate) fn starts_in(&self, text: &str) -> impl Iterator<Item = usize> {
        self.places(text).into_iter().map(|(at, _)| at)
    }

    /// The places in a text at which a token starts, from right to left, and the longest at each: read backwards, it is the longest
    /// that ends there.
    fn places(&self, text: &str) -> Vec<(usize, &Node)> {
        let (mut state, mut found) = (0, Vec::new());
        for (at, byte) in text.bytes().enumerate().rev() {
            state = self.starts.step(state, byte);
            let token = self.starts.nodes[state as usize].token;
            if token != 0 {
                found.push((at, &self.starts.nodes[token as usize]));
            }
        }
        found
    }

    /// Whether a token could begin before `text` and end in or after it, and whether one could begin in `text` and end
    /// after it.
    pub(crate) fn reach(&self, text: &str) -> (bool, bool) {
        if text.is_empty() {
            return (false, false);
        }
        let Edges { heads, tails, longest, .. } = self.edges();
        let bytes = text.as_bytes();
        let near = bytes.len().min(*longest);
        // Away from the root means: what was read last is how some text begins.
        let before = bytes[..near].iter().rev().fold(0, |state, byte| tails.step(state, *byte)) != 0;
        let behind = bytes[bytes.len() - near..].iter().fold(0, |state, byte| heads.step(state, *byte)) != 0;
        let around = || text.len() <= *longest && self.ids.keys().any(|token| token.contains(text));
        (before || around(), behind)
    }

    fn edges(&self) -> &Edges {
        self.edges.get_or_init(|| {
            let texts = || self.ids.keys().map(|text| text.as_bytes());
            let (mut heads, mut tails) = (Tree::default(), Tree::default());
            for text in texts() {
                heads.insert(text[..text.len() - 1].iter().copied(), 0);
                tails.insert(text[1..].iter().rev().copied(), 0);
            }
            let longest = texts().map(<[u8]>::len).max().unwrap_or(0);
            Edges { heads: heads.linked(), tails: tails.linked(), longest }
        })
    }
}

/// Searches for tokens at a text's edges.
#[derive(Debug, Clone)]
struct Edges {
    /// Texts without their last byte.
    heads: Tree,
    /// Texts without their first byte, read backwards.
    tails: Tree,
    /// Bytes of the longest text.
    longest: usize,
}

/// The beginnings of some texts, each linked to the longest shorter one that it ends with.
///
/// # Source
/// Aho and Corasick, "Efficient string matching: an aid to bibliographic search", 1975.
#[derive(Debug, Clone)]
struct Tree {
    /// The root first.
    nodes: Vec<Node>,
    /// The nodes behind the root.
    first: Box<[u32; 256]>,
    /// The nodes behind others.
    next: HashMap<(u32, u8), u32>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    parent: u32,
    byte: u8,
    /// Bytes of this beginning.
    depth: u32,
    /// The longest shorter beginning that this one ends with.
    shorter: u32,
    /// The longest whole text that this beginning ends with, or is; 0 for none.
    token: u32,
    /// For a whole text: the token.
    id: u32,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], first: Box::new([0; 256]), next: HashMap::new() }
    }
}

impl Tree {
    fn insert(&mut self, text: impl Iterator<Item = u8>, id: u32) {
        let mut at = 0;
        for byte in text {
            at = match self.behind(at, byte) {
                Some(next) => next,
                None => self.grow(at, byte),
            };
        }
        let node = &mut self.nodes[at as usize];
        (node.token, node.id) = (at, id);
    }

    /// With its links, once all texts are in it.
    fn linked(mut self) -> Self {
        let mut order: Vec<u32> = (1..self.nodes.len() as u32).collect();
        order.sort_by_key(|node| self.nodes[*node as usize].depth);
        for at in order {
            let Node { parent, byte, token, .. } = self.nodes[at as usize];
            if parent == 0 {
                continue;
            }
            let shorter = self.step(self.nodes[parent as usize].shorter, byte);
            let token = if token == 0 { self.nodes[shorter as usize].token } else { token };
            let node = &mut self.nodes[at as usize];
            (node.shorter, node.token) = (shorter, token);
        }
        self
    }

    fn grow(&mut self, parent: u32, byte: u8) -> u32 {
        let node = self.nodes.len() as u32;
        let depth = self.nodes[parent as usize].depth + 1;
        self.nodes.push(Node { parent, byte, depth, ..Node::default() });
        if parent == 0 {
            self.first[usize::from(byte)] = node;
        } else {
            self.next.insert((parent, byte), node);
        }
        node
    }

    fn behind(&self, at: u32, byte: u8) -> Option<u32> {
        let next = if at == 0 { self.first[usize::from(byte)] } else { *self.next.get(&(at, byte))? };
        (next != 0).then_some(next)
    }

    /// The longest beginning that what was read ends with, after one more byte; 0 for none.
    fn step(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            #[cfg(test)]
            tests::LOOKS.set(tests::LOOKS.get() + 1);
            match self.behind(at, byte) {
                Some(next) => return next,
                None if at == 0 => return 0,
                None => at = self.nodes[at as usize].shorter,
            }
        }
    }
}

/// Whether a text has more than one character: nothing can be put inside others to blind them.
pub(crate) fn is_long(text: &str) -> bool {
    text.chars().nth(1).is_some()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Nodes that searches of this thread have looked at.
        pub(super) static LOOKS: Cell<u64> = const { Cell::new(0) };
    }

    #[test]
    fn the_longest_match_at_the_leftmost_place_wins() {
        let m = Matcher::new([("<a>", 1), ("<a><b>", 2), ("é", 3), ("", 4), ("<a>", 5)]).unwrap();
        let parts = m.split("x<a><b><a>é<a");
        let expected = [Part::Text("x"), Part::Token(2), Part::Token(1), Part::Token(3), Part::Text("<a")];
        assert_eq!(parts, expected);
        assert!(m.split("").is_empty());
        assert_eq!((m.id("<a>"), m.id("<a"), m.id("")), (Some(1), None, None));
        assert_eq!(Matcher::default().split("<a>"), [Part::Text("<a>")]);
        assert_eq!(Matcher::default().starts_in("<a>").count(), 0);
        assert_eq!(Matcher::default().reach("<a>"), (false, false));
    }

    #[test]
    fn more_text_than_is_searched_for_is_refused() {
        let long = "x".repeat(MAX_TEXT_BYTES);
        let refused = Matcher::new([("y", 1), (long.as_str(), 2)]).unwrap_err();
        assert!(matches!(refused, TokenizerError::WholeTokens { limit: MAX_TEXT_BYTES, .. }));
    }

    /// Each text is read once: a token of every length, all but found at every place, would take an hour.
    #[test]
    fn a_hostile_vocabulary_is_no_slower() {
        let tokens: Vec<String> = (1..1024).map(|n| format!("{}b", "a".repeat(n))).collect();
        let m = Matcher::new(tokens.iter().zip(0..).map(|(text, id)| (text.as_str(), id))).unwrap();
        let text = "a".repeat(1 << 20);
        LOOKS.set(0);
        assert_eq!(m.split(&text), [Part::Text(&text)]);
        assert_eq!(m.starts_in(&text).count(), 0);
        // At most two looks a byte: each goes on by one byte, or back by one at least.
        assert!(LOOKS.get() <= 2 * 2 * text.len() as u64, "{}", LOOKS.get());
        LOOKS.set(0);
        assert_eq!(m.reach(&text), (false, true));
        // Its trees are linked meanwhile, a node once each.
        assert!(LOOKS.get() <= 2 * 2 * (1024 * 1024) as u64, "{}", LOOKS.get());
        // A short one is found while a long one is looked for, again at every place.
        let long = format!("{}b", "a".repeat(1023));
        let m = Matcher::new([("a", 1), (long.as_str(), 2)]).unwrap();
        LOOKS.set(0);
        assert_eq!(m.split(&text).len(), 1 << 20);
        assert!(LOOKS.get() <= 2 * text.len() as u64, "{}", LOOKS.get());
        // Every text ends with a thousand others.
        let tokens: Vec<String> = (1..1024).map(|n| "a".repeat(n)).collect();
        let more: Vec<String> = (0..200).map(|n| format!("{}{n}", "a".repeat(1000))).collect();
        let m =
            Matcher::new(tokens.iter().chain(&more).zip(0..).map(|(text, id)| (text.as_str(), id))).unwrap();
        LOOKS.set(0);
        assert_eq!(m.split(&text).len(), (1 << 20) / 1023 + 1);
        assert_eq!(m.starts_in(&text).count(), 1 << 20);
        assert!(LOOKS.get() <= 2 * 2 * text.len() as u64, "{}", LOOKS.get());
    }

    /// The definitions, as slow as they are.
    fn slow_split(tokens: &[String], text: &str) -> Vec<(usize, String)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let here =
                tokens.iter().filter(|t| !t.is_empty() && text.as_bytes()[at..].starts_with(t.as_bytes()));
            match here.max_by_key(|t| t.len()) {
                Some(token) => {
                    found.push((at, token.clone()));
                    at += token.len();
                }
                None => at += 1,
            }
        }
        found
    }

    fn slow_reach(tokens: &[String], text: &str) -> (bool, bool) {
        let some =
            |test: &dyn Fn(&[u8]) -> bool| !text.is_empty() && tokens.iter().any(|t| test(t.as_bytes()));
        let text = text.as_bytes();
        let before = some(&|t| {
            t.windows(text.len()).any(|w| w == text) || (1..t.len()).any(|n| text.starts_with(&t[n..]))
        });
        (before, some(&|t| (1..t.len()).any(|n| text.ends_with(&t[..n]))))
    }

    proptest! {
        #[test]
        fn searches_are_what_their_definitions_say(
            tokens in prop::collection::vec("[ab<é]{0,5}", 0..8),
            text in "[ab<é]{0,12}",
        ) {
            let m = Matcher::new(tokens.iter().zip(0..).map(|(text, id)| (text.as_str(), id))).unwrap();
            let mut at = 0;
            let mut found = Vec::new();
            for part in m.split(&text) {
                match part {
                    Part::Text(part) => at += part.len(),
                    Part::Token(id) => {
                        found.push((at, tokens[id as usize].clone()));
                        at += tokens[id as usize].len();
                    }
                }
            }
            prop_assert_eq!(at, text.len());
            prop_assert_eq!(found, slow_split(&tokens, &text));
            let starts = |at: &usize| tokens.iter().any(|t| !t.is_empty() && text.as_bytes()[*at..].starts_with(t.as_bytes()));
            let expected: Vec<usize> = (0..text.len()).rev().filter(starts).collect();
            prop_assert_eq!(m.starts_in(&text).collect::<Vec<_>>(), expected);
            prop_assert_eq!(m.reach(&text), slow_reach(&tokens, &text));
        }
    }
}
