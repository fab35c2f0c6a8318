//! Models from the Hugging Face hub, or whatever answers like it.
//!
//! # What it does
//! Files come over HTTPS into the cache that Hugging Face's own tools use (`models--org--name/{blobs,refs,snapshots}`), so a
//! model is fetched once for all of them. A broken download goes on where it stopped; every file is compared with the
//! hash that the hub names for it (SHA-256 of large files, Git's SHA-1 of small ones) before it gets its name; names appear
//! whole or not at all. Offline the cache alone answers.
//!
//! # Environment
//! `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`. The token goes to the endpoint only, over HTTPS or to
//! this machine, and into no message.

mod cache;
mod download;
mod error;
mod name;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

pub use error::HubError;
pub use name::HubModel;

use cache::Cache;

/// Files beside safetensors that a model needs, where they are there.
const SIDE_FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// Where models come from and go to, and how long they may take.
#[derive(Clone)]
pub struct HubOptions {
    /// The hub's address.
    pub endpoint: String,
    /// The directory of the cache.
    pub cache: PathBuf,
    /// Ask nobody; use what the cache has.
    pub offline: bool,
    /// Largest file.
    ///
    /// # Units
    /// Bytes.
    pub max_file_bytes: u64,
    /// Longest time for a whole model.
    pub deadline: Duration,
    /// Longest silence of a connection.
    pub stall: Duration,
    /// Tries without a byte of progress.
    pub attempts: u32,
    token: Option<String>,
}

impl HubOptions {
    /// Options without a token.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into(),
            cache: cache.into(),
            offline: false,
            max_file_bytes: 256 << 30,
            deadline: Duration::from_secs(24 * 3600),
            stall: Duration::from_secs(30),
            attempts: 5,
            token: None,
        }
    }

    /// Options as the environment has them.
    ///
    /// # Errors
    /// [`HubError::Setting`].
    pub fn from_env() -> Result<Self, HubError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let home = || {
            let base = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let base = base.or_else(|| {
                Some(PathBuf::from(variable("HOME").or(variable("USERPROFILE"))?).join(".cache"))
            });
            base.map(|base| base.join("huggingface"))
        };
        let home = variable("HF_HOME").map(PathBuf::from).or_else(home);
        let cache = variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| home.map(|home| home.join("hub")));
        let problem = "not set, and neither is HOME: there is no place for a cache";
        let cache = cache.ok_or(HubError::Setting { variable: "HF_HUB_CACHE", problem })?;
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let yes = |v: String| matches!(v.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        let mut out = Self::new(endpoint, cache);
        out.offline = variable("HF_HUB_OFFLINE").is_some_and(yes);
        match variable("HF_TOKEN") {
            Some(token) => out.with_token(&token),
            None => Ok(out),
        }
    }

    /// The same with a token for the endpoint.
    ///
    /// # Errors
    /// [`HubError::Setting`] for one that no header can hold.
    pub fn with_token(mut self, token: &str) -> Result<Self, HubError> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let problem = "holds characters that no token has";
            return Err(HubError::Setting { variable: "HF_TOKEN", problem });
        }
        self.token = Some(token.to_owned());
        Ok(self)
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubProgress {
    /// The file.
    pub file: String,
    /// Bytes of it that are there.
    pub have: u64,
    /// Bytes that it has.
    pub size: u64,
}

/// Fetches a model and gives the path that [`Model::load`](crate::Model::load) takes: a file, or a directory of safetensors.
///
/// Blocks its thread, and starts one of its own: it may be called from asynchronous code that can afford that.
///
/// # Errors
/// [`HubError`].
pub fn fetch(
    options: &HubOptions,
    model: &HubModel,
    on_progress: &mut (dyn FnMut(&HubProgress) + Send),
) -> Result<PathBuf, HubError> {
    let work = || Session::new(options, model)?.fetch(on_progress);
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// One model being fetched.
struct Session<'a> {
    options: &'a HubOptions,
    model: &'a HubModel,
    cache: Cache,
    client: Client,
    endpoint: String,
    ends: Instant,
}

/// What the hub says of a repository.
#[derive(serde::Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(serde::Deserialize)]
struct Sibling {
    rfilename: String,
}

impl<'a> Session<'a> {
    fn new(options: &'a HubOptions, model: &'a HubModel) -> Result<Self, HubError> {
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let local =
            ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|l| endpoint.starts_with(l));
        let mut headers = HeaderMap::new();
        if let Some(token) = options.token.as_ref().filter(|_| local || endpoint.starts_with("https://")) {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let problem = "holds characters that no token has";
            let mut value = value.map_err(|_| HubError::Setting { variable: "HF_TOKEN", problem })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // Redirects are followed by hand, without the token: they lead to other machines.
        let client = Client::builder()
            .user_agent(concat!("deepnode/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(15).min(options.stall))
            .timeout(options.stall)
            .default_headers(headers)
            .build();
        let problem = "no connection can be set up for this address";
        let client = client.map_err(|_| HubError::Setting { variable: "HF_ENDPOINT", problem })?;
        let ends = Instant::now() + options.deadline;
        Ok(Self { options, model, cache: Cache::new(&options.cache, &model.repo), client, endpoint, ends })
    }

    fn fetch(&self, on_progress: &mut dyn FnMut(&HubProgress)) -> Result<PathBuf, HubError> {
        let (commit, names) = if self.options.offline {
            let commit = self.cache.commit(&self.model.revision)?;
            let commit = commit.ok_or_else(|| self.not_cached(self.model.to_string()))?;
            let names = self.cache.files(&commit)?;
            (commit, names)
        } else {
            let info = self.info()?;
            (info.sha, info.siblings.into_iter().map(|s| s.rfilename).collect())
        };
        let mut wanted = self.choose(&names)?;
        let mut get = |file: &str| self.file(&commit, file, on_progress);
        let mut done = Vec::new();
        while let Some(file) = wanted.pop() {
            let path = get(&file)?;
            if file.ends_with(".safetensors.index.json") {
                wanted.extend(self.shards(&file, &path)?);
            }
            done.push((file, path));
        }
        if !self.options.offline {
            self.cache.set_commit(&self.model.revision, &commit)?;
        }
        // The model's own file was wanted first, so it was fetched last; safetensors are loaded by their directory.
        let (file, path) = match done.iter().find(|(file, _)| file == "config.json") {
            Some(config) => config,
            None => &done[0],
        };
        let whole = file == "config.json" && self.model.file.is_none();
        Ok(if whole {
            path.parent().unwrap_or(path).to_owned()
        } else {
            self.named(&done).unwrap_or(path).to_owned()
        })
    }

    fn named<'b>(&self, done: &'b [(String, PathBuf)]) -> Option<&'b PathBuf> {
        let wanted = self.model.file.as_ref()?;
        done.iter().find(|(file, _)| file == wanted).map(|(_, path)| path)
    }

    /// The files of the model among those of its repository.
    fn choose(&self, names: &[String]) -> Result<Vec<String>, HubError> {
        let has = |name: &str| names.iter().any(|n| n == name);
        let sides = || SIDE_FILES.iter().filter(|n| has(n)).map(|n| (*n).to_owned());
        if let Some(file) = &self.model.file {
            if !has(file) {
                let what = self.model.to_string();
                return Err(if self.options.offline {
                    self.not_cached(what)
                } else {
                    HubError::Status { what, status: 404 }
                });
            }
            let mut out = vec![file.clone()];
            if file.ends_with(".safetensors") {
                out.extend(sides().filter(|n| !n.ends_with(".index.json")));
            }
            return Ok(out);
        }
        if has("model.safetensors.index.json") {
            return Ok(sides().collect());
        }
        if has("model.safetensors") {
            return Ok(sides().chain(["model.safetensors".to_owned()]).collect());
        }
        let files: Vec<String> =
            names.iter().filter(|n| n.ends_with(".gguf") || n.ends_with(".dnm")).cloned().collect();
        match files.len() {
            1 => Ok(files),
            _ => Err(HubError::Choose { repo: self.model.repo.clone(), files }),
        }
    }

    /// The files that an index of shards names.
    fn shards(&self, file: &str, path: &std::path::Path) -> Result<Vec<String>, HubError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: std::collections::BTreeMap<String, String>,
        }
        let unusable = || HubError::Answer { what: self.what(file), field: "index of shards" };
        let bytes = std::fs::read(path).map_err(cache::io("read", path))?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|_| unusable())?;
        let mut names: Vec<String> = index.weight_map.into_values().collect();
        names.sort_unstable();
        names.dedup();
        if names.iter().all(|n| name::is_path(n)) { Ok(names) } else { Err(unusable()) }
    }

    fn what(&self, file: &str) -> String {
        format!("{}@{}:{file}", self.model.repo, self.model.revision)
    }

    fn not_cached(&self, what: String) -> HubError {
        HubError::Offline { what, cache: self.options.cache.display().to_string() }
    }
}
