//! Attackers: what a group of colluding workers and validators does instead of behaving.
//!
//! [`Attacker`] is the interface; [`Script`] covers every built-in attack, and [`Kind`] names them with their parameters.

mod kind;
mod script;
mod spec;

pub use kind::{Kind, Parameter};
pub use script::{Script, VoteRule};
pub use spec::AttackSpec;

/// How large the group is, and in how many identities it appears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Part of the workers.
    pub workers: f64,
    /// Part of all stake.
    pub stake: f64,
    /// Identities that each of its workers appears as; the worker's power is divided among them.
    pub identities: u32,
    /// Whether its workers only join when the measured epochs begin.
    pub late: bool,
}

impl Group {
    /// A group with so much of the workers and of the stake.
    pub const fn new(workers: f64, stake: f64) -> Self {
        Self { workers, stake, identities: 1, late: false }
    }

    /// The group as it is when it behaves: one identity for each worker, there from the start.
    #[must_use]
    pub const fn behaving(self) -> Self {
        Self { identities: 1, late: false, ..self }
    }
}

/// What one of the group's workers knows when it decides about an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkerView {
    /// Measured epochs that are over.
    pub epoch: u32,
    /// Epochs since this identity joined.
    pub age: u32,
    /// Its trust weight under the policy.
    pub trust: f64,
    /// The trust weight of a new identity.
    pub entry_trust: f64,
    /// Whether slashes left too little of its collateral to work.
    pub suspended: bool,
    /// Its place in the group.
    pub index: usize,
}

/// What one of the group's workers does in an epoch; the default is to behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conduct {
    /// Part of the tasks that are not computed as declared.
    pub cheat: f64,
    /// Quality of those results, 0 to 1.
    pub cheat_quality: f64,
    /// Quality of the results of its declared model, where it is not its own.
    pub quality: Option<f64>,
    /// Its latency as the network sees it ÷ its real latency.
    pub latency_factor: f64,
    /// Work that the group buys from this worker, as a part of its power that is left.
    pub wash: f64,
    /// Whether it comes back under a new identity before the epoch, with an entry bond and a whole collateral.
    pub renew: bool,
    /// Whether it posts its whole collateral again before the epoch if it is suspended; else it does not work.
    pub rebond: bool,
}

impl Conduct {
    /// To behave.
    pub const HONEST: Self = Self {
        cheat: 0.0,
        cheat_quality: 0.0,
        quality: None,
        latency_factor: 1.0,
        wash: 0.0,
        renew: false,
        rebond: false,
    };
}

/// What one of the group's validators knows when it scores a result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ballot {
    /// Whether the worker belongs to the group.
    pub friend: bool,
    /// What an honest evaluation sees.
    pub truth: f64,
    /// The worker's quality as the network published it last.
    pub published: f64,
    /// Whether it recognised a task with a known answer.
    pub canary: bool,
    /// The validator's place in the group.
    pub index: usize,
}

/// A group that attacks. Only measured epochs ask it; before them everybody behaves.
pub trait Attacker {
    /// What one of its workers does.
    fn work(&mut self, _view: &WorkerView) -> Conduct {
        Conduct::HONEST
    }

    /// The score, 0 to 1, that one of its validators gives.
    fn vote(&mut self, ballot: &Ballot) -> f64 {
        ballot.truth
    }

    /// Whether its validators report a wrong result that they find in an audit.
    fn reports(&mut self, _friend: bool) -> bool {
        true
    }

    /// Part of the exact results that its validators say are wrong when they audit them, 0 to 1.
    fn accuses(&mut self, _friend: bool) -> f64 {
        0.0
    }

    /// How likely its validators are to recognise a canary.
    fn detects_canaries(&self) -> f64 {
        0.0
    }

    /// Part of the others' tasks that it makes fail.
    fn grief(&mut self, _epoch: u32) -> f64 {
        0.0
    }

    /// What that costs it, as a part of their fees.
    fn grief_cost(&self) -> f64 {
        1.0
    }
}

/// Behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Honest;

impl Attacker for Honest {}
