//! `dn query`: disputes, quality, agents, headers and the beacon.

use dn_core::{Address, BatchId, ModelId};
use dn_ledger::light::LightBlock;
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
    /// A header with its hash, its certificate and validator sets, as light clients get it; height and hash are what `--trusted` takes, from
    /// somebody whom you trust.
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
        Query::Header { height } => match client.header(height).await? {
            Some(block) => header(&block),
            None => Err(CliError::Other(format!("no header {height}"))),
        },
        Query::Beacon => answer(client.beacon().await?),
    }
}

/// A block with the hash of its header beside it: no field of a header holds its own.
fn header(block: &LightBlock) -> Result<Value, CliError> {
    let mut value = answer(block)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("hash".to_owned(), block.header.hash().to_string().into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use dn_ledger::{Chain, Params};

    use super::*;

    #[test]
    fn a_header_comes_with_its_hash() {
        let genesis = crate::ledger::local::genesis(1, Params::local(), Vec::new()).expect("a genesis");
        let chain = Chain::new(&genesis);
        let (tip, certificate) = (chain.tip().clone(), chain.certificate().clone());
        let block = LightBlock::new(tip, certificate, chain.tip_validators(), chain.validators());
        let value = header(&block).expect("an answer");
        assert_eq!(value["hash"], chain.tip().hash().to_string());
        assert_eq!(value["header"]["parent"], genesis.hash().to_string());
        let text = crate::render::render(&value);
        let shown = |line: &str| {
            line.trim_start().starts_with("hash ") && line.ends_with(&chain.tip().hash().to_string())
        };
        assert!(text.lines().any(shown), "{text}");
    }
}
