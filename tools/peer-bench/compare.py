"""DeepNode beside llama.cpp on the same files: every row of the table in `docs/perf/llama-cpp.md`, in under eight minutes.

    pip install -r requirements.txt
    python make_model.py q8_0.gguf --type Q8_0 && python make_model.py q4_0.gguf --type Q4_0
    cargo build --release -p dn
    python compare.py --dn ../../target/release/dn q8_0.gguf q4_0.gguf [--threads 2] [--pairs 5] [--json OUT.json]

The two engines take turns, each in a process of its own, so that both see the same minutes of a machine. A row's ratio is that of
the medians; beside it stand that of the best turns, and the lowest and highest of the pairs. Nothing else should run meanwhile.
`--rows` chooses rows by words of their names, `--no-long` leaves out the prompts of 4,096 tokens, half of the time.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

PEER = pathlib.Path(__file__).with_name("llama_cpp_bench.py")
PROMPT, DECODE, LONG = 256, 48, 4096


class Engines:
    def __init__(self, args):
        self.dn, self.threads = args.dn.resolve(), str(args.threads)
        self.systems = set()

    @staticmethod
    def run(command):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode != 0:
            sys.exit(f"exit code {done.returncode} from: {' '.join(map(str, command))}")
        return json.loads(done.stdout)

    def ours(self, file, only, *more, runs=1):
        """The figures of one turn of ours."""
        command = [self.dn, "bench", "infer", "--json", "--model", file, "--threads", self.threads]
        out = self.run([*command, "--runs", str(runs), "--only", only, *map(str, more)])
        self.systems.add(f"dn: {out['backend']} {out['isa']}, {out['threads']} threads")
        return out

    def theirs(self, file, *more):
        """The figures of one turn of llama.cpp."""
        command = [sys.executable, PEER, file, "--threads", self.threads, "--repeat", "1"]
        out = self.run([*command, *map(str, more)])
        self.systems.add(f"{out['engine']}: {out['system'].strip()}")
        return out


class Table:
    def __init__(self):
        self.rows = []

    def beside(self, name, bar, ours, theirs):
        """A row of rates of both; the bar is a least ratio."""
        pairs = [a / b for a, b in zip(ours, theirs)]
        ratio = statistics.median(ours) / statistics.median(theirs)
        self.rows.append({
            "row": name, "bar": f">= {bar}", "met": ratio >= bar, "ratio_of_medians": round(ratio, 3),
            "ratio_of_best": round(max(ours) / max(theirs), 3), "pairs": [round(min(pairs), 3), round(max(pairs), 3)],
            "ours": ours, "llama_cpp": theirs,
        })  # fmt: skip

    def alone(self, name, bar, values, least=False):
        """A row of values of ours; the bar is a least or a most value of the median."""
        middle = statistics.median(values)
        met = middle >= bar if least else middle <= bar
        best = max(values) if least else min(values)
        self.rows.append({
            "row": name, "bar": f"{'>=' if least else '<='} {bar}", "met": met, "median": round(middle, 4),
            "best": round(best, 4), "ours": values,
        })  # fmt: skip

    def print(self):
        short = lambda values: ", ".join(f"{v:.4g}" for v in values)  # noqa: E731
        print("| row | ours | llama.cpp | median | best | pairs | bar | |\n|---|---|---|---|---|---|---|---|")
        for r in self.rows:
            middle, best = r.get("ratio_of_medians", r.get("median")), r.get("ratio_of_best", r.get("best"))
            pairs = "{} to {}".format(*r["pairs"]) if "pairs" in r else ""
            cells = [r["row"], short(r["ours"]), short(r.get("llama_cpp", [])), middle, best, pairs, r["bar"]]
            print("|", " | ".join(map(str, cells)), "|", "met" if r["met"] else "missed", "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("q8_0", type=pathlib.Path)
    parser.add_argument("q4_0", type=pathlib.Path)
    parser.add_argument("--dn", type=pathlib.Path, required=True, help="the release build of `dn`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rows", default="", help="only rows of one of these: speed, long, batch, replay, trace, load")
    parser.add_argument("--no-long", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, help="also write everything measured to this file")
    args = parser.parse_args()
    wanted = set(filter(None, args.rows.split(","))) or {"speed", "long", "batch", "replay", "trace", "load"}
    if args.no_long:
        wanted.discard("long")
    engines, table, started = Engines(args), Table(), time.monotonic()
    files = {"Q8_0": args.q8_0, "Q4_0": args.q4_0}
    for file in files.values():
        file.read_bytes()  # into the page cache

    if "speed" in wanted:
        for kind, file in files.items():
            ours, theirs = [], []
            for _ in range(args.pairs):
                ours.append(engines.ours(file, "generation,read", "--prompt-tokens", PROMPT, "--output-tokens", DECODE + 1))
                theirs.append(engines.theirs(file, "--prompt", PROMPT, "--decode", DECODE))
            for key, bars in (("decode", {"Q8_0": 1.1, "Q4_0": 1.0}), ("prefill", {"Q8_0": 1.5, "Q4_0": 1.0})):
                of = lambda runs: [run[f"{key}_tok_per_s"] for run in runs]  # noqa: B023, E731
                name = f"prefill {PROMPT}" if key == "prefill" else key
                table.beside(f"{name}, {kind}, tokens/s", bars[kind], of(ours), of(theirs))
            read = [run["read_gb_per_s"] for run in ours]
            used = [run["decode_tok_per_s"] * run["weights_mb"] / 1e3 for run in ours]
            print(f"{kind}: memory read {statistics.median(read)} GB/s, decode reads {statistics.median(used):.1f} GB/s")
    if "long" in wanted:
        for kind, file in files.items():
            key, only = "long_prefill_tok_per_s", ("--prompt", 32, "--decode", 1, "--long", LONG)
            ours = [engines.ours(file, "prefill-4096")["prefill_4096_tok_per_s"]]
            theirs = [engines.theirs(file, *only)[key]]
            table.beside(f"prefill {LONG}, {kind}, tokens/s", 1.0, ours, theirs)
    few = max(3, args.pairs // 2 + 1)
    for kind, file in files.items():
        if "batch" in wanted:
            runs = [engines.ours(file, "batch") for _ in range(few)]
            table.alone(f"8 decodes over one, {kind}", 3.0, [run["batch_8_over_1"] for run in runs], least=True)
        if "replay" in wanted:
            more = ("--prompt-tokens", 32, "--output-tokens", 256)
            runs = [engines.ours(file, "replay", *more) for _ in range(few if kind == "Q8_0" else 1)]
            table.alone(f"replay over generation, 32 + 256, {kind}", 0.125, [run["replay_over_generation"] for run in runs])
        if "trace" in wanted and kind == "Q8_0":
            more = ("--prompt-tokens", 32, "--output-tokens", 48)
            runs = [engines.ours(file, "trace", *more, runs=3) for _ in range(few)]
            table.alone(f"trace on over off, 32 + 48, {kind}", 1.02, [run["trace_on_over_off"] for run in runs])
        if "load" in wanted:
            more = ("--prompt-tokens", 896, "--output-tokens", 128)
            runs = [engines.ours(file, "generation", *more)]
            runs_of_load = [run["load_ms"] / 1e3 for run in runs]
            runs_of_load += [engines.ours(file, "read")["load_ms"] / 1e3 for _ in range(few - 1)]
            table.alone(f"load and pack, {kind}, s", 2.0, runs_of_load)
            over = [run["resident_mb"] - run["weights_mb"] for run in runs]
            table.alone(f"resident over packed weights after 896 + 128, {kind}, MB", 150.0, over)

    print("\n".join(sorted(engines.systems)))
    print(f"{args.pairs} pairs, {time.monotonic() - started:.0f} s\n")
    table.print()
    if args.json:
        args.json.write_text(json.dumps({"systems": sorted(engines.systems), "rows": table.rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
