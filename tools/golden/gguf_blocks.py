"""Writes dn-compute/tests/golden/gguf_blocks.json: quantised blocks and what the `gguf` package dequantises them to.

    pip install gguf numpy
    python gguf_blocks.py [--check]

The package computes in f32 and shares no code with this repository, so the Rust test compares within the rounding that the numeric
specification allows. Random bytes, then blocks at the extremes: all bits set, no bits set, scales of either sign, subnormal.
"""

import json
import os
import sys

import gguf
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "..", "..", "dn-compute", "tests", "golden", "gguf_blocks.json")
# columns and bytes of a block, offsets of its f16 numbers
FORMATS = {
    "Q8_0": (32, 34, [0]),
    "Q4_0": (32, 18, [0]),
    "Q4_K": (256, 144, [0, 2]),
    "Q5_K": (256, 176, [0, 2]),
    "Q6_K": (256, 210, [208]),
}
EXTREMES = [0x3C00, 0xBC00, 0x7BFF, 0x0001, 0x8001, 0x0000, 0x03FF]


def rows(rng, columns, size, halves):
    """Two rows of random blocks whose scales are near each other, and two of extreme ones."""
    blocks = 512 // columns
    out = rng.integers(0, 256, (4, blocks, size), dtype=np.uint8)
    for at in halves:
        scales = rng.uniform(0.001, 0.02, (2, blocks)) * rng.choice([-1, 1], (2, blocks))
        out[:2, :, at : at + 2] = scales.astype(np.float16)[..., None].view(np.uint8)
    for row, turn in ((2, 0), (3, 3)):
        for block in range(blocks):
            out[row, block] = [0xFF, 0x00, 0x88, 0x7F][(block + row) % 4] if block % 3 else out[row, block]
            for i, at in enumerate(halves):
                bits = EXTREMES[(block + turn + 2 * i) % len(EXTREMES)]
                out[row, block, at : at + 2] = [bits & 255, bits >> 8]
    if size == 34:
        out[:, :, 2:][out[:, :, 2:] == 128] = 129
    return out.reshape(4, blocks * size)


def main():
    rng = np.random.default_rng(20)
    cases = []
    for name, (columns, size, halves) in FORMATS.items():
        data = rows(rng, columns, size, halves)
        values = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name]).astype("<f4")
        case = {"from": name.lower(), "rows": 4, "cols": 512}
        cases.append(case | {"input": data.tobytes().hex(), "values": values.tobytes().hex()})
    text = json.dumps(cases, separators=(",", ":")) + "\n"
    if "--check" in sys.argv:
        if open(TARGET).read() != text:
            sys.exit("gguf_blocks.json differs from what the generator makes")
    else:
        with open(TARGET, "w") as out:
            out.write(text)


if __name__ == "__main__":
    main()
