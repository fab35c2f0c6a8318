//! Whom and what an event is about: what subscribers choose events by.

use dn_core::hexadecimal::from_hex;
use dn_core::{Address, Canonical, ModelId};

use super::Event;
use crate::state::{
    ACCOUNTS, BACKING_POOLS, BACKING_RELEASES, IDENTITIES, Key, STAKE_POOLS, Table, UNBONDING_POOLS,
    table_name,
};
use crate::tx::Role;
use crate::tx::Role::{Gateway, ModelOwner, Validator, Worker};

/// The most bytes of a key: that of `backing_releases`.
const MAX_KEY_BYTES: usize = 60;

/// Whom and what an event is about.
#[derive(Debug, Default)]
struct Subjects {
    addresses: Vec<Address>,
    models: Vec<ModelId>,
    roles: Vec<Role>,
}

/// A field that names one, or several, or perhaps one.
trait Names<T> {
    fn names(&self) -> &[T];
}

macro_rules! names {
    ($($t:ty),*) => {$(
        impl Names<$t> for $t {
            fn names(&self) -> &[$t] {
                std::slice::from_ref(self)
            }
        }
        impl Names<$t> for Option<$t> {
            fn names(&self) -> &[$t] {
                self.as_slice()
            }
        }
    )*};
}
names!(Address, ModelId, Role);

impl Names<Address> for Vec<Address> {
    fn names(&self) -> &[Address] {
        self
    }
}

/// Of each event: the fields that count, its kind in JSON, its addresses, its models and families, the roles that it names or that it lies in
/// by its nature. The match has no other arm, so that a new event has to be thought of here.
macro_rules! subjects {
    ($($event:ident { $($field:ident),* } $kind:literal: [$($address:expr),*] [$($model:expr),*] [$($role:expr),*];)*) => {
        impl Event {
            /// The kinds of all events, as JSON has them under `event`.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The event's kind, as JSON has it under `event`.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$event { .. } => $kind,)* }
            }

            fn subjects(&self) -> Subjects {
                let mut subjects = Subjects::default();
                match self {
                    $(Self::$event { $($field,)* .. } => {
                        $(subjects.addresses.extend_from_slice($address.names());)*
                        $(subjects.models.extend_from_slice($model.names());)*
                        $(subjects.roles.extend_from_slice($role.names());)*
                    })*
                }
                subjects
            }
        }
    };
}
subjects! {
    FeePaid { sender } "fee_paid": [sender] [] [];
    Transferred { from, to } "transferred": [from, to] [] [];
    Registered { address, role } "registered": [address] [] [role];
    Retired { address, role } "retired": [address] [] [role];
    Suspended { address, role } "suspended": [address] [] [role];
    IdentityUpdated { address, role } "identity_updated": [address] [] [role];
    Jailed { validator } "jailed": [validator] [] [Validator];
    Staked { delegator, validator } "staked": [delegator, validator] [] [Validator];
    Unbonding { delegator, validator } "unbonding": [delegator, validator] [] [Validator];
    Withdrawn { address } "withdrawn": [address] [] [];
    Redelegated { delegator, from, to } "redelegated": [delegator, from, to] [] [Validator];
    RedelegationSettled { delegator, from, to } "redelegation_settled": [delegator, from, to] [] [Validator];
    CommissionSet { validator } "commission_set": [validator] [] [Validator];
    CommissionPaid { validator } "commission_paid": [validator] [] [Validator];
    SessionGranted { owner, session } "session_granted": [owner, session] [] [];
    SessionRevoked { owner, session } "session_revoked": [owner, session] [] [];
    Proposed { proposer } "proposed": [proposer] [] [];
    ProposalDeposit { depositor } "proposal_deposit": [depositor] [] [];
    Voted { voter, pool } "voted": [voter, pool] [] [Validator];
    ProposalExpired {} "proposal_expired": [] [] [];
    ProposalDecided {} "proposal_decided": [] [] [];
    ProposalExecuted {} "proposal_executed": [] [] [];
    ProposalFailed {} "proposal_failed": [] [] [];
    UpgradeScheduled {} "upgrade_scheduled": [] [] [];
    ProposalSpent { to } "proposal_spent": [to] [] [];
    ModelPublished { owner, model } "model_published": [owner] [model] [ModelOwner];
    ModelPriceSet { model } "model_price_set": [] [model] [ModelOwner];
    ModelRetired { model } "model_retired": [] [model] [ModelOwner];
    Offered { worker, model } "offered": [worker] [model] [Worker];
    Unoffered { worker, model } "unoffered": [worker] [model] [Worker];
    ChannelOpened { payer, payee } "channel_opened": [payer, payee] [] [Gateway];
    ChannelToppedUp {} "channel_topped_up": [] [] [Gateway];
    ChannelClosing {} "channel_closing": [] [] [Gateway];
    ChannelFinished { payer } "channel_finished": [payer] [] [Gateway];
    BatchPosted { worker, gateway } "batch_posted": [worker, gateway] [] [Worker, Gateway];
    AuditAssigned { auditor } "audit_assigned": [auditor] [] [Validator];
    AuditCommitted { auditor } "audit_committed": [auditor] [] [Validator];
    AuditRevealed { auditor } "audit_revealed": [auditor] [] [Validator];
    AuditMissed { auditor } "audit_missed": [auditor] [] [Validator];
    DisputeOpened { accuser } "dispute_opened": [accuser] [] [Worker, Validator];
    DisputeCalled { accuser } "dispute_called": [accuser] [] [Worker, Validator];
    DisputeStarted {} "dispute_started": [] [] [Worker, Validator];
    DisputeMoved {} "dispute_moved": [] [] [Worker, Validator];
    DisputeEnded {} "dispute_ended": [] [] [Worker, Validator];
    AuditClosed {} "audit_closed": [] [] [Worker, Validator];
    BatchSettled { worker } "batch_settled": [worker] [] [Worker];
    BatchVoided { worker } "batch_voided": [worker] [] [Worker];
    Slashed { address, reporter, role } "slashed": [address, reporter] [] [role];
    EmissionPaid { address, role } "emission_paid": [address] [] [role];
    PoolRewarded { validator } "pool_rewarded": [validator] [] [Validator];
    TrustChanged { address, role } "trust_changed": [address] [] [role];
    DomainCreated { owner } "domain_created": [owner] [] [];
    DomainConfigured {} "domain_configured": [] [] [];
    DomainTransferred { from, to } "domain_transferred": [from, to] [] [];
    TreasurySpent { to } "treasury_spent": [to] [] [];
    DomainClosed {} "domain_closed": [] [] [];
    VersionPublished { model, family } "version_published": [] [model, family] [ModelOwner];
    ModelTransferred { from, to, family } "model_transferred": [from, to] [family] [ModelOwner];
    ModelCommitted { owner } "model_committed": [owner] [] [ModelOwner];
    ModelCommitmentExpired { owner } "model_commitment_expired": [owner] [] [ModelOwner];
    Backed { backer, family } "backed": [backer] [family] [];
    Unbacked { backer, family } "unbacked": [backer] [family] [];
    RoyaltyPaid { model, ancestor } "royalty_paid": [] [model, ancestor] [ModelOwner];
    BackersRewarded { model, family } "backers_rewarded": [] [model, family] [];
    JobLocked { payer, gateway, worker, model } "job_locked": [payer, gateway, worker] [model] [Worker, Gateway];
    JobClaimed { worker } "job_claimed": [worker] [] [Worker];
    JobBondReleased { worker } "job_bond_released": [worker] [] [Worker];
    JobRefunded { payer } "job_refunded": [payer] [] [Worker, Gateway];
    QualityOpened { owner, setter, members } "quality_opened": [owner, setter, members] [] [Validator];
    QualitySealed {} "quality_sealed": [] [] [Validator];
    QualityCommitted { validator } "quality_committed": [validator] [] [Validator];
    QualityRevealed { validator } "quality_revealed": [validator] [] [Validator];
    QualityUnsealed {} "quality_unsealed": [] [] [Validator];
    QualityJudged { validator } "quality_judged": [validator] [] [Validator];
    QualitySettled { owner } "quality_settled": [owner] [] [Validator];
    FeedbackGiven { worker, payer, model } "feedback_given": [worker, payer] [model] [Worker];
    ModelTrustChanged { model } "model_trust_changed": [] [model] [ModelOwner];
    TurnMissed { validator } "turn_missed": [validator] [] [Validator];
    TurnsCharged { validator } "turns_charged": [validator] [] [Validator];
    HoldingChanged { table, key } "holding_changed": [holder(table, key)] [family(table, key)] [held_as(table, key)];
    EpochClosed {} "epoch_closed": [] [] [];
}

impl Event {
    /// Every address that the event names, in whatever part; of a changed holding its holder's.
    pub fn addresses(&self) -> Vec<Address> {
        self.subjects().addresses
    }

    /// Every model and family that the event names.
    pub fn models(&self) -> Vec<ModelId> {
        self.subjects().models
    }

    /// The roles that the event names, or that it lies in by its nature: stake in a validator's, a batch in a worker's and a gateway's.
    pub fn roles(&self) -> Vec<Role> {
        self.subjects().roles
    }
}

/// Whose a holding is, by its record's key; none where the key names nobody: escrows, domains, the pools of nobody's account.
fn holder(table: &str, key: &str) -> Option<Address> {
    let key = HoldingKey::new(table, key)?;
    let address = key.read(&ACCOUNTS).or_else(|| key.pool());
    let address = address.or_else(|| key.read(&IDENTITIES).map(|(_, address)| address));
    address.or_else(|| key.read(&BACKING_RELEASES).map(|(backer, ..)| backer))
}

/// The family that a holding is behind.
fn family(table: &str, key: &str) -> Option<ModelId> {
    let key = HoldingKey::new(table, key)?;
    key.read(&BACKING_POOLS).or_else(|| key.read(&BACKING_RELEASES).map(|(_, _, family)| family))
}

/// The role that a bond or a stake pool stands for.
fn held_as(table: &str, key: &str) -> Option<Role> {
    let key = HoldingKey::new(table, key)?;
    key.read(&IDENTITIES).map(|(role, _)| role).or_else(|| key.pool().map(|_| Validator))
}

/// A record's key as a changed holding names it.
struct HoldingKey<'a> {
    table: &'a str,
    bytes: Vec<u8>,
}

impl<'a> HoldingKey<'a> {
    fn new(table: &'a str, key: &str) -> Option<Self> {
        Some(Self { table, bytes: from_hex(key, MAX_KEY_BYTES)? })
    }

    /// The key, if it is one of this table's.
    fn read<K: Key, V: Canonical>(&self, table: &Table<K, V>) -> Option<K> {
        let prefix = table.prefix();
        let key = || table.read_key(&[&[prefix], self.bytes.as_slice()].concat());
        (table_name(prefix) == self.table).then(key).flatten()
    }

    /// The validator of a pool of stake.
    fn pool(&self) -> Option<Address> {
        self.read(&STAKE_POOLS).or_else(|| self.read(&UNBONDING_POOLS).map(|(validator, _)| validator))
    }
}
