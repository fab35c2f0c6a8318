//! Bounds on what a template builds on its way to the text that it prints.
//!
//! The engine's own limit is on instructions, and one instruction can make a text or a list that is many times as long as those it
//! reads. So everything built is added up over a rendering, whether it is kept or not: what is written (printed, or caught by a
//! block or macro), what filters and methods return, and what operators put together. What could grow is measured before it is
//! built; what is read is [`super::reads`]'. Values inside values have a limit too: the engine prints, compares and frees them by recursion.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, context, escape_formatter, filters, functions};
use minijinja_contrib::pycompat;

use super::reads::{Reads, VISIT, inside, surface, whole};

/// Bytes that a template may build in one rendering, all texts and lists together.
pub(super) const MAX_BUILT_BYTES: usize = 256 << 20;
/// Bytes of a list for each of its values.
const ITEM: usize = size_of::<Value>();

/// Names of the functions that stand for operators. A template cannot write them.
pub(super) const ADD: &str = "+";
pub(super) const CONCAT: &str = "~";
pub(super) const MUL: &str = "*";
pub(super) const SLICE: &str = "[:]";
/// The function that sees what is spread over a call's arguments.
pub(super) const SPLAT: &str = "*[]";
/// The function that sees lists which may not be empty.
pub(super) const SOME: &str = "[_]";
/// The function that sees lists and maps which a template writes down.
pub(super) const BUILT: &str = "[]";
/// The function that sees what a namespace is to hold.
pub(super) const HELD: &str = ".";

/// Filters that build texts or lists, as they come.
static FILTERS: LazyLock<[(&str, Value); 33]> = LazyLock::new(|| {
    let escape = Value::from_function(filters::escape);
    [
        ("batch", Value::from_function(filters::batch)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("chain", Value::from_function(filters::chain)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("e", escape.clone()),
        ("escape", escape),
        ("format", Value::from_function(filters::format)),
        ("groupby", Value::from_function(filters::groupby)),
        ("indent", Value::from_function(filters::indent)),
        ("items", Value::from_function(filters::items)),
        ("join", Value::from_function(filters::join)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("lower", Value::from_function(filters::lower)),
        ("map", Value::from_function(filters::map)),
        ("pprint", Value::from_function(filters::pprint)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("replace", Value::from_function(filters::replace)),
        ("reverse", Value::from_function(filters::reverse)),
        ("safe", Value::from_function(filters::safe)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("slice", Value::from_function(filters::slice)),
        ("sort", Value::from_function(filters::sort)),
        ("split", Value::from_function(filters::split)),
        ("string", Value::from_function(filters::string)),
        ("sum", Value::from_function(filters::sum)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
        ("zip", Value::from_function(filters::zip)),
    ]
});

/// The engine as it comes, for operators.
static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);

/// The mark of an error of this module.
#[derive(Debug, thiserror::Error)]
#[error("a template builds too much")]
pub(super) struct TooMuch;

pub(super) fn too_much() -> Error {
    Error::new(ErrorKind::InvalidOperation, "more is built than allowed").with_source(TooMuch)
}

/// Puts measured operators, filters, functions and methods into an environment, for one rendering.
pub(super) fn measure(env: &mut Environment<'static>, reads: &Reads) {
    let built = Built { bytes: Arc::default(), reads: reads.clone() };
    reads.measure(env);
    for (name, filter) in &*FILTERS {
        let built = built.clone();
        env.add_filter(*name, move |state: &State<'_, '_>, args: Rest<Value>| {
            built.check(growth(name, &args)?)?;
            built.reads.filter(name, &args)?;
            let value = filter.call(state, &args)?;
            // What is chained looks things up in each other.
            let value = match (*name, value.kind()) {
                ("chain", ValueKind::Map) => Value::from_function(functions::dict).call(state, &[value])?,
                ("chain", ValueKind::Seq) => return built.collect([&value]),
                _ => value,
            };
            built.settle(value)
        });
    }
    for (name, function) in [
        ("dict", Value::from_function(functions::dict)),
        ("namespace", Value::from_function(functions::namespace)),
    ] {
        let built = built.clone();
        env.add_function(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            built.settle(function.call(state, &args)?)
        });
    }
    // Writes down all variables, however long.
    env.remove_global("debug");
    let b = built.clone();
    env.add_filter("tojson", move |value: Value| b.json(&value));
    let b = built.clone();
    env.add_function(ADD, move |left: Value, right: Value| b.add(&left, &right));
    let b = built.clone();
    env.add_function(CONCAT, move |left: Value, right: Value| b.concat(&left, &right));
    let b = built.clone();
    env.add_function(MUL, move |left: Value, right: Value| b.mul(&left, &right));
    let b = built.clone();
    env.add_function(SLICE, move |of: Value, start: Value, stop: Value, step: Value| {
        b.slice(&of, &start, &stop, &step)
    });
    let b = built.clone();
    env.add_function(BUILT, move |value: Value| b.settle(value));
    let b = built.clone();
    env.add_function(SPLAT, move |value: Value| {
        b.reads.charge(whole(&value)?)?;
        b.collect([&value])
    });
    env.add_function(SOME, |value: Value| match items(&value) {
        0 => Err(Error::new(ErrorKind::InvalidOperation, "nothing to cycle through")),
        _ => Ok(value),
    });
    let b = built.clone();
    env.add_function(HELD, move |value: Value| {
        b.charge(inside(&value, true)?.values * VISIT)?;
        Ok::<_, Error>(value)
    });
    let b = built.clone();
    env.set_unknown_method_callback(
        move |state: &State<'_, '_>, value: &Value, method: &str, args: &[Value]| {
            b.method(state, value, method, args)
        },
    );
    env.set_formatter(move |out, state, value| {
        built.charge(length(value)?)?;
        escape_formatter(out, state, value)
    });
}

/// Counts what one rendering builds, and reads.
#[derive(Debug, Clone)]
struct Built {
    bytes: Arc<AtomicUsize>,
    reads: Reads,
}

impl Built {
    /// Counts bytes that are about to be built, or just were.
    fn charge(&self, bytes: usize) -> Result<(), Error> {
        let before = self.bytes.fetch_add(bytes.min(MAX_BUILT_BYTES + 1), Ordering::Relaxed);
        if bytes.saturating_add(before) <= MAX_BUILT_BYTES { Ok(()) } else { Err(too_much()) }
    }

    /// Refuses what would not fit any more, and counts nothing.
    fn check(&self, bytes: usize) -> Result<(), Error> {
        let before = self.bytes.load(Ordering::Relaxed);
        if bytes.saturating_add(before) <= MAX_BUILT_BYTES { Ok(()) } else { Err(too_much()) }
    }

    /// Counts a value that was built and looks into it. Lazy sequences become lists: nested, each would call the next.
    fn settle(&self, value: Value) -> Result<Value, Error> {
        let value = match value.kind() {
            ValueKind::String => {
                self.charge(value.as_str().map_or(0, str::len))?;
                return Ok(value);
            }
            ValueKind::Iterable => self.collect([&value])?,
            ValueKind::Seq => {
                self.charge(items(&value).saturating_mul(ITEM))?;
                value
            }
            ValueKind::Map => {
                self.charge(items(&value).saturating_mul(4 * ITEM))?;
                value
            }
            _ => return Ok(value),
        };
        let inside = inside(&value, false)?;
        self.charge(inside.values * VISIT)?;
        // Keys are compared, here and when the map was made.
        self.reads.charge(inside.keys.saturating_mul(2))?;
        Ok(value)
    }

    /// A list of what sequences give, counted before it grows.
    fn collect<const N: usize>(&self, parts: [&Value; N]) -> Result<Value, Error> {
        let mut list = Vec::new();
        for part in parts {
            for item in part.try_iter()? {
                if list.len() == list.capacity() {
                    self.charge(list.len().max(4) * ITEM)?;
                }
                list.push(item);
            }
        }
        Ok(Value::from(list))
    }

    fn add(&self, left: &Value, right: &Value) -> Result<Value, Error> {
        if let (Some(l), Some(r)) = (left.as_str(), right.as_str()) {
            self.charge(l.len() + r.len())?;
            return Ok(Value::from([l, r].concat()));
        }
        if is_list(left) && is_list(right) {
            return self.collect([left, right]);
        }
        operator("left + right", context! { left, right })
    }

    fn concat(&self, left: &Value, right: &Value) -> Result<Value, Error> {
        self.charge(length(left)?.saturating_add(length(right)?))?;
        Ok(Value::from(format!("{left}{right}")))
    }

    fn mul(&self, left: &Value, right: &Value) -> Result<Value, Error> {
        for (of, times) in [(left, right), (right, left)] {
            let times = times.as_usize().unwrap_or(0);
            if let Some(text) = of.as_str() {
                self.charge(text.len().saturating_mul(times))?;
            } else if is_list(of) {
                self.check(items(of).saturating_mul(times).saturating_mul(ITEM))?;
            }
        }
        self.listed(operator("left * right", context! { left, right })?)
    }

    fn slice(&self, of: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
        self.reads.charge(surface(of))?;
        // Characters, where a text is taken backwards.
        self.check(of.as_str().map_or(0, str::len).saturating_mul(size_of::<char>()))?;
        self.settle(operator("of[start:stop:step]", context! { of, start, stop, step })?)
    }

    /// A list in the place of a lazy sequence.
    fn listed(&self, value: Value) -> Result<Value, Error> {
        if value.kind() == ValueKind::Iterable { self.collect([&value]) } else { Ok(value) }
    }

    /// JSON without the HTML escapes of the built-in filter, as Hugging Face defines it.
    fn json(&self, value: &Value) -> Result<Value, Error> {
        self.check(length(value)?)?;
        let text = serde_json::to_string(value)
            .map_err(|e| Error::new(ErrorKind::BadSerialization, "tojson").with_source(e))?;
        self.settle(Value::from(text))
    }

    /// Python's methods of texts, lists and maps.
    fn method(&self, state: &State<'_, '_>, of: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
        let given = || {
            self.reads.method(name, of, args)?;
            pycompat::unknown_method_callback(state, of, name, args)
        };
        if of.kind() != ValueKind::String {
            return if name == "get" { given() } else { self.settle(given()?) };
        }
        if name == "count" && args.first().and_then(Value::as_str) == Some("") {
            return Err(Error::new(ErrorKind::InvalidOperation, "an empty text is counted"));
        }
        let all: Vec<Value> = match name {
            // A text joins the values of a list, where the filter's list is joined by a text.
            "join" => args.iter().chain([of]).cloned().collect(),
            _ => [of].into_iter().chain(args).cloned().collect(),
        };
        self.check(growth(name, &all)?)?;
        self.settle(given()?)
    }
}

/// What the engine computes for an operator.
fn operator(source: &str, operands: Value) -> Result<Value, Error> {
    PLAIN.compile_expression(source)?.eval(operands)
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// Values of a list or map, characters of a text.
pub(super) fn items(value: &Value) -> usize {
    value.len().unwrap_or(0)
}

/// Bytes of a value as text; where there are more than the limit, some number over it.
fn length(value: &Value) -> Result<usize, Error> {
    struct Count(usize);
    impl Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.saturating_add(text.len());
            if self.0 > MAX_BUILT_BYTES { Err(fmt::Error) } else { Ok(()) }
        }
    }
    if let Some(text) = value.as_str() {
        return Ok(text.len());
    }
    inside(value, false)?;
    let mut count = Count(0);
    // The error says no more than the count does.
    let _ = write!(count, "{value}");
    Ok(count.0)
}

/// The most bytes that a filter or a text's method makes of its arguments, but for a small factor where it escapes.
fn growth(name: &str, args: &[Value]) -> Result<usize, Error> {
    let len = |at: usize| args.get(at).map_or(Ok(0), length);
    let text = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
    let count = args.first().map_or(0, items);
    let list = |values: usize| values.saturating_mul(ITEM);
    let all =
        || args.iter().try_fold(0usize, |sum, value| Ok::<_, Error>(sum.saturating_add(length(value)?)));
    Ok(match name {
        "replace" => {
            let found = match text(1) {
                "" => text(0).chars().count() + 1,
                from => text(0).matches(from).count(),
            };
            len(0)?.saturating_add(found.saturating_mul(len(2)?))
        }
        "join" => len(0)?.saturating_add(count.saturating_mul(len(1)?)),
        "indent" => {
            let named = |value: &Value| value.get_attr("width").ok().and_then(|width| width.as_usize());
            let width = args.get(1).and_then(|width| width.as_usize().or_else(|| named(width)));
            all()?.saturating_add((text(0).lines().count() + 1).saturating_mul(width.unwrap_or(4)))
        }
        "format" => all()?.saturating_add(widths(text(0))),
        "split" => {
            let parts = match text(1) {
                "" => text(0).split_whitespace().count(),
                between => text(0).matches(between).count(),
            };
            len(0)?.saturating_add(list(parts + 1))
        }
        "lines" | "splitlines" => len(0)?.saturating_add(list(text(0).lines().count())),
        "batch" | "slice" => {
            let parts = args.get(1).and_then(Value::as_usize).unwrap_or(0);
            list(count.saturating_add(parts)).saturating_mul(4)
        }
        "chain" => list(args.iter().fold(0usize, |sum, value| sum.saturating_add(items(value)))),
        "dictsort" | "items" => list(count).saturating_mul(4),
        "zip" => list(count).saturating_mul(args.len() + 3),
        // These read the values too, texts in lower case.
        "groupby" | "sort" | "unique" => all()?.saturating_add(list(count)),
        "list" | "map" | "reject" | "rejectattr" | "select" | "selectattr" => list(count),
        "reverse" => list(if args.first().is_some_and(is_list) { count } else { 0 }).max(text(0).len()),
        "count" | "endswith" | "find" | "rfind" | "startswith" => 0,
        _ => all()?,
    })
}

/// The numbers in a format, which may be widths, added up.
fn widths(format: &str) -> usize {
    let numbers = format.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.fold(0usize, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(usize::MAX)))
}
