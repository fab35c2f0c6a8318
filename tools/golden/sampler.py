"""Golden vectors of the canonical sampler, from its description alone: Python integers and decimals.

    python3 tools/golden/sampler.py           rewrite dn-compute/src/sampling/golden.json
    python3 tools/golden/sampler.py --check   fail if it differs
"""

import json
import pathlib
import struct
import sys
from decimal import Decimal, getcontext

getcontext().prec = 80
MASK = 0xFFFFFFFF
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)


def blake3_short(data):
    """BLAKE3 of at most one block of 64 bytes."""
    assert len(data) <= 64
    words = list(struct.unpack("<16I", data.ljust(64, b"\0")))
    # Chunk start, chunk end and root.
    v = list(IV) + list(IV[:4]) + [0, 0, len(data), 1 | 2 | 8]

    def rotate(x, n):
        return ((x >> n) | (x << (32 - n))) & MASK

    def mix(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & MASK
        v[d] = rotate(v[d] ^ v[a], 16)
        v[c] = (v[c] + v[d]) & MASK
        v[b] = rotate(v[b] ^ v[c], 12)
        v[a] = (v[a] + v[b] + y) & MASK
        v[d] = rotate(v[d] ^ v[a], 8)
        v[c] = (v[c] + v[d]) & MASK
        v[b] = rotate(v[b] ^ v[c], 7)

    for _ in range(7):
        for i in range(4):
            mix(i, 4 + i, 8 + i, 12 + i, words[2 * i], words[2 * i + 1])
        for i in range(4):
            mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, words[8 + 2 * i], words[9 + 2 * i])
        words = [words[i] for i in ORDER]
    return struct.pack("<8I", *(v[i] ^ v[i + 8] for i in range(8)))


TARGET = pathlib.Path(__file__).resolve().parents[2] / "dn-compute/src/sampling/golden.json"
LOG2E = int((Decimal(1).exp().ln() / Decimal(2).ln() * 2**32).to_integral_value())
LN2 = int(Decimal(2).ln() * 2**56)
TABLES = [[int(Decimal(2) ** (40 - Decimal(i) / 2**bits)) for i in range(256)] for bits in (8, 16, 24)]
LIMIT = 2**44


def hold(x):
    return max(-LIMIT, min(LIMIT, x))


def weight(below, temperature):
    x = below * (LOG2E * 10**6 * 256 // temperature) >> 40
    n, a, b, c = x >> 24, x >> 16 & 255, x >> 8 & 255, x & 255
    if n > 40:
        return 0
    return ((TABLES[0][a] * TABLES[1][b] >> 40) * TABLES[2][c] >> 40) >> n


def log2_q56(x):
    whole = x.bit_length() - 1
    m, log = x * 2**62 >> whole, whole
    for _ in range(56):
        m = m * m >> 62
        log *= 2
        if m >= 2**63:
            m, log = m >> 1, log + 1
    return log


def logprobs(fixed):
    """Of all tokens, times 2^24."""
    best = max(fixed)
    total = sum(weight(best - f, 10**6) for f in fixed)
    log_sum = (log2_q56(total) - 40 * 2**56) * LN2 >> 88
    # The recipe against the real logarithm.
    exact = (Decimal(total) / 2**40).ln() * 2**24
    assert abs(exact - log_sum) < 2
    return [f - best - log_sum for f in fixed]


def penalised(fixed, s, prompt, output):
    """Steps 2 and 3; the window is over prompt and output together."""
    fixed = list(fixed)
    marked = [(t, False) for t in prompt] + [(t, True) for t in output]
    if s["window"]:
        marked = marked[-s["window"] :]
    for t in {t for t, _ in marked}:
        l, r = fixed[t], s["repetition"]
        l = l * 10**6 // r if l > 0 else -(-l * r // 10**6)
        count = sum(1 for u, out in marked if u == t and out)
        if count:
            l -= (s["presence"] + count * s["frequency"]) * 2**24 // 10**6
        fixed[t] = hold(l)
    for t, bias in s["bias"]:
        fixed[t] = hold(fixed[t] + bias * 2**24 // 10**6)
    return fixed


def sample(fixed, raw, s, index):
    """Steps 4 to 10."""
    allowed = [t for t in range(len(fixed)) if t not in s["banned"]]
    if s["temperature"] == 0:
        return max(allowed, key=lambda t: (fixed[t], raw[t], -t))
    best = max(fixed[t] for t in allowed)
    w = {t: weight(best - fixed[t], s["temperature"]) for t in allowed}
    ranking = sorted(allowed, key=lambda t: (-fixed[t], t))
    if s["top_k"]:
        ranking = ranking[: s["top_k"]]
    if s["top_p"] < 10**6:
        total, kept, running = sum(w[t] for t in ranking), [], 0
        while not kept or running * 10**6 < total * s["top_p"]:
            kept.append(ranking[len(kept)])
            running += w[kept[-1]]
        ranking = kept
    ranking = sorted(t for t in ranking if w[t] * 10**6 >= min(s["min_p"], 10**6) << 40)
    digest = blake3_short(b"deepnode sampler v1\0" + struct.pack("<QI", s["seed"], index))
    target = int.from_bytes(digest[:8], "little") * sum(w[t] for t in ranking) >> 64
    for t in ranking:
        target -= w[t]
        if target < 0:
            return t
    raise AssertionError


def settings(temperature, top_k, top_p, min_p, seed, **more):
    plain = {"repetition": 10**6, "presence": 0, "frequency": 0, "window": 0, "bias": [], "banned": [], "prompt": []}
    numbers = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    return numbers | plain | more


# Multiples of 2^-7, so that rounding to fixed point is exact; from -3 to 4.8 in an order that jumps.
LOGITS = [i * 7919 % 1000 - 384 for i in range(1000)]
FIXED = [l * 2**17 for l in LOGITS]
BEST = [t for t in range(1000) if LOGITS[t] > 580]
CASES = [
    settings(800_000, 50, 900_000, 20_000, 7),
    settings(1_000_000, 0, 1_000_000, 0, 1),
    settings(250_000, 0, 500_000, 0, 2**64 - 1),
    settings(4_000_000_000, 0, 999_999, 0, 3),
    settings(1_000_000, 3, 1_000_000, 1_000_000, 4),
    settings(1_000_000, 0, 1_000_000, 250_000, 5),
    settings(0, 0, 1_000_000, 0, 0, presence=2_000_000),
    settings(0, 0, 1_000_000, 0, 0, frequency=7_813),
    settings(0, 0, 1_000_000, 0, 0, frequency=7_813, window=3),
    settings(0, 0, 1_000_000, 0, 0, frequency=-1, presence=1, bias=[[17, 4_700_001], [18, -100_000_000]]),
    settings(0, 0, 1_000_000, 0, 0, repetition=1_300_000, prompt=BEST),
    settings(700_000, 40, 950_000, 0, 9, repetition=1_300_000, prompt=list(range(0, 1000, 3)), window=100),
    settings(700_000, 0, 950_000, 0, 9, repetition=500_000, presence=-2_000_000, frequency=1_999_999, prompt=[4, 4, 900]),
    settings(900_000, 5, 1_000_000, 0, 11, banned=BEST, bias=[[1, 12_345], [999, 100_000_000]]),
    settings(1, 0, 1_000_000, 0, 12, presence=1),
]


def run(s):
    output = []
    for index in range(8):
        fixed = penalised(FIXED, s, s["prompt"], output)
        output.append(sample(fixed, LOGITS, s, index))
    return output


def generate():
    raw = logprobs(FIXED)
    top = sorted(range(1000), key=lambda t: (-LOGITS[t], t))[:5]
    return {
        "tables": [str(sum((i + 1) * x for i, x in enumerate(t)) % 2**64) for t in TABLES],
        "top_logprobs": [[t, raw[t]] for t in top],
        "logprob_of_0": raw[0],
        "cases": [s | {"seed": str(s["seed"]), "output": run(s)} for s in CASES],
    }


def main():
    assert LOG2E == 6_196_328_019
    text = json.dumps(generate(), indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET} differs from what {sys.argv[0]} computes")
    else:
        TARGET.write_text(text)


main()
