//! The parameters of the methods, by name. Unknown ones are refused.

use dn_core::{Address, BatchId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::light::Subject;
use crate::tx::Role;

macro_rules! params {
    ($($(#[$doc:meta])* $name:ident $(<$t:ident>)? { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name $(<$t>)? { $($(#[$field_doc])* pub(super) $field: $type,)* }
    )*};
}
params! {
    /// None.
    Nothing {}
    /// An address.
    ByAddress {
        /// The address.
        address: Address,
    }
    /// An identity in a role.
    ByIdentity {
        /// The identity.
        address: Address,
        /// Its role.
        role: Role,
    }
    /// A role.
    ByRole {
        /// The role.
        role: Role,
    }
    /// An id.
    ById<T> {
        /// The id.
        id: T,
    }
    /// The owner of sessions.
    ByOwner {
        /// Whose channels are spent from.
        owner: Address,
    }
    /// Which proposals.
    OpenOnly {
        /// Only those that something is still to come of [default: false].
        #[serde(default)]
        open: bool,
    }
    /// A height.
    ByHeight {
        /// The height.
        height: u64,
    }
    /// A part of a snapshot.
    ByChunk {
        /// The snapshot's height.
        height: u64,
        /// The chunk's place in the manifest.
        index: usize,
    }
    /// What to prove.
    About {
        /// The subject.
        subject: Subject,
    }
    /// A worker's batches.
    ByWorker {
        /// The worker.
        worker: Address,
        /// The most to answer with [default: 100; at most 1,000].
        limit: Option<usize>,
    }
    /// Which audits.
    AuditFilter {
        /// Of this auditor only.
        auditor: Option<Address>,
        /// Only those whose auditor still has something to do [default: false].
        #[serde(default)]
        open: bool,
    }
    /// Which events.
    EventRange {
        /// The first height.
        from_height: u64,
        /// Blocks are added until there are so many events [default and at most: 1,000].
        limit: Option<usize>,
    }
    /// A transaction.
    RawTx {
        /// The signed transaction in the canonical encoding, hexadecimal; `0x` may be left out.
        tx: String,
    }
    /// Which jobs.
    JobFilter {
        /// Those that this worker may take.
        worker: Option<Address>,
    }
    /// A receipt.
    OneReceipt {
        /// Its batch.
        batch: BatchId,
        /// Its place in it.
        index: u32,
    }
    /// Which disputes.
    ByParty {
        /// Those of this accuser or worker.
        party: Option<Address>,
    }
    /// An agent's newest entries.
    AgentList {
        /// The agent.
        address: Address,
        /// The most to answer with [default: 100; at most 1,000].
        limit: Option<usize>,
    }
}
