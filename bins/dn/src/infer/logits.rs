//! The file of `dn infer --logits-out`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dn_compute::Engine;
use tempfile::NamedTempFile;

use crate::error::CliError;
use crate::unfinished::Unfinished;

/// The file that logits go to; under a name of its own until it is complete.
#[derive(Debug)]
pub(super) struct LogitsFile {
    path: PathBuf,
    file: NamedTempFile,
    /// Dropped after the file has its final name, or is gone.
    _unfinished: Unfinished,
}

impl LogitsFile {
    /// Creates the file beside its place. What is there is replaced later, if it is a file.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        let refused = |what: &str| {
            let reason = format!(
                "{} is {what}; the name of a new file, or of one to replace, expected",
                path.display()
            );
            Err(CliError::argument("--logits-out", reason))
        };
        let Some(name) = path.file_name() else { return refused("a directory") };
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => return refused("a directory"),
            Ok(meta) if meta.is_symlink() => return refused("a link"),
            Ok(meta) if !meta.is_file() => return refused("no regular file"),
            _ => {}
        }
        let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let mut prefix = name.to_owned();
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        // As any file that a program creates, and not for its owner only.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(directory).map_err(CliError::file("create", path))?;
        let unfinished = Unfinished::new(file.path().to_owned());
        Ok(Self { path: path.to_owned(), file, _unfinished: unfinished })
    }

    /// Writes the logits of every position that went through the model: all tokens but the last generated one.
    pub(super) fn write(mut self, engine: &Engine, prompt: &[u32], output: &[u32]) -> Result<(), CliError> {
        let fed = [prompt, &output[..output.len().saturating_sub(1)]].concat();
        let logits = engine.logits(&fed)?;
        let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        let shape = vec![fed.len(), logits.len() / fed.len().max(1)];
        let contents = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes)
            .and_then(|tensor| safetensors::serialize([("logits", tensor)], None))
            .map_err(|error| CliError::Other(format!("logits: {error}")))?;
        self.file.write_all(&contents).map_err(CliError::file("write", &self.path))?;
        let moved = self.file.persist(&self.path).map_err(|error| error.error);
        moved.map(drop).map_err(CliError::file("write", &self.path))
    }
}
