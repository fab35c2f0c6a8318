//! Batches to audit: receipts of all kinds, and jobs.

use dn_core::merkle::MerkleTree;
use dn_core::objects::{BatchLine, BatchRoot, FinishReason, JobAcceptance, Receipt, Voucher};
use dn_core::{Amount, Canonical, ChannelId, Hash32, JobId, ModelId, Signed};
use dn_ledger::Payload;
use dn_ledger::state::{CHANNELS, LANES, WORKER_SEQUENCES};
use dn_ledger::tx::NewJob;

use super::audits::Both;
use super::audits_world::address;
use crate::common::{CHAIN_ID, key, price};

/// A batch and what is in it.
pub(super) struct Bundle {
    pub(super) body: BatchRoot,
    pub(super) receipts: Vec<Signed<Receipt>>,
}

impl Both {
    fn later(&self) -> u64 {
        self.m.ctx.time_ms + 60_000
    }

    fn honest(&self, n: u8, worker: &str, (channel, payer): (ChannelId, &str), model: ModelId) -> Receipt {
        let numeric_spec = self.spec.models[&model].1.numeric_spec;
        Receipt {
            chain_id: CHAIN_ID,
            job: JobId([5; 32]),
            domain: 0,
            model,
            numeric_spec,
            prompt_hash: Hash32([n; 32]),
            output_hash: Hash32([2; 32]),
            trace_root: Hash32([0; 32]),
            prompt_tokens: 20,
            output_tokens: 30 + u32::from(n),
            finish: FinishReason::Stop,
            price: price(),
            // Little buys less work than was done.
            fee: Amount::from_atto(u128::from(n % 3 + 1) * 90_000_000_000_000_007),
            payer: address(payer),
            channel,
            lane: 0,
            worker: address(worker),
            gateway: address("gateway"),
            started_ms: 1,
            finished_ms: 2,
            expires_ms: self.later(),
        }
    }

    /// A receipt by its kind: those up to 7 say how their dispute opens; what no line holds, what is not the worker's, and what it has not signed.
    fn signed(mut receipt: Receipt, kind: u8, worker: &str) -> Signed<Receipt> {
        match kind {
            0..=7 => receipt.trace_root = Hash32([kind; 32]),
            8 => receipt.fee = Amount::from_dn(30),
            9 => receipt.output_tokens = 1_000,
            10 => receipt.model = ModelId([9; 32]),
            11 => receipt.worker = address("stranger"),
            13 => receipt.chain_id = 5,
            _ => {}
        }
        Signed::sign(receipt, &key(if (11..=12).contains(&kind) { "stranger" } else { worker }))
    }

    /// A batch of receipts on one channel or on both.
    pub(super) fn bundle(&self, worker: &str, channels: u8, model: ModelId, kinds: &[u8]) -> Bundle {
        let which = |n: u8| self.channels[usize::from(if channels == 2 { n % 2 } else { channels })];
        let (mut receipts, mut lines) = (Vec::new(), Vec::<BatchLine>::new());
        for (n, kind) in (0u8..).zip(kinds) {
            // The line says what they would be if all were right.
            let honest = self.honest(n, worker, which(n), model);
            let at = lines.iter().position(|line| line.channel == honest.channel);
            let at = at.unwrap_or_else(|| {
                lines.push(BatchLine {
                    channel: honest.channel,
                    lane: 0,
                    model,
                    domain: 0,
                    receipts: 0,
                    prompt_tokens: 0,
                    output_tokens: 0,
                    fees: Amount::ZERO,
                });
                lines.len() - 1
            });
            lines[at].receipts += 1;
            lines[at].prompt_tokens += u64::from(honest.prompt_tokens);
            lines[at].output_tokens += u64::from(honest.output_tokens);
            lines[at].fees = lines[at].fees.checked_add(honest.fee).unwrap();
            receipts.push(Self::signed(honest, *kind, worker));
        }
        lines.sort_by_key(|line| line.channel);
        Bundle { body: self.root(worker, lines, &receipts), receipts }
    }

    fn root(&self, worker: &str, lines: Vec<BatchLine>, receipts: &[Signed<Receipt>]) -> BatchRoot {
        BatchRoot {
            chain_id: CHAIN_ID,
            worker: address(worker),
            gateway: address("gateway"),
            sequence: WORKER_SEQUENCES.get_or_default(&self.m.state, &address(worker)),
            root: MerkleTree::new(receipts.iter().map(Canonical::to_bytes)).root(),
            count: u32::try_from(receipts.len()).unwrap(),
            lines,
            expires_ms: self.later(),
        }
    }

    /// A promise of what the lane claims with this line.
    pub(super) fn voucher(&self, line: &BatchLine) -> Signed<Voucher> {
        let claimed = LANES.get_or_default(&self.m.state, &(line.channel, line.lane));
        let body = Voucher {
            chain_id: CHAIN_ID,
            channel: line.channel,
            lane: line.lane,
            max_claimable: claimed.checked_add(line.fees).unwrap(),
            signer: address("spender"),
            expires_ms: self.later(),
        };
        Signed::sign(body, &key("spender"))
    }

    /// A job for a worker, with a bond of so many times what it pays.
    pub(super) fn job(&self, worker: &str, bond: u8) -> NewJob {
        let amount = Amount::from_atto(20_000_000_000_000_003);
        NewJob {
            worker: Some(address(worker)),
            gateway: address("gateway"),
            model: self.models[0],
            job: JobId([5; 32]),
            price: price(),
            amount,
            expires_height: self.m.ctx.height + 1,
            bond: amount.checked_mul(u64::from(bond) * 20).unwrap(),
        }
    }

    /// The claim of a job that was locked.
    pub(super) fn claim(
        &self,
        worker: &str,
        escrow: ChannelId,
        kind: u8,
        accepted: bool,
    ) -> (Bundle, Payload) {
        let mut receipt = self.honest(0, worker, (escrow, "payer"), self.models[0]);
        receipt.fee = price().fee(receipt.prompt_tokens.into(), receipt.output_tokens.into()).unwrap();
        let line = BatchLine {
            channel: escrow,
            lane: 0,
            model: receipt.model,
            domain: 0,
            receipts: 1,
            prompt_tokens: receipt.prompt_tokens.into(),
            output_tokens: receipt.output_tokens.into(),
            fees: receipt.fee,
        };
        let receipt = Self::signed(receipt, kind % 8, worker).body;
        let acceptance = accepted.then(|| {
            let (receipt, payer, expires_ms) = (receipt.id(), address("payer"), self.later());
            let body = JobAcceptance { chain_id: CHAIN_ID, escrow, receipt, payer, expires_ms };
            Signed::sign(body, &key("payer"))
        });
        let receipt = Signed::sign(receipt, &key(worker));
        let body = self.root(worker, vec![line], std::slice::from_ref(&receipt));
        let batch = Signed::sign(body.clone(), &key("gateway"));
        let payload = Payload::ClaimJob { batch, receipt: Box::new(receipt.clone()), acceptance };
        (Bundle { body, receipts: vec![receipt] }, payload)
    }

    /// What is next for a payer's channel: it closes, ends, or is opened again.
    pub(super) fn channel_step(&self, payer: usize) -> Payload {
        let channel = self.channels[payer].0;
        match CHANNELS.get(&self.m.state, &channel) {
            None => Payload::OpenChannel {
                payee: address("gateway"),
                deposit: Amount::from_dn(300),
                spender: address("spender"),
            },
            Some(held) if held.finish_height.is_some() => Payload::FinishChannel { channel },
            Some(_) => Payload::CloseChannel { channel },
        }
    }
}
