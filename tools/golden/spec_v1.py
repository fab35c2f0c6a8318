"""Numeric specification V1 in Python integers and fractions, written from docs/numerics.md, not from the Rust code.

An f32 is held as a Fraction whose value is an f32; `bits` and `value` convert. Slow and plain on purpose.
"""
from collections import namedtuple
from fractions import Fraction as F
from math import isqrt

TWO = F(2)
LEAST = TWO ** -126


class Refused(Exception):
    """The specification makes this call an error."""


# ---- numbers ---------------------------------------------------------------------------------------------------

def rne(x):
    """Nearest integer to a Fraction, ties to even."""
    return round(x)  # Python rounds fractions half to even


def floor_log2(x):
    """Largest e with 2^e <= x, for a positive Fraction."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if TWO ** e <= x else e - 1


def round_24(x):
    """To 24 significant bits, nearest even, exponent unbounded."""
    if x == 0:
        return F(0)
    unit = TWO ** (floor_log2(abs(x)) - 23)
    return rne(x / unit) * unit


def flush(x):
    return F(0) if abs(x) < LEAST else x


def ieee(x):
    """To f32 as IEEE 754 rounds, gradual underflow included; then flushed."""
    if x == 0:
        return F(0)
    unit = TWO ** max(floor_log2(abs(x)) - 23, -149)
    y = rne(x / unit) * unit
    if abs(y) >= TWO ** 128:
        raise Refused("overflow")
    return flush(y)


def mul(a, b):
    return ieee(flush(a) * flush(b))


def add(a, b):
    return ieee(flush(a) + flush(b))


def sub(a, b):
    return ieee(flush(a) - flush(b))


def scale(v, e):
    y = flush(v * TWO ** e)
    if abs(y) >= TWO ** 128:
        raise Refused("overflow")
    return y


def finish(s, e):
    return scale(round_24(F(s)), e)


def recip(d):
    return round_24(1 / d)


def rsqrt(v):
    # floor(sqrt(1/v) * 2^k) with many more bits than 24, and a sticky bit for the rest: no tie is possible.
    k = 200 + floor_log2(v)
    root = isqrt((2 ** (2 * k) * v.denominator) // v.numerator)
    return round_24(F(2 * root + 1, 2 ** (k + 1)))


def value(bits):
    """The value of f32 bits, unflushed."""
    sign = -1 if bits >> 31 else 1
    exponent, fraction = (bits >> 23) & 255, bits & 0x7FFFFF
    if exponent == 255:
        raise Refused("not finite")
    if exponent == 0:
        return sign * fraction * TWO ** -149
    return sign * (fraction | 0x800000) * TWO ** (exponent - 150)


def bits(x):
    """The f32 bits of a value that is zero or a normal f32."""
    if x == 0:
        return 0
    e = floor_log2(abs(x))
    m = abs(x) / TWO ** (e - 23)
    assert m.denominator == 1 and 2 ** 23 <= m < 2 ** 24 and -126 <= e <= 127
    return (2 ** 31 if x < 0 else 0) | (e + 127) << 23 | int(m) & 0x7FFFFF


# ---- weights ---------------------------------------------------------------------------------------------------

# One row: columns of a full block, exponent, mantissas, minima (None without), integers.
Row = namedtuple("Row", "block er m n q")


def exponent(top, least, most):
    """The smallest exponent under which `top` is at least 2^least and rounds to at most `most`; None for zero."""
    if top == 0:
        return None
    e = floor_log2(top) - least
    return e + 1 if rne(top / TWO ** e) > most else e


def row(block, scales, minima, q):
    """Signed scales and minima per block (Fractions), integers per column."""
    q, scales = list(q), list(scales)
    for b, d in enumerate(scales):
        part = slice(b * block, (b + 1) * block)
        if not any(q[part]):
            scales[b] = F(0)
        elif d < 0:
            q[part], scales[b] = [-v for v in q[part]], -d
    found = [exponent(max(scales), 15, 65535)]
    if minima is not None:
        top = exponent(max(abs(v) for v in minima), 14, 32767)
        found.append(None if top is None else top - 4)
    er = max((e for e in found if e is not None), default=0)
    m = [rne(d / TWO ** er) for d in scales]
    for b, mantissa in enumerate(m):
        if mantissa == 0:
            part = slice(b * block, (b + 1) * block)
            q[part] = [0] * len(q[part])
    n = None if minima is None else [rne(v / TWO ** (er + 4)) for v in minima]
    return Row(block, er, m, n, q)


def row_from_f32(w, block=32):
    """f32 values; a block of 0 is the whole row."""
    block = block or len(w)
    cut = [w[i:i + block] for i in range(0, len(w), block)]
    if max(abs(v) for v in w) < TWO ** -100:
        return Row(block, 0, [0] * len(cut), None, [0] * len(w))
    scales = [max(abs(v) for v in b) / 127 for b in cut]
    er = exponent(max(scales), 15, 65535)
    m = [rne(d / TWO ** er) for d in scales]
    q = []
    for b, mantissa in zip(cut, m):
        q += [max(-127, min(127, rne(flush(v) / TWO ** er / mantissa))) if mantissa else 0 for v in b]
    return Row(block, er, m, None, q)


def half(low, high):
    """The value of the two bytes of an f16."""
    bits = low | high << 8
    sign, e, fraction = (-1 if bits >> 15 else 1), bits >> 10 & 31, bits & 1023
    if e == 31:
        raise Refused("not finite")
    return sign * (fraction * TWO ** -24 if e == 0 else (1024 + fraction) * TWO ** (e - 25))


def signed(byte):
    return byte - 256 if byte > 127 else byte


def row_from_q8_0(data):
    scales, q = [], []
    for at in range(0, len(data), 34):
        scales.append(half(*data[at:at + 2]))
        q += [signed(byte) for byte in data[at + 2:at + 34]]
    if -128 in q:
        raise Refused("-128")
    return row(32, scales, None, q)


def row_from_q4_0(data):
    scales, q = [], []
    for at in range(0, len(data), 18):
        scales.append(half(*data[at:at + 2]))
        q += [(data[at + 2 + c % 16] >> 4 * (c // 16) & 15) - 8 for c in range(32)]
    return row(32, scales, None, q)


def six_bits(s):
    """Twelve bytes as a number: the fields of eight scales and eight minima."""
    scales, minima = [], []
    for j in range(8):
        if j < 4:
            scales.append(s[j] % 64)
            minima.append(s[4 + j] % 64)
        else:
            scales.append(s[4 + j] % 16 + 16 * (s[j - 4] // 64))
            minima.append(s[4 + j] // 16 + 16 * (s[j] // 64))
    return scales, minima


def row_from_q4_k(data, fifth=False):
    size = 176 if fifth else 144
    scales, minima, q = [], [], []
    for at in range(0, len(data), size):
        block = data[at:at + size]
        d, least = half(*block[:2]), half(*block[2:4])
        s, n = six_bits(block[4:16])
        scales += [d * v for v in s]
        minima += [least * v for v in n]
        upper, fours = (block[16:48], block[48:]) if fifth else ([0] * 32, block[16:])
        for c in range(256):
            b, i = c // 32, c % 32
            q.append((fours[b // 2 * 32 + i] >> 4 * (b % 2) & 15) + 16 * (upper[i] >> b & 1))
    return row(32, scales, minima, q)


def row_from_q5_k(data):
    return row_from_q4_k(data, True)


def row_from_q6_k(data):
    scales, q = [], []
    for at in range(0, len(data), 210):
        block = data[at:at + 210]
        d = half(*block[208:])
        scales += [d * signed(byte) for byte in block[192:208]]
        for c in range(256):
            side, part, i = c // 128, c % 128 // 32, c % 32
            four = block[64 * side + 32 * (part % 2) + i] >> 4 * (part // 2) & 15
            two = block[128 + 32 * side + i] >> 2 * part & 3
            q.append(four + 16 * two - 32)
    return row(16, scales, None, q)


def tile(rows, length):
    """Canonical bytes; `length` is 16, 32, 128, or 0 for the whole row."""
    out = bytes([length, rows[0].n is not None])
    for r in rows:
        out += r.er.to_bytes(2, "little", signed=True)
        out += b"".join(m.to_bytes(2, "little") for m in r.m)
        out += b"".join(n.to_bytes(2, "little", signed=True) for n in r.n or [])
        out += bytes(v & 255 for v in r.q)
    return out


def weights(r):
    """The integers of the unit 2^er that the weights of a row are."""
    n = r.n or [0] * len(r.m)
    return [v * r.m[c // r.block] - 16 * n[c // r.block] for c, v in enumerate(r.q)]


def embed(r):
    return [scale(F(w), r.er) for w in weights(r)]


# ---- activations -----------------------------------------------------------------------------------------------

ZERO_EXPONENT = -128


def quantise(x):
    """Integers and exponent of a vector."""
    top = max(abs(v) for v in x)
    if top >= TWO ** 100:
        raise Refused("2^100 or more")
    if top < TWO ** -100:
        return [0] * len(x), ZERO_EXPONENT
    et = floor_log2(top) - 14
    if rne(top / TWO ** et) > 32639:
        et += 1
    return [rne(v / TWO ** et) for v in x], et


# ---- operations ------------------------------------------------------------------------------------------------

def linear(rows, x):
    """x: one activation row."""
    a, et = quantise(x)
    return [finish(sum(w * v for w, v in zip(weights(r), a)), r.er + et) for r in rows]


def rms_norm(weight, eps, x):
    a, et = quantise(x)
    mean = mul(round_24(F(sum(v * v for v in a))), recip(F(len(x))))
    ms = F(0) if et == ZERO_EXPONENT else scale(mean, 2 * et)
    r = rsqrt(add(ms, eps))
    return [mul(mul(v, r), w) for v, w in zip(x, weight)]


def exp2_q16(f):
    y = 900
    for c in (3386, 15836, 45414, 65536):
        y = c + (f * y + 32768) // 65536
    return y


LOG2_E = value(0x3FB8AA3B)


def silu_mul(g, u):
    z = rne(mul(min(abs(g), F(128)), LOG2_E) * 65536)
    e = F(exp2_q16(-z % 65536)) * TWO ** (-z // 65536 - 16) if z < 100 * 65536 else F(0)
    s = recip(add(F(1), e))
    return mul(mul(g, s if flush(g) >= 0 else mul(e, s)), u)


# ---- rope ------------------------------------------------------------------------------------------------------

INV_TWO_PI_Q64 = 0x28BE60DB9391054A
HALF_PI_Q62 = 0x6487ED5110B4611A
LOG2_E_Q60 = 0x171547652B82FE17
ONE = 1 << 62


def log2_q56(v):
    e = floor_log2(v)
    m = int(v / TWO ** e * ONE)
    log = e
    for _ in range(56):
        m = m * m >> 62
        log *= 2
        if m >= 2 * ONE:
            m >>= 1
            log += 1
    return log


def exp2_neg(x):
    whole, fraction = x >> 56, x & (1 << 56) - 1
    if fraction == 0:
        return ONE, whole
    g = (1 << 56) - fraction
    p, factor = ONE, 2 * ONE
    for bit in range(55, -1, -1):
        factor = isqrt(factor << 62)
        if g >> bit & 1:
            p = p * factor >> 62
    return p, whole + 1


def sine_of_quarter(r):
    a = r * HALF_PI_Q62 >> 62
    square = a * a >> 62
    t = ONE
    for k in range(13, 0, -1):
        t = ONE - (square * t >> 62) // (2 * k * (2 * k + 1))
    return a * t >> 62


def cos_sin(turn):
    r = turn & ONE - 1
    s, c = sine_of_quarter(r), sine_of_quarter(ONE - r)
    s, c = [(s, c), (c, -s), (-s, -c), (-c, s)][turn >> 62]
    return finish(c, -62), finish(s, -62)


def unscaled_turn(rotary_dim, log, i):
    p, n = exp2_neg(2 * i * log // rotary_dim)
    return p * INV_TWO_PI_Q64 >> 62 + n


LN_2_OVER_10_Q64 = 0x11BE9BFF2E94BF5D


def yarn_attention(factor):
    return finish((1 << 56) + (log2_q56(factor) * LN_2_OVER_10_Q64 >> 64), -56)


def scaled_turn(rotary_dim, log, i, scaling):
    """scaling: None, or a name and its parameters (numbers are Fractions that f32 holds)."""
    t = unscaled_turn(rotary_dim, log, i)
    if scaling is None:
        return t
    name, *rest = scaling
    if name == "linear":
        return int(t / rest[0])
    if name == "factors":
        return int(t / rest[0][i])
    if name == "llama3":
        factor, low, high, original = rest
        r = original * t >> 32
        low, high = int(low * 2 ** 32), int(high * 2 ** 32)
        if r <= low:
            return int(t / factor)
        if r >= high:
            return t
        s = (r - low << 32) // (high - low)
        return t * s + int(t / factor) * (2 ** 32 - s) >> 32
    assert name == "yarn"
    factor, original, fast, slow, _ = rest
    r = [original * unscaled_turn(rotary_dim, log, j) >> 32 for j in range(rotary_dim)]
    first = max(0, sum(x >= fast * 2 ** 32 for x in r) - 1)
    last = min(rotary_dim - 1, sum(x > slow * 2 ** 32 for x in r))
    if i <= first:
        return t
    if i >= last:
        return int(t / factor)
    return (t * (last - i) + int(t / factor) * (i - first)) // (last - first)


def rope_row(rotary_dim, theta, position, scaling=None):
    log = log2_q56(theta)
    row = []
    for i in range(rotary_dim // 2):
        cos, sin = cos_sin(position * scaled_turn(rotary_dim, log, i, scaling) % 2 ** 64)
        if scaling and scaling[0] == "yarn":
            cos, sin = mul(cos, scaling[5]), mul(sin, scaling[5])
        row.append((cos, sin))
    return row


def rope(head, rotary_dim, row, interleaved):
    out = [flush(v) for v in head]
    for i, (cos, sin) in enumerate(row):
        a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + rotary_dim // 2)
        out[a] = sub(mul(head[a], cos), mul(head[b], sin))
        out[b] = add(mul(head[a], sin), mul(head[b], cos))
    return out


# ---- attention -------------------------------------------------------------------------------------------------

def score_scale(d):
    return finish(isqrt(LOG2_E_Q60 * LOG2_E_Q60 // d), -60)


def seen(mask, position, held):
    """The keys that a query sees: mask is "causal", "full" or the length of a window."""
    if mask == "full":
        return range(held)
    return range(0 if mask == "causal" else max(0, position + 1 - mask), position + 1)


def attention(q, keys, values, seen=None):
    """One query head over the keys it sees (all, unless a range is given); keys and values as lists of f32 vectors."""
    seen = range(len(keys)) if seen is None else seen
    d = len(q)
    aq, eq = quantise([mul(v, score_scale(d)) for v in q])
    whole, power, with_value, quantised = {}, {}, {}, {}
    for n in seen:
        ak, ek = quantise(keys[n])
        av, ev = quantise(values[n])
        s = rne(sum(a * b for a, b in zip(aq, ak)) * TWO ** (eq + ek + 16))
        s = max(-2 ** 30, min(2 ** 30, s))
        whole[n] = s >> 16
        power[n] = exp2_q16(s & 65535)
        with_value[n] = (s >> 16) + ev
        quantised[n] = av
    top, top_value = max(whole.values()), max(with_value.values())
    den, num = 0, [0] * d
    for b in sorted({n // 64 for n in seen}):
        block = [n for n in seen if n // 64 == b]
        bt, bv = max(whole[n] for n in block), max(with_value[n] for n in block)
        p = {n: min(rne(F(power[n], 2 ** (bt - whole[n] + 3))), 16383) for n in block}
        pv = {n: min(rne(F(power[n], 2 ** (bv - with_value[n] + 3))), 16383) for n in block}
        den += rne(F(sum(p.values()) << 16, 2 ** (top - bt)))
        for c in range(d):
            num[c] += rne(F(sum(pv[n] * quantised[n][c] for n in block) << 16, 2 ** (top_value - bv)))
    factor = recip(round_24(F(den)))
    return [scale(mul(round_24(F(n)), factor), top_value - top) for n in num]


# ---- encoders --------------------------------------------------------------------------------------------------

def layer_norm(weight, bias, eps, x):
    n = recip(F(len(x)))
    a, et = quantise(x)
    mean = F(0) if et == ZERO_EXPONENT else scale(mul(round_24(F(sum(a))), n), et)
    y = [sub(v, mean) for v in x]
    b, ey = quantise(y)
    spread = len(x) * sum(v * v for v in b) - sum(b) ** 2
    rest = F(0) if ey == ZERO_EXPONENT else scale(mul(round_24(F(sum(b))), n), ey)
    variance = F(0) if ey == ZERO_EXPONENT else scale(mul(mul(round_24(F(spread)), n), n), 2 * ey)
    r = rsqrt(add(variance, eps))
    return [add(mul(mul(sub(v, rest), r), w), c) for v, w, c in zip(y, weight, bias)]


GELU = [value(b) for b in (0x35EE34F5, 0xB87D527B, 0x3A716F8C, 0xBC0AC571, 0x3D5CB172, 0x3EEAC6F0, 0x3F935AF0, 0x3F800000)]


def gelu(x):
    x = flush(x)
    a = abs(x)
    if a >= 6:
        return max(x, F(0))
    p = GELU[0]
    for c in GELU[1:]:
        p = add(mul(p, a), c)
    z = rne(p * 65536)
    tail = F(exp2_q16(-z % 65536)) * TWO ** (-z // 65536 - 16)
    return sub(max(x, F(0)), mul(a, tail))


def pool(mean, rows):
    """Rows of f32 to one vector of length one, in units of 2^-24."""
    rows = [quantise(r) for r in (rows if mean else rows[:1])]
    top = max(e for _, e in rows)
    sums = [sum(rne(F(a[c] << 16, 2 ** (top - e))) for a, e in rows) for c in range(len(rows[0][0]))]
    most = max(abs(n) for n in sums)
    if most == 0:
        return [0] * len(sums)
    held = [rne(n / TWO ** (most.bit_length() - 1 - 22)) for n in sums]
    squares = sum(m * m for m in held)
    out = [isqrt((m * m << 50) // squares) + 1 >> 1 for m in held]
    return [-v if m < 0 else v for v, m in zip(out, held)]
