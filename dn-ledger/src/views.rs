//! What queries answer: the JSON shapes shared by the node and its clients.
//!
//! Amounts are atto as decimal strings, hashes and addresses `0x…`, trust Q32 bits, heights and epochs numbers.

mod dispute;
mod governance;
mod page;
mod past;
mod pool;
mod registries;
mod registry;

use dn_core::objects::{AuditOutcome, BatchLine, ModelManifest, Price};
use dn_core::{Address, Amount, BatchId, BlockHash, ChannelId, Hash32, ModelId, TxId};
use dn_trust::{Trust, Unit};
use serde::{Deserialize, Serialize};

pub use governance::{ProposalView, RedelegationView, SessionView, UpgradeView};
pub use page::{Cursor, Page, PageRequest};
pub use past::Pruned;
pub use pool::PoolRefusal;
pub use registry::{
    BackingRelease, BackingView, BackingsView, DomainBalance, DomainView, FamilyBalance, FamilyView, JobView,
    ModelCommitmentView, ModelTermsView, OfferView, ReleaseBalance,
};

use crate::block::{Certificate, Header};
use crate::events::Event;
use crate::state::{AuditPhase, AuditResult, BatchStatus, Commission, IdentityStatus, Pool};
use crate::tx::{Role, Shares, SignedTx};

pub use dispute::{DisputeMoveView, DisputeView};
pub use registries::{
    AgentView, BeaconView, ElectionView, FeedbackAuthView, FeedbackView, ModelTrustView, QualityRoundView,
    ReputationView, ValidationView, ValidationsView,
};

/// `dn_status`: where the chain stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusView {
    /// The chain.
    pub chain_id: u64,
    /// Hash of the genesis.
    pub genesis: Hash32,
    /// Version of the software.
    pub version: String,
    /// Height of the tip.
    pub height: u64,
    /// The first height whose block and events the node holds: 1, or later where it prunes or was restored from a snapshot.
    pub first_block: u64,
    /// Hash of the tip.
    pub tip: BlockHash,
    /// State commitment after the tip.
    pub state: Hash32,
    /// Time of the tip, Unix milliseconds.
    pub time_ms: u64,
    /// The current epoch.
    pub epoch: u64,
    /// First height of the next epoch.
    pub next_epoch_height: u64,
    /// Transactions that wait.
    pub mempool: u64,
    /// The key of this node, which proposes and votes while it is in the validator set; none for a node that only follows.
    pub node_key: Option<Address>,
}

/// `dn_account`: an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AccountView {
    /// The account.
    pub address: Address,
    /// Free DN.
    pub balance: Amount,
    /// The next nonce at the tip.
    pub nonce: u64,
    /// The next nonce when waiting transactions are counted.
    pub pending_nonce: u64,
    /// Shares of stake pools.
    pub stakes: Vec<StakeView>,
    /// Unbonding stake.
    pub unbonding: Vec<UnbondingView>,
    /// Stake that moved from one pool to another and is not plain shares yet.
    pub redelegating: Vec<RedelegationView>,
}

/// A delegator's part of a stake pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StakeView {
    /// The pool's validator.
    pub validator: Address,
    /// Shares held.
    pub shares: Shares,
    /// What they are worth now.
    pub value: Amount,
}

/// Stake that waits for its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnbondingView {
    /// Whose pool it left; that validator's slashes still reach it.
    pub validator: Address,
    /// What it is worth now.
    pub value: Amount,
    /// First epoch in which it can be withdrawn.
    pub release_epoch: u64,
}

/// `dn_identity`, `dn_identities`: an identity in a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdentityView {
    /// The identity.
    pub address: Address,
    /// The role.
    pub role: Role,
    /// Whether it may act.
    pub status: IdentityStatus,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub endpoint: String,
    /// Its bond.
    pub collateral: Amount,
    /// Its batches that are neither settled nor void, for workers.
    pub open_batches: u64,
    /// When it first registered.
    pub registered_height: u64,
    /// Trust at the last epoch's end; none for roles without trust.
    pub trust: Option<Trust>,
    /// Stake in its pool, for validators.
    pub stake: Amount,
    /// What of it is its own, for validators.
    pub self_bond: Amount,
    /// Its commission, for validators.
    pub commission: Commission,
    /// Stake × (½ + ½·trust), for active validators.
    pub voting_power: Amount,
}

/// `dn_channel`: a payment channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelView {
    /// The channel.
    pub id: ChannelId,
    /// Who pays.
    pub payer: Address,
    /// The gateway.
    pub payee: Address,
    /// Who, besides the payer, signs vouchers.
    pub spender: Address,
    /// Everything ever put in, returned fees included.
    pub deposit: Amount,
    /// Everything ever claimed.
    pub claimed: Amount,
    /// What is left: `deposit − claimed`.
    pub balance: Amount,
    /// Claims by lane.
    pub lanes: Vec<LaneView>,
    /// When closing: first height at which it can be finished.
    pub finish_height: Option<u64>,
}

/// One lane of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LaneView {
    /// The lane.
    pub lane: u32,
    /// Claimed on it in all; only rises.
    pub claimed: Amount,
}

/// `dn_model`, `dn_models`: a published model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelView {
    /// The model.
    pub id: ModelId,
    /// Its owner.
    pub owner: Address,
    /// Its name.
    pub name: String,
    /// Prices per token.
    pub price: Price,
    /// The domain its work counts for.
    pub domain: u32,
    /// Its manifest.
    pub manifest: ModelManifest,
    /// When it was published.
    pub published_height: u64,
    /// When it was withdrawn.
    pub retired_height: Option<u64>,
    /// Workers that host it.
    pub workers: Vec<Address>,
}

/// `dn_batch`, `dn_batches`: a worker's batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchView {
    /// The batch.
    pub id: BatchId,
    /// Who computed.
    pub worker: Address,
    /// Who passed on.
    pub gateway: Address,
    /// The worker's batch number.
    pub sequence: u64,
    /// Merkle root over the canonical signed receipts.
    pub root: Hash32,
    /// Number of receipts.
    pub count: u32,
    /// Claims by lane and model.
    pub lines: Vec<BatchLine>,
    /// All fees.
    pub fees: Amount,
    /// Fees still in escrow.
    pub escrow: Amount,
    /// What the worker of a job put up and has not got back.
    pub bond: Amount,
    /// Where it stands.
    pub status: BatchStatus,
    /// When it was posted.
    pub posted_height: u64,
    /// From which height it settles once no audit is open.
    pub window_end_height: u64,
    /// Audits drawn, once they are.
    pub audits: Vec<AuditView>,
}

/// `dn_audits`: one auditor's task on one receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditView {
    /// The batch.
    pub batch: BatchId,
    /// The receipt's place in it.
    pub index: u32,
    /// Who audits.
    pub auditor: Address,
    /// The first auditor, or one of all validators in a dispute.
    pub disputed: bool,
    /// What the auditor has to do next.
    pub phase: AuditPhase,
    /// Last height to commit at.
    pub commit_deadline: u64,
    /// First height to reveal at.
    pub reveal_from: u64,
    /// Last height to reveal at.
    pub reveal_deadline: u64,
    /// What was revealed.
    pub outcome: Option<AuditOutcome>,
    /// How the audit of this receipt ended.
    pub result: Option<AuditResult>,
    /// Who computed.
    pub worker: Address,
    /// Who can be asked for the receipt's opening.
    pub gateway: Address,
    /// The batch's Merkle root.
    pub root: Hash32,
    /// The batch's number of receipts.
    pub count: u32,
}

/// `dn_trust`: how far an identity is trusted in a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrustView {
    /// The identity.
    pub address: Address,
    /// The role: worker or validator.
    pub role: Role,
    /// The weight.
    pub trust: Trust,
    /// The indicators by name.
    pub indicators: Vec<IndicatorView>,
}

/// One indicator of trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IndicatorView {
    /// Its name.
    pub name: String,
    /// Its value, Q32.
    pub value: Unit,
}

/// `dn_supply`: the supply equation at the tip.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SupplyView {
    /// Height of the tip.
    pub height: u64,
    /// Σ balances of accounts.
    pub accounts: Amount,
    /// Σ collateral of identities.
    pub collateral: Amount,
    /// Σ stake in pools.
    pub stake: Amount,
    /// Σ unbonding stake.
    pub unbonding: Amount,
    /// Σ channel escrow.
    pub channels: Amount,
    /// Σ batch escrow, bonds of jobs included.
    pub batches: Amount,
    /// Σ deposits of domains.
    pub domains: Amount,
    /// Σ backing of models, that on its way back included.
    pub backing: Amount,
    /// Σ job escrow.
    pub jobs: Amount,
    /// Σ pools without the burned.
    pub pools: Amount,
    /// Burned.
    pub burned: Amount,
    /// The sum of all above.
    pub total: Amount,
    /// What the sum must be.
    pub supply: Amount,
}

/// Every single holding at the tip, or those of one page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BalancesView {
    /// Height of the tip.
    pub height: u64,
    /// Free balances.
    pub accounts: Vec<AccountBalance>,
    /// Collateral.
    pub collateral: Vec<RoleBalance>,
    /// Stake pools by validator.
    pub stake: Vec<AccountBalance>,
    /// Unbonding stake by validator and release epoch.
    pub unbonding: Vec<UnbondingBalance>,
    /// Channel escrow.
    pub channels: Vec<ChannelBalance>,
    /// Batch escrow, a job's bond included.
    pub batches: Vec<BatchBalance>,
    /// Deposits of domains.
    pub domains: Vec<DomainBalance>,
    /// Backers' pools.
    pub backing: Vec<FamilyBalance>,
    /// Backing on its way back.
    pub backing_releases: Vec<ReleaseBalance>,
    /// Job escrow.
    pub jobs: Vec<ChannelBalance>,
    /// Pools without the burned.
    pub pools: Vec<PoolBalance>,
    /// Burned.
    pub burned: Amount,
    /// What everything must sum to.
    pub supply: Amount,
}

impl BalancesView {
    /// Adds the holdings of another page.
    pub fn append(&mut self, page: Self) {
        self.accounts.extend(page.accounts);
        self.collateral.extend(page.collateral);
        self.stake.extend(page.stake);
        self.unbonding.extend(page.unbonding);
        self.channels.extend(page.channels);
        self.batches.extend(page.batches);
        self.domains.extend(page.domains);
        self.backing.extend(page.backing);
        self.backing_releases.extend(page.backing_releases);
        self.jobs.extend(page.jobs);
        self.pools.extend(page.pools);
    }
}

/// `dn_balances`: a page of all holdings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BalancesPage {
    /// The holdings of this page.
    pub balances: BalancesView,
    /// What to ask for the page after this one; none when there is no more.
    pub next: Option<Cursor>,
}

/// DN of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AccountBalance {
    /// Whose.
    pub address: Address,
    /// How much.
    pub amount: Amount,
}

/// DN bonded by an identity in a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoleBalance {
    /// Whose.
    pub address: Address,
    /// In which role.
    pub role: Role,
    /// How much.
    pub amount: Amount,
}

/// DN unbonding from a validator's pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnbondingBalance {
    /// The pool's validator.
    pub validator: Address,
    /// When it is free.
    pub release_epoch: u64,
    /// How much.
    pub amount: Amount,
}

/// DN in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChannelBalance {
    /// The channel.
    pub channel: ChannelId,
    /// How much.
    pub amount: Amount,
}

/// DN in a batch's escrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BatchBalance {
    /// The batch.
    pub batch: BatchId,
    /// How much.
    pub amount: Amount,
}

/// DN in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolBalance {
    /// The pool.
    pub pool: Pool,
    /// How much.
    pub amount: Amount,
}

/// `dn_block`: a block with what its transactions did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BlockView {
    /// Its hash.
    pub hash: BlockHash,
    /// Its header.
    pub header: Header,
    /// Who stands for it.
    pub certificate: Certificate,
    /// Who stands for its parent, as the block says.
    pub parent_certificate: Certificate,
    /// Ids of its transactions, in order.
    pub txs: Vec<TxId>,
}

/// `dn_sendTransaction`: the answer once the block that holds the transaction is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TxOutcome {
    /// The transaction.
    pub tx_id: TxId,
    /// The block that holds it.
    pub height: u64,
    /// Its place in the block.
    pub index: u32,
    /// What it did.
    pub events: Vec<Event>,
}

/// `dn_tx`: a transaction and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TxView {
    /// Where it is and what it did.
    pub outcome: TxOutcome,
    /// The transaction.
    pub tx: SignedTx,
}

/// One event with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventView {
    /// The block.
    pub height: u64,
    /// Its place among the block's events.
    pub index: u32,
    /// The transaction that caused it; none for the block's own transitions.
    pub tx_id: Option<TxId>,
    /// What happened.
    pub event: Event,
}

/// `dn_events`: whole blocks' events from a height on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventsView {
    /// The events, in order.
    pub events: Vec<EventView>,
    /// The height to ask from next.
    pub next_height: u64,
}
