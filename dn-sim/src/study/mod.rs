//! Studies: every policy against every attack with every seed, in parallel, resumable, the same for any number of threads.

mod eve;
mod gates;
mod parallel;
mod search;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub use gates::gates;
pub use store::{Store, StoreError};

use dn_core::Hash32;
use serde::{Deserialize, Serialize};

use self::eve::Eve;
use self::parallel::parallel;
use self::search::Searches;
use crate::attack::{AttackSpec, Attacker, Group, Honest, Kind, Script};
use crate::import::Snapshot;
use crate::outcome::{Cell, CellKey};
use crate::policy::{self, Policy};
use crate::scenario::{Problem, Scenario, ScenarioError};
use crate::world::{RunError, Simulation};

/// Why a study stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// The scenario is refused.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A policy paid nonsense.
    #[error("{key}: {source}")]
    Run {
        /// The run.
        key: Box<CellKey>,
        /// Why.
        source: RunError,
    },
    /// Results cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stopped from outside; what is finished is kept.
    #[error("stopped; {done} of {total} runs are finished and kept")]
    Stopped {
        /// Finished runs.
        done: usize,
        /// All runs.
        total: usize,
    },
}

type PolicyFactory = Box<dyn Fn(&Scenario) -> Result<Box<dyn Policy>, ScenarioError> + Sync>;
type AttackerFactory = Box<dyn Fn() -> Box<dyn Attacker> + Sync>;

/// An attack of a study.
struct Entry {
    name: String,
    level: String,
    group: Group,
    play: Play,
}

enum Play {
    Script(Script),
    Custom(AttackerFactory),
    /// Found by a search with so many candidates, for each policy.
    Search {
        start: Script,
        candidates: u32,
    },
}

/// How far a study is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Finished runs.
    pub done: usize,
    /// All runs.
    pub total: usize,
    /// Runs of `done` that were finished before, by a study that was stopped.
    pub resumed: usize,
}

/// A scenario, ready to run, with what a researcher adds to it.
///
/// ```
/// use dn_sim::{policy::{Epoch, Payment, Policy}, scenario::Scenario, study::Study};
/// struct Equal;
/// impl Policy for Equal {
///     fn name(&self) -> &str { "equal" }
///     fn close(&mut self, _: &Epoch, payment: &mut Payment) { payment.workers.fill(1.0) }
/// }
/// let scenario = Scenario::from_toml("name = 'mine'\nepochs = 4\nwarmup = 0\nseeds.count = 1\nattacks = [{ kind = 'junk' }]").unwrap();
/// let mut study = Study::new(scenario).unwrap();
/// study.policy("equal", |_| Box::new(Equal));
/// let cells = study.run(1, None, &|_| true).unwrap();
/// assert!(cells.iter().any(|cell| cell.key.policy == "equal" && cell.metrics.gain == Some(1.0)), "it cannot tell junk");
/// ```
pub struct Study {
    scenario: Scenario,
    snapshot: Option<Snapshot>,
    policies: Vec<(String, PolicyFactory)>,
    attacks: Vec<Entry>,
    found: Mutex<BTreeSet<Found>>,
}

/// The digest of what a study finds, by which stores know the formulas that played their runs. A test compares it with the runs of a study with every
/// built-in policy and attack, so whoever changes a formula, a draw or a default must change it too.
pub const FORMULAS: &str = "e1ece74edbb6bf714fc667a4d29609e456b3ea4a05dffa0efd27d2d41219cefc";

/// What an adaptive attacker found best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Against which policy.
    pub policy: String,
    /// Of which attack, with its level.
    pub attack: String,
    /// What it will do, as [`Script`] is shown.
    pub script: String,
}

/// What a study keeps as soon as it has it.
enum Kept {
    Cell(Box<Cell>),
    Found(Found),
}

/// A population and a policy without attack; several attacks are compared with the same one.
#[derive(Debug, Clone, PartialEq)]
struct Job {
    policy: usize,
    twin: Group,
    seed: u64,
    attacks: Vec<usize>,
}

impl Study {
    /// The study of a checked scenario.
    ///
    /// # Errors
    /// [`ScenarioError`] when the scenario is refused or names an unknown policy.
    pub fn new(scenario: Scenario) -> Result<Self, ScenarioError> {
        Self::beside(scenario, Path::new("."))
    }

    /// The study of a checked scenario whose files are in this folder.
    ///
    /// # Errors
    /// [`ScenarioError`] as for [`Study::new`], when a file that it names is refused, or when the population of the first seed is too large.
    pub fn beside(mut scenario: Scenario, folder: &Path) -> Result<Self, ScenarioError> {
        let snapshot = scenario.population.snapshot.as_ref().map(|p| Snapshot::read(&folder.join(p)));
        let snapshot = snapshot.transpose()?;
        if let Some(snapshot) = &snapshot {
            scenario.workers.count = snapshot.workers.len();
            scenario.validators.count = snapshot.validator_stakes.len();
        }
        scenario.check()?;
        let mut study =
            Self { snapshot, policies: Vec::new(), attacks: Vec::new(), found: Mutex::default(), scenario };
        for (i, name) in study.scenario.policies.clone().into_iter().enumerate() {
            let built = policy::build(&name, &study.scenario).ok_or_else(|| ScenarioError::Invalid {
                path: format!("policies[{i}]"),
                problem: Problem::Unknown {
                    found: name.chars().take(128).collect(),
                    known: [&policy::NAMES[..], &policy::MORE_NAMES].concat().join(", "),
                },
            })?;
            built?;
            let factory = {
                let name = name.clone();
                move |s: &Scenario| policy::build(&name, s).expect("known: it was built above")
            };
            study.policies.push((name, Box::new(factory)));
        }
        for spec in &study.scenario.attacks {
            study.attacks.push(entry(spec));
        }
        let first = study.scenario.seeds.first;
        Simulation::new(&study.scenario, first).with_snapshot(study.snapshot.as_ref()).check()?;
        Ok(study)
    }

    /// Adds a policy, or replaces the one of this name.
    pub fn policy(
        &mut self,
        name: &str,
        build: impl Fn(&Scenario) -> Box<dyn Policy> + Sync + 'static,
    ) -> &mut Self {
        self.policies.retain(|(known, _)| known != name);
        self.policies.push((name.to_owned(), Box::new(move |s| Ok(build(s)))));
        self
    }

    /// Adds an attack by a group of one's own.
    pub fn attacker(
        &mut self,
        name: &str,
        group: Group,
        build: impl Fn() -> Box<dyn Attacker> + Sync + 'static,
    ) -> &mut Self {
        let play = Play::Custom(Box::new(build));
        self.attacks.push(Entry { name: name.to_owned(), level: String::new(), group, play });
        self
    }

    /// What the adaptive attackers found, sorted: in the last [`run`](Study::run), also in one that was stopped, and in those that its store kept.
    pub fn found(&self) -> Vec<Found> {
        self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().cloned().collect()
    }

    /// The digest of the snapshot that the population comes from.
    pub fn snapshot_digest(&self) -> Option<Hash32> {
        self.snapshot.as_ref().map(|snapshot| snapshot.digest)
    }

    /// The scenario, with the counts of its snapshot.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// All runs of the study, sorted.
    pub fn keys(&self) -> BTreeSet<CellKey> {
        let mut keys = BTreeSet::new();
        for policy in 0..self.policies.len() {
            for attack in 0..self.attacks.len() {
                keys.extend(self.scenario.seeds.all().map(|seed| self.key(policy, attack, seed)));
            }
        }
        keys
    }

    fn key(&self, policy: usize, attack: usize, seed: u64) -> CellKey {
        let attack = &self.attacks[attack];
        let policy = self.policies[policy].0.clone();
        CellKey { policy, attack: attack.name.clone(), level: attack.level.clone(), seed }
    }

    /// Runs what is not in the store yet and returns all cells, sorted by key. `progress` is told before the first run and after each, from any
    /// thread, and stops the study by returning false.
    ///
    /// # Errors
    /// [`StudyError`]; finished runs are in the store.
    pub fn run(
        &self,
        threads: usize,
        store: Option<&mut Store>,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Vec<Cell>, StudyError> {
        self.run_until(&AtomicBool::new(false), threads, store, progress)
    }

    /// [`run`](Self::run) that also stops, within an epoch of every run that is being played, once the flag is set.
    ///
    /// # Errors
    /// As there.
    pub fn run_until(
        &self,
        stop: &AtomicBool,
        threads: usize,
        store: Option<&mut Store>,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Vec<Cell>, StudyError> {
        let keys = self.keys();
        let mut finished: BTreeMap<CellKey, Cell> = BTreeMap::new();
        if let Some(store) = &store {
            let known = store.cells().iter().filter(|cell| keys.contains(&cell.key));
            finished.extend(known.map(|cell| (cell.key.clone(), cell.clone())));
        }
        let known = store.as_ref().map_or(&[][..], |store| store.found());
        *self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = known.iter().cloned().collect();
        let resumed = finished.len();
        if !progress(Progress { done: resumed, total: keys.len(), resumed }) {
            stop.store(true, Ordering::Relaxed);
        }
        let jobs = self.jobs(&finished);
        let searches = Searches::new(self.policies.len(), self.attacks.len());
        let state = Mutex::new((finished, store));
        let result = parallel(threads, jobs.len(), stop, &|n| {
            self.play(&jobs[n], &searches, stop, &|kept| {
                let mut state = state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let (finished, store) = &mut *state;
                let cell = match kept {
                    Kept::Cell(cell) => cell,
                    Kept::Found(found) => {
                        let mut all = self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        if all.insert(found.clone())
                            && let Some(store) = store
                        {
                            store.append_found(&found)?;
                        }
                        return Ok(());
                    }
                };
                if let Some(store) = store {
                    store.append(&cell)?;
                }
                finished.insert(cell.key.clone(), *cell);
                let now = Progress { done: finished.len(), total: keys.len(), resumed };
                if !progress(now) {
                    stop.store(true, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let (finished, _) = state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        result?;
        if finished.len() < keys.len() {
            return Err(StudyError::Stopped { done: finished.len(), total: keys.len() });
        }
        Ok(finished.into_values().collect())
    }

    fn described(&self, key: CellKey, script: &Script) -> Found {
        let attack = format!("{} {}", key.attack, key.level).trim_end().to_owned();
        Found { policy: key.policy, attack, script: script.to_string() }
    }

    /// What is left to do; attacks of the same group share one twin.
    fn jobs(&self, finished: &BTreeMap<CellKey, Cell>) -> Vec<Job> {
        let mut jobs: Vec<Job> = Vec::new();
        for seed in self.scenario.seeds.all() {
            for policy in 0..self.policies.len() {
                let start = jobs.len();
                for (attack, entry) in self.attacks.iter().enumerate() {
                    if finished.contains_key(&self.key(policy, attack, seed)) {
                        continue;
                    }
                    let twin = entry.group.behaving();
                    match jobs[start..].iter_mut().find(|job| job.twin == twin) {
                        Some(job) => job.attacks.push(attack),
                        None => jobs.push(Job { policy, twin, seed, attacks: vec![attack] }),
                    }
                }
            }
        }
        jobs
    }

    /// The population of a seed with a group in it, under a policy.
    fn eve<'a>(&'a self, (policy, seed): (usize, u64), group: Group, stop: &'a AtomicBool) -> Eve<'a> {
        let run = Simulation::new(&self.scenario, seed).with_group(group);
        Eve::new(
            &self.scenario,
            run.with_snapshot(self.snapshot.as_ref()).until(stop),
            &self.policies[policy].1,
        )
    }

    fn play(
        &self,
        job: &Job,
        searches: &Searches,
        stop: &AtomicBool,
        keep: &dyn Fn(Kept) -> Result<(), StudyError>,
    ) -> Result<(), StudyError> {
        let key = |attack: usize| self.key(job.policy, attack, job.seed);
        let of = (job.policy, job.seed);
        let eve = played(self.eve(of, job.twin, stop).warmed(), || key(job.attacks[0]))?;
        let Some(eve) = eve else { return Ok(()) };
        let Some(twin) = played(eve.run(&mut Honest), || key(job.attacks[0]))? else { return Ok(()) };
        for &attack in &job.attacks {
            let entry = &self.attacks[attack];
            let mut attacker: Box<dyn Attacker> = match &entry.play {
                Play::Script(script) => Box::new(*script),
                Play::Custom(build) => build(),
                Play::Search { .. } => match self.script(job.policy, attack, searches, stop)? {
                    Some(script) => {
                        keep(Kept::Found(self.described(key(attack), &script)))?;
                        Box::new(script)
                    }
                    None => return Ok(()),
                },
            };
            let run = match entry.group == job.twin {
                true => eve.run(attacker.as_mut()),
                false => self.eve(of, entry.group, stop).run(attacker.as_mut()),
            };
            let Some(run) = played(run, || key(attack))? else { return Ok(()) };
            keep(Kept::Cell(Box::new(Cell::of(key(attack), self.scenario.warmup, &run, &twin))))?;
        }
        Ok(())
    }
}

/// What was played; `None` when it was told to stop.
fn played<T>(run: Result<T, RunError>, key: impl Fn() -> CellKey) -> Result<Option<T>, StudyError> {
    match run {
        Ok(run) => Ok(Some(run)),
        Err(RunError::Stopped) => Ok(None),
        Err(source) => Err(StudyError::Run { key: Box::new(key()), source }),
    }
}

fn entry(spec: &AttackSpec) -> Entry {
    let (group, script) = spec.build();
    let play = if spec.kind() == Kind::Adaptive {
        Play::Search { start: script, candidates: spec.value("candidates") as u32 }
    } else {
        Play::Script(script)
    };
    Entry { name: spec.kind().name().to_owned(), level: spec.level(), group, play }
}
