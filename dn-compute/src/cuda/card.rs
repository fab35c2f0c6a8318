//! An open card: memory, copies, launches and graphs through the CUDA driver.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::fmt;
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::{DriverError, result, sys};

use super::CudaError;
use super::compile::{self, Architecture};
use super::devices::{CudaDevice, fault, start_fault};
use super::driver::{Args, Download, Driver, Launch, Recording};
use super::kernels;
use crate::spec::DeviceFault;

/// Pinned memory through which values pass, in each direction.
const STAGING: usize = 16 << 20;
/// Smallest memory that is kept for another use.
const SMALLEST: usize = 512;

/// An open card.
pub(super) struct Card {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    kernels: HashMap<&'static str, sys::CUfunction>,
    tiles: bool,
    units: usize,
    up: Mutex<Staging>,
    down: Mutex<Staging>,
    graphs: Mutex<Graphs>,
}

/// Recorded launches, and the number of the next.
#[derive(Default)]
struct Graphs {
    all: HashMap<Recording, Graph>,
    next: u64,
}

/// Recorded launches: the graph, which its nodes live in, and what is run.
struct Graph {
    graph: sys::CUgraph,
    run: sys::CUgraphExec,
    nodes: Vec<sys::CUgraphNode>,
}

/// Pinned memory.
struct Staging {
    memory: *mut u8,
    used: usize,
}

// SAFETY: the driver's handles may be used by any thread that makes the context its current one, which every method does; the
// staging memory is behind mutexes.
unsafe impl Send for Card {}
// SAFETY: as above.
unsafe impl Sync for Card {}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card").field("device", &self.device).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Card {
    pub(super) fn open(summary: &CudaDevice, cache: Option<&Path>) -> Result<Self, CudaError> {
        let architecture = Architecture::of(summary)?;
        let image = compile::image(&architecture, cache)?;
        Self::start(summary, &architecture, &image)
            .map_err(|error| CudaError::Open { device: summary.name.clone(), fault: start_fault(error) })
    }

    fn start(summary: &CudaDevice, architecture: &Architecture, image: &[u8]) -> Result<Self, DriverError> {
        let device = result::device::get(summary.ordinal)?;
        // SAFETY: `device` came from the driver. What fails below leaves the context retained: a few bytes, once.
        let context = unsafe { result::primary_ctx::retain(device) }?;
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(context) }?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        // SAFETY: the image is a cubin, or PTX with a zero behind it, and outlives the call.
        let module = unsafe { result::module::load_data(image.as_ptr().cast::<c_void>()) }?;
        let tiles = architecture.has_tiles();
        let names = kernels::NAMES.iter().chain(kernels::TILE_NAMES.iter().filter(|_| tiles));
        let mut found = HashMap::new();
        for name in names {
            let symbol = CString::new(*name).unwrap_or_default();
            // SAFETY: the module is loaded and never unloaded.
            found.insert(*name, unsafe { result::module::get_function(module, symbol) }?);
        }
        // SAFETY: `device` came from the driver.
        let units = unsafe {
            let count = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
            result::device::get_attribute(device, count)
        }?;
        // SAFETY: plain bytes, written before they are read.
        let (up, down) = unsafe { (result::malloc_host(STAGING, 0)?, result::malloc_host(STAGING, 0)?) };
        let staging = |memory: *mut c_void| Mutex::new(Staging { memory: memory.cast(), used: 0 });
        let units = usize::try_from(units).unwrap_or(1);
        let (up, down) = (staging(up), staging(down));
        let graphs = Mutex::default();
        Ok(Self { device, context, stream, kernels: found, tiles, units, up, down, graphs })
    }

    /// Makes the context the thread's own.
    fn enter(&self) -> Result<(), DeviceFault> {
        // SAFETY: the context lives as long as this card.
        unsafe { result::ctx::set_current(self.context) }.map_err(fault)
    }

    fn kernel(&self, name: &str) -> Result<sys::CUfunction, DeviceFault> {
        self.kernels.get(name).copied().ok_or_else(|| DeviceFault::Refused { detail: name.into() })
    }

    /// Calls `then` with a launch as a graph's node has it.
    fn node<T>(
        &self,
        launch: &Launch,
        then: impl FnOnce(&sys::CUDA_KERNEL_NODE_PARAMS_v2) -> T,
    ) -> Result<T, DeviceFault> {
        let mut args = launch.args;
        let mut parameters = [ptr::from_mut::<Args>(&mut args).cast::<c_void>()];
        let [x, y, z] = launch.grid;
        let params = sys::CUDA_KERNEL_NODE_PARAMS_v2 {
            func: self.kernel(launch.kernel)?,
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: launch.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: parameters.as_mut_ptr(),
            extra: ptr::null_mut(),
            kern: ptr::null_mut(),
            ctx: ptr::null_mut(),
        };
        Ok(then(&params))
    }

    /// Adds launches to a graph, each after the one before.
    fn chain(&self, graph: sys::CUgraph, launches: &[Launch]) -> Result<Vec<sys::CUgraphNode>, DeviceFault> {
        let mut nodes: Vec<sys::CUgraphNode> = Vec::with_capacity(launches.len());
        for launch in launches {
            let before = nodes.last().copied();
            let (first, count) = before.as_ref().map_or((ptr::null(), 0), |node| (ptr::from_ref(node), 1));
            let mut node = ptr::null_mut();
            // SAFETY: the graph is being made, its nodes are its own, and the driver copies arguments before it returns.
            let added = self.node(launch, |params| unsafe {
                sys::cuGraphAddKernelNode_v2(&mut node, graph, first, count, params)
            })?;
            added.result().map_err(fault)?;
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn wait(&self) -> Result<(), DeviceFault> {
        // SAFETY: the stream lives as long as this card.
        unsafe { result::stream::synchronize(self.stream) }.map_err(fault)
    }
}

impl Driver for Card {
    fn allocate(&self, bytes: usize) -> Result<u64, DeviceFault> {
        self.enter()?;
        // SAFETY: kernels write what they read, and the addresses of memory never leave this backend.
        unsafe { result::malloc_sync(bytes) }.map_err(fault)
    }

    fn free(&self, address: u64) {
        // What fails here failed before: the device is lost, and its memory with it.
        if self.enter().is_ok() && self.wait().is_ok() {
            // SAFETY: the address came from `allocate`, and everything that used it has happened.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        self.enter().ok()?;
        result::mem_get_info().ok().map(|(free, _)| free as u64)
    }

    fn size_class(&self, bytes: usize) -> usize {
        bytes.next_power_of_two().max(SMALLEST)
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceFault> {
        self.enter()?;
        let mut staging = lock(&self.up);
        let mut to = to;
        for piece in bytes.chunks(STAGING) {
            if staging.used + piece.len() > STAGING {
                // What is still on its way must arrive before its place is used again.
                self.wait()?;
                staging.used = 0;
            }
            // SAFETY: the piece fits behind what is used of the staging memory, which this thread holds; the device has read
            // that part before it is written again.
            unsafe {
                let own = std::slice::from_raw_parts_mut(staging.memory.add(staging.used), piece.len());
                own.copy_from_slice(piece);
                result::memcpy_htod_async(to, own, self.stream).map_err(fault)?;
            }
            staging.used += piece.len();
            to += piece.len() as u64;
        }
        Ok(())
    }

    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceFault> {
        self.enter()?;
        // SAFETY: the caller owns these bytes of the device's memory.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream) }.map_err(fault)
    }

    fn download(&self, parts: &mut [Download<'_>]) -> Result<(), DeviceFault> {
        self.enter()?;
        let staging = lock(&self.down);
        let mut used = 0;
        let mut waiting: Vec<(usize, &mut [u8])> = Vec::new();
        for (from, to) in parts {
            let mut from = *from;
            for piece in to.chunks_mut(STAGING) {
                if used + piece.len() > STAGING {
                    self.wait()?;
                    take(&staging, &mut waiting);
                    used = 0;
                }
                // SAFETY: the piece fits behind what is used of the staging memory, which this thread holds until the device
                // has written it.
                unsafe {
                    let own = std::slice::from_raw_parts_mut(staging.memory.add(used), piece.len());
                    result::memcpy_dtoh_async(own, from, self.stream).map_err(fault)?;
                }
                from += piece.len() as u64;
                let length = piece.len();
                waiting.push((used, piece));
                used += length;
            }
        }
        self.wait()?;
        take(&staging, &mut waiting);
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<(), DeviceFault> {
        self.enter()?;
        let kernel = self.kernel(launch.kernel)?;
        let [x, y, z] = launch.grid;
        let mut args = launch.args;
        let mut parameters = [ptr::from_mut::<Args>(&mut args).cast::<c_void>()];
        // SAFETY: every kernel takes one `Args` by value, which the driver copies before it returns; the addresses in it are of
        // memory that is given back only after the launch, in the stream's order.
        unsafe {
            result::launch_kernel(kernel, (x, y, z), (launch.block, 1, 1), 0, self.stream, &mut parameters)
        }
        .map_err(fault)
    }

    fn record(&self, launches: &[Launch]) -> Result<Recording, DeviceFault> {
        self.enter()?;
        let (mut graph, mut run) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the pointer is to a handle that outlives the call.
        unsafe { sys::cuGraphCreate(&mut graph, 0) }.result().map_err(fault)?;
        let made = self.chain(graph, launches).and_then(|nodes| {
            // SAFETY: the graph was made above.
            unsafe { sys::cuGraphInstantiateWithFlags(&mut run, graph, 0) }.result().map_err(fault)?;
            Ok(nodes)
        });
        let nodes = made.inspect_err(|_| {
            // SAFETY: made above and used nowhere.
            let _ = unsafe { sys::cuGraphDestroy(graph) };
        })?;
        let mut graphs = lock(&self.graphs);
        let recording = Recording(graphs.next);
        graphs.next += 1;
        graphs.all.insert(recording, Graph { graph, run, nodes });
        Ok(recording)
    }

    fn change(&self, recording: Recording, index: usize, launch: &Launch) -> Result<(), DeviceFault> {
        self.enter()?;
        let graphs = lock(&self.graphs);
        let known = graphs.all.get(&recording).and_then(|graph| Some((graph.run, *graph.nodes.get(index)?)));
        let Some((run, node)) = known else {
            return Err(DeviceFault::Refused { detail: "a recording that is not there".into() });
        };
        // SAFETY: run and node belong together; a repetition on its way keeps its arguments.
        let changed =
            self.node(launch, |params| unsafe { sys::cuGraphExecKernelNodeSetParams_v2(run, node, params) })?;
        changed.result().map_err(fault)
    }

    fn repeat(&self, recording: Recording) -> Result<(), DeviceFault> {
        self.enter()?;
        let run = lock(&self.graphs).all.get(&recording).map(|graph| graph.run);
        let Some(run) = run else {
            return Err(DeviceFault::Refused { detail: "a recording that is not there".into() });
        };
        // SAFETY: the recording lives until `forget`, which waits.
        unsafe { sys::cuGraphLaunch(run, self.stream) }.result().map_err(fault)
    }

    fn forget(&self, recording: Recording) {
        let graph = lock(&self.graphs).all.remove(&recording);
        if let Some(Graph { graph, run, .. }) = graph
            && self.enter().is_ok()
            && self.wait().is_ok()
        {
            // SAFETY: both were made by `record`, and no repetition is on its way.
            let _ = unsafe { (sys::cuGraphExecDestroy(run), sys::cuGraphDestroy(graph)) };
        }
    }

    fn has_tiles(&self) -> bool {
        self.tiles
    }

    fn units(&self) -> usize {
        self.units
    }
}

/// Copies what has arrived to where it belongs.
fn take(staging: &Staging, waiting: &mut Vec<(usize, &mut [u8])>) {
    for (at, to) in waiting.drain(..) {
        // SAFETY: so many bytes were written there, and the device is done with them.
        let arrived = unsafe { std::slice::from_raw_parts(staging.memory.add(at), to.len()) };
        to.copy_from_slice(arrived);
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if self.enter().is_ok() && self.wait().is_ok() {
            for staging in [&self.up, &self.down] {
                // SAFETY: allocated by the driver, and nothing uses it any more.
                let _ = unsafe { result::free_host(lock(staging).memory.cast()) };
            }
        }
        // A lost device too: with its last user its context is gone, and the next one begins anew.
        // SAFETY: retained once by `start`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
