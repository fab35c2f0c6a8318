//! Feedback of payers and work as evidence for models, as the design says them; and what becomes of an owner's quality.
//!
//! Sources: the paragraphs on feedback and on handing models on of ADR 13, its paragraph on what a record weighs, sections 1 and 6 of `docs/economics.md`.

use std::collections::BTreeSet;

use dn_core::merkle::InclusionProof;
use dn_core::objects::feedback::Feedback;
use dn_core::objects::{BatchRoot, Receipt};
use dn_core::{Address, Amount, Canonical, ModelId, Signed};
use dn_ledger::state::FeedbackRecord;

use super::publishing_spec::{Verdict, must};
use super::quality_spec::{ONE, Spec};

/// A model that is a family of its own, and that nobody can audit.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) owner: Address,
    pub(super) domain: u32,
    /// Operations of a prompt token and of an output token.
    pub(super) ops: (u128, u128),
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) body: BatchRoot,
    pub(super) window_end: u64,
    pub(super) settled: bool,
}

/// What happened to a model in an epoch; all but the work in 2⁻¹⁶.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ModelRecord {
    pub(super) liked: u64,
    pub(super) disliked: u64,
    pub(super) jobs: u64,
    pub(super) paid_work: u128,
}

impl Spec {
    pub(super) fn post(&mut self, body: &BatchRoot) {
        let window_end =
            self.height + self.params.beacon.delay_blocks + self.params.audit_times.window_blocks;
        let (body, settled) = (body.clone(), false);
        self.batches.insert(body.id(), Batch { body, window_end, settled });
    }

    /// Work that is settled counts no more than its fee buys, and a part of that where nobody could check it.
    pub(super) fn settle_batches(&mut self) {
        let height = self.height;
        let due = self.batches.values_mut().filter(|batch| !batch.settled && height >= batch.window_end);
        let price = self.params.emission.reference_price.atto();
        for batch in due {
            batch.settled = true;
            for line in &batch.body.lines {
                let model = &self.models[&line.model];
                let done = u128::from(line.prompt_tokens) * model.ops.0
                    + u128::from(line.output_tokens) * model.ops.1;
                let paid = done.min(line.fees.atto() * 1_000_000_000_000 / price);
                let counted = paid * u128::from(self.params.registry.inexact_work_bps) / 10_000;
                *self.work.entry((line.domain, batch.body.worker, model.owner)).or_default() += counted;
                let record = self.epochs.entry(line.model).or_default();
                record.paid_work += counted;
                let weight = (counted << 16).div_ceil(self.params.trust.work_unit.into());
                record.jobs += u64::try_from(weight).unwrap();
            }
        }
    }

    /// The end of an epoch, given workers' trust in 2⁻³²: the sum of its work, each times the quality of its models and the worker's trust. Whose models
    /// worked is asked about in the next one.
    pub(super) fn end_epoch(&mut self, trust: impl Fn(Address) -> u128) -> u128 {
        self.subjects = self.work.keys().map(|(domain, _, owner)| (*domain, *owner)).collect::<BTreeSet<_>>();
        self.epochs.clear();
        self.evidence.clear();
        let work = std::mem::take(&mut self.work);
        let points = work.into_iter().map(|((domain, worker, owner), counted)| {
            // Of whom no committee said anything is neutral.
            let quality = self.qualities.get(&(domain, owner)).map_or(1 << 32, |(quality, _)| quality.bits());
            let factor = u128::from(quality) * trust(worker);
            dn_core::wide::mul_div(counted, factor, 1 << 64).unwrap()
        });
        points.sum()
    }

    /// Whoever takes a family over and has no record in the domain of its models starts with the one of the owner before.
    pub(super) fn hand_on(&mut self, sender: Address, family: ModelId, to: Address) -> Verdict {
        let model = self.models.get_mut(&family).ok_or("no such family")?;
        must(model.owner == sender, "somebody else's family")?;
        must(self.model_owners.contains(&to), "no active model owner")?;
        model.owner = to;
        let domain = model.domain;
        if let Some(record) = self.qualities.get(&(domain, sender)).copied()
            && !self.qualities.contains_key(&(domain, to))
        {
            self.qualities.insert((domain, to), record);
            self.seen.insert("a quality is handed on");
        }
        Ok(())
    }

    /// Signed by who paid, or by whom it lets spend; on a receipt of a settled batch; once; not on one's own.
    pub(super) fn say(
        &mut self,
        signed: &Signed<Feedback>,
        receipt: &Signed<Receipt>,
        proof: &InclusionProof,
    ) -> Verdict {
        let (said, r) = (&signed.body, &receipt.body);
        must(said.score <= 100, "a score over 100")?;
        must(said.tag.len() <= 32 && !said.tag.chars().any(char::is_control), "no tag")?;
        let place = (said.batch, said.index);
        let batch = self.batches.get(&said.batch).ok_or("no such batch")?;
        must(batch.settled, "not settled")?;
        must(!self.feedbacks.contains_key(&place), "said already")?;
        must(
            (proof.index, proof.count) == (said.index.into(), batch.body.count.into()),
            "the proof of another place",
        )?;
        must(proof.verify(batch.body.root, &receipt.to_bytes()).is_ok(), "not in the batch")?;
        let by_worker = r.worker == batch.body.worker && receipt.verify_any_time(self.chain_id).is_ok();
        must(by_worker, "not the worker's receipt")?;
        must(said.receipt == r.id(), "about another receipt")?;
        // The line that it is paid with: of the same channel, lane, model and domain, and with room for it.
        let holds = |line: &&dn_core::objects::BatchLine| {
            (line.channel, line.lane, line.model, line.domain) == (r.channel, r.lane, r.model, r.domain)
                && line.prompt_tokens >= r.prompt_tokens.into()
                && line.output_tokens >= r.output_tokens.into()
                && line.fees >= r.fee
        };
        let line = batch.body.lines.iter().find(holds).ok_or("paid with no line")?;
        let (payer, spender) = self.channels[&line.channel];
        must(said.signer == payer || said.signer == spender, "not by who paid")?;
        must(payer != r.worker && payer != self.models[&r.model].owner, "on one's own work or model")?;
        let good = signed.verify_any_time(self.chain_id).is_ok() && self.time_ms <= said.expires_ms;
        must(good, "badly signed or expired")?;
        // What was paid for certain.
        let fee = r.fee.atto().min(line.fees.atto() / u128::from(line.receipts));
        let record = FeedbackRecord {
            worker: r.worker,
            model: r.model,
            payer,
            signer: said.signer,
            fee: Amount::from_atto(fee),
            score: said.score,
            tag: said.tag.clone(),
            uri_hash: said.uri_hash,
            height: self.height,
        };
        self.feedbacks.insert(place, record);
        self.said_of.entry(r.worker).or_default().push(place);
        self.count(r.model, payer, fee, said.score.into());
        Ok(())
    }

    /// In proportion to the fee up to a full one; a payer is heard for one in all of a model and an epoch.
    fn count(&mut self, model: ModelId, payer: Address, fee: u128, score: u64) {
        let (epoch, full) = (self.epoch(), self.params.feedback.full_fee.atto());
        let weight = u64::try_from(fee.min(full) * u128::from(ONE) / full).unwrap();
        let heard = self.heard.entry((model, payer)).or_default();
        if heard.0 != epoch {
            *heard = (epoch, 0);
        }
        let counted = weight.min(ONE - heard.1);
        if counted < weight {
            self.seen.insert("a payer is heard enough");
        }
        if fee < full {
            self.seen.insert("a small fee weighs little");
        }
        heard.1 += counted;
        let record = self.epochs.entry(model).or_default();
        record.liked += counted * score / 100;
        record.disliked += counted * (100 - score) / 100;
    }
}
