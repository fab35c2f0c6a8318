//! Reward policies: who gets work, whose votes count, who is paid.
//!
//! [`Policy`] is the interface; a policy sees only what a network can see.

mod eigentrust;
mod powr;
mod simple;
mod yuma;

pub use eigentrust::EigenTrustPolicy;
pub use powr::PowrPolicy;
pub use simple::{Audited, StakeOnly, WorkOnly};
pub use yuma::YumaPolicy;

use dn_core::Amount;

use crate::border::in_dn;
use crate::scenario::{Scenario, ScenarioError};

/// What a network sees of a worker in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WorkerSeen {
    /// Whether it answered the epoch's liveness probe.
    pub online: bool,
    /// Work that it delivered, in verified work units (operations).
    pub delivered: u64,
    /// Fees of `delivered`, in DN.
    pub fees: f64,
    /// The same, exactly.
    pub(crate) paid: Amount,
    /// Part of `delivered` that the worker's own group bought, in the same unit. No policy can tell; it is here to be charged.
    pub(crate) bought: u64,
    /// Part of `delivered` that was not computed as declared. No policy can tell.
    pub(crate) wrong: u64,
    /// Work of the jobs that it did not deliver, in verified work units.
    pub failed: u64,
    /// Work of its audited tasks that replay found exact.
    pub audits_passed: u64,
    /// Work of its audited tasks that it could not open in time.
    pub audits_failed: u64,
    /// Frauds that a referee proved.
    pub frauds: u32,
    /// Work of the jobs in which it proved them.
    pub(crate) defrauded: u64,
    /// Its latency in milliseconds as the network sees it.
    pub latency_ms: u32,
    /// Work of its tasks that committees scored.
    pub scored: u64,
}

/// What a network sees of a validator in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ValidatorSeen {
    /// Its stake with delegations, in DN.
    pub stake: f64,
    /// The same, exactly.
    pub(crate) held: Amount,
    /// Votes and verdicts given in time.
    pub timely: u32,
    /// Votes and verdicts that were missing.
    pub missed: u32,
    /// Verdicts on audited jobs that nothing was said against, or that the referee found right.
    pub aligned: u32,
    /// Verdicts that the referee found wrong.
    pub misaligned: u32,
    /// Those of them that it is slashed for.
    pub false_verdicts: u32,
}

impl ValidatorSeen {
    /// A validator with this stake at the start of an epoch.
    pub(crate) fn of(held: Amount) -> Self {
        Self { stake: in_dn(held), held, ..Self::default() }
    }
}

/// A committee's votes on one task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// The worker whose result was scored.
    pub worker: u32,
    /// The quality that is known, if the task was a canary. Revealed with the votes.
    pub known: Option<f64>,
    /// Where its votes begin.
    pub(crate) first: u32,
    /// How many there are.
    pub(crate) count: u32,
}

/// A revealed vote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoteSeen {
    /// The validator.
    pub validator: u32,
    /// Its score, 0 to 1.
    pub score: f64,
}

/// Everything that a network sees of an epoch.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    /// Its number, from 0.
    pub number: u32,
    /// The workers.
    pub workers: Vec<WorkerSeen>,
    /// The validators.
    pub validators: Vec<ValidatorSeen>,
    /// Tasks that committees scored.
    pub rounds: Vec<Round>,
    pub(crate) votes: Vec<VoteSeen>,
    /// The median latency of all workers that worked, in milliseconds; 0 when none did.
    pub median_latency_ms: u32,
}

impl Epoch {
    /// The votes of a round.
    pub fn votes(&self, round: &Round) -> &[VoteSeen] {
        &self.votes[round.first as usize..][..round.count as usize]
    }
}

/// What an epoch pays: the pots are divided in proportion to these points.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payment {
    /// Points of each worker.
    pub workers: Vec<f64>,
    /// Points of each validator.
    pub validators: Vec<f64>,
    /// Part of the pots that is paid at all, 0 to 1.
    pub part: f64,
}

impl Payment {
    /// No points for anybody.
    pub(crate) fn start(&mut self, epoch: &Epoch) {
        self.workers.clear();
        self.workers.resize(epoch.workers.len(), 0.0);
        self.validators.clear();
        self.validators.resize(epoch.validators.len(), 0.0);
        self.part = 1.0;
    }
}

/// A reward policy. Workers are numbered; one that starts over under a new name keeps its number and is announced by
/// [`join`](Policy::join).
pub trait Policy {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// A worker starts without a record: at the beginning for each, later for a new name.
    fn join(&mut self, _worker: usize) {}

    /// The weight with which work is routed to a worker.
    fn routing(&self, _worker: usize) -> f64 {
        1.0
    }

    /// The weight with which a validator with this stake (DN) is drawn into committees.
    fn voice(&self, _validator: usize, stake: f64) -> f64 {
        stake
    }

    /// Part of a worker's tasks that are replayed. Where it is not 0, a proven fraud voids the worker's epoch and is slashed.
    fn audit_rate(&self, _worker: usize) -> f64 {
        0.0
    }

    /// Closes an epoch: learns from it and says who is paid. `payment` comes with zero points for everybody and `part` at 1.
    fn close(&mut self, epoch: &Epoch, payment: &mut Payment);

    /// A copy with all that it has learnt. With it a study plays the epochs before an attack once for many attacks; without, as by default, again for
    /// each, with the same result. The copy and the original are then used apart: they must share nothing that changes.
    fn fork(&self) -> Option<Box<dyn Policy>> {
        None
    }
}

/// The built-in policies that are compared where a scenario names none. [`MORE_NAMES`] are built in too.
pub const NAMES: [&str; 7] =
    ["powr", "yuma3", "yuma3-canaries", "eigentrust", "work", "work-audits", "stake"];

/// Built-in policies that only a scenario that names them compares.
pub const MORE_NAMES: [&str; 3] = ["yuma1", "yuma2", "yuma3-audits"];

/// Whether a built-in policy has this name.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || MORE_NAMES.contains(&name)
}

pub(crate) fn all_names() -> Vec<String> {
    NAMES.map(String::from).to_vec()
}

/// Builds a built-in policy for a scenario; `None` for a name that is not built in.
///
/// # Errors
/// [`ScenarioError`] when the scenario's constants are refused.
pub fn build(name: &str, scenario: &Scenario) -> Option<Result<Box<dyn Policy>, ScenarioError>> {
    let policy: Box<dyn Policy> = match name {
        "powr" => return Some(PowrPolicy::new(scenario).map(|p| Box::new(p) as _)),
        "yuma1" | "yuma2" | "yuma3" | "yuma3-canaries" => Box::new(YumaPolicy::new(name, scenario)),
        "eigentrust" => Box::new(EigenTrustPolicy::new(scenario)),
        "work" => Box::new(WorkOnly),
        "work-audits" => Box::new(Audited::new(WorkOnly)),
        "yuma3-audits" => Box::new(Audited::new(YumaPolicy::new("yuma3", scenario))),
        "stake" => Box::new(StakeOnly),
        _ => return None,
    };
    Some(Ok(policy))
}
