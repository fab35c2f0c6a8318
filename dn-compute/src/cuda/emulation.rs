//! An emulated card for tests: the kernels' text, built by the system's C++ compiler over `emulation/before.h`, run by a thread.
//!
//! For Linux: sections and pages are its. `DN_REQUIRE_CUDA_SHIM=1` makes a missing compiler a failure; without it the tests then say that they were skipped.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::device::Device;
use super::devices::CudaDevice;
use super::driver::{Args, Download, Driver, Launch, Recording};
use super::kernels::SOURCE;
use super::{Cuda, CudaOptions};
use crate::spec::DeviceFault;

const FLAGS: [&str; 10] = [
    "-x",
    "c++",
    "-std=c++20",
    "-O2",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fno-stack-protector",
    "-U_FORTIFY_SOURCE",
    "-Wno-unknown-pragmas",
];
/// Undefined behaviour ends the program: shifts out of range, sums out of range, addresses that are not aligned. Kernels with a
/// planted mistake go on, so that their results are seen.
const CHECKS: [&str; 2] = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"];
const PAGE: usize = 4096;

/// What is emulated: with tiles an architecture that has their products, without one that has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Emulation {
    pub(super) tiles: bool,
    /// As [`CudaOptions::max_launch_words`].
    pub(super) max_launch_words: Option<usize>,
    /// Bytes of memory.
    pub(super) memory: usize,
    /// Launches after which the card is lost.
    pub(super) lost_after: u32,
    /// Where the text is to be changed, for tests of the tests: from, to.
    pub(super) change: Option<(&'static str, &'static str)>,
}

impl Default for Emulation {
    fn default() -> Self {
        Self { tiles: true, max_launch_words: None, memory: usize::MAX, lost_after: u32::MAX, change: None }
    }
}

type LaunchFunction = unsafe extern "C" fn(*const c_void, *const Args, *const u32, u32, u32);

/// The built kernels.
#[derive(Debug)]
struct Kernels {
    library: libloading::Library,
    launch: LaunchFunction,
}

/// An emulated card.
#[derive(Debug)]
struct Emulated {
    kernels: &'static Kernels,
    options: Emulation,
    /// Length and start of what the system gave, by address.
    memory: Mutex<HashMap<u64, (usize, usize)>>,
    launches: AtomicU32,
    recordings: Mutex<HashMap<Recording, Vec<Launch>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The backend over an emulated card, or `None` where there is no compiler and none is required.
pub(super) fn emulated(options: Emulation) -> Option<Cuda> {
    let kernels = kernels(options)?;
    let summary = CudaDevice {
        name: "emulated card".to_owned(),
        bus: "emulated bus".to_owned(),
        driver: "none".to_owned(),
        capability: if options.tiles { (8, 0) } else { (7, 0) },
        memory_bytes: options.memory as u64,
        is_integrated: false,
        isa: "emulated",
        ordinal: 0,
    };
    let memory = Mutex::default();
    let driver =
        Emulated { kernels, options, memory, launches: AtomicU32::new(0), recordings: Mutex::default() };
    let CudaOptions { max_launch_words, .. } =
        CudaOptions { max_launch_words: options.max_launch_words, ..CudaOptions::default() };
    Some(Cuda::over(Device::new(Box::new(driver), &summary.name, max_launch_words), summary))
}

/// Builds the kernels once in a program's life, and for each text once on a machine.
fn kernels(options: Emulation) -> Option<&'static Kernels> {
    type Built = HashMap<(bool, Option<(&'static str, &'static str)>), Option<&'static Kernels>>;
    static BUILT: OnceLock<Mutex<Built>> = OnceLock::new();
    let mut built = lock(BUILT.get_or_init(Mutex::default));
    *built.entry((options.tiles, options.change)).or_insert_with(|| build(options))
}

fn build(options: Emulation) -> Option<&'static Kernels> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let runs = Command::new(&compiler).arg("--version").output().is_ok_and(|output| output.status.success());
    if !runs {
        let required = std::env::var_os("DN_REQUIRE_CUDA_SHIM").is_some_and(|value| value == "1");
        assert!(!required, "DN_REQUIRE_CUDA_SHIM is set, and `{compiler}` does not run");
        println!("SKIPPED: `{compiler}` does not run: no emulated card");
        return None;
    }
    let source = match options.change {
        Some((from, to)) => {
            assert!(SOURCE.contains(from), "the kernels have no `{from}`");
            SOURCE.replacen(from, to, 1)
        }
        None => SOURCE.to_owned(),
    };
    let text = [include_str!("emulation/before.h"), &source, include_str!("emulation/after.h")].concat();
    let checks = if options.change.is_none() { &CHECKS[..] } else { &[] };
    let architecture = format!("-D__CUDA_ARCH__={}", if options.tiles { 800 } else { 700 });
    let name = blake3::hash(format!("{compiler}{FLAGS:?}{checks:?}{architecture}{text}").as_bytes()).to_hex();
    // Beside the test itself, so that a later run finds it.
    let place: PathBuf = std::env::current_exe().unwrap().with_file_name(format!("cuda-emulation-{name}.so"));
    if !place.exists() {
        let dir = tempfile::tempdir_in(place.parent().unwrap()).unwrap();
        let (from, to) = (dir.path().join("kernels.cpp"), dir.path().join("kernels.so"));
        fs::write(&from, text).unwrap();
        let output = Command::new(&compiler)
            .args(FLAGS)
            .args(checks)
            .arg(architecture)
            .arg("-o")
            .args([&to, &from])
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&to, &place).unwrap();
    }
    // SAFETY: the library was built above, from this crate's text; loading it runs nothing.
    let library = unsafe { libloading::Library::new(&place) }.unwrap();
    // SAFETY: the function has this type in `emulation/after.h`.
    let launch = unsafe { *library.get::<LaunchFunction>(b"emulated_launch").unwrap() };
    Some(Box::leak(Box::new(Kernels { library, launch })))
}

impl Emulated {
    /// Whether a kernel or copy stays within one piece of memory is for the pages around it to find out.
    fn used(&self) -> usize {
        lock(&self.memory).values().map(|(length, _)| *length).sum()
    }
}

impl Driver for Emulated {
    /// The memory ends where a page begins that nobody may touch; it begins with garbage.
    fn allocate(&self, bytes: usize) -> Result<u64, DeviceFault> {
        if self.used().saturating_add(bytes) > self.options.memory {
            return Err(DeviceFault::OutOfMemory);
        }
        let inside = bytes.next_multiple_of(PAGE);
        let length = inside + 2 * PAGE;
        // SAFETY: new pages, asked for without an address.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED, "no memory for the emulated card");
        // SAFETY: these pages lie within those just given.
        unsafe {
            let inner = start.cast::<u8>().add(PAGE);
            assert_eq!(libc::mprotect(inner.cast(), inside, libc::PROT_READ | libc::PROT_WRITE), 0);
            inner.write_bytes(0xa5, inside);
        }
        let address = (start as usize + PAGE + inside - bytes) as u64;
        lock(&self.memory).insert(address, (length, start as usize));
        Ok(address)
    }

    fn free(&self, address: u64) {
        let (length, start) = lock(&self.memory).remove(&address).expect("what is freed was allocated");
        // SAFETY: given by `allocate` and not freed before.
        assert_eq!(unsafe { libc::munmap(start as *mut c_void, length) }, 0);
    }

    fn free_bytes(&self) -> Option<u64> {
        let all = Some(self.options.memory).filter(|all| *all != usize::MAX)?;
        Some(all.saturating_sub(self.used()) as u64)
    }

    /// As it is: what lies behind must not be touched.
    fn size_class(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(16)
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceFault> {
        // SAFETY: the caller owns these bytes; the pages around the memory end what leaves it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn clear(&self, at: u64, bytes: usize) -> Result<(), DeviceFault> {
        // SAFETY: as in `upload`.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) };
        Ok(())
    }

    fn download(&self, parts: &mut [Download<'_>]) -> Result<(), DeviceFault> {
        for (from, to) in parts {
            // SAFETY: as in `upload`.
            unsafe { std::ptr::copy_nonoverlapping(*from as *const u8, to.as_mut_ptr(), to.len()) };
        }
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<(), DeviceFault> {
        // The emulated threads share the library's variables.
        static ONE: Mutex<()> = Mutex::new(());
        let order = self.launches.fetch_add(1, Ordering::Relaxed);
        if order >= self.options.lost_after {
            return Err(DeviceFault::Lost);
        }
        // SAFETY: every kernel takes one `Args` by value and lives as long as the library.
        let kernel = unsafe { self.kernels.library.get::<*const c_void>(launch.kernel.as_bytes()) };
        let kernel = *kernel.unwrap_or_else(|error| panic!("{}: {error}", launch.kernel));
        let _alone = lock(&ONE);
        // SAFETY: as above; kernels touch the memory whose addresses they are given.
        unsafe { (self.kernels.launch)(kernel, &launch.args, launch.grid.as_ptr(), launch.block, order) };
        Ok(())
    }

    fn record(&self, launches: &[Launch]) -> Result<Recording, DeviceFault> {
        let mut recordings = lock(&self.recordings);
        let next = recordings.keys().max().map_or(0, |last| last.0 + 1);
        recordings.insert(Recording(next), launches.to_vec());
        Ok(Recording(next))
    }

    fn change(&self, recording: Recording, index: usize, launch: &Launch) -> Result<(), DeviceFault> {
        let mut recordings = lock(&self.recordings);
        let own = &mut recordings.get_mut(&recording).expect("what is changed was recorded")[index];
        assert_eq!(own.kernel, launch.kernel, "a recorded launch keeps its kernel");
        *own = *launch;
        Ok(())
    }

    fn repeat(&self, recording: Recording) -> Result<(), DeviceFault> {
        let launches = lock(&self.recordings).get(&recording).expect("what is repeated was recorded").clone();
        launches.iter().try_for_each(|launch| self.launch(launch))
    }

    fn forget(&self, recording: Recording) {
        lock(&self.recordings).remove(&recording).expect("what is forgotten was recorded");
    }

    fn has_tiles(&self) -> bool {
        self.options.tiles
    }

    fn units(&self) -> usize {
        3
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        let left = lock(&self.memory).len();
        assert!(left == 0 || std::thread::panicking(), "{left} pieces of memory were never freed");
    }
}
