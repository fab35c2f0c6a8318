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
    /// AVX2 with VNNI at 256 bits.
    AvxVnni,
    /// AVX-512 with VNNI (F, BW, VL, DQ, VNNI).
    Avx512,
    /// AVX-512 with VNNI, and tiles of bytes (AMX) where many tokens pass at once.
    Amx,
    /// NEON, which every 64-bit ARM has.
    Neon,
    /// NEON with products of four bytes.
    NeonDot,
}

impl Isa {
    /// Every choice that names one instruction set, slowest first.
    pub const ALL: [Self; 7] =
        [Self::Scalar, Self::Avx2, Self::AvxVnni, Self::Avx512, Self::Amx, Self::Neon, Self::NeonDot];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
            Self::Neon => "neon",
            Self::NeonDot => "neon-dot",
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
#[error(
    "`{found}` is no instruction set, expected auto, scalar, avx2, avx-vnni, avx512, amx, neon or neon-dot"
)]
pub struct ParseIsaError {
    /// What came.
    pub found: String,
}

impl FromStr for Isa {
    type Err = ParseIsaError;
    fn from_str(s: &str) -> Result<Self, ParseIsaError> {
        Self::ALL
            .into_iter()
            .chain([Self::Auto])
            .find(|isa| isa.name() == s)
            .ok_or_else(|| ParseIsaError { found: s.to_owned() })
    }
}

/// Proof that the machine has AVX2. Only detection makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// Proof that the machine has AVX2 and 256-bit VNNI. Only detection makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct AvxVnni(());

/// Proof that the machine has AVX-512 F, BW, VL, DQ and VNNI. Only detection makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

/// Proof that the machine has AVX-512 as above and AMX tiles of bytes, and that the system lets this process use them. Only
/// detection makes one.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amx(Avx512);

#[cfg(target_arch = "x86_64")]
impl Amx {
    /// The vector instructions that come with it.
    pub(crate) const fn avx512(self) -> Avx512 {
        self.0
    }
}

/// Proof that the machine has NEON. Only detection makes one.
#[cfg(target_arch = "aarch64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

/// Proof that the machine has NEON and its products of four bytes. Only detection makes one.
#[cfg(target_arch = "aarch64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeonDot(Neon);

#[cfg(target_arch = "aarch64")]
impl NeonDot {
    /// What comes with it.
    pub(crate) const fn neon(self) -> Neon {
        self.0
    }
}

/// An instruction set that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
}

impl Level {
    /// The level for a choice, if the machine has it.
    pub(crate) fn detect(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::Scalar),
            Isa::Auto => Isa::ALL.into_iter().rev().find_map(Self::detect),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2").then_some(Self::Avx2(Avx2(()))),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"))
                .then_some(Self::AvxVnni(AvxVnni(()))),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => avx512().filter(|_| tiles_granted()).map(|avx512| Self::Amx(Amx(avx512))),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::AvxVnni | Isa::Avx512 | Isa::Amx => None,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon").then_some(Self::Neon(Neon(()))),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => (std::arch::is_aarch64_feature_detected!("neon")
                && std::arch::is_aarch64_feature_detected!("dotprod"))
            .then_some(Self::NeonDot(NeonDot(Neon(())))),
            #[cfg(not(target_arch = "aarch64"))]
            Isa::Neon | Isa::NeonDot => None,
        }
    }

    /// Whether its kernels read weights in four bits.
    pub(crate) const fn takes_four_bits(self) -> bool {
        !matches!(self.isa(), Isa::Neon | Isa::NeonDot)
    }

    pub(crate) const fn isa(self) -> Isa {
        match self {
            Self::Scalar => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) => Isa::AvxVnni,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => Isa::Amx,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => Isa::Neon,
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(_) => Isa::NeonDot,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> Option<Avx512> {
    (is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni"))
    .then_some(Avx512(()))
}

/// Whether the machine has tiles of bytes and the system grants them, which it does on request, once for the process.
#[cfg(target_arch = "x86_64")]
fn tiles_granted() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// AMX-TILE and AMX-INT8 in EDX of leaf 7.
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILE_AND_INT8 == TILE_AND_INT8;
    has && request_tiles()
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours; a kernel that does not know it says so.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// Other systems are not asked yet.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn request_tiles() -> bool {
    false
}

/// A function that runs plain code compiled for each level, so that the compiler's own vectorisation may use it.
///
/// The code has one meaning, whatever it is compiled for: the compiler neither contracts nor reassociates floats. The body must be
/// `#[inline(always)]`, or it would be compiled once, for the baseline.
macro_rules! multiversioned {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
        $vis fn $name(level: $crate::cpu::isa::Level, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            #[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            #[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $body($($arg),*)
            }
            match level {
                $crate::cpu::isa::Level::Scalar => $body($($arg),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the machine has AVX2.
                $crate::cpu::isa::Level::Avx2(_) | $crate::cpu::isa::Level::AvxVnni(_) => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that the machine has these features.
                $crate::cpu::isa::Level::Avx512(_) | $crate::cpu::isa::Level::Amx(_) => unsafe { avx512($($arg),*) },
                // There the compiler's baseline has NEON.
                #[cfg(target_arch = "aarch64")]
                $crate::cpu::isa::Level::Neon(_) | $crate::cpu::isa::Level::NeonDot(_) => $body($($arg),*),
            }
        }
    };
}
pub(crate) use multiversioned;
