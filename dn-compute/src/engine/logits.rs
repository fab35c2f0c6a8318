//! Logits of every position, for whoever compares or keeps them.

use std::ops::ControlFlow;

use super::{Engine, GenerateError, check};

impl Engine {
    /// Hands the logits of every position to `on_row` as they are computed: in the order of the positions, for each a row of the
    /// vocabulary's length. Whoever breaks off gets no more rows, and no further step is computed.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn each_logits(
        &self,
        tokens: &[u32],
        on_row: &mut (dyn FnMut(&[f32]) -> ControlFlow<()> + Send),
    ) -> Result<(), GenerateError> {
        if tokens.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let front = self.model.front();
        if tokens.len() > front.context() as usize {
            return Err(GenerateError::ContextExceeded { prompt: tokens.len(), context: front.context() });
        }
        check::vocabulary(front, tokens, 0)?;
        let mut session = self.decoder.session(tokens.len())?;
        let mut over = false;
        for tokens in tokens.chunks(self.chunk) {
            self.feed(&mut session, tokens, 0, &mut |_, row| over = over || on_row(row).is_break())?;
            if over {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use super::*;
    use crate::testing::Shape;
    use crate::{EngineOptions, Model};

    #[test]
    fn rows_come_one_by_one_until_one_is_enough() {
        let model = Arc::new(Model::from_bytes(Shape::default().file(4)).unwrap());
        let prefill_chunk = NonZeroUsize::new(4).unwrap();
        let engine = Engine::new(model, EngineOptions { prefill_chunk, ..EngineOptions::default() }).unwrap();
        let tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5];
        let all = engine.logits(&tokens).unwrap();
        for most in [1, 4, 5, tokens.len() + 1] {
            let mut rows: Vec<Vec<f32>> = Vec::new();
            let mut on_row = |row: &[f32]| {
                rows.push(row.to_vec());
                if rows.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            engine.each_logits(&tokens, &mut on_row).unwrap();
            assert_eq!(rows.len(), most.min(tokens.len()));
            assert!(rows.iter().all(|row| row.len() == 131));
            assert_eq!(rows.concat(), all[..131 * rows.len()]);
        }
        let refused = engine.each_logits(&[], &mut |_| ControlFlow::Break(()));
        assert_eq!(refused, Err(GenerateError::EmptyPrompt));
    }
}
