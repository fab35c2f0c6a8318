//! The operations between what a leaf binds, in their one order.
//!
//! This is the decoder's program written down a second time, as data: what a dispute walks through. A test compares it with
//! what the decoder does.

mod names;

use dn_core::objects::{Hyperparameters, MAX_STOP_TOKENS, ModelManifest, RopeScaling};

use crate::spec::limits::{MAX_COLS, MAX_CONTEXT, MAX_HEAD_DIM, MAX_ROWS};
use crate::spec::{NumericSpec, RopeSpec};
use crate::tensors::{ARCHITECTURES, Slot, rope_spec};

pub use self::names::{OpName, Stage};

/// What an operation computes, and with which weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Token,
    Embed { table: Slot },
    Norm { weight: Slot },
    Linear { weight: Slot },
    Bias { weight: Slot },
    Rope,
    Entry,
    Attention,
    Add,
    SiluMul,
    Choice,
}

/// Where an operation reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The residual stream that the stage starts with, or for the choice the logits.
    Start,
    /// An earlier operation of the stage.
    Op(OpName),
}

/// One operation of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpPlan {
    pub(crate) name: OpName,
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<Source>,
    /// Length of the output row.
    ///
    /// # Units
    /// Elements, see [`element_bytes`](Self::element_bytes).
    pub(crate) len: usize,
    /// Whether the leaf (or the receipt) binds the output, so that nobody has to state its hash.
    pub(crate) bound: bool,
}

impl OpPlan {
    /// Bytes of an element of the output: cache entries are 16-bit integers, all others 32 bits.
    pub(crate) const fn element_bytes(&self) -> usize {
        if matches!(self.kind, Kind::Entry) { 2 } else { 4 }
    }

    /// Bytes of the output row.
    pub(crate) const fn bytes(&self) -> usize {
        self.len * self.element_bytes()
    }
}

/// Why a manifest cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Another numeric spec.
    #[error("numeric spec {found}; 1 is known here")]
    Spec {
        /// Its number.
        found: u16,
    },
    /// An architecture without a plan.
    #[error("the manifest's architecture is not known here")]
    Architecture,
    /// A size outside the limits of the numeric spec.
    #[error("{what} is {found}, allowed are {min} to {max}")]
    Size {
        /// What was measured.
        what: &'static str,
        /// Smallest allowed value.
        min: u32,
        /// Largest allowed value.
        max: u32,
        /// What the manifest has.
        found: u32,
    },
    /// Sizes that do not fit each other.
    #[error("the manifest's {what}")]
    Sizes {
        /// What does not fit.
        what: &'static str,
    },
}

/// Most layers of a model.
const MAX_LAYERS: u32 = 1024;
/// Most operations of a layer.
const MAX_LAYER_OPS: usize = 22;
/// Most token ids of which a row of logits can be opened.
const MAX_VOCABULARY: u32 = 1 << 23;

/// The checked sizes of a model, from its manifest.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    pub(crate) h: Hyperparameters,
    slots: Vec<Slot>,
}

impl Geometry {
    /// Checks a manifest: everything that is computed from its sizes afterwards is bounded.
    pub(crate) fn new(manifest: &ModelManifest) -> Result<Self, ManifestError> {
        if NumericSpec::from_id(manifest.numeric_spec).is_none() {
            return Err(ManifestError::Spec { found: manifest.numeric_spec });
        }
        if !ARCHITECTURES.contains(&manifest.architecture.as_str()) {
            return Err(ManifestError::Architecture);
        }
        let h = &manifest.hyperparameters;
        let limits = [
            ("layers", h.layers, 1, MAX_LAYERS),
            ("width", h.width, 1, MAX_COLS as u32),
            ("heads", h.heads, 1, 4096),
            ("kv_heads", h.kv_heads, 1, 4096),
            ("head_size", h.head_size, 2, MAX_HEAD_DIM as u32),
            ("ffn_width", h.ffn_width, 1, MAX_COLS as u32),
            ("vocabulary", h.vocabulary, 1, MAX_VOCABULARY.min(MAX_ROWS as u32)),
            ("context", h.context, 1, MAX_CONTEXT as u32),
            ("rope_size", h.rope_size, 2, MAX_HEAD_DIM as u32),
        ];
        for (what, found, min, max) in limits {
            if !(min..=max).contains(&found) {
                return Err(ManifestError::Size { what, min, max, found });
            }
        }
        let stops = u32::try_from(manifest.stop_tokens.len()).unwrap_or(u32::MAX);
        if manifest.stop_tokens.len() > MAX_STOP_TOKENS {
            let max = MAX_STOP_TOKENS as u32;
            return Err(ManifestError::Size { what: "number of stop tokens", min: 0, max, found: stops });
        }
        let epsilon = f32::from_bits(h.norm_epsilon_bits);
        let fits = [
            ("heads are no multiple of its kv_heads", h.heads.is_multiple_of(h.kv_heads)),
            ("heads have more than 32768 elements", h.heads * h.head_size <= MAX_COLS as u32),
            ("head_size is odd", h.head_size.is_multiple_of(2)),
            (
                "rope_size does not fit its head_size",
                h.rope_size.is_multiple_of(2) && h.rope_size <= h.head_size,
            ),
            ("window is zero", h.window != Some(0)),
            ("norm epsilon is out of range", (f32::MIN_POSITIVE..=1.0).contains(&epsilon)),
        ];
        if let Some((what, _)) = fits.into_iter().find(|(_, fits)| !fits) {
            return Err(ManifestError::Sizes { what });
        }
        Ok(Self { slots: Slot::all(h), h: h.clone() })
    }

    /// The tensor's place in the order of the architecture.
    pub(crate) fn tensor(&self, slot: Slot) -> Option<u32> {
        self.slots.iter().position(|s| *s == slot).map(|at| at as u32)
    }

    pub(crate) fn query_width(&self) -> usize {
        (self.h.heads * self.h.head_size) as usize
    }

    pub(crate) fn kv_width(&self) -> usize {
        (self.h.kv_heads * self.h.head_size) as usize
    }

    /// Elements (i16) of a layer's cache entry: per head two exponents, the key and the value.
    pub(crate) fn entry_len(&self) -> usize {
        (self.h.kv_heads * (2 + 2 * self.h.head_size)) as usize
    }

    /// What angles follow from; `factors` where they are a tensor of the model.
    pub(crate) fn rope(&self, factors: Option<Vec<f32>>) -> RopeSpec {
        rope_spec(&self.h, factors.map(Into::into))
    }

    /// The tensor that stretches positions, where the model has one.
    pub(crate) const fn rope_factors(&self) -> Option<Slot> {
        match self.h.rope_scaling {
            RopeScaling::Factors {} => Some(Slot::RopeFactors),
            _ => None,
        }
    }

    /// First key that a position attends to.
    pub(crate) fn first_key(&self, _layer: u32, position: u32) -> u32 {
        self.h.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The operations of a stage, in order.
    pub(crate) fn ops(&self, stage: Stage) -> Vec<OpPlan> {
        let width = self.h.width as usize;
        let op = |name, kind, inputs: &[Source], len, bound| OpPlan {
            name,
            kind,
            inputs: inputs.to_vec(),
            len,
            bound,
        };
        match stage {
            Stage::Token => vec![op(OpName::Token, Kind::Token, &[], 1, true)],
            Stage::Embedding => {
                vec![op(OpName::Embedding, Kind::Embed { table: Slot::Embedding }, &[], width, true)]
            }
            Stage::Layer { layer } => self.layer(layer),
            Stage::Logits => {
                let norm = Kind::Norm { weight: Slot::OutputNorm };
                let table = if self.h.tied_embeddings { Slot::Embedding } else { Slot::Output };
                let logits = Kind::Linear { weight: table };
                vec![
                    op(OpName::OutputNorm, norm, &[Source::Start], width, false),
                    op(
                        OpName::Logits,
                        logits,
                        &[Source::Op(OpName::OutputNorm)],
                        self.h.vocabulary as usize,
                        true,
                    ),
                ]
            }
            Stage::Choice => vec![op(OpName::Choice, Kind::Choice, &[Source::Start], 1, true)],
        }
    }

    fn layer(&self, l: u32) -> Vec<OpPlan> {
        use OpName as N;
        let (width, query, kv) = (self.h.width as usize, self.query_width(), self.kv_width());
        let mut ops = Vec::with_capacity(MAX_LAYER_OPS);
        let mut add = |name, kind, inputs: &[Source], len, bound| {
            ops.push(OpPlan { name, kind, inputs: inputs.to_vec(), len, bound });
            Source::Op(name)
        };
        let normed = add(
            N::AttentionNorm,
            Kind::Norm { weight: Slot::AttentionNorm(l) },
            &[Source::Start],
            width,
            false,
        );
        let mut q = add(N::Query, Kind::Linear { weight: Slot::Query(l) }, &[normed], query, false);
        let mut k = add(N::Key, Kind::Linear { weight: Slot::Key(l) }, &[normed], kv, false);
        let mut v = add(N::Value, Kind::Linear { weight: Slot::Value(l) }, &[normed], kv, false);
        if self.h.attention_bias {
            q = add(N::QueryBias, Kind::Bias { weight: Slot::QueryBias(l) }, &[q], query, false);
            k = add(N::KeyBias, Kind::Bias { weight: Slot::KeyBias(l) }, &[k], kv, false);
            v = add(N::ValueBias, Kind::Bias { weight: Slot::ValueBias(l) }, &[v], kv, false);
        }
        if self.h.head_norms {
            q = add(N::QueryNorm, Kind::Norm { weight: Slot::QueryNorm(l) }, &[q], query, false);
            k = add(N::KeyNorm, Kind::Norm { weight: Slot::KeyNorm(l) }, &[k], kv, false);
        }
        q = add(N::QueryRope, Kind::Rope, &[q], query, false);
        k = add(N::KeyRope, Kind::Rope, &[k], kv, false);
        add(N::CacheEntry, Kind::Entry, &[k, v], self.entry_len(), true);
        let a = add(N::Attention, Kind::Attention, &[q], query, false);
        let mut o =
            add(N::AttentionOutput, Kind::Linear { weight: Slot::AttentionOutput(l) }, &[a], width, false);
        if self.h.output_bias {
            o = add(N::AttentionOutputBias, Kind::Bias { weight: Slot::OutputBias(l) }, &[o], width, false);
        }
        let x = add(N::AttentionResidual, Kind::Add, &[Source::Start, o], width, false);
        let normed = add(N::FfnNorm, Kind::Norm { weight: Slot::FfnNorm(l) }, &[x], width, false);
        let ffn = self.h.ffn_width as usize;
        let gate = add(N::Gate, Kind::Linear { weight: Slot::Gate(l) }, &[normed], ffn, false);
        let up = add(N::Up, Kind::Linear { weight: Slot::Up(l) }, &[normed], ffn, false);
        let product = add(N::SiluMul, Kind::SiluMul, &[gate, up], ffn, false);
        let down = add(N::Down, Kind::Linear { weight: Slot::Down(l) }, &[product], width, false);
        add(N::FfnResidual, Kind::Add, &[x, down], width, true);
        ops
    }
}
