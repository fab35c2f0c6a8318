//! `cargo xtask gpu [--bundle] [MODEL]`: makes a folder below the target directory that needs neither this repository nor a network, with
//! the programs and tests of the GPU backends, and runs the report in it (`src/bin/gpu-report`). With `--bundle` it packs the folder for
//! another machine instead.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use crate::{cargo, cuda};

const NAME: &str = "gpu-bundle";
const TORCH: &str = "tools/gpu/torch_decode.py";
/// What is built, in release: cargo's arguments, and the names of what it makes.
const PROGRAMS: [(&[&str], &[&str]); 3] = [
    (&["build", "-p", "dn", "-p", "xtask", "--bin", "dn", "--bin", "gpu-report"], &["dn", "gpu-report"]),
    (
        &["test", "--no-run", "-p", "dn-compute", "--features", FEATURES, "--test", "cuda", "--test", "wgpu"],
        &["cuda", "wgpu"],
    ),
    (
        &[
            "build",
            "-p",
            "dn-compute",
            "--features",
            FEATURES,
            "--example",
            "ceilings",
            "--example",
            "random_model",
        ],
        &["ceilings", "random_model"],
    ),
];
const FEATURES: &str = "cuda,wgpu,embedded-model";

const READ_ME: &str = "\
Run ./bin/gpu-report on a machine with a graphics card: it compares every GPU backend with the CPU, times both, and writes gpu-report.md \
in this folder. It needs a driver (NVIDIA's for CUDA; Vulkan's loader for Vulkan), 30 GB of memory and, below models/, 10 GB of disk.

  ./bin/gpu-report             random models of the 1B and 8B shapes, made once
  ./bin/gpu-report MODEL.gguf  your own

Nothing is fetched and nothing outside this folder is written but the kernels' cache in your cache directory. The exit status is 0 if all \
that must run did, with the same bits, 1 if not, 3 where there is no card. The report is written after each step; a step of more than half \
an hour is ended.

lib/ holds NVRTC, unmodified, as its licence there allows: for these programs alone. The rest is under MIT or Apache 2.0, at your choice.
";

pub(crate) fn run(args: &[String]) -> ExitCode {
    let (pack, model) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (false, None),
        ["--bundle"] => (true, None),
        [model] if !model.starts_with('-') => (false, Some(model)),
        _ => {
            eprintln!("usage: cargo xtask gpu [--bundle | MODEL]");
            return ExitCode::from(2);
        }
    };
    let made =
        bundle().and_then(|bundle| if pack { packed(&bundle).map(|_| None) } else { Ok(Some(bundle)) });
    let bundle = match made {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(bundle)) => bundle,
        Err(reason) => {
            eprintln!("gpu: {reason}");
            return ExitCode::FAILURE;
        }
    };
    match Command::new(bundle.join("bin/gpu-report")).args(model).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu: {}: {error}", bundle.display());
            ExitCode::FAILURE
        }
    }
}

/// The folder, made anew but for the models in it.
fn bundle() -> Result<PathBuf, String> {
    let metadata = crate::cargo_metadata()?;
    let key = |key: &str| metadata[key].as_str().ok_or(format!("cargo names no {key}"));
    let (target, root) = (PathBuf::from(key("target_directory")?), PathBuf::from(key("workspace_root")?));
    let place = target.join(NAME);
    for part in ["bin", "lib"] {
        let part = place.join(part);
        if part.exists() {
            fs::remove_dir_all(&part).map_err(|error| format!("remove {}: {error}", part.display()))?;
        }
        fs::create_dir_all(&part).map_err(|error| format!("create {}: {error}", part.display()))?;
    }
    for (args, names) in PROGRAMS {
        let built = built(args)?;
        for name in names {
            let (_, program) =
                built.iter().find(|(built, _)| built == name).ok_or(format!("cargo built no {name}"))?;
            copy(program, &place.join("bin").join(name))?;
        }
    }
    copy(&root.join(TORCH), &place.join("bin/torch_decode.py"))?;
    match cuda::nvrtc() {
        Ok(nvrtc) => {
            copy_libraries(&nvrtc.libraries, &place.join("lib"))?;
            copy(&nvrtc.licence, &place.join("lib/LICENCE-NVRTC.txt"))?;
        }
        Err(reason) => println!("gpu: without a library of NVRTC, the machine must have its own: {reason}"),
    }
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&root.join(licence), &place.join(licence))?;
    }
    write(&place.join("README.txt"), READ_ME)?;
    write(&place.join("VERSION"), &version(&root))?;
    Ok(place)
}

/// Builds and says what was built: names and files.
fn built(args: &[&str]) -> Result<Vec<(String, PathBuf)>, String> {
    println!("gpu: cargo {}", args.join(" "));
    let mut command = cargo(args);
    command.args(["--release", "--locked", "--quiet", "--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo {} failed", args.join(" ")));
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// The executables among cargo's messages.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = |message: Value| {
        let file = PathBuf::from(message["executable"].as_str()?);
        Some((message["target"]["name"].as_str()?.to_owned(), file))
    };
    messages.filter_map(executable).collect()
}

fn copy_libraries(from: &Path, to: &Path) -> Result<(), String> {
    let listed = fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))?;
    for file in listed.flatten().map(|entry| entry.path()) {
        // Of the two builds that the package has the one that is looked for.
        let library = |name: &OsStr| {
            let name = name.to_string_lossy();
            name.contains(".so") && !name.contains(".alt.")
        };
        if let Some(name) = file.file_name().filter(|name| library(name)) {
            copy(&file, &to.join(name))?;
            // The first of the names that the library is looked for by: no other of the machine is taken.
            if name.to_string_lossy().starts_with("libnvrtc.so.") {
                fs::rename(to.join(name), to.join("libnvrtc.so"))
                    .map_err(|error| format!("rename {}: {error}", name.display()))?;
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied = fs::copy(from, to).map(|_| ());
    copied.map_err(|error| format!("copy {} to {}: {error}", from.display(), to.display()))
}

fn write(place: &Path, text: &str) -> Result<(), String> {
    fs::write(place, text).map_err(|error| format!("write {}: {error}", place.display()))
}

/// Which source it is made of, for the report's head.
fn version(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "HEAD"]), git(&["status", "--porcelain"])) {
        (Some(head), Some(changes)) if changes.is_empty() => format!("{head}\n"),
        (Some(head), _) => format!("{head}, with changes that are not committed\n"),
        _ => "not a git checkout\n".to_owned(),
    }
}

/// One archive of the folder, without models and reports.
fn packed(bundle: &Path) -> Result<(), String> {
    let archive = bundle.with_extension("tar.gz");
    let parts = ["bin", "lib", "README.txt", "VERSION", "LICENSE-APACHE", "LICENSE-MIT"]
        .map(|part| format!("{NAME}/{part}"));
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(bundle.parent().unwrap_or(bundle)).args(parts);
    let status = tar.status().map_err(|error| format!("tar: {error}"))?;
    if !status.success() {
        return Err(format!("tar of {} failed", bundle.display()));
    }
    println!("{}", archive.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_those_that_cargo_names() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"dn-core\"},\"executable\":null}\n",
            "warning: not JSON\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"cuda\"},\"executable\":\"/t/deps/cuda-1\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(executables(messages), [("cuda".to_owned(), PathBuf::from("/t/deps/cuda-1"))]);
    }
}
