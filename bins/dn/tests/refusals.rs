//! Input that cannot be used is refused in words, before the work, and nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dn-compute/models/tiny-rust-q8_0.gguf");

fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dn"));
    command.args(args).current_dir(home).env("DN_HOME", home).env("XDG_CONFIG_HOME", home);
    // A hub that nobody can reach: no test asks it.
    command.env("HF_ENDPOINT", "http://127.0.0.1:1").env("HF_HOME", home.join("hub"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn dn(home: &Path, args: &[&str]) -> Output {
    command(home, args).output().unwrap()
}

/// What a command that failed said, and its exit code.
fn refused(home: &Path, args: &[&str]) -> (String, Option<i32>) {
    let output = dn(home, args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "dn {args:?}");
    assert!(output.stdout.is_empty(), "dn {args:?}: nothing was computed");
    assert!(!error.contains("panicked"), "dn {args:?}: {error}");
    (error, output.status.code())
}

/// The names in a directory.
fn names(at: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_not_there_is_not_looked_for_on_the_hub() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("models")).unwrap();
    for name in
        ["models/typo.gguf", "nowhere/typo.safetensors", "nowhere/x.DNM", "models/typo", "typo", "/no/such"]
    {
        let (error, _) = refused(home.path(), &["infer", "--prompt", "x", "--model", name]);
        assert!(error.contains(&format!("there is no file or directory {name};")), "{error}");
        assert!(error.contains("org/name@revision"), "{error}");
    }
    // A name with a revision or a file is the hub's, whatever is here.
    for name in ["models/typo@main", "models/typo:x.gguf", "nowhere/typo"] {
        let (error, _) = refused(home.path(), &["model", "inspect", name]);
        assert!(error.contains("models/typo@main") || error.contains("nowhere/typo@main"), "{error}");
        assert!(!error.contains("no file or directory"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told_before_the_weights_are_read() {
    let home = tempfile::tempdir().unwrap();
    // A model whose weights cannot be loaded: whoever reads them says so.
    let model = home.path().join("cut.gguf");
    let mut broken = fs::read(TINY).unwrap();
    let end = broken.len();
    broken[end - 100_000..].fill(0xff);
    fs::write(&model, broken).unwrap();
    let model = model.to_str().unwrap();
    let long = "x".repeat(70_000);
    fs::write(home.path().join("long"), &long).unwrap();
    let infer = ["infer", "--model", model, "--prompt", "x"];
    let (error, _) = refused(home.path(), &infer);
    assert!(error.contains("tensor `"), "{error}");
    let cases: [(&[&str], &str); 9] = [
        (&["infer", "--model", model, "--tokens", "1,99999"], "token 99999 at position 1"),
        (&["bench", "infer", "--model", model, "--prompt-tokens", "4294967295"], "4294967295 tokens"),
        (&["bench", "infer", "--model", model, "--prompt-tokens", "512"], "leaves no room"),
        (&["infer", "--model", model, "--prompt", "x", "--regex", "("], "grammar"),
        (&["infer", "--model", model, "--prompt", "x", "--json-schema", "long"], "more than 65536 bytes"),
        (&["infer", "--model", model, "--prompt", "x", "--grammar", "/dev/zero"], "more than 65536 bytes"),
        (&["infer", "--model", model, "--prompt", "x", "--stop", ""], "--stop"),
        (&["infer", "--model", model, "--prompt", "x", "--stop", &long[..257]], "at most 256"),
        (&["infer", "--model", model, "--prompt", "x", "--grammar", "absent"], "cannot read absent"),
    ];
    for (args, expected) in cases {
        let (error, _) = refused(home.path(), args);
        assert!(error.contains(expected), "dn {args:?}: {error}");
    }
}

#[test]
fn the_tour_wants_a_model_that_can_be_asked() {
    let home = tempfile::tempdir().unwrap();
    let mut model = fs::read(TINY).unwrap();
    // A key of another name: the file has no template any more.
    let key = b"tokenizer.chat_template";
    let at = model.windows(key.len()).position(|bytes| bytes == key).unwrap();
    model[at] = b'T';
    fs::write(home.path().join("plain.gguf"), model).unwrap();
    let (error, code) = refused(home.path(), &["devnet", "--demo", "--model", "plain.gguf"]);
    assert!(error.contains("--model: plain has no chat template") && code == Some(2), "{error}");
}

#[test]
fn a_model_that_promises_nothing_is_not_called_right() {
    let home = tempfile::tempdir().unwrap();
    let verify = |more: &[&str]| dn(home.path(), &[&["model", "verify"], more].concat());
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let output = verify(&[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains("nothing to compare them with"), "{}", text(&output));
    assert!(!text(&output).contains("right"));
    let id = text(&output).split_whitespace().next().unwrap().to_owned();
    let json: serde_json::Value = serde_json::from_slice(&verify(&["--json"]).stdout).unwrap();
    assert!(json["verified"].is_null() && json["model_id"] == id.as_str(), "{json}");
    let output = verify(&["--id", &id]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("are right"));
    let other = format!("0x{}", "1".repeat(64));
    assert_eq!(verify(&["--id", &other]).status.code(), Some(2));
    dn(home.path(), &["model", "convert", "-o", "tiny.dnm"]);
    assert_eq!(verify(&["tiny.dnm"]).status.code(), Some(0));
}

#[test]
fn an_embedding_is_asked_for_in_the_order_that_the_help_shows() {
    let home = tempfile::tempdir().unwrap();
    let help = String::from_utf8(dn(home.path(), &["embed", "--help"]).stdout).unwrap();
    assert!(help.contains("dn embed [OPTIONS] <MODEL> <TEXT>..."), "{help}");
    assert!(refused(home.path(), &["embed", "models"]).0.contains("<MODEL>"));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn logits_replace_files_only_and_touch_no_other() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("x.partial"), "mine").unwrap();
        fs::write(at("real"), "real").unwrap();
        symlink("real", at("link")).unwrap();
        symlink("nothing", at("dangling")).unwrap();
        let before = names(home.path());
        let infer = |out| ["infer", "--tokens", "1,2", "--max-tokens", "0", "--logits-out", out];
        for (out, expected) in [
            ("link", "is a link"),
            ("dangling", "is a link"),
            ("/dev/null", "no regular file"),
            (".", "directory"),
        ] {
            let (error, code) = refused(home.path(), &infer(out));
            assert!(error.contains(expected) && code == Some(2), "{out}: {error}");
        }
        // A failure after the file was begun.
        refused(home.path(), &["infer", "--tokens", "99999", "--logits-out", "x"]);
        assert_eq!(names(home.path()), before);
        for _ in 0..2 {
            assert!(dn(home.path(), &infer("x")).status.success());
        }
        assert_eq!(fs::read_to_string(at("x.partial")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(at("real")).unwrap(), "real");
        assert_eq!(names(home.path()).len(), before.len() + 1);
        // Readable by whoever may read what this user creates.
        fs::write(at("plain"), "").unwrap();
        let mode = |name| fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!(mode("x"), mode("plain"));
    }

    #[test]
    fn an_interrupt_leaves_no_file_behind() {
        let home = tempfile::tempdir().unwrap();
        let before = names(home.path());
        for signal in ["-INT", "-TERM"] {
            // The plain definition is slow enough to be caught at it.
            let args = [
                "infer",
                "--prompt",
                "x",
                "--max-tokens",
                "400",
                "--backend",
                "reference",
                "--logits-out",
                "x",
            ];
            let mut child = command(home.path(), &args).spawn().unwrap();
            let began = Instant::now();
            while names(home.path()) == before {
                assert!(began.elapsed() < Duration::from_secs(60), "no file was begun");
                std::thread::sleep(Duration::from_millis(5));
            }
            // The file is there a moment before it is watched over.
            std::thread::sleep(Duration::from_millis(200));
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            assert_eq!(child.wait().unwrap().code(), Some(130), "{signal}");
            assert_eq!(names(home.path()), before, "{signal}");
        }
    }

    #[test]
    fn a_model_that_is_no_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(home.path().join("m.gguf")).unwrap();
        for model in ["m.gguf", "/dev/zero"] {
            let (error, _) = refused(home.path(), &["model", "inspect", model]);
            assert!(error.contains(&format!("{model} is not a regular file")), "{error}");
        }
        symlink("nowhere", home.path().join("lost.gguf")).unwrap();
        let (error, _) = refused(home.path(), &["model", "inspect", "lost.gguf"]);
        assert!(error.contains("cannot read the model file lost.gguf"), "{error}");
    }
}
