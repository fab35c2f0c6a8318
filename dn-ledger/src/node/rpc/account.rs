//! Methods of accounts, identities, channels, sessions, and of the registries of agents.

use dn_core::{Address, ChannelId};

use super::params::{ByAddress, ById, ByIdentity, OfAgent, OfModel, OfOwner, OfRole};
use super::table::Method;
use crate::node::shared::Shared;
use crate::query;
use crate::views::AccountView;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::query(
            "dn_account",
            "An account; one that never received anything is empty.",
            |shared, by: ByAddress| Ok(account(shared, by.address)),
        ),
        Method::query("dn_stakes", "What an account has delegated, by validator.", |shared, of: OfAgent| {
            Ok(query::stakes(shared.chain().state(), of.address, &of.page())?)
        }),
        Method::query(
            "dn_unbonding",
            "What an account has unbonded, by release epoch.",
            |shared, of: OfAgent| Ok(query::unbonding(shared.chain().state(), of.address, &of.page())?),
        ),
        Method::query(
            "dn_redelegations",
            "What an account has moved between pools, by release epoch.",
            |shared, of: OfAgent| Ok(query::redelegations(shared.chain().state(), of.address, &of.page())?),
        ),
        Method::query(
            "dn_backings",
            "What an account has put behind models, by family.",
            |shared, of: OfAgent| Ok(query::backings(shared.chain().state(), of.address, &of.page())?),
        ),
        Method::query(
            "dn_backingReleases",
            "Backing that an account has taken back, by release epoch.",
            |shared, of: OfAgent| {
                Ok(query::backing_releases(shared.chain().state(), of.address, &of.page())?)
            },
        ),
        Method::query(
            "dn_modelCommitments",
            "An owner's commitments to models that are not published yet.",
            |shared, of: OfOwner| Ok(query::model_commitments(shared.chain().state(), of.owner, &of.page())?),
        ),
        Method::query(
            "dn_modelWorkers",
            "The offers of the workers that host a model, by address.",
            |shared, of: OfModel| Ok(query::model_workers(shared.chain().state(), of.id, &of.page())?),
        ),
        Method::query(
            "dn_identity",
            "An identity in a role; null where there is none.",
            |shared, by: ByIdentity| Ok(query::identity(shared.chain().state(), by.role, by.address)),
        ),
        Method::query("dn_identities", "The identities of a role, by address.", |shared, of: OfRole| {
            Ok(query::identities(shared.chain().state(), of.role, &of.page())?)
        }),
        Method::query(
            "dn_trust",
            "How far an identity is trusted in a role, and why.",
            |shared, by: ByIdentity| Ok(query::trust(shared.chain().state(), by.role, by.address)),
        ),
        Method::query("dn_channel", "A payment channel with its lanes.", |shared, by: ById<ChannelId>| {
            Ok(query::channel(shared.chain().state(), by.id))
        }),
        Method::query(
            "dn_sessions",
            "What the session keys of an owner may spend.",
            |shared, of: OfOwner| Ok(query::sessions(shared.chain().state(), of.owner, &of.page())?),
        ),
        Method::query("dn_agent", "An identity as an agent (ERC-8004).", |shared, by: ByAddress| {
            Ok(query::agent(shared.chain().state(), by.address))
        }),
        Method::query(
            "dn_agentReputation",
            "What payers say of a worker (ERC-8004), the newest first.",
            |shared, of: OfAgent| Ok(query::reputation(shared.chain().state(), of.address, &of.page())?),
        ),
        Method::query(
            "dn_agentValidations",
            "The audits of a worker's batches (ERC-8004), the newest first; the limit counts batches.",
            |shared, of: OfAgent| Ok(query::validations(shared.chain().state(), of.address, &of.page())?),
        ),
    ]
}

fn account(shared: &Shared, address: Address) -> AccountView {
    let pool = shared.pool();
    let mut view = query::account(shared.chain().state(), address);
    view.pending_nonce = pool.mempool.next_nonce(address, view.nonce);
    view
}
