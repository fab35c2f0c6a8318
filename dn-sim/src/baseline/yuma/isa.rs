//! Which vectors a block of miners is computed with.
//!
//! Lanes are miners and a sum is made in the same order whatever their number, products and sums are never contracted: no bit depends on this.

use std::marker::PhantomData;

use super::Number;
use super::pack::{Pack, Plain};

/// Instruction sets that the work is compiled for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Isa {
    /// What every processor of the target has.
    Baseline,
    /// SSE 4.
    #[cfg(target_arch = "x86_64")]
    V2(pulp::x86::V2),
    /// AVX2 and what came with it.
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
}

impl Isa {
    /// All that this processor has, the widest last.
    pub(super) fn all() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut))]
        let mut all = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V2::try_new().map(Self::V2));
            all.extend(pulp::x86::V3::try_new().map(Self::V3));
            all.extend(pulp::x86::V4::try_new().map(Self::V4));
        }
        all
    }

    /// The widest.
    pub(super) fn widest() -> Self {
        Self::all().pop().unwrap_or(Self::Baseline)
    }

    /// Does `work`, which must be `#[inline(always)]` with all that it calls: only what is inlined is compiled for the instruction set.
    #[inline]
    pub(super) fn run<N: Number, W: Work<N>>(self, work: W) -> W::Output {
        match self {
            Self::Baseline => work.call(Plain),
            #[cfg(target_arch = "x86_64")]
            Self::V2(v2) => v2.vectorize(Call(work, N::pack(v2), PhantomData)),
            #[cfg(target_arch = "x86_64")]
            Self::V3(v3) => v3.vectorize(Call(work, N::pack(v3), PhantomData)),
            #[cfg(target_arch = "x86_64")]
            Self::V4(v4) => v4.vectorize(Call(work, N::pack(v4), PhantomData)),
        }
    }
}

/// What can be compiled for instruction sets.
pub(super) trait Work<N: Number> {
    type Output;
    fn call<P: Pack<N>>(self, pack: P) -> Self::Output;
}

struct Call<N, W, P>(W, P, PhantomData<N>);

impl<N: Number, W: Work<N>, P: Pack<N>> pulp::NullaryFnOnce for Call<N, W, P> {
    type Output = W::Output;

    #[inline(always)]
    fn call(self) -> W::Output {
        self.0.call(self.1)
    }
}
