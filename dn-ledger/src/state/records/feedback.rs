//! Feedback of payers.

use dn_core::{Address, Amount, Hash32, ModelId, canonical_struct};
use dn_trust::ModelTrust;

/// One payer's feedback on one receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackRecord {
    /// Who computed the answer.
    pub worker: Address,
    /// With which model.
    pub model: ModelId,
    /// Who paid.
    pub payer: Address,
    /// Who signed: the payer or its spender.
    pub signer: Address,
    /// What was paid.
    pub fee: Amount,
    /// From 0 to 100.
    pub score: u8,
    /// A word for what was scored.
    pub tag: String,
    /// Hash of a longer text; zero where there is none.
    pub uri_hash: Hash32,
    /// When it came.
    pub height: u64,
}
canonical_struct!(FeedbackRecord {
    worker: Address,
    model: ModelId,
    payer: Address,
    signer: Address,
    fee: Amount,
    score: u8,
    tag: String,
    uri_hash: Hash32,
    height: u64,
});

/// Trust in a model as its last epoch with work or feedback left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedModel {
    /// The trust.
    pub trust: ModelTrust,
    /// The first epoch that is not in it.
    pub from_epoch: u64,
    /// How many epochs its domain had had paid work in by then.
    pub busy_epochs: u64,
}
canonical_struct!(TrustedModel { trust: ModelTrust, from_epoch: u64, busy_epochs: u64 });

/// What the models of a domain are compared with in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassEpoch {
    /// The lower median of their paid work, in verified work units; 0 where there was none.
    pub median: u128,
    /// How many epochs the domain had had paid work in before.
    pub busy_epochs: u64,
}
canonical_struct!(ClassEpoch { median: u128, busy_epochs: u64 });

/// All feedback on a worker or a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reputation {
    /// How many.
    pub count: u64,
    /// Their scores' sum.
    pub total: u64,
}
canonical_struct!(Reputation { count: u64, total: u64 });

impl Reputation {
    /// Adds a score.
    pub fn add(&mut self, score: u8) {
        self.count = self.count.saturating_add(1);
        self.total = self.total.saturating_add(score.into());
    }

    /// The mean score, rounded down; none without feedback.
    pub fn average(&self) -> Option<u8> {
        let mean = self.total.checked_div(self.count)?;
        u8::try_from(mean).ok()
    }
}

/// What a payer's feedback on a model has counted in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The epoch.
    pub epoch: u64,
    /// Weight so far, Q16.
    pub weight: u64,
}
canonical_struct!(Heard { epoch: u64, weight: u64 });
