//! The calls of a request, read and sorted by what becomes of them.

use serde_json::{Value, json};

use super::table::{self, Call, Query};
use super::{Answer, CODE_METHOD, CODE_REQUEST, RpcError};

/// A query to make: its place in the request, its id, and what it asks.
pub(super) type Asked = (usize, Value, &'static Query, Value);

/// The calls of a request by what becomes of them, each with its place in the request.
#[derive(Default)]
pub(super) struct Sorted {
    /// Answered already: they are none.
    pub(super) answers: Vec<(usize, Answer)>,
    /// Transactions to send, with the ids of the calls, and their parameters.
    pub(super) txs: Vec<((usize, Option<Value>), Value)>,
    /// To make, where somebody wants the answer.
    pub(super) queries: Vec<Asked>,
}

/// Reads the calls of a request.
pub(super) fn sort(calls: Vec<Value>) -> Sorted {
    let mut sorted = Sorted::default();
    for (place, call) in calls.into_iter().enumerate() {
        match OneCall::read(call) {
            Err(error) => sorted.answers.push((place, Answer::refusal(error))),
            Ok(OneCall { id, method, params }) => match (table::find(&method).map(|method| &method.call), id)
            {
                (Some(Call::Send), id) => sorted.txs.push(((place, id), params)),
                // Nobody wants to know.
                (_, None) => {}
                (Some(Call::Query(query)), Some(id)) => sorted.queries.push((place, id, &**query, params)),
                (None, Some(id)) => sorted.answers.push((place, Answer::new(id, Err(no_method(&method))))),
            },
        }
    }
    sorted
}

/// One call, read.
struct OneCall {
    /// None if nobody wants an answer.
    id: Option<Value>,
    method: String,
    params: Value,
}

impl OneCall {
    /// A call, or why it is none.
    fn read(mut call: Value) -> Result<Self, RpcError> {
        let id = call.get("id").cloned();
        let shown = id.clone().unwrap_or(Value::Null);
        let valid_id = matches!(shown, Value::Null | Value::String(_) | Value::Number(_));
        let version = call.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
        let method = call.get("method").and_then(Value::as_str).map(str::to_owned);
        let Some(method) = method.filter(|_| version && valid_id) else {
            let message =
                "expected an object with `jsonrpc`: \"2.0\", a `method` and an `id` of text or number";
            return Err(RpcError::new(CODE_REQUEST, message));
        };
        let params = call.get_mut("params").map_or_else(|| json!({}), Value::take);
        Ok(Self { id, method, params })
    }
}

fn no_method(method: &str) -> RpcError {
    let name = method.chars().take(64).collect::<String>();
    RpcError::new(CODE_METHOD, format!("no method `{name}`"))
}
