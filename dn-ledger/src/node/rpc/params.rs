//! The parameters of the methods, by name. Unknown ones are refused.

use dn_core::{Address, BatchId, ModelId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::light::Subject;
use crate::tx::Role;
use crate::views::{Cursor, PageRequest};

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
    /// An id.
    ById<T> {
        /// The id.
        id: T,
    }
    /// A worker and a model.
    ByOffer {
        /// The model.
        model: ModelId,
        /// The worker.
        worker: Address,
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
    /// Which events.
    EventRange {
        /// The first height; the first whose events the node holds for 0 or without. One below that is an error that names it.
        from_height: Option<u64>,
        /// Blocks are added until there are so many events [default and at most: 1,000].
        limit: Option<usize>,
    }
    /// A transaction.
    RawTx {
        /// The signed transaction in the canonical encoding, hexadecimal; `0x` may be left out.
        tx: String,
    }
    /// A receipt.
    OneReceipt {
        /// Its batch.
        batch: BatchId,
        /// Its place in it.
        index: u32,
    }
}

/// Parameters of lists: what the list is of, and which page of it.
macro_rules! list_params {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[$field_doc])* pub(super) $field: $type,)*
            /// The most entries of the page [default: 100, or the most if that is less; the most: 1,000, of disputes and of the
            /// batches of validations 16].
            limit: Option<u32>,
            /// The `next` of the page before; the first page without.
            after: Option<Cursor>,
        }

        impl $name {
            /// The page.
            pub(super) fn page(&self) -> PageRequest {
                PageRequest { limit: self.limit, after: self.after.clone() }
            }
        }
    )*};
}
list_params! {
    /// All there are.
    All {}
    /// Those of a role.
    OfRole {
        /// The role.
        role: Role,
    }
    /// Those of a model.
    OfModel {
        /// The model.
        id: ModelId,
    }
    /// Those of an owner.
    OfOwner {
        /// Whose they are.
        owner: Address,
    }
    /// Which proposals.
    Proposals {
        /// Only those that something is still to come of [default: false].
        #[serde(default)]
        open: bool,
    }
    /// Those of a worker.
    OfWorker {
        /// The worker.
        worker: Address,
    }
    /// Which audits.
    Audits {
        /// Of this auditor only.
        auditor: Option<Address>,
        /// Only those whose auditor still has something to do [default: false].
        #[serde(default)]
        open: bool,
    }
    /// Which jobs.
    Jobs {
        /// Those that this worker may take.
        worker: Option<Address>,
    }
    /// Which disputes.
    Disputes {
        /// Those of this accuser or worker.
        party: Option<Address>,
    }
    /// Those of an agent.
    OfAgent {
        /// The agent.
        address: Address,
    }
}
