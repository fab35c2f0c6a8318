//! Numbers that are not finite, found where they pass anyway: a pass of its own over an input costs as much as many an
//! operation.

use crate::spec::{
    NumericError, Op,
    quantise::{self, non_finite},
};

use super::isa::multiversioned;

/// Elements that are checked, and then written, at a time: they stay in the first-level cache.
pub(super) const AT_ONCE: usize = 1024;

/// The first element at fault of two inputs and of the output, `usize::MAX` for none.
///
/// Parts of a call merge to what the reference finds in one pass after another: an input's fault counts before the
/// output's, and a part that meets one goes on looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) inputs: [usize; 2],
    pub(super) output: usize,
}

impl Faults {
    pub(super) const NONE: Self = Self { inputs: [usize::MAX; 2], output: usize::MAX };

    /// Notes the first element of an input that is not finite; `first` is the slice's place in it. Says whether there is one.
    #[inline(always)]
    pub(super) fn input(&mut self, which: usize, first: usize, x: &[f32]) -> bool {
        let found = non_finite(x);
        note(&mut self.inputs[which], first, found);
        found.is_some()
    }

    /// Notes the first element of the output that is not finite.
    #[inline(always)]
    pub(super) fn output(&mut self, first: usize, x: &[f32]) {
        note(&mut self.output, first, non_finite(x));
    }

    /// The error of a call whose parts met these.
    pub(super) fn error(parts: Vec<Self>, op: Op, names: &[&'static str]) -> Result<(), NumericError> {
        let all = parts.into_iter().fold(Self::NONE, |a, b| Self {
            inputs: [a.inputs[0].min(b.inputs[0]), a.inputs[1].min(b.inputs[1])],
            output: a.output.min(b.output),
        });
        for (input, index) in names.iter().zip(all.inputs) {
            if index != usize::MAX {
                return Err(NumericError::NonFinite { op, input, index });
            }
        }
        match all.output {
            usize::MAX => Ok(()),
            index => Err(NumericError::Overflow { op, index }),
        }
    }
}

#[inline(always)]
fn note(to: &mut usize, first: usize, found: Option<usize>) {
    if let Some(index) = found {
        *to = (*to).min(first + index);
    }
}

multiversioned! {
    /// [`quantise::no_overflow`] with the level's instructions.
    pub(super) fn no_overflow(op: Op, out: &[f32]) -> Result<(), NumericError> = quantise::no_overflow;
}
