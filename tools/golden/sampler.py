"""Golden vectors of the canonical sampler, from its description alone: Python integers and decimals.

Prints what `dn-compute/src/sampling/tests.rs` pins: python sampler.py
"""

import struct
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


LOG2E = int((Decimal(1).exp().ln() / Decimal(2).ln() * 2**32).to_integral_value())
TABLES = [[int(Decimal(2) ** (40 - Decimal(i) / 2**bits)) for i in range(256)] for bits in (8, 16, 24)]


def weight(below, temperature):
    x = below * (LOG2E * 10**6 * 256 // temperature) >> 40
    n, a, b, c = x >> 24, x >> 16 & 255, x >> 8 & 255, x & 255
    if n > 40:
        return 0
    return ((TABLES[0][a] * TABLES[1][b] >> 40) * TABLES[2][c] >> 40) >> n


def sample(logits, temperature, top_k, top_p, min_p, seed, index):
    # The logits of these vectors are multiples of 2^-24, so rounding is exact.
    fixed = [int(l * 2**24) for l in logits]
    assert all(f == l * 2**24 for f, l in zip(fixed, logits))
    best = max(fixed)
    w = [weight(best - f, temperature) for f in fixed]
    ranking = sorted(range(len(fixed)), key=lambda t: (-fixed[t], t))
    if top_k:
        ranking = ranking[:top_k]
    if top_p < 10**6:
        total, kept, running = sum(w[t] for t in ranking), [], 0
        while not kept or running * 10**6 < total * top_p:
            kept.append(ranking[len(kept)])
            running += w[kept[-1]]
        ranking = kept
    ranking = sorted(t for t in ranking if w[t] * 10**6 >= min(min_p, 10**6) << 40)
    digest = blake3_short(b"deepnode sampler v1\0" + struct.pack("<QI", seed, index))
    target = int.from_bytes(digest[:8], "little") * sum(w[t] for t in ranking) >> 64
    for t in ranking:
        target -= w[t]
        if target < 0:
            return t
    raise AssertionError


LOGITS = [i * 7919 % 1000 / 128 for i in range(1000)]
CASES = [
    (800_000, 50, 900_000, 20_000, 7),
    (1_000_000, 0, 1_000_000, 0, 1),
    (250_000, 0, 500_000, 0, 2**64 - 1),
    (4_000_000_000, 0, 999_999, 0, 3),
    (1_000_000, 3, 1_000_000, 1_000_000, 4),
]

if __name__ == "__main__":
    assert LOG2E == 6_196_328_019
    print("tables", [sum((i + 1) * x for i, x in enumerate(t)) % 2**64 for t in TABLES])
    for case in CASES:
        print(case, [sample(LOGITS, *case, index) for index in range(8)])
