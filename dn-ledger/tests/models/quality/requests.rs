//! What is tried in quality rounds and as feedback: mostly what is next, by whom it is next.

use dn_core::merkle::MerkleTree;
use dn_core::objects::feedback::Feedback;
use dn_core::objects::{BatchLine, BatchRoot, FinishReason, Receipt, Voucher};
use dn_core::{Address, Amount, BatchId, Canonical, Hash32, JobId, ReceiptId, Signed, VrfProof};
use dn_ledger::beacon::Reveal as Draw;
use dn_ledger::{Payload, Role};
use dn_powr::{Reveal, Seal};
use dn_trust::Unit;
use proptest::prelude::*;

use super::quality::{Both, PAYERS, WHO, name_of, who_is};
use super::quality_draw::{canary_input, is_canary};
use super::quality_spec::{Did, Round, Spec};
use crate::common::{CHAIN_ID, dn, key, price};

/// One thing that somebody tries; the numbers choose among what exists.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// What is next in a round.
    Act {
        round: u8,
        pick: u8,
        score: u8,
        spoil: u8,
    },
    /// Lines by model, channel, receipts and fee.
    Post {
        worker: usize,
        lines: Vec<(u8, u8, u8, u16)>,
        odd: u8,
    },
    Say {
        batch: u8,
        index: u8,
        score: u8,
        signer: u8,
        spoil: u8,
    },
    Stake {
        who: usize,
        to: usize,
        dn: u16,
    },
    Leave {
        who: usize,
    },
    HandOn {
        who: u8,
        family: u8,
        to: u8,
    },
    Blocks {
        count: u8,
    },
}

pub(super) fn ops() -> impl Strategy<Value = Op> {
    let any8 = any::<u8>;
    let lines = prop::collection::vec((0u8..4, 0u8..3, 1u8..4, 1u16..1_200), 1..4);
    prop_oneof![
        40 => (any8(), any8(), 0u8..12, 0u8..60)
            .prop_map(|(round, pick, score, spoil)| Op::Act { round, pick, score, spoil }),
        3 => (0usize..2, lines, 0u8..12).prop_map(|(worker, lines, odd)| Op::Post { worker, lines, odd }),
        12 => (any8(), any8(), 0u8..101, 0u8..12, 0u8..36).prop_map(|(batch, index, score, signer, spoil)| {
            Op::Say { batch, index, score, signer, spoil }
        }),
        1 => (0usize..7, 0usize..7, 1u16..2_000).prop_map(|(who, to, dn)| Op::Stake { who, to, dn }),
        1 => (0usize..40).prop_map(|who| Op::Leave { who }),
        1 => (0u8..6, 0u8..5, 0u8..5).prop_map(|(who, family, to)| Op::HandOn { who, family, to }),
        10 => Just(Op::Blocks { count: 1 }),
    ]
}

/// The phases of a round.
const SEAL: i8 = 0;
const COMMIT: i8 = 1;
const REVEAL: i8 = 2;
const OPEN: i8 = 3;

impl Spec {
    /// Whether a round is a canary, as its setter finds out.
    pub(super) fn is_canary(&self, id: &Hash32, round: &Round) -> bool {
        let draw = Both::draw_of(*id, name_of(round.setter));
        let value = draw.proof.verify(&draw.public, &canary_input(id)).unwrap();
        is_canary(&value, &round.beacon, id, self.params.quality.review.canary_rate)
    }
}

impl Both {
    /// Around the middle, just within the tolerance of it and just beyond, and far from it.
    pub(super) fn score(n: u8) -> Unit {
        const HALF: u64 = 1 << 31;
        const TENTH: u64 = 429_496_730;
        let all = [
            0,
            HALF / 2,
            HALF - TENTH - 1,
            HALF - TENTH,
            HALF - 9,
            HALF,
            HALF,
            HALF + TENTH,
            HALF + TENTH + 1,
            HALF + HALF / 2,
            2 * HALF,
            HALF + 3,
        ];
        Unit::from_bits(all[usize::from(n) % all.len()])
    }

    pub(super) fn reveal_of(&self, round: Hash32, validator: Address, score: Unit) -> Reveal {
        Reveal { round, validator, score, salt: Hash32([validator.0[0]; 32]) }
    }

    fn draw_of(id: Hash32, by: &str) -> Draw {
        Draw { public: key(by).public(), proof: VrfProof::new(&key(by), &canary_input(&id)).unwrap() }
    }

    /// What a setter knows: of a canary half a score, and nothing else.
    fn seal_of(&self, id: Hash32, wrong: bool) -> Seal {
        let canary = self.canaries[&id] != wrong;
        Seal { round: id, known: canary.then(|| Self::score(5)), salt: Hash32([8; 32]) }
    }

    pub(super) fn ask(&self, op: &Op) -> Option<(&'static str, Payload)> {
        Some(match op {
            Op::Act { round, pick, score, spoil } => return self.act(*round, *pick, *score, *spoil),
            Op::Post { worker, lines, odd } => self.ask_post(["worker", "worker2"][*worker], lines, *odd),
            Op::Say { .. } => return self.ask_feedback(op),
            Op::Stake { who, to, dn: amount } => {
                let validator = who_is(WHO[*to]);
                if !self.spec.active.contains(&validator) {
                    return None;
                }
                (WHO[*who], Payload::Stake { validator, amount: dn(u64::from(*amount) / 10 + 1) })
            }
            // Four stay: with too few there are no rounds.
            Op::Leave { who } => {
                let who = *WHO.get(*who).filter(|_| *who < 7)?;
                if self.spec.active.len() <= 4 {
                    return None;
                }
                (who, Payload::Retire { role: Role::Validator })
            }
            Op::HandOn { who, family, to } => {
                let family = *self.models.get(usize::from(*family))?;
                let owner = name_of(self.spec.models[&family].owner);
                let who = if *who == 0 { "gateway" } else { owner };
                let to = who_is(["owner", "stranger", "payer", "payer", "worker"][usize::from(*to)]);
                (who, Payload::TransferModel { family, to })
            }
            Op::Blocks { .. } => unreachable!("no request"),
        })
    }

    fn act(&self, round: u8, pick: u8, score: u8, spoil: u8) -> Option<(&'static str, Payload)> {
        let ids: Vec<_> = self.spec.rounds.keys().copied().collect();
        let id = *ids.get(usize::from(round) % ids.len().max(1))?;
        let held = &self.spec.rounds[&id];
        let height = self.spec.height;
        // Until it is sealed nothing else can be done; mostly.
        let due = match held.until.iter().position(|until| height <= *until).unwrap_or(3) {
            0 | 1 if held.sealed.is_none() => SEAL,
            0 | 1 => COMMIT,
            2 => REVEAL,
            _ => OPEN,
        };
        let phase = match spoil {
            0..3 => due - 1,
            3..5 => due + 1,
            _ => due,
        };
        let did = |want: fn(&Did) -> bool| held.members.iter().filter(move |member| want(&member.did));
        // Who is next, mostly.
        let next: Vec<_> = match phase {
            COMMIT => did(|did| *did == Did::Nothing).map(|member| member.who).collect(),
            REVEAL => did(|did| matches!(did, Did::Committed(_))).map(|member| member.who).collect(),
            _ => vec![held.setter],
        };
        let members: Vec<_> = held.members.iter().map(|member| member.who).collect();
        let from = if next.is_empty() || spoil == 5 { &members } else { &next };
        let mut who = name_of(from[usize::from(pick) % from.len()]);
        if spoil == 6 {
            who = WHO[usize::from(pick) % 8];
        }
        let payload = self.move_of(phase, id, held, (who, score, spoil));
        Some((who, payload))
    }

    /// What somebody has to do in a phase, with half a score.
    pub(super) fn right_move(&self, phase: usize, id: Hash32, held: &Round, who: &str) -> Payload {
        let sealed = self.spec.rounds.get(&id).unwrap_or(held).clone();
        self.move_of(i8::try_from(phase).unwrap(), id, &sealed, (who, 5, 50))
    }

    fn move_of(&self, phase: i8, id: Hash32, held: &Round, (who, score, spoil): (&str, u8, u8)) -> Payload {
        let round = if spoil == 7 { Hash32([7; 32]) } else { id };
        let wrong = spoil == 8 || spoil == 9;
        match phase {
            ..=SEAL => Payload::QualitySeal { round, commitment: self.seal_of(id, wrong).commitment() },
            COMMIT => {
                let commitment = self.reveal_of(round, who_is(who), Self::score(score)).commitment();
                Payload::QualityCommit { round, commitment }
            }
            REVEAL => {
                let committed = self.scores.get(&(id, who_is(who))).copied().unwrap_or(Self::score(score));
                let other = if wrong { Self::score(score) } else { committed };
                let mut reveal = self.reveal_of(round, who_is(who), other);
                if spoil == 10 {
                    reveal.salt = Hash32([1; 32]);
                }
                if spoil == 11 {
                    reveal.validator = who_is(WHO[usize::from(score) % 7]);
                }
                Payload::QualityReveal { reveal }
            }
            _ => {
                let right = self.seal_of(id, false);
                let is_right = held.sealed == Some(right.commitment());
                let mut seal = if is_right { right } else { self.seal_of(id, true) };
                seal.round = round;
                if matches!(spoil, 10 | 13..16) {
                    seal.salt = Hash32([1; 32]);
                }
                let by = if spoil == 11 { "owner" } else { name_of(held.setter) };
                let mut draw = Self::draw_of(id, by);
                if spoil == 12 {
                    draw.proof.0[60] ^= 1;
                }
                Payload::QualityUnseal { seal, draw }
            }
        }
    }

    // --- batches and feedback ---

    fn receipt_of(&self, line: &BatchLine, worker: &str, n: u8, odd: u8) -> Receipt {
        let (mean, count) = (line.fees.atto() / u128::from(line.receipts), u128::from(line.receipts));
        let fee = match (odd + n) % 12 {
            0 => line.fees.atto() + 1,
            1 => 0,
            2 => mean / 3,
            3 => mean * count,
            _ => mean,
        };
        Receipt {
            chain_id: CHAIN_ID,
            job: JobId([n; 32]),
            domain: line.domain,
            model: line.model,
            numeric_spec: 0,
            prompt_hash: Hash32([n; 32]),
            output_hash: Hash32([2; 32]),
            trace_root: Hash32([3; 32]),
            prompt_tokens: 20,
            output_tokens: 50,
            finish: FinishReason::Stop,
            price: price(),
            fee: Amount::from_atto(fee),
            payer: who_is("payer"),
            channel: line.channel,
            lane: line.lane + u32::from((odd + n) % 12 == 4),
            worker: who_is(worker),
            gateway: who_is("gateway"),
            started_ms: 1,
            finished_ms: 2,
            expires_ms: u64::MAX,
        }
    }

    fn lines_of(&self, wanted: &[(u8, u8, u8, u16)]) -> Vec<BatchLine> {
        let line = |(lane, (model, channel, receipts, fee)): (u32, &(u8, u8, u8, u16))| {
            let model = self.models[usize::from(*model)];
            let receipts = u32::from(*receipts);
            BatchLine {
                channel: self.channels[usize::from(*channel)],
                lane,
                model,
                domain: self.spec.models[&model].domain,
                receipts,
                prompt_tokens: u64::from(receipts) * 20,
                output_tokens: u64::from(receipts) * 50,
                fees: Amount::from_atto(u128::from(*fee) * 30_000_000_000_007),
            }
        };
        let mut lines: Vec<_> = (0..).zip(wanted).map(line).collect();
        lines.sort_unstable_by_key(|line| (line.channel, line.lane));
        lines
    }

    /// The receipts of a batch, line by line.
    pub(super) fn receipts_of(&self, lines: &[BatchLine], worker: &str, odd: u8) -> Vec<Signed<Receipt>> {
        let each = lines.iter().flat_map(|line| (0..line.receipts).map(move |_| line));
        let bodies = (0..).zip(each).map(|(n, line)| self.receipt_of(line, worker, n, odd));
        let (right, wrong) = (key(worker), key("gateway"));
        // Seldom one that its worker did not sign.
        let by = |body: &Receipt| if odd == 5 && body.job.0[0] == 0 { &wrong } else { &right };
        bodies.map(|body| (by(&body).clone(), body)).map(|(key, body)| Signed::sign(body, &key)).collect()
    }

    fn ask_post(
        &self,
        worker: &'static str,
        wanted: &[(u8, u8, u8, u16)],
        odd: u8,
    ) -> (&'static str, Payload) {
        let lines = self.lines_of(wanted);
        let receipts = self.receipts_of(&lines, worker, odd);
        let vouchers = lines.iter().map(|line| {
            let claimed = self.claimed.get(&(line.channel, line.lane)).copied().unwrap_or_default();
            let body = Voucher {
                chain_id: CHAIN_ID,
                channel: line.channel,
                lane: line.lane,
                max_claimable: Amount::from_atto(claimed + line.fees.atto()),
                signer: who_is("spender"),
                expires_ms: u64::MAX,
            };
            Signed::sign(body, &key("spender"))
        });
        let vouchers = vouchers.collect();
        let body = BatchRoot {
            chain_id: CHAIN_ID,
            worker: who_is(worker),
            gateway: who_is("gateway"),
            sequence: self.sequences.get(worker).copied().unwrap_or_default(),
            root: MerkleTree::new(receipts.iter().map(Canonical::to_bytes)).root(),
            count: u32::try_from(receipts.len()).unwrap(),
            lines,
            expires_ms: u64::MAX,
        };
        (worker, Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers })
    }

    fn ask_feedback(&self, op: &Op) -> Option<(&'static str, Payload)> {
        let Op::Say { batch, index, score, signer, spoil } = op else { unreachable!("the caller looked") };
        // Mostly one of the newest.
        let recent = self.posted.len().saturating_sub(6);
        let recent = &self.posted[recent..];
        let (id, receipts) = recent.get(usize::from(*batch) % recent.len().max(1))?;
        let index = usize::from(*index) % receipts.len();
        let tree = MerkleTree::new(receipts.iter().map(Canonical::to_bytes));
        let (mut receipt, proof) = (receipts[index].clone(), tree.prove(index as u64).unwrap());
        let payer = self.spec.channels[&receipt.body.channel].0;
        let payer = PAYERS.into_iter().find(|name| who_is(name) == payer).unwrap();
        let name = match signer {
            0..4 => "spender",
            4 => "stranger",
            _ => payer,
        };
        if *spoil == 7 {
            receipt.body.fee = dn(1);
        }
        let index = u32::try_from(index).unwrap();
        let body = Feedback {
            chain_id: if *spoil == 10 { CHAIN_ID + 1 } else { CHAIN_ID },
            batch: if *spoil == 8 { BatchId([9; 32]) } else { *id },
            index: if *spoil == 1 { index + 1 } else { index },
            receipt: if *spoil == 2 { ReceiptId([1; 32]) } else { receipts[index as usize].body.id() },
            score: if *spoil == 3 { 101 } else { *score },
            tag: if *spoil == 4 { "x".repeat(33) } else { "prose".into() },
            uri_hash: Hash32([4; 32]),
            signer: who_is(name),
            expires_ms: match spoil {
                5 => self.spec.time_ms - 1,
                6 => self.spec.time_ms,
                _ => u64::MAX,
            },
        };
        let feedback = Signed::sign(body, &key(if *spoil == 9 { "gateway" } else { name }));
        Some(("gateway", Payload::Feedback { feedback, receipt, proof }))
    }
}
