use std::cell::Cell;
use std::fs;

use super::*;
use crate::spec::{DeviceFault, NumericError, Op};

#[path = "../../build.rs"]
#[allow(dead_code, clippy::print_stdout, reason = "its `main` runs when the crate is built")]
mod build;

fn subject() -> Subject {
    let text = str::to_owned;
    Subject { backend: "wgpu", device: text("card"), driver: text("driver 1.0"), code: text("kernels") }
}

fn right() -> Result<Report, Mismatch> {
    Ok(Report::default())
}

fn wrong() -> Result<Report, Mismatch> {
    Err(Mismatch::Bits { op: Op::Linear, case: 3, index: 7, expected: 1, found: 2 })
}

fn failed(fault: DeviceFault) -> Result<Report, Mismatch> {
    let found = NumericError::Device { op: Op::Linear, device: "card".into(), fault };
    Err(Mismatch::Outcome { op: Op::Linear, case: 3, expected: None, found: Some(found) })
}

/// How it is judged, and whether it was compared for that.
fn asked(
    dir: &Path,
    subject: &Subject,
    anew: bool,
    compare: fn() -> Result<Report, Mismatch>,
) -> (Result<(), Refusal>, bool) {
    let ran = Cell::new(false);
    let judged = judge(Some(dir), subject, anew, || {
        ran.set(true);
        compare()
    });
    (judged, ran.get())
}

fn file(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "one file for a device, and nothing beside it: {files:?}");
    files.remove(0)
}

#[test]
fn a_device_is_compared_once() {
    let dir = tempfile::tempdir().unwrap();
    let deeper = dir.path().join("not/there/yet");
    assert!(matches!(asked(&deeper, &subject(), false, right), (Ok(()), true)));
    assert!(matches!(asked(&deeper, &subject(), false, wrong), (Ok(()), false)));
    // Without a directory it is each time.
    assert!(matches!(judge(None, &subject(), false, wrong), Err(Refusal::Differs { .. })));
    // Nor is anything kept of a driver that does not say which one it is.
    for driver in ["", "?", "? ?"] {
        let nameless = Subject { driver: driver.to_owned(), ..subject() };
        assert!(matches!(asked(&deeper, &nameless, false, right), (Ok(()), true)));
        assert!(matches!(asked(&deeper, &nameless, false, right), (Ok(()), true)), "{driver:?}");
    }
    file(&deeper);
}

#[test]
fn a_wrong_device_stays_refused_and_says_what_differed() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(asked(dir.path(), &subject(), false, wrong), (Err(Refusal::Differs { .. }), true)));
    let (Err(Refusal::Known { difference, .. }), false) = asked(dir.path(), &subject(), false, right) else {
        panic!()
    };
    assert_eq!(difference, wrong().unwrap_err().to_string());
    // The remedy compares again, and what it finds is what holds.
    assert!(matches!(asked(dir.path(), &subject(), true, right), (Ok(()), true)));
    assert!(matches!(asked(dir.path(), &subject(), false, wrong), (Ok(()), false)));
    assert!(matches!(asked(dir.path(), &subject(), true, wrong), (Err(Refusal::Differs { .. }), true)));
    assert!(matches!(asked(dir.path(), &subject(), false, right), (Err(Refusal::Known { .. }), false)));
}

#[test]
fn another_driver_or_other_kernels_are_compared_again_in_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let changes: [fn(&mut Subject); 3] = [
        |s| s.driver.push('1'),
        |s| s.code.push('1'),
        |s| (s.driver, s.code) = (s.code.clone(), s.driver.clone()),
    ];
    for change in changes {
        let mut other = subject();
        change(&mut other);
        for compare in [right, wrong] {
            let _ = asked(dir.path(), &other, true, compare);
            assert!(matches!(asked(dir.path(), &subject(), false, right), (Ok(()), true)), "{other:?}");
            file(dir.path());
        }
    }
    // Another device, or another way to it, has a verdict of its own.
    for other in [Subject { device: "card 2".into(), ..subject() }, Subject { backend: "cuda", ..subject() }]
    {
        assert!(matches!(asked(dir.path(), &other, false, right), (Ok(()), true)));
        assert!(matches!(asked(dir.path(), &subject(), false, wrong), (Ok(()), false)));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

/// Full memory or a lost device are no verdict, and take back an earlier one when it is asked for anew.
#[test]
fn a_device_that_fails_is_neither_right_nor_wrong() {
    let faults: [fn() -> Result<Report, Mismatch>; 3] = [
        || failed(DeviceFault::OutOfMemory),
        || failed(DeviceFault::Lost),
        || failed(DeviceFault::Refused { detail: "no".into() }),
    ];
    for fault in faults {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(asked(dir.path(), &subject(), false, fault), (Err(Refusal::Failed { .. }), true)));
        assert!(matches!(asked(dir.path(), &subject(), false, right), (Ok(()), true)));
        assert!(matches!(asked(dir.path(), &subject(), true, fault), (Err(Refusal::Failed { .. }), true)));
        assert!(matches!(asked(dir.path(), &subject(), false, right), (Ok(()), true)));
    }
    let dir = tempfile::tempdir().unwrap();
    let (refused, _) = asked(dir.path(), &subject(), false, || failed(DeviceFault::Wrong));
    assert!(matches!(refused, Err(Refusal::Differs { .. })), "what the host cannot explain is the device's");
    assert!(matches!(asked(dir.path(), &subject(), false, right), (Err(Refusal::Known { .. }), false)));
}

/// Whatever lies there that is not whole means: compare again. It is repaired where it can be.
#[test]
fn garbage_is_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let _ = asked(dir.path(), &subject(), false, right);
    let place = file(dir.path());
    let whole = fs::read(&place).unwrap();
    let content = &whole[blake3::OUT_LEN..];
    let hashed = |content: &[u8]| [blake3::hash(content).as_bytes(), content].concat();
    let text = String::from_utf8(content.to_vec()).unwrap();
    let digest = subject().digest();
    let mut cases = vec![
        Vec::new(),
        content.to_vec(),
        vec![0xff; 100],
        b"right".to_vec(),
        vec![b'r'; 1 << 20],
        hashed(&[content, &[b'x'].repeat(1 << 20)].concat()),
        hashed(text.replace("right", "Right").as_bytes()),
        hashed(text.replace("\n-\n", "\n-1\n").as_bytes()),
        hashed(text.replace("\n-\n", "\n99999999999999999999999\n").as_bytes()),
        hashed(digest.as_bytes()),
        hashed(format!("{digest}\nright").as_bytes()),
        hashed(format!("{}\nright\n-\n", "0".repeat(64)).as_bytes()),
        hashed(b"\xff\xfe\nright\n-\n"),
    ];
    cases.extend((0..whole.len()).map(|at| whole[..at].to_vec()));
    cases.extend((0..whole.len()).map(|at| {
        let mut broken = whole.clone();
        broken[at] ^= 1;
        broken
    }));
    for (index, case) in cases.into_iter().enumerate() {
        fs::write(&place, &case).unwrap();
        assert!(matches!(asked(dir.path(), &subject(), false, right), (Ok(()), true)), "case {index}");
        assert_eq!(fs::read(&place).unwrap(), whole, "case {index} is repaired");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_neither_read_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let _ = asked(dir.path(), &subject(), false, right);
    let place = file(dir.path());
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    for _ in 0..2 {
        assert!(matches!(asked(dir.path(), &subject(), false, right), (Ok(()), true)));
    }
    assert_eq!(file(dir.path()), place, "what was begun beside it is gone");
    fs::remove_dir(&place).unwrap();
    // An endless file, and a pipe that nobody writes to.
    std::os::unix::fs::symlink("/dev/zero", &place).unwrap();
    assert!(matches!(asked(dir.path(), &subject(), false, right), (Ok(()), true)));
    assert!(matches!(asked(dir.path(), &subject(), false, wrong), (Ok(()), false)), "a file took its place");
    fs::remove_file(&place).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&place).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(matches!(asked(dir.path(), &subject(), false, right), (Ok(()), true)));
    }
    // A file where the directory should be.
    let under = place.join("below");
    for _ in 0..2 {
        assert!(matches!(asked(&under, &subject(), false, right), (Ok(()), true)));
    }
}

#[test]
fn many_writers_leave_one_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for compare in [right, wrong, right, wrong] {
            let dir = dir.path();
            scope.spawn(move || (0..50).for_each(|_| drop(asked(dir, &subject(), true, compare))));
        }
    });
    file(dir.path());
    assert_ne!(Verdict::read(Some(dir.path()), &subject()).outcome, Outcome::Unknown, "it is whole");
}

#[test]
fn a_long_difference_and_a_rate_are_kept_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = Outcome::Wrong("é\n".repeat(10_000));
    Verdict { outcome, weights_per_s: Some(u64::MAX) }.write(Some(dir.path()), &subject());
    assert!(fs::metadata(file(dir.path())).unwrap().len() <= MOST_BYTES);
    let read = Verdict::read(Some(dir.path()), &subject());
    assert_eq!(read.weights_per_s, Some(u64::MAX));
    let Outcome::Wrong(difference) = &read.outcome else { panic!("{read:?}") };
    assert!(difference.starts_with("é\né\n") && difference.len() > 2000, "{}", difference.len());
    // A comparison keeps the rate.
    let _ = asked(dir.path(), &subject(), true, right);
    let expected = Verdict { outcome: Outcome::Right, weights_per_s: Some(u64::MAX) };
    assert_eq!(Verdict::read(Some(dir.path()), &subject()), expected);
}

/// The fingerprint of the code is computed of what is there: any change of a kernel or of what it is compared with changes it.
#[test]
fn every_change_of_a_kernel_is_another_code() {
    use build::{DIRECTORIES, LOCK, collect, fingerprint};

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parent = tempfile::tempdir().unwrap();
    let copy = parent.path().join("crate");
    for directory in DIRECTORIES {
        let mut files = Vec::new();
        collect(&root.join(directory), &mut files).unwrap();
        assert!(!files.is_empty(), "{directory}");
        for file in files {
            let to = copy.join(file.strip_prefix(root).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
    }
    let lock = root.join(LOCK);
    fs::copy(lock, copy.join(LOCK)).unwrap();
    let own = fingerprint(&copy).unwrap();
    assert_eq!(format!("{own:016x}"), CODE);
    for file in ["src/wgpu/linear.wgsl", "src/wgpu/pass.rs", "src/cuda/attention.cu", "src/spec/linear.rs"] {
        let place = copy.join(file);
        let before = fs::read_to_string(&place).unwrap();
        fs::write(&place, format!("{before} ")).unwrap();
        assert_ne!(fingerprint(&copy).unwrap(), own, "{file}");
        fs::write(&place, before).unwrap();
        assert_eq!(fingerprint(&copy).unwrap(), own, "{file}");
    }
    let lock = fs::read_to_string(copy.join(LOCK)).unwrap();
    let place = lock.find("name = \"naga\"\nversion = \"").unwrap() + 25;
    let newer = format!("{}9{}", &lock[..place], &lock[place..]);
    fs::write(copy.join(LOCK), newer).unwrap();
    assert_ne!(fingerprint(&copy).unwrap(), own, "another translator");
}
