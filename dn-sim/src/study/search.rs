//! The adaptive attacker: it tries mixtures of all built-in attacks against a policy, on seeds that the study does not use, and keeps
//! what brings most.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::{Job, Play, Study, StudyError, parallel};
use crate::attack::{Script, VoteRule};
use crate::outcome::CellKey;
use crate::rng::{Purpose, Stream};

/// Seeds from here on are for training; a scenario's are below 10^12.
const TRAINING: u64 = 1 << 48;
/// Training seeds that each candidate is tried on.
const TRIALS: u64 = 2;

impl Study {
    /// The best script for each policy and adaptive attack that a job still needs.
    pub(super) fn search_all(
        &self,
        threads: usize,
        jobs: &[Job],
    ) -> Result<BTreeMap<(usize, usize), Script>, StudyError> {
        let mut wanted = Vec::new();
        for job in jobs {
            for &attack in &job.attacks {
                let adaptive = matches!(self.attacks[attack].play, Play::Search { .. });
                if adaptive && !wanted.contains(&(job.policy, attack)) {
                    wanted.push((job.policy, attack));
                }
            }
        }
        wanted.sort_unstable();
        let found = Mutex::new(BTreeMap::new());
        parallel(threads, wanted.len(), &AtomicBool::new(false), &|n| {
            let (policy, attack) = wanted[n];
            let best = self.search(policy, attack)?;
            found.lock().unwrap_or_else(|p| p.into_inner()).insert((policy, attack), best);
            Ok(())
        })?;
        Ok(found.into_inner().unwrap_or_else(|p| p.into_inner()))
    }

    /// The first candidate behaves, so that what is found is never worse than that on the training seeds. Half of them are drawn freely, the
    /// others are changes of the best so far.
    fn search(&self, policy: usize, attack: usize) -> Result<Script, StudyError> {
        let entry = &self.attacks[attack];
        let Play::Search { start, candidates } = &entry.play else { return Ok(Script::default()) };
        let key = || CellKey { seed: TRAINING, ..self.key(policy, attack, 0) };
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
            for trial in 0..TRIALS {
                let run = self.simulate(policy, &entry.group, &mut script.clone(), TRAINING + trial, &key)?;
                gain += run.attackers.net();
            }
            if gain > most {
                (best, most) = (script, gain);
            }
        }
        Ok(best)
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
        _ => script.reports = s.chance(0.5),
    }
}

const KNOBS: usize = 12;

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
