//! Checks a value against a JSON schema: the keywords that the document uses, and no other.

use serde_json::{Map, Value};

/// Says of nothing more than these keywords mean; they restrict nothing.
const ANNOTATIONS: [&str; 5] = ["description", "title", "format", "default", "examples"];

/// Schemas by the names that `$ref` uses.
pub(crate) struct Schemas<'a>(pub(crate) &'a Map<String, Value>);

impl Schemas<'_> {
    /// Where a value is not what the schema says; empty when it is.
    pub(crate) fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        self.at(schema, value, "$")
    }

    fn at(&self, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        let keywords = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Object(keywords) => keywords,
            other => return Err(format!("{path}: the schema is {other}")),
        };
        for (keyword, rule) in keywords {
            self.keyword(keywords, keyword, rule, value, path)?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        all: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        path: &str,
    ) -> Result<(), String> {
        let list = || rule.as_array().expect("a list of schemas");
        let holds = match keyword {
            "$ref" => {
                let name =
                    rule.as_str().and_then(|r| r.strip_prefix("#/components/schemas/")).expect("a reference");
                let target = self.0.get(name).ok_or(format!("{path}: there is no schema {name}"))?;
                return self.at(target, value, path);
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|t| is(t, value)),
                one => is(one, value),
            },
            "enum" => list().contains(value),
            "const" => rule == value,
            "pattern" => value.as_str().is_none_or(|text| fits(rule.as_str().expect("a pattern"), text)),
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().expect("a number")),
            "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= rule.as_u64().expect("a number")),
            "maxItems" => value.as_array().is_none_or(|a| a.len() as u64 <= rule.as_u64().expect("a number")),
            "required" => {
                let missing = list().iter().find(|name| value.get(name.as_str().expect("a name")).is_none());
                if let (Some(name), true) = (missing, value.is_object()) {
                    return Err(format!("{path}: {name} is missing"));
                }
                true
            }
            "properties" => {
                for (name, schema) in rule.as_object().expect("schemas by name") {
                    if let Some(field) = value.get(name) {
                        self.at(schema, field, &format!("{path}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => return self.additional(all, rule, value, path),
            "items" => match rule {
                Value::Array(schemas) => {
                    for (at, (schema, item)) in
                        schemas.iter().zip(value.as_array().into_iter().flatten()).enumerate()
                    {
                        self.at(schema, item, &format!("{path}[{at}]"))?;
                    }
                    true
                }
                schema => {
                    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.at(schema, item, &format!("{path}[{at}]"))?;
                    }
                    true
                }
            },
            "allOf" => {
                for schema in list() {
                    self.at(schema, value, path)?;
                }
                true
            }
            "anyOf" => self.matching(list(), value, path)? >= 1,
            "oneOf" => self.matching(list(), value, path)? == 1,
            known if ANNOTATIONS.contains(&known) => true,
            unknown => return Err(format!("{path}: keyword {unknown} is not checked")),
        };
        if holds { Ok(()) } else { Err(format!("{path}: {value} does not fit {keyword} {rule}")) }
    }

    /// How many of the schemas fit; why none does.
    fn matching(&self, schemas: &[Value], value: &Value, path: &str) -> Result<usize, String> {
        let results: Vec<_> = schemas.iter().map(|schema| self.at(schema, value, path)).collect();
        let fitting = results.iter().filter(|result| result.is_ok()).count();
        if fitting > 0 {
            return Ok(fitting);
        }
        let reasons: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        Err(format!("{path}: no alternative fits: {}", reasons.join("; ")))
    }

    fn additional(
        &self,
        all: &Map<String, Value>,
        rule: &Value,
        value: &Value,
        path: &str,
    ) -> Result<(), String> {
        let known = all.get("properties").and_then(Value::as_object);
        for (name, field) in value.as_object().into_iter().flatten() {
            if known.is_some_and(|known| known.contains_key(name)) {
                continue;
            }
            if *rule == Value::Bool(false) {
                return Err(format!("{path}: {name} is not in the schema"));
            }
            self.at(rule, field, &format!("{path}.{name}"))?;
        }
        Ok(())
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    }
}

/// The patterns of the document.
fn fits(pattern: &str, text: &str) -> bool {
    let hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = text.strip_prefix("0x");
    match pattern {
        "^(0|[1-9][0-9]*)$" => {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'))
        }
        "^0x[0-9a-fA-F]*$" => digits.is_some_and(hex),
        "^0x([0-9a-fA-F]{2})*$" => digits.is_some_and(|d| hex(d) && d.len().is_multiple_of(2)),
        other => {
            let count = other.strip_prefix("^0x[0-9a-fA-F]{").and_then(|rest| rest.strip_suffix("}$"));
            let count: usize =
                count.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("pattern {other}"));
            digits.is_some_and(|d| hex(d) && d.len() == count)
        }
    }
}
