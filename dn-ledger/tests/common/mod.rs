//! A small world to test the ledger in: three validators, a model owner, two workers, a gateway, a payer with a channel.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod auditor;
pub(crate) mod counting;
pub(crate) mod prepared;

use dn_core::merkle::MerkleTree;
use dn_core::objects::{
    AuditOutcome, BatchLine, BatchRoot, Hyperparameters, ModelManifest, Price, RopePairing, RopeScaling,
    Verdict, Voucher,
};
use dn_core::{
    Address, Amount, BatchId, Canonical, ChannelId, Hash32, ModelId, SecretKey, Signed, keccak256,
};
use dn_ledger::block::{Certificate, Header};
use dn_ledger::events::Event;
use dn_ledger::state::{ACCOUNTS, AuditPhase, State};
use dn_ledger::tx::channel_id;
use dn_ledger::views::PageRequest;
use dn_ledger::{
    Chain, Devnet, DevnetValidator, Genesis, Params, Payload, Proposal, Reject, Role, Signatures, SignedTx,
    Tx, ValidatorSet, apply, query, supply,
};

pub(crate) const CHAIN_ID: u64 = 77;
pub(crate) const START_MS: u64 = 1_700_000_000_000;

pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(&keccak256(&[b"test key", name.as_bytes()])).unwrap()
}

pub(crate) fn address(name: &str) -> Address {
    key(name).address()
}

pub(crate) fn dn(amount: u64) -> Amount {
    Amount::from_dn(amount)
}

/// Every receipt is audited; short epochs.
pub(crate) fn params() -> Params {
    let mut params = Params::devnet();
    params.epoch_blocks = 8;
    params.unbonding_epochs = 5;
    params.channel_close_blocks = 5;
    params.audit_rate = dn_trust::AuditParams { ceiling: 10_000, floor: 10_000 };
    params.audit_times.window_blocks = 3;
    params.audit_times.commit_blocks = 4;
    params.audit_times.reveal_blocks = 3;
    params
}

/// Three validators decide the blocks.
pub(crate) fn genesis(params: Params) -> Genesis {
    genesis_with(params, |name| format!("{name}.example:26656"))
}

/// The same people, but only the first validator decides: a network of one node.
pub(crate) fn solo_genesis(params: Params) -> Genesis {
    genesis_with(params, |name| if name == "v1" { "in-process".into() } else { String::new() })
}

fn genesis_with(params: Params, endpoint: impl Fn(&str) -> String) -> Genesis {
    let validator = |name: &str| DevnetValidator {
        address: address(name),
        name: name.to_owned(),
        endpoint: endpoint(name),
        stake: dn(10_000),
    };
    let devnet = Devnet {
        chain_id: CHAIN_ID,
        time_ms: START_MS,
        faucet: address("faucet"),
        funded: PEOPLE.iter().map(|name| (address(name), dn(5_000))).collect(),
        validators: vec![validator("v1"), validator("v2"), validator("v3")],
    };
    Genesis::devnet(&devnet, params).unwrap()
}

/// Everybody with DN at the start; whoever else becomes a validator is one of them.
const PEOPLE: [&str; 9] = ["owner", "worker", "worker2", "gateway", "payer", "stranger", "v1", "v2", "v3"];

/// The decision of a whole validator set.
pub(crate) fn certificate(header: &Header, set: &ValidatorSet) -> Certificate {
    let keys = PEOPLE.map(key);
    Certificate::sign(header, 0, keys.iter().filter(|key| set.power(key.address()) > 0))
}

pub(crate) fn manifest(tag: u8) -> ModelManifest {
    ModelManifest {
        numeric_spec: 1,
        block: 16,
        architecture: "llama".into(),
        hyperparameters: Hyperparameters {
            layers: 4,
            width: 128,
            heads: 4,
            kv_heads: 2,
            head_size: 32,
            ffn_width: 512,
            vocabulary: 2_048,
            context: 512,
            rope_theta_bits: 10_000f32.to_bits(),
            rope_size: 32,
            rope_pairing: RopePairing::Interleaved,
            rope_scaling: RopeScaling::None {},
            norm_epsilon_bits: 1e-5f32.to_bits(),
            head_norms: false,
            attention_bias: false,
            output_bias: false,
            window: None,
            tied_embeddings: true,
        },
        tensors_root: Hash32([tag; 32]),
        tokenizer_hash: Hash32([2; 32]),
        chat_template_hash: Hash32([3; 32]),
        bos_token: Some(1),
        stop_tokens: vec![2],
    }
}

/// An offer at any price.
pub(crate) fn offer(model: ModelId) -> Payload {
    Payload::Offer { model, price: Price::default() }
}

pub(crate) fn price() -> Price {
    Price {
        prompt_token: Amount::from_atto(1_000_000_000_000),
        output_token: Amount::from_atto(4_000_000_000_000),
    }
}

pub(crate) struct World {
    pub(crate) chain: Chain,
    pub(crate) genesis: Genesis,
    pub(crate) log: Vec<Proposal>,
    pub(crate) model: ModelId,
    pub(crate) channel: ChannelId,
    pub(crate) sequence: u64,
}

impl World {
    /// A chain at its genesis.
    pub(crate) fn bare() -> Self {
        Self::with(params())
    }

    pub(crate) fn with(params: Params) -> Self {
        let genesis = genesis(params);
        let chain = Chain::new(&genesis);
        let (model, channel) = (manifest(1).id(), ChannelId::ZERO);
        Self { chain, genesis, log: Vec::new(), model, channel, sequence: 0 }
    }

    /// A chain on which one worker serves one model through one gateway for one payer.
    pub(crate) fn ready() -> Self {
        let mut w = Self::bare();
        w.prepare();
        w
    }

    pub(crate) fn prepare(&mut self) {
        let register = |role, collateral| Payload::Register {
            role,
            collateral: dn(collateral),
            name: "somebody".into(),
            endpoint: String::new(),
        };
        self.ok("owner", register(Role::ModelOwner, 10));
        self.ok("gateway", register(Role::Gateway, 100));
        self.ok("worker", register(Role::Worker, 1_000));
        self.ok("worker2", register(Role::Worker, 100));
        let (name, price) = ("tiny".to_owned(), price());
        self.ok("owner", Payload::PublishModel { manifest: manifest(1), name, price, domain: 0, salt: None });
        self.ok("worker", offer(self.model));
        let nonce = self.nonce("payer");
        self.channel = channel_id(address("payer"), address("gateway"), nonce);
        self.ok(
            "payer",
            Payload::OpenChannel { payee: address("gateway"), deposit: dn(100), spender: address("spender") },
        );
    }

    pub(crate) fn state(&self) -> &State {
        self.chain.state()
    }

    pub(crate) fn height(&self) -> u64 {
        self.chain.tip().height
    }

    pub(crate) fn nonce(&self, name: &str) -> u64 {
        ACCOUNTS.get_or_default(self.state(), &address(name)).nonce
    }

    pub(crate) fn balance(&self, name: &str) -> Amount {
        ACCOUNTS.get_or_default(self.state(), &address(name)).balance
    }

    pub(crate) fn raw(&self, name: &str, payload: Payload) -> Tx {
        let mut tx = Tx {
            chain_id: CHAIN_ID,
            sender: address(name),
            nonce: self.nonce(name),
            expires_height: self.height() + 50,
            fee: Amount::ZERO,
            payload,
        };
        tx.fee = tx.least_fee(self.genesis.params.min_tx_fee);
        tx
    }

    pub(crate) fn tx(&self, name: &str, payload: Payload) -> SignedTx {
        self.raw(name, payload).sign(&key(name))
    }

    /// Commits a block, after checking that a validator would accept it and that the books balance.
    pub(crate) fn block(&mut self, txs: &[SignedTx]) -> Proposal {
        let time_ms = self.chain.tip().time_ms + 1_000;
        let validators = self.chain.validators();
        let proposer = self.chain.proposer(0);
        let keys = PEOPLE.map(key);
        let proposer = keys.iter().find(|key| key.address() == proposer).unwrap();
        let proposal = self.chain.propose_by(proposer, time_ms, txs, Signatures::Check).unwrap();
        assert_eq!(self.chain.validate(&proposal.block).unwrap(), proposal.executed);
        let header = &proposal.block.header;
        self.chain.commit(header, certificate(header, &validators), &proposal.executed);
        supply::check_all(self.state()).unwrap();
        assert_eq!(*self.chain.supply(), supply::supply(self.state()));
        assert_eq!(self.state().commitment().hash(), self.chain.tip().state);
        self.log.push(proposal.clone());
        proposal
    }

    pub(crate) fn blocks(&mut self, count: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.extend(self.block(&[]).executed.events().map(|(_, event)| event.clone()));
        }
        events
    }

    /// Everything that happened since the genesis.
    pub(crate) fn all_events(&self) -> Vec<Event> {
        self.log
            .iter()
            .flat_map(|p| p.executed.events().map(|(_, e)| e.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// A transaction that must be accepted, in a block of its own.
    pub(crate) fn ok(&mut self, name: &str, payload: Payload) -> Vec<Event> {
        let proposal = self.block(&[self.tx(name, payload)]);
        assert_eq!(proposal.rejected, []);
        proposal.executed.events().map(|(_, event)| event.clone()).collect()
    }

    /// Why a payload is refused; checks that the refusal changes no byte.
    pub(crate) fn reject(&self, name: &str, payload: Payload) -> Reject {
        self.reject_tx(&self.tx(name, payload))
    }

    pub(crate) fn reject_tx(&self, tx: &SignedTx) -> Reject {
        let mut state = self.state().clone();
        let ctx = self.chain.next_context(self.chain.tip().time_ms + 1_000);
        let reject = apply(&mut state, tx, &ctx).expect_err("the rules refuse it");
        assert_eq!(&state, self.state());
        assert_eq!(state.commitment(), self.state().commitment());
        // Clients get it as JSON and read it back.
        let json = serde_json::to_string(&reject).unwrap();
        assert_eq!(serde_json::from_str::<Reject>(&json).unwrap(), reject);
        reject
    }

    pub(crate) fn line(&self, lane: u32, receipts: u32, fees: Amount) -> BatchLine {
        BatchLine {
            channel: self.channel,
            lane,
            model: self.model,
            domain: 0,
            receipts,
            prompt_tokens: u64::from(receipts) * 20,
            output_tokens: u64::from(receipts) * 50,
            fees,
        }
    }

    pub(crate) fn root(&self, worker: &str, lines: Vec<BatchLine>) -> BatchRoot {
        let count = lines.iter().map(|line| line.receipts).sum();
        let leaves = (0..count).map(|i| i.to_le_bytes());
        BatchRoot {
            chain_id: CHAIN_ID,
            worker: address(worker),
            gateway: address("gateway"),
            sequence: self.sequence,
            root: MerkleTree::new(leaves).root(),
            count,
            lines,
            expires_ms: self.chain.tip().time_ms + 60_000,
        }
    }

    pub(crate) fn voucher(&self, lane: u32, max_claimable: Amount) -> Signed<Voucher> {
        let body = Voucher {
            chain_id: CHAIN_ID,
            channel: self.channel,
            lane,
            max_claimable,
            signer: address("spender"),
            expires_ms: self.chain.tip().time_ms + 60_000,
        };
        Signed::sign(body, &key("spender"))
    }

    /// Posts a batch of one line and returns its id.
    pub(crate) fn post(&mut self, receipts: u32, fees: Amount, claimed_before: Amount) -> BatchId {
        let body = self.root("worker", vec![self.line(0, receipts, fees)]);
        let id = body.id();
        let vouchers = vec![self.voucher(0, claimed_before.checked_add(fees).unwrap())];
        self.ok("worker", Payload::PostBatch { batch: Signed::sign(body, &key("gateway")), vouchers });
        self.sequence += 1;
        id
    }

    /// The names of validators that have something to do for a batch, with the receipt.
    pub(crate) fn open_audits(&self) -> Vec<(String, BatchId, u32, AuditPhase)> {
        open_audits(self.state())
    }

    pub(crate) fn verdict(name: &str, batch: BatchId, index: u32, outcome: AuditOutcome) -> Verdict {
        Verdict { batch, index, auditor: address(name), outcome }
    }

    pub(crate) fn commit_payload(verdict: &Verdict) -> Payload {
        let commitment = verdict.commitment(&salt(verdict).0);
        Payload::AuditCommit { batch: verdict.batch, index: verdict.index, commitment }
    }

    pub(crate) fn reveal_payload(verdict: &Verdict) -> Payload {
        Payload::AuditReveal { verdict: *verdict, salt: salt(verdict) }
    }

    /// Everybody with an open task commits, then reveals what `finds` says, until no audit is open.
    pub(crate) fn audit_all(&mut self, finds: impl Fn(&str, u32) -> Option<AuditOutcome>) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..40 {
            let open = self.open_audits();
            let mut by_sender = std::collections::BTreeMap::<String, u64>::new();
            let mut txs = Vec::new();
            for (name, batch, index, phase) in &open {
                let Some(outcome) = finds(name, *index) else { continue };
                let verdict = Self::verdict(name, *batch, *index, outcome);
                let payload = match phase {
                    AuditPhase::Commit => Self::commit_payload(&verdict),
                    _ => Self::reveal_payload(&verdict),
                };
                let mut tx = self.raw(name, payload);
                let ahead = by_sender.entry(name.clone()).or_default();
                tx.nonce += *ahead;
                *ahead += 1;
                txs.push(tx.sign(&key(name)));
            }
            let proposal = self.block(&txs);
            events.extend(proposal.executed.events().map(|(_, event)| event.clone()));
            let settled = |e: &Event| matches!(e, Event::BatchSettled { .. } | Event::BatchVoided { .. });
            if events.iter().any(settled) {
                return events;
            }
        }
        panic!("no batch ended within 40 blocks: {events:?}");
    }
}

/// The names of validators that have something to do for a batch, with the receipt.
pub(crate) fn open_audits(state: &State) -> Vec<(String, BatchId, u32, AuditPhase)> {
    let all = PageRequest { limit: Some(1_000), after: None };
    query::audits(state, None, true, &all)
        .unwrap()
        .items
        .into_iter()
        .map(|audit| {
            let name = ["v1", "v2", "v3"].into_iter().find(|n| address(n) == audit.auditor);
            (name.unwrap().to_owned(), audit.batch, audit.index, audit.phase)
        })
        .collect()
}

fn salt(verdict: &Verdict) -> Hash32 {
    Hash32(keccak256(&[b"salt", &verdict.to_bytes()]))
}
