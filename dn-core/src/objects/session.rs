//! What an owner signs so that another key may spend within limits.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::amount::Amount;
use crate::canonical_struct;
use crate::eip712::{Fields, TypedData};
use crate::hash::ModelId;
use crate::signed::Signable;

/// The most models that a grant names.
pub const MAX_SESSION_MODELS: usize = 16;

/// A session: `session` may sign vouchers on the owner's channels, within these limits, until the owner takes it back.
///
/// A gateway can be shown it before any ledger knows it; the ledger keeps count of what was spent. For one owner and
/// session key a higher serial is a new session, with a new budget, once the one before is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionGrant {
    /// The chain that settles what is spent.
    pub chain_id: u64,
    /// Whose channels are spent from, and who signs.
    pub owner: Address,
    /// The key that may spend.
    pub session: Address,
    /// Orders the grants of one owner to one session key; each is good once.
    pub serial: u64,
    /// The most that one call may cost.
    pub per_call: Amount,
    /// The most that may be spent in all.
    pub total: Amount,
    /// Models that may be called, ascending, at most [`MAX_SESSION_MODELS`]; none means every model.
    pub models: Vec<ModelId>,
    /// Last millisecond (Unix time) at which the session may spend.
    pub expires_ms: u64,
}
canonical_struct!(SessionGrant {
    chain_id: u64,
    owner: Address,
    session: Address,
    serial: u64,
    per_call: Amount,
    total: Amount,
    models: Vec<ModelId>,
    expires_ms: u64,
});

impl SessionGrant {
    /// Whether the session may call a model.
    pub fn allows(&self, model: ModelId) -> bool {
        self.models.is_empty() || self.models.contains(&model)
    }
}

impl TypedData for SessionGrant {
    const TYPE: &'static str = "SessionGrant(uint64 chainId,address owner,address session,uint64 serial,\
        uint128 perCall,uint128 total,bytes32[] models,uint64 expiresMs)";

    fn fields(&self, f: &mut Fields) {
        f.uint(self.chain_id.into())
            .address(self.owner)
            .address(self.session)
            .uint(self.serial.into())
            .amount(self.per_call)
            .amount(self.total)
            .words(self.models.iter().map(|model| &model.0))
            .uint(self.expires_ms.into());
    }
}

impl Signable for SessionGrant {
    fn chain_id(&self) -> u64 {
        self.chain_id
    }
    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
    fn signer(&self) -> Address {
        self.owner
    }
}
