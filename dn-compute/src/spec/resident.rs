//! Values that never change, and what a backend keeps of them on its device.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

/// What a backend keeps elsewhere of values that never change. A clone starts without; it takes no part in comparisons.
#[derive(Default)]
pub struct Kept(OnceLock<Box<dyn Any + Send + Sync>>);

impl Kept {
    /// What is kept, made if it is not there yet; `None` if another kind of backend keeps something, or `make` failed.
    #[cfg(feature = "wgpu")]
    pub(crate) fn get_or<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Option<T>) -> Option<&T> {
        if self.0.get().is_none()
            && let Some(made) = make()
        {
            // Whoever was faster has made the same.
            let _ = self.0.set(Box::new(made));
        }
        self.0.get()?.downcast_ref()
    }
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Kept" } else { "Kept nowhere" })
    }
}

/// A vector of weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    values: Vec<f32>,
    kept: Kept,
}

impl Vector {
    /// For a backend with memory of its own.
    #[cfg(feature = "wgpu")]
    pub(crate) const fn kept(&self) -> &Kept {
        &self.kept
    }
}

impl From<Vec<f32>> for Vector {
    fn from(values: Vec<f32>) -> Self {
        Self { values, kept: Kept::default() }
    }
}

impl Deref for Vector {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values
    }
}
