//! Limits on a grammar's text, before the engine sees it.

use dn_core::objects::Grammar;
use serde_json::Value;

use super::{GrammarError, limits};

/// Refuses what would make the engine work without bound before its own limits count.
pub(super) fn check_text(grammar: &Grammar) -> Result<(), GrammarError> {
    let limit = limits::NESTING;
    let (found, repetitions, options, alternatives) = match grammar {
        Grammar::None | Grammar::JsonObject => return Ok(()),
        Grammar::JsonSchema { schema } => {
            let schema = parse_schema(schema)?;
            let (options, alternatives) = schema_sizes(&schema);
            (depth(&schema), largest_count(&schema), options, alternatives)
        }
        Grammar::Regex { pattern: text } | Grammar::Lark { grammar: text } => {
            let (options, alternatives) = text_sizes(text);
            (bracket_depth(text), largest_repetition(text), options, alternatives)
        }
    };
    let sizes = [
        ("optional or repeated parts", limits::OPTIONS, options),
        ("alternatives", limits::ALTERNATIVES, alternatives),
    ];
    if let Some((what, limit, found)) = sizes.into_iter().find(|(_, limit, found)| found > limit) {
        return Err(GrammarError::Size { what, limit, found });
    }
    if found > limit {
        return Err(GrammarError::Nesting { limit, found });
    }
    if repetitions > limits::REPETITIONS {
        return Err(GrammarError::Repetitions { limit: limits::REPETITIONS, found: repetitions });
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The largest count that a schema asks for, in its keywords and patterns.
fn largest_count(schema: &Value) -> u64 {
    let count = |value: &Value| match value {
        Value::Number(n) => n.as_u64().or_else(|| n.as_f64().map(|n| n as u64)).unwrap_or(0),
        _ => 0,
    };
    match schema {
        Value::Array(items) => items.iter().map(largest_count).max().unwrap_or(0),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                (
                    "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties"
                    | "minContains" | "maxContains",
                    value,
                ) => count(value),
                ("pattern", Value::String(pattern)) => largest_repetition(pattern),
                ("patternProperties", Value::Object(patterns)) => {
                    let names = patterns.keys().map(|pattern| largest_repetition(pattern)).max().unwrap_or(0);
                    names.max(largest_count(value))
                }
                (_, value) => largest_count(value),
            };
            fields.iter().map(field).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// How deep brackets are nested, those in texts and classes counted too: never less than what a parser goes down.
fn bracket_depth(text: &str) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The largest number in `{n}`, `{n,m}` or `~n..m`, products of nested ones not counted.
fn largest_repetition(text: &str) -> u64 {
    let (mut most, mut inside, mut number) = (0u64, false, 0u64);
    for byte in text.bytes() {
        match byte {
            b'{' | b'~' => (inside, number) = (true, 0),
            b'0'..=b'9' if inside => {
                number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0'))
            }
            b',' | b'.' | b' ' if inside => {
                most = most.max(number);
                number = 0;
            }
            _ => {
                if inside {
                    most = most.max(number);
                }
                inside = false;
            }
        }
    }
    most.max(if inside { number } else { 0 })
}

/// How many signs for optional or repeated parts a text has, and how many for alternatives.
fn text_sizes(text: &str) -> (usize, usize) {
    let count = |signs: &[u8]| text.bytes().filter(|b| signs.contains(b)).count();
    (count(b"?*{"), count(b"|"))
}

/// Properties of all objects of a schema and the signs in its patterns.
fn schema_sizes(schema: &Value) -> (usize, usize) {
    let mut sizes = (0, 0);
    let mut add = |(options, alternatives): (usize, usize)| {
        sizes.0 += options;
        sizes.1 += alternatives;
    };
    match schema {
        Value::Array(items) => items.iter().map(schema_sizes).for_each(&mut add),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("properties", Value::Object(properties)) => add((properties.len(), 0)),
                    ("patternProperties", Value::Object(patterns)) => {
                        patterns.keys().map(|pattern| text_sizes(pattern)).for_each(&mut add);
                    }
                    ("pattern", Value::String(pattern)) => add(text_sizes(pattern)),
                    _ => {}
                }
                add(schema_sizes(value));
            }
        }
        _ => {}
    }
    sizes
}

pub(super) fn parse_schema(schema: &str) -> Result<Value, GrammarError> {
    serde_json::from_str(schema)
        .map_err(|error| GrammarError::SchemaSyntax { line: error.line(), column: error.column() })
}
