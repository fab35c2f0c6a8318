//! Why a model cannot be fetched.

use std::io;

/// Why a model cannot be fetched. No message holds a token, or the query of an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name of a model that is none.
    #[error(
        "`{found}` is no model on the hub; expected org/name, org/name@revision or org/name@revision:file"
    )]
    Name {
        /// What was given.
        found: String,
    },
    /// A setting that cannot be used.
    #[error("{variable}: {problem}")]
    Setting {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The cache has not got it, and the hub may not be asked.
    #[error("{what} is not in the cache {cache}, and HF_HUB_OFFLINE forbids to fetch it")]
    Offline {
        /// What is missing.
        what: String,
        /// The cache.
        cache: String,
    },
    /// The hub says no.
    #[error("{what}: the hub answers with status {status}{}", hint(*.status))]
    Status {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// The connection failed, and went on failing.
    #[error("{what}: {source} (tried {attempts} times; what has arrived is kept for the next try)")]
    Connection {
        /// What was asked for.
        what: String,
        /// Tries without progress.
        attempts: u32,
        /// Why.
        source: reqwest::Error,
    },
    /// The connection ended before the file did, and went on doing so.
    #[error(
        "{what}: the connection broke off or the hub was busy (tried {attempts} times; what has arrived is kept)"
    )]
    Short {
        /// What was asked for.
        what: String,
        /// Tries without progress.
        attempts: u32,
    },
    /// It took longer than allowed.
    #[error("{what}: not done after {seconds} s; what has arrived is kept for the next try")]
    Deadline {
        /// What was asked for.
        what: String,
        /// The time allowed.
        seconds: u64,
    },
    /// A file is larger than allowed, or than announced.
    #[error("{what} has {found} bytes or more, at most {limit} expected")]
    Size {
        /// The file.
        what: String,
        /// Its bytes.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The hub's answer lacks what a download needs.
    #[error("{what}: the hub's answer has no usable {field}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is missing.
        field: &'static str,
    },
    /// The bytes are not those of the file.
    #[error("{what}: the bytes have the hash {found}, the hub says {expected}; they are thrown away")]
    Checksum {
        /// The file.
        what: String,
        /// The hash that the hub names.
        expected: String,
        /// The hash of what came.
        found: String,
    },
    /// A repository in which no file, or not one alone, is the model.
    #[error("{repo} has no safetensors and {} GGUF files; name one as {repo}@revision:file{}", .files.len(), list(.files))]
    Choose {
        /// The repository.
        repo: String,
        /// Its GGUF files.
        files: Vec<String>,
    },
    /// The cache cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => " (no access: is HF_TOKEN set, and is the licence accepted?)",
        404 => " (there is no such repository, revision or file)",
        _ => "",
    }
}

fn list(files: &[String]) -> String {
    let some: Vec<&str> = files.iter().map(String::as_str).take(12).collect();
    if some.is_empty() { String::new() } else { format!(": {}", some.join(", ")) }
}
