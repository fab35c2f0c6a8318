//! How much memory a device has: WebGPU does not say it, Vulkan does.

/// Bytes of the largest heap that is the device's own. `None` where only other interfaces would tell: Metal, Direct3D, browsers.
#[cfg(not(any(target_arch = "wasm32", target_vendor = "apple")))]
pub(super) fn bytes(adapter: &::wgpu::Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: nothing is destroyed or changed through the guard; it is asked for properties only.
    let adapter = unsafe { adapter.as_hal::<::wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device comes from this instance, which lives as long as the guard.
    let found = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = found.memory_heaps.iter().take(found.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// As above.
#[cfg(any(target_arch = "wasm32", target_vendor = "apple"))]
pub(super) const fn bytes(_: &::wgpu::Adapter) -> Option<u64> {
    None
}
