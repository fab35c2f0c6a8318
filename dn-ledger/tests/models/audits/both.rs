//! Audits and disputes against the naive specification of them: whatever is said and whenever, both take or refuse it alike, and after each request and
//! each block everybody was asked, has and is known for the same.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::objects::{BatchLine, Receipt};
use dn_core::{Address, BatchId, ChannelId, ModelId, Signed, keccak256};
use dn_ledger::events::Event;
use dn_ledger::state::{
    ACCOUNTS, AuditResult, BEACON, IDENTITIES, IdentityStatus, STAKE_SHARES, VALIDATOR_TRUST, WORKER_TRUST,
};
use dn_ledger::tx::{Shares, channel_id, escrow_id};
use dn_ledger::{Payload, Role};

use super::Machine;
use super::audits_batches::Bundle;
use super::audits_records::{Batch, Books, Task};
use super::audits_requests::{Fate, Op};
use super::audits_spec::Spec;
use super::audits_world::{PAYERS, VALIDATORS, WORKERS, address, name_of};
use crate::common::key;

/// The ledger and the specification side by side.
pub(super) struct Both {
    pub(super) m: Machine,
    pub(super) spec: Spec,
    /// Of those that the referee knows, that it does not, and that are not exact.
    pub(super) models: [ModelId; 3],
    pub(super) channels: [(ChannelId, &'static str); 2],
    pub(super) fates: BTreeMap<BatchId, Fate>,
    pub(super) receipts: BTreeMap<BatchId, Vec<Signed<Receipt>>>,
    pub(super) jobs: BTreeSet<BatchId>,
    /// How often what was taken, refused or happened.
    pub(super) seen: BTreeMap<String, u32>,
    pub(super) seed: u8,
}

impl Both {
    /// How often something was taken, refused or happened.
    pub(super) fn times(&self, what: &str) -> u32 {
        self.seen.get(what).copied().unwrap_or_default()
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    /// What other models specify is as the ledger says.
    pub(super) fn take_over(&mut self) {
        self.spec.books = Books::read(&self.m.state);
        let (state, rules) = (&self.m.state, &self.spec.params.trust);
        let trust = WORKER_TRUST.iter(state);
        let trust = trust.map(|(who, trust)| (who, u128::from(trust.weight(rules).value().bits())));
        self.spec.trust = trust.collect();
    }

    /// Something that is not specified here: whether it is taken is the ledger's to say.
    pub(super) fn given(&mut self, who: &str, payload: Payload) -> bool {
        let taken = self.m.send(who, payload).is_some();
        if taken {
            self.take_over();
        }
        taken
    }

    /// Both take it, or both refuse it.
    pub(super) fn send(&mut self, who: &str, payload: Payload) -> bool {
        let is_late = self.is_late(&payload);
        let expected = self.spec.submit(address(who), &payload);
        if is_late && expected {
            self.note("late, since blocks were full");
        }
        let events = self.m.send(who, payload.clone());
        assert_eq!(
            events.is_some(),
            expected,
            "taken by the ledger, by the specification: {who}: {payload:?}"
        );
        let json = serde_json::to_value(&payload).unwrap();
        self.note(format!(
            "{} {}",
            if expected { "took" } else { "refused" },
            json["type"].as_str().unwrap()
        ));
        self.hear(&events.unwrap_or_default());
        self.compare();
        expected
    }

    /// A move after its clock ran out.
    fn is_late(&self, payload: &Payload) -> bool {
        let (Payload::DisputeOpen { batch, index, .. }
        | Payload::DisputePick { batch, index, .. }
        | Payload::DisputeAnswer { batch, index, .. }) = payload
        else {
            return false;
        };
        let audit = self.spec.batches.get(batch).and_then(|batch| batch.audits.get(index));
        audit.and_then(|audit| audit.disputed()).is_some_and(|dispute| self.spec.height > dispute.until)
    }

    /// What is said to have happened is what the specification says, and each event once.
    fn hear(&mut self, events: &[Event]) {
        let mut told: Vec<_> = std::mem::take(&mut self.spec.told).iter().map(|e| format!("{e:?}")).collect();
        let mut heard = Vec::new();
        for event in events {
            let json = serde_json::to_value(event).unwrap();
            self.note(json["event"].as_str().unwrap());
            match event {
                Event::AuditClosed { batch, index, result } => {
                    let audit = &self.spec.batches[batch].audits[index];
                    let way = match (audit.accuser, &audit.dispute) {
                        (None, _) => "alone",
                        _ if *result == AuditResult::Cancelled => "accused",
                        (_, None) => "by vote",
                        _ => "in dispute",
                    };
                    self.note(format!("{result:?} {way}"));
                }
                Event::AuditAssigned { batch, index, .. } => {
                    let audit = &self.spec.batches[batch].audits[index];
                    if audit.replaced > 0 && audit.accuser.is_none() {
                        self.note("somebody else is asked");
                    }
                }
                Event::DisputeEnded { outcome, .. } => {
                    let json = serde_json::to_value(outcome).unwrap();
                    self.note(format!("ends {}", json["ending"].as_str().unwrap()));
                }
                Event::BatchVoided { batch, .. } => {
                    let gone = |line: &BatchLine| !self.spec.books.channels.contains_key(&line.channel);
                    let record = &self.spec.batches[batch];
                    if self.jobs.contains(batch) {
                        self.note("a job is thrown out");
                    } else if record.body.lines.iter().any(gone) {
                        self.note("fees go back to a payer");
                    }
                }
                Event::Slashed { cause, .. } => self.note(format!("slashed for {cause:?}")),
                Event::JobBondReleased { taken, .. } if !taken.is_zero() => self.note("a bond is taken"),
                Event::TurnsCharged { missed, alarms, amount, .. } => {
                    let each = self.spec.params.beacon.miss_penalty.atto() * u128::from(missed + alarms);
                    self.note(if amount.atto() == each {
                        "charged in full"
                    } else {
                        "charged what there is"
                    });
                    if *alarms > 0 {
                        self.note("an alarm is charged");
                    }
                }
                _ => {}
            }
            let is_told = matches!(
                event,
                Event::AuditClosed { .. }
                    | Event::DisputeEnded { .. }
                    | Event::Slashed { .. }
                    | Event::AuditMissed { .. }
                    | Event::TurnsCharged { .. }
            );
            heard.extend(is_told.then(|| format!("{event:?}")));
        }
        told.sort();
        heard.sort();
        assert_eq!(heard, told, "what the ledger says, what it should");
        self.check_assigned(events);
    }

    /// Whatever the draws are by: nobody audits its own, nor who has left, nothing before the delay is over, and all have their full time.
    fn check_assigned(&self, events: &[Event]) {
        for event in events {
            let Event::AuditAssigned { batch, index, auditor, commit_deadline, reveal_deadline } = event
            else {
                continue;
            };
            let record = &self.spec.batches[batch];
            let times = &self.spec.params.audit_times;
            assert!(*index < record.body.count && !record.takes_part(*auditor));
            assert!(self.spec.height >= record.posted + self.spec.params.beacon.delay_blocks);
            assert_eq!(*commit_deadline, self.spec.height + times.commit_blocks);
            assert_eq!(*reveal_deadline, *commit_deadline + times.reveal_blocks);
            let status = IDENTITIES.get(&self.m.state, &(Role::Validator, *auditor)).unwrap().status;
            assert_eq!(status.release_epoch(), None, "who has left");
        }
    }

    pub(super) fn next_block(&mut self) {
        let ends = self.m.ctx.ends_epoch();
        let events = self.m.end_block();
        if ends {
            let rules = self.spec.params.trust.clone();
            let trust = VALIDATOR_TRUST.iter(&self.m.state);
            let trust = trust.map(|(who, trust)| (who, u128::from(trust.weight(&rules).value().bits())));
            self.spec.end_epoch(&trust.collect());
        }
        self.hear(&events);
        self.compare();
        if ends {
            self.take_over();
        }
        // Somebody lets its turn pass now and then.
        let dice = keccak256(&[&[self.seed], &self.m.ctx.height.to_le_bytes()]);
        let missed: Vec<Address> = VALIDATORS
            .iter()
            .zip(dice)
            .filter(|(_, dice)| dice % 16 == 0)
            .map(|(name, _)| address(name))
            .collect();
        self.m.ctx.parent_missed = missed.clone();
        let events = self.m.begin_block();
        let beacon = BEACON.get(&self.m.state, &0).unwrap();
        self.spec.begin_block(self.m.ctx.height, beacon, self.m.ctx.proposer, &missed);
        for event in &events {
            if let Event::JobRefunded { payer, amount, .. } = event {
                self.spec.give(*payer, amount.atto());
            }
        }
        self.hear(&events);
        self.compare();
    }

    /// A batch that was taken.
    fn posted(&mut self, bundle: Bundle, payers: Vec<Address>, bond: u128, doubted: bool, fate: Fate) {
        let id = bundle.body.id();
        let (posted, drawn, audits, end) = (self.m.ctx.height, false, BTreeMap::new(), None);
        let batch = Batch { body: bundle.body, payers, bond, doubted, posted, drawn, audits, end };
        self.spec.batches.insert(id, batch);
        self.receipts.insert(id, bundle.receipts);
        self.fates.insert(id, fate);
    }

    fn post(&mut self, worker: &str, (channels, model, kinds): (u8, ModelId, &[u8]), fate: Fate) {
        let bundle = self.bundle(worker, channels, model, kinds);
        let lines = &bundle.body.lines;
        let vouchers = lines.iter().map(|line| self.voucher(line)).collect();
        let payer = |channel| self.channels.iter().find(|(id, _)| *id == channel).unwrap().1;
        let payers = lines.iter().map(|line| address(payer(line.channel))).collect();
        let batch = Signed::sign(bundle.body.clone(), &key("gateway"));
        if self.given(worker, Payload::PostBatch { batch, vouchers }) {
            self.note("a batch");
            self.posted(bundle, payers, 0, false, fate);
        }
    }

    fn work_for(&mut self, worker: &str, bond: u8, (accepted, kind): (bool, u8), fate: Fate) {
        let job = self.job(worker, bond);
        let nonce = ACCOUNTS.get(&self.m.state, &address("payer")).unwrap().nonce;
        let escrow = escrow_id(address("payer"), address("gateway"), nonce);
        if !self.given("payer", Payload::LockJob { job }) {
            return;
        }
        let (bundle, claim) = self.claim(worker, escrow, kind, accepted);
        if self.given(worker, claim) {
            self.note(if accepted { "an accepted job" } else { "a doubted job" });
            self.jobs.insert(bundle.body.id());
            self.posted(bundle, vec![address("payer")], job.bond.atto(), !accepted, fate);
        }
    }

    pub(super) fn change_channel(&mut self, n: usize) {
        let payer = PAYERS[n];
        let payload = self.channel_step(n);
        let nonce = ACCOUNTS.get(&self.m.state, &address(payer)).unwrap().nonce;
        let opens = matches!(payload, Payload::OpenChannel { .. });
        if self.given(payer, payload) && opens {
            self.channels[n].0 = channel_id(address(payer), address("gateway"), nonce);
        }
    }

    fn suspended(&self, n: u8) -> Option<(Role, Address)> {
        let status = |(_, status): &(u128, IdentityStatus)| *status == IdentityStatus::Suspended;
        let bonds = self.spec.books.bonds.iter().filter(|(_, bond)| status(bond));
        let all: Vec<_> = bonds.map(|(key, _)| *key).collect();
        all.get(usize::from(n) % all.len().max(1)).copied()
    }

    pub(super) fn step(&mut self, op: &Op) {
        match op {
            Op::Blocks { count } => (0..*count).for_each(|_| self.next_block()),
            Op::Post { worker, channels, model, receipts, fate } => {
                // Mostly one whose audits can be disputed.
                let model = self.models[usize::from(*model).saturating_sub(5)];
                self.post(WORKERS[*worker], (*channels, model, receipts), *fate);
            }
            Op::Job { worker, bond, accepted, kind, fate } => {
                self.work_for(WORKERS[*worker], *bond, (*accepted, *kind), *fate);
            }
            Op::Audit { task, spoil } => {
                let open = self.open_tasks();
                let Some((place, who)) = open.get(usize::from(*task) % open.len().max(1)) else { return };
                let (who, payload) = self.next_word(*place, *who, *spoil);
                self.send(who, payload);
            }
            Op::Everybody { skip } => self.everybody(*skip),
            Op::Sides { skip, says } => {
                // One may end others.
                for (who, payload) in self.sides(*skip, *says) {
                    self.send(who, payload);
                }
            }
            Op::Open { dispute, rest, spoil } => {
                if let Some((who, payload)) = self.opening(*dispute, *rest, *spoil) {
                    self.send(who, payload);
                }
            }
            Op::Move { dispute, says, spoil } => {
                if let Some((who, payload)) = self.dispute_move(*dispute, *says, *spoil) {
                    self.send(who, payload);
                }
            }
            Op::Channel { payer } => self.change_channel(*payer),
            Op::Unbond { validator, part } => {
                let (who, validator) = (VALIDATORS[*validator], address(VALIDATORS[*validator]));
                let held = STAKE_SHARES.get_or_default(&self.m.state, &(validator, validator)).0;
                let shares = Shares(held / 20 * u128::from(*part));
                self.given(who, Payload::Unbond { validator, shares });
            }
            Op::Retire { validator } => {
                // Few do, and never those with most of the weight.
                if let Some(who) = VALIDATORS.get(*validator).filter(|_| *validator > 3) {
                    self.given(who, Payload::Retire { role: Role::Validator });
                }
            }
            Op::Return { who } => {
                let Some((role, who)) = self.suspended(*who) else { return };
                let collateral = self.spec.params.collateral.of(role);
                let (name, endpoint) = ("again".to_owned(), String::new());
                self.given(name_of(who), Payload::Register { role, collateral, name, endpoint });
            }
        }
        self.compare();
    }

    /// All who are asked say what is next, but some, and nobody about some batches.
    fn everybody(&mut self, skip: u8) {
        for (place, who) in self.open_tasks() {
            let dice = keccak256(&[&place.0.0, &who.0, &self.m.ctx.height.to_le_bytes()])[0];
            let asked = self.spec.batches[&place.0].audits.get(&place.1).filter(|audit| audit.is_open());
            let waits = asked.is_some_and(|audit| audit.tasks.get(&who).is_some_and(Task::waits));
            if waits && place.0.0[0] % 16 > 0 && dice % 6 >= skip {
                let (who, payload) = self.next_word(place, who, u8::MAX);
                self.send(who, payload);
            }
        }
    }
}
