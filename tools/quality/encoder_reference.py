"""A BERT forward pass in numpy (f64), independent of the Rust code, against what the MiniLM test of dn-compute wrote.

    pip install numpy safetensors tokenizers
    DN_MINILM=DIR DN_MINILM_OUT=out.jsonl cargo test --release -p dn-compute --test encoder minilm -- --ignored
    python encoder_reference.py DIR out.jsonl

Checks three things: that the token ids are those of the `tokenizers` package, that the Rust oracle is the same function, and how
near the engine's integers are to it.
"""
import json
import os
import sys

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer


def erf(x):
    """Abramowitz and Stegun 7.1.5 (series) and 7.1.14 (continued fraction), to the last bits of f64."""
    a = np.abs(x)
    small = np.minimum(a, 3.0)
    term, total = small.copy(), small.copy()
    for n in range(1, 80):
        term = term * -small * small / n
        total = total + term / (2 * n + 1)
    near = total * 2 / np.sqrt(np.pi)
    large = np.maximum(a, 2.0)
    fraction = large.copy()
    for n in range(120, 0, -1):
        fraction = large + n / 2 / fraction
    far = 1 - np.exp(-large * large) / fraction / np.sqrt(np.pi)
    return np.sign(x) * np.where(a < 2.5, near, far)


class Bert:
    def __init__(self, directory):
        self.w = {k: v.astype(np.float64) for k, v in load_file(os.path.join(directory, "model.safetensors")).items()}
        with open(os.path.join(directory, "config.json")) as file:
            self.config = json.load(file)

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred ** 2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return centred / spread * self.w[name + ".LayerNorm.weight"] + self.w[name + ".LayerNorm.bias"]

    def dense(self, name, x):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def embed(self, tokens):
        e = "embeddings.{}_embeddings.weight".format
        x = self.w[e("word")][tokens] + self.w[e("position")][: len(tokens)] + self.w[e("token_type")][0]
        x = self.norm("embeddings", x)
        heads = self.config["num_attention_heads"]
        for layer in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}."
            split = lambda part: self.dense(name + "attention.self." + part, x).reshape(len(tokens), heads, -1).transpose(1, 0, 2)
            q, k, v = split("query"), split("key"), split("value")
            scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
            p = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(tokens), -1)
            x = self.norm(name + "attention.output", x + self.dense(name + "attention.output.dense", mixed))
            h = self.dense(name + "intermediate.dense", x)
            h = h * (1 + erf(h / np.sqrt(2))) / 2
            x = self.norm(name + "output", x + self.dense(name + "output.dense", h))
        mean = x.mean(0)
        return mean / np.linalg.norm(mean)


def main():
    directory, report = sys.argv[1:]
    bert = Bert(directory)
    tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(bert.config["max_position_embeddings"])
    tokenizer.encode_special_tokens = True
    other_tokens, oracle_error, cosines = 0, 0.0, []
    with open(report) as file:
        for line in file:
            case = json.loads(line)
            other_tokens += tokenizer.encode(case["text"]).ids != case["tokens"]
            exact = bert.embed(case["tokens"])
            oracle_error = max(oracle_error, np.abs(exact - case["oracle"]).max())
            ours = np.array(case["vector"]) / 2.0 ** 24
            cosines.append(exact @ ours / np.linalg.norm(ours))
    print(f"{len(cosines)} texts; token ids differ in {other_tokens}; largest difference of the two f64 forwards {oracle_error:.2e}")
    print(f"cosine of the engine: mean {np.mean(cosines):.7f}, worst {min(cosines):.7f}")
    if other_tokens or oracle_error > 1e-9:
        sys.exit("the references disagree")


if __name__ == "__main__":
    main()
