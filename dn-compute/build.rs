//! Tells the crate a fingerprint of everything that a device's verdict depends on: the kernels, the code around them, what they
//! are compared with, and the crates that translate or run them.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// What a device runs, what calls it, and what it is compared with.
pub(crate) const DIRECTORIES: [&str; 6] =
    ["src/conformance", "src/cpu", "src/cuda", "src/reference", "src/spec", "src/wgpu"];
/// Crates between the kernels and a driver.
const CRATES: [&str; 7] = ["ash", "cudarc", "metal", "naga", "wgpu", "wgpu-core", "wgpu-hal"];
/// Where their versions are, in this repository.
pub(crate) const LOCK: &str = "../Cargo.lock";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    for directory in DIRECTORIES {
        println!("cargo:rerun-if-changed={directory}");
    }
    if Path::new(LOCK).exists() {
        println!("cargo:rerun-if-changed={LOCK}");
    }
    println!("cargo:rustc-env=DN_DEVICE_CODE={:016x}", fingerprint(Path::new("."))?);
    Ok(())
}

/// A number that is another one, up to chance, after any change of a file.
pub(crate) fn fingerprint(root: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for directory in DIRECTORIES {
        let mut files = Vec::new();
        collect(&root.join(directory), &mut files)?;
        files.sort();
        for file in files {
            file.strip_prefix(root).unwrap_or(&file).hash(&mut hasher);
            fs::read(&file)?.hash(&mut hasher);
        }
    }
    // As a dependency of something else it has no lock file: then the versions are the other's choice, and not known here.
    versions(&fs::read_to_string(root.join(LOCK)).unwrap_or_default()).hash(&mut hasher);
    Ok(hasher.finish())
}

pub(crate) fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Name and version lines of those crates.
fn versions(lock: &str) -> Vec<&str> {
    let is_one = |name: &str| CRATES.iter().any(|own| name == format!("name = \"{own}\""));
    let lines: Vec<&str> = lock.lines().collect();
    lines.windows(2).filter(|two| is_one(two[0])).flatten().copied().collect()
}
