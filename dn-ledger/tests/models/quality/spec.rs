//! Quality rounds as the design says them: who is asked about whose models, what members and setters may do and until when, what the scores agree on, what
//! that does to everybody's record.
//!
//! Sources: section 3 of `docs/economics.md`, ADR 13 (beacon, draws, quality). A round's draw is said in full. What trust is, what is at stake and what the
//! beacon says is taken from the ledger as given.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::{Address, BatchId, Canonical, ChannelId, Hash32, ModelId, keccak256};
use dn_ledger::beacon::Reveal as Draw;
use dn_ledger::events::Event;
use dn_ledger::state::FeedbackRecord;
use dn_ledger::{Params, Payload};
use dn_powr::{Consensus, Finding, Reveal, Seal};
use dn_trust::Unit;

use super::publishing_spec::{Verdict, must};
use super::quality_draw::{canary_input, id_of, is_canary, part_of, quantile};
use super::quality_feedback::{Batch, Model, ModelRecord};

/// What an event of one unit of work weighs.
pub(super) const ONE: u64 = 1 << 16;

/// What a member did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Did {
    Nothing,
    Committed(Hash32),
    Revealed(Unit),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) who: Address,
    pub(super) weight: u128,
    pub(super) did: Did,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) domain: u32,
    pub(super) owner: Address,
    pub(super) setter: Address,
    pub(super) beacon: Hash32,
    /// In the order of the draw.
    pub(super) members: Vec<Member>,
    /// The last heights to seal, to commit, to reveal and to open the seal.
    pub(super) until: [u64; 4],
    pub(super) sealed: Option<Hash32>,
    pub(super) opened: Option<Seal>,
}

/// What is on a validator's record of the epoch, each in 2⁻¹⁶.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) aligned: u64,
    pub(super) misaligned: u64,
    pub(super) timely: u64,
    pub(super) missed: u64,
    pub(super) passed: u64,
    pub(super) failed: u64,
}

/// Everything the specification knows.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) params: Params,
    pub(super) chain_id: u64,
    pub(super) height: u64,
    pub(super) time_ms: u64,
    /// Voting power as an election found it, by the first height from which draws go by it.
    pub(super) elections: BTreeMap<u64, BTreeMap<Address, u128>>,
    /// Validators' stake and trust (in 2⁻³²) now, as the ledger says.
    pub(super) stakes: BTreeMap<Address, (u128, u128)>,
    /// Validators that act in their role now.
    pub(super) active: BTreeSet<Address>,
    pub(super) model_owners: BTreeSet<Address>,
    pub(super) models: BTreeMap<ModelId, Model>,
    /// Payer and spender.
    pub(super) channels: BTreeMap<ChannelId, (Address, Address)>,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    /// Work that counts, settled in this epoch, by domain, worker and owner.
    pub(super) work: BTreeMap<(u32, Address, Address), u128>,
    /// Whose models worked in the epoch before, until they are asked about.
    pub(super) subjects: BTreeSet<(u32, Address)>,
    pub(super) rounds: BTreeMap<Hash32, Round>,
    /// What the last committee said, and in which epoch.
    pub(super) qualities: BTreeMap<(u32, Address), (Unit, u64)>,
    pub(super) evidence: BTreeMap<Address, Evidence>,
    pub(super) feedbacks: BTreeMap<(BatchId, u32), FeedbackRecord>,
    /// Feedback on a worker in the order of its coming.
    pub(super) said_of: BTreeMap<Address, Vec<(BatchId, u32)>>,
    /// What a payer's word on a model has weighed, and in which epoch.
    pub(super) heard: BTreeMap<(ModelId, Address), (u64, u64)>,
    /// What happened to models in this epoch.
    pub(super) epochs: BTreeMap<ModelId, ModelRecord>,
    /// What is worth counting that happened.
    pub(super) seen: BTreeSet<&'static str>,
}

impl Spec {
    /// Whether a request is taken. One that is refused does nothing at all.
    pub(super) fn submit(&mut self, sender: Address, payload: &Payload) -> Verdict {
        let before = self.clone();
        let verdict = self.transact(sender, payload);
        if verdict.is_err() {
            *self = before;
        }
        verdict
    }

    fn transact(&mut self, sender: Address, payload: &Payload) -> Verdict {
        match payload {
            Payload::QualitySeal { round, commitment } => self.seal(sender, *round, *commitment),
            Payload::QualityCommit { round, commitment } => self.commit(sender, *round, *commitment),
            Payload::QualityReveal { reveal } => self.reveal(sender, reveal),
            Payload::QualityUnseal { seal, draw } => self.unseal(sender, seal, draw),
            Payload::Feedback { feedback, receipt, proof } => self.say(feedback, receipt, proof),
            Payload::TransferModel { family, to } => self.hand_on(sender, *family, *to),
            Payload::PostBatch { batch, .. } => {
                self.post(&batch.body);
                Ok(())
            }
            // Draws go by what an election found; this is seen there.
            Payload::Stake { .. } => Ok(()),
            Payload::Retire { .. } => must(self.active.remove(&sender), "left the role"),
            other => panic!("nothing is specified for {other:?}"),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.height / self.params.epoch_blocks
    }

    // --- moves ---

    fn seal(&mut self, sender: Address, id: Hash32, commitment: Hash32) -> Verdict {
        let height = self.height;
        let round = self.rounds.get_mut(&id).ok_or("no such round")?;
        must(sender == round.setter, "not the setter")?;
        must(round.sealed.is_none(), "sealed already")?;
        must(height <= round.until[0], "too late to seal")?;
        round.sealed = Some(commitment);
        Ok(())
    }

    /// A round that is sealed, and the sender's place in it.
    fn member(&mut self, sender: Address, id: Hash32) -> Result<(&mut Member, [u64; 4]), &'static str> {
        let round = self.rounds.get_mut(&id).ok_or("no such round")?;
        must(round.sealed.is_some(), "not sealed")?;
        let member = round.members.iter_mut().find(|member| member.who == sender);
        Ok((member.ok_or("not a member")?, round.until))
    }

    fn commit(&mut self, sender: Address, id: Hash32, commitment: Hash32) -> Verdict {
        let height = self.height;
        let (member, until) = self.member(sender, id)?;
        must(member.did == Did::Nothing, "committed already")?;
        must(height <= until[1], "too late to commit")?;
        member.did = Did::Committed(commitment);
        Ok(())
    }

    fn reveal(&mut self, sender: Address, reveal: &Reveal) -> Verdict {
        let height = self.height;
        must(reveal.validator == sender, "in another's name")?;
        let (member, until) = self.member(sender, reveal.round)?;
        let commitment = match member.did {
            Did::Nothing => return Err("not committed"),
            Did::Committed(commitment) => commitment,
            Did::Revealed(_) => return Err("revealed already"),
        };
        must(height > until[1], "too early to reveal")?;
        must(height <= until[2], "too late to reveal")?;
        let found = keccak256(&[b"DeepNode score commitment v1", &reveal.to_bytes()]);
        must(found == commitment.0, "not what was committed to")?;
        member.did = Did::Revealed(reveal.score);
        Ok(())
    }

    /// Whether a round is a canary is what its setter's VRF says, and nothing that it chooses.
    fn unseal(&mut self, sender: Address, seal: &Seal, draw: &Draw) -> Verdict {
        let (height, rate) = (self.height, self.params.quality.review.canary_rate);
        let round = self.rounds.get_mut(&seal.round).ok_or("no such round")?;
        must(sender == round.setter, "not the setter")?;
        let sealed = round.sealed.ok_or("not sealed")?;
        must(round.opened.is_none(), "opened already")?;
        must(height > round.until[2], "too early to open")?;
        must(height <= round.until[3], "too late to open")?;
        must(keccak256(&[b"DeepNode round seal v1", &seal.to_bytes()]) == sealed.0, "not what was sealed")?;
        must(draw.public.address() == sender, "not the setter's draw")?;
        let value = draw.proof.verify(&draw.public, &canary_input(&seal.round));
        let value = value.map_err(|_| "not the setter's draw")?;
        let canary = is_canary(&value, &round.beacon, &seal.round, rate);
        must(canary == seal.known.is_some(), "not what was drawn")?;
        round.opened = Some(*seal);
        Ok(())
    }

    // --- blocks ---

    /// The start of a block, with its beacon: what is over is settled, a new epoch asks about the one before. Returns what is to be heard of it.
    pub(super) fn begin_block(&mut self, height: u64, time_ms: u64, beacon: Hash32) -> Vec<Event> {
        (self.height, self.time_ms) = (height, time_ms);
        let mut events = Vec::new();
        // In the order of their ends, then of their ids.
        let over = self.rounds.iter().filter(|(_, round)| height > round.until[3]);
        let mut over: Vec<_> = over.map(|(id, round)| (round.until[3], *id)).collect();
        over.sort_unstable();
        for (_, id) in over {
            let round = self.rounds.remove(&id).unwrap();
            self.settle(id, &round, &mut events);
        }
        if height.is_multiple_of(self.params.epoch_blocks) {
            self.open_rounds(beacon, &mut events);
        }
        self.settle_batches();
        events
    }

    fn open_rounds(&mut self, beacon: Hash32, events: &mut Vec<Event>) {
        let epoch = self.epoch();
        let id = |(domain, owner): &(u32, Address)| id_of(self.chain_id, epoch, *domain, *owner);
        let mut subjects: Vec<_> = std::mem::take(&mut self.subjects).into_iter().collect();
        // The beacon chooses among too many.
        subjects.sort_by_key(|subject| keccak256(&[&beacon.0, &id(subject).0]));
        if subjects.len() > self.params.quality.max_rounds as usize {
            self.seen.insert("too many to ask about");
        }
        subjects.truncate(self.params.quality.max_rounds as usize);
        for (domain, owner) in subjects {
            let id = id_of(self.chain_id, epoch, domain, owner);
            let drawn = self.draw(&id, &beacon, owner);
            let active: Vec<_> = drawn.into_iter().filter(|(who, _)| self.active.contains(who)).collect();
            // A member and a setter at least.
            if active.len() < 2 {
                self.seen.insert("nobody to ask");
                continue;
            }
            let seats = usize::from(self.params.quality.review.seats).min(active.len() - 1);
            let (setter, _) = active[seats];
            let times = &self.params.quality;
            let lengths = [times.seal_blocks, times.commit_blocks, times.reveal_blocks, times.open_blocks];
            let mut end = self.height;
            let until = lengths.map(|blocks| {
                end += blocks;
                end
            });
            let members: Vec<_> = active[..seats]
                .iter()
                .map(|(who, drawn)| Member {
                    who: *who,
                    weight: self.vote_weight(*who).min(*drawn),
                    did: Did::Nothing,
                })
                .collect();
            let who = members.iter().map(|member| member.who).collect();
            let seal_until = until[0];
            events.push(Event::QualityOpened { round: id, domain, owner, setter, members: who, seal_until });
            let (sealed, opened) = (None, None);
            self.rounds.insert(id, Round { domain, owner, setter, beacon, members, until, sealed, opened });
        }
    }

    /// Stake, up to a cap, times trust.
    fn vote_weight(&self, who: Address) -> u128 {
        let (stake, trust) = self.stakes.get(&who).copied().unwrap_or_default();
        (stake.min(self.params.quality.stake_cap.atto()) * trust) >> 32
    }

    /// Everybody with a weight but the owner, one after another, each with a chance in proportion to its weight among those that are left.
    fn draw(&mut self, round: &Hash32, beacon: &Hash32, owner: Address) -> Vec<(Address, u128)> {
        let (_, weights) = self.elections.range(..=self.height).next_back().expect("the genesis is one");
        let mut line = weights.clone();
        if line.remove(&owner).is_some() {
            self.seen.insert("an owner does not judge itself");
        }
        if line.keys().any(|who| !self.active.contains(who)) {
            self.seen.insert("drawn, and not there any more");
        }
        let mut drawn = Vec::new();
        while !line.is_empty() {
            let seat = u32::try_from(drawn.len()).unwrap().to_le_bytes();
            let hash = keccak256(&[b"DeepNode committee draw v1", &beacon.0, &round.0, &seat]);
            let mut ticket = part_of(&hash, line.values().sum());
            let mut falls_into = |weight: u128| match ticket.checked_sub(weight) {
                None => true,
                Some(rest) => {
                    ticket = rest;
                    false
                }
            };
            let found =
                line.iter().find(|(_, weight)| falls_into(**weight)).map(|(who, weight)| (*who, *weight));
            let found = found.expect("the line is as long as its parts");
            line.remove(&found.0);
            drawn.push(found);
        }
        drawn
    }

    fn settle(&mut self, round: Hash32, held: &Round, events: &mut Vec<Event>) {
        let setter = self.evidence.entry(held.setter).or_default();
        if held.opened.is_some() {
            setter.timely += ONE
        } else {
            setter.missed += ONE
        }
        let known = held.opened.and_then(|seal| seal.known);
        let votes: Vec<_> = held
            .members
            .iter()
            .filter_map(|member| match member.did {
                Did::Revealed(score) => Some((score, member.weight)),
                _ => None,
            })
            .collect();
        // A canary says nothing about the owner; neither does a round whose seal is closed.
        let says = held.opened.is_some() && known.is_none() && !votes.is_empty();
        let [low, quality, high] =
            if says { [1, 2, 3].map(|n| quantile(&votes, n)) } else { [Unit::ZERO; 3] };
        let mut members = held.members.clone();
        members.sort_unstable_by_key(|member| member.who);
        // Nobody could do anything in a round that was not sealed.
        for member in members.iter().filter(|_| held.sealed.is_some()) {
            let finding = self.find(member.did, held.opened.is_some(), known, says.then_some(quality));
            let record = self.evidence.entry(member.who).or_default();
            let score = if let Did::Revealed(score) = member.did { Some(score) } else { None };
            if score.is_some() {
                record.timely += ONE
            } else {
                record.missed += ONE
            }
            match finding {
                Finding::Nothing => {}
                Finding::Aligned => record.aligned += ONE,
                Finding::Misaligned => record.misaligned += ONE,
                Finding::CanaryPassed => record.passed += ONE,
                Finding::CanaryFailed => record.failed += ONE,
            }
            let clamped = score.filter(|_| says).map(|score| score.max(low).min(high));
            if score.is_some_and(|score| says && score < low) {
                self.seen.insert("raised to the lower quartile");
            }
            if score.is_some_and(|score| says && score > high) {
                self.seen.insert("cut to the upper quartile");
            }
            events.push(Event::QualityJudged { round, validator: member.who, finding, clamped });
        }
        let Round { domain, owner, .. } = *held;
        if says {
            self.qualities.insert((domain, owner), (quality, self.epoch()));
        }
        let consensus = says.then_some(Consensus { low, quality, high });
        let canary = known.is_some();
        events.push(Event::QualitySettled { round, domain, owner, canary, consensus });
        self.seen.insert(match (held.sealed, held.opened, canary, says) {
            (None, ..) => "never sealed",
            (_, None, ..) => "never opened",
            (.., true, _) => "a canary",
            (.., false) => "nobody scores",
            (.., true) => "a quality",
        });
    }

    /// What is said of a member: how near its score is to the quality, or to what a canary's is known to be. Who commits and does not show a canary's
    /// score has seen the others', and fails.
    fn find(&mut self, did: Did, opened: bool, known: Option<Unit>, quality: Option<Unit>) -> Finding {
        let review = &self.params.quality.review;
        let near = |a: Unit, b: Unit, most: Unit| a.bits().abs_diff(b.bits()) <= most.bits();
        match (did, known) {
            _ if !opened => Finding::Nothing,
            (Did::Nothing, _) => Finding::Nothing,
            (Did::Committed(_), None) => Finding::Nothing,
            (Did::Committed(_), Some(_)) => {
                self.seen.insert("a canary fails by silence");
                Finding::CanaryFailed
            }
            (Did::Revealed(score), Some(known)) if near(score, known, review.canary_tolerance) => {
                Finding::CanaryPassed
            }
            (Did::Revealed(_), Some(_)) => Finding::CanaryFailed,
            (Did::Revealed(score), None) => match quality {
                Some(quality) if near(score, quality, review.tolerance) => Finding::Aligned,
                _ => Finding::Misaligned,
            },
        }
    }
}
