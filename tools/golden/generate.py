"""Writes the golden vectors of numeric specification V1 to dn-compute/tests/golden, or checks them with --check.

Needs Python 3.8 or later and nothing else. An f32 is written as its bits, a decimal integer.
Changing a committed vector needs a new specification version: the Rust tests pin each file by its hash.
"""
import json
import os
import struct
import sys
from fractions import Fraction as F

import spec_v1 as spec

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "..", "..", "dn-compute", "tests", "golden")


class Rng:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2 ** 64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2 ** 64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2 ** 64
        return z ^ z >> 31

    def below(self, n):
        return self.next() % n

    def bits(self, low, high):
        """f32 bits with an exponent in low..=high, any sign."""
        return self.below(2) << 31 | (127 + low + self.below(high - low + 1)) << 23 | self.below(2 ** 23)

    def vector(self, n, low=-6, high=1):
        """f32 bits, one in nine zero of either sign."""
        return [self.below(2) << 31 if self.below(9) == 0 else self.bits(low, high) for _ in range(n)]


def values(v):
    return [spec.value(b) for b in v]


def bits(v):
    return [spec.bits(x) for x in v]


EDGES = [0, 1 << 31, 1, 0x807FFFFF, 0x00800000, 0x3F800000, 0xBF800000]


def quantise():
    rng, cases = Rng(1), []
    inputs = [rng.vector(n, low, high) for n, low, high in [(1, 0, 0), (9, -3, 3), (40, -30, 10), (33, -126, -90), (12, 90, 99)]]
    # The largest at each side of the limit where the exponent changes, ties included.
    for top in (32639.0, 32639.25, 32639.5, 32639.75, 32640.0, 65279.0, 16319.75):
        inputs.append([struct.unpack("<I", struct.pack("<f", v))[0] for v in (top, 0.5, 1.5, 2.5, -0.5, -3.5, 1e-3)])
    inputs += [EDGES, [27 << 23], [(27 << 23) - 1], [226 << 23 | 0x7FFFFF]]
    for x in inputs:
        a, et = spec.quantise(values(x))
        cases.append({"x": x, "a": a, "et": et})
    return cases


FORMATS = {"q8_0": (32, 34, 32, spec.row_from_q8_0), "q4_0": (32, 18, 32, spec.row_from_q4_0), "q4_k": (256, 144, 32, spec.row_from_q4_k),
           "q5_k": (256, 176, 32, spec.row_from_q5_k), "q6_k": (256, 210, 16, spec.row_from_q6_k)}
HALVES = {"q8_0": [0], "q4_0": [0], "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208]}


def gguf_row(rng, name, blocks, low, high):
    """A row of random bytes; its f16 numbers with exponents of low..=high, some zero, subnormal or negative."""
    data = bytearray()
    for _ in range(blocks):
        block = bytearray(rng.below(256) for _ in range(FORMATS[name][1]))
        for at in HALVES[name]:
            half = max(0, min(30, 15 + low + rng.below(high - low + 1))) << 10 | rng.below(1024)
            if rng.below(7) == 0:
                half = [0, 0x8000, half & 1023, half | 0x8000][rng.below(4)]
            block[at:at + 2] = struct.pack("<H", half)
        if name == "q8_0":
            block[2:] = bytes(129 if byte == 128 else byte for byte in block[2:])
            if rng.below(6) == 0:
                block[2:] = bytes(32)
        if name == "q4_0" and rng.below(6) == 0:
            block[2:] = b"\x88" * 16
        if name in ("q4_k", "q5_k") and rng.below(4) == 0:
            block[4:16] = [bytes(12), bytes([63] * 4 + [0] * 8), bytes([0] * 4 + [63] * 4 + [0] * 4), b"\xff" * 12][rng.below(4)]
        if name in ("q4_k", "q5_k") and rng.below(5) == 0:
            block[16:] = bytes([0, 255][rng.below(2)] for _ in range(1)) * (FORMATS[name][1] - 16)
        if name == "q6_k" and rng.below(4) == 0:
            block[192:208] = bytes([0x80, 0x7F, 0, 1][rng.below(4)] for _ in range(16))
        data += block
    return bytes(data)


def matrix():
    rng, cases = Rng(2), []
    for name, (columns, _, length, decode) in FORMATS.items():
        for low, high in [(-1, 1), (-12, 4), (-20, 9), (0, 0)]:
            rows = [gguf_row(rng, name, 3, low, high) for _ in range(3)]
            tile = spec.tile([decode(r) for r in rows], length)
            cases.append({"from": name, "block": length, "rows": 3, "cols": 3 * columns, "input": b"".join(rows).hex(), "tile": tile.hex()})
    for length in (32, 16, 128, 0):
        for cols, low, high in [(1, 0, 0), (33, -4, 1), (80, -40, 2), (32, -126, -102), (64, 90, 99), (70, -100, -95), (300, -9, 3)]:
            w = [rng.vector(cols, low, high) for _ in range(3)]
            w[1] = [b & 0x80000000 for b in w[1]] if low == -4 else w[1]
            tile = spec.tile([spec.row_from_f32(values(row), length) for row in w], length)
            data = b"".join(struct.pack("<I", b) for b in sum(w, []))
            cases.append({"from": "f32", "block": length, "rows": 3, "cols": cols, "input": data.hex(), "tile": tile.hex()})
    return cases


def linear():
    rng, cases = Rng(3), []

    def case(rows, length, x, shown=None):
        out = [bits(spec.linear(rows, values(v))) for v in x]
        embedded = [bits(spec.embed(r)) for r in rows]
        cases.append({"rows": len(rows), "cols": len(x[0]), "tokens": len(x), "tile": spec.tile(rows, length).hex(),
                      "x": shown or sum(x, []), "out": sum(out, []), "embedded": sum(embedded, []) if len(x[0]) < 4096 else []})

    for length in (32, 16, 128, 0):
        for rows, cols, tokens, low, high in [(3, 1, 2, 0, 0), (5, 33, 3, -8, 2), (18, 64, 9, -8, 2), (4, 300, 2, -60, 3),
                                              (3, 32, 2, -126, -99), (3, 64, 2, 60, 99)]:
            if length != 32 and cols not in (33, 300):
                continue
            between = (-20, -1) if low > 0 else (max(low, -90) // 2, high // 2)
            case([spec.row_from_f32(values(rng.vector(cols, *between)), length) for _ in range(rows)], length,
                 [rng.vector(cols, low, high) for _ in range(tokens)])
    for name, (columns, _, length, decode) in FORMATS.items():
        for blocks, tokens in [(1, 3), (3, 2)]:
            case([decode(gguf_row(rng, name, blocks, -9, 1)) for _ in range(5)], length,
                 [rng.vector(columns * blocks, -8, 2) for _ in range(tokens)])
    # Everything at its largest: all activations equal, then every third negated.
    x = [[0x46FEFE00] * 4096, [0x46FEFE00 ^ (i % 3 == 0) << 31 for i in range(4096)]]
    shown = [[0x46FEFE00, 4096], [0x46FEFE00, 3]]
    for length in (32, 16, 128, 0):
        block = length or 4096
        m = [65535] * (4096 // block)
        case([spec.Row(block, -20, m, None, [127 if i % 7 else -127 for i in range(4096)]), spec.Row(block, -20, m, None, [127] * 4096)],
             length, x, shown)
    m, n = [65535] * 128, [32767 if b % 2 else -32767 for b in range(128)]
    case([spec.Row(32, -20, m, n, [63 if i // 32 % 2 else -63 for i in range(4096)]), spec.Row(32, -20, m, [-32767] * 128, [63] * 4096),
          spec.Row(32, -20, [0] * 128, n, [0] * 4096)], 32, x, shown)
    return cases


def exp2():
    every = [spec.exp2_q16(f) for f in range(65536)]
    checksum = 0
    for y in every:
        checksum = (checksum * 0x100000001B3 + y) % 2 ** 64
    return {"samples": [[f, every[f]] for f in list(range(0, 65536, 1021)) + [1, 2, 32767, 32768, 65534, 65535]],
            "checksum": str(checksum)}


def roots():
    rng = Rng(4)
    x = [rng.bits(-126, 126) & 0x7FFFFFFF for _ in range(300)]
    x += [0x3F800000, 0x40000000, 0x40800000, 0x3F7FFFFF, 0x3F800001, 0x40000001, 0x00800000, 0x7E7FFFFF]
    return {"x": x, "recip": bits([spec.flush(spec.recip(v)) for v in values(x)]), "rsqrt": bits([spec.rsqrt(v) for v in values(x)])}


def float_glue():
    rng, out = Rng(5), []
    pairs = [(rng.bits(-70, 60), rng.bits(-70, 60)) for _ in range(150)]
    pairs += [(a, (a ^ 1 << 31) + rng.below(9) - 4) for a in (rng.bits(-126, 20) for _ in range(50))]
    pairs += [(a, b) for a in EDGES for b in EDGES] + [(0x00FFFFFF, 0x3F000000), (0x3F7FFFFF, 0x00800000), (0x007FFFFF, 0x40000000)]
    for a, b in pairs:
        va, vb = spec.value(a), spec.value(b)
        out.append([a, b] + bits([spec.add(va, vb), spec.sub(va, vb), spec.mul(va, vb)]))
    return out


def rms_norm():
    rng, cases = Rng(6), []
    for cols, low, high, eps in [(1, 0, 0, 0x358637BD), (7, -3, 2, 0x3727C5AC), (100, -20, 5, 0x358637BD), (64, -126, -95, 0x3727C5AC),
                                 (33, 40, 60, 0x3727C5AC), (512, -2, 1, 0x3727C5AC)]:
        weight, x = rng.vector(cols, -3, 1), rng.vector(cols, low, high)
        out = spec.rms_norm(values(weight), spec.value(eps), values(x))
        cases.append({"weight": weight, "eps": eps, "x": x, "out": bits(out)})
    return cases


def silu():
    rng = Rng(7)
    g = rng.vector(300, -12, 6) + EDGES + [0x42000000, 0xC2000000, 0xC28A0000, 0xC28B0000, 0x7F000000, 0xFF000000, 0xC2FFFFFF]
    u = rng.vector(len(g), -4, 0)
    return {"gate": g, "up": u, "out": bits([spec.silu_mul(a, b) for a, b in zip(values(g), values(u))])}


def rope():
    rng, cases = Rng(8), []
    for head_dim, rotary_dim, theta, interleaved in [(64, 64, 10000.0, True), (64, 64, 10000.0, False), (128, 128, 1e6, False), (80, 20, 500000.0, True)]:
        bits_of_theta = struct.unpack("<I", struct.pack("<f", theta))[0]
        for position in (0, 1, 5, 511, 4095):
            row = spec.rope_row(rotary_dim, spec.value(bits_of_theta), position)
            x = rng.vector(head_dim)
            out = bits(spec.rope(values(x), rotary_dim, row, interleaved))
            cases.append({"head_dim": head_dim, "rotary_dim": rotary_dim, "theta": bits_of_theta, "interleaved": interleaved,
                          "position": position, "cos": bits([c for c, _ in row]), "sin": bits([s for _, s in row]), "x": x, "out": out})
    return cases


def f32_bits(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def rope_scaling():
    rng, cases = Rng(10), []
    v = lambda x: spec.value(f32_bits(x))
    factors = [v(1 + 0.37 * i) for i in range(31)] + [v(1e30)]
    scalings = [
        ("linear", v(4.0)), ("linear", v(0.3)), ("linear", v(65536.0)),
        ("llama3", v(8.0), v(1.0), v(4.0), 8192), ("llama3", v(32.0), v(1.5), v(4.25), 1000),
        ("yarn", v(4.0), 32768, v(32.0), v(1.0), spec.yarn_attention(v(4.0))),
        ("yarn", v(40.0), 512, v(32.0), v(0.1), v(0.7)), ("yarn", v(2.5), 3, v(32.0), v(1.0), v(1.0)),
        ("factors", factors),
    ]
    for rotary_dim, theta in [(64, 10000.0), (64, 500000.0)]:
        for scaling in scalings:
            name, parameters = scaling[0], []
            for p in scaling[1:]:
                parameters += [spec.bits(x) for x in p] if isinstance(p, list) else [p if isinstance(p, int) else spec.bits(p)]
            for position in (1, 777, 131071):
                row = spec.rope_row(rotary_dim, v(theta), position, scaling)
                cases.append({"rotary_dim": rotary_dim, "theta": f32_bits(theta), "scaling": name, "parameters": parameters,
                              "position": position, "cos": bits([c for c, _ in row]), "sin": bits([s for _, s in row])})
    attention = [{"factor": f32_bits(x), "out": spec.bits(spec.yarn_attention(v(x)))} for x in (1.0, 1.5, 2.0, 4.0, 32.0, 65536.0)]
    return {"cases": cases, "attention": attention}


def attention():
    rng, cases = Rng(9), []
    for d, keys, low, high, sink in [(2, 1, -2, 1, 0), (16, 5, -4, 2, 0), (8, 64, -4, 3, 0), (8, 65, -4, 1, 0), (6, 200, -6, 2, 6), (4, 150, -40, 30, 0), (8, 130, -3, 1, 9)]:
        q, k, v = rng.vector(d, low, high), [rng.vector(d, low, high) for _ in range(keys)], [rng.vector(d, low, high) for _ in range(keys)]
        if sink:  # the first key far above the rest, its value far below
            k[0] = [b + (sink << 23) if b & 0x7FFFFFFF else b for b in q]
            v[0] = [b - (9 << 23) if b & 0x7FFFFFFF else b for b in v[0]]
            v[70] = [0] * d
        out = spec.attention(values(q), [values(x) for x in k], [values(x) for x in v])
        cases.append({"d": d, "keys": keys, "q": q, "k": sum(k, []), "v": sum(v, []), "out": bits(out)})
    return cases


def attention_masks():
    rng, cases = Rng(10), []
    d, held = 6, 200
    for low, high in [(-4, 2), (-30, 20)]:
        k, v = ([rng.vector(d, low, high) for _ in range(held)] for _ in range(2))
        calls = []
        for mask in ["full", 1, 2, 63, 64, 65, 130, 1000]:
            for position in (0, 5, 63, 64, 127, 130, 199):
                q = rng.vector(d, low, high)
                keys = spec.seen(mask, position, held)
                out = spec.attention(values(q), [values(x) for x in k], [values(x) for x in v], keys)
                calls.append({"window": 0 if mask == "full" else mask, "position": position, "q": q, "out": bits(out)})
        cases.append({"d": d, "k": sum(k, []), "v": sum(v, []), "calls": calls})
    return cases


def layer_norm():
    rng, cases = Rng(10), []
    for cols, low, high, eps in [(1, 0, 0, 0x2B8CBCCC), (7, -3, 2, 0x3727C5AC), (100, -20, 5, 0x2B8CBCCC), (64, -126, -95, 0x3727C5AC),
                                 (33, 40, 60, 0x3727C5AC), (384, -2, 1, 0x2B8CBCCC), (48, -9, -7, 0x2B8CBCCC)]:
        weight, bias, x = rng.vector(cols, -3, 1), rng.vector(cols, -5, 0), rng.vector(cols, low, high)
        if low == -9:  # far from zero, alike but for the last bits
            x = [0x44480000 + rng.below(200) for _ in x]
        out = spec.layer_norm(values(weight), values(bias), spec.value(eps), values(x))
        cases.append({"weight": weight, "bias": bias, "eps": eps, "x": x, "out": bits(out)})
    return cases


def gelu():
    rng = Rng(11)
    x = rng.vector(300, -12, 3) + rng.vector(60, 0, 2) + rng.vector(60, -126, -20) + EDGES
    x += [b | s for b in (0x40C00000, 0x40BFFFFF, 0x40C00001, 0x7F7FFFFF, 0x40400000) for s in (0, 1 << 31)]
    return {"x": x, "out": bits([spec.gelu(v) for v in values(x)])}


def pool():
    rng, cases = Rng(12), []
    for rows, cols, low, high in [(1, 3, -2, 1), (5, 16, -6, 2), (70, 8, -4, 3), (4, 33, -70, 60), (3, 5, -126, -101), (2, 384, -5, 0), (6, 4, 0, 0)]:
        x = [rng.vector(cols, low, high) for _ in range(rows)]
        if low == high == 0:  # rows that cancel, up to rounding
            x = [[b ^ (t & 1) << 31 for b in x[t // 2]] for t in range(rows)]
            x[0][0] += 1 << 14
        for mean in (True, False):
            cases.append({"mean": mean, "cols": cols, "x": sum(x, []), "out": spec.pool(mean, [values(r) for r in x])})
    return cases


def main():
    stale = []
    os.makedirs(TARGET, exist_ok=True)
    makers = (quantise, matrix, linear, exp2, roots, float_glue, rms_norm, silu, rope, rope_scaling, attention, attention_masks)
    for make in (*makers, layer_norm, gelu, pool):
        text = json.dumps(make(), separators=(",", ":")) + "\n"
        path = os.path.join(TARGET, make.__name__ + ".json")
        if "--check" in sys.argv:
            if not os.path.exists(path) or open(path).read() != text:
                stale.append(make.__name__)
        else:
            with open(path, "w") as out:
                out.write(text)
    if stale:
        sys.exit("these golden files differ from what the generator makes: " + ", ".join(stale))


if __name__ == "__main__":
    main()
