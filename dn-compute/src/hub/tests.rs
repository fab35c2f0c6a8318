use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret-of-the-test";

/// What the server is to do wrong.
#[derive(Debug, Clone, Default)]
struct Faults {
    /// Close connections in the middle of a body, so many times, after so many bytes.
    drops: u32,
    after: usize,
    no_ranges: bool,
    /// Change a byte.
    corrupt: bool,
    /// Say 503 so many times.
    busy: u32,
    status: Option<u16>,
    /// Send more than announced.
    longer: bool,
    /// Say nothing at all.
    silent: bool,
    no_hash: bool,
    sha: Option<&'static str>,
}

/// A request: its path, its range and whether it carried the token.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    line: String,
    range: Option<String>,
    token: bool,
}

struct Server {
    address: String,
    files: Arc<BTreeMap<String, Vec<u8>>>,
    faults: Arc<Mutex<Faults>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let out = Self { address, files: files.into(), faults: Arc::default(), asked: Arc::default() };
        let (files, faults, asked) =
            (Arc::clone(&out.files), Arc::clone(&out.faults), Arc::clone(&out.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, faults, asked) = (Arc::clone(&files), Arc::clone(&faults), Arc::clone(&asked));
                std::thread::spawn(move || answer(stream, &files, &faults, &asked));
            }
        });
        out
    }

    fn options(&self, cache: &std::path::Path) -> HubOptions {
        let mut options = HubOptions::new(&self.address, cache);
        options.stall = Duration::from_secs(5);
        options.attempts = 3;
        options.with_token(TOKEN).unwrap()
    }

    fn fault(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One connection, one request.
fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    faults: &Mutex<Faults>,
    asked: &Mutex<Vec<Asked>>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(line)) = lines.next() else { return };
    let (mut range, mut token) = (None, false);
    for header in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        let (name, value) = header.split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => token = value == format!("Bearer {TOKEN}"),
            _ => {}
        }
    }
    asked.lock().unwrap().push(Asked { line: line.clone(), range: range.clone(), token });
    let mut f = faults.lock().unwrap();
    let plan = f.clone();
    if f.busy > 0 {
        f.busy -= 1;
    }
    let is_body = line.starts_with("GET /cdn/");
    if is_body && f.drops > 0 {
        f.drops -= 1;
    }
    drop(f);
    if plan.silent {
        std::thread::sleep(Duration::from_secs(3));
        return;
    }
    let mut say = |status: &str, headers: &str, body: &[u8], length: usize| {
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    if plan.busy > 0 {
        return say("503 Busy", "", b"", 0);
    }
    if let Some(status) = plan.status {
        return say(&format!("{status} No"), "", b"", 0);
    }
    let path = line.split(' ').nth(1).unwrap_or_default();
    if path.starts_with("/api/models/org/name/revision/") {
        let names: Vec<_> = files.keys().map(|n| serde_json::json!({ "rfilename": n })).collect();
        let body = serde_json::json!({"sha": plan.sha.unwrap_or(COMMIT), "siblings": names}).to_string();
        return say("200 OK", "", body.as_bytes(), body.len());
    }
    let file = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
    let file =
        file.or(path.strip_prefix("/cdn/")).and_then(|name| files.get(name).map(|bytes| (name, bytes)));
    let Some((name, bytes)) = file else { return say("404 Not Found", "", b"", 0) };
    if !is_body {
        let small = name.ends_with(".json");
        let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
        let tag = match small {
            true => format!("ETag: \"{}\"\r\n", hex(&Sha1::digest(&blob))),
            false => format!("X-Linked-Etag: \"{}\"\r\nETag: \"x\"\r\n", hex(&Sha256::digest(bytes))),
        };
        let tag = if plan.no_hash { String::new() } else { tag };
        let headers = format!("{tag}X-Linked-Size: {}\r\nLocation: /cdn/{name}\r\n", bytes.len());
        return say("302 Found", &headers, b"", 0);
    }
    let from = range
        .filter(|_| !plan.no_ranges)
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let start: usize = from.unwrap_or(0);
    let mut body = bytes[start..].to_vec();
    if plan.corrupt {
        body[0] ^= 1;
    }
    if plan.longer {
        body.extend([0; 9]);
    }
    let length = body.len();
    if plan.drops > 0 {
        body.truncate(plan.after);
    }
    let headers = format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    match from {
        Some(_) => say("206 Partial Content", &headers, &body, length),
        None => say("200 OK", "", &body, length),
    }
}

fn numbers(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * i / 7) as u8).collect()
}

fn gguf() -> (Server, tempfile::TempDir, HubModel) {
    let server = Server::start(&[("README.md", b"x".to_vec()), ("model-q8_0.gguf", numbers(900_000))]);
    (server, tempfile::tempdir().unwrap(), "org/name".parse().unwrap())
}

fn get(options: &HubOptions, model: &HubModel) -> Result<PathBuf, HubError> {
    fetch(options, model, &mut |_| {})
}

#[test]
fn a_file_is_fetched_once_and_lies_where_other_tools_look_for_it() {
    let (server, cache, model) = gguf();
    let options = server.options(cache.path());
    let mut last = None;
    let path = fetch(&options, &model, &mut |p| last = Some(p.clone())).unwrap();
    assert_eq!(last, Some(HubProgress { file: "model-q8_0.gguf".into(), have: 900_000, size: 900_000 }));
    let root = cache.path().join("models--org--name");
    assert_eq!(path, root.join("snapshots").join(COMMIT).join("model-q8_0.gguf"));
    assert_eq!(std::fs::read(&path).unwrap(), numbers(900_000));
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    let hash = hex(&Sha256::digest(numbers(900_000)));
    assert_eq!(path.canonicalize().unwrap(), root.join("blobs").join(&hash).canonicalize().unwrap());
    assert_eq!(std::fs::read_dir(root.join("blobs")).unwrap().count(), 1, "nothing unfinished is left");
    let asked = server.asked();
    // The token goes to the hub, and stays there as long as the address does.
    assert!(asked.iter().all(|a| a.token), "{asked:?}");
    assert_eq!(asked.iter().filter(|a| a.line.contains("/cdn/")).count(), 1);
    assert_eq!(get(&options, &model).unwrap(), path);
    assert!(server.asked().iter().all(|a| a.line.contains("/api/")), "only the commit is asked for again");
    // Offline.
    let mut offline = options.clone();
    offline.offline = true;
    server.fault(Faults { status: Some(500), ..Faults::default() });
    assert_eq!(get(&offline, &model).unwrap(), path);
    let by_commit: HubModel = format!("org/name@{COMMIT}").parse().unwrap();
    assert_eq!(get(&offline, &by_commit).unwrap(), path);
    assert!(server.asked().is_empty());
    let other: HubModel = "org/name@other".parse().unwrap();
    assert!(matches!(get(&offline, &other), Err(HubError::Offline { .. })));
    let absent: HubModel = "org/name:other.gguf".parse().unwrap();
    assert!(matches!(get(&offline, &absent), Err(HubError::Offline { .. })));
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let (server, cache, model) = gguf();
    let options = server.options(cache.path());
    // More breaks than tries: each brings something, so each earns new ones.
    server.fault(Faults { drops: 6, after: 100_000, ..Faults::default() });
    let path = get(&options, &model).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), numbers(900_000));
    let ranges: Vec<_> =
        server.asked().into_iter().filter(|a| a.line.contains("/cdn/")).map(|a| a.range).collect();
    assert_eq!(ranges.len(), 7);
    assert_eq!(ranges[1].as_deref(), Some("bytes=100000-"));
    assert_eq!(ranges[6].as_deref(), Some("bytes=600000-"));
}

#[test]
fn another_process_goes_on_too() {
    let (server, cache, model) = gguf();
    let options = server.options(cache.path());
    let hash = hex(&Sha256::digest(numbers(900_000)));
    let blobs = cache.path().join("models--org--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{hash}.incomplete"));
    std::fs::write(&partial, &numbers(900_000)[..123_456]).unwrap();
    let path = get(&options, &model).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), numbers(900_000));
    assert!(server.asked().iter().any(|a| a.range.as_deref() == Some("bytes=123456-")));
    // What another left behind wrong is noticed, thrown away, and fetched anew the next time.
    let cache = tempfile::tempdir().unwrap();
    let options = server.options(cache.path());
    let blobs = cache.path().join("models--org--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{hash}.incomplete"));
    std::fs::write(&partial, vec![1; 500]).unwrap();
    assert!(matches!(get(&options, &model), Err(HubError::Checksum { .. })));
    assert!(!partial.exists());
    assert!(get(&options, &model).is_ok());
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let (server, cache, model) = gguf();
    server.fault(Faults { drops: 1, after: 50_000, no_ranges: true, ..Faults::default() });
    let path = get(&server.options(cache.path()), &model).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), numbers(900_000));
}

#[test]
fn wrong_bytes_get_no_name() {
    let (server, cache, model) = gguf();
    let options = server.options(cache.path());
    server.fault(Faults { corrupt: true, ..Faults::default() });
    let error = get(&options, &model).unwrap_err();
    assert!(
        matches!(&error, HubError::Checksum { what, .. } if what == "org/name@main:model-q8_0.gguf"),
        "{error}"
    );
    server.fault(Faults { longer: true, ..Faults::default() });
    assert!(matches!(get(&options, &model), Err(HubError::Size { limit: 900_000, .. })));
    let root = cache.path().join("models--org--name");
    assert!(!root.join("snapshots").exists() && !root.join("refs").exists());
    server.fault(Faults::default());
    assert!(get(&options, &model).is_ok());
}

#[test]
fn safetensors_come_with_what_belongs_to_them() {
    let index = serde_json::json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    let server = Server::start(&[
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"x\":1}".to_vec()),
        ("model.safetensors.index.json", index.to_string().into_bytes()),
        ("model-1.safetensors", numbers(5000)),
        ("model-2.safetensors", numbers(7000)),
        ("pytorch_model.bin", numbers(10)),
        ("../evil.json", numbers(10)),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let model: HubModel = "org/name@v1".parse().unwrap();
    let path = get(&server.options(cache.path()), &model).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let expected = [
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names, expected);
    assert_eq!(std::fs::read(path.join("model-2.safetensors")).unwrap(), numbers(7000));
    // Small files are compared with Git's hash.
    let cache = tempfile::tempdir().unwrap();
    server.fault(Faults { corrupt: true, ..Faults::default() });
    let error = get(&server.options(cache.path()), &model).unwrap_err();
    assert!(matches!(&error, HubError::Checksum { expected, .. } if expected.len() == 40), "{error}");
}

#[test]
fn refusals_say_what_and_why_and_hold_no_secret() {
    let (server, cache, model) = gguf();
    let options = server.options(cache.path());
    assert!(!format!("{options:?}").contains(TOKEN));
    let with = |faults: Faults, options: &HubOptions| {
        server.fault(faults);
        let error = get(options, &model).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(TOKEN));
        error
    };
    for status in [401, 403, 404, 410] {
        let error = with(Faults { status: Some(status), ..Faults::default() }, &options);
        assert!(matches!(error, HubError::Status { status: found, .. } if found == status));
    }
    assert!(matches!(
        with(Faults { busy: 99, ..Faults::default() }, &options),
        HubError::Short { attempts: 3, .. }
    ));
    assert!(matches!(with(Faults { no_hash: true, ..Faults::default() }, &options), HubError::Answer { .. }));
    assert!(matches!(
        with(Faults { sha: Some("../x"), ..Faults::default() }, &options),
        HubError::Answer { .. }
    ));
    let mut small = options.clone();
    small.max_file_bytes = 1000;
    assert!(matches!(with(Faults::default(), &small), HubError::Size { found: 900_000, limit: 1000, .. }));
    let mut hasty = options.clone();
    hasty.stall = Duration::from_millis(200);
    hasty.attempts = 2;
    assert!(matches!(
        with(Faults { silent: true, ..Faults::default() }, &hasty),
        HubError::Connection { .. }
    ));
    let mut late = options.clone();
    late.deadline = Duration::ZERO;
    assert!(matches!(with(Faults::default(), &late), HubError::Deadline { .. }));
    let mut nobody = options.clone();
    nobody.endpoint = "http://127.0.0.1:1".into();
    nobody.attempts = 1;
    assert!(matches!(with(Faults::default(), &nobody), HubError::Connection { .. }));
    // A few refusals of a busy server are none.
    server.fault(Faults { busy: 2, ..Faults::default() });
    assert!(get(&options, &model).is_ok());
    // Over an open connection to another machine no token is sent; here only the rule can be seen.
    assert!(matches!(options.clone().with_token("a\nb"), Err(HubError::Setting { .. })));
}

#[test]
fn a_repository_of_several_models_wants_a_choice() {
    let server = Server::start(&[("a.gguf", numbers(100)), ("b.gguf", numbers(200))]);
    let cache = tempfile::tempdir().unwrap();
    let options = server.options(cache.path());
    let error = get(&options, &"org/name".parse().unwrap()).unwrap_err();
    assert!(matches!(&error, HubError::Choose { files, .. } if files == &["a.gguf", "b.gguf"]));
    assert!(error.to_string().contains("org/name@revision:file: a.gguf, b.gguf"), "{error}");
    let path = get(&options, &"org/name:b.gguf".parse().unwrap()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), numbers(200));
    assert!(matches!(
        get(&options, &"org/name:c.gguf".parse().unwrap()),
        Err(HubError::Status { status: 404, .. })
    ));
}

#[test]
fn names_are_plain() {
    let good: HubModel = "Org-1/na.me_2@refs/pr/3:sub/file.gguf".parse().unwrap();
    assert_eq!((good.repo.as_str(), good.revision.as_str()), ("Org-1/na.me_2", "refs/pr/3"));
    assert_eq!(good.to_string().parse::<HubModel>().unwrap(), good);
    for bad in [
        "", "x", "a/b/c", "../b", "a/..", "a/b@", "a/b@..", "a/b:", "a/b:../c", "a/b:c//d", "a b/c", "a/b?x",
        "/a/b", "a/b:/c", "é/b",
    ] {
        assert!(matches!(bad.parse::<HubModel>(), Err(HubError::Name { .. })), "{bad}");
    }
}
