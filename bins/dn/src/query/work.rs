//! `dn query`: disputes, quality, agents, headers and the beacon.

use dn_core::{Address, BatchId, ModelId};
use dn_sdk::ledger::LedgerClient;
use serde_json::Value;

use super::{answer, found};
use crate::error::CliError;

/// What to ask about disputes, quality, agents and the chain itself.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Query {
    /// The dispute about a receipt: who has to move, by which block, and the moves so far.
    Dispute {
        /// The batch.
        batch: BatchId,
        /// The receipt's place in the batch, from 0.
        index: u32,
    },
    /// Open disputes; those that end first come first.
    Disputes {
        /// Of one accuser or worker.
        #[arg(long)]
        party: Option<Address>,
    },
    /// Open quality rounds, with the last block of each phase.
    QualityRounds,
    /// How far a model is trusted, and why: numbers between 0 and 1, feedback from 0 to 100.
    ModelTrust {
        /// The model.
        id: ModelId,
    },
    /// An identity as an agent (ERC-8004).
    Agent {
        /// The identity.
        address: Address,
    },
    /// What payers say of a worker: scores from 0 to 100, the newest first.
    Reputation {
        /// The worker.
        address: Address,
    },
    /// The audits of a worker's newest batches: 100 is right, 0 is fraud.
    Validations {
        /// The worker.
        address: Address,
    },
    /// A header with its certificate and validator sets, as light clients get it.
    Header {
        /// Its height.
        height: u64,
    },
    /// The randomness of the newest block.
    Beacon,
}

impl Query {
    /// Whether the answer is proven.
    pub(super) const fn is_proven(&self) -> bool {
        matches!(self, Self::ModelTrust { .. })
    }
}

pub(super) async fn ask(client: &LedgerClient, query: Query) -> Result<Value, CliError> {
    match query {
        Query::Dispute { batch, index } => {
            let missing = || format!("no dispute about receipt {index} of batch {batch}");
            found(client.dispute(batch, index).await?, missing)
        }
        Query::Disputes { party } => answer(client.disputes(party).await?),
        Query::QualityRounds => answer(client.quality_rounds().await?),
        Query::ModelTrust { id } => {
            found(client.model_trust(id).await?, || format!("model {id} has not worked yet"))
        }
        Query::Agent { address } => {
            found(client.agent(address).await?, || format!("{address} is not registered in any role"))
        }
        Query::Reputation { address } => answer(client.reputation(address).await?),
        Query::Validations { address } => answer(client.validations(address).await?),
        Query::Header { height } => found(client.header(height).await?, || format!("no header {height}")),
        Query::Beacon => answer(client.beacon().await?),
    }
}
