use dn_core::objects::{Hyperparameters, ModelManifest, Price, RopePairing, RopeScaling};
use dn_core::{Address, Amount, Hash32};
use dn_trust::WorkerTrust;

use super::*;
use crate::apply::BlockContext;
use crate::chain::tests::chain;
use crate::state::{
    ACCOUNTS, EpochWork, IDENTITIES, Identity, IdentityStatus, Model, State, TrustedModel, WORKER_TRUST,
};
use crate::tx::Role;

const MODELS_THERE: u8 = 40;
const EPOCH_BLOCKS: u64 = 4;

fn model(tag: u8) -> Model {
    let hyperparameters = Hyperparameters {
        layers: 1,
        width: 32,
        heads: 1,
        kv_heads: 1,
        head_size: 32,
        ffn_width: 32,
        vocabulary: 32,
        context: 32,
        rope_theta_bits: 1f32.to_bits(),
        rope_size: 32,
        rope_pairing: RopePairing::Interleaved,
        rope_scaling: RopeScaling::None {},
        norm_epsilon_bits: 1e-5f32.to_bits(),
        head_norms: false,
        attention_bias: false,
        output_bias: false,
        window: None,
        tied_embeddings: true,
    };
    let manifest = ModelManifest {
        numeric_spec: 1,
        block: 16,
        architecture: "llama".into(),
        hyperparameters,
        tensors_root: Hash32([tag; 32]),
        tokenizer_hash: Hash32([2; 32]),
        chat_template_hash: Hash32([3; 32]),
        bos_token: None,
        stop_tokens: vec![2],
    };
    Model {
        owner: Address([9; 20]),
        name: "m".into(),
        price: Price::default(),
        domain: u32::from(tag % 3),
        published_height: 0,
        retired_height: None,
        manifest,
    }
}

/// Epochs in which some models worked, closed by so many a block; trust at the end, and the most entries that ever waited.
fn trust_after(limit: usize) -> (Vec<(ModelId, TrustedModel)>, usize) {
    let mut state = chain().state().clone();
    let mut ctx = chain().next_context(1);
    ctx.params.epoch_blocks = EPOCH_BLOCKS;
    let ids: Vec<ModelId> = (0..MODELS_THERE).map(|tag| ModelId([tag; 32])).collect();
    (0..MODELS_THERE).zip(&ids).for_each(|(tag, id)| MODELS.put(&mut state, id, &model(tag)));
    let mut waiting = 0;
    // Work in some epochs, feedback alone in others, none in the last ones.
    for height in 0..EPOCH_BLOCKS * 200 {
        ctx.height = height;
        let mut step = Step::new(&mut state, &ctx);
        for (n, id) in (0u64..).zip(&ids) {
            let busy = height < EPOCH_BLOCKS * 20 && (height * 7 + n * 13) % 11 < 2;
            if busy && n % 5 != 4 {
                step.note_model_work(*id, u128::from(n * 1_000 + height) * 1_000_000_000);
            }
        }
        if ctx.ends_epoch() {
            step.close_classes();
        }
        let open_epoch = ctx.epoch() + u64::from(ctx.ends_epoch());
        step.close_models(open_epoch, limit);
        waiting =
            waiting.max(MODEL_EPOCHS.iter(&state).filter(|((epoch, _), _)| *epoch < open_epoch).count());
    }
    assert_eq!(MODEL_EPOCHS.iter(&state).count() + CLASS_EPOCHS.iter(&state).count(), 0, "nothing is left");
    (MODEL_TRUST.iter(&state).collect(), waiting)
}

/// However few a block closes, and though they work on meanwhile, models end with the trust that closing all at once gives them.
#[test]
fn slices_make_what_one_block_makes() {
    let (at_once, waiting) = trust_after(usize::MAX);
    assert_eq!((at_once.len(), waiting), (32, 0));
    // Some waited for more than an epoch: slices of three take eight blocks at least for 24 models.
    for (limit, behind) in [(11, 1), (3, 24), (1, 24)] {
        let (sliced, waiting) = trust_after(limit);
        assert!(waiting >= behind, "{waiting} waited at {limit} a block");
        assert_eq!(sliced, at_once, "{limit} a block");
    }
}

/// Work is paid once, at the end of its epoch, however long its entries wait to be removed.
#[test]
fn work_that_waits_to_be_forgotten_is_not_paid_again() {
    let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
    ctx.params.epoch_blocks = 1;
    let (worker, owner) = (Address([7; 20]), Address([9; 20]));
    let identity = Identity {
        status: IdentityStatus::Active,
        name: String::new(),
        endpoint: String::new(),
        collateral: ctx.params.collateral.worker,
        registered_height: 0,
        open_batches: 0,
    };
    IDENTITIES.put(&mut state, &(Role::Worker, worker), &identity);
    WORKER_TRUST.put(&mut state, &worker, &WorkerTrust::newcomer(&ctx.params.trust));
    let entries = MAX_WORK_FORGOTTEN as u32 + 10;
    let epoch = ctx.epoch();
    for domain in 0..entries {
        let work = EpochWork { counted: 1 << 60, weighted: 1 << 73 };
        EPOCH_WORK.put(&mut state, &(epoch, domain, (worker, owner)), &work);
    }
    let mut end = |ctx: &BlockContext| {
        let mut step = Step::new(&mut state, ctx);
        step.close_epoch();
        step.close_slice(true);
        let left = EPOCH_WORK.iter(&state).count();
        (ACCOUNTS.get_or_default(&state, &worker).balance, left)
    };
    let (paid, left) = end(&ctx);
    assert!(paid > Amount::ZERO);
    assert_eq!(left, 10);
    ctx.height += 1;
    assert_eq!(end(&ctx), (paid, 0));
}

/// What a block leaves open of its own epoch is not touched.
#[test]
fn an_open_epoch_stays_open() {
    let (mut state, mut ctx) = (chain().state().clone(), chain().next_context(1));
    ctx.params.epoch_blocks = 10;
    ctx.height = 15;
    let (id, key) = (ModelId([1; 32]), (1u64, 0u32, (Address([7; 20]), Address([9; 20]))));
    MODELS.put(&mut state, &id, &model(1));
    EPOCH_WORK.put(&mut state, &key, &EpochWork::default());
    Step::new(&mut state, &ctx).note_model_work(id, 1 << 40);
    let kept = |state: &State| (MODEL_EPOCHS.contains(state, &(1u64, id)), EPOCH_WORK.contains(state, &key));
    Step::new(&mut state, &ctx).close_slice(ctx.ends_epoch());
    assert_eq!(kept(&state), (true, true));
    ctx.height = 19;
    let mut step = Step::new(&mut state, &ctx);
    step.close_classes();
    step.close_slice(ctx.ends_epoch());
    assert_eq!(kept(&state), (false, false));
}
