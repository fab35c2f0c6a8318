//! What decides a choice beside the logits: the settings of the request, and the token that was chosen.

use dn_core::encoding::{Canonical, DecodeError, Reader};
use dn_core::objects::{Decoding, Grammar, JobRequest, Sampling, TokenBias};

use super::output_index;
use crate::verify::choice::{Settings, is_judged};
use crate::verify::claim::{Claim, RequestSlice};
use crate::verify::error::RefereeError;
use crate::verify::referee::shown;
use crate::verify::slice::Slice;

/// The settings, and the token that the receipt's output has.
///
/// # Errors
/// [`RefereeError::Unsupported`] for a request with a grammar; others where the slices do not show what is bound.
pub(crate) fn settings(
    claim: &Claim,
    request: &RequestSlice,
    output: &Slice,
) -> Result<(Settings, u32), RefereeError> {
    let (subject, index) = (&claim.subject, output_index(claim)? as usize);
    let len = 4 * subject.output_tokens as usize;
    let token = shown("the output tokens", output, subject.output_hash, len, 4 * index..4 * index + 4)?;
    let token = u32::from_le_bytes([token[0], token[1], token[2], token[3]]);
    let start = JobRequest::PROMPT_OFFSET + 4 * subject.prompt_tokens as usize;
    let end = (request.slice.first as usize).saturating_mul(crate::verify::slice::CHUNK);
    let end = end.saturating_add(request.slice.bytes.len()).max(start);
    let job = dn_core::Hash32(subject.job.0);
    let bytes = shown("the request", &request.slice, job, request.len as usize, start..end)?;
    let (sampling, decoding) = read(bytes).map_err(RefereeError::OpeningEncoding)?;
    is_judged(&decoding)?;
    let Decoding { bias, banned, .. } = decoding;
    Ok((Settings { sampling, bias, banned }, token))
}

/// From the first byte of the settings. Of a grammar, only whether there is one is read.
fn read(bytes: &[u8]) -> Result<(Sampling, Decoding), DecodeError> {
    let mut r = Reader::new(bytes);
    let sampling = Sampling::decode(&mut r)?;
    let at = r.position();
    let (bias, banned) = (Vec::<TokenBias>::decode(&mut r)?, Vec::<u32>::decode(&mut r)?);
    let grammar = if r.take(1)? == Grammar::None.to_bytes() { Grammar::None } else { Grammar::JsonObject };
    let decoding = Decoding { bias, banned, grammar, logprobs: None };
    let what = "a list of the sampler is too long, out of bounds, or not ascending";
    decoding.check().map_err(|_| DecodeError::Invalid { at, what })?;
    Ok((sampling, decoding))
}
