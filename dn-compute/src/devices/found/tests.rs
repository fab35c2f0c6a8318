use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::cpu::Cpu;
use crate::spec::{DeviceFault, NumericError, Op};

/// A device that says how it was opened.
fn device(
    subject: Option<Subject>,
    open: impl Fn(How) -> Opened + 'static,
) -> (Found, Rc<RefCell<Vec<String>>>) {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    let found = Found {
        backend: BackendKind::Wgpu,
        name: "card".into(),
        driver: "driver".into(),
        kind: "card".into(),
        isa: "vulkan",
        subject,
        open: Box::new(move |how| {
            seen.borrow_mut().push(format!("{how:?}"));
            open(how)
        }),
    };
    (found, calls)
}

fn subject() -> Subject {
    let text = str::to_owned;
    Subject { backend: "wgpu", device: text("card"), driver: text("driver"), code: text("code") }
}

fn works(_: How) -> Opened {
    Ok(Box::new(Cpu::new(crate::Isa::Auto, 1).unwrap()))
}

fn fails(_: How) -> Opened {
    let fault = DeviceFault::OutOfMemory;
    Err(NumericError::Device { op: Op::Linear, device: "card".into(), fault }.into())
}

#[test]
fn a_rate_is_measured_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Some(dir.path());
    let opened = Cell::new(0);
    let ask = |anew| {
        rate(cache, &subject(), anew, || {
            opened.set(opened.get() + 1);
            works(How::Unchecked)
        })
        .unwrap()
    };
    let first = ask(false);
    assert!(first > 0);
    assert_eq!((ask(false), opened.get()), (first, 1));
    ask(true);
    assert_eq!(opened.get(), 2);
    // It belongs to the device, the driver and the code, as a verdict does.
    for other in [
        Subject { driver: "driver 2".into(), ..subject() },
        Subject { device: "card (0000:1b:00)".into(), ..subject() },
    ] {
        assert!(rate(cache, &other, false, || fails(How::Unchecked)).is_err());
    }
}

/// Choosing opens a device once to measure it; a later start opens nothing, and one that is known to be wrong is not opened.
#[test]
fn a_choice_asks_a_device_no_more_than_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Some(dir.path());
    let (found, calls) = device(Some(subject()), works);
    for _ in 0..2 {
        let candidate = found.candidate(cache, Depth::Choose);
        assert!(matches!(candidate.state, State::NotCompared) && candidate.weights_per_s.is_some());
        assert_eq!(*calls.borrow(), ["Unchecked"]);
    }
    let kept = Verdict::read(cache, &subject());
    Verdict { outcome: Outcome::Wrong("a bit".into()), ..kept }.write(cache, &subject());
    let (found, calls) = device(Some(subject()), fails);
    let candidate = found.candidate(cache, Depth::Choose);
    assert!(matches!(candidate.state, State::Refused(_)) && candidate.weights_per_s.is_none());
    assert_eq!(*calls.borrow(), ["Qualified"], "which says what differed, without measuring");
}

#[test]
fn everything_is_asked_anew_when_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Some(dir.path());
    let (found, calls) = device(Some(subject()), works);
    let candidate = found.candidate(cache, Depth::Compare);
    assert!(matches!(candidate.state, State::Right) && candidate.weights_per_s.is_some());
    assert_eq!(*calls.borrow(), ["Qualified", "Unchecked"]);
    found.candidate(cache, Depth::Anew);
    assert_eq!(calls.borrow()[2..], ["Anew", "Unchecked"]);
}

#[test]
fn a_device_that_fails_is_a_candidate_refused() {
    for subject in [Some(subject()), None] {
        let (found, _) = device(subject, fails);
        for depth in [Depth::Choose, Depth::Compare, Depth::Anew] {
            let candidate = found.candidate(None, depth);
            let State::Refused(error) = &candidate.state else { panic!("{candidate:?}") };
            assert!(error.to_string().contains("card") && candidate.weights_per_s.is_none(), "{error}");
        }
    }
}
