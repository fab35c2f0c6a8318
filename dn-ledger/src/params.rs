//! The chain's parameters: typed, bounded, set by the genesis and changed by governance.

mod governance;

mod registry;

mod beacon;
mod dispute;
mod feedback;
mod quality;

use dn_core::{Amount, canonical_struct, wide};
use serde::{Deserialize, Serialize};

pub use governance::{GovernanceParams, MAX_OPEN_PROPOSALS, StakingParams};
pub use registry::{EmissionBounds, RegistryParams};

use crate::tx::{MAX_TX_BYTES, Role};

pub use beacon::BeaconParams;
pub use dispute::DisputeParams;
pub use feedback::FeedbackParams;
pub(crate) use quality::MAX_SETTLED_PER_BLOCK;
pub use quality::QualityParams;

/// The most that a transaction may be made to pay for each KiB: a hundredth of a DN.
pub const MAX_TX_FEE: Amount = Amount::from_atto(10_000_000_000_000_000);

/// Why parameters are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// A number outside its bounds.
    #[error("parameter `{name}` is {found}; between {min} and {max} expected")]
    OutOfBounds {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: u128,
        /// Its least value.
        min: u128,
        /// Its greatest value.
        max: u128,
    },
    /// A constant of the trust formulas.
    #[error("trust: {0}")]
    Trust(#[from] dn_trust::ParamError),
    /// A split of fees, emission or slashes.
    #[error(transparent)]
    Split(#[from] dn_powr::SplitError),
    /// A constant of committees.
    #[error("quality: {0}")]
    Review(#[from] dn_powr::ReviewError),
    /// A constant of emission.
    #[error("emission: {0}")]
    Emission(#[from] dn_powr::EmissionError),
}

/// Smallest collateral of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Collaterals {
    /// Of a worker.
    pub worker: Amount,
    /// Of a validator.
    pub validator: Amount,
    /// Of a model owner.
    pub model_owner: Amount,
    /// Of a gateway.
    pub gateway: Amount,
}
canonical_struct!(Collaterals { worker: Amount, validator: Amount, model_owner: Amount, gateway: Amount });

impl Collaterals {
    /// The smallest collateral of a role.
    pub const fn of(&self, role: Role) -> Amount {
        match role {
            Role::Worker => self.worker,
            Role::Validator => self.validator,
            Role::ModelOwner => self.model_owner,
            Role::Gateway => self.gateway,
        }
    }
}

/// Deadlines of audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditTimes {
    /// Blocks from a batch's draw to its settlement when no audit is open.
    pub window_blocks: u64,
    /// Blocks that an auditor has to commit.
    pub commit_blocks: u64,
    /// Blocks from the end of the commit phase to the reveal deadline.
    pub reveal_blocks: u64,
    /// The most audits drawn from one batch.
    pub max_per_batch: u32,
}
canonical_struct!(AuditTimes {
    window_blocks: u64,
    commit_blocks: u64,
    reveal_blocks: u64,
    max_per_batch: u32
});

/// Everything that the rules are parametrised by. Part of the genesis; governance changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Blocks of an epoch.
    pub epoch_blocks: u64,
    /// How much later than its parent a block is at least. With the validators' bound on clocks, no chain is faster for long; what is
    /// said in blocks therefore takes at least that long.
    ///
    /// # Units
    /// Milliseconds.
    pub min_block_ms: u64,
    /// Most transactions of a block.
    pub max_block_txs: u32,
    /// Most bytes of a block's transactions.
    pub max_block_bytes: u32,
    /// Smallest fee of a transaction, for each KiB that it has begun.
    pub min_tx_fee: Amount,
    /// How many blocks ahead a transaction may expire.
    pub max_expiry_blocks: u64,
    /// Smallest collaterals.
    pub collateral: Collaterals,
    /// Burned at each registration.
    pub registration_fee: Amount,
    /// Smallest stake added at once.
    pub min_stake: Amount,
    /// Most validators that decide blocks.
    pub max_validators: u32,
    /// Most workers, and most validators: an epoch's end goes through all of them in one block.
    pub max_in_role: u32,
    /// Epochs until unbonded stake and retired collateral are free.
    pub unbonding_epochs: u64,
    /// The fewest that they may ever be. No proposal changes it: light clients, which know the genesis and not what was voted since, take
    /// from it how long a header vouches.
    pub min_unbonding_epochs: u64,
    /// Highest price of a token.
    pub max_token_price: Amount,
    /// Blocks in which batches of a retired model or by a withdrawn offer are still taken.
    pub model_grace_blocks: u64,
    /// Smallest deposit of a channel.
    pub min_deposit: Amount,
    /// Blocks between closing and finishing a channel.
    pub channel_close_blocks: u64,
    /// Most lanes of a channel.
    pub max_lanes: u32,
    /// Most lines of a batch.
    pub max_batch_lines: u32,
    /// Most receipts of a batch.
    pub max_batch_receipts: u32,
    /// Deadlines of audits.
    pub audit_times: AuditTimes,
    /// How often is audited.
    pub audit_rate: dn_trust::AuditParams,
    /// What offences cost.
    pub slash: dn_powr::SlashParams,
    /// How fees are split.
    pub fees: dn_powr::FeeSplit,
    /// How emission decays and what bounds it.
    pub emission: dn_powr::EmissionParams,
    /// How a domain's emission is split.
    pub domain_split: dn_powr::DomainSplit,
    /// Constants of the trust formulas.
    pub trust: dn_trust::Params,
    /// Domains, lineage, backing and job escrow.
    pub registry: RegistryParams,
    /// Rules of stake pools.
    pub staking: StakingParams,
    /// Rules of proposals.
    pub governance: GovernanceParams,
    /// How claimed mismatches are decided.
    pub dispute: DisputeParams,
    /// Where randomness comes from.
    pub beacon: BeaconParams,
    /// How committees score models.
    pub quality: QualityParams,
    /// What payers' feedback counts for.
    pub feedback: FeedbackParams,
}
canonical_struct!(Params {
    epoch_blocks: u64,
    min_block_ms: u64,
    max_block_txs: u32,
    max_block_bytes: u32,
    min_tx_fee: Amount,
    max_expiry_blocks: u64,
    collateral: Collaterals,
    registration_fee: Amount,
    min_stake: Amount,
    max_validators: u32,
    max_in_role: u32,
    unbonding_epochs: u64,
    min_unbonding_epochs: u64,
    max_token_price: Amount,
    model_grace_blocks: u64,
    min_deposit: Amount,
    channel_close_blocks: u64,
    max_lanes: u32,
    max_batch_lines: u32,
    max_batch_receipts: u32,
    audit_times: AuditTimes,
    audit_rate: dn_trust::AuditParams,
    slash: dn_powr::SlashParams,
    fees: dn_powr::FeeSplit,
    emission: dn_powr::EmissionParams,
    domain_split: dn_powr::DomainSplit,
    trust: dn_trust::Params,
    registry: RegistryParams,
    staking: StakingParams,
    governance: GovernanceParams,
    dispute: DisputeParams,
    beacon: BeaconParams,
    quality: QualityParams,
    feedback: FeedbackParams,
});

impl Params {
    /// Parameters of a local network: epochs and deadlines of seconds, small bonds.
    pub fn devnet() -> Self {
        Self {
            epoch_blocks: 20,
            min_block_ms: 1,
            max_block_txs: 2_000,
            max_block_bytes: 4 * 1024 * 1024,
            min_tx_fee: Amount::from_atto(1_000_000_000_000_000),
            max_expiry_blocks: 1_000,
            collateral: Collaterals {
                worker: Amount::from_dn(100),
                validator: Amount::from_dn(1_000),
                model_owner: Amount::from_dn(10),
                gateway: Amount::from_dn(100),
            },
            registration_fee: Amount::from_dn(1),
            min_stake: Amount::from_dn(1),
            max_validators: 100,
            max_in_role: 5_000,
            unbonding_epochs: 42,
            min_unbonding_epochs: 2,
            max_token_price: Amount::from_dn(1),
            model_grace_blocks: 100,
            min_deposit: Amount::from_atto(10_000_000_000_000_000),
            channel_close_blocks: 50,
            max_lanes: 256,
            max_batch_lines: 256,
            max_batch_receipts: 4_096,
            audit_times: AuditTimes {
                window_blocks: 10,
                commit_blocks: 120,
                reveal_blocks: 60,
                max_per_batch: 64,
            },
            audit_rate: dn_trust::AuditParams::default(),
            slash: dn_powr::SlashParams::default(),
            fees: dn_powr::FeeSplit::default(),
            // Epochs last seconds and models are small: a shorter half-life, a price that tiny work reaches.
            emission: dn_powr::EmissionParams {
                half_life_epochs: 100_000,
                reference_price: Amount::from_dn(1_000),
            },
            domain_split: dn_powr::DomainSplit::default(),
            // A unit of evidence is 10^8 operations, so that a small model's answers count; records move faster, and
            // a failure still costs several passes.
            trust: dn_trust::Params {
                work_unit: 100_000_000,
                history_gain: 1 << 11,
                history_loss: 1 << 13,
                ..dn_trust::Params::default()
            },
            registry: RegistryParams::devnet(),
            staking: StakingParams::devnet(),
            governance: GovernanceParams::devnet(),
            dispute: DisputeParams::devnet(),
            beacon: BeaconParams::devnet(),
            quality: QualityParams::devnet(),
            feedback: FeedbackParams::devnet(),
        }
    }

    /// Parameters of several validators on one machine: as of a local network, with what a public chain has too: randomness that no
    /// proposer chooses, disputes that a referee decides, committees that score models.
    pub fn local() -> Self {
        Self {
            dispute: DisputeParams { referee: 1, ..DisputeParams::devnet() },
            beacon: BeaconParams { required: true, ..BeaconParams::devnet() },
            quality: QualityParams { max_rounds: 4, ..QualityParams::devnet() },
            ..Self::devnet()
        }
    }

    /// Parameters of a main network with a block a second: hourly epochs, unbonding of seven days, bonds that are worth
    /// something.
    pub fn main() -> Self {
        Self {
            epoch_blocks: 3_600,
            min_block_ms: 1_000,
            max_block_txs: 10_000,
            max_expiry_blocks: 3_600,
            collateral: Collaterals {
                worker: Amount::from_dn(500),
                validator: Amount::from_dn(10_000),
                model_owner: Amount::from_dn(100),
                gateway: Amount::from_dn(1_000),
            },
            registration_fee: Amount::from_dn(5),
            unbonding_epochs: 168,
            min_unbonding_epochs: 168,
            model_grace_blocks: 3_600,
            channel_close_blocks: 3_600,
            audit_times: AuditTimes {
                window_blocks: 600,
                commit_blocks: 600,
                reveal_blocks: 300,
                max_per_batch: 64,
            },
            emission: dn_powr::EmissionParams::default(),
            registry: RegistryParams::main(),
            // No public chain decides disputes by weight, or draws by what a proposer can choose.
            dispute: DisputeParams { referee: 1, ..DisputeParams::devnet() },
            beacon: BeaconParams::main(),
            quality: QualityParams::main(),
            // The design's constants, which the studies of docs/economics.md are of; a local network lives faster.
            trust: dn_trust::Params::default(),
            staking: StakingParams::main(),
            governance: GovernanceParams::main(),
            ..Self::devnet()
        }
    }

    /// The highest mean fee of a line's receipts, and the highest fee of a job, that a worker with this collateral, and this bond on the job, is paid:
    /// more, and a cheat that is seen by the least audit rate would gain. None where everything is audited.
    ///
    /// With batches open, of the collateral only what will probably be left if it cheats in those too: each proven fraud takes its part of what the ones
    /// before have left, so that many cheats at once would gain in proportion and lose less.
    pub fn max_mean_fee(&self, collateral: Amount, bond: Amount, open_batches: u64) -> Option<Amount> {
        let whole = u128::from(dn_powr::BPS);
        let floor = u128::from(self.audit_rate.floor).min(whole);
        let gained = (whole - floor) * u128::from(self.fees.worker);
        let collateral = self.left_after(collateral, open_batches);
        // What fraud costs, in atto times basis points; amounts beyond the supply saturate.
        let part = |amount: Amount, bps: u16| amount.atto().saturating_mul(bps.into());
        let (of_collateral, of_bond) =
            (part(collateral, self.slash.fraud_collateral), part(bond, self.slash.fraud_bond));
        let lost = Amount::from_atto(of_collateral.saturating_add(of_bond));
        // A fee beyond 128 bits is no bound.
        if gained == 0 { None } else { lost.mul_div(floor, gained).ok() }
    }

    /// What is left on average, rounded down, of a collateral when each of so many batches is a fraud that is seen by the least audit rate:
    /// `collateral · (1 - floor · part)^batches`.
    fn left_after(&self, collateral: Amount, batches: u64) -> Amount {
        const ONE: u128 = 1 << 64;
        let whole = u128::from(dn_powr::BPS) * u128::from(dn_powr::BPS);
        let lost = u128::from(self.audit_rate.floor) * u128::from(self.slash.fraud_collateral);
        let times = |a: u128, b: u128| wide::mul_div(a, b, ONE).unwrap_or(0);
        // Halves the number of batches and squares the factor; both at most one.
        let (mut factor, mut batches, mut left) = (ONE * whole.saturating_sub(lost) / whole, batches, ONE);
        while batches > 0 && left > 0 {
            if batches % 2 == 1 {
                left = times(left, factor);
            }
            (factor, batches) = (times(factor, factor), batches / 2);
        }
        Amount::from_atto(times(collateral.atto(), left))
    }

    /// The shortest time in which stake that backed a block is free, whatever is voted: that of the last block of a set,
    /// `beacon.delay_blocks` after an epoch's end, whose stake left in the epoch's last block. What it is made of is changed by no proposal, or taken at
    /// its bound.
    ///
    /// # Units
    /// Milliseconds.
    pub const fn unbonding_ms(&self) -> u64 {
        let blocks = self.epoch_blocks.saturating_mul(self.min_unbonding_epochs.saturating_sub(1));
        blocks.saturating_sub(beacon::MAX_DELAY).saturating_mul(self.min_block_ms)
    }

    /// The most blocks from a batch to the last slash that its audits can come to: the draw, an auditor that is silent at the last moment, another one
    /// that accuses at the last moment, and then the validators' vote or the dispute. Who posts, countersigns or accuses and leaves at once must
    /// be in reach for as long.
    pub const fn longest_audit_blocks(&self) -> u64 {
        let times = &self.audit_times;
        let audit = times.commit_blocks + times.reveal_blocks;
        let accused = self.beacon.delay_blocks + (audit + 1) + audit;
        // What no tile shows is voted on when the dispute would have been opened.
        let vote = audit + 1;
        if self.dispute.referee == 0 {
            return accused + vote;
        }
        let (opened, dispute) = (self.dispute.open_blocks + vote, self.dispute.longest_blocks());
        accused + if opened > dispute { opened } else { dispute }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`ParamsError`] names the first parameter that is out of bounds.
    pub fn validate(&self) -> Result<(), ParamsError> {
        let million = 1_000_000;
        within("epoch_blocks", self.epoch_blocks.into(), 2, million)?;
        within("min_block_ms", self.min_block_ms.into(), 1, 600_000)?;
        within("max_block_txs", self.max_block_txs.into(), 1, 100_000)?;
        // Room for the largest transaction at least.
        within("max_block_bytes", self.max_block_bytes.into(), MAX_TX_BYTES as u128, 64 * 1024 * 1024)?;
        // For each KiB: a dispute takes tens of them, and whoever proves a fraud must not be poorer for it.
        within("min_tx_fee", self.min_tx_fee.atto(), 0, MAX_TX_FEE.atto())?;
        within("max_expiry_blocks", self.max_expiry_blocks.into(), 1, million)?;
        for role in Role::ALL {
            within_dn("collateral", self.collateral.of(role), 1, 1_000_000)?;
        }
        within_dn("registration_fee", self.registration_fee, 0, 10_000)?;
        within_dn("min_stake", self.min_stake, 1, 10_000)?;
        within("max_validators", self.max_validators.into(), 1, 1_000)?;
        within("max_in_role", self.max_in_role.into(), 1, 20_000)?;
        // Two: what is signed in an epoch can be reported in the next one.
        within("min_unbonding_epochs", self.min_unbonding_epochs.into(), 2, 10_000)?;
        within("unbonding_epochs", self.unbonding_epochs.into(), self.min_unbonding_epochs.into(), 10_000)?;
        within_dn("max_token_price", self.max_token_price, 1, 1_000)?;
        within("model_grace_blocks", self.model_grace_blocks.into(), 0, million)?;
        within_dn("min_deposit", self.min_deposit, 1, 1_000)?;
        within("channel_close_blocks", self.channel_close_blocks.into(), 1, million)?;
        within("max_lanes", self.max_lanes.into(), 1, 4_096)?;
        within("max_batch_lines", self.max_batch_lines.into(), 1, 1_024)?;
        within("max_batch_receipts", self.max_batch_receipts.into(), 1, 65_536)?;
        within("window_blocks", self.audit_times.window_blocks.into(), 1, million)?;
        within("commit_blocks", self.audit_times.commit_blocks.into(), 1, million)?;
        within("reveal_blocks", self.audit_times.reveal_blocks.into(), 1, million)?;
        within("max_per_batch", self.audit_times.max_per_batch.into(), 1, 4_096)?;
        self.registry.validate()?;
        self.staking.validate()?;
        self.governance.validate()?;
        let bonded_blocks = self.epoch_blocks.saturating_mul(self.unbonding_epochs - 1);
        self.dispute.validate(bonded_blocks)?;
        self.beacon.validate(self.epoch_blocks)?;
        within("audits (longest)", self.longest_audit_blocks().into(), 1, bonded_blocks.into())?;
        self.quality.validate(self.epoch_blocks)?;
        self.feedback.validate()?;
        self.slash.validate()?;
        self.fees.validate()?;
        self.emission.validate()?;
        self.domain_split.validate()?;
        self.audit_rate.validate()?;
        Ok(self.trust.validate()?)
    }
}

/// Checks an amount: at least so many atto, at most so many DN. What anybody must pay or lock to take part is never more than a
/// hundredth of the supply, and what every transaction costs never more than a DN.
fn within_dn(name: &'static str, found: Amount, min_atto: u128, max_dn: u64) -> Result<(), ParamsError> {
    within(name, found.atto(), min_atto, Amount::from_dn(max_dn).atto())
}

/// A part of what a pool holds, rounded down.
fn part_of_pool(held: Amount, bps: u16) -> Amount {
    held.mul_div(bps.into(), dn_powr::BPS.into()).expect("a part of a pool is within the supply")
}

fn within(name: &'static str, found: u128, min: u128, max: u128) -> Result<(), ParamsError> {
    let ok = (min..=max).contains(&found);
    if ok { Ok(()) } else { Err(ParamsError::OutOfBounds { name, found, min, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A light client that knows the genesis trusts no header for longer than the bond behind it stays, whatever is voted.
    #[test]
    fn no_vote_frees_stake_before_a_light_client_expects_it() {
        for genesis in [
            Params::main(),
            Params { epoch_blocks: 200, min_unbonding_epochs: 3, min_block_ms: 50, ..Params::local() },
        ] {
            let mut tried = 0;
            for (unbonding_epochs, delay_blocks) in [1, 2, 3, 5, 24, 100, 167, 168, 169, 10_000]
                .into_iter()
                .flat_map(|u| [1, 19, 64].map(|d| (u, d)))
            {
                let mut voted = Params { unbonding_epochs, ..genesis.clone() };
                voted.beacon.delay_blocks = delay_blocks;
                if voted.validate().is_err() {
                    continue;
                }
                tried += 1;
                // From the last block that stake may back to the first of the epoch in which it is free.
                let blocks = voted.epoch_blocks * (unbonding_epochs - 1) + 1 - delay_blocks;
                assert!(
                    blocks * voted.min_block_ms > genesis.unbonding_ms(),
                    "{unbonding_epochs}, {delay_blocks}"
                );
            }
            assert!(tried > 5, "{tried}");
        }
    }

    #[test]
    fn no_audit_outlasts_a_bond() {
        // By hand: of 10 blocks to commit and 5 to reveal, drawn after 2.
        let mut params = Params::devnet();
        (params.audit_times.commit_blocks, params.audit_times.reveal_blocks) = (10, 5);
        params.beacon.delay_blocks = 2;
        assert_eq!(params.longest_audit_blocks(), 2 + (15 + 1) + 15 + (15 + 1));
        let mut judged = params.clone();
        (judged.dispute.referee, judged.dispute.open_blocks, judged.dispute.clock_blocks) = (1, 7, 90);
        assert_eq!(judged.longest_audit_blocks(), 2 + (15 + 1) + 15 + (7 + 2 * 90 + 1));
        judged.audit_times.commit_blocks = 400;
        assert_eq!(judged.longest_audit_blocks(), 2 + (405 + 1) + 405 + 7 + (405 + 1));
        // Three epochs of which the last block of the first one sees two: 48 blocks, one less than it takes.
        (params.epoch_blocks, params.unbonding_epochs) = (24, 3);
        assert_eq!(
            params.validate(),
            Err(ParamsError::OutOfBounds { name: "audits (longest)", found: 49, min: 1, max: 48 })
        );
        params.audit_times.reveal_blocks = 4;
        assert_eq!((params.longest_audit_blocks(), params.validate()), (46, Ok(())));
    }

    #[test]
    fn the_preset_is_valid_and_bounds_are_checked() {
        assert_eq!(Params::main().validate(), Ok(()));
        assert_eq!(Params::local().validate(), Ok(()));
        for params in [Params::main(), Params::local()] {
            assert!(params.beacon.required && params.dispute.referee > 0 && params.quality.max_rounds > 0);
        }
        let preset = Params::devnet();
        assert_eq!(preset.validate(), Ok(()));
        let long = Params { epoch_blocks: 0, ..preset.clone() };
        assert_eq!(
            long.validate(),
            Err(ParamsError::OutOfBounds { name: "epoch_blocks", found: 0, min: 2, max: 1_000_000 })
        );
        let mut greedy = preset;
        greedy.slash.reporter = 9_000;
        assert!(matches!(greedy.validate(), Err(ParamsError::Split(_))));
    }
}
