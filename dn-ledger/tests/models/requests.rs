//! What is tried against the ledger and the naive specification: requests about what exists, most of them nearly right.

use dn_core::merkle::MerkleTree;
use dn_core::objects::{BatchLine, BatchRoot, FinishReason, JobAcceptance, Receipt, SessionGrant, Voucher};
use dn_core::{Amount, Canonical, ChannelId, Hash32, JobId, Signed};
use dn_ledger::Payload;
use dn_ledger::tx::{Admission, DomainTerms, FeeMove, NewJob};
use dn_powr::DomainSplit;
use proptest::prelude::*;

use super::payments::{Both, JOB, PAYERS, WORKERS};
use crate::common::{CHAIN_ID, address, dn, key, price};

/// What the owner of domain 1 may choose.
pub(super) fn terms(preset: u8) -> DomainTerms {
    let emission = DomainSplit {
        workers: 4_000,
        validators: 2_501,
        stakers: 500,
        creators: 1_899,
        treasury: 1_000,
        foundation: 100,
    };
    let fees = |worker, owner, validators, domain| Some(FeeMove { worker, owner, validators, domain });
    match preset {
        0 => DomainTerms::default(),
        1 => DomainTerms {
            emission: Some(emission),
            fees: fees(7_000, 1_201, 1_000, 499),
            admission: Admission::Open,
        },
        _ => DomainTerms { emission: None, fees: fees(5_500, 3_200, 500, 500), admission: Admission::Open },
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) channel: u8,
    pub(super) lane: u8,
    pub(super) model: u8,
    pub(super) receipts: u8,
    pub(super) fee: u16,
}

/// One thing that somebody tries; the numbers choose among what exists.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Transfer { from: usize, to: usize, amount: u16 },
    Open { payer: usize, payee: u8, dn: u16 },
    TopUp { who: u8, channel: u8, dn: u8 },
    Close { who: u8, channel: u8 },
    Finish { who: u8, channel: u8 },
    Post { worker: usize, lines: Vec<Line>, signer: u8, spoil: u8, fate: u8 },
    Grant { owner: usize, per_call: u16, total: u16, models: u8, blocks: u8, serial: u8, spoil: u8 },
    Revoke { owner: usize, serial: u8 },
    Lock { payer: usize, worker: u8, model: u8, amount: u16, ahead: u8, bond: u8 },
    Claim { worker: usize, job: u8, tokens: u8, fee: u8, accepted: bool, spoil: u8, fate: u8 },
    Terms { who: u8, preset: u8 },
    Blocks { count: u8 },
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (0u8..5, 0u8..4, 0u8..3, 1u8..4, 0u16..2_000);
    let line =
        line.prop_map(|(channel, lane, model, receipts, fee)| Line { channel, lane, model, receipts, fee });
    prop::collection::vec(line, 1..4)
}

pub(super) fn ops() -> impl Strategy<Value = Op> {
    let (payer, worker, any8) = (|| 0..PAYERS.len(), || 0..WORKERS.len(), any::<u8>);
    prop_oneof![
        1 => (0..PAYERS.len(), 0..PAYERS.len(), any::<u16>())
            .prop_map(|(from, to, amount)| Op::Transfer { from, to, amount }),
        3 => (payer(), 0u8..12, 0u16..80).prop_map(|(payer, payee, dn)| Op::Open { payer, payee, dn }),
        2 => (0u8..12, any8(), any8()).prop_map(|(who, channel, dn)| Op::TopUp { who, channel, dn }),
        1 => (0u8..12, any8()).prop_map(|(who, channel)| Op::Close { who, channel }),
        2 => (0u8..12, any8()).prop_map(|(who, channel)| Op::Finish { who, channel }),
        12 => (worker(), lines(), 0u8..6, 0u8..40, 0u8..12)
            .prop_map(|(worker, lines, signer, spoil, fate)| Op::Post { worker, lines, signer, spoil, fate }),
        3 => (payer(), 0u16..4_000, 0u16..12_000, 0u8..8, 1u8..40, 0u8..4, 0u8..16).prop_map(
            |(owner, per_call, total, models, blocks, serial, spoil)| Op::Grant {
                owner, per_call, total, models, blocks, serial, spoil,
            }),
        1 => (payer(), 0u8..3).prop_map(|(owner, serial)| Op::Revoke { owner, serial }),
        6 => (payer(), 0u8..4, 0u8..4, 0u16..600, 0u8..8, 0u8..8).prop_map(
            |(payer, worker, model, amount, ahead, bond)| Op::Lock { payer, worker, model, amount, ahead, bond }),
        9 => (worker(), any8(), 1u8..120, 0u8..10, any::<bool>(), 0u8..24, 0u8..6).prop_map(
            |(worker, job, tokens, fee, accepted, spoil, fate)| Op::Claim {
                worker, job, tokens, fee, accepted, spoil, fate,
            }),
        1 => (0u8..6, 0u8..3).prop_map(|(who, preset)| Op::Terms { who, preset }),
        7 => (1u8..5).prop_map(|count| Op::Blocks { count }),
    ]
}

/// A fee that no share divides evenly.
fn fee(of: u16) -> Amount {
    Amount::from_atto(u128::from(of) * 3_000_000_000_000_007)
}

/// The `n`-th of what exists, or something that does not.
fn choose<'a, T: Copy + 'a>(mut all: impl Iterator<Item = &'a T> + Clone, n: u8, none: T) -> T {
    let count = all.clone().count();
    if count == 0 || n >= 250 { none } else { *all.nth(usize::from(n) % count).unwrap() }
}

impl Both {
    /// Somebody's channel, job or session as the specification knows it, and a request about it.
    pub(super) fn ask(&self, op: &Op) -> (&'static str, Payload) {
        let party =
            |who: &u8| *["payer", "stranger", "gateway", "worker"].get(usize::from(*who)).unwrap_or(&"");
        let channel = |n: &u8| choose(self.spec.channels.keys(), *n, ChannelId([7; 32]));
        let of_channel = |who: &u8, n: &u8| {
            let payer = self.spec.channels.get(&channel(n)).map(|c| c.payer);
            let payer = PAYERS.into_iter().find(|name| Some(address(name)) == payer);
            Some(party(who)).filter(|who| !who.is_empty()).or(payer).unwrap_or("payer")
        };
        match op {
            Op::Blocks { .. } => unreachable!("no request"),
            Op::Transfer { from, to, amount } => {
                (PAYERS[*from], Payload::Transfer { to: address(PAYERS[*to]), amount: fee(*amount / 7) })
            }
            Op::Open { payer, payee, dn: deposit } => {
                let payee = address(if *payee == 0 { "worker" } else { "gateway" });
                (
                    PAYERS[*payer],
                    Payload::OpenChannel {
                        payee,
                        deposit: dn((*deposit).into()),
                        spender: address("spender"),
                    },
                )
            }
            Op::TopUp { who, channel: n, dn: amount } => (
                of_channel(who, n),
                Payload::TopUpChannel { channel: channel(n), amount: dn((*amount / 8).into()) },
            ),
            Op::Close { who, channel: n } => {
                (of_channel(who, n), Payload::CloseChannel { channel: channel(n) })
            }
            Op::Finish { who, channel: n } => {
                // Mostly one that closes.
                let closing: Vec<_> = self
                    .spec
                    .channels
                    .iter()
                    .filter(|(_, c)| c.finish.is_some())
                    .map(|(id, _)| *id)
                    .collect();
                let id = choose(closing.iter(), *n, channel(n));
                let payer = self.spec.channels.get(&id).map(|c| c.payer);
                let payer = PAYERS.into_iter().find(|name| Some(address(name)) == payer).unwrap_or("payer");
                let who = Some(party(who)).filter(|who| !who.is_empty()).unwrap_or(payer);
                (who, Payload::FinishChannel { channel: id })
            }
            Op::Post { worker, lines, signer, spoil, .. } => {
                (WORKERS[*worker], self.batch(WORKERS[*worker], lines, *signer, *spoil))
            }
            Op::Grant { owner, spoil, .. } => {
                let grant =
                    Signed::sign(self.grant(op), &key(if *spoil == 0 { "worker" } else { PAYERS[*owner] }));
                ("gateway", Payload::GrantSession { grant })
            }
            Op::Revoke { owner, serial } => {
                let session = address("session");
                let held =
                    self.spec.sessions.get(&(address(PAYERS[*owner]), session)).map_or(0, |s| s.serial);
                (
                    PAYERS[*owner],
                    Payload::RevokeSession { session, serial: (held + u64::from(*serial)).saturating_sub(1) },
                )
            }
            Op::Lock { payer, worker, model, amount, ahead, bond } => {
                // Seldom the second, for which no job is locked.
                let model = if *model == 1 && !amount.is_multiple_of(8) { 0 } else { *model };
                let amount = u128::from(*amount) * 1_000_000_000_000_003;
                // Often none, seldom one atto too much.
                let bond = match bond {
                    0..=1 => 0,
                    2 => 100 * amount + 1,
                    3..=5 => 100 * amount,
                    times => amount * u128::from(*times) + 1,
                };
                let job = NewJob {
                    worker: WORKERS.get(usize::from(*worker)).map(|who| address(who)),
                    gateway: address("gateway"),
                    model: self.models.get(usize::from(model)).copied().unwrap_or(self.models[0]),
                    job: JOB,
                    price: price(),
                    amount: Amount::from_atto(amount),
                    expires_height: self.spec.height + u64::from(*ahead),
                    bond: Amount::from_atto(bond),
                };
                (PAYERS[*payer], Payload::LockJob { job })
            }
            Op::Claim { worker, .. } => self.claim(WORKERS[*worker], op),
            Op::Terms { who, preset } => {
                let who = if *who == 0 { "owner" } else { "stranger" };
                (who, Payload::ConfigureDomain { domain: 1, terms: terms(*preset) })
            }
        }
    }

    fn later(&self, blocks: u64) -> u64 {
        self.spec.time_ms + blocks * 1_000
    }

    fn sequence(&self, worker: &str) -> u64 {
        self.spec.sequences.get(&address(worker)).copied().unwrap_or_default()
    }

    fn grant(&self, op: &Op) -> SessionGrant {
        let Op::Grant { owner, per_call, total, models, blocks, serial, .. } = op else {
            unreachable!("the caller looked")
        };
        let owner = address(PAYERS[*owner]);
        let held = self.spec.sessions.get(&(owner, address("session"))).map_or(1, |s| s.serial);
        let mut allowed: Vec<_> = (0..3).filter(|n| models & (1 << n) != 0).map(|n| self.models[n]).collect();
        allowed.sort_unstable();
        SessionGrant {
            chain_id: CHAIN_ID,
            owner,
            session: address("session"),
            serial: (held + u64::from(*serial)).saturating_sub(1),
            per_call: fee(*per_call),
            total: fee(*total),
            models: allowed,
            expires_ms: self.later((*blocks).into()),
        }
    }

    fn batch(&self, worker: &str, wanted: &[Line], signer: u8, spoil: u8) -> Payload {
        let mut lines: Vec<BatchLine> = wanted.iter().map(|line| self.line(worker, line)).collect();
        lines.sort_unstable_by_key(|l| (l.channel, l.lane, l.model));
        lines.dedup_by_key(|l| (l.channel, l.lane, l.model));
        match spoil {
            0 => lines.reverse(),
            1 => lines[0].domain ^= 1,
            2 => lines[0].prompt_tokens = 2_000,
            _ => {}
        }
        let mut vouchers: Vec<_> = lines
            .chunk_by(|a, b| (a.channel, a.lane) == (b.channel, b.lane))
            .map(|group| self.voucher(group, signer, spoil))
            .collect();
        if spoil == 3 {
            vouchers.pop();
        }
        let count = lines.iter().map(|line| line.receipts).sum::<u32>() + u32::from(spoil == 4);
        let body = BatchRoot {
            chain_id: CHAIN_ID,
            worker: address(worker),
            gateway: address("gateway"),
            sequence: self.sequence(worker) + u64::from(spoil == 5),
            root: Hash32([8; 32]),
            count,
            lines,
            expires_ms: self.later(u64::from(spoil != 6)) - 500,
        };
        let by = if spoil == 7 { "worker" } else { "gateway" };
        Payload::PostBatch { batch: Signed::sign(body, &key(by)), vouchers }
    }

    fn line(&self, worker: &str, line: &Line) -> BatchLine {
        // Mostly what the worker hosts.
        let model =
            if worker == "worker2" && !line.fee.is_multiple_of(8) { line.model & 2 } else { line.model };
        let (model, receipts) = (self.models[usize::from(model)], u32::from(line.receipts));
        BatchLine {
            channel: choose(self.spec.channels.keys(), line.channel, ChannelId([7; 32])),
            lane: line.lane.into(),
            model,
            domain: self.spec.models[&model].domain,
            receipts,
            prompt_tokens: u64::from(receipts) * 20,
            output_tokens: u64::from(line.fee % 90) + 1,
            fees: fee(line.fee),
        }
    }

    /// A promise of exactly what the lane claims then; somebody of whom it may be signs it.
    fn voucher(&self, group: &[BatchLine], signer: u8, spoil: u8) -> Signed<Voucher> {
        let (channel, lane) = (group[0].channel, group[0].lane);
        let held = self.spec.channels.get(&channel);
        let claimed = held.and_then(|c| c.lanes.get(&lane)).copied().unwrap_or_default();
        let fees: u128 = group.iter().map(|line| line.fees.atto()).sum();
        let payer =
            held.map(|c| c.payer).and_then(|payer| PAYERS.into_iter().find(|name| address(name) == payer));
        let session = address("session");
        let has_session = held.is_some_and(|c| self.spec.sessions.contains_key(&(c.payer, session)));
        let name = match signer {
            0 => payer.unwrap_or("payer"),
            1..=2 => "spender",
            // Mostly where there is a session.
            3..=4 if !has_session => "spender",
            _ => "session",
        };
        let body = Voucher {
            chain_id: CHAIN_ID,
            channel,
            lane,
            max_claimable: Amount::from_atto((claimed + fees).saturating_sub(u128::from(spoil == 8))),
            signer: address(name),
            expires_ms: self.later(0) - u64::from(spoil == 9),
        };
        Signed::sign(body, &key(if spoil == 10 { "worker" } else { name }))
    }

    fn claim(&self, by: &'static str, op: &Op) -> (&'static str, Payload) {
        let Op::Claim { job, tokens, fee: part, accepted, spoil, .. } = op else {
            unreachable!("the caller looked")
        };
        let escrow = choose(self.spec.jobs.keys(), *job, ChannelId([7; 32]));
        let held = self.spec.jobs.get(&escrow);
        // Mostly by whom it is for.
        let named = held
            .and_then(|job| job.worker)
            .and_then(|who| WORKERS.into_iter().find(|name| address(name) == who));
        let worker = if *spoil == 0 { by } else { named.unwrap_or(by) };
        let (model, payer) = held.map_or((self.models[0], address("payer")), |job| (job.model, job.payer));
        let cost = price().fee(20, (*tokens).into()).unwrap().atto();
        let fee = match part {
            0 => 0,
            1 => cost + 1,
            2 => held.map_or(0, |job| job.amount) + 1,
            part => cost.min(held.map_or(cost, |job| job.amount)) * u128::from(*part) / 9,
        };
        let receipt = Receipt {
            chain_id: CHAIN_ID,
            job: if *spoil == 1 { JobId([6; 32]) } else { JOB },
            domain: self.spec.models[&model].domain,
            model,
            numeric_spec: self.spec.models[&model].numeric_spec,
            prompt_hash: Hash32([1; 32]),
            output_hash: Hash32([2; 32]),
            trace_root: Hash32([3; 32]),
            prompt_tokens: 20,
            output_tokens: (*tokens).into(),
            finish: FinishReason::Stop,
            price: price(),
            fee: Amount::from_atto(fee),
            payer: if *spoil == 2 { address("owner") } else { payer },
            channel: escrow,
            lane: u32::from(*spoil == 3),
            worker: address(worker),
            gateway: address("gateway"),
            started_ms: 1,
            finished_ms: 2,
            expires_ms: self.later(1),
        };
        let receipt = Signed::sign(receipt, &key(if *spoil == 4 { "gateway" } else { worker }));
        let batch = Signed::sign(self.batch_of(&receipt, *spoil), &key("gateway"));
        let acceptance = accepted.then(|| {
            let (receipt, expires_ms) = (receipt.body.id(), self.later(0) - u64::from(*spoil == 7));
            let body = JobAcceptance { chain_id: CHAIN_ID, escrow, receipt, payer, expires_ms };
            let payer = PAYERS.into_iter().find(|name| address(name) == payer).unwrap_or("payer");
            Signed::sign(body, &key(if *spoil == 8 { "worker" } else { payer }))
        });
        (worker, Payload::ClaimJob { batch, receipt: Box::new(receipt), acceptance })
    }

    fn batch_of(&self, receipt: &Signed<Receipt>, spoil: u8) -> BatchRoot {
        let r = &receipt.body;
        let worker = WORKERS.into_iter().find(|name| address(name) == r.worker).unwrap();
        let line = BatchLine {
            channel: r.channel,
            lane: r.lane,
            model: r.model,
            domain: r.domain,
            receipts: 1,
            prompt_tokens: u64::from(r.prompt_tokens) + u64::from(spoil == 5),
            output_tokens: r.output_tokens.into(),
            fees: r.fee,
        };
        let root = if spoil == 6 { Hash32([1; 32]) } else { MerkleTree::new([receipt.to_bytes()]).root() };
        let (sequence, expires_ms) = (self.sequence(worker), self.later(1));
        let (chain_id, count, lines) = (CHAIN_ID, 1, vec![line]);
        BatchRoot { chain_id, worker: r.worker, gateway: r.gateway, sequence, root, count, lines, expires_ms }
    }
}
