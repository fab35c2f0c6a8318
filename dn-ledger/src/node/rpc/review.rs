//! Methods about disputes, quality, feedback and the registries.

use dn_core::{Address, BatchId};
use serde::Deserialize;
use serde_json::Value;

use super::{RpcError, parse, show};
use crate::node::producer::Shared;
use crate::query;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneReceipt {
    batch: BatchId,
    index: u32,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByParty {
    party: Option<Address>,
}

/// Answers one of these methods; `None` for others.
pub(super) fn query_method(shared: &Shared, method: &str, params: Value) -> Option<Result<Value, RpcError>> {
    let chain = || shared.chain();
    Some(match method {
        "dn_dispute" => parse(params)
            .and_then(|OneReceipt { batch, index }| show(query::dispute(chain().state(), batch, index))),
        "dn_disputes" => {
            parse(params).and_then(|ByParty { party }| show(query::disputes(chain().state(), party)))
        }
        _ => return None,
    })
}
