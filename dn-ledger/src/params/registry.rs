//! Parameters of domains, lineage, backing and job escrow.

use dn_core::wide::mul_div;
use dn_core::{Amount, canonical_struct};
use dn_powr::{FeeBounds, Range};
use serde::{Deserialize, Serialize};

use super::{ParamsError, part_of_pool, within, within_dn};

/// How far a domain's owner moves the weights of emission. The treasury's and the foundation's bounds are
/// [`dn_powr::DomainSplit`]'s own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EmissionBounds {
    /// Of the workers' weight.
    pub workers: Range,
    /// Of the validators' weight.
    pub validators: Range,
    /// Of the stakers' weight.
    pub stakers: Range,
    /// Of the creators' weight.
    pub creators: Range,
}
canonical_struct!(EmissionBounds { workers: Range, validators: Range, stakers: Range, creators: Range });

/// Parameters of domains, lineage, backing and job escrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegistryParams {
    /// Most domains that are open at once.
    pub max_domains: u32,
    /// Burned when a domain is created.
    pub domain_fee: Amount,
    /// Locked as long as a domain is open.
    pub domain_deposit: Amount,
    /// The part of a treasury that its owner may spend in one epoch, in basis points.
    pub treasury_spend_bps: u16,
    /// How far a domain or a model moves the first four shares of a fee.
    pub fee_bounds: FeeBounds,
    /// How far a domain moves the weights of emission.
    pub emission_bounds: EmissionBounds,
    /// The most that a model grants all its parents together, in basis points of its owner's income.
    pub max_royalty_bps: u16,
    /// Most ancestors that a model pays.
    pub max_royalty_payees: u32,
    /// Most versions of a model family.
    pub max_versions: u32,
    /// The most that backers get, in basis points of the owner's income.
    pub max_backers_bps: u16,
    /// Smallest backing, both added at once and left in the pool.
    pub min_backing: Amount,
    /// Epochs until backing that was taken back is free.
    pub unbacking_epochs: u64,
    /// Smallest amount locked for a job.
    pub min_job: Amount,
    /// How many blocks ahead a job may expire.
    pub max_job_blocks: u64,
    /// Most jobs refunded in one block; the rest follows in the next.
    pub max_job_refunds: u32,
    /// What work of models that are not exact counts for, in basis points of exact work: it is paid for, but nobody audits it.
    pub inexact_work_bps: u16,
    /// Blocks from the commitment to a model until it can be published; zero asks for no commitment.
    pub commit_blocks: u64,
}
canonical_struct!(RegistryParams {
    max_domains: u32,
    domain_fee: Amount,
    domain_deposit: Amount,
    treasury_spend_bps: u16,
    fee_bounds: FeeBounds,
    emission_bounds: EmissionBounds,
    max_royalty_bps: u16,
    max_royalty_payees: u32,
    max_versions: u32,
    max_backers_bps: u16,
    min_backing: Amount,
    unbacking_epochs: u64,
    min_job: Amount,
    max_job_blocks: u64,
    max_job_refunds: u32,
    inexact_work_bps: u16,
    commit_blocks: u64,
});

impl RegistryParams {
    /// Parameters of a local network.
    pub fn devnet() -> Self {
        let free = Range { min: 0, max: 9_900 };
        Self {
            max_domains: 64,
            domain_fee: Amount::from_dn(10),
            domain_deposit: Amount::from_dn(100),
            treasury_spend_bps: 2_000,
            fee_bounds: FeeBounds::default(),
            emission_bounds: EmissionBounds {
                workers: free,
                validators: free,
                stakers: free,
                creators: free,
            },
            max_royalty_bps: 5_000,
            max_royalty_payees: 16,
            max_versions: 64,
            max_backers_bps: 8_000,
            min_backing: Amount::from_dn(1),
            unbacking_epochs: 24,
            min_job: Amount::from_atto(10_000_000_000_000_000),
            max_job_blocks: 100_000,
            max_job_refunds: 256,
            inexact_work_bps: 2_500,
            commit_blocks: 0,
        }
    }

    /// Parameters of a main network: dearer domains, a week until backing is free, jobs of up to a month of seconds.
    pub fn main() -> Self {
        Self {
            domain_fee: Amount::from_dn(1_000),
            domain_deposit: Amount::from_dn(10_000),
            treasury_spend_bps: 100,
            unbacking_epochs: 168,
            max_job_blocks: 2_592_000,
            min_backing: Amount::from_dn(10),
            // Longer than one proposer, or the largest alone, can hold a publication back.
            commit_blocks: 32,
            ..Self::devnet()
        }
    }

    /// The most of its treasury that a domain's owner spends in an epoch.
    pub(crate) fn spend_limit(&self, held: Amount) -> Amount {
        part_of_pool(held, self.treasury_spend_bps)
    }

    /// The part of paid work that counts when it is not exact, rounded down.
    ///
    /// # Units
    /// Verified work units.
    pub(crate) fn inexact_work(&self, counted: u128) -> u128 {
        let part = mul_div(counted, self.inexact_work_bps.into(), dn_powr::BPS.into());
        part.expect("a part is no more than the whole")
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`ParamsError::OutOfBounds`] names the first parameter that is out of bounds.
    pub fn validate(&self) -> Result<(), ParamsError> {
        let whole = u128::from(dn_powr::BPS);
        within("max_domains", self.max_domains.into(), 1, 1_024)?;
        within_dn("domain_fee", self.domain_fee, 0, 1_000_000)?;
        within_dn("domain_deposit", self.domain_deposit, 0, 1_000_000)?;
        within("treasury_spend_bps", self.treasury_spend_bps.into(), 0, whole)?;
        let (fees, emission) = (&self.fee_bounds, &self.emission_bounds);
        let ranges = [
            ("fee_bounds", [fees.worker, fees.owner, fees.validators, fees.domain]),
            ("emission_bounds", [emission.workers, emission.validators, emission.stakers, emission.creators]),
        ];
        for (name, ranges) in ranges {
            for range in ranges {
                within(name, range.max.into(), range.min.into(), whole)?;
            }
        }
        within("max_royalty_bps", self.max_royalty_bps.into(), 0, whole)?;
        within("max_royalty_payees", self.max_royalty_payees.into(), 0, 64)?;
        within("max_versions", self.max_versions.into(), 1, 256)?;
        within("max_backers_bps", self.max_backers_bps.into(), 0, whole)?;
        within_dn("min_backing", self.min_backing, 1, 10_000)?;
        within("unbacking_epochs", self.unbacking_epochs.into(), 1, 10_000)?;
        within_dn("min_job", self.min_job, 1, 1_000)?;
        within("max_job_blocks", self.max_job_blocks.into(), 1, 100_000_000)?;
        within("max_job_refunds", self.max_job_refunds.into(), 1, 4_096)?;
        within("inexact_work_bps", self.inexact_work_bps.into(), 0, whole / 2)?;
        within("commit_blocks", self.commit_blocks.into(), 0, 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preset_is_valid_and_bounds_are_checked() {
        let preset = RegistryParams::devnet();
        assert_eq!(preset.validate(), Ok(()));
        let name = |params: RegistryParams| match params.validate() {
            Err(ParamsError::OutOfBounds { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name(RegistryParams { max_domains: 0, ..preset }), "max_domains");
        assert_eq!(name(RegistryParams { max_royalty_payees: 65, ..preset }), "max_royalty_payees");
        assert_eq!(name(RegistryParams { min_backing: Amount::ZERO, ..preset }), "min_backing");
        assert_eq!(name(RegistryParams { inexact_work_bps: 5_001, ..preset }), "inexact_work_bps");
        assert_eq!(preset.inexact_work(u128::MAX), u128::MAX / 4);
        assert_eq!([0, 3, 4, 40_007].map(|work| preset.inexact_work(work)), [0, 0, 1, 10_001]);
        assert_eq!(name(RegistryParams { commit_blocks: 1_001, ..preset }), "commit_blocks");
        let mut upside_down = preset;
        upside_down.fee_bounds.owner = Range { min: 2, max: 1 };
        assert_eq!(name(upside_down), "fee_bounds");
        upside_down = preset;
        upside_down.emission_bounds.creators.max = 10_001;
        assert_eq!(name(upside_down), "emission_bounds");
    }
}
