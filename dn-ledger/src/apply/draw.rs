//! Which receipts are audited, and by whom.
//!
//! The randomness is the [beacon](crate::beacon) some blocks after the batch, mixed with the batch's id: nobody knows it when the batch is posted, and
//! whoever proposes in between can at most leave turns to others. Auditors are drawn by weights that an election fixed before the batch could know
//! anything of it.

use dn_core::{Address, Amount, BatchId, keccak256};
use dn_trust::audit_rate;

use super::Step;
use super::books::sum;
use crate::events::Event;
use crate::params::Params;
use crate::power::draw_weights;
use crate::reject::Reject;
use crate::state::{
    AUDIT_LOAD, AUDIT_TASKS, AUDITS, Audit, AuditPhase, AuditTask, BATCHES, Batch, BatchStatus, DEADLINES,
    DUE_BATCHES, IDENTITIES, IdentityStatus, JOB_CLAIMS, WORKER_TRUST,
};
use crate::tx::Role;
use crate::validators::high_product;

/// Basis points in one.
const BASIS: u32 = 10_000;
/// The audits that the batches of one block may bring together, each batch one for itself: their draws, redraws and closings come in single later blocks.
pub(crate) const MAX_AUDIT_LOAD: u32 = 4_096;
/// How often a ticket is drawn anew from all validators before the list is made of those who can be drawn.
const MAX_TRIES: u32 = 64;

/// Validators with a weight in draws, by address, each with the weight of all up to it and its own.
#[derive(Debug, Default)]
pub(super) struct DrawTable {
    ends: Vec<(Address, Amount)>,
}

impl DrawTable {
    fn new(entries: impl IntoIterator<Item = (Address, Amount)>) -> Self {
        let ends = entries.into_iter().scan(Amount::ZERO, |total, (who, weight)| {
            *total = sum(*total, weight);
            Some((who, *total))
        });
        Self { ends: ends.collect() }
    }

    /// Everybody, with its weight.
    fn entries(&self) -> impl Iterator<Item = (Address, Amount)> + '_ {
        (0..self.ends.len()).map(|at| self.entry(at))
    }

    fn entry(&self, at: usize) -> (Address, Amount) {
        let (who, end) = self.ends[at];
        let start = at.checked_sub(1).map_or(Amount::ZERO, |before| self.ends[before].1);
        (who, end.saturating_sub(start))
    }

    /// The place of one of the weighted entries, by the high half of a product like a turn's proposer: who adds a little stake when the ticket is known moves
    /// the choice a little, where a remainder would draw anew with each try. A chance differs from its share by less than 2⁻⁴⁰.
    fn pick(&self, ticket: u128) -> Option<usize> {
        let (_, total) = self.ends.last()?;
        let point = high_product(ticket, total.atto());
        Some(self.ends.partition_point(|(_, end)| end.atto() <= point)).filter(|at| *at < self.ends.len())
    }
}

impl Step<'_> {
    /// Draws the audits of batches whose randomness is there, and settles batches whose window closed.
    pub(super) fn process_due_batches(&mut self) {
        let due: Vec<_> = DUE_BATCHES
            .iter(self.state)
            .map(|(key, _)| key)
            .take_while(|(height, _)| *height <= self.ctx.height)
            .collect();
        for key in due {
            DUE_BATCHES.remove(self.state, &key);
            let id = key.1;
            let Some(batch) = BATCHES.get(self.state, &id) else { continue };
            match batch.status {
                BatchStatus::Posted => self.draw_audits(id, batch),
                _ => self.settle_if_due(id),
            }
        }
    }

    fn draw_audits(&mut self, id: BatchId, mut batch: Batch) {
        let claim = JOB_CLAIMS.get(self.state, &id);
        JOB_CLAIMS.remove(self.state, &id);
        // A job whose payer did not accept the result is one large receipt: audited for certain.
        let certain = claim.is_some_and(|claim| !claim.accepted);
        let rate = if certain { BASIS as u16 } else { self.audit_rate_of(batch.body.worker) };
        // All lines are exact or none is; of what is not, no auditor could say anything.
        let rate = if self.is_exact(batch.body.lines[0].model) { rate } else { 0 };
        let params = &self.ctx.params;
        let seed = keccak256(&[b"DeepNode audit draw v1", &self.beacon().0, &id.0]);
        let mut drawn = draw_indices(&seed, batch.body.count, rate);
        let most = params.audit_times.max_per_batch as usize;
        if drawn.len() > most {
            // Hashes choose, so that no place in a batch is safer than another.
            drawn.sort_by_cached_key(|index| draw(&seed, *index, "order"));
            drawn.truncate(most);
            drawn.sort_unstable();
        }
        batch.status = BatchStatus::Auditing;
        for index in drawn {
            if let Some((auditor, weight)) = self.draw_auditor((id, index), &batch, &seed, "auditor 0") {
                batch.open_audits += 1;
                self.open_audit(id, index, 0, auditor, weight);
            }
        }
        DUE_BATCHES.put(self.state, &(batch.window_end_height, id), &true);
        BATCHES.put(self.state, &id, &batch);
    }

    fn audit_rate_of(&self, worker: Address) -> u16 {
        let params = &self.ctx.params;
        let trust = WORKER_TRUST
            .get(self.state, &worker)
            .expect("a worker has a trust record from its registration on")
            .weight(&params.trust);
        audit_rate(&params.audit_rate, trust)
    }

    /// The most receipts of a worker's batch: as many as the most audits of one suffice for at the worker's rate, with a
    /// quarter to spare for chance. Larger batches would thin the rate out.
    pub(super) fn max_receipts(&self, worker: Address) -> u32 {
        let params = &self.ctx.params;
        let audits = u64::from(params.audit_times.max_per_batch) * u64::from(BASIS) * 3 / 4;
        let most = audits / u64::from(self.audit_rate_of(worker)).max(1);
        u32::try_from(most).unwrap_or(u32::MAX).clamp(1, params.max_batch_receipts)
    }

    /// Replaces a silent auditor, if anybody else is there.
    pub(super) fn redraw_auditor(&mut self, id: BatchId, index: u32, batch: &Batch, redraws: u8) -> bool {
        let seed = keccak256(&[b"DeepNode audit draw v1", &self.beacon().0, &id.0]);
        let Some((auditor, weight)) = self.draw_auditor((id, index), batch, &seed, "auditor 1") else {
            return false;
        };
        self.open_audit(id, index, redraws, auditor, weight);
        true
    }

    fn open_audit(&mut self, id: BatchId, index: u32, redraws: u8, auditor: Address, weight: Amount) {
        let (commit_deadline, reveal_deadline) = self.deadlines();
        let audit = Audit {
            accuser: None,
            redraws,
            commit_deadline,
            reveal_deadline,
            waiting: 1,
            uncommitted: 1,
            result: None,
        };
        AUDITS.put(self.state, &(id, index), &audit);
        self.assign(id, index, auditor, weight, &audit);
        DEADLINES.put(self.state, &(commit_deadline + 1, id, index), &true);
    }

    pub(super) fn assign(
        &mut self,
        id: BatchId,
        index: u32,
        auditor: Address,
        weight: Amount,
        audit: &Audit,
    ) {
        let task =
            AuditTask { phase: AuditPhase::Commit, weight, commitment: Default::default(), outcome: None };
        AUDIT_TASKS.put(self.state, &(id, index, auditor), &task);
        self.events.push(Event::AuditAssigned {
            batch: id,
            index,
            auditor,
            commit_deadline: audit.commit_deadline,
            reveal_deadline: audit.reveal_deadline,
        });
    }

    /// Last heights to commit and to reveal at, for an audit that opens now.
    pub(super) fn deadlines(&self) -> (u64, u64) {
        let times = &self.ctx.params.audit_times;
        let commit = self.ctx.height.saturating_add(times.commit_blocks);
        (commit, commit.saturating_add(times.reveal_blocks))
    }

    /// Validators with a weight in draws, active or not, except those who took part in the batch.
    pub(super) fn auditors(&self, batch: &Batch) -> Vec<(Address, Amount)> {
        self.draw_table().entries().filter(|(who, _)| !takes_part(batch, who)).collect()
    }

    /// Everybody's weights: an election fixed them, so they are made once for all that happens at the start of a block.
    fn draw_table(&self) -> &DrawTable {
        self.draws.get_or_init(|| DrawTable::new(draw_weights(self.state, self.ctx.height)))
    }

    /// Draws an active validator that took no part in the batch and was not asked about the receipt yet.
    ///
    /// Whoever cannot be drawn is drawn like others, and then another ticket is: so who is not active any more, since it knew the ticket and left, moves
    /// nothing but what it had drawn itself. If that finds nobody for long, those who may be drawn at all are listed.
    fn draw_auditor(
        &self,
        (id, index): (BatchId, u32),
        batch: &Batch,
        seed: &[u8; 32],
        purpose: &str,
    ) -> Option<(Address, Amount)> {
        let may =
            |who: &Address| !takes_part(batch, who) && !AUDIT_TASKS.contains(self.state, &(id, index, *who));
        let (table, mut seed) = (self.draw_table(), *seed);
        for _ in 0..MAX_TRIES {
            let found = table.entry(table.pick(draw(&seed, index, purpose))?);
            if may(&found.0) && self.is_active_validator(&found.0) {
                return Some(found);
            }
            seed = another(&seed);
        }
        let mut left: Vec<_> = table.entries().filter(|(who, _)| may(who)).collect();
        for tries in 1.. {
            let at = DrawTable::new(left.iter().copied()).pick(draw(&seed, index, purpose))?;
            if self.is_active_validator(&left[at].0) {
                return Some(left[at]);
            }
            left.remove(at);
            if tries == MAX_TRIES {
                // Nearly everybody has left: the rest at once.
                left.retain(|(who, _)| self.is_active_validator(who));
            }
            seed = another(&seed);
        }
        None
    }

    /// Counts the audits that a batch of so many receipts may bring: a block takes only so many, and a first batch always.
    pub(super) fn count_audit_load(&mut self, receipts: u32) -> Result<(), Reject> {
        let (height, limit) = (self.ctx.height, MAX_AUDIT_LOAD);
        let load = audit_load(&self.ctx.params, receipts);
        let mut held = AUDIT_LOAD.get_or_default(self.state, &0);
        if held.height != height {
            (held.height, held.load) = (height, 0);
        }
        if !held.take(load, limit) {
            return Err(Reject::AuditsBusy { limit, height, held: held.load, load });
        }
        AUDIT_LOAD.put(self.state, &0, &held);
        Ok(())
    }

    pub(super) fn is_active_validator(&self, who: &Address) -> bool {
        let identity = IDENTITIES.get(self.state, &(Role::Validator, *who));
        identity.is_some_and(|identity| identity.status == IdentityStatus::Active)
    }
}

/// The receipts to audit: each with the rate's probability. One hash decides sixteen, so that a batch of thousands costs little.
fn draw_indices(seed: &[u8; 32], count: u32, rate: u16) -> Vec<u32> {
    let threshold = (u32::from(rate) << 16).div_ceil(BASIS);
    let mut drawn = Vec::new();
    for first in (0..count).step_by(16) {
        let hash = keccak256(&[seed, b"indices", &first.to_le_bytes()]);
        let lanes = hash.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])));
        let hit = (first..count).zip(lanes).filter(|(_, lane)| *lane < threshold);
        drawn.extend(hit.map(|(index, _)| index));
    }
    drawn
}

/// A number that nobody knew before the batch stood.
fn draw(seed: &[u8; 32], index: u32, purpose: &str) -> u128 {
    let hash = keccak256(&[seed, &index.to_le_bytes(), purpose.as_bytes()]);
    u128::from_le_bytes(hash[..16].try_into().expect("16 of 32 bytes"))
}

/// What a batch of so many receipts counts of [`MAX_AUDIT_LOAD`].
pub(crate) fn audit_load(params: &Params, receipts: u32) -> u32 {
    receipts.min(params.audit_times.max_per_batch).saturating_add(1)
}

/// What the next ticket is drawn from, where one drew nobody.
fn another(seed: &[u8; 32]) -> [u8; 32] {
    keccak256(&[b"DeepNode another draw v1", seed])
}

fn takes_part(batch: &Batch, who: &Address) -> bool {
    [batch.body.worker, batch.body.gateway].contains(who) || batch.payers.contains(who)
}

#[cfg(test)]
mod tests {
    use dn_core::objects::BatchRoot;

    use super::*;
    use crate::state::{DRAW_WEIGHTS, DrawWeight, Identity};

    #[test]
    fn the_rate_is_kept() {
        let seed = [9; 32];
        assert_eq!(draw_indices(&seed, 100, 10_000), (0..100).collect::<Vec<_>>());
        assert!(draw_indices(&seed, 0, 10_000).is_empty());
        for rate in [500u16, 2_500, 5_000] {
            let hits = draw_indices(&seed, 60_000, rate).len() as i64;
            let expected = i64::from(rate) * 6;
            // Five standard deviations of the binomial are under 620.
            assert!((hits - expected).abs() < 620, "{hits} of {expected}");
        }
        let (a, b) = (draw_indices(&[1; 32], 64, 5_000), draw_indices(&[2; 32], 64, 5_000));
        assert_ne!(a, b);
    }

    #[test]
    fn picks_follow_the_weights() {
        let entries: Vec<_> =
            [1u8, 2, 3].iter().map(|n| (Address([*n; 20]), Amount::from_atto(u128::from(*n)))).collect();
        let table = DrawTable::new(entries.clone());
        assert_eq!(table.entries().collect::<Vec<_>>(), entries);
        let mut counts = [0; 3];
        for ticket in 0..600 {
            counts[table.pick(u128::MAX / 600 * ticket).unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip([100u32, 200, 300]) {
            assert!(expected.abs_diff(count) <= 1, "{counts:?}");
        }
        assert_eq!(table.pick(u128::MAX), Some(2));
        assert_eq!(DrawTable::default().pick(5), None);
        assert_eq!(DrawTable::new([(Address([1; 20]), Amount::ZERO)]).pick(5), None);
    }

    /// Where nearly all weight has left, the few who may be drawn still are, in proportion to what they have.
    #[test]
    fn somebody_is_found_among_many_who_left() {
        let chain = crate::chain::tests::chain();
        let (mut state, ctx) = (chain.state().clone(), chain.next_context(1));
        let identity =
            IDENTITIES.iter_from(&state, &Role::Validator).next().map(|(_, identity)| identity).unwrap();
        let old: Vec<_> = DRAW_WEIGHTS.iter(&state).map(|(who, _)| who).collect();
        old.iter().for_each(|who| DRAW_WEIGHTS.remove(&mut state, who));
        let mut put = |n: u8, weight: u128, status| {
            let (who, after) = (Address([n; 20]), Amount::from_atto(weight));
            let record = DrawWeight { before: Amount::ZERO, after, from_height: 0 };
            DRAW_WEIGHTS.put(&mut state, &who, &record);
            IDENTITIES.put(&mut state, &(Role::Validator, who), &Identity { status, ..identity.clone() });
        };
        (10..=120).for_each(|n| put(n, 1 << 60, IdentityStatus::Suspended));
        (1..=3).for_each(|n| put(n, n.into(), IdentityStatus::Active));
        let step = Step::new(&mut state, &ctx);
        let body = BatchRoot {
            chain_id: 1,
            worker: Address([200; 20]),
            gateway: Address([1; 20]),
            sequence: 0,
            root: Default::default(),
            count: 1,
            lines: Vec::new(),
            expires_ms: 0,
        };
        let batch = Batch {
            body,
            payers: Vec::new(),
            escrow: Amount::ZERO,
            status: BatchStatus::Posted,
            posted_height: 0,
            window_end_height: 0,
            open_audits: 0,
            passed_audits: 0,
            bond: Amount::ZERO,
        };
        let mut counts = [0; 4];
        for index in 0..300 {
            let (who, weight) =
                step.draw_auditor((BatchId::ZERO, index), &batch, &[3; 32], "auditor 0").unwrap();
            assert_eq!(weight.atto(), u128::from(who.0[0]));
            counts[usize::from(who.0[0])] += 1;
        }
        // Two fifths and three fifths; five standard deviations are 43.
        assert!(counts[..2] == [0, 0] && (120i32 - counts[2]).abs() < 43, "{counts:?}");
        assert_eq!(counts[2] + counts[3], 300);
        let nobody = Batch { payers: vec![Address([2; 20]), Address([3; 20])], ..batch };
        assert_eq!(step.draw_auditor((BatchId::ZERO, 0), &nobody, &[3; 32], "auditor 0"), None);
    }

    /// Whoever knows a ticket and tries thousands of small stakes still gets what it would have got, but for the tickets near a border.
    #[test]
    fn small_stakes_choose_nothing() {
        let table = |stake: u128| {
            let entry = |n| (Address([n; 20]), Amount::from_atto(1_000_000 + if n == 7 { stake } else { 0 }));
            DrawTable::new((1u8..=20).map(entry))
        };
        let (mut fixed, tickets) = (0, 200u32);
        for n in 0..tickets {
            let ticket = draw(&[5; 32], n, "auditor 0");
            let first = table(0).pick(ticket);
            fixed += u32::from((0..500).all(|stake| table(stake * 10).pick(ticket) == first));
        }
        assert!(fixed > tickets * 9 / 10, "{fixed} of {tickets}");
    }
}
