//! Which of a model's layers a device has memory for, told before anything is loaded.

use serde::Serialize;

use super::MemoryNeed;
use crate::engine::{EngineError, EngineOptions};
use crate::model::ModelFront;
use crate::runtime::{Place, Split, logits_rows};
use crate::spec::{DeviceMemory, KvShape, StepSize};

/// What a model takes where: on a device, if one is asked for, and on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Layers of the model.
    pub layers: u32,
    /// What the device has of it; the CPU has the rest.
    pub split: Split,
    /// What that takes on the device; `None` where no device is asked for.
    pub device: Option<DeviceNeed>,
    /// What the host needs.
    pub host: MemoryNeed,
}

/// Memory of a device by what it is for. An upper estimate, as [`MemoryNeed`] is.
///
/// # Units
/// Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceNeed {
    /// The device's name.
    pub name: String,
    /// What may be taken; `None` where nobody knows.
    pub capacity_bytes: Option<u64>,
    /// What its driver says is free, where that is less than there is: the rest is others'.
    pub free_bytes: Option<u64>,
    /// Whether it is the host's memory too.
    pub is_hosts: bool,
    /// Weights.
    pub weights_bytes: u64,
    /// Keys and values of all requests.
    pub kv_bytes: u64,
    /// What passes through in a step.
    pub step_bytes: u64,
}

impl DeviceNeed {
    /// All of it.
    pub const fn total_bytes(&self) -> u64 {
        self.weights_bytes + self.kv_bytes + self.step_bytes
    }
}

impl MemoryPlan {
    /// Shares a model's layers out for the workload of the options. Layers come first, then the logits, then the lookup of
    /// tokens, which gains least.
    ///
    /// # Errors
    /// [`EngineError::DeviceMemory`] where the options ask for more layers than fit.
    pub(crate) fn new(
        front: &ModelFront,
        options: &EngineOptions,
        device: Option<&dyn DeviceMemory>,
    ) -> Result<Self, EngineError> {
        let Some(device) = device else { return Ok(Self::of_split(front, options, None, Split::NONE)) };
        let (h, sizes) = (front.hyperparameters(), Sizes::new(front, options, device));
        let limit = device.capacity_bytes().unwrap_or(u64::MAX);
        let best = sizes.best(limit).of(h);
        let asked = options.device_layers.map(|layers| Split { layers, ..Split::NONE }.of(h));
        let split = match asked {
            Some(asked) if asked.layers > best.layers => {
                let (device, needed) = (device.name().to_owned(), sizes.total(asked));
                let (layers, fit) = (asked.layers, best.layers);
                return Err(EngineError::DeviceMemory { device, layers, needed, limit, fit });
            }
            Some(asked) if asked.layers < h.layers => asked,
            _ => best,
        };
        Ok(Self::of_split(front, options, Some(device), split))
    }

    /// What a model takes that is shared out already.
    pub(crate) fn of_split(
        front: &ModelFront,
        options: &EngineOptions,
        device: Option<&dyn DeviceMemory>,
        split: Split,
    ) -> Self {
        let need = |device: &dyn DeviceMemory| {
            let sizes = Sizes::new(front, options, device);
            DeviceNeed {
                name: device.name().to_owned(),
                capacity_bytes: device.capacity_bytes(),
                free_bytes: device.free_bytes(),
                is_hosts: device.is_hosts(),
                weights_bytes: sizes.weights(split),
                kv_bytes: sizes.kv * u64::from(split.layers),
                step_bytes: if split == Split::NONE { 0 } else { sizes.step },
            }
        };
        Self {
            layers: front.hyperparameters().layers,
            split,
            device: device.map(need),
            host: MemoryNeed::beside(front, options, &options.work, split),
        }
    }

    /// Whether the device has everything.
    pub const fn is_whole(&self) -> bool {
        self.split.layers == self.layers && self.split.embedding && self.split.output
    }

    /// The device, if it has nothing.
    pub(crate) fn unused(&self) -> Option<DeviceNeed> {
        self.device.clone().filter(|_| self.split == Split::NONE)
    }

    /// The most that the host's memory has to hold at any time.
    pub fn host_peak_bytes(&self) -> u64 {
        let device = self.device.as_ref().filter(|device| device.is_hosts).map_or(0, DeviceNeed::total_bytes);
        self.host.peak_bytes() + device
    }

    /// In words: what is where, and how much it takes of how much.
    pub fn sentences(&self) -> Vec<String> {
        let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        let mut lines = Vec::new();
        if let Some(device) = &self.device {
            let ends = match (self.split.embedding, self.split.output) {
                (true, true) => ", embedding and logits",
                (true, false) => " and the embedding",
                (false, true) => " and the logits",
                (false, false) => "",
            };
            let of = device.capacity_bytes.map_or("an amount its driver does not tell".to_owned(), mb);
            let free = device.free_bytes.map_or(String::new(), |free| {
                format!("; its driver says that {} of its memory are free", mb(free))
            });
            let all = if self.split == Split::NONE { "; the CPU computes all of the model" } else { "" };
            lines.push(format!(
                "{}: {} of {} layers{ends}, up to {} of {of} (weights {}, keys and values {}, the rest {}){free}{all}",
                device.name,
                self.split.layers,
                self.layers,
                mb(device.total_bytes()),
                mb(device.weights_bytes),
                mb(device.kv_bytes),
                mb(device.step_bytes),
            ));
        }
        lines.push(format!(
            "host: up to {} (weights {}), {} while loading",
            mb(self.host.total_bytes()),
            mb(self.host.weights_bytes),
            mb(self.host.peak_bytes()),
        ));
        lines
    }
}

/// Bytes of a model's parts on a device.
struct Sizes {
    tied: bool,
    embedding: u64,
    output: u64,
    /// Weights of each layer.
    layers: Vec<u64>,
    /// Keys and values of a layer, all requests.
    kv: u64,
    /// What passes through.
    step: u64,
}

impl Sizes {
    fn new(front: &ModelFront, options: &EngineOptions, device: &dyn DeviceMemory) -> Self {
        let (h, work) = (front.hyperparameters(), &options.work);
        let n = |n: u32| n as usize;
        let mut sizes = Self {
            tied: h.tied_embeddings,
            embedding: 0,
            output: 0,
            layers: vec![0; n(h.layers)],
            kv: 0,
            step: 0,
        };
        for tensor in front.tensor_sizes() {
            let bytes = match tensor.matrix {
                Some((rows, blocks)) => device.matrix_bytes(rows, tensor.cols, blocks, tensor.four_bits),
                // Vectors may be kept there too.
                None => tensor.canonical_bytes.next_multiple_of(16),
            };
            match tensor.slot.place() {
                Place::Embedding => sizes.embedding += bytes,
                Place::Output => sizes.output += bytes,
                Place::Layer(layer) => sizes.layers[n(layer)] += bytes,
            }
        }
        let context = n(work.context.min(h.context).max(1));
        let shape = KvShape { heads: n(h.kv_heads), head_dim: n(h.head_size), capacity: context };
        sizes.kv = device.kv_bytes(shape) * u64::from(work.requests);
        let tokens = options.prefill_chunk.get();
        sizes.step = device.step_bytes(&StepSize {
            layers: n(h.layers),
            tokens,
            logits: logits_rows(n(h.vocabulary)).min(tokens),
            sequences: n(work.requests.max(1)),
            context,
            width: n(h.width),
            heads: n(h.heads),
            kv_heads: n(h.kv_heads),
            head_dim: n(h.head_size),
            ffn_width: n(h.ffn_width),
            vocabulary: n(h.vocabulary),
        });
        sizes
    }

    fn weights(&self, split: Split) -> u64 {
        let end = |there: bool, bytes: u64| if there { bytes } else { 0 };
        self.layers.iter().take(split.layers as usize).sum::<u64>()
            + end(split.embedding || self.tied && split.output, self.embedding)
            + end(split.output, self.output)
    }

    fn total(&self, split: Split) -> u64 {
        self.weights(split) + self.kv * u64::from(split.layers) + self.step
    }

    /// As much as fits.
    fn best(&self, capacity: u64) -> Split {
        let mut best = Split::NONE;
        let mut with = |split: Split| {
            let fits = self.total(split) <= capacity;
            if fits {
                best = split;
            }
            fits
        };
        let all = self.layers.len() as u32;
        let layers = (1..=all).take_while(|layers| with(Split { layers: *layers, ..Split::NONE })).count();
        if layers == self.layers.len() && with(Split { layers: all, embedding: self.tied, output: true }) {
            with(Split { layers: all, embedding: true, output: true });
        }
        best
    }
}

#[cfg(test)]
mod tests;
