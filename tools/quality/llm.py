"""What each format costs a language model: KL, top-1 agreement and perplexity against its own weights in f64.

    pip install -r requirements.txt
    python ../train-tiny/corpus.py RUST_DOCS_HTML corpus                 (the model card says which)
    cargo build --release -p dn-compute --example quality
    python llm.py target/release/examples/quality MODEL_DIR MODEL.gguf corpus/documents.jsonl

MODEL_DIR holds the model's safetensors in Hugging Face's form, MODEL.gguf the same model as GGUF (for its metadata). The text is the held-out part of
the corpus: no document of it was trained on. Each format's file is written here and run by the engine and by llama.cpp (llama-cpp-python on the
CPU). "weights" is the format's loss alone: its dequantised weights in f64. Blocks of other lengths are evaluated in numpy with the
weights and activations of the numeric spec; the row "block 32" beside the engine's F16 row shows how near that is.
"""
import glob
import json
import os
import sys
import tempfile

import gguf
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from common import FORMATS, activations, encode, engine, ggml, in_blocks

WINDOW, WINDOWS = 256, 40


class Llama:
    """A forward pass in f64; weights by Hugging Face's names."""

    def __init__(self, weights, config, round_activations=False):
        self.w, self.c, self.rounded = weights, config, round_activations

    def norm(self, name, x):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["rms_norm_eps"]) * self.w[name + ".weight"]

    def linear(self, name, x):
        return (activations(x) if self.rounded else x) @ self.w[name + ".weight"].T

    def rotate(self, x):
        half = x.shape[-1] // 2
        angle = np.arange(len(x))[:, None] * self.c["rope_theta"] ** (-np.arange(half) / half)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

    def logits(self, tokens):
        n, heads, kv = len(tokens), self.c["num_attention_heads"], self.c["num_key_value_heads"]
        x = self.w["model.embed_tokens.weight"][tokens]
        future = np.triu(np.full((n, n), -np.inf), 1)
        for layer in range(self.c["num_hidden_layers"]):
            p = f"model.layers.{layer}."
            h = self.norm(p + "input_layernorm", x)
            q, k, v = (self.linear(p + f"self_attn.{s}_proj", h).reshape(n, m, -1) for s, m in (("q", heads), ("k", kv), ("v", kv)))
            q, k = self.rotate(q), self.rotate(k)
            k, v = (np.repeat(t, heads // kv, 1) for t in (k, v))
            s = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]) + future
            s = np.exp(s - s.max(-1, keepdims=True))
            a = np.einsum("hij,jhd->ihd", s / s.sum(-1, keepdims=True), v).reshape(n, -1)
            x = x + self.linear(p + "self_attn.o_proj", a)
            h = self.norm(p + "post_attention_layernorm", x)
            gate = self.linear(p + "mlp.gate_proj", h)
            x = x + self.linear(p + "mlp.down_proj", gate / (1 + np.exp(-gate)) * self.linear(p + "mlp.up_proj", h))
        return self.linear("model.embed_tokens", self.norm("model.norm", x))


NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]


def pairs(w, heads, back=False):
    """Rows of a head from two halves to neighbours, or back."""
    shape = (heads, -1, 2, w.shape[1]) if back else (heads, 2, w.shape[0] // heads // 2, w.shape[1])
    return w.reshape(shape).swapaxes(1, 2).reshape(w.shape)


def heads_of(name, config):
    return config["num_attention_heads"] if "q_proj" in name else config["num_key_value_heads"] if "k_proj" in name else 0


def write(path, source, weights, config, kind, lib):
    """A GGUF file with the metadata of another; its weights as numbers."""
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kinds = field.types
        writer.add_key_value(field.name, field.contents(), kinds[0], kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None)
    out = {}
    for name, w in weights.items():
        heads = heads_of(name, config)
        data = pairs(w, heads) if heads else w
        if w.ndim == 1:
            writer.add_tensor(gguf_name(name), w.astype(np.float32))
            out[name] = w
            continue
        data, used = encode(lib, data, kind)
        writer.add_tensor(gguf_name(name), data, raw_dtype=used)
        back = gguf.quants.dequantize(data, used).astype(np.float64)
        out[name] = pairs(back, heads, back=True) if heads else back
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def llama_cpp(path, windows):
    import llama_cpp
    model = llama_cpp.Llama(path, n_ctx=512, n_batch=512, logits_all=True, n_threads=2, n_threads_batch=2, use_mmap=False, verbose=False)
    out = []
    for window in windows:
        model.reset()
        model.eval(list(window))
        out.append(np.array(model.scores[: len(window)], dtype=np.float64))
    return out


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def compare(exact, found, windows):
    """Mean and largest KL in nats, top-1 agreement, perplexity in percent of the exact one's."""
    kl, same, gain = [], [], []
    for e, f, window in zip(exact, found, windows):
        p, q = log_softmax(e), log_softmax(np.asarray(f, dtype=np.float64))
        kl.append((np.exp(p) * (p - q)).sum(-1))
        same.append(e.argmax(-1) == f.argmax(-1))
        at = np.arange(len(window) - 1), np.array(window[1:])
        gain.append(p[at] - q[at])
    kl, same, gain = map(np.concatenate, (kl, same, gain))
    return f"{kl.mean():.1e} | {kl.max():.1e} | {same.mean():.4f} | {100 * np.expm1(gain.mean()):+.3f}"


def main():
    binary, directory, source, documents = sys.argv[1:]
    with open(os.path.join(directory, "config.json")) as file:
        config = json.load(file)
    files = glob.glob(os.path.join(directory, "*.safetensors"))
    weights = {k: v.astype(np.float64) for k, v in load_file(files[0]).items()}
    tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    with open(documents) as file:
        held = [row["text"] for row in map(json.loads, file) if row["split"] == "heldout"]
    windows = []
    for text in held:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) >= WINDOW - 1 and len(windows) < WINDOWS:
            windows.append([config["bos_token_id"]] + ids[: WINDOW - 1])
    exact = [Llama(weights, config).logits(w) for w in windows]
    nll = np.mean([-log_softmax(e)[np.arange(len(w) - 1), np.array(w[1:])] for e, w in zip(exact, windows)])
    print(f"{len(windows)} windows of {WINDOW} tokens, perplexity {np.exp(nll):.3f}\n")
    print("| format | computed by | mean KL | max KL | top-1 | perplexity, % |\n|---|---|---|---|---|---|")
    lib = ggml()
    for name, kind in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.gguf")
            stored = write(path, source, weights, config, kind, lib)
            alone = [Llama(stored, config).logits(w) for w in windows]
            rows = {"weights in f64": alone}
            ours = engine(binary, "logits", path, "file", windows, folder)
            rows["DeepNode"] = np.split(ours.reshape(-1, config["vocab_size"]), len(windows))
            rows["llama.cpp"] = llama_cpp(path, windows)
            for who, found in rows.items():
                print(f"| {name} | {who} | {compare(exact, found, windows)} |", flush=True)
            for who in ("DeepNode", "llama.cpp"):
                print(f"| {name} | {who} over the weights in f64 | {compare(alone, rows[who], windows)} |", flush=True)
    for block in (16, 32, 128, None):
        stored = {k: in_blocks(w, block) if w.ndim == 2 else w for k, w in weights.items()}
        found = [Llama(stored, config, round_activations=True).logits(w) for w in windows]
        print(f"| block {block or 'row'} | numpy | {compare(exact, found, windows)} |", flush=True)


if __name__ == "__main__":
    main()
