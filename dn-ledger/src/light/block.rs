//! A header with everything that proves it.

use dn_core::canonical_struct;
use serde::{Deserialize, Serialize};

use crate::block::{Certificate, Header};
use crate::validators::ValidatorSet;

use super::client::LightError;

/// A decided header, who decided it, and who decides the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LightBlock {
    /// The header.
    pub header: Header,
    /// Who stands for it; empty for the genesis.
    pub certificate: Certificate,
    /// The set that decided it.
    pub validators: ValidatorSet,
    /// The set that decides the next block; none when it is the same.
    pub next_validators: Option<ValidatorSet>,
}
canonical_struct!(LightBlock {
    header: Header,
    certificate: Certificate,
    validators: ValidatorSet,
    next_validators: Option<ValidatorSet>,
});

impl LightBlock {
    /// Puts together what belongs together.
    pub fn new(
        header: Header,
        certificate: Certificate,
        validators: ValidatorSet,
        next: ValidatorSet,
    ) -> Self {
        let next_validators = (next != validators).then_some(next);
        Self { header, certificate, validators, next_validators }
    }

    /// Who decides the next block.
    pub fn next_set(&self) -> &ValidatorSet {
        self.next_validators.as_ref().unwrap_or(&self.validators)
    }

    /// Checks that the sets are those of the header.
    pub(super) fn check_sets(&self) -> Result<(), LightError> {
        let height = self.header.height;
        let check = |field, expected, set: &ValidatorSet| {
            let found = set.hash();
            if found == expected { Ok(()) } else { Err(LightError::Set { height, field, expected, found }) }
        };
        check("validators", self.header.validators, &self.validators)?;
        check("next_validators", self.header.next_validators, self.next_set())
    }
}
