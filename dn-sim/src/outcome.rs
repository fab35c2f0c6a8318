//! What a run of the simulator leaves.

use serde::{Deserialize, Serialize};

/// Which run: everything that decides its result, together with the scenario.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellKey {
    /// The policy that paid, such as `powr`.
    pub policy: String,
    /// The attack, such as `junk`.
    pub attack: String,
    /// Its strength, such as `stake=0.45`; empty when the attack has none.
    pub level: String,
    /// The seed of the run.
    pub seed: u64,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Which run.
    pub key: CellKey,
    /// Figures over the whole run.
    pub metrics: Metrics,
    /// The run in time: at most 128 samples, evenly spaced, rising in `epoch`.
    pub series: Vec<Sample>,
}

/// Figures over a whole run. The twin of a run is the same population with the same seed in which the attackers behave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// What the attackers gained ÷ what they gained in the twin. One: the attack changes nothing.
    pub gain: f64,
    /// Part of all rewards that went to the attackers.
    pub attacker_share: f64,
    /// Part of all rewards that went to them in the twin.
    pub twin_share: f64,
    /// 1 − what the honest were paid ÷ what they were paid in the twin: negative when they gain.
    pub honest_loss: f64,
    /// Epochs from the first misdeed until the attackers earn less than half of what they earn in the twin in the same time; absent when that
    /// never happens.
    pub detection_epochs: Option<u32>,
    /// Gini coefficient of the honest workers' rewards.
    pub gini: f64,
    /// Mean trust weight of the attackers' workers at the end, as the policy sees it.
    pub attacker_trust: f64,
    /// Mean trust weight of the honest workers at the end.
    pub honest_trust: f64,
    /// Mean quality of the work that users were given.
    pub user_quality: f64,
    /// The attackers' part of all stake at the end.
    pub attacker_stake: f64,
}

/// A moment of a run; rewards are those since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The last epoch of the window.
    pub epoch: u32,
    /// The attackers' part of the rewards.
    pub attacker_share: f64,
    /// The attackers' part of the twin's rewards.
    pub twin_share: f64,
    /// Mean trust weight of the attackers' workers.
    pub attacker_trust: f64,
    /// Mean trust weight of the honest workers.
    pub honest_trust: f64,
    /// The attackers' part of all stake.
    pub attacker_stake: f64,
    /// Gini coefficient of the honest workers' rewards so far.
    pub gini: f64,
}
