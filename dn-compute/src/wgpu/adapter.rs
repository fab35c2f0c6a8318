//! The devices of this machine.

use std::fmt;

use super::WgpuError;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterSummary {
    /// Its name; of several with the same its interface and place are a part of it.
    pub name: String,
    /// Its place on the PCI bus, where the driver tells.
    pub bus: String,
    /// Its driver and the driver's version.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12`, `browser` or `other`.
    pub api: &'static str,
    /// What kind it is.
    pub kind: AdapterKind,
    /// Largest piece of a matrix that a kernel can see.
    ///
    /// # Units
    /// Bytes.
    pub max_binding_bytes: u64,
    /// Whether its driver offers operations of subgroups; kernels then use them.
    pub subgroups: bool,
}

/// What kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor, sharing its memory.
    Integrated,
    /// A device that a virtual machine sees.
    Virtual,
    /// A driver that computes on the CPU: right, and slower than the `cpu` backend.
    Software,
    /// Unknown.
    Other,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "card",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "unknown kind",
        })
    }
}

impl AdapterSummary {
    fn new(adapter: &::wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let driver = [info.driver, info.driver_info].join(" ").trim().to_owned();
        let api = match info.backend {
            ::wgpu::Backend::Vulkan => "vulkan",
            ::wgpu::Backend::Metal => "metal",
            ::wgpu::Backend::Dx12 => "dx12",
            ::wgpu::Backend::BrowserWebGpu => "browser",
            _ => "other",
        };
        let kind = match info.device_type {
            ::wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            ::wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            ::wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            ::wgpu::DeviceType::Cpu => AdapterKind::Software,
            ::wgpu::DeviceType::Other => AdapterKind::Other,
        };
        let max_binding_bytes = adapter.limits().max_storage_buffer_binding_size;
        // A browser's compiler wants a directive for them, which the one between kernels and other drivers does not know.
        let subgroups =
            !cfg!(target_arch = "wasm32") && adapter.features().contains(::wgpu::Features::SUBGROUP);
        Self { name: info.name, bus: info.device_pci_bus_id, driver, api, kind, max_binding_bytes, subgroups }
    }

    /// What a verdict about it is about: with subgroups other kernels run than without.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn subject(&self, subgroups: bool) -> crate::verdict::Subject {
        let form = if subgroups { "subgroups" } else { "no subgroups" };
        crate::verdict::Subject {
            backend: "wgpu",
            device: format!("{}, {form}", crate::alike::placed(&self.name, &self.place())),
            driver: self.driver.clone(),
            code: crate::verdict::CODE.to_owned(),
        }
    }

    /// Through which interface it is reached, and where it is.
    #[cfg(not(target_arch = "wasm32"))]
    fn place(&self) -> String {
        [self.api, &self.bus].join(" ").trim().to_owned()
    }

    /// Cards first, software last.
    fn rank(&self) -> usize {
        match self.kind {
            AdapterKind::Discrete => 0,
            AdapterKind::Integrated => 1,
            AdapterKind::Virtual => 2,
            AdapterKind::Other => 3,
            AdapterKind::Software => 4,
        }
    }
}

/// The devices of this machine, the best first. Empty where no driver is installed.
#[cfg(not(target_arch = "wasm32"))]
pub fn adapters() -> Vec<AdapterSummary> {
    pollster::block_on(adapters_async())
}

/// As `adapters`, for callers that must not block: in a browser there is no other way, and at most one device is shown.
pub async fn adapters_async() -> Vec<AdapterSummary> {
    all().await.into_iter().map(|(summary, _)| summary).collect()
}

/// The best device, or the one called `wanted`, or the best one whose name contains it (upper and lower case alike).
pub(super) fn choose(
    all: Vec<(AdapterSummary, ::wgpu::Adapter)>,
    wanted: Option<&str>,
) -> Result<(AdapterSummary, ::wgpu::Adapter), WgpuError> {
    if all.is_empty() {
        return Err(WgpuError::NoAdapter);
    }
    let Some(wanted) = wanted else {
        return all.into_iter().next().ok_or(WgpuError::NoAdapter);
    };
    let found: Vec<String> = all.iter().map(|(summary, _)| summary.name.clone()).collect();
    // Every name contains an empty one.
    let fits = |name: &String| !wanted.is_empty() && name.to_lowercase().contains(&wanted.to_lowercase());
    // A whole name may be a part of another.
    let place = found.iter().position(|name| name == wanted).or_else(|| found.iter().position(fits));
    place
        .and_then(|place| all.into_iter().nth(place))
        .ok_or_else(|| WgpuError::UnknownAdapter { wanted: wanted.to_owned(), found })
}

/// Every device, the best first.
pub(super) async fn all() -> Vec<(AdapterSummary, ::wgpu::Adapter)> {
    of(::wgpu::Backends::PRIMARY).await
}

async fn of(backends: ::wgpu::Backends) -> Vec<(AdapterSummary, ::wgpu::Adapter)> {
    let mut descriptor = ::wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    let instance = ::wgpu::Instance::new(descriptor);
    let adapters = instance.enumerate_adapters(backends).await;
    let mut all: Vec<_> = adapters.into_iter().map(|a| (AdapterSummary::new(&a), a)).collect();
    all.sort_by_key(|(summary, _)| summary.rank());
    #[cfg(not(target_arch = "wasm32"))]
    crate::alike::tell_apart(&mut all, |(summary, _)| &mut summary.name, |(summary, _)| summary.place());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_the_error_says_which_to_install() {
        let none = pollster::block_on(of(::wgpu::Backends::empty()));
        let error = choose(none, None).map(|_| ()).unwrap_err();
        assert!(matches!(error, WgpuError::NoAdapter), "{error:?}");
        assert!(error.to_string().contains("Vulkan driver"), "{error}");
    }
    /// A verdict is about a device, how it is reached, where it is, and whether its kernels use subgroups.
    #[test]
    fn what_differs_has_a_verdict_of_its_own() {
        let one = AdapterSummary {
            name: "card".into(),
            bus: "0000:01:00.0".into(),
            driver: "driver 1".into(),
            api: "vulkan",
            kind: AdapterKind::Discrete,
            max_binding_bytes: 1,
            subgroups: true,
        };
        let of = |device: &AdapterSummary| device.subject(true).device;
        let other = AdapterSummary { bus: "0000:02:00.0".into(), ..one.clone() };
        let dx12 = AdapterSummary { api: "dx12", ..one.clone() };
        let told_apart = AdapterSummary { name: "card (vulkan 0000:01:00.0)".into(), ..one.clone() };
        assert_ne!(of(&one), of(&other));
        assert_ne!(of(&one), of(&dx12));
        assert_ne!(of(&one), one.subject(false).device);
        assert_eq!(of(&one), of(&told_apart));
        // Another driver is another subject of the same device: its verdict takes the older one's place.
        let newer = AdapterSummary { driver: "driver 2".into(), ..one.clone() };
        assert_eq!(of(&one), of(&newer));
        assert_ne!(one.subject(true), newer.subject(true));
    }
}
