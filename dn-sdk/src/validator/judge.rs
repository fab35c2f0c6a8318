//! One receipt, replayed.

use std::time::Duration;

use dn_compute::spec::{DeviceFailure, NumericError};
use dn_compute::{Engine, GenerateError, GenerateRequest};
use dn_core::objects::AuditOutcome;

use crate::opening::Opening;

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub outcome: AuditOutcome,
    /// Why, in words, when it is not a match.
    pub reason: Option<String>,
    /// Time of the replay.
    pub elapsed: Duration,
}

impl Judgement {
    pub(super) fn mismatch(position: u32, reason: String, elapsed: Duration) -> Self {
        Self { outcome: AuditOutcome::Mismatch { position }, reason: Some(reason), elapsed }
    }
}

/// Replays the output of an opening that was [verified](Opening::verify) with the model that its receipt names.
///
/// Everything that an honest worker cannot have signed is a mismatch: other tokens, another end, another trace, another
/// numeric spec, a request that the engine refuses.
///
/// # Errors
/// [`DeviceFailure`]: this auditor's own device failed, which says nothing about the receipt.
pub fn judge(engine: &Engine, opening: &Opening) -> Result<Judgement, DeviceFailure> {
    let (request, receipt) = (&opening.request, &opening.receipt.body);
    let spec = engine.model().manifest().numeric_spec;
    if receipt.numeric_spec != spec {
        let reason = format!("numeric spec {}; the model has {spec}", receipt.numeric_spec);
        return Ok(Judgement::mismatch(0, reason, Duration::ZERO));
    }
    let generate = GenerateRequest {
        prompt: &request.prompt,
        already: &[],
        sampling: request.sampling,
        decoding: &request.decoding,
        max_tokens: request.max_tokens,
        stop: &request.stop,
    };
    let began = std::time::Instant::now();
    let replay = engine.replay(&generate, &opening.output, receipt.finish);
    let elapsed = began.elapsed();
    Ok(match replay {
        Err(GenerateError::Numeric(NumericError::Device { device, fault, .. })) => {
            return Err(DeviceFailure { device, fault });
        }
        Err(error) => Judgement::mismatch(0, format!("no engine answers this request: {error}"), elapsed),
        Ok(replay) => match replay.divergence {
            Some(divergence) => {
                let reason = format!("at position {}: {}", divergence.position, divergence.kind);
                Judgement::mismatch(divergence.position, reason, elapsed)
            }
            None if replay.trace_root != receipt.trace_root => {
                // The tokens agree but not the activations: the leaves of the trace are not in the opening, so the
                // position is not known here.
                let reason =
                    format!("trace root {}; the model has {}", receipt.trace_root, replay.trace_root);
                Judgement::mismatch(0, reason, elapsed)
            }
            None => Judgement { outcome: AuditOutcome::Match {}, reason: None, elapsed },
        },
    })
}
