//! Parameters of feedback.

use dn_core::{Amount, canonical_struct};
use serde::{Deserialize, Serialize};

use super::{ParamsError, within_dn};

/// What payers' feedback counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FeedbackParams {
    /// The fee of a receipt from which feedback on it counts in full; less counts in proportion. No payer counts for more than one in full
    /// for a model and an epoch.
    pub full_fee: Amount,
}
canonical_struct!(FeedbackParams { full_fee: Amount });

impl FeedbackParams {
    /// Of a local network.
    pub const fn devnet() -> Self {
        Self { full_fee: Amount::from_atto(10_000_000_000_000_000) }
    }

    /// Checks the bounds.
    pub(super) fn validate(&self) -> Result<(), ParamsError> {
        within_dn("feedback.full_fee", self.full_fee, 1, 1_000)
    }
}
