//! What is measured: names, units, and what each figure means, in one place for tables, pictures and the page.
use crate::outcome::Metrics;

/// How a figure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A bare number.
    Ratio,
    /// A part of one, shown in per cent.
    Part,
    /// A number of epochs.
    Epochs,
}

/// A figure over a whole run.
pub(super) struct Metric {
    /// The name in tables, that of the field.
    pub(super) name: &'static str,
    /// The name for people.
    pub(super) label: &'static str,
    pub(super) unit: Unit,
    /// What it means, for people.
    pub(super) meaning: &'static str,
    pub(super) read: fn(&Metrics) -> Option<f64>,
}

/// What the attackers gain: the figure that everything is judged by.
pub(super) const GAIN: Metric = Metric {
    name: "gain",
    label: "gain",
    unit: Unit::Ratio,
    meaning: "What the attackers gained, divided by what they gained in the twin. 1: the attack changes nothing; \
              below 1 it is punished; above 1 it pays.",
    read: |metrics| metrics.gain,
};

/// What the attackers gain when everything is counted.
pub(super) const NET_GAIN: Metric = Metric {
    name: "net_gain",
    label: "net gain",
    unit: Unit::Ratio,
    meaning: "The same with everything: emission and fees, less slashes, bonds and what computing cost. Below 0 the \
              attack costs more than it brings; absent when behaving is not worth anything either.",
    read: |metrics| metrics.net_gain,
};

/// What the attack costs the honest.
pub(super) const HONEST_LOSS: Metric = Metric {
    name: "honest_loss",
    label: "honest loss",
    unit: Unit::Part,
    meaning: "1 minus what the honest were paid, divided by what they were paid in the twin. Negative: the honest \
              earn more because the attackers lose.",
    read: |metrics| metrics.honest_loss,
};

/// How long the attackers got away with it.
pub(super) const DETECTION: Metric = Metric {
    name: "detection_epochs",
    label: "detection delay",
    unit: Unit::Epochs,
    meaning: "Epochs from the first in which the attackers’ pay differs until the attackers earn less than half of what they earn in the twin \
              in the same time. Runs in which that never happens have no delay; means are over the other runs, and \
              the number of those is shown.",
    read: |metrics| metrics.detection_epochs.map(f64::from),
};

/// How unevenly the honest are paid.
pub(super) const GINI: Metric = Metric {
    name: "gini",
    label: "Gini",
    unit: Unit::Ratio,
    meaning: "Gini's coefficient of the honest workers' rewards: 0 when all earn the same, near 1 when one earns \
              everything.",
    read: |metrics| Some(metrics.gini),
};

/// Every figure, in the order of the tables.
pub(super) const METRICS: [Metric; 14] = [
    GAIN,
    Metric {
        name: "worker_gain",
        label: "workers’ gain",
        unit: Unit::Ratio,
        meaning: "The same for the attackers’ workers alone.",
        read: |metrics| metrics.worker_gain,
    },
    Metric {
        name: "validator_gain",
        label: "validators’ gain",
        unit: Unit::Ratio,
        meaning: "The same for the attackers’ validators alone.",
        read: |metrics| metrics.validator_gain,
    },
    NET_GAIN,
    Metric {
        name: "attacker_share",
        label: "attackers’ share",
        unit: Unit::Part,
        meaning: "Part of all rewards that went to the attackers.",
        read: |metrics| Some(metrics.attacker_share),
    },
    Metric {
        name: "twin_share",
        label: "twin’s share",
        unit: Unit::Part,
        meaning: "Part of all rewards that went to the attackers in the twin.",
        read: |metrics| Some(metrics.twin_share),
    },
    HONEST_LOSS,
    Metric {
        name: "twin_net",
        label: "income without attack, DN",
        unit: Unit::Ratio,
        meaning: "Everybody’s income in the twin: emission and fees, less slashes and computing. What the policy leaves to \
                  all when nobody attacks.",
        read: |metrics| Some(metrics.twin_net),
    },
    DETECTION,
    GINI,
    Metric {
        name: "attacker_trust",
        label: "attackers’ trust",
        unit: Unit::Ratio,
        meaning: "Mean trust weight of the attackers’ workers at the end, as the policy sees it.",
        read: |metrics| Some(metrics.attacker_trust),
    },
    Metric {
        name: "honest_trust",
        label: "honest trust",
        unit: Unit::Ratio,
        meaning: "Mean trust weight of the honest workers at the end.",
        read: |metrics| Some(metrics.honest_trust),
    },
    Metric {
        name: "user_quality",
        label: "users’ quality",
        unit: Unit::Ratio,
        meaning: "Mean quality of the work that users were given, 0 to 1.",
        read: |metrics| Some(metrics.user_quality),
    },
    Metric {
        name: "attacker_stake",
        label: "attackers’ stake",
        unit: Unit::Part,
        meaning: "The attackers’ part of all stake at the end.",
        read: |metrics| Some(metrics.attacker_stake),
    },
];
