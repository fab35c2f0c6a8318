#!/usr/bin/env python3
"""Golden vectors of dn-core, computed without any of its code.

Writes dn-core/tests/golden/core.json: the canonical encodings, identities, EIP-712 digests, signatures and
Merkle roots of fixed examples. Standard library only; Keccak-256, BLAKE3 (blake3.py), secp256k1 and both encodings are written out here
from their specifications.

    python3 tools/golden/core.py           rewrite the file
    python3 tools/golden/core.py --check   fail if it differs
"""

import hashlib
import hmac
import json
import pathlib
import sys

from blake3 import blake3

TARGET = pathlib.Path(__file__).resolve().parents[2] / "dn-core/tests/golden/core.json"

# --- Keccak-256 (Keccak-f[1600], rate 1088, padding 0x01) ---

M64 = (1 << 64) - 1


def rotate(x, n):
    return ((x << n) | (x >> (64 - n))) & M64 if n else x


def round_constants():
    lfsr = 1
    for _ in range(24):
        value = 0
        for j in range(7):
            if lfsr & 1:
                value |= 1 << ((1 << j) - 1)
            lfsr = (lfsr << 1) ^ (0x171 if lfsr & 0x80 else 0)
        yield value


CONSTANTS = list(round_constants())


def permute(a):
    for constant in CONSTANTS:
        c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
        d = [c[(x - 1) % 5] ^ rotate(c[(x + 1) % 5], 1) for x in range(5)]
        a = [[a[x][y] ^ d[x] for y in range(5)] for x in range(5)]
        x, y, current = 1, 0, a[1][0]
        for t in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, a[x][y] = a[x][y], rotate(current, (t + 1) * (t + 2) // 2 % 64)
        a = [[a[x][y] ^ (~a[(x + 1) % 5][y] & M64 & a[(x + 2) % 5][y]) for y in range(5)] for x in range(5)]
        a[0][0] ^= constant
    return a


def keccak(data):
    rate = 136
    data = bytearray(data) + b"\x01" + bytes(-(len(data) + 1) % rate)
    data[-1] |= 0x80
    a = [[0] * 5 for _ in range(5)]
    for block in range(0, len(data), rate):
        for i in range(rate // 8):
            a[i % 5][i // 5] ^= int.from_bytes(data[block + 8 * i : block + 8 * i + 8], "little")
        a = permute(a)
    return b"".join(a[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


assert keccak(b"").hex().startswith("c5d2460186f7233c927e7db2dcc703c0")
assert keccak(b"abc").hex().startswith("4e03657aea45a94fc7d47ba826c8d667")

# --- secp256k1 with RFC 6979 ---

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def add(p, q):
    if p is None or q is None:
        return p or q
    if p[0] == q[0]:
        if (p[1] + q[1]) % P == 0:
            return None
        slope = 3 * p[0] * p[0] * pow(2 * p[1], -1, P)
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, P)
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def multiply(k, p):
    out = None
    while k:
        if k & 1:
            out = add(out, p)
        p, k = add(p, p), k >> 1
    return out


def address_of(secret):
    x, y = multiply(int.from_bytes(secret, "big"), G)
    return keccak(x.to_bytes(32, "big") + y.to_bytes(32, "big"))[12:]


def nonces(secret, digest):
    reduced = (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    mac = lambda key, data: hmac.new(key, data, hashlib.sha256).digest()
    k, v = bytes(32), b"\x01" * 32
    for tag in (b"\x00", b"\x01"):
        k = mac(k, v + tag + secret + reduced)
        v = mac(k, v)
    while True:
        v = mac(k, v)
        yield int.from_bytes(v, "big")
        k = mac(k, v + b"\x00")
        v = mac(k, v)


def sign(secret, digest):
    d, z = int.from_bytes(secret, "big"), int.from_bytes(digest, "big")
    for k in nonces(secret, digest):
        if not 0 < k < N:
            continue
        x, y = multiply(k, G)
        r, odd = x % N, y & 1
        s = pow(k, -1, N) * (z + r * d) % N
        if r == 0 or s == 0:
            continue
        if s > N // 2:
            s, odd = N - s, odd ^ 1
        return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + odd])


# --- the canonical encoding: (kind, value) pairs ---


def encode(kind, value):
    if kind[0] in "ui" and kind[1:].isdigit():
        return value.to_bytes(int(kind[1:]) // 8, "little", signed=kind[0] == "i")
    if kind == "bool":
        return bytes([value])
    if kind == "raw":
        return value
    if kind == "text":
        return len(value.encode()).to_bytes(4, "little") + value.encode()
    if kind.startswith("list "):
        return len(value).to_bytes(4, "little") + b"".join(encode(kind[5:], item) for item in value)
    if kind.startswith("option "):
        return b"\x00" if value is None else b"\x01" + encode(kind[7:], value)
    if kind == "struct":
        return b"".join(encode(field_kind, field) for field_kind, field in value)
    raise ValueError(kind)


# --- EIP-712: structs as (name, [(type, field name, value)], [nested struct names]) ---


def word(kind, value, types):
    if kind.startswith("uint"):
        return value.to_bytes(32, "big")
    if kind == "address":
        return bytes(12) + value
    if kind == "bytes32":
        return value
    if kind == "string":
        return keccak(value.encode())
    if kind == "bytes":
        return keccak(value)
    if kind.endswith("[]"):
        return keccak(b"".join(word(kind[:-2], item, types) for item in value))
    return hash_struct(kind, value, types)


def type_text(name, types):
    return name + "(" + ",".join(f"{kind} {field}" for kind, field in types[name]) + ")"


def referenced(name, types, found):
    for kind, _ in types[name]:
        base = kind.removesuffix("[]")
        if base in types and base not in found:
            found.add(base)
            referenced(base, types, found)
    return found


def hash_struct(name, values, types):
    others = sorted(referenced(name, types, set()) - {name})
    head = keccak("".join(type_text(n, types) for n in [name] + others).encode())
    return keccak(head + b"".join(word(kind, value, types) for (kind, _), value in zip(types[name], values, strict=True)))


DOMAIN = {"EIP712Domain": [("string", "name"), ("string", "version"), ("uint256", "chainId")]}


def digest(name, values, types):
    separator = hash_struct("EIP712Domain", ["DeepNode", "1", CHAIN], DOMAIN)
    return keccak(b"\x19\x01" + separator + hash_struct(name, values, types))


# --- Merkle trees ---


def merkle_root(leaves):
    def top(hashes):
        if len(hashes) == 1:
            return hashes[0]
        # Split at the largest power of two below the count, as RFC 6962 does: the same tree, told from above.
        split = 1 << (len(hashes) - 1).bit_length() - 1
        return keccak(b"\x01" + top(hashes[:split]) + top(hashes[split:]))

    hashes = [keccak(b"\x00" + leaf) for leaf in leaves]
    return keccak(b"\x02" + len(leaves).to_bytes(8, "little") + (top(hashes) if hashes else bytes(32)))


# --- the examples; dn-core/tests/common/mod.rs builds the same ones ---

CHAIN = 0xDEE9
ATTO = 10**18
label = lambda text: keccak(text.encode())
SECRETS = {who: label(who) for who in ("payer", "worker", "gateway", "auditor")}
PAYER, WORKER, GATEWAY, AUDITOR = (address_of(secret) for secret in SECRETS.values())

sampling = [("u32", 700_000), ("u32", 40), ("u32", 950_000), ("u32", 50_000)]
sampling += [("u32", 1_100_000), ("i32", -500_000), ("i32", 250_000), ("u32", 64), ("u64", 0x0123456789ABCDEF)]
decoding = [
    ("list struct", [[("u32", 5), ("i32", -100_000_000)], [("u32", 50256), ("i32", 1)]]),
    ("list u32", [0, 7]),
    ("raw", b"\x02"),  # a JSON schema
    ("text", '{"type":"object"}'),
    ("option u8", 5),
]
price = [("u128", 3 * 10**12), ("u128", 9 * 10**12 + 1)]
request = [
    ("u64", CHAIN),
    ("raw", PAYER),
    ("raw", GATEWAY),
    ("raw", label("channel")),
    ("u32", 3),
    ("u32", 7),
    ("raw", label("model")),
    ("u16", 1),
    ("list u32", [1, 2, 0xFFFFFFFF]),
    ("struct", sampling),
    ("struct", decoding),
    ("u32", 256),
    ("list text", ["\n\n", "é stop"]),
    ("struct", price),
    ("raw", bytes(range(16))),
    ("u64", 1_800_000_000_000),
]
receipt_fields = [
    ("uint64", "chainId", CHAIN, "u64"),
    ("bytes32", "job", label("job"), "raw"),
    ("uint32", "domain", 7, "u32"),
    ("bytes32", "model", label("model"), "raw"),
    ("uint16", "numericSpec", 1, "u16"),
    ("bytes32", "promptHash", label("prompt"), "raw"),
    ("bytes32", "outputHash", label("output"), "raw"),
    ("bytes32", "traceRoot", label("trace"), "raw"),
    ("uint32", "promptTokens", 17, "u32"),
    ("uint32", "outputTokens", 0xFFFFFFFE, "u32"),
    ("uint8", "finish", 2, "u8"),
    ("uint128", "pricePromptToken", 3 * 10**12, "u128"),
    ("uint128", "priceOutputToken", 9 * 10**12 + 1, "u128"),
    ("uint128", "fee", 2**128 - 1, "u128"),
    ("address", "payer", PAYER, "raw"),
    ("bytes32", "channel", label("channel"), "raw"),
    ("uint32", "lane", 3, "u32"),
    ("address", "worker", WORKER, "raw"),
    ("address", "gateway", GATEWAY, "raw"),
    ("uint64", "startedMs", 1_799_999_990_000, "u64"),
    ("uint64", "finishedMs", 1_799_999_999_999, "u64"),
    ("uint64", "expiresMs", 1_800_000_000_000, "u64"),
]
voucher_fields = [
    ("uint64", "chainId", CHAIN, "u64"),
    ("bytes32", "channel", label("channel"), "raw"),
    ("uint32", "lane", 3, "u32"),
    ("uint128", "maxClaimable", 5 * ATTO // 2, "u128"),
    ("address", "signer", PAYER, "raw"),
    ("uint64", "expiresMs", 1_800_000_000_000, "u64"),
]

acceptance_fields = [
    ("uint64", "chainId", CHAIN, "u64"),
    ("bytes32", "escrow", label("channel"), "raw"),
    ("bytes32", "receipt", label("receipt"), "raw"),
    ("address", "payer", PAYER, "raw"),
    ("uint64", "expiresMs", 1_800_000_000_000, "u64"),
]


def session_fields(models):
    return [
        ("uint64", "chainId", CHAIN, "u64"),
        ("address", "owner", PAYER, "raw"),
        ("address", "session", WORKER, "raw"),
        ("uint64", "serial", 9, "u64"),
        ("uint128", "perCall", ATTO // 4, "u128"),
        ("uint128", "total", 5 * ATTO // 2, "u128"),
        ("bytes32[]", "models", models, "list raw"),
        ("uint64", "expiresMs", 1_800_000_000_000, "u64"),
    ]


def line_fields(lane):
    return [
        ("bytes32", "channel", label("channel"), "raw"),
        ("uint32", "lane", lane, "u32"),
        ("bytes32", "model", label("model"), "raw"),
        ("uint32", "domain", 7, "u32"),
        ("uint32", "receipts", 2 + lane, "u32"),
        ("uint64", "promptTokens", 2**40 + lane, "u64"),
        ("uint64", "outputTokens", 2**41 + lane, "u64"),
        ("uint128", "fees", ATTO + lane, "u128"),
    ]


def batch_fields(lanes):
    lines = [line_fields(lane) for lane in lanes]
    return [
        ("uint64", "chainId", CHAIN, "u64"),
        ("address", "worker", WORKER, "raw"),
        ("address", "gateway", GATEWAY, "raw"),
        ("uint64", "sequence", 41, "u64"),
        ("bytes32", "root", label("root"), "raw"),
        ("uint32", "count", sum(2 + lane for lane in lanes), "u32"),
        ("BatchLine[]", "lines", [plain(line) for line in lines], ("list struct", [canonical(line) for line in lines])),
        ("uint64", "expiresMs", 1_800_000_000_000, "u64"),
    ]


def plain(fields):
    return [value for _, _, value, _ in fields]


def canonical(fields):
    return [kind if isinstance(kind, tuple) else (kind, value) for _, _, value, kind in fields]


def types_of(fields):
    return [(kind, name) for kind, name, _, _ in fields]


TYPES = {
    "Receipt": types_of(receipt_fields),
    "Voucher": types_of(voucher_fields),
    "JobAcceptance": types_of(acceptance_fields),
    "SessionGrant": types_of(session_fields([])),
    "BatchRoot": types_of(batch_fields([])),
    "BatchLine": types_of(line_fields(0)),
}
hyperparameters = [("u32", value) for value in (22, 2048, 32, 4, 64, 5632, 32000, 2048, 0x461C4000, 64)]
hyperparameters += [("u8", 1), ("u8", 1), ("u32", 0x40000000), ("u32", 0x3727C5AC)]
hyperparameters += [("bool", False), ("bool", True), ("bool", False), ("option u32", 1024), ("bool", True)]
rope_scalings = {
    "rope_none": [("u8", 0)],
    "rope_linear": [("u8", 1), ("u32", 0x40000000)],
    "rope_yarn": [("u8", 2)] + [("u32", n) for n in (0x40800000, 32768, 0x42000000, 0x3F800000, 0x3FC00000)],
    "rope_llama3": [("u8", 3)] + [("u32", n) for n in (0x41000000, 0x3F800000, 0x40800000, 8192)],
    "rope_factors": [("u8", 4)],
}
manifest = [
    ("u16", 1),
    ("u16", 32),
    ("text", "llama"),
    ("struct", hyperparameters),
    ("raw", label("tensors")),
    ("raw", label("tokenizer")),
    ("raw", label("template")),
    ("option u32", 1),
    ("list u32", [2, 32000]),
]


def verdict(outcome):
    return [("raw", label("batch")), ("u32", 5), ("raw", AUDITOR), ("raw", outcome)]


proof = [("u64", 4), ("u64", 6), ("list raw", [label("left"), label("right")])]

OBJECTS = {
    "sampling": sampling,
    "decoding": decoding,
    "price": price,
    "job_request": request,
    "receipt": canonical(receipt_fields),
    "voucher": canonical(voucher_fields),
    "job_acceptance": canonical(acceptance_fields),
    "session_grant": canonical(session_fields([label("model"), label("other model")])),
    "session_grant_any": canonical(session_fields([])),
    "batch_line": canonical(line_fields(1)),
    "batch_root": canonical(batch_fields([0, 1])),
    "batch_root_empty": canonical(batch_fields([])),
    "hyperparameters": hyperparameters,
    **rope_scalings,
    "model_manifest": manifest,
    "model_manifest_bare": manifest[:7] + [("option u32", None), ("list u32", [])],
    "verdict_match": verdict(b"\x00"),
    "verdict_mismatch": verdict(b"\x01" + (259).to_bytes(4, "little")),
    "verdict_unavailable": verdict(b"\x02"),
    "verdict_unjudged": verdict(b"\x03"),
    "inclusion_proof": proof,
}
SIGNED = {
    "receipt": ("Receipt", receipt_fields, "worker"),
    "voucher": ("Voucher", voucher_fields, "payer"),
    "job_acceptance": ("JobAcceptance", acceptance_fields, "payer"),
    "session_grant": ("SessionGrant", session_fields([label("model"), label("other model")]), "payer"),
    "session_grant_any": ("SessionGrant", session_fields([]), "payer"),
    "batch_root": ("BatchRoot", batch_fields([0, 1]), "gateway"),
    "batch_root_empty": ("BatchRoot", batch_fields([]), "gateway"),
}
GROUP = {
    "Group": [("string", "name"), ("Person", "owner"), ("Person[]", "members"), ("bytes", "note")],
    "Person": [("string", "name"), ("address", "wallet")],
}
GROUP_VALUES = ["Herd", ["Cow", PAYER], [["Cow", PAYER], ["Bob", WORKER]], b"\x00\xff"]


def generate():
    objects = {}
    for name, fields in OBJECTS.items():
        data = encode("struct", fields)
        objects[name] = {"bytes": data.hex(), "keccak": keccak(data).hex()}
    signed = {}
    for name, (kind, fields, who) in SIGNED.items():
        to_sign = digest(kind, plain(fields), TYPES)
        signature = sign(SECRETS[who], to_sign)
        struct_hash = hash_struct(kind, plain(fields), TYPES)
        signed[name] = {"struct_hash": struct_hash.hex(), "digest": to_sign.hex(), "signature": signature.hex()}
    verdict_bytes = encode("struct", OBJECTS["verdict_mismatch"])
    return {
        "addresses": {who: address_of(secret).hex() for who, secret in SECRETS.items()},
        "objects": objects,
        "signed": signed,
        "group_struct_hash": hash_struct("Group", GROUP_VALUES, GROUP).hex(),
        "job_id": blake3(encode("struct", request)).hex(),
        "token_hash": blake3(b"".join(t.to_bytes(4, "little") for t in [1, 2, 0xFFFFFFFF])).hex(),
        "verdict_commitment": keccak(verdict_bytes + label("salt")).hex(),
        "merkle_roots": [merkle_root([bytes([i]) * i for i in range(count)]).hex() for count in range(18)],
    }


def main():
    text = json.dumps(generate(), indent=1) + "\n"
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET} differs from what {sys.argv[0]} computes")
    else:
        TARGET.write_text(text)


main()
