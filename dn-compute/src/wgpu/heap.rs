//! How much memory a device has, and how much of it is free: WebGPU does not say it, Vulkan does.

/// The largest heap that is the device's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heap {
    /// Bytes.
    pub(super) bytes: u64,
    /// Bytes that this program may still take, by the driver's estimate: what other programs have is not among them. `None` where
    /// the driver has none.
    pub(super) free: Option<u64>,
}

impl Heap {
    /// Of what the driver says this program may use, and does. More in use than there is, is no answer.
    #[cfg_attr(any(target_arch = "wasm32", target_vendor = "apple"), allow(dead_code))]
    fn of(bytes: u64, budget: u64, usage: u64) -> Self {
        let free = (budget > 0 && usage <= bytes).then(|| budget.min(bytes).saturating_sub(usage));
        Self { bytes, free }
    }
}

/// `None` where only other interfaces would tell: Metal, Direct3D, browsers.
#[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
pub(super) fn heap(adapter: &::wgpu::Adapter) -> Option<Heap> {
    use std::ffi::c_void;
    use std::ptr;

    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    /// `VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT`.
    const BUDGET: i32 = 1_000_237_000;
    /// Version 1.1, which brought questions that are chained.
    const CHAINED: u32 = 1 << 22 | 1 << 12;

    /// `VkPhysicalDeviceMemoryBudgetPropertiesEXT`.
    #[repr(C)]
    struct Budget {
        kind: i32,
        next: *mut c_void,
        budget: [u64; 16],
        usage: [u64; 16],
    }

    /// What a question is answered in: a type that only `wgpu`'s own library has a name for.
    fn blank<T: Default>(_: &impl Fn(&mut T)) -> T {
        T::default()
    }

    // SAFETY: nothing is destroyed or changed through the guard; it is asked for properties only.
    let adapter = unsafe { adapter.as_hal::<::wgpu::hal::api::Vulkan>() }?;
    let (shared, device) = (adapter.shared_instance(), adapter.raw_physical_device());
    let instance = shared.raw_instance();
    // SAFETY: the physical device comes from this instance, which lives as long as the guard.
    let found = unsafe { instance.get_physical_device_memory_properties(device) };
    let heaps = found.memory_heaps.iter().take(found.memory_heap_count as usize).enumerate();
    let own = heaps.filter(|(_, heap)| heap.flags.as_raw() & DEVICE_LOCAL != 0);
    let (place, bytes) = own.map(|(place, heap)| (place, heap.size)).max_by_key(|(_, size)| *size)?;
    let told = adapter.physical_device_capabilities().supports_extension(c"VK_EXT_memory_budget");
    if !told || shared.instance_api_version() < CHAINED {
        return Some(Heap { bytes, free: None });
    }
    let mut budget = Budget { kind: BUDGET, next: ptr::null_mut(), budget: [0; 16], usage: [0; 16] };
    // SAFETY: as above; what is chained is of the kind that it says, and outlives the call.
    let ask = |all: &mut _| unsafe { instance.get_physical_device_memory_properties2(device, all) };
    let mut all = blank(&ask);
    all.p_next = ptr::from_mut(&mut budget).cast();
    ask(&mut all);
    Some(Heap::of(bytes, budget.budget[place], budget.usage[place]))
}

/// As above.
#[cfg(any(target_arch = "wasm32", target_vendor = "apple"))]
pub(super) const fn heap(_: &::wgpu::Adapter) -> Option<Heap> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_is_not_free() {
        let free = |budget, usage| Heap::of(100, budget, usage).free;
        assert_eq!(free(90, 0), Some(90));
        assert_eq!(free(70, 30), Some(40), "what this program has is not free either");
        assert_eq!(free(40, 60), Some(0));
        assert_eq!(free(500, 10), Some(90));
        assert_eq!((free(0, 0), free(90, 101), free(90, u64::MAX)), (None, None, None), "no answers");
    }
}
