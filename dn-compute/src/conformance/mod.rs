//! One suite for every backend: it gives a backend and the [reference](crate::reference) the same calls and compares the
//! bits, or the errors.
//!
//! The cases are random and edge cases from a fixed seed: zero blocks, extreme weights, the longest rows, subnormal
//! inputs, huge scales, odd lengths, one token and many, grouped heads, inputs that must be refused.

mod add;
mod attention;
mod embed;
mod gelu;
mod layer;
mod layer_norm;
mod linear;
mod pass;
mod random;
mod rms_norm;
mod rope;
mod silu;

pub use pass::one_by_one;
pub use random::SplitMix64;

use crate::reference::Reference;
use crate::spec::{Backend, DeviceFault, NumericError, Op};
use random::SplitMix64 as Rng;

/// Where a backend differs from the reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// An output has other bits.
    #[error("{op}, case {case}: output[{index}] is {found:#010x}, expected {expected:#010x}")]
    Bits {
        /// The operation.
        op: Op,
        /// The case, counted from 0.
        case: usize,
        /// Index of the first output that differs.
        index: usize,
        /// Bits of the reference.
        expected: u32,
        /// Bits of the backend.
        found: u32,
    },
    /// One refuses and the other does not, or they refuse differently. `None` is success.
    #[error("{op}, case {case}: ended with {found:?}, expected {expected:?}")]
    Outcome {
        /// The operation.
        op: Op,
        /// The case, counted from 0.
        case: usize,
        /// End of the reference.
        expected: Option<NumericError>,
        /// End of the backend.
        found: Option<NumericError>,
    },
    /// A matrix that the reference prepares was refused.
    #[error("{op}, case {case}: a matrix was refused: {source}")]
    Prepare {
        /// The operation.
        op: Op,
        /// The case, counted from 0.
        case: usize,
        /// Why.
        source: NumericError,
    },
}

impl Mismatch {
    /// Whether the backend's device failed, instead of computing something else: full memory, a lost device, a driver that
    /// refuses. That says nothing about its bits.
    pub fn is_failure(&self) -> bool {
        let (Self::Outcome { found: Some(error), .. } | Self::Prepare { source: error, .. }) = self else {
            return false;
        };
        matches!(error, NumericError::Device { fault, .. } if *fault != DeviceFault::Wrong)
    }
}

/// What was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls made to both.
    pub calls: usize,
    /// Outputs whose bits were compared.
    pub outputs: usize,
    /// Calls that both refused, in the same way.
    pub refusals: usize,
    /// Layers that the backend did in one call.
    pub layers: usize,
}

/// Runs every case of every operation; a few seconds for a fast backend.
///
/// # Errors
/// The first difference.
pub fn run(backend: &dyn Backend) -> Result<Report, Mismatch> {
    sample(backend, 1)
}

/// Runs one of `every` cases of every operation, always the same ones.
///
/// # Errors
/// The first difference.
pub fn sample(backend: &dyn Backend, every: usize) -> Result<Report, Mismatch> {
    let mut suite = Suite { backend, every, report: Report::default(), op: Op::Linear, case: 0 };
    linear::cases(&mut suite)?;
    embed::cases(&mut suite)?;
    rms_norm::cases(&mut suite)?;
    rope::cases(&mut suite)?;
    attention::cases(&mut suite)?;
    silu::cases(&mut suite)?;
    add::cases(&mut suite)?;
    layer_norm::cases(&mut suite)?;
    gelu::cases(&mut suite)?;
    layer::cases(&mut suite)?;
    Ok(suite.report)
}

/// The state of a run.
struct Suite<'a> {
    backend: &'a dyn Backend,
    /// Of how many cases one is run.
    every: usize,
    report: Report,
    op: Op,
    case: usize,
}

impl Suite<'_> {
    /// Starts the cases of an operation, with their own stream of numbers.
    fn start(&mut self, op: Op, seed: u64) -> Rng {
        (self.op, self.case) = (op, 0);
        Rng(seed)
    }

    /// Makes the same call to both and compares what they wrote.
    fn compare(
        &mut self,
        mut call: impl FnMut(&dyn Backend) -> Result<Vec<f32>, NumericError>,
    ) -> Result<(), Mismatch> {
        let (op, case) = (self.op, self.case);
        self.case += 1;
        if !case.is_multiple_of(self.every.max(1)) {
            return Ok(());
        }
        let (expected, found) = (call(&Reference), call(self.backend));
        self.report.calls += 1;
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                self.report.outputs += expected.len();
                let differs = expected.iter().zip(&found).position(|(e, f)| e.to_bits() != f.to_bits());
                match differs {
                    None => Ok(()),
                    Some(index) => {
                        let (expected, found) = (expected[index].to_bits(), found[index].to_bits());
                        Err(Mismatch::Bits { op, case, index, expected, found })
                    }
                }
            }
            (expected, found) => {
                let (expected, found) = (expected.err(), found.err());
                if expected == found {
                    self.report.refusals += 1;
                    return Ok(());
                }
                Err(Mismatch::Outcome { op, case, expected, found })
            }
        }
    }
}

impl Rng {
    fn vector(&mut self, kind: Kind, len: usize) -> Vec<f32> {
        (0..len).map(|i| kind.value(self, i)).collect()
    }
}

/// What the values of an input look like.
#[derive(Clone, Copy)]
enum Kind {
    /// Up to 4 in magnitude.
    Usual,
    /// Largest magnitudes of both signs, all over.
    Full,
    /// Whole stretches of zero, of both signs.
    Gaps,
    /// Rarely a value ten thousand times the rest.
    Outliers,
    /// Below the normal range.
    Subnormal,
    /// Around `1e-37`.
    Tiny,
    /// Just below `2^100`.
    Huge,
    /// Every exponent from `2^-126` to `2^99`.
    Wide,
    /// All zero.
    Zero,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Usual,
        Self::Full,
        Self::Gaps,
        Self::Outliers,
        Self::Subnormal,
        Self::Tiny,
        Self::Huge,
        Self::Wide,
        Self::Zero,
    ];

    fn value(self, rng: &mut Rng, i: usize) -> f32 {
        let power = |e: i32| f32::from_bits(((127 + e) as u32) << 23);
        match self {
            Self::Usual => rng.signed() * 4.0,
            Self::Full => [3.999_9, -3.999_9][rng.below(2)],
            Self::Gaps if (i / 32).is_multiple_of(2) => [0.0, -0.0][rng.below(2)],
            Self::Gaps => rng.signed(),
            Self::Outliers if rng.below(97) == 0 => rng.signed() * 1e4,
            Self::Outliers => rng.signed(),
            Self::Subnormal => f32::from_bits(rng.next() as u32 & 0x807f_ffff),
            Self::Tiny => rng.signed() * 1e-37,
            Self::Huge => rng.signed() * power(99),
            Self::Wide => {
                let e = rng.below(226) as i32 - 126;
                rng.signed() * power(e)
            }
            Self::Zero => 0.0,
        }
    }
}
