//! A real model's computation disputed on a real ledger: tampered weights, altered tokens, false accusations, silence.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as expected")]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dn_compute::{Engine, EngineOptions, GenerateRequest, Model};
use dn_core::merkle::MerkleTree;
use dn_core::objects::{
    AuditOutcome, BatchLine, BatchRoot, Decoding, FinishReason, JobRequest, Price, Receipt, Sampling,
    Verdict, Voucher, token_hash,
};
use dn_core::{Address, Amount, BatchId, Canonical, ChannelId, Hash32, SecretKey, Signed};
use dn_ledger::block::Certificate;
use dn_ledger::events::{Event, SlashCause};
use dn_ledger::params::DisputeParams;
use dn_ledger::referee::{Ending, MoveFault, Side};
use dn_ledger::state::ACCOUNTS;
use dn_ledger::tx::{Ground, channel_id};
use dn_ledger::{
    Chain, Devnet, DevnetValidator, Genesis, Params, Payload, Proposal, Reject, Role, Tx, query,
};
use dn_sdk::referee::{REFEREE_RULES, TileReferee, answer_payload, dispute_of, ground_of, pick_payload};

const CHAIN: u64 = 77;
const WORKER: u8 = 1;
const GATEWAY: u8 = 2;
const PAYER: u8 = 3;
const OWNER: u8 = 4;
const VALIDATOR: u8 = 9;

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn address(n: u8) -> Address {
    key(n).address()
}

fn options() -> EngineOptions {
    EngineOptions { threads: std::num::NonZeroUsize::new(1), ..EngineOptions::default() }
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::from_bytes(dn_compute::embedded::tiny_rust()).unwrap())
}

fn honest() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let load = || Engine::load_bytes(dn_compute::embedded::tiny_rust(), options()).unwrap();
    ENGINE.get_or_init(load)
}

/// The same model's weights in fewer bits, sold under its name.
fn cheaper() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Arc::new(model().coarsened(5).unwrap()), options()).unwrap())
}

fn request(temperature_micro: u32) -> JobRequest {
    JobRequest {
        chain_id: CHAIN,
        payer: address(PAYER),
        gateway: address(GATEWAY),
        channel: ChannelId([3; 32]),
        lane: 0,
        domain: 0,
        model: model().id(),
        numeric_spec: 1,
        prompt: (1..24).collect(),
        sampling: Sampling { temperature_micro, seed: 5, ..Sampling::GREEDY },
        decoding: Decoding::default(),
        max_tokens: 9,
        stop: vec![],
        price: Price { prompt_token: Amount::from_atto(1), output_token: Amount::from_atto(1) },
        nonce: [9; 16],
        expires_ms: u64::MAX,
    }
}

/// A chain with one validator that accuses, and one receipt that it accuses.
struct Court {
    chain: Chain,
    request: JobRequest,
    output: Vec<u32>,
    receipt: Signed<Receipt>,
    batch: BatchId,
    longest: Duration,
    moves: u32,
    bytes: usize,
}

fn params() -> Params {
    let mut params = Params::devnet();
    params.audit_rate = dn_trust::AuditParams { ceiling: 10_000, floor: 10_000 };
    params.dispute =
        DisputeParams { referee: REFEREE_RULES, open_blocks: 5, clock_blocks: 64, ..DisputeParams::devnet() };
    params
}

fn genesis() -> Genesis {
    let validator = DevnetValidator {
        address: address(VALIDATOR),
        name: "v".into(),
        endpoint: "here".into(),
        stake: Amount::from_dn(9_000),
    };
    let devnet = Devnet {
        chain_id: CHAIN,
        time_ms: 1,
        faucet: address(99),
        funded: [WORKER, GATEWAY, PAYER, OWNER, VALIDATOR]
            .map(|n| (address(n), Amount::from_dn(5_000)))
            .to_vec(),
        validators: vec![validator],
    };
    Genesis::devnet(&devnet, params()).unwrap()
}

impl Court {
    /// The receipt that a worker signs for an output and a trace, in a batch, accused.
    fn accused(request: JobRequest, output: Vec<u32>, trace_root: Hash32) -> Self {
        let chain = Chain::new(&genesis()).with_referee(TileReferee::handle());
        let channel = channel_id(address(PAYER), address(GATEWAY), 0);
        let count = |tokens: &[u32]| u32::try_from(tokens.len()).unwrap();
        let receipt = Receipt {
            chain_id: CHAIN,
            job: request.id(),
            domain: 0,
            model: request.model,
            numeric_spec: 1,
            prompt_hash: token_hash(&request.prompt),
            output_hash: token_hash(&output),
            trace_root,
            prompt_tokens: count(&request.prompt),
            output_tokens: count(&output),
            finish: FinishReason::Length,
            price: request.price,
            fee: Amount::from_dn(1),
            payer: address(PAYER),
            channel,
            lane: 0,
            worker: address(WORKER),
            gateway: address(GATEWAY),
            started_ms: 1,
            finished_ms: 2,
            expires_ms: u64::MAX,
        };
        let receipt = Signed::sign(receipt, &key(WORKER));
        let (batch, longest) = (BatchId([0; 32]), Duration::ZERO);
        let mut court = Self { chain, request, output, receipt, batch, longest, moves: 0, bytes: 0 };
        court.prepare(channel);
        court.post(channel);
        court
    }

    fn prepare(&mut self, channel: ChannelId) {
        let register = |role, collateral| Payload::Register {
            role,
            collateral: Amount::from_dn(collateral),
            name: "x".into(),
            endpoint: String::new(),
        };
        self.ok(GATEWAY, register(Role::Gateway, 100)).unwrap();
        self.ok(WORKER, register(Role::Worker, 1_000)).unwrap();
        self.ok(OWNER, register(Role::ModelOwner, 10)).unwrap();
        let (name, price) = ("tiny".to_owned(), self.request.price);
        let manifest = model().manifest().clone();
        self.ok(OWNER, Payload::PublishModel { manifest, name, price, domain: 0, salt: None }).unwrap();
        self.ok(WORKER, Payload::Offer { model: model().id(), price: Price::default() }).unwrap();
        let deposit = Amount::from_dn(9);
        self.ok(PAYER, Payload::OpenChannel { payee: address(GATEWAY), deposit, spender: address(PAYER) })
            .unwrap();
        assert!(query::channel(self.chain.state(), channel).is_some());
    }

    fn post(&mut self, channel: ChannelId) {
        let body = &self.receipt.body;
        let fees = Amount::from_dn(1);
        let line = BatchLine {
            channel,
            lane: 0,
            model: body.model,
            domain: 0,
            receipts: 1,
            prompt_tokens: body.prompt_tokens.into(),
            output_tokens: body.output_tokens.into(),
            fees,
        };
        let root = BatchRoot {
            chain_id: CHAIN,
            worker: address(WORKER),
            gateway: address(GATEWAY),
            sequence: 0,
            root: self.tree().root(),
            count: 1,
            lines: vec![line],
            expires_ms: u64::MAX,
        };
        self.batch = root.id();
        let voucher = Voucher {
            chain_id: CHAIN,
            channel,
            lane: 0,
            max_claimable: fees,
            signer: address(PAYER),
            expires_ms: u64::MAX,
        };
        let vouchers = vec![Signed::sign(voucher, &key(PAYER))];
        self.ok(WORKER, Payload::PostBatch { batch: Signed::sign(root, &key(GATEWAY)), vouchers }).unwrap();
        self.block(&[]);
        let outcome = AuditOutcome::Mismatch { position: 0 };
        let verdict = Verdict { batch: self.batch, index: 0, auditor: address(VALIDATOR), outcome };
        let salt = Hash32([7; 32]);
        let commitment = verdict.commitment(&salt.0);
        self.ok(VALIDATOR, Payload::AuditCommit { batch: self.batch, index: 0, commitment }).unwrap();
        self.ok(VALIDATOR, Payload::AuditReveal { verdict, salt }).unwrap();
    }

    fn tree(&self) -> MerkleTree {
        MerkleTree::new([self.receipt.to_bytes()])
    }

    fn block(&mut self, txs: &[dn_ledger::SignedTx]) -> Proposal {
        let time = self.chain.tip().time_ms + 1;
        let began = Instant::now();
        let proposal = self.chain.propose(address(VALIDATOR), time, txs).unwrap();
        self.longest = self.longest.max(began.elapsed());
        assert_eq!(self.chain.validate(&proposal.block).unwrap(), proposal.executed);
        let header = &proposal.block.header;
        self.chain.commit(header, Certificate::sign(header, 0, [&key(VALIDATOR)]), &proposal.executed);
        proposal
    }

    fn ok(&mut self, by: u8, payload: Payload) -> Result<Vec<Event>, Reject> {
        let mut tx = Tx {
            chain_id: CHAIN,
            sender: address(by),
            nonce: ACCOUNTS.get_or_default(self.chain.state(), &address(by)).nonce,
            expires_height: self.chain.tip().height + 9,
            fee: Amount::ZERO,
            payload,
        };
        tx.fee = tx.least_fee(params().min_tx_fee);
        let mut proposal = self.block(&[tx.sign(&key(by))]);
        match proposal.rejected.pop() {
            Some((_, reject)) => Err(reject),
            None => Ok(proposal.executed.events().map(|(_, event)| event.clone()).collect()),
        }
    }

    fn open(&mut self) -> Vec<Event> {
        let (receipt, proof) = (self.receipt.clone(), self.tree().prove(0).unwrap());
        let ground = Ground::Computation;
        self.ok(VALIDATOR, Payload::DisputeOpen { batch: self.batch, index: 0, receipt, proof, ground })
            .unwrap()
    }

    /// Both sides move by their own computation; `silent` is who says nothing from which step on.
    fn play(&mut self, worker: &Engine, silent: Option<(Side, u32)>) -> (Ending, Vec<Event>) {
        let mut events = self.open();
        for _ in 0..400 {
            let view = query::dispute(self.chain.state(), self.batch, 0).unwrap();
            if let Some(ending) = view.outcome {
                return (ending, events);
            }
            if silent.is_some_and(|(side, step)| view.turn == side && view.step >= step) {
                let executed = self.block(&[]).executed;
                events.extend(executed.events().map(|(_, event)| event.clone()));
                continue;
            }
            let dispute = dispute_of(&view, model().manifest()).unwrap();
            let (by, payload) = match view.turn {
                Side::Worker => {
                    let witness = worker.witness(&self.request, &self.output).unwrap();
                    (WORKER, answer_payload(&view, &witness.answer(&dispute).unwrap().unwrap()))
                }
                Side::Accuser => {
                    let witness = honest().witness(&self.request, &self.output).unwrap();
                    (VALIDATOR, pick_payload(&view, &witness.pick(&dispute).unwrap().unwrap()))
                }
            };
            if let Payload::DisputeAnswer { bytes, .. } | Payload::DisputePick { bytes, .. } = &payload {
                self.bytes += bytes.0.len();
                self.moves += 1;
            }
            events.extend(self.ok(by, payload).unwrap());
        }
        panic!("the dispute does not end");
    }
}

fn loser(events: &[Event]) -> Vec<(Role, SlashCause)> {
    let slash = |event: &Event| match event {
        Event::Slashed { role, cause, .. } => Some((*role, *cause)),
        _ => None,
    };
    events.iter().filter_map(slash).collect()
}

const WORKER_LOSES: [(Role, SlashCause); 1] = [(Role::Worker, SlashCause::Fraud)];
const ACCUSER_LOSES: [(Role, SlashCause); 1] = [(Role::Validator, SlashCause::FalseVerdict)];

/// What an engine answers, with the trace it commits to.
fn answer(engine: &Engine, request: &JobRequest) -> (Vec<u32>, Hash32) {
    let generate = GenerateRequest {
        prompt: &request.prompt,
        already: &[],
        sampling: request.sampling,
        decoding: &request.decoding,
        max_tokens: request.max_tokens,
        stop: &request.stop,
    };
    let done = engine.generate(&generate, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    (done.tokens, done.trace_root)
}

#[test]
fn tampered_activations_end_with_the_worker_slashed() {
    let request = request(0);
    let (output, trace_root) = answer(cheaper(), &request);
    assert_eq!(ground_of(honest(), &request, &output, trace_root).unwrap(), Ground::Computation);
    let mut court = Court::accused(request, output, trace_root);
    let (ending, events) = court.play(cheaper(), None);
    let Ending::Fraud { finding } = ending else { panic!("{ending:?}") };
    assert_eq!(loser(&events), WORKER_LOSES, "{finding:?}");
    println!(
        "{} moves of {} bytes in all, longest block {:?} (unoptimised builds are slower)",
        court.moves, court.bytes, court.longest
    );
}

#[test]
fn an_altered_token_ends_with_the_worker_slashed() {
    for temperature in [0, 800_000] {
        let request = request(temperature);
        let (mut output, _) = answer(honest(), &request);
        output[4] = (output[4] + 1) % model().front().vocabulary();
        // The trace is that of the altered output: nothing but the choice is wrong.
        let trace_root = honest().witness(&request, &output).unwrap().root();
        let mut court = Court::accused(request, output, trace_root);
        let (ending, events) = court.play(honest(), None);
        let Ending::Fraud { finding } = ending else { panic!("{ending:?}") };
        assert_eq!(finding.stage, u32::MAX, "the choice");
        assert_eq!(loser(&events), WORKER_LOSES);
    }
}

#[test]
fn a_false_accusation_ends_with_the_accuser_slashed() {
    let request = request(0);
    let (output, trace_root) = answer(honest(), &request);
    assert_eq!(ground_of(honest(), &request, &output, trace_root).unwrap(), Ground::Rest);
    let mut court = Court::accused(request, output, trace_root);
    let (ending, events) = court.play(honest(), None);
    assert_eq!(ending, Ending::Refuted {});
    assert_eq!(loser(&events), ACCUSER_LOSES);
}

#[test]
fn silence_loses_on_either_side_whoever_is_right() {
    let request = request(0);
    let (output, trace_root) = answer(honest(), &request);
    let mut court = Court::accused(request.clone(), output, trace_root);
    let (ending, events) = court.play(honest(), Some((Side::Worker, 2)));
    assert_eq!((ending, &loser(&events)[..]), (Ending::WorkerSilent {}, &WORKER_LOSES[..]));
    let (output, trace_root) = answer(cheaper(), &request);
    let mut court = Court::accused(request, output, trace_root);
    let (ending, events) = court.play(cheaper(), Some((Side::Accuser, 3)));
    assert_eq!((ending, &loser(&events)[..]), (Ending::AccuserSilent {}, &ACCUSER_LOSES[..]));
}

#[test]
fn moves_that_do_not_fit_are_refused_and_change_nothing() {
    let request = request(0);
    let (output, trace_root) = answer(honest(), &request);
    let mut court = Court::accused(request.clone(), output.clone(), trace_root);
    court.open();
    let view = query::dispute(court.chain.state(), court.batch, 0).unwrap();
    let dispute = dispute_of(&view, model().manifest()).unwrap();
    let right = honest().witness(&request, &output).unwrap().answer(&dispute).unwrap().unwrap();
    let mut refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let Payload::DisputeAnswer { batch, index, step, mut bytes } = answer_payload(&view, &right) else {
            unreachable!()
        };
        change(&mut bytes.0);
        match court.ok(WORKER, Payload::DisputeAnswer { batch, index, step, bytes }).unwrap_err() {
            Reject::DisputeMove { fault, .. } => fault,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(&|bytes| bytes.push(0)), MoveFault::Encoding);
    assert_eq!(refused(&|bytes| bytes.clear()), MoveFault::Encoding);
    assert_eq!(refused(&|bytes| *bytes.last_mut().unwrap() ^= 1), MoveFault::Unbound);
    assert_eq!(refused(&|bytes| *bytes = vec![1, 0, 0, 0, 0]), MoveFault::NotDue);
    let shorter = |bytes: &mut Vec<u8>| {
        bytes.truncate(bytes.len() - 32);
        bytes[1] -= 1;
    };
    assert_eq!(refused(&shorter), MoveFault::Form);
    assert_eq!(query::dispute(court.chain.state(), court.batch, 0).unwrap().step, 0);
}

#[test]
fn a_receipt_that_no_computation_gives_is_fraud_on_its_face() {
    let request = request(0);
    let (output, trace_root) = answer(honest(), &request);
    let mut court = Court::accused(request, output, trace_root);
    // A receipt that claims more positions than the model has.
    let mut body = court.receipt.body.clone();
    body.output_tokens = model().front().context() + 1;
    let case = dn_ledger::referee::Case { receipt: &body, manifest: model().manifest() };
    let standing = dn_ledger::Referee::open(&TileReferee, case);
    assert_eq!(standing, dn_ledger::referee::Standing::Ended(Ending::Impossible {}));
    let spec = Receipt { numeric_spec: 2, ..court.receipt.body.clone() };
    let case = dn_ledger::referee::Case { receipt: &spec, manifest: model().manifest() };
    assert_eq!(dn_ledger::Referee::open(&TileReferee, case), standing);
    assert!(!court.open().is_empty());
}

/// The rules have a number, and a change of any verdict needs another: the moves of this dispute must not change by accident.
#[test]
fn the_moves_of_a_dispute_are_pinned() {
    let request = request(0);
    let (output, trace_root) = answer(cheaper(), &request);
    let mut court = Court::accused(request, output, trace_root);
    let (ending, events) = court.play(cheaper(), None);
    let txs: Vec<u8> = events
        .iter()
        .filter_map(|event| match event {
            Event::DisputeMoved { step, .. } => Some(u8::try_from(*step).unwrap()),
            _ => None,
        })
        .collect();
    let pinned = dn_core::keccak256(&[&ending.to_bytes(), &txs, &court.bytes.to_le_bytes()]);
    let hex: String = pinned.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "734c0de2a9bae5f81d53e4e72f696564e81b81059138f0a5ee686ca521ca1c5e";
    assert_eq!((REFEREE_RULES, hex.as_str()), (1, expected));
}

#[test]
fn the_main_networks_preset_names_this_referee() {
    assert_eq!(Params::main().dispute.referee, REFEREE_RULES);
}
