//! Instruction sets: what a caller may ask for, and proofs of what the machine has.

use std::fmt;
use std::str::FromStr;

/// An instruction set to compute with. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Isa {
    /// The best that the machine has.
    #[default]
    Auto,
    /// Plain code, whatever the compiler's target allows.
    Scalar,
    /// AVX2.
    Avx2,
    /// AVX-512 with VNNI (F, BW, VL, DQ, VNNI).
    Avx512,
}

impl Isa {
    /// Every choice that names one instruction set, slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        Level::detect(self).is_some()
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no instruction set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no instruction set, expected auto, scalar, avx2 or avx512")]
pub struct ParseIsaError {
    /// What came.
    pub found: String,
}

impl FromStr for Isa {
    type Err = ParseIsaError;
    fn from_str(s: &str) -> Result<Self, ParseIsaError> {
        [Self::Auto, Self::Scalar, Self::Avx2, Self::Avx512]
            .into_iter()
            .find(|isa| isa.name() == s)
            .ok_or_else(|| ParseIsaError { found: s.to_owned() })
    }
}

/// Proof that the machine has AVX2. Only detection makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// Proof that the machine has AVX-512 F, BW, VL, DQ and VNNI. Only detection makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

/// An instruction set that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// The level for a choice, if the machine has it.
    pub(crate) fn detect(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::Scalar),
            Isa::Auto => [Isa::Avx512, Isa::Avx2, Isa::Scalar].into_iter().find_map(Self::detect),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2").then_some(Self::Avx2(Avx2(()))),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni"))
            .then_some(Self::Avx512(Avx512(()))),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => None,
        }
    }

    pub(crate) const fn isa(self) -> Isa {
        match self {
            Self::Scalar => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Isa::Avx512,
        }
    }

    /// Runs plain code compiled for this level, so that the compiler's own vectorisation may use it.
    ///
    /// Sound because the code has one meaning: the compiler never contracts or reassociates floats.
    #[inline(always)]
    pub(crate) fn run<R>(self, f: impl FnOnce() -> R) -> R {
        match self {
            Self::Scalar => f(),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves that the machine has AVX2.
            Self::Avx2(_) => unsafe { run_avx2(f) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves that the machine has these features.
            Self::Avx512(_) => unsafe { run_avx512(f) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn run_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}
