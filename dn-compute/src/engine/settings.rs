//! How to compute, as a person asks for it: on a command line, in the environment, in a file of settings.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BackendKind, EngineOptions};
use crate::cpu::Isa;
use crate::devices::{Depth, Survey, may_have_a_card};

/// What computes: a backend, or the fastest one that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BackendChoice {
    /// The fastest one that is right, by a short measurement that is kept.
    #[default]
    Auto,
    /// This one.
    Named(BackendKind),
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Named(kind) => kind.fmt(f),
        }
    }
}

/// A name that is no way to compute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no backend, expected auto, cpu, reference, wgpu or cuda")]
pub struct ParseBackendChoiceError {
    /// What came.
    pub found: String,
}

impl FromStr for BackendChoice {
    type Err = ParseBackendChoiceError;

    fn from_str(text: &str) -> Result<Self, ParseBackendChoiceError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Named).map_err(|_| ParseBackendChoiceError { found: text.to_owned() })
    }
}

impl Serialize for BackendChoice {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackendChoice {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// A number of bytes, as people write it: `6G`; K, M and G are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A text that is no number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no number of bytes, expected one such as 6G (K, M and G are powers of 1024)")]
pub struct ParseByteSizeError {
    /// What came.
    pub found: String,
}

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, ParseByteSizeError> {
        let (digits, unit) = match text.char_indices().next_back() {
            Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
            Some((at, 'M' | 'm')) => (&text[..at], 1 << 20),
            Some((at, 'G' | 'g')) => (&text[..at], 1 << 30),
            _ => (text, 1u64),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.map(Self).ok_or_else(|| ParseByteSizeError { found: text.to_owned() })
    }
}

impl fmt::Display for ByteSize {
    /// Exactly, in the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
        let unit = units.into_iter().find(|(unit, _)| self.0 != 0 && self.0.is_multiple_of(*unit));
        let (unit, name) = unit.unwrap_or((1, ""));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    /// A text, or a plain number of bytes.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 6000000000 or \"6G\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::custom(format!("`{bytes}` is no number of bytes")))
            }
        }
        d.deserialize_any(Either)
    }
}

/// How to compute, as a person asks for it. None of it changes a bit of any result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComputeSettings {
    /// What computes.
    pub backend: BackendChoice,
    /// Instruction set of the CPU backend; one that is named means that backend.
    pub isa: Isa,
    /// Part of the name of the device of the wgpu or cuda backend; `None` is the best one.
    pub adapter: Option<String>,
    /// How many of the model's first layers the device computes, the CPU the rest; `None`: as many as its memory takes.
    pub gpu_layers: Option<u32>,
    /// How much of the device's memory may be used; `None` takes what its driver says it has.
    pub device_memory: Option<ByteSize>,
    /// Threads of the CPU backend; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
    /// Directory that keeps what can be found out again: see [`EngineOptions::cache`].
    pub cache: Option<PathBuf>,
}

/// Settings that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeSettingsError {
    /// An instruction set for the reference.
    #[error("the reference backend is scalar; leave the instruction set away")]
    ReferenceIsa,
    /// An instruction set for a device.
    #[error("backends of devices have no instruction set; leave it away")]
    DeviceIsa,
    /// A device for a backend that has none.
    #[error("only the backends wgpu and cuda have devices; set the backend to one of them")]
    Adapter,
    /// A device of no name.
    #[error(
        "an empty name is no device's; `dn backends` lists the devices, and without a name the best is taken"
    )]
    EmptyAdapter,
    /// A share of a device for a backend that has none, or before it is known which device is taken.
    #[error("only the backends wgpu and cuda share a model with the CPU; set the backend to one of them")]
    Share {
        /// The setting: `gpu_layers` or `device_memory`.
        setting: &'static str,
    },
}

impl ComputeSettingsError {
    /// The setting that is in the way: `isa`, `adapter`, `gpu_layers` or `device_memory`.
    pub const fn setting(&self) -> &'static str {
        match self {
            Self::ReferenceIsa | Self::DeviceIsa => "isa",
            Self::Adapter | Self::EmptyAdapter => "adapter",
            Self::Share { setting } => setting,
        }
    }
}

impl ComputeSettings {
    /// The same for an engine. With [`BackendChoice::Auto`] this looks at the machine's devices, if it may have a card, which the first time takes up to
    /// seconds: see [`Survey`].
    ///
    /// # Errors
    /// [`ComputeSettingsError`].
    pub fn options(&self) -> Result<EngineOptions, ComputeSettingsError> {
        self.check()?;
        // Options are passed around by value; a program has one name of a device, and one cache, in its life.
        let adapter = self.adapter.clone().map(|name| &*name.leak());
        let cache = self.cache.clone().map(|dir| &*dir.leak());
        let options = EngineOptions {
            backend: BackendKind::Cpu,
            isa: self.isa,
            adapter,
            device_memory: self.device_memory.map(|ByteSize(bytes)| bytes),
            device_layers: self.gpu_layers,
            cache,
            threads: self.threads,
            ..EngineOptions::default()
        };
        Ok(match self.backend {
            BackendChoice::Named(backend) => EngineOptions { backend, ..options },
            BackendChoice::Auto if self.isa != Isa::Auto || !may_have_a_card() => options,
            BackendChoice::Auto => Survey::of(&options, Depth::Choose).apply(options),
        })
    }

    fn check(&self) -> Result<(), ComputeSettingsError> {
        let named = |kind| self.backend == BackendChoice::Named(kind);
        let on_a_device = named(BackendKind::Wgpu) || named(BackendKind::Cuda);
        if named(BackendKind::Reference) && !matches!(self.isa, Isa::Auto | Isa::Scalar) {
            return Err(ComputeSettingsError::ReferenceIsa);
        }
        if on_a_device && self.isa != Isa::Auto {
            return Err(ComputeSettingsError::DeviceIsa);
        }
        if !on_a_device && self.adapter.is_some() {
            return Err(ComputeSettingsError::Adapter);
        }
        if self.adapter.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return Err(ComputeSettingsError::EmptyAdapter);
        }
        let shares =
            [("gpu_layers", self.gpu_layers.is_some()), ("device_memory", self.device_memory.is_some())];
        match shares.into_iter().find(|(_, given)| *given && !on_a_device) {
            Some((setting, _)) => Err(ComputeSettingsError::Share { setting }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_are_read_and_written() {
        for (text, expected) in [("0", 0), ("700", 700), ("3K", 3072), ("2m", 2 << 20), ("6G", 6 << 30)] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize(expected), "{text}");
            assert_eq!(size.to_string(), text.to_uppercase());
            assert_eq!(serde_json::from_str::<ByteSize>(&format!("\"{text}\"")).unwrap(), size);
        }
        for size in [1, 1023, 1025, (6 << 30) + 1, u64::MAX] {
            assert_eq!(ByteSize(size).to_string().parse(), Ok(ByteSize(size)));
            assert_eq!(serde_json::from_str::<ByteSize>(&size.to_string()).unwrap(), ByteSize(size));
        }
        for bad in ["", "G", "-1", "1.5G", "6GB", "99999999999G", "٣", "1é"] {
            let error = bad.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")) && error.contains("6G"), "{error}");
            assert!(serde_json::from_str::<ByteSize>(&format!("\"{bad}\"")).is_err(), "{bad}");
        }
        for bad in ["-1", "1.5", "true", "null", "[]"] {
            assert!(serde_json::from_str::<ByteSize>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_backend_has_a_name_and_other_names_are_refused() {
        let all = BackendKind::ALL.map(BackendChoice::Named).into_iter().chain([BackendChoice::Auto]);
        for choice in all {
            assert_eq!(choice.to_string().parse(), Ok(choice));
            let json = serde_json::to_string(&choice).unwrap();
            assert_eq!(serde_json::from_str::<BackendChoice>(&json).unwrap(), choice);
        }
        for bad in ["", "AUTO", "gpu", "cpu "] {
            let error = bad.parse::<BackendChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")) && error.contains("auto, cpu"), "{error}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        use BackendKind::{Cpu, Cuda, Reference, Wgpu};
        let named =
            |kind| ComputeSettings { backend: BackendChoice::Named(kind), ..ComputeSettings::default() };
        let of = |settings: ComputeSettings| settings.options().map(|_| ()).map_err(|error| error.setting());
        let isa = Isa::Avx2;
        assert_eq!(of(ComputeSettings { isa, ..named(Reference) }), Err("isa"));
        assert_eq!(of(ComputeSettings { isa: Isa::Scalar, ..named(Reference) }), Ok(()));
        for device in [Wgpu, Cuda] {
            assert_eq!(of(ComputeSettings { isa, ..named(device) }), Err("isa"));
            let (gpu_layers, device_memory) = (Some(1), Some(ByteSize(2)));
            let all =
                ComputeSettings { adapter: Some("x".into()), gpu_layers, device_memory, ..named(device) };
            let options = all.options().unwrap();
            assert_eq!((options.backend, options.adapter), (device, Some("x")));
            assert_eq!((options.device_layers, options.device_memory), (Some(1), Some(2)));
            for empty in ["", " "] {
                let settings = ComputeSettings { adapter: Some(empty.into()), ..named(device) };
                assert_eq!(settings.options(), Err(ComputeSettingsError::EmptyAdapter));
            }
        }
        for other in [named(Cpu), named(Reference), ComputeSettings::default()] {
            let own = || other.clone();
            assert_eq!(of(ComputeSettings { adapter: Some("x".into()), ..own() }), Err("adapter"));
            assert_eq!(of(ComputeSettings { gpu_layers: Some(1), ..own() }), Err("gpu_layers"));
            assert_eq!(
                of(ComputeSettings { device_memory: Some(ByteSize(1)), ..own() }),
                Err("device_memory")
            );
        }
    }

    /// An instruction set is the CPU's: nothing is to be chosen, and no device is looked for.
    #[test]
    fn an_instruction_set_means_the_cpu() {
        let settings = ComputeSettings { isa: Isa::Scalar, ..ComputeSettings::default() };
        let options = settings.options().unwrap();
        assert_eq!((options.backend, options.isa), (BackendKind::Cpu, Isa::Scalar));
    }
}
