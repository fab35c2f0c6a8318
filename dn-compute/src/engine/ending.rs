//! Where an answer ends.

use std::sync::Arc;

use dn_core::objects::FinishReason;

use super::GenerateRequest;
use crate::model::ModelFront;
use crate::tokenizer::TextStream;

/// Watches the tokens of one answer. Engine and replay ask the same one.
#[derive(Debug)]
pub(super) struct Ending {
    front: Arc<ModelFront>,
    /// Only when there are stop texts.
    text: Option<TextStream>,
    limit: usize,
    count: usize,
}

impl Ending {
    pub(super) fn new(front: &Arc<ModelFront>, request: &GenerateRequest<'_>) -> Self {
        let room = (front.context() as usize).saturating_sub(request.prompt.len());
        let has_texts = request.stop.iter().any(|s| !s.is_empty());
        Self {
            front: Arc::clone(front),
            text: has_texts.then(|| front.text_stream(request.stop)),
            limit: room.min(request.max_tokens as usize),
            count: 0,
        }
    }

    /// Most tokens of the answer.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Takes the next token; says whether the answer ends with it.
    pub(super) fn push(&mut self, token: u32) -> Option<FinishReason> {
        self.count += 1;
        if self.front.stop_tokens().binary_search(&token).is_ok() {
            return Some(FinishReason::Stop);
        }
        if let Some(text) = &mut self.text {
            text.push(token);
            if text.stopped() {
                return Some(FinishReason::Stop);
            }
        }
        (self.count >= self.limit).then_some(FinishReason::Length)
    }
}
