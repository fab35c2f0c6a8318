//! Records of commissions and sessions.

use dn_core::{Amount, ModelId, canonical_struct};
use serde::{Deserialize, Serialize};

/// An announced raise of a commission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommissionRaise {
    /// The new rate, in basis points.
    pub rate: u16,
    /// The first epoch whose reward it is taken from.
    pub from_epoch: u64,
}
canonical_struct!(CommissionRaise { rate: u16, from_epoch: u64 });

/// A validator's commission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Commission {
    /// The rate before `next`, in basis points.
    pub rate: u16,
    /// What was announced.
    pub next: Option<CommissionRaise>,
}
canonical_struct!(Commission { rate: u16, next: Option<CommissionRaise> });

impl Commission {
    /// The rate in an epoch, in basis points.
    pub fn at(&self, epoch: u64) -> u16 {
        self.next.filter(|next| next.from_epoch <= epoch).map_or(self.rate, |next| next.rate)
    }
}

/// What an owner lets a session key spend; grants up to `serial` are used or void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The newest grant, or the newest that was taken back.
    pub serial: u64,
    /// When the owner took it back: last height at which claims are taken.
    pub until_height: Option<u64>,
    /// The most that one call may cost.
    pub per_call: Amount,
    /// The most that may be spent in all.
    pub total: Amount,
    /// Claimed by vouchers of the session key; what a voided batch gives back stays counted.
    pub spent: Amount,
    /// Models that may be called; none means every model.
    pub models: Vec<ModelId>,
    /// Last millisecond at which it may spend.
    pub expires_ms: u64,
}
canonical_struct!(Session {
    serial: u64,
    until_height: Option<u64>,
    per_call: Amount,
    total: Amount,
    spent: Amount,
    models: Vec<ModelId>,
    expires_ms: u64,
});

impl Session {
    /// Whether nothing more can be claimed.
    pub fn is_over(&self, height: u64, now_ms: u64) -> bool {
        now_ms > self.expires_ms || self.until_height.is_some_and(|until| height > until)
    }
}
