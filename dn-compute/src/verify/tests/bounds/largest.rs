//! The largest things that the referee can be given, of a model at every limit. Tests count its work on them, and the bench
//! measures its time: so this file uses only what both give it.

use super::*;

/// Layers, elements of a row, heads, elements of a head, positions: the limits.
const LAYERS: u32 = 1024;
const WIDTH: u32 = 32_768;
const HEADS: u32 = 128;
const HEAD: u32 = 256;
const CONTEXT: u32 = 131_072;
/// Levels of the tree over the weights' tiles: 2^24 of them.
const TILE_LEVELS: usize = 24;
const ALL_ONE: f32 = 1.0;

/// A claim that holds, and its opening.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) claim: Claim,
    pub(crate) opening: Opening,
}

/// Every kind of operation at its largest.
pub(crate) fn cases() -> Vec<Case> {
    vec![linear(), norm(), attention(), embedding(), rope_by_pair(), rope_by_factors(), entry(), token()]
}

fn hyperparameters(rope_scaling: RopeScaling) -> Hyperparameters {
    Hyperparameters {
        layers: LAYERS,
        width: WIDTH,
        heads: HEADS,
        kv_heads: HEADS,
        head_size: HEAD,
        ffn_width: WIDTH,
        vocabulary: 1 << 23,
        context: CONTEXT,
        rope_theta_bits: 2f32.to_bits(),
        rope_size: HEAD,
        rope_pairing: RopePairing::HalfSplit,
        rope_scaling,
        norm_epsilon_bits: f32::MIN_POSITIVE.to_bits(),
        head_norms: true,
        attention_bias: true,
        output_bias: true,
        window: None,
        tied_embeddings: false,
    }
}

fn hash(bytes: &[u8]) -> Hash32 {
    Hash32(dn_core::blake3_256(&[bytes]))
}

/// The root of a tree with nothing else in it, and the proof of its first leaf.
fn proven(data: &[u8], levels: usize) -> (Hash32, InclusionProof) {
    let (mut top, count) = (leaf_hash(data), 1u64 << levels);
    let path = vec![Hash32([7; 32]); levels];
    for sibling in &path {
        top = fold(&[top, sibling.0]).expect("two nodes");
    }
    (root_hash(count, &top), InclusionProof { index: 0, count, path })
}

/// A claim about the last position.
fn claim(stage: Stage, op: u8, rope_scaling: RopeScaling) -> Claim {
    let manifest = ModelManifest {
        numeric_spec: 1,
        block: 16,
        architecture: "qwen3".to_owned(),
        hyperparameters: hyperparameters(rope_scaling),
        tensors_root: Hash32::ZERO,
        tokenizer_hash: Hash32::ZERO,
        chat_template_hash: Hash32::ZERO,
        bos_token: None,
        stop_tokens: Vec::new(),
    };
    let subject = Subject {
        manifest,
        trace_root: Hash32::ZERO,
        job: JobId([0; 32]),
        output_hash: Hash32::ZERO,
        prompt_tokens: CONTEXT,
        output_tokens: 1,
    };
    let (position, token, inputs) = (CONTEXT - 1, 0, Vec::new());
    Claim { subject, position, token, stage, op, inputs, element: 0, value: 0, parts: Parts::None }
}

/// Where an operation stands in a layer of all optional parts.
const ATTENTION_NORM: u8 = 0;
const QUERY_ROPE: u8 = 9;
const CACHE_ENTRY: u8 = 11;
const ATTENTION: u8 = 12;
const DOWN: u8 = 20;
const LAYER: Stage = Stage::Layer { layer: LAYERS - 1 };

fn row(value: f32) -> Vec<u8> {
    value.to_le_bytes().repeat(WIDTH as usize)
}

/// Weights whose tile starts a tree.
fn weights(claim: &mut Claim, tensor: u32, rows: u32, bytes: &[u8], part: Range<usize>) -> WeightSlice {
    let cols = if rows == 0 { bytes.len() as u32 / 4 } else { WIDTH };
    let tile = Tile { tensor, first_row: 0, rows, cols, hash: hash(bytes) };
    let (root, proof) = proven(&tile.to_bytes(), TILE_LEVELS);
    claim.subject.manifest.tensors_root = root;
    WeightSlice { tile, proof, slice: Slice::cut(bytes, part) }
}

/// A row of weights in its longest form: blocks of 16 with minima, `q = 1`, `m = 32768`, `n = -1`.
fn longest_row() -> Vec<u8> {
    let blocks = WIDTH as usize / 16;
    let mut bytes = vec![16, 1, 0, 0];
    bytes.extend(32_768u16.to_le_bytes().repeat(blocks));
    bytes.extend((-1i16).to_le_bytes().repeat(blocks));
    bytes.extend([1; WIDTH as usize]);
    bytes
}

/// The weight's integer, and the integer of an activation of 1.
const WEIGHT: i64 = 32_768 + 16;
const ACTIVATION: i64 = 1 << 14;

/// Tensors of a layer, and those before the first.
const LAYER_TENSORS: u32 = 15;

fn tensor_of_last_layer(index: u32) -> u32 {
    1 + (LAYERS - 1) * LAYER_TENSORS + index
}

fn sums(share: i64) -> Parts {
    let sum = Sum { largest: ALL_ONE.to_bits(), sum: share * RANGE as i64 };
    Parts::Sums { sums: vec![sum; WIDTH as usize / RANGE] }
}

fn linear() -> Case {
    let mut claim = claim(LAYER, DOWN, RopeScaling::None {});
    let (x, bytes) = (row(ALL_ONE), longest_row());
    let opened = weights(&mut claim, tensor_of_last_layer(14), 1, &bytes, 0..bytes.len());
    claim.inputs = vec![hash(&x)];
    claim.parts = sums(WEIGHT * ACTIVATION);
    claim.value = ((i64::from(WIDTH) * WEIGHT) as f32).to_bits();
    let rows = vec![Slice::cut(&x, 4 * RANGE..8 * RANGE)];
    let opening = Opening { pick: 1, rows, weights: Some(opened), ..Opening::default() };
    Case { name: "down, a row of 32768", claim, opening }
}

fn norm() -> Case {
    let mut claim = claim(LAYER, ATTENTION_NORM, RopeScaling::None {});
    let (x, w) = (row(ALL_ONE), row(0.5));
    let opened = weights(&mut claim, tensor_of_last_layer(0), 0, &w, 0..4);
    claim.inputs = vec![hash(&x)];
    claim.parts = sums(ACTIVATION * ACTIVATION);
    claim.value = 0.5f32.to_bits();
    let rows = vec![Slice::cut(&x, 4 * RANGE..8 * RANGE), Slice::cut(&x, 0..4)];
    let opening = Opening { pick: 1, rows, weights: Some(opened), ..Opening::default() };
    Case { name: "attention_norm of 32768", claim, opening }
}

/// All scores are 0, all values 1: so is the element.
fn attention() -> Case {
    let mut claim = claim(LAYER, ATTENTION, RopeScaling::None {});
    let query = row(0.0);
    let entry: Vec<u8> = (0..HEADS * (2 + 2 * HEAD))
        .map(|i| i16::from(i % (2 + 2 * HEAD) >= 2 + HEAD))
        .flat_map(i16::to_le_bytes)
        .collect();
    let hashes = vec![hash(&entry); LAYERS as usize];
    let boundaries = vec![Hash32::ZERO; LAYERS as usize + 1];
    let leaf = Leaf { position: 0, token: 0, boundaries, entries: hashes, logits: None };
    let (body, at) = (leaf.to_bytes(), Leaf::entry_offset(LAYERS as usize - 1));
    let (root, proof) = proven(&leaf.hash().0, 17);
    claim.subject.trace_root = root;
    claim.inputs = vec![hash(&query)];
    claim.value = ALL_ONE.to_bits();
    let block = KeyBlock { top: 0, top_value: 0, denominator: 64 << 13, numerator: 64 << 13 };
    let keys = vec![KeyTerm { score: 0, exponent: 0, value: 1 }; 64];
    claim.parts = Parts::Keys { blocks: vec![block; CONTEXT as usize / 64], block: 0, keys };
    let past = PastEntry {
        leaf: leaf.hash(),
        proof,
        body: Slice::cut(&body, at..at + 32),
        entry: Slice::cut(&entry, 0..4 + 4 * HEAD as usize),
    };
    let rows = vec![Slice::cut(&query, 0..4 * HEAD as usize)];
    let opening = Opening { rows, past: Some(past), ..Opening::default() };
    Case { name: "attention over 131072 keys", claim, opening }
}

fn embedding() -> Case {
    let mut claim = claim(Stage::Embedding, 0, RopeScaling::None {});
    let bytes = longest_row();
    let opened = weights(&mut claim, 0, 1, &bytes, 0..bytes.len());
    claim.value = (WEIGHT as f32).to_bits();
    let opening = Opening { weights: Some(opened), ..Opening::default() };
    Case { name: "embedding, a row of 32768", claim, opening }
}

/// YaRN with bounds between which every pair lies: its ramp counts them all.
fn rope_by_pair() -> Case {
    let scaling = RopeScaling::Yarn {
        factor_bits: 2f32.to_bits(),
        original_context: 1 << 24,
        beta_fast_bits: 0.5f32.to_bits(),
        beta_slow_bits: (1f32 / 256.0).to_bits(),
        attention_bits: ALL_ONE.to_bits(),
    };
    let mut claim = claim(LAYER, QUERY_ROPE, scaling);
    let x = row(0.0);
    claim.inputs = vec![hash(&x)];
    claim.element = HEAD / 2 - 1;
    let rows = vec![Slice::cut(&x, 0..4 * HEAD as usize)];
    Case { name: "query_rope, YaRN over 256", claim, opening: Opening { rows, ..Opening::default() } }
}

fn rope_by_factors() -> Case {
    let mut claim = claim(LAYER, QUERY_ROPE, RopeScaling::Factors {});
    let (x, factors) = (row(0.0), 3f32.to_le_bytes().repeat(HEAD as usize / 2));
    let opened = weights(&mut claim, 1, 0, &factors, 0..factors.len());
    claim.inputs = vec![hash(&x)];
    claim.element = HEAD - 1;
    let rows = vec![Slice::cut(&x, 0..4 * HEAD as usize)];
    let opening = Opening { rows, weights: Some(opened), ..Opening::default() };
    Case { name: "query_rope, 128 factors", claim, opening }
}

fn entry() -> Case {
    let mut claim = claim(LAYER, CACHE_ENTRY, RopeScaling::None {});
    let x = row(ALL_ONE);
    claim.inputs = vec![hash(&x); 2];
    claim.element = 2;
    claim.value = ACTIVATION as u32;
    let rows = vec![Slice::cut(&x, 0..4 * HEAD as usize)];
    let opening = Opening { rows, ..Opening::default() };
    Case { name: "cache_entry, a head of 256", claim, opening }
}

/// As many bytes as are read at all: a request of which far more is shown than is needed.
fn token() -> Case {
    let mut claim = claim(Stage::Token, 0, RopeScaling::None {});
    let len = JobRequest::PROMPT_OFFSET + 4 * CONTEXT as usize;
    let (request, end) = (vec![0; len], len / 1024 * 1024);
    claim.subject.job = JobId(hash(&request).0);
    claim.position = ((end - JobRequest::PROMPT_OFFSET) / 4 - 1) as u32;
    let slice = Slice::cut(&request, end - 63 * 1024..end);
    let request = Some(RequestSlice { len: len as u32, slice });
    Case { name: "token, 63 KiB shown", claim, opening: Opening { request, ..Opening::default() } }
}
