//! A GGUF file of a real shape with random weights of eight bits, for timing only: what it writes is noise.
//!
//! ```text
//! random_model tiny|1b|8b OUT
//! ```
//! The 8B shape takes 8.5 GB of disk, and twice that of memory while it is made.

use std::error::Error;
use std::fs;

use dn_compute::conformance::SplitMix64;
use dn_compute::formats::gguf::{GgufWriter, TensorType};

/// Layers, width, heads, KV heads, head size, feed-forward, vocabulary, whether the output is the embedding.
type Shape = (u32, u32, u32, u32, u32, u32, u32, bool);

/// Those of Llama 3.2 1B and Llama 3.1 8B.
const SHAPES: [(&str, Shape); 3] = [
    ("tiny", (2, 128, 4, 2, 32, 256, 512, true)),
    ("1b", (16, 2048, 32, 8, 64, 8192, 128_256, true)),
    ("8b", (32, 4096, 32, 8, 128, 14_336, 128_256, false)),
];
const CONTEXT: u32 = 4096;
/// Columns of a block of Q8_0.
const BLOCK: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let shape = args.first().and_then(|name| SHAPES.iter().find(|(known, _)| known == name));
    let (Some((name, shape)), Some(out)) = (shape, args.get(1)) else {
        return Err("random_model tiny|1b|8b OUT".into());
    };
    Ok(fs::write(out, file(name, *shape))?)
}

fn file(name: &str, shape: Shape) -> Vec<u8> {
    let (layers, width, heads, kv_heads, head, ffn, vocabulary, tied) = shape;
    let mut w = GgufWriter::new();
    w.string("general.architecture", "llama")
        .string("general.name", &format!("{name} shape, random weights"));
    w.u32("llama.context_length", CONTEXT).u32("llama.embedding_length", width);
    w.u32("llama.block_count", layers).u32("llama.feed_forward_length", ffn);
    w.u32("llama.attention.head_count", heads).u32("llama.attention.head_count_kv", kv_heads);
    w.u32("llama.attention.key_length", head).u32("llama.attention.value_length", head);
    w.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    let mut numbers = SplitMix64(1);
    let mut matrix = |w: &mut GgufWriter, name: &str, rows: u32, cols: u32| {
        w.tensor(name, &[cols.into(), rows.into()], TensorType::Q8_0, blocks(&mut numbers, rows, cols));
    };
    let vector = |w: &mut GgufWriter, name: &str, len: u32| {
        let ones = (0..len).flat_map(|_| 1f32.to_le_bytes()).collect();
        w.tensor(name, &[len.into()], TensorType::F32, ones);
    };
    matrix(&mut w, "token_embd.weight", vocabulary, width);
    vector(&mut w, "output_norm.weight", width);
    if !tied {
        matrix(&mut w, "output.weight", vocabulary, width);
    }
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        vector(&mut w, &name("attn_norm"), width);
        vector(&mut w, &name("ffn_norm"), width);
        for (part, rows, cols) in [
            ("attn_q", heads * head, width),
            ("attn_k", kv_heads * head, width),
            ("attn_v", kv_heads * head, width),
            ("attn_output", width, heads * head),
            ("ffn_gate", ffn, width),
            ("ffn_up", ffn, width),
            ("ffn_down", width, ffn),
        ] {
            matrix(&mut w, &name(part), rows, cols);
        }
    }
    w.finish()
}

/// Blocks of Q8_0 whose weights have a deviation of `0.7 / sqrt(cols)`.
fn blocks(numbers: &mut SplitMix64, rows: u32, cols: u32) -> Vec<u8> {
    let scale = half::f16::from_f32(0.7 / (73.0 * (cols as f32).sqrt())).to_le_bytes();
    let count = rows as usize * (cols as usize / BLOCK);
    let mut out = Vec::with_capacity(count * (2 + BLOCK));
    for _ in 0..count {
        out.extend(scale);
        for _ in 0..BLOCK / 8 {
            // No -128: a byte's magnitude is at most 127.
            out.extend(numbers.next().to_le_bytes().map(|byte| if byte == 0x80 { 0 } else { byte }));
        }
    }
    out
}
