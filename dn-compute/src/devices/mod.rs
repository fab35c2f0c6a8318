//! The ways to compute on this machine: which are right, how fast each is, and which one is to be taken.
//!
//! A rate is measured on a decoder's step: the product of a row with weights that stay where they are. Rates and verdicts are
//! kept in a directory, so that later starts ask no device anything. Whatever is taken, the bits are the same.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod found;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod rate;

#[cfg(any(feature = "cuda", feature = "wgpu", test))]
use std::cmp::Reverse;
use std::env;
use std::path::{Path, PathBuf};

use crate::engine::{BackendKind, EngineError, EngineOptions};

/// How thoroughly devices are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// As far as a choice needs it: a device slower than the CPU is not compared with the reference. What is kept counts.
    Choose,
    /// All are compared. What is kept counts.
    Compare,
    /// All are compared and measured, and what is kept is written anew.
    Anew,
}

/// One way to compute.
#[derive(Debug)]
pub struct Candidate {
    /// The backend.
    pub backend: BackendKind,
    /// The device's name; nothing of the CPU.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// What kind of device it is, in a word.
    pub kind: String,
    /// Its interface or instruction set.
    pub isa: &'static str,
    /// How fast it is with one token at a time; `None` where that was not measured.
    ///
    /// # Units
    /// Weights per second.
    pub weights_per_s: Option<u64>,
    /// Whether it is right.
    pub state: State,
}

/// Whether a way to compute has the reference's bits.
#[derive(Debug)]
pub enum State {
    /// It has.
    Right,
    /// It cannot be used, for this reason.
    Refused(EngineError),
    /// Nobody asked: it would not be taken anyway.
    NotCompared,
}

/// The ways to compute on a machine.
#[derive(Debug)]
pub struct Survey {
    /// The CPU, then devices: those of CUDA, then others, the best first. Devices of the same kind are told apart by their place.
    pub candidates: Vec<Candidate>,
    /// Backends that find no device here, and what they say.
    pub absent: Vec<(BackendKind, EngineError)>,
    /// Which of the candidates is to be taken: the fastest that is right.
    taken: usize,
}

impl Survey {
    /// Looks at this machine. The first time that takes up to seconds; later, with a directory that keeps what was found out, next
    /// to nothing. Without a device nothing is measured, unless everything is to be.
    ///
    /// A device that fails is a candidate refused, never an error.
    pub fn of(options: &EngineOptions, depth: Depth) -> Self {
        Self::look(options, depth)
    }

    /// The one to be taken.
    ///
    /// # Panics
    /// Never: the CPU is always there.
    pub fn taken(&self) -> &Candidate {
        &self.candidates[self.taken]
    }

    /// Whether a candidate is the one to be taken, by its place.
    pub const fn is_taken(&self, index: usize) -> bool {
        index == self.taken
    }

    /// The same options with what is to be taken.
    pub fn apply(&self, options: EngineOptions) -> EngineOptions {
        let taken = self.taken();
        let backend = taken.backend;
        // Options are passed around by value; a program chooses a device once in its life.
        let adapter = (backend != BackendKind::Cpu).then(|| &*taken.name.clone().leak());
        EngineOptions { backend, adapter, ..options }
    }

    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    fn look(options: &EngineOptions, _: Depth) -> Self {
        let absent = [BackendKind::Cuda, BackendKind::Wgpu]
            .map(|backend| (backend, EngineError::NotBuilt { backend }));
        let isa = options.cpu().map_or("", |cpu| cpu.info().isa);
        Self { candidates: vec![cpu(isa, None)], absent: absent.into(), taken: 0 }
    }

    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn look(options: &EngineOptions, depth: Depth) -> Self {
        let (devices, absent) = found::all(options);
        if devices.is_empty() && depth == Depth::Choose {
            return Self { candidates: vec![cpu("", None)], absent, taken: 0 };
        }
        let anew = depth == Depth::Anew;
        let (isa, cpu_rate) = found::cpu_rate(options, anew);
        let mut candidates = vec![cpu(isa, cpu_rate)];
        candidates.extend(devices.iter().map(|device| device.candidate(options.cache, depth)));
        let rates: Vec<Option<u64>> = candidates.iter().map(|candidate| candidate.weights_per_s).collect();
        let taken = fastest(&rates, |index| {
            let state = &mut candidates[index].state;
            if matches!(state, State::NotCompared) {
                *state = devices[index - 1].compared(false);
            }
            matches!(state, State::Right)
        });
        Self { candidates, absent, taken }
    }
}

fn cpu(isa: &'static str, weights_per_s: Option<u64>) -> Candidate {
    let text = String::new;
    let (backend, state) = (BackendKind::Cpu, State::Right);
    Candidate { backend, name: text(), driver: text(), kind: text(), isa, weights_per_s, state }
}

/// The place of the fastest that is right. The first is the CPU, which always is; of equal ones an earlier is taken. What is not
/// faster than the CPU is not asked whether it is right.
#[cfg(any(feature = "cuda", feature = "wgpu", test))]
fn fastest(rates: &[Option<u64>], mut is_right: impl FnMut(usize) -> bool) -> usize {
    let Some(cpu) = rates.first() else { return 0 };
    let mut order: Vec<usize> = (1..rates.len()).filter(|index| rates[*index] > *cpu).collect();
    order.sort_by_key(|index| Reverse(rates[*index]));
    order.into_iter().find(|index| is_right(*index)).unwrap_or(0)
}

/// Whether there may be a graphics card, told without asking a driver: on Linux each kind has a file in `/dev` (direct rendering, NVIDIA, AMD
/// compute, Windows beneath). A software driver has none: it computes on the CPU, slower than the CPU backend does.
pub(crate) fn may_have_a_card() -> bool {
    const FILES: [&str; 4] = ["/dev/dri", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"];
    !cfg!(target_os = "linux") || FILES.iter().any(|file| Path::new(file).exists())
}

/// Where what devices need and what can be found out again is kept: `deepnode/kernels` in the user's caches (`XDG_CACHE_HOME`, or
/// `.cache` in the home directory). `None` for a user without a home.
pub fn user_cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(base.join("deepnode").join("kernels"))
}

#[cfg(test)]
mod tests;
