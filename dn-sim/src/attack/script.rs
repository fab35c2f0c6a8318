//! One attacker with every knob; the built-in attacks are settings of it.

use std::fmt;

use super::{Attacker, Ballot, Conduct, WorkerView};

/// How the group's validators score results of which nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VoteRule {
    /// As they see them.
    Truth,
    /// All alike.
    Constant(f64),
    /// As the network published last.
    Published,
}

/// A scripted attacker. The default behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Script {
    /// Part of the tasks that are not computed as declared, while it cheats.
    pub cheat: f64,
    /// Quality of those results.
    pub cheat_quality: f64,
    /// Quality of its declared model, where it is not the worker's own.
    pub quality: Option<f64>,
    /// Epochs at the start of each identity in which it behaves.
    pub build: u32,
    /// Epochs in which it behaves, in turn with `cheat_for`; 0 cheats always.
    pub honest_for: u32,
    /// Epochs in which it cheats, in turn with `honest_for`.
    pub cheat_for: u32,
    /// It takes a new identity when its trust falls below this multiple of a newcomer's, or when it is suspended and does not bond again; 0 is
    /// never.
    pub renew_below: f64,
    /// Its score for the group's own workers.
    pub friends: Option<f64>,
    /// Its score for all others.
    pub rivals: Option<f64>,
    /// Its score where the two above say nothing.
    pub votes: VoteRule,
    /// Whether its validators report wrong results of others; they never report the group's own unless this is set and `loyal` is not.
    pub reports: bool,
    /// Whether its validators spare the group's workers in audits.
    pub loyal: bool,
    /// Part of others' exact results that its validators say are wrong when they audit them.
    pub accuse: f64,
    /// Whether its workers bond again when slashes left too little of their collateral to work.
    pub rebond: bool,
    /// How likely its validators recognise a canary; they then judge it rightly.
    pub detect: f64,
    /// Its latency as the network sees it ÷ its real one.
    pub latency_factor: f64,
    /// Part of its workers' power that is left which it buys itself.
    pub wash: f64,
    /// Part of the others' tasks that it makes fail.
    pub grief: f64,
    /// What that costs it, as a part of their fees.
    pub grief_cost: f64,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            cheat: 0.0,
            cheat_quality: 0.0,
            quality: None,
            build: 0,
            honest_for: 0,
            cheat_for: 0,
            renew_below: 0.0,
            friends: None,
            rivals: None,
            votes: VoteRule::Truth,
            reports: true,
            loyal: true,
            accuse: 0.0,
            rebond: false,
            detect: 0.0,
            latency_factor: 1.0,
            wash: 0.0,
            grief: 0.0,
            grief_cost: 1.0,
        }
    }
}

impl fmt::Display for Script {
    /// What differs from behaving, such as `cheat=0.2 build=100`; `behave` when nothing does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let honest = Self::default();
        let mut parts = Vec::new();
        let mut part = |name: &str, differs: bool, value: String| {
            if differs {
                parts.push(format!("{name}={value}"));
            }
        };
        let score = |s: Option<f64>| s.map_or("as seen".into(), |s| format!("{s:.2}"));
        let cheats = self.cheat > 0.0;
        part("cheat", cheats, format!("{:.2}", self.cheat));
        part("cheat-quality", cheats, format!("{:.2}", self.cheat_quality));
        part("quality", self.quality != honest.quality, score(self.quality));
        part("build", cheats && self.build > 0, self.build.to_string());
        let cycle = format!("{}+{}", self.honest_for, self.cheat_for);
        part("honest+cheat", cheats && self.honest_for > 0, cycle);
        part("renew-below", self.renew_below > 0.0, format!("{:.2}", self.renew_below));
        part("friends", self.friends.is_some(), score(self.friends));
        part("rivals", self.rivals.is_some(), score(self.rivals));
        part("votes", self.votes != honest.votes, format!("{:?}", self.votes).to_lowercase());
        part("reports", self.reports != honest.reports, self.reports.to_string());
        part("accuse", self.accuse > 0.0, format!("{:.2}", self.accuse));
        part("rebond", self.rebond, self.rebond.to_string());
        part("detect", self.detect > 0.0, format!("{:.2}", self.detect));
        part("latency", self.latency_factor != honest.latency_factor, format!("{:.2}", self.latency_factor));
        part("wash", self.wash > 0.0, format!("{:.2}", self.wash));
        part("grief", self.grief > 0.0, format!("{:.3}", self.grief));
        f.write_str(if parts.is_empty() { "behave" } else { "" })?;
        f.write_str(&parts.join(" "))
    }
}

impl Script {
    fn cheats(&self, view: &WorkerView) -> bool {
        if view.age < self.build {
            return false;
        }
        let cycle = self.honest_for + self.cheat_for;
        self.honest_for == 0 || view.epoch % cycle.max(1) >= self.honest_for
    }
}

impl Attacker for Script {
    fn work(&mut self, view: &WorkerView) -> Conduct {
        let spent = view.suspended && self.renew_below > 0.0 && !self.rebond;
        let renew = spent || view.age > self.build && view.trust < self.renew_below * view.entry_trust;
        let now = WorkerView { age: if renew { 0 } else { view.age }, ..*view };
        Conduct {
            cheat: if self.cheats(&now) { self.cheat } else { 0.0 },
            cheat_quality: self.cheat_quality,
            quality: self.quality,
            latency_factor: self.latency_factor,
            wash: self.wash,
            renew,
            rebond: self.rebond,
        }
    }

    fn vote(&mut self, ballot: &Ballot) -> f64 {
        if ballot.canary {
            return ballot.truth;
        }
        let fixed = if ballot.friend { self.friends } else { self.rivals };
        fixed.unwrap_or(match self.votes {
            VoteRule::Truth => ballot.truth,
            VoteRule::Constant(score) => score,
            VoteRule::Published => ballot.published,
        })
    }

    fn reports(&mut self, friend: bool) -> bool {
        self.reports && !(friend && self.loyal)
    }

    fn accuses(&mut self, friend: bool) -> f64 {
        if friend { 0.0 } else { self.accuse }
    }

    fn detects_canaries(&self) -> f64 {
        self.detect
    }

    fn grief(&mut self, _epoch: u32) -> f64 {
        self.grief
    }

    fn grief_cost(&self) -> f64 {
        self.grief_cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: WorkerView =
        WorkerView { epoch: 0, age: 0, trust: 0.5, entry_trust: 0.01, suspended: false, index: 0 };

    #[test]
    fn cycles_and_building() {
        let mut s = Script { cheat: 1.0, honest_for: 2, cheat_for: 1, ..Script::default() };
        let at = |s: &mut Script, epoch, age| s.work(&WorkerView { epoch, age, ..VIEW }).cheat > 0.0;
        assert_eq!([0, 1, 2, 3].map(|e| at(&mut s, e, e)), [false, false, true, false]);
        let mut s = Script { cheat: 1.0, build: 3, ..Script::default() };
        assert_eq!([2, 3].map(|age| at(&mut s, 9, age)), [false, true]);
    }

    #[test]
    fn a_new_name_when_trust_is_gone() {
        let mut s = Script { cheat: 1.0, build: 3, renew_below: 2.0, ..Script::default() };
        let at = |s: &mut Script, trust, age| s.work(&WorkerView { trust, age, ..VIEW });
        assert!(!at(&mut s, 0.03, 10).renew);
        let renewed = at(&mut s, 0.019, 10);
        assert!(renewed.renew && renewed.cheat == 0.0, "the new name builds again");
        assert!(!at(&mut s, 0.01, 0).renew, "not in the epoch in which it came");
        let slashed = WorkerView { suspended: true, ..VIEW };
        assert!(s.work(&slashed).renew, "nothing else is left of the old name");
        assert!(!Script { rebond: true, ..s }.work(&slashed).renew, "unless it bonds again");
    }

    #[test]
    fn votes() {
        let ballot = Ballot { friend: true, truth: 0.1, published: 0.7, canary: false, index: 0 };
        let mut cabal = Script { friends: Some(1.0), rivals: Some(0.0), ..Script::default() };
        assert_eq!(cabal.vote(&ballot), 1.0);
        assert_eq!(cabal.vote(&Ballot { friend: false, ..ballot }), 0.0);
        assert_eq!(cabal.vote(&Ballot { canary: true, ..ballot }), 0.1);
        assert!(!cabal.reports(true) && cabal.reports(false));
        let mut copier = Script { votes: VoteRule::Published, ..Script::default() };
        assert_eq!(copier.vote(&ballot), 0.7);
    }
}
