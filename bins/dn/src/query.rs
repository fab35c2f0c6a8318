//! `dn query`: what the ledger says.

mod events;
mod governance;
mod registry;
mod work;

use std::process::ExitCode;

use dn_core::{Address, BatchId, ChannelId, ModelId, TxId};
use dn_ledger::light::TrustedHash;
use dn_ledger::tx::Role;
use dn_sdk::ledger::LedgerClient;
use serde::Serialize;
use serde_json::Value;

use crate::error::CliError;
use crate::home::Config;
use crate::out;
use crate::render::render;

/// Where a local network answers queries.
pub(crate) const DEFAULT_RPC: &str = "http://127.0.0.1:8090";

/// Which ledger node to ask.
#[derive(Debug, clap::Args)]
pub(crate) struct RpcArgs {
    /// Base URL of a ledger node's JSON-RPC; without it the one of a local `dn devnet`, http://127.0.0.1:8090.
    #[arg(long, env = "DN_RPC", value_name = "URL", global = true)]
    rpc: Option<String>,
    /// A block that you know to be the chain's, such as its first: answers are proven from there on. Without it from the first block
    /// that the node shows, which a lying node can make up.
    #[arg(long, env = "DN_TRUSTED", value_name = "HEIGHT:HASH", global = true)]
    trusted: Option<String>,
}

impl RpcArgs {
    /// A client for the node.
    pub(crate) fn client(&self, config: &Config) -> Result<LedgerClient, CliError> {
        let url = self.rpc.as_deref().or(config.rpc.as_deref()).unwrap_or(DEFAULT_RPC);
        match self.trusted(config)? {
            Some(trusted) => Ok(LedgerClient::trusting(url, trusted)?),
            None => Ok(LedgerClient::new(url)?),
        }
    }

    /// The block that answers are proven from, if it is named.
    pub(crate) fn trusted(&self, config: &Config) -> Result<Option<TrustedHash>, CliError> {
        let text = self.trusted.as_deref().or(config.trusted.as_deref());
        let parsed = text.map(str::parse::<TrustedHash>).transpose();
        parsed.map_err(|error| CliError::argument("--trusted", error.to_string()))
    }
}

/// `dn query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    rpc: RpcArgs,
    /// Print the answer as JSON: amounts in atto (10^-18 DN), trust in units of 2^-32, rates in 1/10000.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    query: Query,
}

#[derive(Debug, clap::Subcommand)]
enum Query {
    /// Where the chain stands.
    Status,
    /// An account: balance and stakes in DN, the next nonce.
    Account {
        /// The account.
        address: Address,
    },
    /// An identity in a role, or everybody in it: bonds and stake in DN, trust between 0 and 1, heights in blocks.
    Identity {
        /// The role.
        #[arg(value_parser = role)]
        role: Role,
        /// The identity; without it all of the role.
        address: Option<Address>,
    },
    /// A payment channel: deposit, claims and what is left, in DN.
    Channel {
        /// The channel.
        id: ChannelId,
    },
    /// A published model: prices in DN a token.
    Model {
        /// The model.
        id: ModelId,
    },
    /// All published models: prices in DN a token.
    Models,
    /// A worker's batch and its audits: fees in DN, deadlines in blocks.
    Batch {
        /// The batch.
        id: BatchId,
    },
    /// The batches of a worker, the newest first: fees in DN.
    Batches {
        /// The worker.
        worker: Address,
    },
    /// Audits, of everybody or of one auditor: deadlines in blocks.
    Audits {
        /// The auditor.
        #[arg(long)]
        auditor: Option<Address>,
        /// Only those that are not over.
        #[arg(long)]
        open: bool,
    },
    /// How far an identity is trusted, and why: numbers between 0 and 1.
    Trust {
        /// The identity.
        address: Address,
        /// `worker` or `validator`.
        #[arg(long, value_parser = role, default_value = "worker")]
        role: Role,
    },
    /// The supply equation, in DN.
    Supply,
    /// Every single holding, in DN: accounts, bonds, escrows, pools.
    Balances,
    /// A block; without a height the newest.
    Block {
        /// Its height.
        height: Option<u64>,
    },
    /// A transaction and what it did.
    Tx {
        /// Its id.
        id: TxId,
    },
    /// What happened, or, with --follow, what happens.
    Events(events::Args),
    #[command(flatten)]
    Registry(registry::Query),
    #[command(flatten)]
    Governance(governance::Query),
    #[command(flatten)]
    Work(work::Query),
}

impl Query {
    /// Whether the answer is proven from the trusted block; the rest is the node's word.
    const fn is_proven(&self) -> bool {
        match self {
            Self::Account { .. }
            | Self::Identity { address: Some(_), .. }
            | Self::Channel { .. }
            | Self::Model { .. }
            | Self::Models
            | Self::Batch { .. }
            | Self::Trust { .. } => true,
            Self::Status
            | Self::Identity { address: None, .. }
            | Self::Batches { .. }
            | Self::Audits { .. }
            | Self::Supply
            | Self::Balances
            | Self::Block { .. }
            | Self::Tx { .. }
            | Self::Events(_) => false,
            Self::Registry(query) => query.is_proven(),
            Self::Governance(query) => query.is_proven(),
            Self::Work(query) => query.is_proven(),
        }
    }
}

/// Parses a role's name; `model-owner` is as good as `model_owner`.
pub(crate) fn role(text: &str) -> Result<Role, String> {
    let name = text.replace('-', "_");
    let names = Role::ALL.map(Role::name).join(", ");
    Role::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| format!("one of {names} expected"))
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<ExitCode, CliError> {
    let client = args.rpc.client(config)?;
    let proven = args.query.is_proven();
    let query = match args.query {
        Query::Events(followed) if followed.follows() => {
            out::note("not proven: events are what the node says");
            crate::runtime()?.block_on(events::follow(&client, followed))?;
            return Ok(ExitCode::SUCCESS);
        }
        query => query,
    };
    let answer = crate::runtime()?.block_on(ask(&client, query))?;
    if !proven {
        out::note("not proven: lists, blocks, events, the status and sums are what the node says");
    }
    if args.json {
        out::json(&answer);
    } else {
        out::text(render(&answer));
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(client: &LedgerClient, query: Query) -> Result<Value, CliError> {
    match query {
        Query::Status => answer(client.status().await?),
        Query::Account { address } => answer(client.account(address).await?),
        Query::Identity { role, address: None } => answer(client.identities(role).await?),
        Query::Identity { role, address: Some(address) } => {
            found(client.identity(address, role).await?, || format!("{address} is no {role} on this chain"))
        }
        Query::Channel { id } => found(client.channel(id).await?, || format!("no channel {id}")),
        Query::Model { id } => {
            found(client.model(id).await?, || format!("no model {id}; `dn query models` lists them"))
        }
        Query::Models => answer(client.models().await?),
        Query::Batch { id } => found(client.batch(id).await?, || format!("no batch {id}")),
        Query::Batches { worker } => answer(client.batches(worker).await?),
        Query::Audits { auditor, open } => answer(client.audits(auditor, open).await?),
        Query::Trust { address, role } => {
            found(client.trust(address, role).await?, || format!("{address} has no trust as {role}"))
        }
        Query::Supply => answer(client.supply().await?),
        Query::Balances => answer(client.balances().await?),
        Query::Block { height } => {
            let tip = client.status().await?.height;
            let height = height.unwrap_or(tip);
            found(client.block(height).await?, || format!("no block {height}; the newest is {tip}"))
        }
        Query::Tx { id } => found(client.tx(id).await?, || format!("no transaction {id} in any block")),
        Query::Events(args) => events::ask(client, args).await,
        Query::Registry(query) => registry::ask(client, query).await,
        Query::Governance(query) => governance::ask(client, query).await,
        Query::Work(query) => work::ask(client, query).await,
    }
}

fn answer(view: impl Serialize) -> Result<Value, CliError> {
    serde_json::to_value(view)
        .map_err(|error| CliError::Other(format!("the answer has no JSON form: {error}")))
}

fn found<T: Serialize>(view: Option<T>, missing: impl FnOnce() -> String) -> Result<Value, CliError> {
    match view {
        Some(view) => answer(view),
        None => Err(CliError::Other(missing())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_in_both_spellings() {
        assert_eq!(role("model-owner"), Ok(Role::ModelOwner));
        assert_eq!(role("model_owner"), Ok(Role::ModelOwner));
        assert!(role("miner").unwrap_err().contains("worker"));
    }
}
