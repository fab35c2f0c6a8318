//! What the backend asks of whatever runs its kernels: a card through CUDA, or, in tests, an emulated one.

use std::fmt;

use crate::spec::DeviceFault;

/// Addresses and numbers that a kernel is given: `Args` in `float.cu`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) addresses: [u64; 11],
    pub(super) numbers: [u32; 16],
}

/// A kernel over a grid of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) kernel: &'static str,
    pub(super) grid: [u32; 3],
    /// Threads of a block: whole warps.
    pub(super) block: u32,
    pub(super) args: Args,
}

/// Launches that a device has prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Recording(pub(super) u64);

/// Bytes on their way from the device: where they are, where they go.
pub(super) type Download<'a> = (u64, &'a mut [u8]);

/// A device. What is asked of it happens in the order in which it is asked.
pub(super) trait Driver: Send + Sync + fmt::Debug {
    /// Memory at a multiple of sixteen, its contents unknown.
    fn allocate(&self, bytes: usize) -> Result<u64, DeviceFault>;

    /// Gives memory back, once everything that was asked before has happened.
    fn free(&self, address: u64);

    /// Bytes that are free, where the device tells.
    fn free_bytes(&self) -> Option<u64>;

    /// The size in which memory for so many bytes is kept for another use.
    fn size_class(&self, bytes: usize) -> usize;

    /// Copies to the device; the bytes may change afterwards.
    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceFault>;

    /// Sets bytes to zero.
    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceFault>;

    /// Waits for everything asked so far and copies to the host.
    fn download(&self, parts: &mut [Download<'_>]) -> Result<(), DeviceFault>;

    /// Runs a kernel.
    fn launch(&self, launch: &Launch) -> Result<(), DeviceFault>;

    /// Prepares launches that are to be repeated together, one after another.
    fn record(&self, launches: &[Launch]) -> Result<Recording, DeviceFault>;

    /// Changes one of them, of the same kernel, from the next repetition on.
    fn change(&self, recording: Recording, index: usize, launch: &Launch) -> Result<(), DeviceFault>;

    /// Runs them.
    fn repeat(&self, recording: Recording) -> Result<(), DeviceFault>;

    /// Gives them up, once everything that was asked before has happened.
    fn forget(&self, recording: Recording);

    /// Whether it has the int8 products of whole tiles that `linear_tiles.cu` uses.
    fn has_tiles(&self) -> bool;

    /// Blocks that it takes to keep all of it busy.
    fn units(&self) -> usize;
}
