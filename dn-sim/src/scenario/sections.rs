//! The sections of a scenario, their defaults and their ranges.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Distribution, MAX_SHOWN, Problem, ScenarioError, Shape, cut, number};

pub(super) fn epochs() -> u32 {
    600
}
pub(super) fn warmup() -> u32 {
    300
}

/// The seeds of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many, one after another.
    pub count: u32,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { first: 1, count: 30 }
    }
}

impl Seeds {
    /// The seeds, rising.
    pub fn all(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.first;
        (0..u64::from(self.count)).map(move |n| first + n)
    }

    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        number("seeds.first", self.first as f64, 0.0, 1e12)?;
        number("seeds.count", self.count.into(), 1.0, 10_000.0)
    }
}

/// Where a population comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Population {
    /// A snapshot of a real network (JSON) that gives workers' power and quality and validators' stake in place of the distributions; a
    /// path beside the scenario.
    pub snapshot: Option<PathBuf>,
}

/// The workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// How many.
    pub count: usize,
    /// Most work in an epoch, in units of 10^12 operations.
    pub power: Distribution,
    /// Quality of the results of its model, 0 to 1.
    pub quality: Distribution,
    /// Part of the epochs in which it is online.
    pub uptime: Distribution,
    /// Part of the jobs, and of the audits, that it fails without fault of its own.
    pub timeout: Distribution,
    /// Latency in milliseconds.
    pub latency_ms: Distribution,
    /// Part of the work that it computes exactly even when it does not attack anybody.
    pub honesty: Distribution,
    /// Quality of what it computes otherwise, 0 to 1.
    pub wrong_quality: Distribution,
    /// Price, as a multiple of the reference price.
    pub price: Distribution,
    /// Collateral in DN, at least `min_collateral`.
    pub collateral: Distribution,
    /// The collateral under which a worker is suspended, until it bonds again, in DN.
    pub min_collateral: f64,
    /// Standard deviation of what an epoch adds to the quality of a worker's results, which stays from 0 to 1.
    pub drift: f64,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            count: 48,
            power: Distribution::Shape(Shape::Lognormal { median: 1.5, sigma: 0.4 }),
            quality: Distribution::Shape(Shape::Normal { mean: 0.85, deviation: 0.05 }),
            uptime: Distribution::Constant(0.98),
            timeout: Distribution::Constant(1.0 / 64.0),
            latency_ms: Distribution::Shape(Shape::Lognormal { median: 400.0, sigma: 0.3 }),
            honesty: Distribution::Constant(1.0),
            wrong_quality: Distribution::Constant(0.6),
            price: Distribution::Constant(1.0),
            collateral: Distribution::Constant(25_000.0),
            min_collateral: 5_000.0,
            drift: 0.0,
        }
    }
}

/// The range of a share.
pub(crate) const UNIT: (f64, f64) = (0.0, 1.0);
/// The range of a worker's power.
pub(crate) const POWER: (f64, f64) = (1e-3, 1e6);
/// The range of a latency.
pub(crate) const LATENCY_MS: (f64, f64) = (1.0, 1e6);
/// The range of a price.
pub(crate) const PRICE: (f64, f64) = (0.01, 100.0);
/// The range of a stake or collateral, in DN.
pub(crate) const STAKE: (f64, f64) = (1.0, 1e8);

impl Workers {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        number("workers.count", self.count as f64, 2.0, 100_000.0)?;
        self.power.check("workers.power", POWER)?;
        self.quality.check("workers.quality", UNIT)?;
        self.uptime.check("workers.uptime", UNIT)?;
        self.timeout.check("workers.timeout", UNIT)?;
        self.latency_ms.check("workers.latency_ms", LATENCY_MS)?;
        self.honesty.check("workers.honesty", UNIT)?;
        self.wrong_quality.check("workers.wrong_quality", UNIT)?;
        self.price.check("workers.price", PRICE)?;
        self.collateral.check("workers.collateral", STAKE)?;
        number("workers.min_collateral", self.min_collateral, 0.0, STAKE.1)?;
        number("workers.drift", self.drift, 0.0, 0.25)
    }
}

/// The validators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validators {
    /// How many.
    pub count: usize,
    /// Stake with delegations, in DN.
    pub stake: Distribution,
    /// Standard deviation of an honest vote around the quality.
    pub noise: Distribution,
    /// Part of the votes and verdicts given in time.
    pub uptime: Distribution,
}

impl Default for Validators {
    fn default() -> Self {
        Self {
            count: 20,
            stake: Distribution::Shape(Shape::Lognormal { median: 50_000.0, sigma: 0.6 }),
            noise: Distribution::Constant(0.05),
            uptime: Distribution::Constant(0.99),
        }
    }
}

impl Validators {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        number("validators.count", self.count as f64, 2.0, 1_000.0)?;
        self.stake.check("validators.stake", STAKE)?;
        self.noise.check("validators.noise", UNIT)?;
        self.uptime.check("validators.uptime", UNIT)
    }
}

/// What users ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Demand {
    /// Work asked for ÷ what all workers together can do.
    pub load: f64,
    /// How far demand swings over a day of 24 epochs, as a part of itself.
    pub swing: f64,
    /// Work of one task, in units of 10^12 operations.
    pub task: f64,
    /// Part of the demand that is spread over all workers whatever their trust: room to grow for newcomers.
    pub explore: f64,
    /// Workers that a job is tried with, 1 or 2: one that the first fails is asked for again in the same epoch, and is lost, without a fee, when
    /// the second fails too.
    pub hosts: u32,
    /// How strongly users prefer cheaper workers: routing weight × price^−elasticity.
    pub elasticity: f64,
}

impl Default for Demand {
    fn default() -> Self {
        Self { load: 0.75, swing: 0.1, task: 0.125, explore: 0.15, hosts: 2, elasticity: 0.0 }
    }
}

impl Demand {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        number("demand.load", self.load, 0.01, 1.0)?;
        number("demand.swing", self.swing, 0.0, 1.0)?;
        number("demand.task", self.task, 1e-3, 1e3)?;
        number("demand.explore", self.explore, 0.0, 1.0)?;
        number("demand.hosts", self.hosts.into(), 1.0, 2.0)?;
        number("demand.elasticity", self.elasticity, 0.0, 16.0)
    }
}

/// How much of the work is looked at, and by how many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Review {
    /// Part of the tasks whose result a committee scores.
    pub vote_rate: f64,
    /// Validators that score a result.
    pub committee: usize,
    /// Validators that replay an audited task.
    pub auditors: usize,
    /// Part of the scored tasks that are canaries.
    pub canary_rate: f64,
    /// How far a vote may be from a known answer.
    pub canary_tolerance: f64,
    /// How far a vote may be from the settled quality.
    pub alignment_tolerance: f64,
    /// Whether an auditor that passed a result which the referee then finds wrong has given a false verdict, as one that accused an exact one has.
    pub passes_are_verdicts: bool,
}

impl Default for Review {
    fn default() -> Self {
        Self {
            vote_rate: 0.25,
            committee: 7,
            auditors: 3,
            canary_rate: 0.05,
            canary_tolerance: 0.1,
            alignment_tolerance: 0.1,
            passes_are_verdicts: true,
        }
    }
}

impl Review {
    pub(super) fn check(&self, validators: usize) -> Result<(), ScenarioError> {
        number("review.vote_rate", self.vote_rate, 0.0, 1.0)?;
        let most = validators.min(64) as f64;
        number("review.committee", self.committee as f64, 1.0, most)?;
        number("review.auditors", self.auditors as f64, 1.0, most)?;
        number("review.canary_rate", self.canary_rate, 0.0, 0.5)?;
        number("review.canary_tolerance", self.canary_tolerance, 0.0, 0.49)?;
        number("review.alignment_tolerance", self.alignment_tolerance, 0.0, 0.49)
    }
}

/// What an epoch pays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewards {
    /// Emission to the workers, in DN.
    pub workers: f64,
    /// Emission to the validators, in DN.
    pub validators: f64,
    /// Fee of a unit of work at the reference price, in DN.
    pub price: f64,
    /// What computing a task costs its worker, as a part of the fee.
    pub cost: f64,
    /// What a task costs that is not computed as declared, as a part of the honest cost.
    pub cheap: f64,
    /// Part of the validators' emission that they stake again.
    pub restake: f64,
    /// What a new identity pays to enter, in DN.
    pub entry_bond: f64,
    /// What a worker bonds on each job, as a multiple of its fee: lost with the job in which a fraud is proven.
    pub job_bond: f64,
}

impl Default for Rewards {
    fn default() -> Self {
        Self {
            workers: 500.0,
            validators: 200.0,
            price: 400.0,
            cost: 0.4,
            cheap: 0.25,
            restake: 1.0,
            entry_bond: 1_000.0,
            job_bond: 0.0,
        }
    }
}

impl Rewards {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        number("rewards.workers", self.workers, 1e-6, 1e7)?;
        number("rewards.validators", self.validators, 0.0, 1e7)?;
        number("rewards.price", self.price, 1e-6, 1e6)?;
        number("rewards.cost", self.cost, 0.0, 1.0)?;
        number("rewards.cheap", self.cheap, 0.0, 1.0)?;
        number("rewards.restake", self.restake, 0.0, 1.0)?;
        number("rewards.entry_bond", self.entry_bond, 0.0, 1e7)?;
        number("rewards.job_bond", self.job_bond, 0.0, 1_000.0)
    }
}

/// Constants of PoWR; what is absent has the protocol's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowrOptions {
    /// Fields of [`dn_trust::Params`] in their own units.
    pub trust: toml::Table,
    /// Fields of [`dn_trust::AuditParams`].
    pub audit: toml::Table,
    /// Fields of [`dn_powr::SlashParams`].
    pub slash: toml::Table,
    /// The cap on the stake that a vote counts with, in DN; 0 is none.
    pub stake_cap: f64,
}

impl PowrOptions {
    /// The parameters of trust with the overrides.
    ///
    /// # Errors
    /// [`ScenarioError`] names the field.
    pub fn trust_params(&self) -> Result<dn_trust::Params, ScenarioError> {
        let params: dn_trust::Params = with_defaults("powr.trust", &self.trust)?;
        params
            .validate()
            .map_err(|e| ScenarioError::Invalid { path: "powr.trust".into(), problem: e.into() })?;
        Ok(params)
    }

    /// The rates of audit with the overrides.
    ///
    /// # Errors
    /// [`ScenarioError`] names the field.
    pub fn audit_params(&self) -> Result<dn_trust::AuditParams, ScenarioError> {
        let params: dn_trust::AuditParams = with_defaults("powr.audit", &self.audit)?;
        params
            .validate()
            .map_err(|e| ScenarioError::Invalid { path: "powr.audit".into(), problem: e.into() })?;
        Ok(params)
    }

    /// What fraud costs, with the overrides.
    ///
    /// # Errors
    /// [`ScenarioError`] names the field.
    pub fn slash_params(&self) -> Result<dn_powr::SlashParams, ScenarioError> {
        let params: dn_powr::SlashParams = with_defaults("powr.slash", &self.slash)?;
        let message = |e: dn_powr::SplitError| e.to_string();
        params
            .validate()
            .map_err(|e| ScenarioError::Parse { path: "powr.slash".into(), message: message(e) })?;
        Ok(params)
    }

    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        self.trust_params()?;
        self.audit_params()?;
        self.slash_params()?;
        number("powr.stake_cap", self.stake_cap, 0.0, 1e9)
    }
}

/// The defaults of a protocol's parameters with some replaced by name.
fn with_defaults<T: Default + Serialize + serde::de::DeserializeOwned>(
    path: &str,
    overrides: &toml::Table,
) -> Result<T, ScenarioError> {
    let error = |message: String| ScenarioError::Parse { path: path.into(), message };
    let defaults = toml::Value::try_from(T::default()).map_err(|e| error(e.to_string()))?;
    let toml::Value::Table(mut table) = defaults else {
        return Err(error("the parameters are no table".into()));
    };
    for (key, value) in overrides {
        if !table.contains_key(key) {
            let known = table.keys().cloned().collect::<Vec<_>>().join(", ");
            let problem = Problem::Unknown { found: cut(key, MAX_SHOWN), known };
            return Err(ScenarioError::Invalid { path: path.into(), problem });
        }
        table.insert(key.clone(), value.clone());
    }
    serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|e| ScenarioError::Parse {
        path: format!("{path}.{}", e.path()),
        message: super::in_words(e.inner().message()),
    })
}

/// Constants of Yuma consensus; the defaults are those of its main network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct YumaOptions {
    /// Part of the stake that must support a weight.
    pub kappa: f64,
    /// How much of a validator's bond is lost for weights over the consensus.
    pub bond_penalty: f64,
    /// The least part of a bond that follows the last epoch (liquid alpha).
    pub alpha_low: f64,
    /// The most part of a bond that follows the last epoch (liquid alpha).
    pub alpha_high: f64,
    /// Steepness of the passage between the two.
    pub alpha_steepness: f64,
    /// Whether alpha depends on the consensus; else [`alpha`](Self::alpha) holds.
    pub liquid_alpha: bool,
    /// Part of a bond that follows the last epoch.
    pub alpha: f64,
    /// Epochs between the commitment of weights and their effect.
    pub reveal_lag: u32,
    /// Part of a validator's opinion of a worker that the last epoch replaces.
    pub memory: f64,
}

impl Default for YumaOptions {
    fn default() -> Self {
        Self {
            kappa: 0.5,
            bond_penalty: 1.0,
            alpha_low: 0.7,
            alpha_high: 0.9,
            alpha_steepness: 10.0,
            liquid_alpha: false,
            alpha: 0.1,
            reveal_lag: 1,
            memory: 0.2,
        }
    }
}

impl YumaOptions {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        number("yuma.kappa", self.kappa, 0.0, 1.0)?;
        number("yuma.bond_penalty", self.bond_penalty, 0.0, 1.0)?;
        number("yuma.alpha_low", self.alpha_low, 0.0, 1.0)?;
        number("yuma.alpha_high", self.alpha_high, self.alpha_low, 1.0)?;
        number("yuma.alpha_steepness", self.alpha_steepness, 0.0, 100.0)?;
        number("yuma.alpha", self.alpha, 0.0, 1.0)?;
        number("yuma.reveal_lag", self.reveal_lag.into(), 0.0, 64.0)?;
        number("yuma.memory", self.memory, 0.0, 1.0)
    }
}
