//! The devices that are here, each with what is asked of it.

use std::path::Path;

use super::rate::measure;
use super::{Candidate, Depth, State};
use crate::engine::{BackendKind, EngineError, EngineOptions};
use crate::spec::Backend;
use crate::verdict::{CODE, Outcome, Subject, Verdict};

type Opened = Result<Box<dyn Backend>, EngineError>;
/// Backends that find no device, and what they say.
type Absent = Vec<(BackendKind, EngineError)>;

/// How a device is opened.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Unchecked,
    Qualified,
    /// Qualified whatever is kept.
    Anew,
}

/// A device.
pub(super) struct Found {
    pub(super) backend: BackendKind,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) kind: String,
    pub(super) isa: &'static str,
    /// What a verdict about it is about; `None` where what it needs is not here, which opening it says.
    pub(super) subject: Option<Subject>,
    pub(super) open: Box<dyn Fn(How) -> Opened>,
}

impl Found {
    /// The device, measured, and compared as far as the depth asks for it.
    pub(super) fn candidate(&self, cache: Option<&Path>, depth: Depth) -> Candidate {
        let Self { backend, name, driver, kind, isa, .. } = self;
        let state = match depth {
            // One that is known to be wrong is not measured.
            Depth::Choose if self.is_known_wrong(cache) => self.compared(false),
            Depth::Choose => State::NotCompared,
            Depth::Compare | Depth::Anew => self.compared(depth == Depth::Anew),
        };
        let mut candidate = Candidate {
            backend: *backend,
            name: name.clone(),
            driver: driver.clone(),
            kind: kind.clone(),
            isa,
            weights_per_s: None,
            state,
        };
        if !matches!(candidate.state, State::Refused(_)) {
            let found = self.subject.as_ref().map_or_else(
                // Whatever is missing says so when it is opened.
                || (self.open)(How::Unchecked).and_then(|backend| Ok(measure(&*backend)?)),
                |subject| rate(cache, subject, depth == Depth::Anew, || (self.open)(How::Unchecked)),
            );
            match found {
                Ok(rate) => candidate.weights_per_s = Some(rate),
                Err(error) => candidate.state = State::Refused(error),
            }
        }
        candidate
    }

    fn is_known_wrong(&self, cache: Option<&Path>) -> bool {
        let verdict = self.subject.as_ref().map(|subject| Verdict::read(cache, subject));
        verdict.is_some_and(|verdict| matches!(verdict.outcome, Outcome::Wrong(_)))
    }

    /// Whether it is right.
    pub(super) fn compared(&self, anew: bool) -> State {
        match (self.open)(if anew { How::Anew } else { How::Qualified }) {
            Ok(_) => State::Right,
            Err(error) => State::Refused(error),
        }
    }
}

/// The rate that is kept, or measured and then kept.
fn rate(
    cache: Option<&Path>,
    subject: &Subject,
    anew: bool,
    open: impl FnOnce() -> Opened,
) -> Result<u64, EngineError> {
    if let Some(rate) = Verdict::read(cache, subject).weights_per_s.filter(|_| !anew) {
        return Ok(rate);
    }
    let rate = measure(&*open()?)?;
    // What was compared meanwhile stays.
    let now = Verdict::read(cache, subject);
    Verdict { weights_per_s: Some(rate), ..now }.write(cache, subject);
    Ok(rate)
}

/// The CPU's instruction set and rate.
pub(super) fn cpu_rate(options: &EngineOptions, anew: bool) -> (&'static str, Option<u64>) {
    let Ok(cpu) = options.cpu() else { return ("", None) };
    let info = cpu.info();
    let device = format!("{} {} threads", info.isa, info.threads);
    let subject = Subject { backend: "cpu", device, driver: processor(), code: CODE.to_owned() };
    (info.isa, rate(options.cache, &subject, anew, || Ok(cpu)).ok())
}

/// The processor's name, where the system tells: caches may be shared between machines.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, name)| name.trim().to_owned())
}

/// Every device, those of CUDA first, the best first.
pub(super) fn all(options: &EngineOptions) -> (Vec<Found>, Absent) {
    let (mut devices, mut absent) = (Vec::new(), Vec::new());
    for (backend, found) in [(BackendKind::Cuda, cuda(options)), (BackendKind::Wgpu, wgpu(options))] {
        match found {
            Ok(found) => devices.extend(found),
            Err(error) => absent.push((backend, error)),
        }
    }
    (devices, absent)
}

#[cfg(feature = "cuda")]
fn cuda(options: &EngineOptions) -> Result<Vec<Found>, EngineError> {
    use crate::cuda::{Cuda, CudaDevice, CudaOptions, devices};

    let found = |device: CudaDevice| {
        let cache = options.cache.map(Path::to_owned);
        let own = CudaOptions { device: Some(device.name.clone()), cache, ..CudaOptions::default() };
        let open = move |how| -> Opened {
            Ok(Box::new(match how {
                How::Unchecked => Cuda::unchecked(&own)?,
                How::Qualified => Cuda::qualified(&own)?,
                How::Anew => Cuda::qualified_anew(&own)?,
            }))
        };
        Found {
            backend: BackendKind::Cuda,
            subject: device.subject().ok(),
            name: device.name,
            driver: device.driver,
            kind: if device.is_integrated { "integrated" } else { "card" }.to_owned(),
            isa: device.isa,
            open: Box::new(open),
        }
    };
    Ok(devices()?.into_iter().map(found).collect())
}

#[cfg(not(feature = "cuda"))]
const fn cuda(_: &EngineOptions) -> Result<Vec<Found>, EngineError> {
    Err(EngineError::NotBuilt { backend: BackendKind::Cuda })
}

#[cfg(feature = "wgpu")]
fn wgpu(options: &EngineOptions) -> Result<Vec<Found>, EngineError> {
    use crate::wgpu::{AdapterSummary, Wgpu, WgpuError, WgpuOptions, adapters};

    let found = |device: AdapterSummary| {
        let cache = options.cache.map(Path::to_owned);
        let own = WgpuOptions { adapter: Some(device.name.clone()), cache, ..WgpuOptions::default() };
        let open = move |how| -> Opened {
            Ok(Box::new(match how {
                How::Unchecked => Wgpu::unchecked(&own)?,
                How::Qualified => Wgpu::qualified(&own)?,
                How::Anew => Wgpu::qualified_anew(&own)?,
            }))
        };
        Found {
            backend: BackendKind::Wgpu,
            subject: Some(device.subject(device.subgroups)),
            kind: device.kind.to_string(),
            name: device.name,
            driver: device.driver,
            isa: device.api,
            open: Box::new(open),
        }
    };
    let devices = adapters();
    if devices.is_empty() {
        return Err(WgpuError::NoAdapter.into());
    }
    Ok(devices.into_iter().map(found).collect())
}

#[cfg(not(feature = "wgpu"))]
const fn wgpu(_: &EngineOptions) -> Result<Vec<Found>, EngineError> {
    Err(EngineError::NotBuilt { backend: BackendKind::Wgpu })
}

#[cfg(test)]
mod tests;
