//! `gelu(x)`: see [`crate::spec::gelu`].

use crate::spec::{NumericError, gelu};

pub(super) fn gelu(x: &mut [f32]) -> Result<(), NumericError> {
    gelu::check_gelu(x)?;
    x.iter_mut().for_each(|x| *x = gelu::gelu(*x));
    Ok(())
}
