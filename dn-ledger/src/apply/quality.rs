//! Quality rounds: committees drawn by the beacon score what models are good for, by commit and reveal.
//!
//! The arithmetic and the round itself are `dn_powr`'s. Here are the draw, the deadlines, and what follows: the quality that the epoch's emission counts
//! with, and the validators' trust. Whether a round is a canary is decided by its setter's VRF: the setter cannot choose, and nobody else
//! knows before the seal is opened.

use std::collections::BTreeSet;

use dn_core::{Address, Hash32, keccak256};
use dn_powr::{Attendance, MAX_SEATS, Round, RoundError, Seal, Settled, draw_committee, is_canary};
use dn_trust::{Unit, Weight};

use super::Step;
use crate::beacon::Reveal;
use crate::events::Event;
use crate::params::MAX_SETTLED_PER_BLOCK;
use crate::power::{draw_weights, quality_weight};
use crate::reject::{Reject, RoundFault};
use crate::state::{
    QUALITIES, QUALITY_DUE, QUALITY_ROUNDS, QUALITY_SUBJECTS, QualityRound, SettledQuality, VALIDATOR_EPOCHS,
};

/// What a setter's VRF is computed at: the round alone, so that it has one answer.
pub fn canary_input(round: &Hash32) -> Vec<u8> {
    [b"DeepNode canary v1", round.as_bytes().as_slice()].concat()
}

/// The id of a round.
pub fn round_id(chain_id: u64, epoch: u64, domain: u32, owner: Address) -> Hash32 {
    let parts: &[&[u8]] = &[
        b"DeepNode quality round v1",
        &chain_id.to_le_bytes(),
        &epoch.to_le_bytes(),
        &domain.to_le_bytes(),
        &owner.0,
    ];
    Hash32(keccak256(parts))
}

impl Step<'_> {
    /// Remembers whose models worked in this epoch: the next one's committees score them.
    pub(super) fn note_subjects(&mut self, subjects: &BTreeSet<(u32, Address)>) {
        if self.ctx.params.quality.max_rounds > 0 {
            subjects.iter().for_each(|subject| QUALITY_SUBJECTS.put(self.state, subject, &true));
        }
    }

    /// At the start of an epoch: a round for each of those whose models worked in the one before, up to the most rounds, chosen by the beacon.
    pub(super) fn open_rounds(&mut self) {
        if self.ctx.params.quality.max_rounds == 0
            || !self.ctx.height.is_multiple_of(self.ctx.params.epoch_blocks)
        {
            return;
        }
        let mut subjects: Vec<_> = QUALITY_SUBJECTS.iter(self.state).map(|(subject, _)| subject).collect();
        subjects.iter().for_each(|subject| QUALITY_SUBJECTS.remove(self.state, subject));
        let beacon = self.beacon();
        let (chain_id, epoch) = (self.ctx.chain_id, self.ctx.epoch());
        subjects.sort_by_cached_key(|(domain, owner)| {
            keccak256(&[&beacon.0, &round_id(chain_id, epoch, *domain, *owner).0])
        });
        subjects.truncate(self.ctx.params.quality.max_rounds as usize);
        let weights = draw_weights(self.state, self.ctx.height);
        let candidates: Vec<_> = weights.into_iter().map(|(who, weight)| (who, weight.atto())).collect();
        for (domain, owner) in subjects {
            self.open_round(domain, owner, beacon, &candidates);
        }
    }

    /// One seat more than the committee's is drawn: the setter's. Draws go by voting power; what a member's score counts is its stake, up to a cap, times
    /// its trust, and never more than it was drawn by: nobody adds stake when it knows that it was drawn. Too few validators: no round. Who has a weight and is not active any more is drawn
    /// like others, and left out then.
    fn open_round(&mut self, domain: u32, owner: Address, beacon: Hash32, candidates: &[(Address, u128)]) {
        let params = &self.ctx.params.quality;
        let id = round_id(self.ctx.chain_id, self.ctx.epoch(), domain, owner);
        let others = candidates.iter().filter(|(who, _)| *who != owner);
        let active = others.clone().filter(|(who, _)| self.is_active_validator(who)).count();
        let seats = usize::from(params.review.seats).min(active.saturating_sub(1));
        let drawn = (seats + 1 + others.count() - active).min(MAX_SEATS);
        let Ok(mut committee) = draw_committee(&beacon.0, &id, drawn, candidates, &[owner]) else { return };
        committee.retain(|(who, _)| self.is_active_validator(who));
        committee.truncate(seats + 1);
        let Some((setter, _)) = committee.pop().filter(|_| !committee.is_empty()) else { return };
        for (member, weight) in &mut committee {
            *weight = quality_weight(self.state, &self.ctx.params, *member).min(*weight);
        }
        let seal_until = self.ctx.height + params.seal_blocks;
        let commit_until = seal_until + params.commit_blocks;
        let reveal_until = commit_until + params.reveal_blocks;
        let open_until = reveal_until + params.open_blocks;
        let members = committee.iter().map(|(member, _)| *member).collect();
        let (round, seal) = (None, None);
        let record = QualityRound {
            domain,
            owner,
            setter,
            beacon,
            committee,
            seal_until,
            commit_until,
            reveal_until,
            open_until,
            round,
            seal,
        };
        QUALITY_ROUNDS.put(self.state, &id, &record);
        QUALITY_DUE.put(self.state, &(open_until + 1, id), &true);
        self.events.push(Event::QualityOpened { round: id, domain, owner, setter, members, seal_until });
    }

    pub(super) fn quality_seal(
        &mut self,
        sender: Address,
        id: Hash32,
        commitment: Hash32,
    ) -> Result<(), Reject> {
        let mut record = self.quality_round(id)?;
        if sender != record.setter {
            return Err(Reject::QualitySetter { round: id, setter: record.setter, sender });
        }
        if record.round.is_some() {
            return Err(Reject::QualityFault { round: id, fault: RoundFault::Twice });
        }
        self.in_time(record.seal_until)?;
        let round = Round::open(id, commitment, &record.committee, record.commit_until, record.reveal_until);
        record.round =
            Some(round.expect("a drawn committee has few members, once each, and deadlines are ordered"));
        QUALITY_ROUNDS.put(self.state, &id, &record);
        self.events.push(Event::QualitySealed { round: id });
        Ok(())
    }

    pub(super) fn quality_commit(
        &mut self,
        sender: Address,
        id: Hash32,
        commitment: Hash32,
    ) -> Result<(), Reject> {
        let height = self.ctx.height;
        self.play_round(id, |round| round.commit(height, sender, commitment))?;
        self.events.push(Event::QualityCommitted { round: id, validator: sender });
        Ok(())
    }

    pub(super) fn quality_reveal(&mut self, sender: Address, reveal: &dn_powr::Reveal) -> Result<(), Reject> {
        if reveal.validator != sender {
            return Err(Reject::VerdictAuditor { auditor: reveal.validator, sender });
        }
        let height = self.ctx.height;
        self.play_round(reveal.round, |round| round.reveal(height, reveal))?;
        let (round, score) = (reveal.round, reveal.score);
        self.events.push(Event::QualityRevealed { round, validator: sender, score });
        Ok(())
    }

    fn play_round(
        &mut self,
        id: Hash32,
        play: impl FnOnce(&mut Round) -> Result<(), RoundError>,
    ) -> Result<(), Reject> {
        let mut record = self.quality_round(id)?;
        let Some(round) = &mut record.round else {
            return Err(Reject::QualityFault { round: id, fault: RoundFault::NotSealed });
        };
        play(round).map_err(|error| Reject::QualityFault { round: id, fault: error.into() })?;
        QUALITY_ROUNDS.put(self.state, &id, &record);
        Ok(())
    }

    /// The setter opens the seal, and proves that the round was a canary exactly if its VRF says so.
    pub(super) fn quality_unseal(
        &mut self,
        sender: Address,
        seal: &Seal,
        draw: &Reveal,
    ) -> Result<(), Reject> {
        let id = seal.round;
        let mut record = self.quality_round(id)?;
        if sender != record.setter {
            return Err(Reject::QualitySetter { round: id, setter: record.setter, sender });
        }
        let fault = |fault| Reject::QualityFault { round: id, fault };
        let Some(round) = &record.round else { return Err(fault(RoundFault::NotSealed)) };
        if record.seal.is_some() {
            return Err(fault(RoundFault::Twice));
        }
        if self.ctx.height <= record.reveal_until {
            return Err(fault(RoundFault::Early));
        }
        self.in_time(record.open_until)?;
        let review = &self.ctx.params.quality.review;
        round.settle(self.ctx.height, Some(seal), review).map_err(|error| fault(error.into()))?;
        if draw.public.address() != sender {
            return Err(Reject::QualityDraw { round: id });
        }
        let value = draw.proof.verify(&draw.public, &canary_input(&id));
        let value = value.map_err(|_| Reject::QualityDraw { round: id })?;
        let canary = is_canary(&value.0, &record.beacon.0, &id, review.canary_rate);
        if canary != seal.known.is_some() {
            return Err(Reject::QualityCanary { round: id, drawn: canary });
        }
        record.seal = Some(*seal);
        QUALITY_ROUNDS.put(self.state, &id, &record);
        self.events.push(Event::QualityUnsealed { round: id, canary });
        Ok(())
    }

    fn quality_round(&self, id: Hash32) -> Result<QualityRound, Reject> {
        QUALITY_ROUNDS.get(self.state, &id).ok_or(Reject::UnknownRound { round: id })
    }

    const fn in_time(&self, deadline: u64) -> Result<(), Reject> {
        let height = self.ctx.height;
        if height > deadline { Err(Reject::TooLate { deadline, height }) } else { Ok(()) }
    }

    /// Rounds whose last deadline passed.
    pub(super) fn settle_rounds(&mut self) {
        let due: Vec<_> = QUALITY_DUE
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(height, _)| *height <= self.ctx.height)
            .take(MAX_SETTLED_PER_BLOCK as usize)
            .collect();
        for (height, id) in due {
            QUALITY_DUE.remove(self.state, &(height, id));
            let Some(record) = QUALITY_ROUNDS.get(self.state, &id) else { continue };
            QUALITY_ROUNDS.remove(self.state, &id);
            self.settle_round(id, &record);
        }
    }

    fn settle_round(&mut self, id: Hash32, record: &QualityRound) {
        // Who seals and does not open it, or never seals, has missed a task as a silent auditor has.
        let opened = record.seal.is_some();
        VALIDATOR_EPOCHS.update(self.state, &record.setter, |epoch| {
            if opened { epoch.timely(Weight::ONE) } else { epoch.missed(Weight::ONE) }
        });
        let review = &self.ctx.params.quality.review;
        let settled = record.round.as_ref().map(|round| {
            round
                .settle(self.ctx.height, record.seal.as_ref(), review)
                .expect("the reveals are over, and the seal was checked when it was opened")
        });
        let Settled { known, consensus, members } =
            settled.unwrap_or(Settled { known: None, consensus: None, members: Vec::new() });
        for member in &members {
            VALIDATOR_EPOCHS.update(self.state, &member.validator, |epoch| member.fold(Weight::ONE, epoch));
            let clamped = match (member.attendance, consensus) {
                (Attendance::Revealed { score }, Some(consensus)) => Some(consensus.clamp(score)),
                _ => None,
            };
            let (validator, finding) = (member.validator, member.finding);
            self.events.push(Event::QualityJudged { round: id, validator, finding, clamped });
        }
        if let Some(consensus) = consensus {
            let settled = SettledQuality { quality: consensus.quality, epoch: self.ctx.epoch() };
            QUALITIES.put(self.state, &(record.domain, record.owner), &settled);
        }
        let (domain, owner, canary) = (record.domain, record.owner, known.is_some());
        self.events.push(Event::QualitySettled { round: id, domain, owner, canary, consensus });
    }

    /// Whoever takes over models in a domain where no committee scored it starts with what was said of the owner before, so that handing models on to
    /// a fresh identity is no way back to neutral. Its own record stays: else a stranger's gift could spoil it.
    pub(super) fn inherit_quality(&mut self, domain: u32, from: Address, to: Address) {
        if QUALITIES.contains(self.state, &(domain, to)) {
            return;
        }
        if let Some(settled) = QUALITIES.get(self.state, &(domain, from)) {
            QUALITIES.put(self.state, &(domain, to), &settled);
        }
    }

    /// What the last committee said of an owner's models in a domain; neutral where none did.
    pub(super) fn quality_of(&self, domain: u32, owner: Address) -> Unit {
        QUALITIES.get(self.state, &(domain, owner)).map_or(Unit::ONE, |settled| settled.quality)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use dn_trust::ValidatorEpoch;

    use super::*;
    use crate::chain::tests::chain;

    fn id(n: u16) -> Hash32 {
        let mut id = [9; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        Hash32(id)
    }

    fn setter(n: u16) -> Address {
        let mut who = [7; 20];
        who[..2].copy_from_slice(&n.to_be_bytes());
        Address(who)
    }

    /// A round that its setter never sealed.
    fn silent(setter: Address, open_until: u64) -> QualityRound {
        QualityRound {
            domain: 0,
            owner: Address([3; 20]),
            setter,
            beacon: Hash32::default(),
            committee: Vec::new(),
            seal_until: open_until,
            commit_until: open_until,
            reveal_until: open_until,
            open_until,
            round: None,
            seal: None,
        }
    }

    /// Rounds for which a block has no room are settled in the next one, the oldest first, each once.
    #[test]
    fn a_block_settles_so_many_rounds() {
        let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
        let (rest, count) = (10, MAX_SETTLED_PER_BLOCK as u16 + 10);
        // The first ones are due a block later than those after them, and the last one is not due yet.
        let due = |n: u16| if n == count { 9 } else { 5 + u64::from(n < rest) };
        for n in 0..=count {
            QUALITY_ROUNDS.put(&mut state, &id(n), &silent(setter(n), due(n) - 1));
            QUALITY_DUE.put(&mut state, &(due(n), id(n)), &true);
        }
        let mut settled_at = |height| {
            ctx.height = height;
            let mut step = Step::new(&mut state, &ctx);
            step.settle_rounds();
            let settled = |event: &Event| match event {
                Event::QualitySettled { round, .. } => Some(*round),
                _ => None,
            };
            step.events.iter().filter_map(settled).collect::<Vec<_>>()
        };
        let ids = |range: Range<u16>| range.map(id).collect::<Vec<_>>();
        assert_eq!(settled_at(6), ids(rest..count));
        assert_eq!(settled_at(7), ids(0..rest));
        assert!(settled_at(8).is_empty());
        let mut once = ValidatorEpoch::default();
        once.missed(Weight::ONE);
        for n in 0..count {
            assert_eq!(VALIDATOR_EPOCHS.get(&state, &setter(n)), Some(once), "the setter of round {n}");
        }
        assert_eq!(VALIDATOR_EPOCHS.get(&state, &setter(count)), None);
        let open: Vec<_> = QUALITY_ROUNDS.iter(&state).map(|(id, _)| id).collect();
        let waiting: Vec<_> = QUALITY_DUE.iter(&state).map(|(key, _)| key).collect();
        assert_eq!((open, waiting), (vec![id(count)], vec![(9, id(count))]));
    }
}
