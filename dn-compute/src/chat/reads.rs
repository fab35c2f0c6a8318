//! Bounds on what a template reads.
//!
//! One instruction can read all that was built, and build nothing: search a text, compare two, count one's characters. So what
//! operations look at is added up over a rendering too, before they run: the texts that they are given, and where they look into
//! lists and maps, all that is in those. What is put together from other values is counted where it is built ([`super::bounds`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions, tests};

use super::bounds::{items, too_much};

/// Bytes that a template may read in one rendering.
pub(super) const MAX_READ_BYTES: usize = 1 << 30;
/// Most levels of lists and maps in each other.
const MAX_DEPTH: usize = 64;
/// Most values in a list or map, those of its lists and maps included.
const MAX_INNER: usize = 1 << 20;
/// What looking at a value counts, so that looking at many again and again ends.
pub(super) const VISIT: usize = 8;

/// How many bytes an operation reads of a value.
type Weight = fn(&Value) -> Result<usize, Error>;

/// Names of the functions that see what is read and hand it on. A template cannot write them.
///
/// What is compared, whole.
pub(super) const COMPARED: &str = "==";
/// What something is searched in: a map by its keys, everything else whole.
pub(super) const SEARCHED: &str = "[in]";
/// What is gone through from its start: texts only, everything else costs an instruction for each of its values.
pub(super) const WALKED: &str = "[for]";
/// What is indexed, and its index: texts and lazy sequences are counted off.
pub(super) const INDEXED: &str = "[.]";

/// Filters that read and build nothing.
static FILTERS: LazyLock<[(&str, Value); 12]> = LazyLock::new(|| {
    let (length, default) = (Value::from_function(filters::length), Value::from_function(filters::default));
    [
        ("attr", Value::from_function(filters::attr)),
        ("bool", Value::from_function(filters::bool)),
        ("count", length.clone()),
        ("d", default.clone()),
        ("default", default),
        ("first", Value::from_function(filters::first)),
        ("float", Value::from_function(filters::float)),
        ("int", Value::from_function(filters::int)),
        ("last", Value::from_function(filters::last)),
        ("length", length),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
    ]
});

/// Tests that read more than what kind of value it is.
static TESTS: LazyLock<[(&str, Value); 22]> = LazyLock::new(|| {
    let (eq, ne) = (Value::from_function(tests::is_eq), Value::from_function(tests::is_ne));
    let (lt, le) = (Value::from_function(tests::is_lt), Value::from_function(tests::is_le));
    let (gt, ge) = (Value::from_function(tests::is_gt), Value::from_function(tests::is_ge));
    [
        ("eq", eq.clone()),
        ("equalto", eq.clone()),
        ("==", eq),
        ("ne", ne.clone()),
        ("!=", ne),
        ("lt", lt.clone()),
        ("lessthan", lt.clone()),
        ("<", lt),
        ("le", le.clone()),
        ("<=", le),
        ("gt", gt.clone()),
        ("greaterthan", gt.clone()),
        (">", gt),
        ("ge", ge.clone()),
        (">=", ge),
        ("in", Value::from_function(tests::is_in)),
        ("startingwith", Value::from_function(tests::is_startingwith)),
        ("endingwith", Value::from_function(tests::is_endingwith)),
        ("lower", Value::from_function(tests::is_lower)),
        ("upper", Value::from_function(tests::is_upper)),
        ("sameas", Value::from_function(tests::is_sameas)),
        ("divisibleby", Value::from_function(tests::is_divisibleby)),
    ]
});

/// The mark of an error of this module.
#[derive(Debug, thiserror::Error)]
#[error("a template reads too much")]
pub(super) struct TooMuchRead {
    pub(super) limit: usize,
}

/// Counts what one rendering reads.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    bytes: Arc<AtomicUsize>,
    limit: usize,
}

impl Reads {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Arc::default(), limit }
    }

    /// Counts bytes that are about to be read.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), Error> {
        let before = self.bytes.fetch_add(bytes.min(self.limit + 1), Ordering::Relaxed);
        if bytes.saturating_add(before) <= self.limit {
            return Ok(());
        }
        let mark = TooMuchRead { limit: self.limit };
        Err(Error::new(ErrorKind::InvalidOperation, "more is read than allowed").with_source(mark))
    }

    /// Counts what a filter reads. How much it builds was looked at before.
    pub(super) fn filter(&self, name: &str, args: &[Value]) -> Result<(), Error> {
        let Some((of, rest)) = args.split_first() else { return Ok(()) };
        let first = match name {
            "map" | "rejectattr" | "selectattr" if rest.iter().any(numbered) => whole(of)?,
            "attr" | "batch" | "bool" | "chain" | "count" | "d" | "default" | "first" | "float" | "int"
            | "items" | "last" | "length" | "list" | "map" | "reject" | "rejectattr" | "reverse"
            | "select" | "selectattr" | "slice" | "zip" => surface(of),
            _ => whole(of)?,
        };
        let given = rest.iter().try_fold(0usize, |sum, value| {
            Ok::<_, Error>(sum.saturating_add(if name == "default" || name == "d" {
                0
            } else {
                whole(value)?
            }))
        })?;
        self.charge(first.saturating_add(given))?;
        let count = items(of);
        let again = match name {
            // Each value is looked up by, or compared to, what is given along.
            "map" | "max" | "min" | "reject" | "rejectattr" | "select" | "selectattr" | "sum" => {
                given.saturating_mul(count)
            }
            // And each to others, in the order of a sort.
            "dictsort" | "groupby" | "sort" | "unique" => given
                .saturating_mul(count)
                .saturating_add(first)
                .saturating_mul(count.checked_ilog2().unwrap_or(0) as usize + 1),
            _ => 0,
        };
        self.charge(again)
    }

    /// Counts what a test reads.
    fn test(&self, name: &str, args: &[Value]) -> Result<(), Error> {
        match (name, args) {
            // These look no further than what is to be there is long.
            ("startingwith" | "endingwith", [of, with]) if of.as_str().is_some() => {
                self.charge(surface(with))
            }
            ("in", [what, of]) => self.charge(whole(what)?.saturating_add(searched(of)?)),
            _ => args.iter().try_for_each(|value| self.charge(whole(value)?)),
        }
    }

    /// Counts what a method reads.
    pub(super) fn method(&self, name: &str, of: &Value, args: &[Value]) -> Result<(), Error> {
        let of = match (name, of.kind()) {
            ("startswith" | "endswith", ValueKind::String) => 0,
            ("count", _) => whole(of)?,
            _ => surface(of),
        };
        args.iter().try_fold((), |(), value| self.charge(whole(value)?))?;
        self.charge(of)
    }

    /// Puts filters, tests and functions that count what they read into an environment.
    pub(super) fn measure(&self, env: &mut Environment<'static>) {
        for (name, filter) in &*FILTERS {
            let reads = self.clone();
            env.add_filter(*name, move |state: &State<'_, '_>, args: Rest<Value>| {
                reads.filter(name, &args)?;
                filter.call(state, &args)
            });
        }
        for (name, test) in &*TESTS {
            let reads = self.clone();
            env.add_test(*name, move |state: &State<'_, '_>, args: Rest<Value>| {
                reads.test(name, &args)?;
                Ok::<_, Error>(test.call(state, &args)?.is_true())
            });
        }
        let weights: [(&str, Weight); 4] = [
            (COMPARED, whole),
            (SEARCHED, searched),
            (WALKED, |value| Ok(text(value))),
            (INDEXED, |value| {
                Ok(if value.kind() == ValueKind::Iterable { surface(value) } else { text(value) })
            }),
        ];
        for (name, weight) in weights {
            let reads = self.clone();
            env.add_function(name, move |value: Value| {
                reads.charge(weight(&value)?)?;
                Ok::<_, Error>(value)
            });
        }
    }
}

/// Whether what is given to a filter may name a place in a text, which is counted off.
fn numbered(given: &Value) -> bool {
    let name =
        if given.is_kwargs() { given.get_attr("attribute").unwrap_or_default() } else { given.clone() };
    name.is_number() || name.as_str().is_some_and(|name| name.bytes().any(|b| b.is_ascii_digit()))
}

fn text(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

/// Bytes of a text, and something for each value that a list or map holds.
pub(super) fn surface(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => items(value).saturating_mul(VISIT),
    }
}

/// Bytes of a text or of all texts inside, and something for each value.
pub(super) fn whole(value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.len());
    }
    let inside = inside(value, false)?;
    Ok(inside.bytes.saturating_add(inside.values * VISIT))
}

/// What a search reads of what it searches: of a map, no value.
fn searched(of: &Value) -> Result<usize, Error> {
    if of.kind() == ValueKind::Map { Ok(0) } else { whole(of) }
}

/// What is inside a value.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// Values, those of its lists and maps included.
    pub(super) values: usize,
    /// Bytes of the texts among them.
    pub(super) bytes: usize,
    /// Of those, bytes of keys.
    pub(super) keys: usize,
}

/// Looks into a value. Refuses those that are too deep or hold too many, and with `held` also what could lead a namespace back to
/// itself.
pub(super) fn inside(value: &Value, held: bool) -> Result<Inside, Error> {
    static NAMESPACE: LazyLock<Option<&'static str>> =
        LazyLock::new(|| functions::namespace(None).ok()?.as_object().map(|object| object.type_name()));
    fn walk(value: &Value, depth: usize, found: &mut Inside, held: bool) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_much());
        }
        let pairs = match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => false,
            ValueKind::Map => true,
            _ => {
                found.bytes = found.bytes.saturating_add(value.as_str().map_or(0, str::len));
                return Ok(());
            }
        };
        if held && value.as_object().map(|object| object.type_name()) == *NAMESPACE {
            return Err(Error::new(ErrorKind::InvalidOperation, "a namespace in a namespace"));
        }
        for item in value.try_iter()? {
            found.values += 1;
            if found.values > MAX_INNER {
                return Err(too_much());
            }
            walk(&item, depth + 1, found, held)?;
            if pairs {
                found.keys = found.keys.saturating_add(item.as_str().map_or(0, str::len));
                walk(&value.get_item(&item)?, depth + 1, found, held)?;
            }
        }
        Ok(())
    }
    let mut found = Inside::default();
    walk(value, 0, &mut found, held)?;
    Ok(found)
}
