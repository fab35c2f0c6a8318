"""Random-weight GGUF files of real shapes, for timing only.

    pip install -r requirements.txt
    python make_model.py OUT.gguf [--shape qwen2-0.5b] [--type Q8_0] [--embedding-type Q8_0]

The blocks' bytes are random and their scales small, so that activations stay in range; the text that such a model writes is noise.
"""

import argparse

import gguf
import numpy as np

# layers, width, heads, KV heads, head size, feed-forward, vocabulary
SHAPES = {
    "qwen2-0.5b": (24, 896, 14, 2, 64, 4864, 151_936),
    "qwen2-1.5b": (28, 1536, 12, 2, 128, 8960, 151_936),
    "qwen2-tiny": (2, 896, 14, 2, 64, 4864, 8_192),
}
BLOCK_SCALE_BYTES = {"Q8_0": 34, "Q4_0": 18}


def blocks(rng, rows, cols, kind):
    """Rows of random quantised blocks, each with a scale that gives weights a deviation of 0.7 / sqrt(cols)."""
    size = BLOCK_SCALE_BYTES[kind]
    levels = 73.0 if kind == "Q8_0" else 4.6
    out = rng.integers(1, 255, (rows, cols // 32, size), dtype=np.uint8)
    scales = rng.uniform(0.8, 1.2, (rows, cols // 32)) * 0.7 / (levels * cols**0.5)
    out[:, :, :2] = scales.astype(np.float16).view(np.uint8).reshape(rows, cols // 32, 2)
    if kind == "Q8_0":
        values = out[:, :, 2:]
        values[values == 128] = 0
    return out.reshape(rows, -1)


def byte_tokens():
    """The 256 printable stand-ins of byte-level BPE."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (b for b in range(256) if b not in keep)
    table = {b: chr(b) for b in keep} | {b: chr(256 + i) for i, b in enumerate(rest)}
    return [table[b] for b in range(256)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2-0.5b")
    parser.add_argument("--type", choices=BLOCK_SCALE_BYTES, default="Q8_0")
    parser.add_argument("--embedding-type", choices=BLOCK_SCALE_BYTES, default="Q8_0")
    parser.add_argument("--context", type=int, default=8192)
    args = parser.parse_args()
    layers, width, heads, kv, size, ffn, vocabulary = SHAPES[args.shape]
    rng = np.random.default_rng(1)
    w = gguf.GGUFWriter(args.out, "qwen2")
    w.add_name(f"{args.shape} shape, random weights")
    w.add_context_length(args.context)
    w.add_embedding_length(width)
    w.add_block_count(layers)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_rope_freq_base(1_000_000.0)
    w.add_layer_norm_rms_eps(1e-6)
    tokens = byte_tokens()
    tokens += [f"<{i}>" for i in range(len(tokens), vocabulary)]
    tokens[256] = tokens[104] + tokens[101]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([1] * 257 + [3] * (vocabulary - 257))
    w.add_token_merges([f"{tokens[104]} {tokens[101]}"])
    w.add_eos_token_id(vocabulary - 1)


    def matrix(name, rows, cols, kind=args.type):
        w.add_tensor(name, blocks(rng, rows, cols, kind), raw_dtype=gguf.GGMLQuantizationType[kind])

    def vector(name, length, middle):
        w.add_tensor(name, (middle + 0.05 * rng.standard_normal(length)).astype(np.float32))

    matrix("token_embd.weight", vocabulary, width, args.embedding_type)
    vector("output_norm.weight", width, 1.0)
    for i in range(layers):
        p = f"blk.{i}."
        vector(p + "attn_norm.weight", width, 1.0)
        vector(p + "ffn_norm.weight", width, 1.0)
        for name, rows in (("q", heads * size), ("k", kv * size), ("v", kv * size)):
            matrix(p + f"attn_{name}.weight", rows, width)
            vector(p + f"attn_{name}.bias", rows, 0.0)
        matrix(p + "attn_output.weight", width, heads * size)
        matrix(p + "ffn_gate.weight", ffn, width)
        matrix(p + "ffn_up.weight", ffn, width)
        matrix(p + "ffn_down.weight", width, ffn)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
