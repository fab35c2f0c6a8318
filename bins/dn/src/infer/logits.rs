//! The file of `dn infer --logits-out`.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
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

    /// Writes the logits of every position that went through the model, all tokens but the last generated one, as they are
    /// computed: together they may be larger than the memory.
    pub(super) fn write(mut self, engine: &Engine, prompt: &[u32], output: &[u32]) -> Result<(), CliError> {
        let fed = [prompt, &output[..output.len().saturating_sub(1)]].concat();
        let vocabulary = engine.model().front().vocabulary() as usize;
        let mut written = Rows::begin(&mut self.file, fed.len(), vocabulary);
        engine.each_logits(&fed, &mut |row| {
            let next = written.as_mut().ok().map(|rows| rows.push(row));
            match next {
                Some(Ok(())) => ControlFlow::Continue(()),
                Some(Err(error)) => {
                    written = Err(error);
                    ControlFlow::Break(())
                }
                None => ControlFlow::Break(()),
            }
        })?;
        written.and_then(Rows::end).map_err(CliError::file("write", &self.path))?;
        let moved = self.file.persist(&self.path).map_err(|error| error.error);
        moved.map(drop).map_err(CliError::file("write", &self.path))
    }
}

/// A safetensors file with one tensor, `logits`, of which one row is in memory.
struct Rows<W: Write> {
    to: BufWriter<W>,
    bytes: Vec<u8>,
    /// Rows that are still to come.
    missing: usize,
}

impl<W: Write> Rows<W> {
    /// Writes the header.
    fn begin(to: W, rows: usize, columns: usize) -> io::Result<Self> {
        let size = rows as u64 * columns as u64 * 4;
        let mut header =
            format!(r#"{{"logits":{{"dtype":"F32","shape":[{rows},{columns}],"data_offsets":[0,{size}]}}}}"#);
        // So that the values are aligned.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut to = BufWriter::new(to);
        to.write_all(&(header.len() as u64).to_le_bytes())?;
        to.write_all(header.as_bytes())?;
        Ok(Self { to, bytes: Vec::with_capacity(columns * 4), missing: rows })
    }

    fn push(&mut self, row: &[f32]) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.extend(row.iter().flat_map(|logit| logit.to_le_bytes()));
        self.missing = self.missing.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
        self.to.write_all(&self.bytes)
    }

    /// Writes what is left in the buffer, if all rows that the header promises have come.
    fn end(mut self) -> io::Result<()> {
        if self.missing > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;
    use safetensors::{Dtype, SafeTensors};

    use super::*;

    #[test]
    fn rows_are_the_file_that_the_format_s_own_crate_writes() {
        for (rows, columns) in [(1, 1), (3, 5), (10, 7), (12, 131), (100, 10)] {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32 * 0.25 - 3.0).collect();
            let mut file = Vec::new();
            let mut writer = Rows::begin(&mut file, rows, columns).unwrap();
            values.chunks(columns).for_each(|row| writer.push(row).unwrap());
            writer.end().unwrap();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let read = SafeTensors::deserialize(&file).unwrap();
            let tensor = read.tensor("logits").unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, &[rows, columns][..]));
            assert_eq!(tensor.data(), bytes);
            let view = TensorView::new(Dtype::F32, vec![rows, columns], &bytes).unwrap();
            assert_eq!(file, safetensors::serialize([("logits", view)], None).unwrap());
        }
    }

    #[test]
    fn a_row_is_not_kept() {
        let mut writer = Rows::begin(io::sink(), 1000, 100).unwrap();
        (0..1000).for_each(|_| writer.push(&[0.5; 100]).unwrap());
        assert!(writer.bytes.capacity() < 1000, "{} bytes", writer.bytes.capacity());
        writer.end().unwrap();
    }
}
