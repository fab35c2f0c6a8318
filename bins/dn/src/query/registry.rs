//! `dn query`: domains, model families, backers and jobs.

use dn_core::{Address, ChannelId, ModelId};
use dn_sdk::ledger::LedgerClient;
use serde_json::Value;

use super::{answer, found};
use crate::error::CliError;

/// What to ask about domains, model families, backers and jobs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Query {
    /// A domain, or all of them: deposit and treasury in DN, rates in 1/10000.
    Domain {
        /// The domain; without it all.
        id: Option<u32>,
    },
    /// What a model was published under: licence and lineage; royalties in 10^-36 of the owner's income.
    ModelTerms {
        /// The model.
        id: ModelId,
    },
    /// An owner's commitments to models that are not published yet, by the blocks that took them and the last that take a publication.
    Commitments {
        /// The owner.
        owner: Address,
    },
    /// A model family: its versions and its backers' pool, in DN and shares.
    Family {
        /// The family: its first model.
        id: ModelId,
    },
    /// What an account put behind models, in DN and shares; releases by epoch.
    Backing {
        /// The account.
        address: Address,
    },
    /// A job that is neither claimed nor returned: amounts in DN, the last block to claim it.
    Job {
        /// The escrow.
        id: ChannelId,
    },
    /// All such jobs, or those that a worker may take.
    Jobs {
        /// The worker.
        #[arg(long)]
        worker: Option<Address>,
    },
}

impl Query {
    /// Whether the answer is proven.
    pub(super) const fn is_proven(&self) -> bool {
        !matches!(self, Self::Domain { id: None } | Self::Jobs { .. })
    }
}

pub(super) async fn ask(client: &LedgerClient, query: Query) -> Result<Value, CliError> {
    match query {
        Query::Domain { id: None } => answer(client.domains().await?),
        Query::Domain { id: Some(id) } => found(client.domain(id).await?, || format!("no domain {id}")),
        Query::ModelTerms { id } => found(client.model_terms(id).await?, || format!("no model {id}")),
        Query::Commitments { owner } => answer(client.model_commitments(owner).await?),
        Query::Family { id } => found(client.family(id).await?, || format!("no model family {id}")),
        Query::Backing { address } => answer(client.backing(address).await?),
        Query::Job { id } => found(client.job(id).await?, || format!("no open job {id}")),
        Query::Jobs { worker } => answer(client.jobs(worker).await?),
    }
}
