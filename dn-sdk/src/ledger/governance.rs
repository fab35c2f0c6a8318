//! Queries of sessions, proposals and upgrades.

use dn_core::Address;
use dn_ledger::light::Subject;
use dn_ledger::query;
use dn_ledger::state::SESSIONS;
use dn_ledger::views::{ProposalView, SessionView, UpgradeView};
use serde_json::json;

use super::pages::Entries;
use super::{LedgerClient, LedgerError};

impl LedgerClient {
    /// What a key may spend of an owner's channels, proven.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn session(
        &self,
        owner: Address,
        session: Address,
    ) -> Result<Option<SessionView>, LedgerError> {
        let proven = self.proven(Subject::Session { owner, session }).await?;
        Ok(query::session(proven.state(), owner, session))
    }

    /// What all keys of an owner may spend, each proven; the list may leave some out.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn sessions(&self, owner: Address) -> Result<Vec<SessionView>, LedgerError> {
        let proven = self.proven(Subject::Sessions { owner }).await?;
        let keys = SESSIONS.iter_from(proven.state(), &owner).map(|((_, session), _)| session);
        Ok(keys.filter_map(|session| query::session(proven.state(), owner, session)).collect())
    }

    /// A proposal, proven. While it is voted on the votes are none: they are those of all pools, and the ledger adds them up when
    /// voting ends. [`running_proposal`](Self::running_proposal) says how they stand, as the node counts.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn proposal(&self, id: u64) -> Result<Option<ProposalView>, LedgerError> {
        let proven = self.proven(Subject::Proposal { id }).await?;
        Ok(query::proposal_record(proven.state(), id))
    }

    /// A proposal with its votes as the node counts them, without proof.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn running_proposal(&self, id: u64) -> Result<Option<ProposalView>, LedgerError> {
        self.query("dn_proposal", json!({ "id": id })).await
    }

    /// Proposals with their votes, all or those that something is still to come of.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn proposals(&self, open: bool) -> Result<Vec<ProposalView>, LedgerError> {
        self.list("dn_proposals", json!({ "open": open }), Entries::Large).await
    }

    /// The upgrades that were decided.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn upgrades(&self) -> Result<Vec<UpgradeView>, LedgerError> {
        self.list("dn_upgrades", json!({}), Entries::Small).await
    }
}
