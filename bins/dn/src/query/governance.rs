//! `dn query`: sessions, proposals, upgrades, pools, and what an account has staked.

use dn_core::Address;
use dn_ledger::params::Params;
use dn_sdk::ledger::LedgerClient;
use serde_json::{Value, json};

use super::{answer, found};
use crate::error::CliError;

/// What to ask about stake, sessions and governance.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Query {
    /// The chain's parameters, or one: amounts in DN, rates in 1/10000, times in blocks, epochs or milliseconds as their names say.
    Params {
        /// A parameter by name, such as `min_tx_fee` or `governance.voting_blocks`; without it all.
        name: Option<String>,
    },
    /// What an account has delegated, and what of it moves between pools: in DN and in shares of the validator's pool.
    Delegations {
        /// The account.
        address: Address,
    },
    /// What an account has unbonded: in DN, with the first epoch in which it can be withdrawn.
    Unbonding {
        /// The account.
        address: Address,
    },
    /// Pools of DN that belong to no account: community, reserve, foundation, treasuries, deposits, burned; in DN.
    Pools,
    /// What session keys may spend of an owner's channels: amounts in DN, the expiry in Unix milliseconds.
    Sessions {
        /// Whose channels.
        owner: Address,
        /// One session key; without it all.
        session: Option<Address>,
    },
    /// A proposal with its votes, or all: deposits and votes in DN, times in blocks.
    Proposals {
        /// Its number; without it all.
        id: Option<u64>,
        /// Of all only those that something is still to come of.
        #[arg(long, conflicts_with = "id")]
        open: bool,
    },
    /// Upgrades that were decided, by the height of their first block.
    Upgrades,
}

impl Query {
    /// Whether the answer is proven. Votes that are still counted are not.
    pub(super) const fn is_proven(&self) -> bool {
        !matches!(self, Self::Pools | Self::Proposals { .. } | Self::Upgrades)
    }
}

pub(super) async fn ask(client: &LedgerClient, query: Query) -> Result<Value, CliError> {
    match query {
        Query::Params { name: None } => answer(client.params().await?),
        Query::Params { name: Some(name) } => param(&client.params().await?, &name),
        Query::Delegations { address } => {
            let account = client.account(address).await?;
            answer(json!({ "stakes": account.stakes, "redelegating": account.redelegating }))
        }
        Query::Unbonding { address } => answer(client.account(address).await?.unbonding),
        Query::Pools => answer(client.pools().await?),
        Query::Sessions { owner, session: None } => answer(client.sessions(owner).await?),
        Query::Sessions { owner, session: Some(session) } => {
            found(client.session(owner, session).await?, || format!("{owner} has granted {session} nothing"))
        }
        Query::Proposals { id: None, open } => answer(client.proposals(open).await?),
        Query::Proposals { id: Some(id), .. } => {
            found(client.running_proposal(id).await?, || format!("no proposal {id}"))
        }
        Query::Upgrades => answer(client.upgrades().await?),
    }
}

/// A parameter by its name, with dots between groups.
fn param(params: &Params, name: &str) -> Result<Value, CliError> {
    let all = answer(params)?;
    let mut value = &all;
    for part in name.split('.') {
        value = value.get(part).ok_or_else(|| CliError::Argument {
            argument: "NAME",
            reason: format!("no parameter {name}; expected instead of `{part}`: {}", names(value)),
        })?;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    Ok(if value.is_object() { value.clone() } else { json!({ last: value }) })
}

fn names(value: &Value) -> String {
    let names: Vec<_> = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "nothing, it is one value".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_name() {
        let params = Params::devnet();
        let fee = serde_json::to_value(params.min_tx_fee).unwrap();
        assert_eq!(param(&params, "min_tx_fee").unwrap(), json!({ "min_tx_fee": fee }));
        let blocks = params.governance.voting_blocks;
        assert_eq!(param(&params, "governance.voting_blocks").unwrap(), json!({ "voting_blocks": blocks }));
        assert!(param(&params, "governance").unwrap()["quorum"].is_number());
        let said = |name: &str| param(&params, name).unwrap_err().to_string();
        assert!(said("max_fee").contains("min_tx_fee"));
        assert!(said("governance.speed").contains("voting_blocks"));
        assert!(said("min_tx_fee.x").contains("one value"));
    }
}
