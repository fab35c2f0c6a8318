//! A ledger on which everything is under way, and what must hold of any bytes that somebody sends to it as a payload.
//!
//! The fuzz target `ledger_tx` tries bytes by [`Prepared::try_bytes`] as the property tests do.

use std::collections::BTreeMap;

use dn_core::amount::SUPPLY_CAP;
use dn_core::merkle::MerkleTree;
use dn_core::objects::{AuditOutcome, BatchLine, BatchRoot, FinishReason, Receipt, SessionGrant};
use dn_core::{Address, Amount, Canonical, ChannelId, Hash32, JobId, SecretKey, Signed};
use dn_ledger::apply::{begin_block, end_block};
use dn_ledger::block::{Block, tx_root};
use dn_ledger::state::WORKER_SEQUENCES;
use dn_ledger::tx::{
    BackingTerms, Choice, DomainTerms, Licence, NewJob, NewVersion, ProposalKind, Shares, escrow_id,
};
use dn_ledger::{BlockContext, Payload, Reject, Role, Signatures, SignedTx, Tx, apply, supply};

use super::{AuditPhase, CHAIN_ID, PEOPLE, World, address, dn, key, manifest, offer, params, price};

/// A worker, a gateway, models of two domains with offers and backers, a channel with a settled and a posted batch under audit, an open job, a session
/// and a proposal that is voted on.
pub(crate) struct Prepared {
    pub(crate) w: World,
    ctx: BlockContext,
    escrow: ChannelId,
    keys: BTreeMap<Address, SecretKey>,
}

impl Prepared {
    pub(crate) fn new() -> Self {
        let mut params = params();
        params.audit_times.commit_blocks = 40;
        params.unbonding_epochs = 24;
        params.governance.min_deposit = dn(10);
        let mut w = World::with(params);
        w.prepare();
        w.ok("stranger", Payload::CreateDomain { name: "first".into(), terms: DomainTerms::default() });
        let version = version(100);
        let family = version.manifest.id();
        w.ok("owner", Payload::PublishVersion { version });
        w.ok("worker", offer(family));
        w.ok("payer", Payload::BackModel { family, amount: dn(5) });
        w.ok("payer", Payload::Stake { validator: address("v1"), amount: dn(50) });
        let mut line = w.line(0, 1, dn(2));
        (line.model, line.domain) = (family, 1);
        let body = w.root("worker", vec![line]);
        let vouchers = vec![w.voucher(0, dn(2))];
        w.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
        w.audit_all(|_, _| Some(AuditOutcome::Match {}));
        w.sequence = 1;
        let escrow = escrow_id(address("payer"), address("gateway"), w.nonce("payer"));
        w.ok("payer", Payload::LockJob { job: job(&w) });
        w.ok("payer", Payload::GrantSession { grant: Signed::sign(grant("payer"), &key("payer")) });
        let (title, text, kind) = ("t".to_owned(), String::new(), ProposalKind::Text {});
        w.ok(
            "gateway",
            Payload::Propose { title: title.clone(), text: text.clone(), kind: kind.clone(), deposit: dn(4) },
        );
        w.ok("gateway", Payload::Propose { title, text, kind, deposit: dn(60) });
        let body = w.root("worker", vec![w.line(1, 3, dn(3))]);
        let vouchers = vec![w.voucher(1, dn(3))];
        w.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
        w.sequence = 2;
        w.blocks(2);
        let ctx = w.chain.next_context(w.chain.tip().time_ms + 1_000);
        let names = PEOPLE.into_iter().chain(["spender", "session"]);
        let keys = names.map(|name| (address(name), key(name))).collect();
        Self { w, ctx, escrow, keys }
    }

    /// Tries bytes: the first says who sends, the others are its payload. The payload is sent as it is, and once more with
    /// what is signed in it signed by whom it names.
    pub(crate) fn try_bytes(&self, input: &[u8]) -> Vec<Result<(), Reject>> {
        let Some((who, bytes)) = input.split_first() else { return Vec::new() };
        let Ok(payload) = Payload::from_bytes(bytes) else { return Vec::new() };
        assert_eq!(payload.to_bytes(), bytes, "what decodes is canonical");
        let sender = PEOPLE[usize::from(*who) % PEOPLE.len()];
        let signed = self.signed_again(payload.clone());
        let other = (signed != payload).then_some(signed);
        [payload].into_iter().chain(other).map(|payload| self.try_payload(sender, payload)).collect()
    }

    fn try_payload(&self, sender: &str, payload: Payload) -> Result<(), Reject> {
        let mut tx: Tx = self.w.raw(sender, payload);
        tx.expires_height = self.ctx.height + 5;
        self.try_tx(&tx.sign(&key(sender)))
    }

    /// A refusal changes no byte; DN only move; the blocks after it run.
    pub(crate) fn try_tx(&self, tx: &SignedTx) -> Result<(), Reject> {
        let mut state = self.w.state().clone();
        let result = apply(&mut state, tx, &self.ctx).map(drop);
        if result.is_err() {
            assert!(&state == self.w.state() && state.changes().is_empty(), "a refusal changes no byte");
            return result;
        }
        supply::check_changes(&supply::changed_holdings(&state.pending())).unwrap();
        assert_eq!(supply::supply(&state).total(), SUPPLY_CAP);
        let mut ctx = self.ctx.clone();
        for _ in 0..2 {
            end_block(&mut state, &ctx);
            state.seal();
            (ctx.height, ctx.time_ms) = (ctx.height + 1, ctx.time_ms + 1_000);
            begin_block(&mut state, &ctx);
            assert_eq!(supply::supply(&state).total(), SUPPLY_CAP);
        }
        result
    }

    /// Tries bytes as a block: what decodes is canonical, and only the block that follows is valid. Nothing changes either way.
    pub(crate) fn try_block(&self, input: &[u8]) {
        let Ok(block) = Block::from_bytes(input) else { return };
        assert_eq!(block.to_bytes(), input);
        let mut chain = self.w.chain.clone();
        let valid = chain.validate(&block).is_ok();
        assert_eq!(chain.state(), self.w.state());
        assert!(chain.state().changes().is_empty());
        if valid {
            let header = &block.header;
            assert_eq!((header.height, header.parent), (self.ctx.height, self.w.chain.tip().hash()));
            assert_eq!(header.tx_root, tx_root(&block.txs));
        }
    }

    /// The bytes of the block that follows.
    pub(crate) fn block(&self) -> Vec<u8> {
        let tx = self.w.tx("payer", Payload::Transfer { to: address("owner"), amount: dn(1) });
        let proposer = &self.keys[&self.w.chain.proposer(0)];
        let mut chain = self.w.chain.clone();
        let block = chain.propose_by(proposer, self.ctx.time_ms, &[tx], Signatures::Check).unwrap().block;
        assert!(chain.validate(&block).is_ok());
        block.to_bytes()
    }

    fn signed_again(&self, payload: Payload) -> Payload {
        fn again<T: dn_core::Signable>(keys: &BTreeMap<Address, SecretKey>, signed: Signed<T>) -> Signed<T> {
            match keys.get(&signed.body.signer()) {
                Some(key) => Signed::sign(signed.body, key),
                None => signed,
            }
        }
        let keys = &self.keys;
        match payload {
            Payload::PostBatch { batch, vouchers } => Payload::PostBatch {
                batch: again(keys, batch),
                vouchers: vouchers.into_iter().map(|voucher| again(keys, voucher)).collect(),
            },
            Payload::ClaimJob { mut batch, receipt, acceptance } => {
                let receipt = Box::new(again(keys, *receipt));
                // The root follows the signature.
                batch.body.root = MerkleTree::new([receipt.to_bytes()]).root();
                let acceptance = acceptance.map(|word| again(keys, word));
                Payload::ClaimJob { batch: again(keys, batch), receipt, acceptance }
            }
            Payload::GrantSession { grant } => Payload::GrantSession { grant: again(keys, grant) },
            Payload::Feedback { feedback, receipt, proof } => {
                Payload::Feedback { feedback: again(keys, feedback), receipt: again(keys, receipt), proof }
            }
            other => other,
        }
    }

    /// Bytes whose payload the ledger takes as they are, one or more for most kinds.
    pub(crate) fn samples(&self) -> Vec<Vec<u8>> {
        let (w, other) = (&self.w, address("stranger"));
        let family = manifest(100).id();
        let batch = |vouchers| {
            let body = w.root("worker", vec![w.line(1, 2, dn(1))]);
            Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers }
        };
        let new_model = NewVersion { family: Some(family), backing: None, ..version(101) };
        let transfer = Payload::Transfer { to: other, amount: dn(1) };
        let register =
            |role| Payload::Register { role, collateral: dn(100), name: "n".into(), endpoint: "e".into() };
        let (deposit, spender) = (dn(1), address("spender"));
        let mut all = vec![
            ("payer", transfer),
            ("stranger", register(Role::Gateway)),
            ("owner", Payload::Retire { role: Role::ModelOwner }),
            ("payer", Payload::Stake { validator: address("v2"), amount: dn(2) }),
            ("payer", Payload::Unbond { validator: address("v1"), shares: Shares(dn(3).atto()) }),
            (
                "payer",
                Payload::Redelegate { from: address("v1"), to: address("v2"), shares: Shares(dn(3).atto()) },
            ),
            (
                "owner",
                Payload::PublishModel {
                    manifest: manifest(9),
                    name: "m".into(),
                    price: price(),
                    domain: 0,
                    salt: None,
                },
            ),
            ("owner", Payload::PublishVersion { version: new_model }),
            ("owner", Payload::SetModelPrice { model: w.model, price: price() }),
            ("owner", Payload::RetireModel { model: w.model }),
            ("worker2", offer(w.model)),
            ("worker", Payload::Unoffer { model: w.model }),
            ("payer", Payload::OpenChannel { payee: address("gateway"), deposit, spender }),
            ("payer", Payload::TopUpChannel { channel: w.channel, amount: dn(1) }),
            ("payer", Payload::CloseChannel { channel: w.channel }),
            ("worker", batch(vec![w.voucher(1, dn(4))])),
            ("owner", Payload::CreateDomain { name: "second".into(), terms: DomainTerms::default() }),
            ("stranger", Payload::ConfigureDomain { domain: 1, terms: DomainTerms::default() }),
            ("stranger", Payload::TransferDomain { domain: 1, to: address("owner") }),
            ("stranger", Payload::SpendTreasury { domain: 1, to: other, amount: Amount::from_atto(5) }),
            ("payer", Payload::BackModel { family, amount: dn(2) }),
            ("payer", Payload::Unback { family, shares: Shares(dn(1).atto()) }),
            ("owner", Payload::CommitModel { commitment: Hash32([6; 32]) }),
            ("payer", Payload::LockJob { job: job(w) }),
            ("worker", self.claim()),
            (
                "worker",
                Payload::UpdateIdentity {
                    role: Role::Worker,
                    name: Some("x".into()),
                    endpoint: None,
                    add_collateral: dn(1),
                },
            ),
            ("v1", Payload::SetCommission { rate: 10 }),
            ("gateway", Payload::GrantSession { grant: Signed::sign(grant("stranger"), &key("stranger")) }),
            ("payer", Payload::RevokeSession { session: address("session"), serial: 5 }),
            (
                "owner",
                Payload::Propose {
                    title: "t".into(),
                    text: "x".into(),
                    kind: ProposalKind::Text {},
                    deposit: dn(60),
                },
            ),
            ("payer", Payload::Deposit { proposal: 0, amount: dn(1) }),
            ("payer", Payload::Vote { proposal: 1, pool: address("v1"), choice: Choice::Yes }),
        ];
        let audits: Vec<_> = w.open_audits();
        for (name, batch, index, phase) in &audits {
            assert_eq!(*phase, AuditPhase::Commit);
            let verdict = World::verdict(name, *batch, *index, AuditOutcome::Match {});
            let who = PEOPLE.into_iter().find(|person| person == name).unwrap();
            all.push((who, World::commit_payload(&verdict)));
        }
        assert!(!audits.is_empty(), "nothing is audited");
        let place = |who| u8::try_from(PEOPLE.iter().position(|name| *name == who).unwrap()).unwrap();
        all.into_iter().map(|(who, payload)| [vec![place(who)], payload.to_bytes()].concat()).collect()
    }

    fn claim(&self) -> Payload {
        let (fee, worker, gateway) = (price().fee(20, 50).unwrap(), address("worker"), address("gateway"));
        let receipt = Receipt {
            chain_id: CHAIN_ID,
            job: JobId([5; 32]),
            domain: 0,
            model: self.w.model,
            numeric_spec: 1,
            prompt_hash: Hash32([1; 32]),
            output_hash: Hash32([2; 32]),
            trace_root: Hash32([3; 32]),
            prompt_tokens: 20,
            output_tokens: 50,
            finish: FinishReason::Stop,
            price: price(),
            fee,
            payer: address("payer"),
            channel: self.escrow,
            lane: 0,
            worker,
            gateway,
            started_ms: 1,
            finished_ms: 2,
            expires_ms: u64::MAX,
        };
        let receipt = Signed::sign(receipt, &key("worker"));
        let line = BatchLine {
            channel: self.escrow,
            receipts: 1,
            prompt_tokens: 20,
            output_tokens: 50,
            fees: fee,
            ..self.w.line(0, 1, fee)
        };
        let body = BatchRoot {
            sequence: WORKER_SEQUENCES.get_or_default(self.w.state(), &worker),
            root: MerkleTree::new([receipt.to_bytes()]).root(),
            ..self.w.root("worker", vec![line])
        };
        let batch = Signed::sign(body, &key("gateway"));
        Payload::ClaimJob { batch, receipt: Box::new(receipt), acceptance: None }
    }
}

fn version(tag: u8) -> NewVersion {
    NewVersion {
        family: None,
        manifest: manifest(tag),
        name: "v".into(),
        price: price(),
        domain: 1,
        licence: Licence { id: "MIT".into(), derivatives: true, commercial: true, royalty_bps: 100 },
        parents: vec![],
        fees: None,
        backing: Some(BackingTerms { share_bps: 3_000, cap: dn(1_000) }),
        salt: None,
    }
}

fn job(w: &World) -> NewJob {
    NewJob {
        worker: None,
        gateway: address("gateway"),
        model: w.model,
        job: JobId([5; 32]),
        price: price(),
        amount: dn(1),
        expires_height: w.height() + 40,
        bond: dn(3),
    }
}

fn grant(owner: &str) -> SessionGrant {
    SessionGrant {
        chain_id: CHAIN_ID,
        owner: address(owner),
        session: address("session"),
        serial: 5,
        per_call: dn(2),
        total: dn(10),
        models: vec![],
        expires_ms: u64::MAX,
    }
}
