//! What time brings: draws, deadlines, clocks, the end of an epoch. The third part of the naive specification of audits.

use std::collections::BTreeMap;

use dn_core::wide::mul_div_rem;
use dn_core::{Address, Amount, BatchId, Hash32, keccak256};
use dn_ledger::Role;
use dn_ledger::events::Event;
use dn_ledger::referee::{Ending, Side};
use dn_ledger::state::{AuditResult, IdentityStatus, Pool};

use super::audits_records::{Audit, Batch, Place, Task};
use super::audits_spec::Spec;

/// One whole, in basis points.
const WHOLE: u128 = 10_000;
/// One, in the ledger's units of trust.
const ONE: u128 = 1 << 32;
/// Tickets that may be drawn for nobody before those who can be drawn are listed.
const TRIES: usize = 64;

impl Spec {
    /// The start of a block: what was not said in time, whose clock ran out, what is drawn and paid.
    pub(super) fn begin_block(&mut self, height: u64, beacon: Hash32, proposer: Address, missed: &[Address]) {
        (self.height, self.beacon) = (height, beacon);
        self.turns.entry(proposer).or_default().made += 1;
        missed.iter().for_each(|who| self.turns.entry(*who).or_default().missed += 1);
        for place in self.places(Audit::is_open) {
            self.expire(place);
        }
        // None soon after a block that was full of moves.
        if !self.is_crowded() {
            let due = |audit: &Audit| audit.disputed().is_some_and(|dispute| height > dispute.until);
            let mut due = self.places(|audit| audit.is_open() && due(audit));
            due.sort_by_key(|place| self.audit(*place).dispute.as_ref().map(|dispute| dispute.until));
            for place in due {
                // Another one may have ended the batch just now.
                if let Some(dispute) = self.audit(place).disputed() {
                    let silent = dispute.turn == Side::Worker;
                    let ending = if silent { Ending::WorkerSilent {} } else { Ending::AccuserSilent {} };
                    self.end_dispute(place, ending);
                }
            }
        }
        let delay = self.params.beacon.delay_blocks;
        let due = |batch: &Batch| !batch.drawn && height >= batch.posted + delay;
        let due: Vec<BatchId> = self.batches.iter().filter(|(_, b)| due(b)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.draw(id));
        self.settle_due();
    }

    fn places(&self, wanted: impl Fn(&Audit) -> bool) -> Vec<Place> {
        let all =
            self.batches.iter().flat_map(|(id, batch)| batch.audits.iter().map(|(n, a)| ((*id, *n), a)));
        all.filter(|(_, audit)| wanted(audit)).map(|(place, _)| place).collect()
    }

    /// Whoever has not said in time what was asked missed it. One who was asked alone is replaced, and what was said in a vote counts.
    fn expire(&mut self, place: Place) {
        let height = self.height;
        let audit = self.audit(place);
        // Another one may have ended the batch just now; and the two sides of a dispute have their clocks.
        if !audit.is_open() || audit.disputed().is_some() {
            return;
        }
        let is_vote = audit.accuser.is_some();
        let waits = |task: &Task| task.waits() && task.commitment.is_none();
        let uncommitted = height > audit.commit_until && audit.tasks.values().any(waits);
        if height <= audit.reveal_until && (is_vote || !uncommitted) {
            return;
        }
        let silent: Vec<Address> =
            audit.tasks.iter().filter(|(_, task)| task.waits()).map(|(who, _)| *who).collect();
        for auditor in silent {
            self.audit(place).tasks.get_mut(&auditor).unwrap().missed = true;
            self.validator(auditor).missed += 1;
            self.told.push(Event::AuditMissed { batch: place.0, index: place.1, auditor });
        }
        if is_vote {
            self.count_votes(place);
        } else {
            self.ask_another(place);
        }
    }

    /// Somebody else, once.
    pub(super) fn ask_another(&mut self, place: Place) {
        let (commit_until, reveal_until) = self.times();
        let drawn =
            if self.audit(place).replaced == 0 { self.draw_auditor(place, "auditor 1") } else { None };
        let Some((who, weight)) = drawn else { return self.close(place, AuditResult::NoAudit) };
        let audit = self.audit(place);
        audit.replaced = 1;
        (audit.commit_until, audit.reveal_until) = (commit_until, reveal_until);
        audit.tasks.insert(who, Task::new(weight));
    }

    /// Which receipts of a batch are looked at, and by whom.
    fn draw(&mut self, id: BatchId) {
        let batch = self.batches.get_mut(&id).unwrap();
        batch.drawn = true;
        let batch = batch.clone();
        if self.models[&batch.body.lines[0].model].1.numeric_spec == 0 {
            return;
        }
        let rate = if batch.doubted { WHOLE } else { self.rate(batch.body.worker) };
        let seed = self.seed(id);
        let is_drawn = |index: &u32| {
            let sixteen = keccak256(&[&seed, b"indices", &(index / 16 * 16).to_le_bytes()]);
            let at = *index as usize % 16 * 2;
            u128::from(u16::from_le_bytes([sixteen[at], sixteen[at + 1]])) * WHOLE < rate << 16
        };
        let mut drawn: Vec<u32> = (0..batch.body.count).filter(is_drawn).collect();
        drawn.sort_by_key(|index| ticket(&seed, *index, "order"));
        let most = self.params.audit_times.max_per_batch as usize;
        if drawn.len() > most {
            drawn.truncate(most);
            self.cut += 1;
        }
        let (commit_until, reveal_until) = self.times();
        for index in drawn {
            if let Some((who, weight)) = self.draw_auditor((id, index), "auditor 0") {
                let (replaced, accuser, dispute, result) = (0, None, None, None);
                let tasks = BTreeMap::from([(who, Task::new(weight))]);
                let audit = Audit { replaced, accuser, commit_until, reveal_until, tasks, dispute, result };
                self.batches.get_mut(&id).unwrap().audits.insert(index, audit);
            }
        }
    }

    /// floor + (ceiling − floor)·(1 − T)², rounded up.
    fn rate(&self, worker: Address) -> u128 {
        let rates = &self.params.audit_rate;
        let (ceiling, floor) = (u128::from(rates.ceiling), u128::from(rates.floor));
        let doubt = ONE - self.trust[&worker];
        floor + ((ceiling - floor) * (doubt * doubt / ONE)).div_ceil(ONE)
    }

    fn seed(&self, id: BatchId) -> [u8; 32] {
        keccak256(&[b"DeepNode audit draw v1", &self.beacon.0, &id.0])
    }

    /// What validators are drawn by now, in the order of their addresses.
    pub(super) fn line(&self) -> Vec<(Address, u128)> {
        let now = self.weights.iter().rfind(|(from, _)| *from <= self.height).unwrap();
        now.1.iter().filter(|(_, weight)| **weight > 0).map(|(who, weight)| (*who, *weight)).collect()
    }

    /// An active validator that took no part in the batch and was not asked about the receipt yet.
    fn draw_auditor(&self, (id, index): Place, purpose: &str) -> Option<(Address, u128)> {
        let (batch, mut line, mut seed) = (&self.batches[&id], self.line(), self.seed(id));
        let asked = |who| batch.audits.get(&index).is_some_and(|audit| audit.tasks.contains_key(&who));
        let may = |who| !batch.takes_part(who) && !asked(who);
        let mut tries = 0;
        loop {
            let (who, weight) = stands_at(&line, ticket(&seed, index, purpose))?;
            if may(who) && self.is_active(Role::Validator, who) {
                return Some((who, weight));
            }
            tries += 1;
            if tries == TRIES {
                line.retain(|(who, _)| may(*who));
            } else if tries > TRIES {
                line.retain(|(other, _)| *other != who);
            }
            seed = keccak256(&[b"DeepNode another draw v1", &seed]);
        }
    }

    /// The end of a block. `trust` is the validators' after the epoch, in 2⁻³².
    pub(super) fn end_epoch(&mut self, trust: &BTreeMap<Address, u128>) {
        self.heard.clear();
        self.worked.clear();
        self.pay_validators(trust);
        self.turns.clear();
        let active = |who: &Address| self.is_active(Role::Validator, *who);
        let power = |(who, stake): (&Address, &u128)| (*who, stake * (ONE + trust[who]) / (2 * ONE));
        let powers = self.books.stakes.iter().filter(|(who, _)| active(who)).map(power).collect();
        self.weights.push((self.height + self.params.beacon.delay_blocks + 1, powers));
    }

    /// The validators' pool is divided by stake × trust: everybody's exact part rounded down, what is left one atto each to the largest remainders, the
    /// smaller address first where they are equal. Missed turns and false alarms cost of that as much as there is.
    fn pay_validators(&mut self, trust: &BTreeMap<Address, u128>) {
        let pot = self.books.pools.get(&Pool::Validators).copied().unwrap_or_default();
        let active =
            self.books.bonds.iter().filter(|((role, _), (_, status))| {
                *role == Role::Validator && *status == IdentityStatus::Active
            });
        let points: Vec<(Address, u128)> =
            active.map(|((_, who), _)| (*who, self.books.stakes[who] * trust[who] / ONE)).collect();
        let all: u128 = points.iter().map(|(_, points)| points).sum();
        if all == 0 || pot == 0 {
            return;
        }
        let part = |(who, points): &(Address, u128)| {
            let (part, rest) = mul_div_rem(pot, *points, all).unwrap();
            (std::cmp::Reverse(rest), *who, part)
        };
        let mut parts: Vec<_> = points.iter().map(part).collect();
        parts.sort();
        let left = pot - parts.iter().map(|(.., part)| part).sum::<u128>();
        for (n, (_, validator, part)) in (0u128..).zip(parts) {
            let pay = part + u128::from(n < left);
            let turned = self.turns.get(&validator).copied().unwrap_or_default();
            let each = self.params.beacon.miss_penalty.atto();
            let charge = pay.min(each * u128::from(turned.missed + turned.alarms));
            *self.books.pools.get_mut(&Pool::Validators).unwrap() -= pay;
            self.fill(Pool::Burned, charge);
            *self.books.stakes.get_mut(&validator).unwrap() += pay - charge;
            if charge > 0 {
                let (missed, alarms, amount) = (turned.missed, turned.alarms, Amount::from_atto(charge));
                self.told.push(Event::TurnsCharged { validator, missed, alarms, amount });
            }
        }
    }
}

/// A number that nobody knew before the batch stood.
fn ticket(seed: &[u8; 32], index: u32, purpose: &str) -> u128 {
    let hash = keccak256(&[seed, &index.to_le_bytes(), purpose.as_bytes()]);
    u128::from_le_bytes(hash[..16].try_into().unwrap())
}

/// Who stands where the ticket falls, on a line on which everybody is as wide as its weight.
fn stands_at(line: &[(Address, u128)], ticket: u128) -> Option<(Address, u128)> {
    let all: u128 = line.iter().map(|(_, weight)| weight).sum();
    // All of it times ticket / 2^128.
    let mut point = mul_div_rem(ticket, all, 1 << 127).unwrap().0 / 2;
    line.iter().copied().find(|(_, weight)| {
        let here = point < *weight;
        point = point.saturating_sub(*weight);
        here
    })
}
