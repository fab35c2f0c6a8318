//! A receipt about one choice, without a model: any logits, settings and tokens, and a trace in which that choice stands.

use dn_core::merkle::MerkleTree;
use dn_core::objects::{
    Decoding, Hyperparameters, JobRequest, ModelManifest, Price, RopePairing, RopeScaling, Sampling,
    token_hash,
};
use dn_core::{Address, Amount, ChannelId, Hash32};

use super::trace::Leaf;
use super::verify::{Answer, ChoiceWitness, Dispute, Due, Outcome, Party, Pick, Stage, Subject};

fn manifest(vocabulary: u32) -> ModelManifest {
    ModelManifest {
        numeric_spec: 1,
        block: 32,
        architecture: "llama".to_owned(),
        hyperparameters: Hyperparameters {
            layers: 2,
            width: 64,
            heads: 2,
            kv_heads: 2,
            head_size: 32,
            ffn_width: 64,
            vocabulary,
            context: 131_072,
            rope_theta_bits: 10_000f32.to_bits(),
            rope_size: 32,
            rope_pairing: RopePairing::HalfSplit,
            rope_scaling: RopeScaling::None {},
            norm_epsilon_bits: 1e-5f32.to_bits(),
            head_norms: false,
            attention_bias: false,
            output_bias: false,
            window: None,
            tied_embeddings: true,
        },
        tensors_root: Hash32::ZERO,
        tokenizer_hash: Hash32::ZERO,
        chat_template_hash: Hash32::ZERO,
        bos_token: None,
        stop_tokens: (0..8).collect(),
    }
}

/// What decides a choice, and the receipt's tokens.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) request: JobRequest,
    pub(crate) output: Vec<u32>,
    /// Which output token is disputed.
    pub(crate) index: u32,
    pub(crate) logits: Vec<f32>,
}

impl Case {
    pub(crate) fn new(prompt: Vec<u32>, sampling: Sampling, decoding: Decoding, logits: Vec<f32>) -> Self {
        let price = Price { prompt_token: Amount::ZERO, output_token: Amount::ZERO };
        let request = JobRequest {
            chain_id: 7,
            payer: Address([1; 20]),
            gateway: Address([2; 20]),
            channel: ChannelId([3; 32]),
            lane: 4,
            domain: 0,
            model: manifest(logits.len() as u32).id(),
            numeric_spec: 1,
            prompt,
            sampling,
            decoding,
            max_tokens: 9,
            stop: vec!["never".to_owned()],
            price,
            nonce: [9; 16],
            expires_ms: 1 << 40,
        };
        Self { request, output: Vec::new(), index: 0, logits }
    }

    pub(crate) fn witness(&self) -> ChoiceWitness<'_> {
        ChoiceWitness::new(&self.request, &self.output, self.index, self.logits.clone())
            .expect("an output token")
    }

    /// The dispute, once the choice is what it is about.
    pub(crate) fn dispute(&self) -> Dispute {
        let bytes: Vec<u8> = self.logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
        let manifest = manifest(self.logits.len() as u32);
        let position = self.request.prompt.len() as u32 - 1 + self.index;
        let leaf = Leaf {
            position,
            token: 0,
            boundaries: vec![Hash32::ZERO; 3],
            entries: vec![Hash32::ZERO; 2],
            logits: Some(Hash32(*blake3::hash(&bytes).as_bytes())),
        };
        let positions = self.request.prompt.len() + self.output.len() - 1;
        let mut leaves = vec![[0; 32]; positions];
        leaves[position as usize] = leaf.hash().0;
        let tree = MerkleTree::new(leaves);
        let subject = Subject {
            manifest,
            trace_root: tree.root(),
            job: self.request.id(),
            output_hash: token_hash(&self.output),
            prompt_tokens: self.request.prompt.len() as u32,
            output_tokens: self.output.len() as u32,
        };
        let mut dispute = Dispute::open(subject).expect("a known manifest");
        while *dispute.due() != Due::Settings {
            let moved = match dispute.due() {
                Due::Nodes { level, first, count } => {
                    let nodes =
                        &tree.level(*level as usize).expect("a level")[*first as usize..][..*count as usize];
                    let nodes = nodes.iter().map(|node| Hash32(*node)).collect();
                    dispute.answer(Answer::Nodes { nodes })
                }
                Due::Node { level, first, .. } => {
                    let index = (position >> level) - *first as u32;
                    dispute.pick(Pick::Index { index })
                }
                Due::Leaf { .. } => dispute.answer(Answer::Leaf { bytes: leaf.to_bytes() }),
                _ => dispute.pick(Pick::Stage { stage: Stage::Choice }),
            };
            moved.expect("a move that fits");
        }
        dispute
    }
}

/// Both sides move until it ends. What either says may be replaced, and `None` is silence.
pub(crate) fn play(
    mut dispute: Dispute,
    worker: &ChoiceWitness<'_>,
    accuser: &ChoiceWitness<'_>,
    answers: &mut dyn FnMut(&Dispute, Answer) -> Option<Answer>,
    picks: &mut dyn FnMut(&Dispute, Pick) -> Option<Pick>,
) -> (Outcome, Dispute) {
    loop {
        let moved = match dispute.turn() {
            Some(Party::Worker) => {
                let answer = worker.answer(&dispute).and_then(|answer| answers(&dispute, answer));
                answer.is_some_and(|answer| dispute.answer(answer).is_ok())
            }
            Some(Party::Accuser) => {
                let pick = accuser.pick(&dispute).and_then(|pick| picks(&dispute, pick));
                pick.is_some_and(|pick| dispute.pick(pick).is_ok())
            }
            None => return (dispute.outcome().expect("an end"), dispute),
        };
        if !moved {
            dispute.silence();
        }
    }
}
