//! Examples that `tools/golden/core.py` builds too, and generators of arbitrary objects.
#![allow(dead_code, reason = "every test binary uses some of these")]

use dn_core::merkle::InclusionProof;
use dn_core::objects::{
    AuditOutcome, BatchLine, BatchRoot, Decoding, FinishReason, Grammar, Hyperparameters, JobAcceptance,
    JobRequest, ModelManifest, Price, Receipt, RopePairing, RopeScaling, Sampling, SessionGrant, TokenBias,
    Verdict, Voucher,
};
use dn_core::{Address, Amount, BatchId, ChannelId, Hash32, JobId, ModelId, ReceiptId, SecretKey, keccak256};
use proptest::prelude::*;

/// The chain of all examples.
pub(crate) const CHAIN: u64 = 0xdee9;
/// The last millisecond of all examples.
pub(crate) const EXPIRES_MS: u64 = 1_800_000_000_000;

pub(crate) fn label(text: &str) -> [u8; 32] {
    keccak256(&[text.as_bytes()])
}

pub(crate) fn key(who: &str) -> SecretKey {
    SecretKey::from_bytes(&label(who)).expect("a hash lies in range")
}

fn address(who: &str) -> Address {
    key(who).address()
}

pub(crate) fn sampling() -> Sampling {
    Sampling {
        temperature_micro: 700_000,
        top_k: 40,
        top_p_micro: 950_000,
        min_p_micro: 50_000,
        repetition_micro: 1_100_000,
        presence_micro: -500_000,
        frequency_micro: 250_000,
        penalty_window: 64,
        seed: 0x0123_4567_89ab_cdef,
    }
}

pub(crate) fn decoding() -> Decoding {
    Decoding {
        bias: vec![
            TokenBias { token: 5, bias_micro: -100_000_000 },
            TokenBias { token: 50_256, bias_micro: 1 },
        ],
        banned: vec![0, 7],
        grammar: Grammar::JsonSchema { schema: "{\"type\":\"object\"}".into() },
        logprobs: Some(5),
    }
}

pub(crate) fn price() -> Price {
    Price {
        prompt_token: Amount::from_atto(3_000_000_000_000),
        output_token: Amount::from_atto(9_000_000_000_001),
    }
}

pub(crate) fn request() -> JobRequest {
    JobRequest {
        chain_id: CHAIN,
        payer: address("payer"),
        gateway: address("gateway"),
        channel: ChannelId(label("channel")),
        lane: 3,
        domain: 7,
        model: ModelId(label("model")),
        numeric_spec: 1,
        prompt: vec![1, 2, u32::MAX],
        sampling: sampling(),
        decoding: decoding(),
        max_tokens: 256,
        stop: vec!["\n\n".into(), "é stop".into()],
        price: price(),
        nonce: std::array::from_fn(|i| i as u8),
        expires_ms: EXPIRES_MS,
    }
}

pub(crate) fn receipt() -> Receipt {
    Receipt {
        chain_id: CHAIN,
        job: JobId(label("job")),
        domain: 7,
        model: ModelId(label("model")),
        numeric_spec: 1,
        prompt_hash: Hash32(label("prompt")),
        output_hash: Hash32(label("output")),
        trace_root: Hash32(label("trace")),
        prompt_tokens: 17,
        output_tokens: u32::MAX - 1,
        finish: FinishReason::Cancelled,
        price: price(),
        fee: Amount::from_atto(u128::MAX),
        payer: address("payer"),
        channel: ChannelId(label("channel")),
        lane: 3,
        worker: address("worker"),
        gateway: address("gateway"),
        started_ms: EXPIRES_MS - 10_000,
        finished_ms: EXPIRES_MS - 1,
        expires_ms: EXPIRES_MS,
    }
}

pub(crate) fn voucher() -> Voucher {
    Voucher {
        chain_id: CHAIN,
        channel: ChannelId(label("channel")),
        lane: 3,
        max_claimable: "2.5".parse().expect("decimal"),
        signer: address("payer"),
        expires_ms: EXPIRES_MS,
    }
}

pub(crate) fn acceptance() -> JobAcceptance {
    JobAcceptance {
        chain_id: CHAIN,
        escrow: ChannelId(label("channel")),
        receipt: ReceiptId(label("receipt")),
        payer: address("payer"),
        expires_ms: EXPIRES_MS,
    }
}

pub(crate) fn session_grant(models: &[&str]) -> SessionGrant {
    SessionGrant {
        chain_id: CHAIN,
        owner: address("payer"),
        session: address("worker"),
        serial: 9,
        per_call: "0.25".parse().expect("decimal"),
        total: "2.5".parse().expect("decimal"),
        models: models.iter().map(|name| ModelId(label(name))).collect(),
        expires_ms: EXPIRES_MS,
    }
}

pub(crate) fn batch_line(lane: u32) -> BatchLine {
    BatchLine {
        channel: ChannelId(label("channel")),
        lane,
        model: ModelId(label("model")),
        domain: 7,
        receipts: 2 + lane,
        prompt_tokens: (1 << 40) + u64::from(lane),
        output_tokens: (1 << 41) + u64::from(lane),
        fees: Amount::from_atto(1_000_000_000_000_000_000 + u128::from(lane)),
    }
}

pub(crate) fn batch_root(lanes: &[u32]) -> BatchRoot {
    BatchRoot {
        chain_id: CHAIN,
        worker: address("worker"),
        gateway: address("gateway"),
        sequence: 41,
        root: Hash32(label("root")),
        count: lanes.iter().map(|lane| 2 + lane).sum(),
        lines: lanes.iter().map(|&lane| batch_line(lane)).collect(),
        expires_ms: EXPIRES_MS,
    }
}

pub(crate) fn hyperparameters() -> Hyperparameters {
    Hyperparameters {
        layers: 22,
        width: 2048,
        heads: 32,
        kv_heads: 4,
        head_size: 64,
        ffn_width: 5632,
        vocabulary: 32_000,
        context: 2048,
        rope_theta_bits: 10_000f32.to_bits(),
        rope_size: 64,
        rope_pairing: RopePairing::HalfSplit,
        rope_scaling: RopeScaling::Linear { factor_bits: 2f32.to_bits() },
        norm_epsilon_bits: 1e-5f32.to_bits(),
        head_norms: false,
        attention_bias: true,
        output_bias: false,
        window: Some(1024),
        tied_embeddings: true,
    }
}

/// One of each way to stretch positions, by name.
pub(crate) fn rope_scalings() -> [(&'static str, RopeScaling); 5] {
    let yarn = RopeScaling::Yarn {
        factor_bits: 4f32.to_bits(),
        original_context: 32_768,
        beta_fast_bits: 32f32.to_bits(),
        beta_slow_bits: 1f32.to_bits(),
        attention_bits: 1.5f32.to_bits(),
    };
    let llama3 = RopeScaling::Llama3 {
        factor_bits: 8f32.to_bits(),
        low_bits: 1f32.to_bits(),
        high_bits: 4f32.to_bits(),
        original_context: 8192,
    };
    [
        ("rope_none", RopeScaling::None {}),
        ("rope_linear", RopeScaling::Linear { factor_bits: 2f32.to_bits() }),
        ("rope_yarn", yarn),
        ("rope_llama3", llama3),
        ("rope_factors", RopeScaling::Factors {}),
    ]
}

pub(crate) fn manifest() -> ModelManifest {
    ModelManifest {
        numeric_spec: 1,
        block: 32,
        architecture: "llama".into(),
        hyperparameters: hyperparameters(),
        tensors_root: Hash32(label("tensors")),
        tokenizer_hash: Hash32(label("tokenizer")),
        chat_template_hash: Hash32(label("template")),
        bos_token: Some(1),
        stop_tokens: vec![2, 32_000],
    }
}

pub(crate) fn verdict(outcome: AuditOutcome) -> Verdict {
    Verdict { batch: BatchId(label("batch")), index: 5, auditor: address("auditor"), outcome }
}

pub(crate) fn proof() -> InclusionProof {
    InclusionProof { index: 4, count: 6, path: vec![Hash32(label("left")), Hash32(label("right"))] }
}

fn amounts() -> impl Strategy<Value = Amount> {
    any::<u128>().prop_map(Amount::from_atto)
}

fn prices() -> impl Strategy<Value = Price> {
    (amounts(), amounts()).prop_map(|(prompt_token, output_token)| Price { prompt_token, output_token })
}

fn samplings() -> impl Strategy<Value = Sampling> {
    let penalty = || -2_000_000..=2_000_000i32;
    (any::<(u32, u32, u32, u32, u32, u64)>(), 10_000..=100_000_000u32, penalty(), penalty()).prop_map(
        |(n, repetition_micro, presence_micro, frequency_micro)| Sampling {
            temperature_micro: n.0,
            top_k: n.1,
            top_p_micro: n.2,
            min_p_micro: n.3,
            repetition_micro,
            presence_micro,
            frequency_micro,
            penalty_window: n.4,
            seed: n.5,
        },
    )
}

fn decodings() -> impl Strategy<Value = Decoding> {
    let tokens = || prop::collection::btree_set(any::<u32>(), 0..5);
    let grammar = prop_oneof![
        Just(Grammar::None),
        Just(Grammar::JsonObject),
        ".{0,9}".prop_map(|schema| Grammar::JsonSchema { schema }),
        ".{0,9}".prop_map(|pattern| Grammar::Regex { pattern }),
        ".{0,9}".prop_map(|grammar| Grammar::Lark { grammar }),
    ];
    let bias = -100_000_000..=100_000_000i32;
    (tokens(), tokens(), bias, grammar, prop::option::of(0..=20u8)).prop_map(
        |(biased, banned, bias_micro, grammar, logprobs)| Decoding {
            bias: biased.into_iter().map(|token| TokenBias { token, bias_micro }).collect(),
            banned: banned.into_iter().collect(),
            grammar,
            logprobs,
        },
    )
}

/// Any request: every field varies.
pub(crate) fn requests() -> impl Strategy<Value = JobRequest> {
    let who = any::<([u8; 20], [u8; 20], [u8; 32], [u8; 32])>();
    let numbers = any::<(u64, u32, u32, u16, u32, u64, [u8; 16])>();
    let sampling = (samplings(), decodings());
    let lists = (prop::collection::vec(any::<u32>(), 0..9), prop::collection::vec(".{0,9}", 0..4));
    (who, numbers, sampling, lists, prices()).prop_map(|(who, n, s, (prompt, stop), price)| JobRequest {
        chain_id: n.0,
        payer: Address(who.0),
        gateway: Address(who.1),
        channel: ChannelId(who.2),
        lane: n.1,
        domain: n.2,
        model: ModelId(who.3),
        numeric_spec: n.3,
        prompt,
        sampling: s.0,
        decoding: s.1,
        max_tokens: n.4,
        stop,
        price,
        nonce: n.6,
        expires_ms: n.5,
    })
}

/// Any receipt: every field varies.
pub(crate) fn receipts() -> impl Strategy<Value = Receipt> {
    let finish =
        prop::sample::select(vec![FinishReason::Stop, FinishReason::Length, FinishReason::Cancelled]);
    let hashes = any::<[[u8; 32]; 6]>();
    let who = any::<[[u8; 20]; 3]>();
    let numbers = (any::<[u64; 4]>(), any::<[u32; 4]>(), any::<u16>());
    (hashes, who, numbers, finish, prices(), amounts()).prop_map(
        |(h, who, (wide, n, spec), finish, price, fee)| Receipt {
            chain_id: wide[0],
            job: JobId(h[0]),
            domain: n[0],
            model: ModelId(h[1]),
            numeric_spec: spec,
            prompt_hash: Hash32(h[2]),
            output_hash: Hash32(h[3]),
            trace_root: Hash32(h[4]),
            prompt_tokens: n[1],
            output_tokens: n[2],
            finish,
            price,
            fee,
            payer: Address(who[0]),
            channel: ChannelId(h[5]),
            lane: n[3],
            worker: Address(who[1]),
            gateway: Address(who[2]),
            started_ms: wide[1],
            finished_ms: wide[2],
            expires_ms: wide[3],
        },
    )
}

/// Any voucher.
pub(crate) fn vouchers() -> impl Strategy<Value = Voucher> {
    (any::<(u64, [u8; 32], u32, [u8; 20], u64)>(), amounts()).prop_map(
        |((chain_id, channel, lane, signer, expires_ms), max_claimable)| Voucher {
            chain_id,
            channel: ChannelId(channel),
            lane,
            max_claimable,
            signer: Address(signer),
            expires_ms,
        },
    )
}

/// Any session grant.
pub(crate) fn session_grants() -> impl Strategy<Value = SessionGrant> {
    let models = prop::collection::vec(any::<[u8; 32]>().prop_map(ModelId), 0..4);
    (any::<(u64, [u8; 20], [u8; 20], u64, u64)>(), amounts(), amounts(), models).prop_map(
        |((chain_id, owner, session, serial, expires_ms), per_call, total, models)| SessionGrant {
            chain_id,
            owner: Address(owner),
            session: Address(session),
            serial,
            per_call,
            total,
            models,
            expires_ms,
        },
    )
}

fn batch_lines() -> impl Strategy<Value = BatchLine> {
    (any::<([u8; 32], u32, [u8; 32], u32, u32, u64, u64)>(), amounts()).prop_map(|(n, fees)| BatchLine {
        channel: ChannelId(n.0),
        lane: n.1,
        model: ModelId(n.2),
        domain: n.3,
        receipts: n.4,
        prompt_tokens: n.5,
        output_tokens: n.6,
        fees,
    })
}

/// Any batch root; its lines need not add up.
pub(crate) fn batch_roots() -> impl Strategy<Value = BatchRoot> {
    (any::<(u64, [u8; 20], [u8; 20], u64, [u8; 32], u32, u64)>(), prop::collection::vec(batch_lines(), 0..5))
        .prop_map(|(n, lines)| BatchRoot {
            chain_id: n.0,
            worker: Address(n.1),
            gateway: Address(n.2),
            sequence: n.3,
            root: Hash32(n.4),
            count: n.5,
            lines,
            expires_ms: n.6,
        })
}

/// Any manifest; its sizes need not make sense.
pub(crate) fn manifests() -> impl Strategy<Value = ModelManifest> {
    let scaling = prop_oneof![
        Just(RopeScaling::None {}),
        Just(RopeScaling::Factors {}),
        any::<u32>().prop_map(|factor_bits| RopeScaling::Linear { factor_bits }),
        any::<[u32; 5]>().prop_map(|n| RopeScaling::Yarn {
            factor_bits: n[0],
            original_context: n[1],
            beta_fast_bits: n[2],
            beta_slow_bits: n[3],
            attention_bits: n[4],
        }),
        any::<[u32; 4]>().prop_map(|n| RopeScaling::Llama3 {
            factor_bits: n[0],
            low_bits: n[1],
            high_bits: n[2],
            original_context: n[3],
        }),
    ];
    let hyperparameters = (any::<([u32; 11], [bool; 5], Option<u32>)>(), scaling).prop_map(
        |((n, flags, window), rope_scaling)| Hyperparameters {
            layers: n[0],
            width: n[1],
            heads: n[2],
            kv_heads: n[3],
            head_size: n[4],
            ffn_width: n[5],
            vocabulary: n[6],
            context: n[7],
            rope_theta_bits: n[8],
            rope_size: n[9],
            rope_pairing: if flags[0] { RopePairing::HalfSplit } else { RopePairing::Interleaved },
            rope_scaling,
            norm_epsilon_bits: n[10],
            head_norms: flags[1],
            attention_bias: flags[2],
            output_bias: flags[3],
            window,
            tied_embeddings: flags[4],
        },
    );
    let rest = any::<(u16, u16, [[u8; 32]; 3], Option<u32>)>();
    (hyperparameters, rest, "[a-z0-9é]{0,12}", prop::collection::vec(any::<u32>(), 0..5)).prop_map(
        |(hyperparameters, (numeric_spec, block, hashes, bos_token), architecture, stop_tokens)| {
            ModelManifest {
                numeric_spec,
                block,
                architecture,
                hyperparameters,
                tensors_root: Hash32(hashes[0]),
                tokenizer_hash: Hash32(hashes[1]),
                chat_template_hash: Hash32(hashes[2]),
                bos_token,
                stop_tokens,
            }
        },
    )
}

/// Any verdict.
pub(crate) fn verdicts() -> impl Strategy<Value = Verdict> {
    let outcome = prop_oneof![
        Just(AuditOutcome::Match {}),
        any::<u32>().prop_map(|position| AuditOutcome::Mismatch { position }),
        Just(AuditOutcome::Unavailable {}),
        Just(AuditOutcome::Unjudged {}),
    ];
    (any::<([u8; 32], u32, [u8; 20])>(), outcome).prop_map(|((batch, index, auditor), outcome)| Verdict {
        batch: BatchId(batch),
        index,
        auditor: Address(auditor),
        outcome,
    })
}
