//! The tensors of a BERT, in canonical order, and what files call them.

use dn_core::objects::EncoderHyperparameters;

/// A length that a hyper-parameter gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Width,
    Ffn,
    Vocabulary,
    Context,
    Types,
}

/// One tensor: its names, its columns and, for a matrix, its rows.
struct Part {
    hugging_face: &'static str,
    gguf: &'static str,
    cols: Size,
    rows: Option<Size>,
}

const fn matrix(hugging_face: &'static str, gguf: &'static str, rows: Size, cols: Size) -> Part {
    Part { hugging_face, gguf, cols, rows: Some(rows) }
}

const fn vector(hugging_face: &'static str, gguf: &'static str, cols: Size) -> Part {
    Part { hugging_face, gguf, cols, rows: None }
}

const EMBEDDINGS: [Part; 5] = [
    matrix("word_embeddings.weight", "token_embd.weight", Size::Vocabulary, Size::Width),
    matrix("position_embeddings.weight", "position_embd.weight", Size::Context, Size::Width),
    matrix("token_type_embeddings.weight", "token_types.weight", Size::Types, Size::Width),
    vector("LayerNorm.weight", "token_embd_norm.weight", Size::Width),
    vector("LayerNorm.bias", "token_embd_norm.bias", Size::Width),
];

const LAYER: [Part; 16] = [
    matrix("attention.self.query.weight", "attn_q.weight", Size::Width, Size::Width),
    vector("attention.self.query.bias", "attn_q.bias", Size::Width),
    matrix("attention.self.key.weight", "attn_k.weight", Size::Width, Size::Width),
    vector("attention.self.key.bias", "attn_k.bias", Size::Width),
    matrix("attention.self.value.weight", "attn_v.weight", Size::Width, Size::Width),
    vector("attention.self.value.bias", "attn_v.bias", Size::Width),
    matrix("attention.output.dense.weight", "attn_output.weight", Size::Width, Size::Width),
    vector("attention.output.dense.bias", "attn_output.bias", Size::Width),
    vector("attention.output.LayerNorm.weight", "attn_output_norm.weight", Size::Width),
    vector("attention.output.LayerNorm.bias", "attn_output_norm.bias", Size::Width),
    matrix("intermediate.dense.weight", "ffn_up.weight", Size::Ffn, Size::Width),
    vector("intermediate.dense.bias", "ffn_up.bias", Size::Ffn),
    matrix("output.dense.weight", "ffn_down.weight", Size::Width, Size::Ffn),
    vector("output.dense.bias", "ffn_down.bias", Size::Width),
    vector("output.LayerNorm.weight", "layer_output_norm.weight", Size::Width),
    vector("output.LayerNorm.bias", "layer_output_norm.bias", Size::Width),
];

/// A tensor that an encoder uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name in Hugging Face's files, without a prefix of the whole model.
    pub(super) hugging_face: String,
    /// The name in GGUF files.
    pub(super) gguf: String,
    pub(super) cols: usize,
    /// `None` for a vector.
    pub(super) rows: Option<usize>,
}

/// Every tensor, in canonical order.
pub(super) fn entries(h: &EncoderHyperparameters) -> Vec<Entry> {
    let size = |size| match size {
        Size::Width => h.width as usize,
        Size::Ffn => h.ffn_width as usize,
        Size::Vocabulary => h.vocabulary as usize,
        Size::Context => h.context as usize,
        Size::Types => h.token_types as usize,
    };
    let entry = |part: &Part, hugging_face: &str, gguf: &str| Entry {
        hugging_face: format!("{hugging_face}{}", part.hugging_face),
        gguf: format!("{gguf}{}", part.gguf),
        cols: size(part.cols),
        rows: part.rows.map(size),
    };
    let mut all: Vec<Entry> = EMBEDDINGS.iter().map(|part| entry(part, "embeddings.", "")).collect();
    for l in 0..h.layers {
        let (hugging_face, gguf) = (format!("encoder.layer.{l}."), format!("blk.{l}."));
        all.extend(LAYER.iter().map(|part| entry(part, &hugging_face, &gguf)));
    }
    all
}
