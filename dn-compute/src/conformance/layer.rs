//! A decoder's whole layer: what a backend does in one call, or says that it did not do, against the operations one by one.

use crate::reference::Reference;
use crate::spec::{
    Backend, BlockLength, Blocks, KvShape, LayerWeights, Mask, Matrix, NumericError, Op, Pairing, PassCall,
    PassPart, PassValues, RopeScaling, RopeSpec, RopeTable,
};

use super::linear::{Both, Weights, both, matrix};
use super::pass::one_by_one;
use super::{Kind, Mismatch, Rng, Suite};

/// Sizes of a layer and the form of its weights.
struct Form {
    width: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    blocks: Blocks,
    /// Biases and norms of heads.
    extras: bool,
    pairing: Pairing,
    mask: Mask,
}

const FORMS: [Form; 4] = [
    Form {
        width: 48,
        heads: 4,
        kv_heads: 2,
        head_dim: 24,
        ffn: 80,
        blocks: Blocks::plain(BlockLength::B32),
        extras: false,
        pairing: Pairing::HalfSplit,
        mask: Mask::Causal,
    },
    Form {
        width: 64,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        blocks: Blocks::with_minima(BlockLength::B32),
        extras: true,
        pairing: Pairing::Interleaved,
        mask: Mask::Window { positions: 30 },
    },
    Form {
        width: 160,
        heads: 3,
        kv_heads: 3,
        head_dim: 64,
        ffn: 70,
        blocks: Blocks::plain(BlockLength::B128),
        extras: true,
        pairing: Pairing::HalfSplit,
        mask: Mask::Causal,
    },
    Form {
        width: 96,
        heads: 8,
        kv_heads: 1,
        head_dim: 20,
        ffn: 130,
        blocks: Blocks::plain(BlockLength::Row),
        extras: false,
        pairing: Pairing::HalfSplit,
        mask: Mask::Causal,
    },
];

/// Rows of two sequences, step after step: prompts in two pieces, the second beyond a block of keys, then a token each.
const STEPS: [[usize; 2]; 4] = [[3, 40], [70, 5], [1, 1], [60, 1]];
/// To how many positions the second sequence is cut back after each step.
const KEPT: usize = 38;

pub(super) fn cases(suite: &mut Suite<'_>) -> Result<(), Mismatch> {
    let mut rng = suite.start(Op::Layer, 23);
    for form in &FORMS {
        let layer = Layer::new(suite, &mut rng, form)?;
        let inputs: Vec<Vec<f32>> =
            STEPS.iter().map(|rows| rng.vector(Kind::Usual, (rows[0] + rows[1]) * form.width)).collect();
        let mut whole = 0;
        suite.compare(|backend| layer.steps(backend, &inputs, &mut whole))?;
        // A row that must be refused, alone in the middle of others.
        for bad in [f32::NAN, f32::INFINITY, 2e30] {
            let mut inputs = inputs[..2].to_vec();
            inputs[1][form.width * 20 + 7] = bad;
            suite.compare(|backend| layer.steps(backend, &inputs, &mut whole))?;
        }
        suite.report.layers += whole;
    }
    Ok(())
}

/// A layer's weights, as the reference and as the backend hold them.
struct Layer<'a> {
    form: &'a Form,
    reference: LayerWeights,
    backend: LayerWeights,
    rope: RopeTable,
}

impl<'a> Layer<'a> {
    fn new(suite: &Suite<'_>, rng: &mut Rng, form: &'a Form) -> Result<Self, Mismatch> {
        let Form { width, head_dim, ffn, .. } = *form;
        let (row, kv_row) = (form.heads * head_dim, form.kv_heads * head_dim);
        let sizes = [
            (row, width),
            (kv_row, width),
            (kv_row, width),
            (width, row),
            (ffn, width),
            (ffn, width),
            (width, ffn),
        ];
        let mut matrices = Vec::new();
        for (rows, cols) in sizes {
            matrices.push(both(suite, matrix(rng, rows, cols, form.blocks, Weights::Floats))?);
        }
        let lengths = [width, width, row, kv_row, kv_row, head_dim, head_dim, width];
        let vectors: Vec<Vec<f32>> = lengths.iter().map(|len| rng.vector(Kind::Usual, *len)).collect();
        let weights = |of: &dyn Fn(&Both) -> Matrix| LayerWeights {
            attention_norm: vectors[0].clone().into(),
            query: of(&matrices[0]),
            key: of(&matrices[1]),
            value: of(&matrices[2]),
            biases: form.extras.then(|| [2, 3, 4].map(|i| vectors[i].clone().into())),
            head_norms: form.extras.then(|| [5, 6].map(|i| vectors[i].clone().into())),
            attention_output: of(&matrices[3]),
            output_bias: form.extras.then(|| vectors[7].clone().into()),
            ffn_norm: vectors[1].clone().into(),
            gate: of(&matrices[4]),
            up: of(&matrices[5]),
            down: of(&matrices[6]),
        };
        let spec = RopeSpec {
            head_dim,
            rotary_dim: head_dim,
            theta: 10_000.0,
            pairing: form.pairing,
            scaling: RopeScaling::None,
        };
        Ok(Self {
            form,
            reference: weights(&|both| both.of(&Reference).clone()),
            backend: weights(&|both| both.of(suite.backend).clone()),
            rope: RopeTable::new(spec, 200).expect("a valid table"),
        })
    }

    /// Every step; the residual stream and what the caches keep after each. `whole` counts layers that were done in one call.
    fn steps(
        &self,
        backend: &dyn Backend,
        inputs: &[Vec<f32>],
        whole: &mut usize,
    ) -> Result<Vec<f32>, NumericError> {
        let is_reference = backend.info().name == Reference.info().name;
        let weights = if is_reference { &self.reference } else { &self.backend };
        let Form { kv_heads: heads, head_dim, mask, .. } = *self.form;
        let new = || backend.kv_layer(KvShape { heads, head_dim, capacity: 200 });
        let mut caches = [new()?, new()?];
        let mut all = Vec::new();
        for (input, rows) in inputs.iter().zip(STEPS) {
            let mut x = input.clone();
            let positions: Vec<u32> =
                caches.iter().zip(rows).flat_map(|(kv, rows)| (kv.len() as u32..).take(rows)).collect();
            let rope = &self.rope;
            let call = PassCall {
                embedding: None,
                layers: std::slice::from_ref(weights),
                output: None,
                eps: 1e-5,
                heads: self.form.heads,
                mask,
                rope,
                positions: &positions,
            };
            let mut parts: Vec<PassPart<'_>> = caches
                .iter_mut()
                .zip(rows)
                .map(|(kv, rows)| PassPart { kv: std::slice::from_mut(kv), rows })
                .collect();
            let mut values = PassValues { stream: &mut x, boundaries: None, logits: &mut [] };
            if backend.pass(&call, &mut parts, &mut values)? {
                *whole += 1;
            } else {
                one_by_one(backend, &call, &mut parts, &mut values)?;
            }
            all.extend(x);
            for kv in &caches {
                let mut entries = Vec::new();
                (0..kv.len()).for_each(|position| kv.entry(position, &mut entries));
                all.extend(entries.into_iter().map(f32::from));
            }
            // What is cut off is computed anew.
            caches[1].truncate(KEPT);
        }
        Ok(all)
    }
}
