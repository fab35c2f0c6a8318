//! Payment as the design says it, as simply as it can be said: who has what, what may be asked, who gets what.
//!
//! Sources: the sections on payment and batches of the protocol, the sections on fees, supply and slashing of `docs/economics.md`, and ADR 1, 2, 6 and 12.
//! Everything is a plain map, and a request that is refused is undone by taking the copy from before it. What the rules of audits and
//! trust decide is taken from the ledger as given: which receipts are audited, what is found, who reported it, what trust is.

use std::collections::{BTreeMap, BTreeSet};

use dn_core::merkle::MerkleTree;
use dn_core::objects::{BatchLine, BatchRoot, JobAcceptance, Price, Receipt, SessionGrant, Voucher};
use dn_core::{Address, BatchId, Canonical, ChannelId, JobId, ModelId, Signed};
use dn_ledger::state::Pool;
use dn_ledger::tx::{DomainTerms, FeeMove, NewJob, channel_id, escrow_id};
use dn_ledger::{Params, Payload, Role};

/// A channel: everything ever put in, and everything ever claimed of it on each lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) payer: Address,
    pub(super) payee: Address,
    pub(super) spender: Address,
    pub(super) deposit: u128,
    pub(super) lanes: BTreeMap<u32, u128>,
    pub(super) finish: Option<u64>,
}

impl Channel {
    pub(super) fn claimed(&self) -> u128 {
        self.lanes.values().sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) serial: u64,
    /// Taken back: the last height at which calls that were made are paid.
    pub(super) until: Option<u64>,
    pub(super) per_call: u128,
    pub(super) total: u128,
    pub(super) spent: u128,
    pub(super) models: Vec<ModelId>,
    pub(super) expires_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) payer: Address,
    pub(super) worker: Option<Address>,
    pub(super) gateway: Address,
    pub(super) model: ModelId,
    pub(super) job: JobId,
    pub(super) price: Price,
    pub(super) amount: u128,
    pub(super) expires: u64,
    /// What the worker has to put up.
    pub(super) bond: u128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Held,
    Settled,
    Voided,
}

/// A batch whose fees are held until it is settled or thrown out.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) body: BatchRoot,
    /// Who paid each line.
    pub(super) payers: Vec<Address>,
    /// What the worker of a job put up.
    pub(super) bond: u128,
    pub(super) window_end: u64,
    pub(super) open_audits: BTreeSet<u32>,
    /// Audits that found it right, and those that nobody did.
    pub(super) passed: u128,
    pub(super) undone: u128,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) owner: Address,
    pub(super) domain: u32,
    pub(super) fees: Option<FeeMove>,
    pub(super) context: u64,
    pub(super) numeric_spec: u16,
    /// Operations of a prompt token and of an output token.
    pub(super) ops: (u128, u128),
    /// Who hosts it, and for how much at least.
    pub(super) hosts: BTreeMap<Address, Price>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Domain {
    pub(super) owner: Address,
    pub(super) terms: DomainTerms,
    /// From the next epoch on.
    pub(super) next: DomainTerms,
}

/// Everything that payment is about.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) params: Params,
    pub(super) chain_id: u64,
    pub(super) height: u64,
    pub(super) time_ms: u64,
    pub(super) balances: BTreeMap<Address, u128>,
    pub(super) nonces: BTreeMap<Address, u64>,
    pub(super) pools: BTreeMap<Pool, u128>,
    pub(super) bonds: BTreeMap<(Role, Address), u128>,
    pub(super) models: BTreeMap<ModelId, Model>,
    pub(super) domains: BTreeMap<u32, Domain>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    pub(super) sessions: BTreeMap<(Address, Address), Session>,
    pub(super) jobs: BTreeMap<ChannelId, Job>,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    pub(super) sequences: BTreeMap<Address, u64>,
    /// Settled in this epoch, by domain, worker and owner: work that counts, and the same times the basis points lost.
    pub(super) work: BTreeMap<(u32, Address, Address), (u128, u128)>,
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
        let nonce = *self.nonces.entry(sender).or_default();
        self.nonces.insert(sender, nonce + 1);
        // Chain, sender, nonce, expiry and fee take 60 bytes.
        let kib = (60 + payload.to_bytes().len()).div_ceil(1024);
        let fee = self.params.min_tx_fee.atto() * kib as u128;
        self.take(sender, fee)?;
        self.fill(Pool::Validators, fee);
        match payload {
            Payload::AuditCommit { .. } | Payload::AuditReveal { .. } => Some(()),
            Payload::Transfer { to, amount } => {
                must(!amount.is_zero())?;
                self.take(sender, amount.atto())?;
                self.give(*to, amount.atto());
                Some(())
            }
            Payload::OpenChannel { payee, deposit, spender } => {
                must(*deposit >= self.params.min_deposit && self.is_active(Role::Gateway, *payee))?;
                self.take(sender, deposit.atto())?;
                let (payer, payee, spender, deposit) = (sender, *payee, *spender, deposit.atto());
                let channel =
                    Channel { payer, payee, spender, deposit, lanes: BTreeMap::new(), finish: None };
                self.channels.insert(channel_id(payer, payee, nonce), channel);
                Some(())
            }
            Payload::TopUpChannel { channel, amount } => {
                must(!amount.is_zero() && self.partys(sender, *channel)?.finish.is_none())?;
                self.take(sender, amount.atto())?;
                self.partys(sender, *channel)?.deposit += amount.atto();
                Some(())
            }
            Payload::CloseChannel { channel } => {
                let finish = self.height + self.params.channel_close_blocks;
                let channel = self.partys(sender, *channel)?;
                must(channel.finish.is_none())?;
                channel.finish = Some(finish);
                Some(())
            }
            Payload::FinishChannel { channel: id } => {
                let height = self.height;
                let channel = self.partys(sender, *id)?;
                must(height >= channel.finish?)?;
                let (payer, rest) = (channel.payer, channel.deposit - channel.claimed());
                self.channels.remove(id);
                self.give(payer, rest);
                Some(())
            }
            Payload::PostBatch { batch, vouchers } => self.post(sender, batch, vouchers),
            Payload::GrantSession { grant } => self.grant(grant),
            Payload::RevokeSession { session, serial } => self.revoke(sender, *session, *serial),
            Payload::LockJob { job } => self.lock(sender, escrow_id(sender, job.gateway, nonce), job),
            Payload::ClaimJob { batch, receipt, acceptance } => {
                self.claim_job(sender, batch, receipt, acceptance.as_ref())
            }
            Payload::ConfigureDomain { domain, terms } => {
                let domain = self.domains.get_mut(domain)?;
                must(domain.owner == sender)?;
                domain.next = *terms;
                Some(())
            }
            other => panic!("nothing is specified for {other:?}"),
        }
    }

    pub(super) fn take(&mut self, who: Address, amount: u128) -> Option<()> {
        let held = self.balances.entry(who).or_default();
        *held = held.checked_sub(amount)?;
        Some(())
    }

    pub(super) fn give(&mut self, who: Address, amount: u128) {
        *self.balances.entry(who).or_default() += amount;
    }

    pub(super) fn fill(&mut self, pool: Pool, amount: u128) {
        *self.pools.entry(pool).or_default() += amount;
    }

    pub(super) fn is_active(&self, role: Role, who: Address) -> bool {
        self.bonds.get(&(role, who)).is_some_and(|bond| *bond >= self.params.collateral.of(role).atto())
    }

    fn partys(&mut self, sender: Address, id: ChannelId) -> Option<&mut Channel> {
        self.channels.get_mut(&id).filter(|channel| [channel.payer, channel.payee].contains(&sender))
    }

    /// Signed by whom it names, for this chain, and not expired.
    fn is_good<T: dn_core::signed::Signable>(&self, signed: &Signed<T>) -> bool {
        signed.verify_any_time(self.chain_id).is_ok() && self.time_ms <= signed.body.expires_ms()
    }

    /// What holds of every batch, also of a job's.
    fn check_batch(&mut self, sender: Address, signed: &Signed<BatchRoot>) -> Option<()> {
        let body = &signed.body;
        must(body.worker == sender && self.is_active(Role::Worker, sender))?;
        // A gateway that has lost part of its bond still answers for what it has signed.
        must(self.bonds.contains_key(&(Role::Gateway, body.gateway)) && self.is_good(signed))?;
        let sequence = self.sequences.entry(sender).or_default();
        must(body.sequence == *sequence)?;
        *sequence += 1;
        let places: Vec<_> = body.lines.iter().map(|l| (l.channel, l.lane, l.model, l.domain)).collect();
        must(!places.is_empty() && places.windows(2).all(|pair| pair[0] < pair[1]))?;
        for line in &body.lines {
            let model = self.models.get(&line.model)?;
            must(line.receipts > 0 && !line.fees.is_zero())?;
            must(model.hosts.contains_key(&sender) && model.domain == line.domain)?;
            must(line.prompt_tokens + line.output_tokens <= u64::from(line.receipts) * model.context)?;
        }
        // All of models that are exact, or none.
        let exact = body.lines.iter().filter(|line| self.models[&line.model].numeric_spec > 0).count();
        must(exact == 0 || exact == body.lines.len())?;
        must(body.lines.iter().map(|line| line.receipts).sum::<u32>() == body.count)
    }

    /// A batch claims from its channels, lane by lane, each with one voucher.
    fn post(
        &mut self,
        sender: Address,
        batch: &Signed<BatchRoot>,
        vouchers: &[Signed<Voucher>],
    ) -> Option<()> {
        self.check_batch(sender, batch)?;
        let mut lanes = BTreeMap::<(ChannelId, u32), Vec<&BatchLine>>::new();
        for line in &batch.body.lines {
            lanes.entry((line.channel, line.lane)).or_default().push(line);
        }
        must(lanes.keys().copied().eq(vouchers.iter().map(|v| (v.body.channel, v.body.lane))))?;
        for (((id, lane), lines), voucher) in lanes.into_iter().zip(vouchers) {
            let fees: u128 = lines.iter().map(|line| line.fees.atto()).sum();
            let signer = voucher.body.signer;
            let channel = self.channels.get(&id)?.clone();
            must(channel.payee == batch.body.gateway && self.is_good(voucher))?;
            if signer != channel.payer && signer != channel.spender {
                self.spend(channel.payer, signer, &lines)?;
            }
            let channel = self.channels.get_mut(&id)?;
            must(channel.claimed() + fees <= channel.deposit)?;
            let claimed = channel.lanes.entry(lane).or_default();
            *claimed += fees;
            must(*claimed <= voucher.body.max_claimable.atto())?;
            must(channel.lanes.len() <= self.params.max_lanes as usize)?;
        }
        let payer = |line: &BatchLine| self.channels.get(&line.channel).map(|channel| channel.payer);
        let payers = batch.body.lines.iter().map(payer).collect::<Option<Vec<_>>>()?;
        self.hold(&batch.body, payers, 0);
        Some(())
    }

    fn hold(&mut self, body: &BatchRoot, payers: Vec<Address>, bond: u128) {
        let drawn = self.height + self.params.beacon.delay_blocks;
        let window_end = drawn + self.params.audit_times.window_blocks;
        let (body, stage) = (body.clone(), Stage::Held);
        let batch = Batch {
            payers,
            bond,
            window_end,
            open_audits: BTreeSet::new(),
            passed: 0,
            undone: 0,
            stage,
            body,
        };
        self.batches.insert(batch.body.id(), batch);
    }

    fn spend(&mut self, owner: Address, key: Address, lines: &[&BatchLine]) -> Option<()> {
        let session = self.sessions.get_mut(&(owner, key))?;
        must(session.until.is_none_or(|until| self.height <= until))?;
        must(self.time_ms <= session.expires_ms)?;
        for line in lines {
            must(session.models.is_empty() || session.models.contains(&line.model))?;
            must(line.fees.atto() <= session.per_call * u128::from(line.receipts))?;
            session.spent += line.fees.atto();
        }
        must(session.spent <= session.total)
    }

    /// Anybody brings a grant; a serial is good once, and a live session stands.
    fn grant(&mut self, signed: &Signed<SessionGrant>) -> Option<()> {
        let g = &signed.body;
        must(self.is_good(signed) && g.owner != g.session)?;
        must(!g.per_call.is_zero() && g.per_call <= g.total)?;
        must(g.models.windows(2).all(|pair| pair[0] < pair[1]))?;
        if let Some(held) = self.sessions.get(&(g.owner, g.session)) {
            let over = held.until.is_some_and(|until| self.height > until) || self.time_ms > held.expires_ms;
            must(over && g.serial > held.serial)?;
        }
        let session = Session {
            serial: g.serial,
            until: None,
            per_call: g.per_call.atto(),
            total: g.total.atto(),
            spent: 0,
            models: g.models.clone(),
            expires_ms: g.expires_ms,
        };
        self.sessions.insert((g.owner, g.session), session);
        Some(())
    }

    /// Grants up to a serial are void; what a live session spent is claimed for as long as from a channel that closes.
    fn revoke(&mut self, owner: Address, key: Address, serial: u64) -> Option<()> {
        let closes = self.height + self.params.channel_close_blocks;
        let nothing = Session {
            serial: 0,
            until: Some(0),
            per_call: 0,
            total: 0,
            spent: 0,
            models: vec![],
            expires_ms: 0,
        };
        match self.sessions.get_mut(&(owner, key)) {
            None => {
                self.sessions.insert((owner, key), Session { serial, ..nothing });
            }
            Some(held) => {
                let revoked = held.until.is_some();
                must(if revoked { serial > held.serial } else { serial >= held.serial })?;
                held.serial = serial;
                held.until.get_or_insert(closes);
            }
        }
        Some(())
    }

    fn lock(&mut self, payer: Address, escrow: ChannelId, job: &NewJob) -> Option<()> {
        let rules = &self.params.registry;
        must(job.amount >= rules.min_job && job.bond.atto() <= 100 * job.amount.atto())?;
        must(job.expires_height > self.height)?;
        must(job.expires_height <= self.height + rules.max_job_blocks)?;
        let model = self.models.get(&job.model)?;
        must(model.numeric_spec > 0 && self.is_active(Role::Gateway, job.gateway))?;
        if let Some(worker) = job.worker {
            let asked = model.hosts.get(&worker)?;
            must(self.is_active(Role::Worker, worker) && asked.prompt_token <= job.price.prompt_token)?;
            must(asked.output_token <= job.price.output_token)?;
        }
        self.take(payer, job.amount.atto())?;
        let NewJob { worker, gateway, model, job, price, amount, expires_height: expires, bond } = *job;
        let (amount, bond) = (amount.atto(), bond.atto());
        self.jobs.insert(escrow, Job { payer, worker, gateway, model, job, price, amount, expires, bond });
        Some(())
    }

    /// A job is a batch of one receipt: its fee and the worker's bond are held, the rest goes back at once.
    fn claim_job(
        &mut self,
        sender: Address,
        batch: &Signed<BatchRoot>,
        receipt: &Signed<Receipt>,
        acceptance: Option<&Signed<JobAcceptance>>,
    ) -> Option<()> {
        self.check_batch(sender, batch)?;
        let (r, body) = (&receipt.body, &batch.body);
        let job = self.jobs.remove(&r.channel)?;
        must(self.height <= job.expires && job.worker.is_none_or(|worker| worker == sender))?;
        let model = self.models.get(&job.model)?;
        must(self.is_good(receipt) && r.worker == sender && r.lane == 0 && r.gateway == job.gateway)?;
        must((r.job, r.model, r.price, r.payer) == (job.job, job.model, job.price, job.payer))?;
        must((r.domain, r.numeric_spec) == (model.domain, model.numeric_spec))?;
        let (prompt, output) = (u64::from(r.prompt_tokens), u64::from(r.output_tokens));
        let cost = u128::from(prompt) * job.price.prompt_token.atto()
            + u128::from(output) * job.price.output_token.atto();
        let fee = r.fee.atto();
        must(fee > 0 && fee <= cost.min(job.amount))?;
        // Exactly this receipt.
        let line = BatchLine {
            channel: r.channel,
            lane: 0,
            model: r.model,
            domain: r.domain,
            receipts: 1,
            prompt_tokens: prompt,
            output_tokens: output,
            fees: r.fee,
        };
        must(body.lines == [line] && body.gateway == r.gateway)?;
        must(body.root == MerkleTree::new([receipt.to_bytes()]).root())?;
        if let Some(word) = acceptance {
            must(self.is_good(word))?;
            must((word.body.escrow, word.body.receipt, word.body.payer) == (r.channel, r.id(), job.payer))?;
        }
        self.take(sender, job.bond)?;
        self.give(job.payer, job.amount - fee);
        self.hold(body, vec![job.payer], job.bond);
        Some(())
    }
}
