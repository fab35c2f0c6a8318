//! Methods about disputes, quality, feedback and the registries.

use dn_core::{Address, BatchId, ModelId};
use serde::Deserialize;
use serde_json::Value;

use super::{RpcError, parse, show};
use crate::node::shared::Shared;
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    address: Address,
    limit: Option<usize>,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneModel {
    id: ModelId,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Answers one of these methods; `None` for others.
pub(super) fn query_method(shared: &Shared, method: &str, params: Value) -> Option<Result<Value, RpcError>> {
    let chain = || shared.chain();
    Some(match method {
        "dn_dispute" => parse(params)
            .and_then(|OneReceipt { batch, index }| show(query::dispute(chain().state(), batch, index))),
        "dn_disputes" => {
            parse(params).and_then(|ByParty { party }| show(query::disputes(chain().state(), party)))
        }
        "dn_agent" => {
            parse(params).and_then(|Agent { address, .. }| show(query::agent(chain().state(), address)))
        }
        "dn_agentReputation" => parse(params).and_then(|Agent { address, limit }| {
            show(query::reputation(chain().state(), address, limit.unwrap_or(100)))
        }),
        "dn_agentValidations" => {
            parse(params).and_then(|Agent { address, .. }| show(query::validations(chain().state(), address)))
        }
        "dn_modelTrust" => {
            parse(params).and_then(|OneModel { id }| show(query::model_trust(chain().state(), id)))
        }
        "dn_qualityRounds" => {
            parse(params).and_then(|Nothing {}| show(query::quality_rounds(chain().state())))
        }
        "dn_beacon" => parse(params).and_then(|Nothing {}| {
            let chain = chain();
            show(query::beacon(chain.state(), chain.tip().height))
        }),
        _ => return None,
    })
}
