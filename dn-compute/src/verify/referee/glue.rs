//! Operations whose every element reads a few values.

use super::{Bench, Finding, Wrong, floats, shown, wrong_opening};
use crate::spec::embed::dequantise_row;
use crate::spec::float;
use crate::spec::quantise::quantise;
use crate::spec::silu::silu_mul;
use crate::spec::{Op, Pairing};
use crate::tensors::Slot;
use crate::verify::error::RefereeError;
use crate::verify::meter;

/// Bytes of the request before its prompt's token ids.
const PROMPT_OFFSET: usize = dn_core::objects::JobRequest::PROMPT_OFFSET;

impl Bench<'_> {
    pub(super) fn token(&self) -> Finding {
        self.no_parts()?;
        let subject = &self.claim.subject;
        let expected = match self.claim.position.checked_sub(subject.prompt_tokens) {
            None => {
                self.expect_rows(0)?;
                let at = PROMPT_OFFSET + 4 * self.claim.position as usize;
                self.request(at..at + 4)?
            }
            Some(index) => {
                self.expect_rows(1)?;
                self.output(0, index..index + 1)?
            }
        };
        let expected = u32::from_le_bytes([expected[0], expected[1], expected[2], expected[3]]);
        // A token that the model lacks cannot be fed; an honest worker refuses the request.
        let holds = expected == self.claim.value && expected < self.geometry.h.vocabulary;
        Ok((!holds).then_some(Wrong::Value))
    }

    /// The bytes of some output tokens, from the opening's row `row`.
    pub(super) fn output(&self, row: usize, tokens: std::ops::Range<u32>) -> Result<&[u8], RefereeError> {
        let (subject, bytes) = (&self.claim.subject, 4 * tokens.start as usize..4 * tokens.end as usize);
        let len = 4 * subject.output_tokens as usize;
        shown("the output tokens", &self.opening.rows[row], subject.output_hash, len, bytes)
    }

    /// Bytes of the canonical request.
    pub(super) fn request(&self, range: std::ops::Range<usize>) -> Result<&[u8], RefereeError> {
        let Some(request) = &self.opening.request else {
            return Err(wrong_opening("number of request slices", 1, 0));
        };
        let job = dn_core::Hash32(self.claim.subject.job.0);
        shown("the request", &request.slice, job, request.len as usize, range)
    }

    pub(super) fn embed(&self, table: Slot) -> Finding {
        self.no_parts()?;
        self.expect_rows(0)?;
        if self.claim.token >= self.geometry.h.vocabulary {
            return Ok(Some(Wrong::Value));
        }
        let (matrix, row) = self.matrix_row(table, self.claim.token as usize)?;
        let mut out = vec![0.0; matrix.cols()];
        meter::steps(out.len());
        dequantise_row(matrix.row(row), &mut out);
        Ok(self.value(out[self.element()]))
    }

    pub(super) fn bias(&self, weight: Slot) -> Finding {
        self.no_parts()?;
        self.expect_rows(1)?;
        let element = self.element();
        let x = self.input(0, 0, self.op.len, element..element + 1)?[0];
        Ok(self.value(float::add(x, self.vector_value(weight, element)?)))
    }

    pub(super) fn add(&self) -> Finding {
        self.no_parts()?;
        let (x, y) = self.pair()?;
        Ok(self.value(float::add(x, y)))
    }

    pub(super) fn silu_mul(&self) -> Finding {
        self.no_parts()?;
        let (gate, up) = self.pair()?;
        Ok(self.value(silu_mul(gate, up)))
    }

    fn pair(&self) -> Result<(f32, f32), RefereeError> {
        self.expect_rows(2)?;
        let element = self.element();
        let one = |i| self.input(i, i, self.op.len, element..element + 1).map(|x| x[0]);
        Ok((one(0)?, one(1)?))
    }

    pub(super) fn rope(&self) -> Finding {
        self.no_parts()?;
        self.expect_rows(1)?;
        let pairs = self.geometry.h.rope_size as usize / 2;
        let factors = self.geometry.rope_factors().map(|slot| self.vector(slot, 0..pairs)).transpose()?;
        let spec = self.geometry.rope(factors);
        let (d, half) = (spec.head_dim, spec.rotary_dim / 2);
        let (base, at) = (self.element() / d * d, self.element() % d);
        let head = self.input(0, 0, self.op.len, base..base + d)?;
        if at >= spec.rotary_dim {
            return Ok(self.value(float::flush(head[at])));
        }
        let (pair, is_first) = match spec.pairing {
            Pairing::Interleaved => (at / 2, at % 2 == 0),
            Pairing::HalfSplit => (at % half, at < half),
        };
        let (a, b) = match spec.pairing {
            Pairing::Interleaved => (head[2 * pair], head[2 * pair + 1]),
            Pairing::HalfSplit => (head[pair], head[pair + half]),
        };
        // A turn takes 56 products, and YaRN's ramp compares the turns of all elements with both its ends.
        meter::steps(56 * (2 + 2 * spec.rotary_dim));
        let Ok([cos, sin]) = spec.rotation(self.claim.position, pair) else {
            return Ok(Some(Wrong::Value));
        };
        let expected = if is_first {
            float::sub(float::mul(a, cos), float::mul(b, sin))
        } else {
            float::add(float::mul(a, sin), float::mul(b, cos))
        };
        Ok(self.value(expected))
    }

    pub(super) fn entry(&self) -> Finding {
        self.no_parts()?;
        self.expect_rows(1)?;
        let d = self.geometry.h.head_size as usize;
        let (head, field) = (self.element() / (2 + 2 * d), self.element() % (2 + 2 * d));
        // Exponent of key and value, then the integers of both.
        let (input, element) = match field {
            0 | 1 => (field, None),
            _ => ((field - 2) / d, Some((field - 2) % d)),
        };
        let len = self.geometry.kv_width();
        let bytes = head * d * 4..(head + 1) * d * 4;
        let hash = self.claim.inputs[input];
        let x = floats(shown("a row of values", &self.opening.rows[0], hash, len * 4, bytes)?);
        let mut a = vec![0i16; d];
        meter::steps(d);
        let Ok(e) = quantise(Op::KvAppend, "x", &x, &mut a) else { return Ok(Some(Wrong::Value)) };
        let expected = element.map_or(e as i16, |c| a[c]);
        let holds = self.claim.value == u32::from(expected as u16);
        Ok((!holds).then_some(Wrong::Value))
    }
}
