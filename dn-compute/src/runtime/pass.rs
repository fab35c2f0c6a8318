//! The first backend's share of a step in one call, if it has that.

use super::step::{Part, Rows};
use super::{Decoder, Place, Scratch, Split, logits_rows};
use crate::spec::{NumericError, PassCall, PassOutput, PassPart, PassValues, RopeTable};
use crate::trace::StepTrace;

/// How far a pass went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    /// Layers done, and the embedding before them if it is the same backend's.
    pub(super) layers: usize,
    /// Whether the logits that are wanted are there.
    pub(super) logits: bool,
}

impl Decoder {
    /// Asks the backend of the first layer for all that is its, in one call.
    pub(super) fn pass(
        &self,
        share: Split,
        parts: &mut [Part<'_>],
        rows: &Rows,
        rope: &RopeTable,
        s: &mut Scratch,
        trace: Option<&mut StepTrace>,
    ) -> Result<Passed, NumericError> {
        let (layers, all, vocabulary) =
            (share.layers as usize, self.weights.layers.len(), self.hyper.vocabulary as usize);
        if layers == 0 {
            return Ok(Passed::default());
        }
        let logits =
            share.output && layers == all && (1..=logits_rows(vocabulary)).contains(&rows.wanted.len());
        let at: Vec<usize> = rows.wanted.iter().map(|(row, _)| *row).collect();
        let output = logits.then(|| PassOutput {
            norm: &self.weights.output_norm,
            matrix: &self.weights.output,
            rows: &at,
        });
        let call = PassCall {
            embedding: share.embedding.then_some((&self.weights.embedding, &rows.tokens[..])),
            layers: &self.weights.layers[..layers],
            output,
            eps: self.epsilon(),
            heads: self.hyper.heads as usize,
            mask: self.mask(),
            rope,
            positions: &rows.positions,
        };
        s.logits.resize(if logits { at.len() * vocabulary } else { 0 }, 0.0);
        let boundaries = if trace.is_some() { layers + usize::from(share.embedding) } else { 0 };
        s.boundaries.resize(boundaries * s.x.len(), 0.0);
        let mut values = PassValues {
            stream: &mut s.x,
            boundaries: trace.is_some().then_some(&mut s.boundaries[..]),
            logits: &mut s.logits,
        };
        let mut caches: Vec<PassPart<'_>> = parts
            .iter_mut()
            .zip(&rows.parts)
            .map(|(part, range)| PassPart { kv: &mut part.session.kv[..layers], rows: range.len() })
            .collect();
        let backend = self.backends.at(Place::Layer(0));
        if !backend.pass(&call, &mut caches, &mut values)? {
            return Ok(Passed::default());
        }
        if let Some(trace) = trace {
            let mut streams = s.boundaries.chunks_exact(s.x.len());
            if share.embedding
                && let Some(stream) = streams.next()
            {
                trace.boundary(stream);
            }
            for (l, stream) in streams.enumerate() {
                self.entries(l, parts, rows, trace);
                trace.boundary(stream);
            }
        }
        Ok(Passed { layers, logits })
    }
}
