"""Times llama.cpp (through its Python binding) on a GGUF file: one JSON object on stdout.

    python llama_cpp_bench.py FILE [--threads 2] [--prompt 256] [--decode 64] [--long 4096] [--repeat 3]

Prefill is the time of one `eval` of the prompt, decoding of one token after another; both are medians. No sampler runs.
"""

import argparse
import json
import statistics
import time

import llama_cpp


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--long", type=int, default=0, help="also prefill this many tokens at once")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    context = max(args.prompt + args.decode, args.long) + 64
    start = time.perf_counter()
    model = llama_cpp.Llama(
        args.file,
        n_ctx=context,
        n_batch=512,
        n_ubatch=512,
        n_threads=args.threads,
        n_threads_batch=args.threads,
        verbose=False,
    )
    load = time.perf_counter() - start
    ids = [i % 200 for i in range(max(args.prompt, args.long))]

    def prefill(n):
        model.reset()
        start = time.perf_counter()
        model.eval(ids[:n])
        return n / (time.perf_counter() - start)

    def decode():
        start = time.perf_counter()
        for i in range(args.decode):
            model.eval([i % 200])
        return args.decode / (time.perf_counter() - start)

    prefill(32)
    prefills, decodes = [], []
    for _ in range(args.repeat):
        prefills.append(prefill(args.prompt))
        decodes.append(decode())
    out = {
        "engine": f"llama-cpp-python {llama_cpp.__version__}",
        "threads": args.threads,
        "load_s": round(load, 2),
        "prefill_tok_per_s": round(statistics.median(prefills), 1),
        "decode_tok_per_s": round(statistics.median(decodes), 1),
        "system": llama_cpp.llama_print_system_info().decode(),
    }
    if args.long:
        out["long_prefill_tok_per_s"] = round(prefill(args.long), 1)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
