//! Element-wise addition: see [`crate::spec::add`].

use crate::spec::{NumericError, Op, add::check_add, float, quantise::no_overflow};

pub(super) fn add(x: &mut [f32], y: &[f32]) -> Result<(), NumericError> {
    check_add(x, y)?;
    for row in x.chunks_exact_mut(y.len()) {
        for (x, y) in row.iter_mut().zip(y) {
            *x = float::add(*x, *y);
        }
    }
    no_overflow(Op::Add, x)
}
