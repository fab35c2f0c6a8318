//! Bytes from the hub into the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE};
use reqwest::{StatusCode, Url};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::cache::{io, is_commit};
use super::{HubError, HubProgress, Info, Session, name};

/// Longest list of a repository's files.
const MAX_INFO_BYTES: u64 = 32 << 20;
/// Most redirects of one request.
const MAX_REDIRECTS: u32 = 8;

/// What the hub says of a file.
struct Facts {
    /// SHA-256 of a large file, or Git's name of a small one; the name of its bytes in the cache.
    hash: String,
    size: u64,
}

/// Why a try failed.
enum Stop {
    /// It can be tried again.
    Broken(reqwest::Error),
    /// The connection ended early.
    Early,
    /// Nothing helps.
    For(HubError),
}

impl From<HubError> for Stop {
    fn from(error: HubError) -> Self {
        Self::For(error)
    }
}

impl Session<'_> {
    /// The commit of a revision and the names of its files.
    pub(super) fn info(&self) -> Result<Info, HubError> {
        let model = self.model;
        let what = format!("{}@{}", model.repo, model.revision);
        let url = format!(
            "{}/api/models/{}/revision/{}",
            self.endpoint,
            model.repo,
            model.revision.replace('/', "%2F")
        );
        let unusable = |field| HubError::Answer { what: what.clone(), field };
        let bytes = self.patiently(&what, || {
            let mut bytes = Vec::new();
            let response = self.follow(&what, &url, None)?;
            let read = response.take(MAX_INFO_BYTES + 1).read_to_end(&mut bytes);
            read.map(|_| bytes).map_err(|_| Stop::Early)
        })?;
        if bytes.len() as u64 > MAX_INFO_BYTES {
            return Err(HubError::Size { what, found: bytes.len() as u64, limit: MAX_INFO_BYTES });
        }
        let mut info: Info = serde_json::from_slice(&bytes).map_err(|_| unusable("list of files"))?;
        if !is_commit(&info.sha) {
            return Err(unusable("commit"));
        }
        // Names that would lead out of the cache do not exist.
        info.siblings.retain(|s| name::is_path(&s.rfilename));
        Ok(info)
    }

    /// A file of a commit: from the cache, or fetched into it.
    pub(super) fn file(
        &self,
        commit: &str,
        file: &str,
        on_progress: &mut dyn FnMut(&HubProgress),
    ) -> Result<PathBuf, HubError> {
        let cached = self.cache.file(commit, file);
        if cached.is_file() {
            return Ok(cached);
        }
        if self.options.offline {
            return Err(self.not_cached(self.what(file)));
        }
        let url = format!("{}/{}/resolve/{commit}/{file}", self.endpoint, self.model.repo);
        let what = self.what(file);
        let facts = self.facts(&what, &url)?;
        // Another process may be fetching the same bytes.
        let _held = loop {
            match self.cache.try_lock(&facts.hash)? {
                Some(held) => break held,
                None => self.in_time(&what)?,
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let blob = self.cache.blob(&facts.hash);
        if !blob.is_file() {
            self.download(&what, &url, &facts, &blob, &mut |have| {
                on_progress(&HubProgress { file: file.to_owned(), have, size: facts.size });
            })?;
        }
        self.cache.link(commit, file, &facts.hash)
    }

    /// Asks for a file's hash and size: the answer of the hub itself, before it sends us elsewhere.
    fn facts(&self, what: &str, url: &str) -> Result<Facts, HubError> {
        let (headers, last) = self.patiently(what, || self.head(what, url))?;
        let answer = |field| HubError::Answer { what: what.to_owned(), field };
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let tag = text("x-linked-etag").or(text(ETAG.as_str())).unwrap_or_default();
        let hash = tag.trim_start_matches("W/").trim_matches('"').to_owned();
        let hex = hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !hex || !matches!(hash.len(), 40 | 64) {
            return Err(answer("hash (x-linked-etag or etag)"));
        }
        // The length of an answer that sends us on is its own, not the file's.
        let length = text(CONTENT_LENGTH.as_str()).filter(|_| last.is_success());
        let size = text("x-linked-size").or(length);
        let size = size.and_then(|s| s.parse().ok()).ok_or_else(|| answer("size"))?;
        if size > self.options.max_file_bytes {
            let (what, limit) = (what.to_owned(), self.options.max_file_bytes);
            return Err(HubError::Size { what, found: size, limit });
        }
        Ok(Facts { hash, size })
    }

    /// The answer that describes a file: the first that does, on this hub.
    fn head(&self, what: &str, url: &str) -> Result<(HeaderMap, StatusCode), Stop> {
        let unusable = || HubError::Answer { what: what.to_owned(), field: "address to go on to" };
        let mut url = Url::parse(url).map_err(|_| unusable())?;
        for _ in 0..MAX_REDIRECTS {
            let response = self.client.head(url.clone()).send().map_err(Stop::Broken)?;
            let status = response.status();
            let to = response.headers().get(LOCATION).and_then(|l| url.join(l.to_str().ok()?).ok());
            match to.filter(|to| status.is_redirection() && to.origin() == url.origin()) {
                Some(to) if !response.headers().contains_key("x-linked-size") => url = to,
                _ if status.is_success() || status.is_redirection() => {
                    return Ok((response.headers().clone(), status));
                }
                _ => return Err(refusal(what, status)),
            }
        }
        Err(unusable().into())
    }

    fn download(
        &self,
        what: &str,
        url: &str,
        facts: &Facts,
        blob: &Path,
        on_progress: &mut dyn FnMut(u64),
    ) -> Result<(), HubError> {
        let partial = blob.with_extension("incomplete");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial);
        let mut out = open.map_err(io("create", &partial))?;
        let mut have = out.metadata().map_err(io("read", &partial))?.len();
        if have > facts.size {
            out.set_len(0).map_err(io("write", &partial))?;
            have = 0;
        }
        if have < facts.size {
            self.patiently(what, || {
                let before = have;
                let result = self.transfer(what, url, facts, &mut out, &partial, &mut have, on_progress);
                // Progress earns new tries.
                result.map_err(|stop| (stop, have > before))
            })?;
        }
        out.sync_all().map_err(io("write", &partial))?;
        let found = checksum(&mut out, facts).map_err(io("read", &partial))?;
        drop(out);
        if found != facts.hash {
            fs::remove_file(&partial).map_err(io("remove", &partial))?;
            let (what, expected) = (what.to_owned(), facts.hash.clone());
            return Err(HubError::Checksum { what, expected, found });
        }
        fs::rename(&partial, blob).map_err(io("create", blob))
    }

    /// One connection's worth of a file, appended to what is there.
    #[allow(clippy::too_many_arguments, reason = "one step of `download`, split off for its length")]
    fn transfer(
        &self,
        what: &str,
        url: &str,
        facts: &Facts,
        out: &mut File,
        partial: &Path,
        have: &mut u64,
        on_progress: &mut dyn FnMut(u64),
    ) -> Result<(), Stop> {
        let mut response = self.follow(what, url, (*have > 0).then_some(*have))?;
        let goes_on =
            response.status() == StatusCode::PARTIAL_CONTENT && starts_at(response.headers()) == Some(*have);
        if !goes_on {
            // The server begins anew, whatever was asked of it.
            out.set_len(0).map_err(io("write", partial))?;
            *have = 0;
        }
        out.seek(SeekFrom::Start(*have)).map_err(io("write", partial))?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            self.in_time(what)?;
            let n = response.read(&mut buffer).map_err(|_| Stop::Early)?;
            if n == 0 {
                return if *have == facts.size { Ok(()) } else { Err(Stop::Early) };
            }
            let found = *have + n as u64;
            if found > facts.size {
                out.set_len(0).map_err(io("write", partial))?;
                let (what, limit) = (what.to_owned(), facts.size);
                return Err(HubError::Size { what, found, limit }.into());
            }
            out.write_all(&buffer[..n]).map_err(io("write", partial))?;
            *have = found;
            on_progress(found);
        }
    }

    /// Tries again what breaks, as long as some tries bring something.
    fn patiently<T, E: Into<Tried>>(
        &self,
        what: &str,
        mut one: impl FnMut() -> Result<T, E>,
    ) -> Result<T, HubError> {
        let mut failed = 0;
        loop {
            self.in_time(what)?;
            let Tried { stop, progress } = match one() {
                Ok(value) => return Ok(value),
                Err(stop) => stop.into(),
            };
            failed = if progress { 1 } else { failed + 1 };
            let (what, attempts) = (what.to_owned(), failed);
            match stop {
                Stop::For(error) => return Err(error),
                Stop::Broken(source) if failed >= self.options.attempts => {
                    return Err(HubError::Connection { what, attempts, source: source.without_url() });
                }
                Stop::Early if failed >= self.options.attempts => {
                    return Err(HubError::Short { what, attempts });
                }
                _ => std::thread::sleep(Duration::from_millis(100) * failed.min(20)),
            }
        }
    }

    fn in_time(&self, what: &str) -> Result<(), HubError> {
        if Instant::now() < self.ends {
            return Ok(());
        }
        Err(HubError::Deadline { what: what.to_owned(), seconds: self.options.deadline.as_secs() })
    }

    /// A GET that follows redirects; the token goes to the hub alone.
    fn follow(&self, what: &str, url: &str, from: Option<u64>) -> Result<Response, Stop> {
        let unusable = || HubError::Answer { what: what.to_owned(), field: "address to go on to" };
        let mut url = Url::parse(url).map_err(|_| unusable())?;
        let home = url.origin();
        let elsewhere = bare_client(self.options.stall).map_err(Stop::Broken)?;
        for _ in 0..MAX_REDIRECTS {
            let client = if url.origin() == home { &self.client } else { &elsewhere };
            let mut request = client.get(url.clone());
            if let Some(from) = from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let response = request.send().map_err(Stop::Broken)?;
            let status = response.status();
            if status.is_redirection() {
                let to = response.headers().get(LOCATION).and_then(|l| l.to_str().ok());
                let to = to.and_then(|to| url.join(to).ok()).ok_or_else(unusable)?;
                // Never from a safe connection to an open one.
                if url.scheme() == "https" && to.scheme() != "https" {
                    return Err(unusable().into());
                }
                url = to;
                continue;
            }
            // A range that starts at the end of the file: what is there is too long, or whole.
            if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return if status.is_success() {
                    Ok(response)
                } else {
                    self.follow(what, url.as_str(), None)
                };
            }
            return Err(refusal(what, status));
        }
        Err(unusable().into())
    }
}

/// A failed try, and whether it brought bytes.
struct Tried {
    stop: Stop,
    progress: bool,
}

impl From<Stop> for Tried {
    fn from(stop: Stop) -> Self {
        Self { stop, progress: false }
    }
}

impl From<(Stop, bool)> for Tried {
    fn from((stop, progress): (Stop, bool)) -> Self {
        Self { stop, progress }
    }
}

/// A client that knows no token.
fn bare_client(stall: Duration) -> Result<Client, reqwest::Error> {
    let none = reqwest::redirect::Policy::none();
    Client::builder().redirect(none).timeout(stall).connect_timeout(stall).build()
}

/// A server that is busy may be asked again; any other refusal stands.
fn refusal(what: &str, status: StatusCode) -> Stop {
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => Stop::Early,
        status => Stop::For(HubError::Status { what: what.to_owned(), status }),
    }
}

/// Where the bytes of an answer start in the file: `bytes 5-9/10`.
fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// The hash of a file in the kind in which the hub gives it.
fn checksum(file: &mut File, facts: &Facts) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 20];
    let (mut large, mut small) = (Sha256::new(), Sha1::new());
    let is_large = facts.hash.len() == 64;
    small.update(format!("blob {}\0", facts.size));
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        if is_large { large.update(&buffer[..n]) } else { small.update(&buffer[..n]) }
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    Ok(if is_large { hex(&large.finalize()) } else { hex(&small.finalize()) })
}
