"""Llama and Qwen2 files of odd shapes, written by the `gguf` package, against a numpy forward pass.

    pip install -r requirements.txt
    python check.py PATH_TO_DN [FOLDER]

Writes each file to FOLDER (a temporary one by default), runs `dn infer --model FILE --tokens IDS --logits-out OUT` and
compares the logits with those of the weights as the numeric spec rounds them (quantised blocks are taken as they are: their
scales are rounded to 16 bits, too little to be seen here). Prints one line a file;
exits with 1 when one differs. The distance to the unrounded weights is printed beside it: random weights make it large.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np

# architecture, layers, width, heads, KV heads, head size, feed-forward, vocabulary, tied, RoPE base, matrix types
SHAPES = {
    "grouped": ("llama", 3, 96, 6, 2, 16, 160, 257, True, 10_000.0, ["F32"]),
    "separate-output": ("llama", 2, 64, 4, 4, 16, 96, 1001, False, 500_000.0, ["F16"]),
    "one-kv-head": ("llama", 2, 128, 8, 1, 32, 64, 77, True, 10_000.0, ["Q8_0"]),
    "wide-heads": ("llama", 2, 64, 2, 1, 128, 224, 300, False, 10_000.0, ["Q8_0", "F16", "F32"]),
    "odd-columns": ("llama", 2, 44, 3, 3, 12, 50, 33, True, 10_000.0, ["F32", "F16"]),
    "qwen2": ("qwen2", 3, 64, 4, 2, 16, 96, 513, True, 1_000_000.0, ["Q8_0", "F32"]),
    "four-bits": ("llama", 2, 96, 3, 1, 32, 160, 200, True, 10_000.0, ["Q4_0"]),
    "k-quants": ("llama", 2, 256, 4, 2, 64, 512, 300, False, 10_000.0, ["Q4_K", "Q6_K", "Q5_K"]),
    "qwen2-k-quants": ("qwen2", 2, 512, 8, 2, 64, 256, 300, True, 1_000_000.0, ["Q4_K", "Q4_K", "Q6_K"]),
}
# bytes of a block of 256, spread of its integers, their middle
K_QUANTS = {"Q4_K": (144, 4.6, 7.5), "Q5_K": (176, 9.2, 15.5), "Q6_K": (210, 18.5, None)}
TOKENS = 90


def six_bits(scales, minima):
    """Eight scales and eight minima of six bits in twelve bytes."""
    s, m = scales.astype(np.uint8), minima.astype(np.uint8)
    low = [s[..., :4] | s[..., 4:] >> 4 << 6, m[..., :4] | m[..., 4:] >> 4 << 6]
    return np.concatenate([*low, s[..., 4:] & 15 | m[..., 4:] << 4], axis=-1)


def k_quants(rng, rows, cols, name):
    """Random blocks (the package reads them, and does not write them) of a deviation of 1.5 / sqrt(cols)."""
    size, spread, middle = K_QUANTS[name]
    out = rng.integers(0, 256, (rows, cols // 256, size), dtype=np.uint8)
    half = lambda value: np.full(out.shape[:2] + (1,), value).astype(np.float16).view(np.uint8)
    unit = 1.5 / cols**0.5 / spread / 44
    if middle is None:
        out[..., 192:208] = (rng.integers(24, 64, out.shape[:2] + (16,)) * rng.choice([-1, 1], out.shape[:2] + (16,))).astype(np.int8).view(np.uint8)
        out[..., 208:] = half(unit)
    else:
        scales = rng.integers(24, 64, out.shape[:2] + (8,))
        out[..., :2], out[..., 2:4] = half(unit), half(unit * middle)
        out[..., 4:16] = six_bits(scales, scales)
    return out.reshape(rows, -1)


def write(path, shape, seed):
    """Writes a file; the weights as the reader will see them, by name, and the names of those that are stored as floats."""
    arch, layers, width, heads, kv, size, ffn, vocabulary, tied, theta, kinds = shape
    rng = np.random.default_rng(seed)
    w = gguf.GGUFWriter(str(path), arch)
    w.add_name(f"shape {seed}")
    w.add_context_length(256)
    w.add_embedding_length(width)
    w.add_block_count(layers)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_key_length(size)
    w.add_value_length(size)
    w.add_rope_dimension_count(size)
    w.add_rope_freq_base(theta)
    w.add_layer_norm_rms_eps(1e-6)
    weights, floats, turn = {}, set(), 0

    def matrix(name, rows, cols):
        nonlocal turn
        kind_name = kinds[turn % len(kinds)]
        kind = gguf.GGMLQuantizationType[kind_name]
        turn += 1
        if kind_name in K_QUANTS:
            data = k_quants(rng, rows, cols, kind_name)
        else:
            values = (rng.standard_normal((rows, cols)) * 1.5 / cols**0.5).astype(np.float32)
            data = gguf.quants.quantize(values, kind)
        if kind_name.startswith("F"):
            floats.add(name)
        w.add_tensor(name, data, raw_dtype=kind)
        weights[name] = gguf.quants.dequantize(data, kind).astype(np.float64)

    def vector(name, length, middle):
        values = (middle + 0.2 * rng.standard_normal(length)).astype(np.float32)
        w.add_tensor(name, values)
        weights[name] = values.astype(np.float64)

    matrix("token_embd.weight", vocabulary, width)
    vector("output_norm.weight", width, 1.0)
    if not tied:
        matrix("output.weight", vocabulary, width)
    for layer in range(layers):
        p = f"blk.{layer}."
        vector(p + "attn_norm.weight", width, 1.0)
        vector(p + "ffn_norm.weight", width, 1.0)
        for part, rows, cols in [
            ("attn_q", heads * size, width),
            ("attn_k", kv * size, width),
            ("attn_v", kv * size, width),
            ("attn_output", width, heads * size),
            ("ffn_gate", ffn, width),
            ("ffn_up", ffn, width),
            ("ffn_down", width, ffn),
        ]:
            matrix(f"{p}{part}.weight", rows, cols)
        if arch == "qwen2":
            vector(p + "attn_q.bias", heads * size, 0.0)
            vector(p + "attn_k.bias", kv * size, 5.0)
            vector(p + "attn_v.bias", kv * size, 0.0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return weights, floats


def rounded(weights, floats):
    """Matrices of floats as the numeric spec holds them: `q * m * 2^e`, q of 8 bits, m of 16 bits for 32 columns, e for a row."""

    def matrix(w):
        parts = [w[:, i : i + 32] for i in range(0, w.shape[1], 32)]
        scales = np.stack([np.abs(p).max(-1) for p in parts], axis=1) / 127
        largest = scales.max(-1, keepdims=True)
        unit = 2.0 ** (np.floor(np.log2(largest)) - 15)
        unit = np.where(np.round(largest / unit) > 65535, 2 * unit, unit)
        scales = np.round(scales / unit) * unit
        steps = [np.clip(np.round(p / scales[:, [i]]), -127, 127) * scales[:, [i]] for i, p in enumerate(parts)]
        return np.concatenate(steps, axis=1)

    return {name: matrix(w) if name in floats else w for name, w in weights.items()}


def forward(weights, shape, tokens):
    arch, layers, width, heads, kv, size, ffn, vocabulary, tied, theta, _ = shape
    n = len(tokens)

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + float(np.float32(1e-6))) * weights[name]

    def rotate(x):
        angle = np.arange(n)[:, None] * float(np.float32(theta)) ** (-np.arange(0, size, 2) / size)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        out = np.empty_like(x)
        if arch == "qwen2":
            a, b = slice(0, size // 2), slice(size // 2, size)
        else:
            a, b = slice(0, size, 2), slice(1, size, 2)
        out[..., a] = x[..., a] * cos - x[..., b] * sin
        out[..., b] = x[..., a] * sin + x[..., b] * cos
        return out

    x = weights["token_embd.weight"][tokens]
    for layer in range(layers):
        p = f"blk.{layer}."
        h = norm(x, p + "attn_norm.weight")
        q, k, v = (h @ weights[f"{p}attn_{part}.weight"].T + weights.get(f"{p}attn_{part}.bias", 0.0) for part in "qkv")
        q = rotate(q.reshape(n, heads, size))
        k = np.repeat(rotate(k.reshape(n, kv, size)), heads // kv, axis=1)
        v = np.repeat(v.reshape(n, kv, size), heads // kv, axis=1)
        score = np.einsum("thd,shd->hts", q, k) / size**0.5
        score = np.where(np.tril(np.ones((n, n), bool)), score, -np.inf)
        score = np.exp(score - score.max(-1, keepdims=True))
        score /= score.sum(-1, keepdims=True)
        a = np.einsum("hts,shd->thd", score, v).reshape(n, heads * size)
        x = x + a @ weights[p + "attn_output.weight"].T
        h = norm(x, p + "ffn_norm.weight")
        gate = h @ weights[p + "ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ weights[p + "ffn_up.weight"].T)) @ weights[p + "ffn_down.weight"].T
    return norm(x, "output_norm.weight") @ weights["token_embd.weight" if tied else "output.weight"].T


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = {k: v for k, v in json.loads(data[8 : 8 + size]).items() if k != "__metadata__"}
    (entry,) = header.values()
    return np.frombuffer(data[8 + size :], "<f4").reshape(entry["shape"]).astype(np.float64)


def lowest_cosine(a, b):
    return float(((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min())


def main():
    dn = sys.argv[1]
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    good = True
    for seed, (name, shape) in enumerate(SHAPES.items()):
        path, out = folder / f"{name}.gguf", folder / f"{name}.safetensors"
        weights, floats = write(path, shape, seed)
        tokens = np.random.default_rng(100 + seed).integers(0, shape[7], TOKENS)
        ids = ",".join(map(str, tokens))
        command = [dn, "infer", "--model", str(path), "--tokens", ids, "--max-tokens", "1", "--logits-out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = read_safetensors(out)
        stored, own = (forward(w, shape, tokens) for w in (weights, rounded(weights, floats)))
        cosine = lowest_cosine(own, found)
        good &= cosine > 1 - 1e-5
        print(f"{name} ({'/'.join(shape[10])}): lowest cosine {cosine:.7f}, to the weights as stored {lowest_cosine(stored, found):.5f}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
