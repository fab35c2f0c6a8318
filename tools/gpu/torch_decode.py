"""Times decoding with PyTorch in bf16 on weights of a given shape: one JSON object on stdout.

    python torch_decode.py --layers 32 --width 4096 --heads 32 --kv-heads 8 --head-size 128 --ffn 14336 --vocabulary 128256

The fastest that plain PyTorch has for one token after another: matrices of bf16, queries, keys and values in one product, gate
and up in one, fused attention over a static cache, the whole step one CUDA graph. Weights are random. `--device cpu` is for trying
the script, without a graph.
"""

import argparse
import json
import sys
import time

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    sys.exit(f"PyTorch is not here: {error}")


def model(args, device):
    """The step of one token at a position: logits from a token's id."""
    kind = {"dtype": torch.bfloat16, "device": device}
    query, kv = args.heads * args.head_size, args.kv_heads * args.head_size
    matrix = lambda rows, cols: torch.randn(rows, cols, **kind) * (0.7 / cols**0.5)
    ones = lambda length: torch.ones(length, **kind)
    layers = [
        {
            "norms": (ones(args.width), ones(args.width)),
            "qkv": matrix(query + 2 * kv, args.width),
            "out": matrix(args.width, query),
            "gate_up": matrix(2 * args.ffn, args.width),
            "down": matrix(args.width, args.ffn),
            "keys": torch.zeros(1, args.kv_heads, args.context, args.head_size, **kind),
            "values": torch.zeros(1, args.kv_heads, args.context, args.head_size, **kind),
        }
        for _ in range(args.layers)
    ]
    embedding, head, norm = matrix(args.vocabulary, args.width), matrix(args.vocabulary, args.width), ones(args.width)
    turns = torch.outer(
        torch.arange(args.context, device=device).float(),
        500_000.0 ** (-torch.arange(0, args.head_size, 2, device=device).float() / args.head_size),
    )
    cosines, sines = turns.cos().to(torch.bfloat16), turns.sin().to(torch.bfloat16)
    places = torch.arange(args.context, device=device)

    def rotate(x, position):
        a, b = x.chunk(2, dim=-1)
        cos, sin = cosines[position], sines[position]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)

    def step(token, position):
        x = embedding[token]
        seen = (places <= position).view(1, 1, 1, -1)
        for layer in layers:
            h = functional.rms_norm(x, (args.width,), layer["norms"][0], 1e-5)
            q, k, v = functional.linear(h, layer["qkv"]).split([query, kv, kv], dim=-1)
            q = rotate(q.view(1, args.heads, 1, args.head_size), position)
            layer["keys"].index_copy_(2, position, rotate(k.view(1, args.kv_heads, 1, args.head_size), position))
            layer["values"].index_copy_(2, position, v.view(1, args.kv_heads, 1, args.head_size))
            a = functional.scaled_dot_product_attention(q, layer["keys"], layer["values"], attn_mask=seen, enable_gqa=True)
            x = x + functional.linear(a.reshape(1, query), layer["out"])
            h = functional.rms_norm(x, (args.width,), layer["norms"][1], 1e-5)
            gate, up = functional.linear(h, layer["gate_up"]).chunk(2, dim=-1)
            x = x + functional.linear(functional.silu(gate) * up, layer["down"])
        return functional.linear(functional.rms_norm(x, (args.width,), norm, 1e-5), head)

    return step


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["layers", "width", "heads", "kv-heads", "head-size", "ffn", "vocabulary"]:
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device")
    step = model(args, args.device)
    token, position = (torch.zeros(1, dtype=torch.long, device=args.device) for _ in range(2))
    run = lambda: token.copy_(step(token, position).argmax(-1))
    for _ in range(3):
        run()
    wait = lambda: None
    if args.device == "cuda":
        wait = torch.cuda.synchronize
        wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        run = graph.replay
    fastest = float("inf")
    for _ in range(3):
        position.fill_(args.prompt)
        wait()
        start = time.perf_counter()
        for _ in range(args.tokens):
            run()
            position += 1
        wait()
        fastest = min(fastest, time.perf_counter() - start)
    name = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(json.dumps({"torch": torch.__version__, "device": name, "decode_tok_per_s": args.tokens / fastest}))


if __name__ == "__main__":
    main()
