//! Queries of the registries of agents, of quality rounds, pools and the beacon.

use dn_core::Address;
use dn_ledger::light::LightBlock;
use dn_ledger::views::{
    AgentView, BeaconView, PoolBalance, QualityRoundView, ReputationView, ValidationsView,
};
use serde_json::json;

use super::pages::Entries;
use super::{LedgerClient, LedgerError};

impl LedgerClient {
    /// An identity as an agent (ERC-8004).
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn agent(&self, address: Address) -> Result<Option<AgentView>, LedgerError> {
        self.query("dn_agent", json!({ "address": address })).await
    }

    /// What payers say of a worker: the sums, and the newest feedback.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn reputation(&self, worker: Address) -> Result<ReputationView, LedgerError> {
        self.query("dn_agentReputation", json!({ "address": worker })).await
    }

    /// The audits of a worker's newest batches.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn validations(&self, worker: Address) -> Result<ValidationsView, LedgerError> {
        self.query("dn_agentValidations", json!({ "address": worker })).await
    }

    /// The open quality rounds.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn quality_rounds(&self) -> Result<Vec<QualityRoundView>, LedgerError> {
        self.list("dn_qualityRounds", json!({}), Entries::Small).await
    }

    /// The pools of DN that belong to no account.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn pools(&self) -> Result<Vec<PoolBalance>, LedgerError> {
        self.list("dn_pools", json!({}), Entries::Small).await
    }

    /// The randomness of the tip.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn beacon(&self) -> Result<BeaconView, LedgerError> {
        self.query("dn_beacon", json!({})).await
    }

    /// A header with its certificate and validator sets, as the node has it.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn header(&self, height: u64) -> Result<Option<LightBlock>, LedgerError> {
        self.query("dn_header", json!({ "height": height })).await
    }
}
