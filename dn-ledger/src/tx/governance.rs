//! Proposals, votes, and the parameters that a proposal can change.

use dn_core::{Address, Amount, Hash32, canonical_enum};
use serde::{Deserialize, Serialize};

use crate::params::{EmissionBounds, Params};
use crate::state::Pool;

/// The most bytes of a proposal's title.
pub const MAX_TITLE_BYTES: usize = 128;

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// For it.
    Yes,
    /// Against it.
    No,
    /// Counts for the quorum only.
    Abstain,
    /// Against it, and the deposit should burn.
    NoWithVeto,
}
canonical_enum!(Choice { 0 => Yes {}, 1 => No {}, 2 => Abstain {}, 3 => NoWithVeto {} });

impl Choice {
    /// Every choice, in the order of their tags.
    pub const ALL: [Self; 4] = [Self::Yes, Self::No, Self::Abstain, Self::NoWithVeto];
}

/// What a proposal does when it has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProposalKind {
    /// Nothing: a statement.
    Text {},
    /// Changes parameters, all together or not at all.
    Params {
        /// The changes, in order.
        changes: Vec<ParamChange>,
    },
    /// Pays out of the reserve, the foundation or the treasury of a domain that nobody owns.
    Spend {
        /// Out of which.
        pool: Pool,
        /// To whom.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// From a height on, blocks need software that knows the upgrade.
    Upgrade {
        /// Its name.
        name: String,
        /// Hash of the version, such as of the source's commit.
        version: Hash32,
        /// First height of the new rules.
        height: u64,
    },
}
canonical_enum!(ProposalKind {
    0 => Text {},
    1 => Params { changes: Vec<ParamChange> },
    2 => Spend { pool: Pool, to: Address, amount: Amount },
    3 => Upgrade { name: String, version: Hash32, height: u64 },
});

/// A value that a proposal moves in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Amount(Amount),
    Number(u64),
    Switch(bool),
}

impl Scalar {
    /// None of what is made of several values: such a thing's own bounds hold it.
    fn of(value: &dyn std::any::Any) -> Option<Self> {
        let amount = value.downcast_ref().map(|value| Self::Amount(*value));
        let wide = || value.downcast_ref().map(|value| Self::Number(*value));
        let number = || value.downcast_ref::<u32>().map(|value| Self::Number((*value).into()));
        let small = || value.downcast_ref::<u16>().map(|value| Self::Number((*value).into()));
        let switch = || value.downcast_ref().map(|value| Self::Switch(*value));
        amount.or_else(wide).or_else(number).or_else(small).or_else(switch)
    }
}

macro_rules! param_changes {
    ($($tag:literal => $variant:ident $path:literal: $ty:ty = $($field:ident).+;)*) => {
        /// A parameter and its new value. JSON: `{"parameter": "slash.equivocation", "value": 700}`.
        ///
        /// Epochs count from the genesis by `epoch_blocks`, so it stays.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "parameter", deny_unknown_fields)]
        #[allow(clippy::large_enum_variant, reason = "changes are few and short-lived")]
        pub enum ParamChange {
            $(
                #[doc = concat!("`", $path, "`.")]
                #[serde(rename = $path)]
                $variant {
                    /// The new value.
                    value: $ty,
                },
            )*
        }
        canonical_enum!(ParamChange { $($tag => $variant { value: $ty }),* });

        impl ParamChange {
            /// The parameter's name, with a dot between a group and its field.
            pub const fn path(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $path,)* }
            }

            /// What it is now and would be.
            pub(crate) fn scalars(&self, params: &Params) -> Option<(Scalar, Scalar)> {
                match self {
                    $(Self::$variant { value } => Some((Scalar::of(&params.$($field).+)?, Scalar::of(value)?)),)*
                }
            }

            /// Sets the parameter. The whole is to be validated afterwards.
            pub fn apply(&self, params: &mut Params) {
                match self { $(Self::$variant { value } => params.$($field).+ = value.clone(),)* }
            }
        }
    };
}

param_changes! {
    0 => MaxBlockTxs "max_block_txs": u32 = max_block_txs;
    1 => MaxBlockBytes "max_block_bytes": u32 = max_block_bytes;
    2 => MinTxFee "min_tx_fee": Amount = min_tx_fee;
    3 => MaxExpiryBlocks "max_expiry_blocks": u64 = max_expiry_blocks;
    4 => WorkerCollateral "collateral.worker": Amount = collateral.worker;
    5 => ValidatorCollateral "collateral.validator": Amount = collateral.validator;
    6 => ModelOwnerCollateral "collateral.model_owner": Amount = collateral.model_owner;
    7 => GatewayCollateral "collateral.gateway": Amount = collateral.gateway;
    8 => RegistrationFee "registration_fee": Amount = registration_fee;
    9 => MinStake "min_stake": Amount = min_stake;
    10 => UnbondingEpochs "unbonding_epochs": u64 = unbonding_epochs;
    11 => MaxTokenPrice "max_token_price": Amount = max_token_price;
    12 => ModelGraceBlocks "model_grace_blocks": u64 = model_grace_blocks;
    13 => MinChannelDeposit "min_deposit": Amount = min_deposit;
    14 => ChannelCloseBlocks "channel_close_blocks": u64 = channel_close_blocks;
    15 => MaxLanes "max_lanes": u32 = max_lanes;
    16 => MaxBatchLines "max_batch_lines": u32 = max_batch_lines;
    17 => MaxBatchReceipts "max_batch_receipts": u32 = max_batch_receipts;
    18 => WindowBlocks "audit_times.window_blocks": u64 = audit_times.window_blocks;
    19 => CommitBlocks "audit_times.commit_blocks": u64 = audit_times.commit_blocks;
    20 => RevealBlocks "audit_times.reveal_blocks": u64 = audit_times.reveal_blocks;
    21 => MaxPerBatch "audit_times.max_per_batch": u32 = audit_times.max_per_batch;
    22 => AuditCeiling "audit_rate.ceiling": u16 = audit_rate.ceiling;
    23 => AuditFloor "audit_rate.floor": u16 = audit_rate.floor;
    24 => SlashFraudBond "slash.fraud_bond": u16 = slash.fraud_bond;
    25 => SlashFraudCollateral "slash.fraud_collateral": u16 = slash.fraud_collateral;
    26 => SlashAvailability "slash.availability": u16 = slash.availability;
    27 => SlashFalseVerdict "slash.false_verdict": u16 = slash.false_verdict;
    28 => SlashEquivocation "slash.equivocation": u16 = slash.equivocation;
    29 => SlashReporter "slash.reporter": u16 = slash.reporter;
    30 => Fees "fees": dn_powr::FeeSplit = fees;
    31 => HalfLife "emission.half_life_epochs": u64 = emission.half_life_epochs;
    32 => ReferencePrice "emission.reference_price": Amount = emission.reference_price;
    33 => DomainSplit "domain_split": dn_powr::DomainSplit = domain_split;
    34 => Trust "trust": dn_trust::Params = trust;
    35 => MinSelfBond "staking.min_self_bond": Amount = staking.min_self_bond;
    36 => MaxCommission "staking.max_commission": u16 = staking.max_commission;
    37 => MaxCommissionRaise "staking.max_commission_raise": u16 = staking.max_commission_raise;
    38 => CommissionDelay "staking.commission_delay_epochs": u64 = staking.commission_delay_epochs;
    39 => GovernanceMinDeposit "governance.min_deposit": Amount = governance.min_deposit;
    40 => GovernanceInitialDeposit "governance.initial_deposit": u16 = governance.initial_deposit;
    41 => GovernanceDepositBlocks "governance.deposit_blocks": u64 = governance.deposit_blocks;
    42 => GovernanceVotingBlocks "governance.voting_blocks": u64 = governance.voting_blocks;
    43 => GovernanceDelay "governance.execution_delay_blocks": u64 = governance.execution_delay_blocks;
    44 => GovernanceMaxOpen "governance.max_open": u32 = governance.max_open;
    45 => GovernanceMaxText "governance.max_text_bytes": u32 = governance.max_text_bytes;
    46 => GovernanceMaxChanges "governance.max_changes": u32 = governance.max_changes;
    47 => GovernanceQuorum "governance.quorum": u16 = governance.quorum;
    48 => GovernancePass "governance.pass": u16 = governance.pass;
    49 => GovernanceVeto "governance.veto": u16 = governance.veto;
    50 => MaxValidators "max_validators": u32 = max_validators;
    51 => MaxDomains "registry.max_domains": u32 = registry.max_domains;
    52 => DomainFee "registry.domain_fee": Amount = registry.domain_fee;
    53 => DomainDeposit "registry.domain_deposit": Amount = registry.domain_deposit;
    54 => TreasurySpend "registry.treasury_spend_bps": u16 = registry.treasury_spend_bps;
    55 => FeeBounds "registry.fee_bounds": dn_powr::FeeBounds = registry.fee_bounds;
    56 => EmissionBounds "registry.emission_bounds": EmissionBounds = registry.emission_bounds;
    57 => MaxRoyalty "registry.max_royalty_bps": u16 = registry.max_royalty_bps;
    58 => MaxRoyaltyPayees "registry.max_royalty_payees": u32 = registry.max_royalty_payees;
    59 => MaxVersions "registry.max_versions": u32 = registry.max_versions;
    60 => MaxBackers "registry.max_backers_bps": u16 = registry.max_backers_bps;
    61 => MinBacking "registry.min_backing": Amount = registry.min_backing;
    62 => UnbackingEpochs "registry.unbacking_epochs": u64 = registry.unbacking_epochs;
    63 => MinJob "registry.min_job": Amount = registry.min_job;
    64 => MaxJobBlocks "registry.max_job_blocks": u64 = registry.max_job_blocks;
    65 => MaxJobRefunds "registry.max_job_refunds": u32 = registry.max_job_refunds;
    66 => DisputeOpenBlocks "dispute.open_blocks": u64 = dispute.open_blocks;
    67 => DisputeClockBlocks "dispute.clock_blocks": u64 = dispute.clock_blocks;
    68 => DisputeMaxMoves "dispute.max_moves_per_block": u32 = dispute.max_moves_per_block;
    69 => BeaconRequired "beacon.required": bool = beacon.required;
    70 => BeaconDelay "beacon.delay_blocks": u64 = beacon.delay_blocks;
    71 => BeaconMissPenalty "beacon.miss_penalty": Amount = beacon.miss_penalty;
    72 => QualityMaxRounds "quality.max_rounds": u32 = quality.max_rounds;
    73 => QualitySealBlocks "quality.seal_blocks": u64 = quality.seal_blocks;
    74 => QualityCommitBlocks "quality.commit_blocks": u64 = quality.commit_blocks;
    75 => QualityRevealBlocks "quality.reveal_blocks": u64 = quality.reveal_blocks;
    76 => QualityOpenBlocks "quality.open_blocks": u64 = quality.open_blocks;
    83 => QualityStakeCap "quality.stake_cap": Amount = quality.stake_cap;
    81 => InexactWork "registry.inexact_work_bps": u16 = registry.inexact_work_bps;
    80 => GovernanceSpend "governance.spend_bps": u16 = governance.spend_bps;
    79 => KeptEpochs "governance.kept_epochs": u64 = governance.kept_epochs;
    78 => MaxInRole "max_in_role": u32 = max_in_role;
    82 => ModelCommitBlocks "registry.commit_blocks": u64 = registry.commit_blocks;
    77 => FeedbackFullFee "feedback.full_fee": Amount = feedback.full_fee;
}
