//! What a run of the simulator leaves.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::world::{Ledger, Trajectory};

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

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, attack, level, seed } = self;
        let space = if level.is_empty() { "" } else { " " };
        write!(f, "{attack}{space}{level} against {policy}, seed {seed}")
    }
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
    /// The attackers' emission, less fees that they lost on the way, ÷ their emission in the twin. One: the attack changes nothing.
    /// Absent when they earned nothing in the twin.
    pub gain: Option<f64>,
    /// The same for the group's workers alone; absent when they earned nothing in the twin.
    pub worker_gain: Option<f64>,
    /// The same for the group's validators alone; absent when it has none.
    pub validator_gain: Option<f64>,
    /// The same with everything: emission and fees, less slashes, bonds and what computing cost them; absent when even the twin's are worth
    /// nothing or less.
    pub net_gain: Option<f64>,
    /// Part of all rewards that went to the attackers.
    pub attacker_share: f64,
    /// Part of all rewards that went to them in the twin.
    pub twin_share: f64,
    /// 1 − what the honest were paid ÷ what they were paid in the twin: negative when they gain. Absent when they were
    /// paid nothing in the twin.
    pub honest_loss: Option<f64>,
    /// Everybody's net income in the twin, in DN: what the policy leaves when nobody attacks.
    pub twin_net: f64,
    /// Epochs from the first in which their pay differs until the attackers earn less than half of what they earn in the twin in the same time; absent when that
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

/// Epochs that detection looks back over.
const WINDOW: usize = 24;
/// Most samples of a run.
const SAMPLES: usize = 128;

/// `part ÷ whole`; nothing ÷ nothing is nothing.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

impl Cell {
    /// What a run says beside its twin; both have `warmup` epochs before the measured ones.
    pub fn of(key: CellKey, warmup: u32, run: &Trajectory, twin: &Trajectory) -> Self {
        let start = (warmup as usize).min(run.group.len());
        let sum = |values: &[f64]| values[start..].iter().sum::<f64>();
        let paid = |books: &Ledger| books.emission + books.dividends;
        let part = |part: f64, whole: f64| (whole != 0.0).then(|| part / whole);
        let last = |values: &[f64]| values.last().copied().unwrap_or(0.0);
        let metrics = Metrics {
            gain: part(paid(&run.attackers) - run.attackers.bought, paid(&twin.attackers)),
            worker_gain: part(run.attackers.emission - run.attackers.bought, twin.attackers.emission),
            validator_gain: part(run.attackers.dividends, twin.attackers.dividends),
            net_gain: (twin.attackers.net() > 0.0).then(|| run.attackers.net() / twin.attackers.net()),
            attacker_share: ratio(sum(&run.group), sum(&run.total)),
            twin_share: ratio(sum(&twin.group), sum(&twin.total)),
            honest_loss: part(paid(&run.honest), paid(&twin.honest)).map(|kept| 1.0 - kept),
            twin_net: twin.attackers.net() + twin.honest.net(),
            detection_epochs: detection(&run.group[start..], &twin.group[start..]),
            gini: last(&run.gini),
            attacker_trust: last(&run.group_trust),
            honest_trust: last(&run.honest_trust),
            user_quality: run.user_quality,
            attacker_stake: last(&run.group_stake),
        };
        Self { key, metrics, series: series(run, twin) }
    }
}

/// Epochs from the first in which the attackers' pay differs until their sum over a window falls below half of the twin's; the first windows
/// are shorter.
fn detection(group: &[f64], twin: &[f64]) -> Option<u32> {
    let first = group.iter().zip(twin).position(|(own, fair)| own != fair)?;
    let (group, twin) = (&group[first..], &twin[first..]);
    let (mut own, mut fair) = (0.0, 0.0);
    for i in 0..group.len().min(twin.len()) {
        own += group[i];
        fair += twin[i];
        if i >= WINDOW {
            own -= group[i - WINDOW];
            fair -= twin[i - WINDOW];
        }
        if own < fair / 2.0 {
            return u32::try_from(i + 1).ok();
        }
    }
    None
}

fn series(run: &Trajectory, twin: &Trajectory) -> Vec<Sample> {
    let epochs = run.group.len().min(twin.group.len());
    let window = epochs.div_ceil(SAMPLES).max(1);
    let part = |t: &Trajectory, from: usize, to: usize| {
        ratio(t.group[from..to].iter().sum(), t.total[from..to].iter().sum())
    };
    (0..epochs.div_ceil(window))
        .map(|n| {
            let (from, to) = (n * window, ((n + 1) * window).min(epochs));
            Sample {
                epoch: to as u32 - 1,
                attacker_share: part(run, from, to),
                twin_share: part(twin, from, to),
                attacker_trust: run.group_trust[to - 1],
                honest_trust: run.honest_trust[to - 1],
                attacker_stake: run.group_stake[to - 1],
                gini: run.gini[to - 1],
            }
        })
        .collect()
}
