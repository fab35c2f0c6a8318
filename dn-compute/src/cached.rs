//! Files that can be made again: each holds a hash of its content before it, so that only what is whole is believed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The content behind its own hash, of at most `most` bytes; `None` for anything else.
pub(crate) fn read(place: &Path, most: u64) -> Option<Vec<u8>> {
    // A pipe would be waited for.
    fs::metadata(place).ok()?.is_file().then_some(())?;
    let (mut bytes, most) = (Vec::new(), most + blake3::OUT_LEN as u64);
    File::open(place).ok()?.take(most + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > most {
        return None;
    }
    let (hash, content) = bytes.split_first_chunk::<{ blake3::OUT_LEN }>()?;
    (!content.is_empty() && blake3::hash(content) == *hash).then(|| content.to_vec())
}

/// Writes to a file of another name first: nobody reads half of it. Of several writers one is the last.
///
/// # Errors
/// What the system says; then the place is as it was.
pub(crate) fn write(place: &Path, content: &[u8]) -> io::Result<()> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    if let Some(dir) = place.parent() {
        fs::create_dir_all(dir)?;
    }
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let beside = place.with_extension(format!("{}-{number}.part", std::process::id()));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(blake3::hash(content).as_bytes())?;
        file.write_all(content)
    });
    let moved = written.and_then(|()| fs::rename(&beside, place));
    if moved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    moved
}
