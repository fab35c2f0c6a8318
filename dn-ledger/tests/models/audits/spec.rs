//! Audits and disputes as the design says them, as simply as it can be said: who is asked what and until when, what may be said about it.
//!
//! Sources: sections 2 and 3 of the protocol, sections 1, 4 and 8 of `docs/economics.md`, ADR 3, 6 and 13. Everything is a plain map, and a request that is
//! refused is undone by taking the copy from before it. What the other models specify is taken from the ledger as given: what a batch is, who
//! registers, stakes and leaves, and what trust is.

use std::collections::BTreeMap;

use dn_core::merkle::InclusionProof;
use dn_core::objects::{AuditOutcome, ModelManifest, Receipt, Verdict};
use dn_core::{Address, BatchId, Canonical, Hash32, ModelId, Signed, keccak256};
use dn_ledger::events::Event;
use dn_ledger::referee::{Ending, Side, Standing};
use dn_ledger::state::{AuditResult, IdentityStatus, Pool};
use dn_ledger::tx::Ground;
use dn_ledger::{Params, Payload, Role};

use super::audits_records::{Audit, Batch, Books, Dispute, Heard, Place, Task, Turned, Worked};
use super::audits_script as script;

/// The most moves of a dispute.
const MOST_MOVES: usize = 64;

/// Everything that audits are about.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) params: Params,
    pub(super) chain_id: u64,
    pub(super) height: u64,
    pub(super) beacon: Hash32,
    pub(super) books: Books,
    /// Who earns with a model, and what it is.
    pub(super) models: BTreeMap<ModelId, (Address, ModelManifest)>,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    /// What validators are drawn by and vote with, from a height on; the newest last.
    pub(super) weights: Vec<(u64, BTreeMap<Address, u128>)>,
    /// Workers' trust in 2⁻³².
    pub(super) trust: BTreeMap<Address, u128>,
    pub(super) heard: BTreeMap<Address, Heard>,
    pub(super) worked: BTreeMap<Address, Worked>,
    pub(super) turns: BTreeMap<Address, Turned>,
    /// How many moves a block took.
    pub(super) moves: BTreeMap<u64, u32>,
    /// Of how many batches more was drawn than is audited.
    pub(super) cut: u32,
    /// What everybody should be told.
    pub(super) told: Vec<Event>,
}

/// What must hold for a request to be taken.
fn must(holds: bool) -> Option<()> {
    holds.then_some(())
}

impl Spec {
    /// Whether a request is taken. One that is refused does nothing at all.
    pub(super) fn submit(&mut self, sender: Address, payload: &Payload) -> bool {
        let before = self.clone();
        let taken = self.transact(sender, payload).is_some();
        if !taken {
            *self = before;
        }
        taken
    }

    fn transact(&mut self, sender: Address, payload: &Payload) -> Option<()> {
        // Chain, sender, nonce, expiry and fee take 60 bytes.
        let kib = (60 + payload.to_bytes().len()).div_ceil(1024);
        let fee = self.params.min_tx_fee.atto() * kib as u128;
        self.take(sender, fee)?;
        self.fill(Pool::Validators, fee);
        match payload {
            Payload::AuditCommit { batch, index, commitment } => {
                self.commit(sender, (*batch, *index), *commitment)
            }
            Payload::AuditReveal { verdict, salt } => self.reveal(sender, verdict, salt),
            Payload::DisputeOpen { batch, index, receipt, proof, ground } => {
                self.open(sender, (*batch, *index), (receipt, proof), *ground)
            }
            Payload::DisputePick { batch, index, step, bytes } => {
                self.play(sender, (*batch, *index), *step, Side::Accuser, &bytes.0)
            }
            Payload::DisputeAnswer { batch, index, step, bytes } => {
                self.play(sender, (*batch, *index), *step, Side::Worker, &bytes.0)
            }
            other => panic!("nothing is specified for {other:?}"),
        }?;
        self.settle_due();
        Some(())
    }

    pub(super) fn take(&mut self, who: Address, amount: u128) -> Option<()> {
        let held = self.books.balances.entry(who).or_default();
        *held = held.checked_sub(amount)?;
        Some(())
    }

    pub(super) fn give(&mut self, who: Address, amount: u128) {
        *self.books.balances.entry(who).or_default() += amount;
    }

    pub(super) fn fill(&mut self, pool: Pool, amount: u128) {
        *self.books.pools.entry(pool).or_default() += amount;
    }

    pub(super) fn is_active(&self, role: Role, who: Address) -> bool {
        self.books.bonds.get(&(role, who)).is_some_and(|(_, status)| *status == IdentityStatus::Active)
    }

    pub(super) fn has_referee(&self) -> bool {
        self.params.dispute.referee > 0
    }

    pub(super) fn audit(&mut self, (batch, index): Place) -> &mut Audit {
        self.batches.get_mut(&batch).unwrap().audits.get_mut(&index).unwrap()
    }

    fn open_audit(&mut self, (batch, index): Place) -> Option<&mut Audit> {
        self.batches.get_mut(&batch)?.audits.get_mut(&index).filter(|audit| audit.is_open())
    }

    pub(super) fn validator(&mut self, who: Address) -> &mut Heard {
        self.heard.entry(who).or_default()
    }

    fn commit(&mut self, sender: Address, place: Place, commitment: Hash32) -> Option<()> {
        let height = self.height;
        let audit = self.open_audit(place)?;
        must(height <= audit.commit_until)?;
        let task = audit.tasks.get_mut(&sender)?;
        must(task.waits() && task.commitment.is_none())?;
        task.commitment = Some(commitment);
        Some(())
    }

    fn reveal(&mut self, sender: Address, verdict: &Verdict, salt: &Hash32) -> Option<()> {
        let (height, place, outcome) = (self.height, (verdict.batch, verdict.index), verdict.outcome);
        must(verdict.auditor == sender)?;
        let audit = self.open_audit(place)?;
        must(height <= audit.reveal_until)?;
        // In a vote nobody shows anything while somebody may still commit, and copy it.
        let all_committed = audit.tasks.values().all(|task| task.commitment.is_some() || task.missed);
        let is_vote = audit.accuser.is_some();
        must(!is_vote || all_committed || height > audit.commit_until)?;
        let task = audit.tasks.get_mut(&sender)?;
        must(task.waits() && task.commitment? == Hash32(keccak256(&[&verdict.to_bytes(), &salt.0])))?;
        task.found = Some(outcome);
        let all_shown = !audit.tasks.values().any(Task::waits);
        if outcome != (AuditOutcome::Unjudged {}) {
            self.validator(sender).timely += 1;
        }
        match outcome {
            _ if is_vote => {
                if all_shown {
                    self.count_votes(place);
                }
            }
            AuditOutcome::Match {} => {
                self.validator(sender).aligned += 1;
                self.close(place, AuditResult::Passed);
            }
            AuditOutcome::Unjudged {} => self.ask_another(place),
            AuditOutcome::Mismatch { .. } if self.has_referee() => self.call(place, sender),
            AuditOutcome::Mismatch { .. } | AuditOutcome::Unavailable {} => self.vote(place, sender),
        }
        Some(())
    }

    /// The accuser brings the receipt, and says whether a tile can show what is wrong.
    fn open(
        &mut self,
        sender: Address,
        place: Place,
        (signed, proof): (&Signed<Receipt>, &InclusionProof),
        ground: Ground,
    ) -> Option<()> {
        let body = self.batches.get(&place.0)?.body.clone();
        let dispute = self.open_audit(place)?.disputed()?.clone();
        must(dispute.accuser == sender && dispute.receipt.is_none() && self.in_time(&dispute))?;
        if ground == Ground::Computation {
            self.count_move()?;
        }
        must((proof.index, proof.count) == (place.1.into(), body.count.into()))?;
        proof.verify(body.root, &signed.to_bytes()).ok()?;
        let r = &signed.body;
        must(r.worker == body.worker && signed.verify_any_time(self.chain_id).is_ok())?;
        let held = body.lines.iter().any(|line| {
            let same = (line.channel, line.lane) == (r.channel, r.lane)
                && (line.model, line.domain) == (r.model, r.domain);
            let (prompt, output) = (u64::from(r.prompt_tokens), u64::from(r.output_tokens));
            same && line.prompt_tokens >= prompt && line.output_tokens >= output && line.fees >= r.fee
        });
        if !held {
            self.end_dispute(place, Ending::Impossible {});
            return Some(());
        }
        if ground == Ground::Rest {
            self.audit(place).dispute = None;
            self.vote(place, sender);
            return Some(());
        }
        must(script::judges(&self.models[&r.model].1))?;
        self.audit(place).dispute.as_mut()?.receipt = Some(r.clone());
        self.stands(place, script::opened(r));
        Some(())
    }

    fn play(&mut self, sender: Address, place: Place, step: u32, side: Side, bytes: &[u8]) -> Option<()> {
        let dispute = self.open_audit(place)?.disputed()?.clone();
        must(sender == dispute.party(side) && dispute.receipt.is_some())?;
        must(side == dispute.turn && step as usize == dispute.moves.len() && step < MOST_MOVES as u32)?;
        must(self.in_time(&dispute))?;
        self.count_move()?;
        let standing = script::played(side, bytes).ok()?;
        // What it thought, at least a block. While blocks are full it may only have found no room.
        let used = (self.height - dispute.since).max(1);
        let least = if self.is_crowded() { self.params.dispute.open_blocks } else { 0 };
        let dispute = self.audit(place).dispute.as_mut()?;
        dispute.moves.push((side, bytes.to_vec()));
        let left = dispute.clock(side);
        *left = left.saturating_sub(used).max(least);
        self.stands(place, standing);
        Some(())
    }

    fn stands(&mut self, place: Place, standing: Standing) {
        let height = self.height;
        match standing {
            Standing::Ended(ending) => self.end_dispute(place, ending),
            Standing::Turn(side) => {
                let dispute = self.audit(place).dispute.as_mut().unwrap();
                (dispute.turn, dispute.since) = (side, height);
                dispute.until = height + *dispute.clock(side);
            }
        }
    }

    fn in_time(&self, dispute: &Dispute) -> bool {
        self.height <= dispute.until || self.is_crowded()
    }

    /// Whether some block was full of moves, no longer ago than there is for opening.
    pub(super) fn is_crowded(&self) -> bool {
        let rules = &self.params.dispute;
        let recent = self.moves.range(self.height.saturating_sub(rules.open_blocks)..);
        recent.into_iter().any(|(_, moves)| *moves >= rules.max_moves_per_block)
    }

    fn count_move(&mut self) -> Option<()> {
        let moves = self.moves.entry(self.height).or_default();
        *moves += 1;
        must(*moves <= self.params.dispute.max_moves_per_block)
    }
}
