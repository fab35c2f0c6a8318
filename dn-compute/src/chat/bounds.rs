//! Bounds on the texts that a template builds without printing them.
//!
//! The engine's own limit is on instructions, and one instruction can make a text that is many times as long as those it reads.
//! So what is written (printed, or caught by a block or macro) is counted, and what filters and methods make of texts is
//! measured before they run.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter};
use minijinja_contrib::pycompat;

/// Bytes that a template may write in one rendering, and that one text of it may have.
pub(super) const MAX_BUILT_BYTES: usize = 64 << 20;

/// Filters whose result is longer than what they read.
const GROWING: [&str; 7] = ["replace", "join", "indent", "format", "escape", "e", "pprint"];

/// The mark of an error of this module.
#[derive(Debug, thiserror::Error)]
#[error("a template builds too long a text")]
pub(super) struct TooLong;

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a text is too long").with_source(TooLong)
}

/// Puts measured filters and methods in the place of those that could build any length.
pub(super) fn measure_growth(env: &mut Environment<'static>) {
    /// The filters as they come.
    static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);
    for name in GROWING {
        env.add_filter(name, move |args: Rest<Value>| {
            check(growth(name, &args))?;
            PLAIN.empty_state().apply_filter(name, &args)
        });
    }
    env.set_unknown_method_callback(|state: &State<'_, '_>, value: &Value, method: &str, args: &[Value]| {
        if value.kind() == ValueKind::String {
            let all: Vec<Value> = match method {
                // A text joins the values of a list, where the filter's list is joined by a text.
                "join" => args.iter().chain([value]).cloned().collect(),
                _ => [value].into_iter().chain(args).cloned().collect(),
            };
            check(growth(method, &all))?;
        }
        pycompat::unknown_method_callback(state, value, method, args)
    });
}

/// Counts everything that this environment writes, from nothing.
pub(super) fn count_written(env: &mut Environment<'_>) {
    let written = Arc::new(AtomicUsize::new(0));
    env.set_formatter(move |out, state, value| {
        let len = length(value, MAX_BUILT_BYTES);
        check(written.fetch_add(len, Ordering::Relaxed).saturating_add(len))?;
        escape_formatter(out, state, value)
    });
}

/// Refuses lengths over the limit.
pub(super) fn check(bytes: usize) -> Result<(), Error> {
    if bytes <= MAX_BUILT_BYTES { Ok(()) } else { Err(too_long()) }
}

/// Bytes of a value as text; where there are more than `limit`, some number over it.
pub(super) fn length(value: &Value, limit: usize) -> usize {
    struct Count(usize, usize);
    impl Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.saturating_add(text.len());
            if self.0 > self.1 { Err(fmt::Error) } else { Ok(()) }
        }
    }
    if let Some(text) = value.as_str() {
        return text.len();
    }
    let mut count = Count(0, limit);
    // The error says no more than the count does.
    let _ = write!(count, "{value}");
    count.0
}

/// The most bytes that a filter or method makes of its arguments, but for a small factor where it escapes.
fn growth(name: &str, args: &[Value]) -> usize {
    let len = |at: usize| args.get(at).map_or(0, |value| length(value, MAX_BUILT_BYTES));
    let text = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
    let all = (0..args.len()).fold(0usize, |sum, at| sum.saturating_add(len(at)));
    match name {
        "replace" => {
            let found = match text(1) {
                "" => text(0).chars().count() + 1,
                from => text(0).matches(from).count(),
            };
            len(0).saturating_add(found.saturating_mul(len(2)))
        }
        "join" => {
            let count = args.first().and_then(Value::len).unwrap_or(0);
            len(0).saturating_add(count.saturating_mul(len(1)))
        }
        "indent" => {
            let named = |value: &Value| value.get_attr("width").ok().and_then(|width| width.as_usize());
            let width = args.get(1).and_then(|width| width.as_usize().or_else(|| named(width)));
            all.saturating_add((text(0).lines().count() + 1).saturating_mul(width.unwrap_or(4)))
        }
        "format" => all.saturating_add(widths(text(0))),
        _ => all,
    }
}

/// The numbers in a format, which may be widths, added up.
fn widths(format: &str) -> usize {
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.fold(0usize, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(usize::MAX)))
}
