//! The OpenRPC document: what the service is, made of the table of its methods.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::params::Nothing;
use super::table::{self, Method};
use super::{
    CODE_BUSY, CODE_INTERNAL, CODE_METHOD, CODE_PARAMS, CODE_PARSE, CODE_POOL, CODE_REJECTED, CODE_REQUEST,
};
use crate::node::history::CODE_PRUNED;

/// The version of the OpenRPC specification.
const OPENRPC: &str = "1.3.2";
/// Where schemas stand that more than one method needs.
const SCHEMAS: &str = "/components/schemas";

/// The codes of all errors with their meaning.
const ERRORS: [(i64, &str, &str); 9] = [
    (CODE_PARSE, "parse", "The body is no JSON."),
    (CODE_REQUEST, "request", "The body is no JSON-RPC 2.0 call, or is malformed, too large or too slow."),
    (CODE_METHOD, "method", "There is no such method."),
    (
        CODE_PARAMS,
        "params",
        "A parameter is missing, unknown or not what it should be; the message names it.",
    ),
    (CODE_INTERNAL, "internal", "The node itself failed."),
    (CODE_REJECTED, "rejected", "The rules refuse the transaction; `data` says which and why."),
    (
        CODE_POOL,
        "pool",
        "The node does not let the transaction wait for a block; `data` says why: `underpriced`, `too_far_ahead`, `gapped`, \
            `unfunded` or `reported`, with the numbers. Asking again is of use once what it names has changed.",
    ),
    (
        CODE_BUSY,
        "busy",
        "The node has no room, or the transaction was not in a block in time; asking again is safe.",
    ),
    (
        CODE_PRUNED,
        "pruned",
        "The node holds nothing of that height any more; `data` says which and the first that it holds.",
    ),
];

/// The document itself, as an answer.
#[derive(Debug, Serialize)]
struct Document(Value);

impl JsonSchema for Document {
    fn schema_name() -> Cow<'static, str> {
        "OpenRpcDocument".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "required": ["openrpc", "info", "methods", "components"] })
    }
}

pub(super) fn method() -> Method {
    Method::query("rpc.discover", "This document.", |_, Nothing {}| Ok(Document(openrpc())))
}

/// The OpenRPC document of the node's JSON-RPC service: every method with its parameters, its result and its errors.
pub fn openrpc() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = SCHEMAS.into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let methods: Vec<Value> = table::methods().iter().map(|method| describe(method, &mut schemas)).collect();
    let errors: Map<String, Value> = ERRORS
        .into_iter()
        .map(|(code, name, message)| (name.to_owned(), json!({ "code": code, "message": message })))
        .collect();
    let document = json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "DeepNode ledger",
            "description": "JSON-RPC 2.0 over HTTP POST /. Parameters are given by name. Amounts are atto (10^-18 DN) as decimal \
                strings, trust and indicators units of 2^-32, times Unix milliseconds, heights and epochs numbers. Events also \
                come as a stream of server-sent events from GET /events.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "methods": methods,
        "components": { "schemas": schemas.take_definitions(true), "errors": errors },
    });
    sorted(document)
}

fn describe(method: &Method, schemas: &mut SchemaGenerator) -> Value {
    let params = (method.params)(schemas);
    let required: Vec<&Value> =
        params.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let fields = params.get("properties").and_then(Value::as_object).into_iter().flatten();
    let params: Vec<Value> = fields
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let required = required.iter().any(|field| *field == name);
            json!({ "name": name, "description": description, "required": required, "schema": schema })
        })
        .collect();
    let errors: Vec<Value> = method
        .errors
        .iter()
        .filter_map(|code| {
            let (_, name, _) = ERRORS.iter().find(|(known, ..)| known == code)?;
            Some(json!({ "$ref": format!("#/components/errors/{name}") }))
        })
        .collect();
    json!({
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "by-name",
        "params": params,
        "result": { "name": "result", "schema": (method.result)(schemas) },
        "errors": errors,
    })
}

/// The same with the names of every object in order, so that equal documents are equal texts.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}
