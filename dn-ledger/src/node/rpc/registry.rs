//! Methods of models, families, backers, domains and jobs.

use dn_core::{ChannelId, ModelId};

use super::params::{All, ByAddress, ById, ByOffer, Jobs};
use super::table::Method;
use crate::node::shared::Shared;
use crate::query;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::query(
            "dn_model",
            "A published model with the workers that host it.",
            |shared, by: ById<ModelId>| Ok(query::model(shared.chain().state(), by.id)),
        ),
        Method::query("dn_models", "The published models, by id.", |shared, all: All| {
            Ok(query::models(shared.chain().state(), &all.page())?)
        }),
        Method::query("dn_modelTerms", "What a model was published under.", |shared, by: ById<ModelId>| {
            Ok(query::model_terms(shared.chain().state(), by.id))
        }),
        Method::query(
            "dn_modelTrust",
            "How far a model is trusted, and why.",
            |shared, by: ById<ModelId>| Ok(query::model_trust(shared.chain().state(), by.id)),
        ),
        Method::query(
            "dn_family",
            "A model family, named by its first model.",
            |shared, by: ById<ModelId>| Ok(query::family(shared.chain().state(), by.id)),
        ),
        Method::query("dn_backing", "What an account put behind models.", |shared, by: ByAddress| {
            Ok(query::backing(shared.chain().state(), by.address))
        }),
        Method::query("dn_domain", "A domain with its treasury.", |shared, by: ById<u32>| {
            let epoch = epoch(shared);
            Ok(query::domain(shared.chain().state(), by.id, epoch))
        }),
        Method::query("dn_domains", "The domains, closed ones included, by number.", |shared, all: All| {
            let epoch = epoch(shared);
            Ok(query::domains(shared.chain().state(), epoch, &all.page())?)
        }),
        Method::query(
            "dn_offer",
            "A worker's offer of a model, also one that it has taken back; null where it never made one.",
            |shared, by: ByOffer| Ok(query::offer(shared.chain().state(), by.model, by.worker)),
        ),
        Method::query(
            "dn_job",
            "A job that is neither claimed nor returned.",
            |shared, by: ById<ChannelId>| Ok(query::job(shared.chain().state(), by.id)),
        ),
        Method::query("dn_jobs", "Such jobs, all or those that a worker may take.", |shared, of: Jobs| {
            Ok(query::jobs(shared.chain().state(), of.worker, &of.page())?)
        }),
    ]
}

fn epoch(shared: &Shared) -> u64 {
    shared.chain().next().epoch()
}
