"""Files in GGML's formats, the spec's own quantisation in numpy, and running the engine."""
import ctypes
import glob
import os
import subprocess

import gguf
import numpy as np

KIND = gguf.GGMLQuantizationType
FORMATS = {"F32": KIND.F32, "F16": KIND.F16, "BF16": KIND.BF16, "Q8_0": KIND.Q8_0, "Q6_K": KIND.Q6_K,
           "Q5_K": KIND.Q5_K, "Q4_K": KIND.Q4_K, "Q4_0": KIND.Q4_0}


def ggml():
    """The library of llama-cpp-python that quantises."""
    import llama_cpp
    root = os.path.dirname(llama_cpp.__file__)
    lib = ctypes.CDLL(sorted(glob.glob(os.path.join(root, "lib", "libggml-base.*")))[0])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_int64, ctypes.c_void_p]
    return lib


def encode(lib, values, kind):
    """A matrix in one of GGML's formats, and the kind it got: what a K format cannot hold (columns that are no multiple of 256)
    is Q8_0."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if values.shape[-1] % block:
        kind = KIND.Q8_0
        block, size = gguf.GGML_QUANT_SIZES[kind]
    values = np.ascontiguousarray(values, dtype=np.float32)
    if kind in (KIND.F32, KIND.F16, KIND.BF16):
        return gguf.quants.quantize(values, kind), kind
    rows, cols = values.shape
    out = np.zeros((rows, cols // block * size), dtype=np.uint8)
    written = lib.ggml_quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, rows, cols, None)
    assert written == out.nbytes
    return out, kind


def in_blocks(w, block):
    """A matrix as the numeric spec quantises floats, in blocks of `block` columns (None: the row)."""
    w = w.astype(np.float64)
    rows, cols = w.shape
    block = block or cols
    padded = np.pad(w, ((0, 0), (0, -cols % block))).reshape(rows, -1, block)
    scale = np.abs(padded).max(-1) / 127
    top = scale.max(-1, keepdims=True)
    exponent = np.floor(np.log2(np.where(top > 0, top, 1))) - 15
    exponent += np.rint(top * np.exp2(-exponent)) > 65535
    step = (np.rint(scale * np.exp2(-exponent)) * np.exp2(exponent))[..., None]
    q = np.clip(np.rint(np.divide(padded, step, out=np.zeros_like(padded), where=step > 0)), -127, 127)
    return (q * step).reshape(rows, -1)[:, :cols]


def activations(x):
    """Rows as the numeric spec quantises activations: 16 bits under a power of two."""
    top = np.abs(x).max(-1, keepdims=True)
    exponent = np.floor(np.log2(np.where(top > 0, top, 1))) - 14
    exponent += np.rint(top * np.exp2(-exponent)) > 32639
    return np.rint(x * np.exp2(-exponent)) * np.exp2(exponent)


def engine(binary, what, model, block, texts, folder):
    """Runs the example `quality` of dn-compute; its numbers in one row."""
    ids, out = os.path.join(folder, "ids.txt"), os.path.join(folder, "out.f32")
    with open(ids, "w") as file:
        file.writelines(" ".join(map(str, text)) + "\n" for text in texts)
    subprocess.run([binary, what, model, str(block), ids, out], check=True)
    return np.fromfile(out, dtype="<f4")
