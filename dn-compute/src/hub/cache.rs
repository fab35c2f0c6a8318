//! The cache's directories, as Hugging Face's tools lay them out.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{HubError, name};

/// One repository in the cache.
pub(super) struct Cache {
    root: PathBuf,
    locks: PathBuf,
}

pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.display().to_string();
    move |source| HubError::Io { action, path, source }
}

impl Cache {
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        let name = format!("models--{}", repo.replace('/', "--"));
        Self { root: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// The commit that a revision stood for when it was fetched.
    pub(super) fn commit(&self, revision: &str) -> Result<Option<String>, HubError> {
        let path = self.root.join("refs").join(revision);
        match fs::read_to_string(&path) {
            Ok(commit) if is_commit(commit.trim()) => Ok(Some(commit.trim().to_owned())),
            Ok(_) => Ok(None),
            // A commit is its own name.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Ok(is_commit(revision).then(|| revision.to_owned()).filter(|c| self.snapshot(c).is_dir()))
            }
            Err(e) => Err(io("read", &path)(e)),
        }
    }

    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        make_parent(&path)?;
        fs::write(&partial, commit).map_err(io("write", &partial))?;
        fs::rename(&partial, &path).map_err(io("write", &path))
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Where a file of a commit is, if it is there.
    pub(super) fn file(&self, commit: &str, file: &str) -> PathBuf {
        self.snapshot(commit).join(file)
    }

    /// The files of a commit that are there.
    pub(super) fn files(&self, commit: &str) -> Result<Vec<String>, HubError> {
        let top = self.snapshot(commit);
        let (mut out, mut open) = (Vec::new(), vec![top.clone()]);
        while let Some(directory) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io("read", &directory)(e)),
            };
            for entry in entries {
                let path = entry.map_err(io("read", &directory))?.path();
                let relative =
                    path.strip_prefix(&top).ok().and_then(Path::to_str).map(|p| p.replace('\\', "/"));
                let Some(relative) = relative.filter(|p| name::is_path(p)) else { continue };
                if path.is_dir() {
                    open.push(path);
                } else if path.is_file() {
                    out.push(relative);
                }
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    /// Where the bytes of a hash are, or will be.
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(hash)
    }

    /// Holds others off while a hash is fetched, until the file is dropped; `None` while another does.
    pub(super) fn try_lock(&self, hash: &str) -> Result<Option<File>, HubError> {
        let path = self.locks.join(format!("{hash}.lock"));
        make_parent(&path)?;
        make_parent(&self.blob(hash))?;
        let file = File::create(&path).map_err(io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(io("lock", &path)(e)),
        }
    }

    /// Gives the bytes of a hash their name in a commit.
    pub(super) fn link(&self, commit: &str, file: &str, hash: &str) -> Result<PathBuf, HubError> {
        let path = self.file(commit, file);
        make_parent(&path)?;
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let _ = fs::remove_file(&partial);
        // A chain of `..` out of the snapshot, so that the cache may be moved.
        let mut target: PathBuf = file.split('/').skip(1).map(|_| "..").collect();
        target.push("../../blobs");
        target.push(hash);
        link(&target, &self.blob(hash), &partial).map_err(io("create", &partial))?;
        fs::rename(&partial, &path).map_err(io("create", &path))?;
        Ok(path)
    }
}

#[cfg(unix)]
fn link(target: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn link(_target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(|_| ()))
}

pub(super) fn make_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(io("create", parent))
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
