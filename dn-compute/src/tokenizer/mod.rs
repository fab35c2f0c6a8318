//! Text to token ids and back.

/// The tokenizer of a model file.
#[derive(Debug)]
pub struct Tokenizer {}

impl Tokenizer {
    /// Number of token ids.
    pub fn vocabulary(&self) -> u32 {
        todo!()
    }
    /// Token ids of plain text; nothing in it is taken for a control token.
    ///
    /// # Errors
    /// [`TokenizerError`].
    pub fn encode(&self, _text: &str) -> Result<Vec<u32>, TokenizerError> {
        todo!()
    }
    /// The text of whole token sequences; control tokens have none.
    pub fn decode(&self, _tokens: &[u32]) -> String {
        todo!()
    }
}

/// Turns generated tokens into text as they come: never half a character, never a piece of a stop text.
#[derive(Debug)]
pub struct TextStream {}

impl TextStream {
    /// Takes one token; returns the text that is now certain (possibly empty).
    pub fn push(&mut self, _token: u32) -> String {
        todo!()
    }
    /// True once a stop text was met; what follows it is never returned.
    pub fn stopped(&self) -> bool {
        todo!()
    }
    /// What was held back, at the end of the tokens.
    pub fn finish(self) -> String {
        todo!()
    }
}

/// Why text cannot be encoded or a tokenizer cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {}
