//! Whether a request can be served, before anything is computed.

use std::sync::Arc;

use super::answer::Answer;
use super::{GenerateError, GenerateRequest};
use crate::model::ModelFront;

impl GenerateRequest<'_> {
    /// Checks everything that is known of the request without the weights: its tokens, stop texts, settings and grammar.
    ///
    /// # Errors
    /// What [`Engine::generate`](super::Engine::generate) would refuse it for.
    pub fn check(&self, front: &Arc<ModelFront>) -> Result<(), GenerateError> {
        tokens(front, self)?;
        Answer::new(front, self).map(drop)
    }
}

/// Checks prompt and output against the model's context and vocabulary.
pub(super) fn tokens(front: &ModelFront, request: &GenerateRequest<'_>) -> Result<(), GenerateError> {
    let (context, prompt) = (front.context(), request.prompt.len());
    if prompt == 0 {
        return Err(GenerateError::EmptyPrompt);
    }
    if request.max_tokens == 0 {
        return Err(GenerateError::NoTokens);
    }
    if prompt >= context as usize {
        return Err(GenerateError::ContextExceeded { prompt, context });
    }
    vocabulary(front, request.prompt, 0)?;
    vocabulary(front, request.already, prompt)
}

/// Checks tokens of which the first stands at position `first`.
pub(super) fn vocabulary(front: &ModelFront, tokens: &[u32], first: usize) -> Result<(), GenerateError> {
    let vocabulary = front.vocabulary();
    match tokens.iter().position(|token| *token >= vocabulary) {
        Some(at) => {
            let (position, token) = (first + at, tokens[at]);
            Err(GenerateError::TokenOutOfVocabulary { position, token, vocabulary })
        }
        None => Ok(()),
    }
}
