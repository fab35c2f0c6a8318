//! Files that are not to stay behind when the program is interrupted.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

/// Exit code of a program that was told to stop: 128 and the number of SIGINT, as a shell reports it.
const INTERRUPTED: i32 = 130;

/// The files that this program is writing.
static FILES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file that is removed when the program is told to stop, as long as this lives.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Watches over a file, which need not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        static WATCH: Once = Once::new();
        files(|files| files.push(path.clone()));
        WATCH.call_once(|| {
            // Without a thread or its runtime an interrupt ends the program as ever, and the file stays.
            let _ = thread::Builder::new().name("interrupt".to_owned()).spawn(watch);
        });
        Self(path)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        files(|files| files.retain(|path| *path != self.0));
    }
}

fn files<R>(work: impl FnOnce(&mut Vec<PathBuf>) -> R) -> R {
    work(&mut FILES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Waits for a signal, removes the files and ends the program.
fn watch() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(dn_sdk::operator::stop_signal());
    files(|files| {
        for path in files.iter() {
            // It may not exist yet, or have its final name already.
            let _ = fs::remove_file(path);
        }
        // While the list is held, so that no file is begun or finished in between.
        process::exit(INTERRUPTED)
    })
}
