//! The adaptive attacker: it tries mixtures of all built-in attacks against a policy, on seeds that the study does not use, and keeps
//! what brings most.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Play, Study, StudyError, played};
use crate::attack::{Script, VoteRule};
use crate::outcome::CellKey;
use crate::rng::{Purpose, Stream};

/// Seeds from here on are for training; a scenario's are below 10^12.
const TRAINING: u64 = 1 << 48;
/// Training seeds that each candidate is tried on.
const TRIALS: u64 = 2;

/// What the searches of a run found so far; a place for each policy and attack. Whoever first needs a script searches for it, the
/// others wait for that.
pub(super) struct Searches {
    attacks: usize,
    places: Vec<Mutex<Option<Script>>>,
}

impl Searches {
    pub(super) fn new(policies: usize, attacks: usize) -> Self {
        Self { attacks, places: (0..policies * attacks).map(|_| Mutex::default()).collect() }
    }

    fn place(&self, policy: usize, attack: usize) -> MutexGuard<'_, Option<Script>> {
        self.places[policy * self.attacks + attack].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Study {
    /// The script that an adaptive attacker found against a policy; `None` when it was told to stop.
    pub(super) fn script(
        &self,
        policy: usize,
        attack: usize,
        searches: &Searches,
        stop: &AtomicBool,
    ) -> Result<Option<Script>, StudyError> {
        let mut place = searches.place(policy, attack);
        if place.is_none() {
            *place = self.search(policy, attack, stop)?;
        }
        Ok(*place)
    }

    /// The first candidate behaves, so that what is found is never worse than that on the training seeds. Half of them are drawn freely, the
    /// others are changes of the best so far.
    fn search(&self, policy: usize, attack: usize, stop: &AtomicBool) -> Result<Option<Script>, StudyError> {
        let entry = &self.attacks[attack];
        let Play::Search { start, candidates } = &entry.play else { return Ok(None) };
        let key = || CellKey { seed: TRAINING, ..self.key(policy, attack, 0) };
        let mut eves = Vec::new();
        for trial in 0..TRIALS {
            let eve = self.eve((policy, TRAINING + trial), entry.group, stop).warmed();
            let Some(eve) = played(eve, key)? else { return Ok(None) };
            eves.push(eve);
        }
        // The same candidates for every policy.
        let mut stream = Stream::new(attack as u64, Purpose::Search, (0, 0));
        let (mut best, mut most) = (*start, f64::NEG_INFINITY);
        for n in 0..*candidates {
            let script = match n {
                0 => Script::default(),
                1 => *start,
                n if n <= candidates / 2 => draw(&mut stream),
                _ => change(best, &mut stream),
            };
            let mut gain = 0.0;
            for eve in &eves {
                let Some(run) = played(eve.run(&mut script.clone()), key)? else { return Ok(None) };
                gain += run.attackers.net();
            }
            if gain > most {
                (best, most) = (script, gain);
            }
        }
        Ok(Some(best))
    }
}

/// One knob, turned at random.
fn turn(script: &mut Script, knob: usize, s: &mut Stream) {
    let maybe = |s: &mut Stream, score: f64| s.chance(0.5).then_some(score);
    match knob {
        0 => script.cheat = if s.chance(0.3) { 0.0 } else { s.unit() },
        1 => script.cheat_quality = s.unit(),
        2 => {
            script.honest_for = s.below(100) as u32;
            script.cheat_for = 1 + s.below(50) as u32;
        }
        3 => script.build = s.below(300) as u32,
        4 => script.renew_below = if s.chance(0.5) { 0.0 } else { 8.0 * s.unit() },
        5 => script.friends = maybe(s, 1.0),
        6 => script.rivals = maybe(s, 0.0),
        7 => {
            script.votes = match s.below(3) {
                0 => VoteRule::Truth,
                1 => VoteRule::Published,
                _ => VoteRule::Constant(s.unit()),
            };
        }
        8 => script.latency_factor = if s.chance(0.5) { 1.0 } else { 0.1 + s.unit() },
        9 => script.wash = if s.chance(0.5) { 0.0 } else { s.unit() },
        10 => script.grief = if s.chance(0.7) { 0.0 } else { 0.1 * s.unit() },
        11 => script.accuse = if s.chance(0.7) { 0.0 } else { s.unit() },
        12 => script.rebond = s.chance(0.3),
        _ => script.reports = s.chance(0.5),
    }
}

const KNOBS: usize = 14;

fn draw(stream: &mut Stream) -> Script {
    let mut script = Script::default();
    (0..KNOBS).for_each(|knob| turn(&mut script, knob, stream));
    script
}

fn change(mut script: Script, stream: &mut Stream) -> Script {
    for _ in 0..2 {
        let knob = stream.below(KNOBS);
        turn(&mut script, knob, stream);
    }
    script
}
