//! Tokens to text as they come.

use std::sync::Arc;

use super::Tokenizer;

/// Turns the tokens of one answer into text: never half a character, never a piece of a stop text.
///
/// Text is handed out as soon as no stop text can begin in it. Bytes that are no UTF-8 come out as U+FFFD.
#[derive(Debug, Clone)]
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    stop: Vec<Vec<u8>>,
    held: Vec<u8>,
    stopped: bool,
}

impl TextStream {
    /// A stream for one answer that ends before the first of these texts; empty ones are ignored.
    pub fn new(tokenizer: Arc<Tokenizer>, stop: &[String]) -> Self {
        let stop = stop.iter().filter(|s| !s.is_empty()).map(|s| s.clone().into_bytes()).collect();
        Self { tokenizer, stop, held: Vec::new(), stopped: false }
    }

    /// Takes one token; returns the text that is now certain (possibly empty).
    pub fn push(&mut self, token: u32) -> String {
        if self.stopped {
            return String::new();
        }
        let searched = self.held.len();
        self.held.extend_from_slice(self.tokenizer.token_bytes(token));
        let certain = match self.find_stop(searched) {
            Some(at) => {
                self.held.truncate(at);
                self.stopped = true;
                at
            }
            None => self.certain(),
        };
        let text = String::from_utf8_lossy(&self.held[..certain]).into_owned();
        self.held.drain(..certain);
        text
    }

    /// True once a stop text was met; what follows it is never returned.
    pub const fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back, at the end of the tokens.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }

    /// Where the first stop text begins; only places that the newest bytes can complete are looked at.
    fn find_stop(&self, searched: usize) -> Option<usize> {
        let first_of = |stop: &[u8]| {
            let from = (searched + 1).saturating_sub(stop.len());
            self.held.get(from..)?.windows(stop.len()).position(|w| w == stop).map(|at| from + at)
        };
        self.stop.iter().filter_map(|stop| first_of(stop)).min()
    }

    /// Bytes that no stop text and no unfinished character can reach into.
    fn certain(&self) -> usize {
        let len = self.held.len();
        let longest = self.stop.iter().map(Vec::len).max().unwrap_or(0);
        let from = len.saturating_sub(longest.saturating_sub(1));
        let open = |at: usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let end = (from..len).find(|at| open(*at)).unwrap_or(len);
        let mut done = 0;
        for chunk in self.held[..end].utf8_chunks() {
            let tail = chunk.invalid();
            done += chunk.valid().len() + tail.len();
            // A chunk at the end that could still become a character waits; before the end it is broken for good.
            if done == end && !tail.is_empty() && is_prefix(tail) {
                done -= tail.len();
            }
        }
        done
    }
}

/// Whether bytes are the beginning of a character.
fn is_prefix(bytes: &[u8]) -> bool {
    let needed = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return false,
    };
    // `utf8_chunks` ends a chunk at the first byte that cannot go on, so what it kept can.
    bytes.len() < needed
}
