//! Methods of domains, model families, backers and jobs.

use dn_core::{Address, ChannelId, ModelId};
use serde::Deserialize;
use serde_json::Value;

use super::{ByAddress, ById, None_, RpcError, parse, show};
use crate::node::shared::Shared;
use crate::query;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFilter {
    worker: Option<Address>,
}

/// The answer, if the method is one of these.
pub(super) fn query_method(shared: &Shared, method: &str, params: Value) -> Option<Result<Value, RpcError>> {
    let chain = shared.chain();
    let (state, epoch) = (chain.state(), chain.next().epoch());
    Some(match method {
        "dn_domain" => parse::<ById<u32>>(params).and_then(|p| show(query::domain(state, p.id, epoch))),
        "dn_domains" => parse::<None_>(params).and_then(|_| show(query::domains(state, epoch))),
        "dn_family" => parse::<ById<ModelId>>(params).and_then(|p| show(query::family(state, p.id))),
        "dn_modelTerms" => parse::<ById<ModelId>>(params).and_then(|p| show(query::model_terms(state, p.id))),
        "dn_backing" => parse::<ByAddress>(params).and_then(|p| show(query::backing(state, p.address))),
        "dn_job" => parse::<ById<ChannelId>>(params).and_then(|p| show(query::job(state, p.id))),
        "dn_jobs" => parse::<JobFilter>(params).and_then(|p| show(query::jobs(state, p.worker))),
        _ => return None,
    })
}
