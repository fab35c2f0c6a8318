//! The built-in attacks and their parameters.

use super::{Group, Script, VoteRule};

/// A built-in attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Workers return junk; the group's validators praise it and pass it in audits.
    Junk,
    /// Workers run a cheaper model for a part of their tasks.
    CheaperModel,
    /// Workers behave and cheat by turns.
    OnOff,
    /// Workers build trust, spend it by cheating, and come back under a new name.
    MilkWhitewash,
    /// Validators score all workers but the group's own with 0; the group's own behave.
    BadMouthing,
    /// Workers declare and run a poor model; the group's validators score it with 1.
    BallotStuffing,
    /// Validators say that exact results of others are wrong.
    FalseAccusation,
    /// Validators do not look: they repeat the last published quality.
    WeightCopying,
    /// Validators do not look: they give everybody the same score and report nothing.
    LazyValidation,
    /// One worker appears as many.
    Sybil,
    /// Workers buy their own work with what power is left.
    WashWork,
    /// Junk, praise for the own, zero for the others, own frauds passed: everything at once.
    Cabal,
    /// A cabal whose validators recognise canaries.
    CanaryDetection,
    /// Workers make their latency look better than it is.
    LatencySpoofing,
    /// The group makes others' tasks fail and pays for it.
    Griefing,
    /// No attack: honest workers that join late. What newcomers pay.
    Newcomer,
    /// A group that tries many mixtures of the above on training seeds and plays the best.
    Adaptive,
}

/// A parameter of an attack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its key in a scenario.
    pub name: &'static str,
    /// Its value when absent.
    pub default: f64,
    /// The least that is allowed.
    pub min: f64,
    /// The most that is allowed.
    pub max: f64,
    /// Whether it is a whole number.
    pub whole: bool,
}

const fn share(name: &'static str, default: f64) -> Parameter {
    Parameter { name, default, min: 0.0, max: 1.0, whole: false }
}
const fn count(name: &'static str, default: f64, min: f64, max: f64) -> Parameter {
    Parameter { name, default, min, max, whole: true }
}
/// The part of the workers that attack.
const fn workers(default: f64) -> Parameter {
    Parameter { name: "workers", default, min: 0.0, max: 0.9, whole: false }
}
/// The part of the stake that attacks.
const fn stake(default: f64) -> Parameter {
    Parameter { name: "stake", default, min: 0.0, max: 0.9, whole: false }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Junk,
        Self::CheaperModel,
        Self::OnOff,
        Self::MilkWhitewash,
        Self::BadMouthing,
        Self::BallotStuffing,
        Self::FalseAccusation,
        Self::WeightCopying,
        Self::LazyValidation,
        Self::Sybil,
        Self::WashWork,
        Self::Cabal,
        Self::CanaryDetection,
        Self::LatencySpoofing,
        Self::Griefing,
        Self::Newcomer,
        Self::Adaptive,
    ];

    /// The name in scenarios and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Junk => "junk",
            Self::CheaperModel => "cheaper-model",
            Self::OnOff => "on-off",
            Self::MilkWhitewash => "milk-whitewash",
            Self::BadMouthing => "bad-mouthing",
            Self::BallotStuffing => "ballot-stuffing",
            Self::FalseAccusation => "false-accusation",
            Self::WeightCopying => "weight-copying",
            Self::LazyValidation => "lazy-validation",
            Self::Sybil => "sybil",
            Self::WashWork => "wash-work",
            Self::Cabal => "cabal",
            Self::CanaryDetection => "canary-detection",
            Self::LatencySpoofing => "latency-spoofing",
            Self::Griefing => "griefing",
            Self::Newcomer => "newcomer",
            Self::Adaptive => "adaptive",
        }
    }

    /// The attack with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its parameters.
    pub const fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Junk => {
                &[const { stake(0.0) }, const { count("rebond", 0.0, 0.0, 1.0) }, const { workers(0.2) }]
            }
            Self::CheaperModel => &[
                const { share("rate", 1.0) },
                const { share("quality", 0.6) },
                const { count("rebond", 0.0, 0.0, 1.0) },
                const { workers(0.2) },
            ],
            Self::OnOff => &[
                const { count("honest", 48.0, 1.0, 10_000.0) },
                const { count("cheat", 12.0, 1.0, 10_000.0) },
                const { share("rate", 1.0) },
                const { share("quality", 0.6) },
                const { workers(0.2) },
            ],
            Self::MilkWhitewash => &[
                const { count("build", 100.0, 0.0, 10_000.0) },
                const { share("quality", 0.05) },
                const { Parameter { name: "leave", default: 2.0, min: 0.0, max: 100.0, whole: false } },
                const { workers(0.1) },
            ],
            Self::BadMouthing | Self::Cabal => &[const { stake(0.3) }, const { workers(0.2) }],
            Self::BallotStuffing => {
                &[const { stake(0.3) }, const { share("quality", 0.4) }, const { workers(0.2) }]
            }
            Self::FalseAccusation => &[const { stake(0.2) }, const { share("rate", 0.1) }],
            Self::WeightCopying => &[const { stake(0.2) }],
            Self::LazyValidation => &[const { stake(0.2) }, const { share("score", 0.85) }],
            Self::Sybil => &[const { count("identities", 10.0, 1.0, 10_000.0) }],
            Self::WashWork => &[const { stake(0.0) }, const { share("volume", 1.0) }, const { workers(0.1) }],
            Self::CanaryDetection => {
                &[const { stake(0.3) }, const { share("detect", 0.5) }, const { workers(0.2) }]
            }
            Self::LatencySpoofing => &[
                const { Parameter { name: "factor", default: 0.25, min: 0.001, max: 10.0, whole: false } },
                const { workers(0.2) },
            ],
            Self::Griefing => {
                &[const { share("rate", 0.05) }, const { share("cost", 1.0) }, const { workers(0.1) }]
            }
            Self::Newcomer => &[const { workers(0.1) }],
            Self::Adaptive => &[
                const { stake(0.3) },
                const { workers(0.2) },
                const { count("candidates", 48.0, 1.0, 1_000.0) },
            ],
        }
    }

    /// The group and its script, given each parameter's value; the script of [`Kind::Adaptive`] is the one that its search starts from.
    pub(super) fn build(self, value: &dyn Fn(&str) -> f64) -> (Group, Script) {
        let whole = |name: &str| value(name) as u32; // checked: whole and at most 10,000
        let honest = Script::default();
        match self {
            Self::Junk => {
                let rebond = value("rebond") > 0.0;
                let script = Script { cheat: 1.0, cheat_quality: 0.05, friends: Some(1.0), rebond, ..honest };
                (Group::new(value("workers"), value("stake")), script)
            }
            Self::CheaperModel => {
                let (cheat, cheat_quality) = (value("rate"), value("quality"));
                let script = Script { cheat, cheat_quality, rebond: value("rebond") > 0.0, ..honest };
                (Group::new(value("workers"), 0.0), script)
            }
            Self::OnOff => {
                let script = Script {
                    cheat: value("rate"),
                    cheat_quality: value("quality"),
                    honest_for: whole("honest"),
                    cheat_for: whole("cheat"),
                    ..honest
                };
                (Group::new(value("workers"), 0.0), script)
            }
            Self::MilkWhitewash => {
                let script = Script {
                    cheat: 1.0,
                    cheat_quality: value("quality"),
                    build: whole("build"),
                    renew_below: value("leave"),
                    ..honest
                };
                (Group::new(value("workers"), 0.0), script)
            }
            Self::BadMouthing => {
                let script = Script { rivals: Some(0.0), ..honest };
                (Group::new(value("workers"), value("stake")), script)
            }
            Self::BallotStuffing => {
                let script = Script { quality: Some(value("quality")), friends: Some(1.0), ..honest };
                (Group::new(value("workers"), value("stake")), script)
            }
            Self::FalseAccusation => {
                (Group::new(0.0, value("stake")), Script { accuse: value("rate"), ..honest })
            }
            Self::WeightCopying => {
                let script = Script { votes: VoteRule::Published, reports: false, ..honest };
                (Group::new(0.0, value("stake")), script)
            }
            Self::LazyValidation => {
                let votes = VoteRule::Constant(value("score"));
                (Group::new(0.0, value("stake")), Script { votes, reports: false, ..honest })
            }
            Self::Sybil => {
                let group = Group { identities: whole("identities"), ..Group::new(0.0, 0.0) };
                (group, honest)
            }
            Self::WashWork => {
                let script = Script { wash: value("volume"), ..honest };
                (Group::new(value("workers"), value("stake")), script)
            }
            Self::Cabal => (Group::new(value("workers"), value("stake")), cabal()),
            Self::CanaryDetection => {
                let script = Script { detect: value("detect"), ..cabal() };
                (Group::new(value("workers"), value("stake")), script)
            }
            Self::LatencySpoofing => {
                let script = Script { latency_factor: value("factor"), ..honest };
                (Group::new(value("workers"), 0.0), script)
            }
            Self::Griefing => (
                Group::new(value("workers"), 0.0),
                Script { grief: value("rate"), grief_cost: value("cost"), ..honest },
            ),
            Self::Newcomer => (Group { late: true, ..Group::new(value("workers"), 0.0) }, honest),
            Self::Adaptive => (Group::new(value("workers"), value("stake")), cabal()),
        }
    }
}

fn cabal() -> Script {
    Script {
        cheat: 1.0,
        cheat_quality: 0.05,
        friends: Some(1.0),
        rivals: Some(0.0),
        reports: false,
        ..Script::default()
    }
}
