// f32 numbers and 64-bit integers held in u32: what every kernel is written in.
//
// No kernel has a variable of type f32. WGSL lets a driver contract, reassociate and flush float arithmetic, so numbers
// stay bits and their arithmetic is done on integers (see `spec::float`). A 64-bit integer is a vec2: low word, high word.

const ONE: u32 = 0x3f800000u;
const INFINITE: u32 = 0x7f800000u;
const SIGN: u32 = 0x80000000u;

// ---- 64-bit integers, two's complement ----

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let lo = a.x + b.x;
  return vec2<u32>(lo, a.y + b.y + select(0u, 1u, lo < a.x));
}
fn neg64(a: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(~a.x + 1u, ~a.y + select(0u, 1u, a.x == 0u));
}
fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}
fn widen(v: i32) -> vec2<u32> { return vec2<u32>(bitcast<u32>(v), bitcast<u32>(v >> 31u)); }
// v * 2^n, 0 < n < 32.
fn shl64(v: vec2<u32>, n: u32) -> vec2<u32> {
  return vec2<u32>(v.x << n, (v.y << n) | (v.x >> (32u - n)));
}
// floor(v / 2^n), 0 <= n < 64.
fn asr64(v: vec2<u32>, n: u32) -> vec2<u32> {
  let hi = bitcast<i32>(v.y);
  if (n == 0u) { return v; }
  if (n >= 32u) { return vec2<u32>(bitcast<u32>(hi >> (n - 32u)), bitcast<u32>(hi >> 31u)); }
  return vec2<u32>((v.x >> n) | (v.y << (32u - n)), bitcast<u32>(hi >> n));
}
fn mul32(a: u32, b: u32) -> vec2<u32> {
  let al = a & 0xffffu; let ah = a >> 16u; let bl = b & 0xffffu; let bh = b >> 16u;
  let low = al * bl; let one = al * bh; let two = ah * bl;
  let mid = (low >> 16u) + (one & 0xffffu) + (two & 0xffffu);
  return vec2<u32>((low & 0xffffu) | (mid << 16u), ah * bh + (one >> 16u) + (two >> 16u) + (mid >> 16u));
}
// a * m of any i32 and a 16-bit m; no product leaves 32 bits.
fn mul_u16(a: i32, m: u32) -> vec2<u32> {
  let high = (a >> 16u) * i32(m);
  return add64(vec2<u32>((bitcast<u32>(a) & 0xffffu) * m, 0u), shl64(widen(high), 16u));
}
// a * n of any i32 and an n of 16 bits with sign.
fn mul_i16(a: i32, n: i32) -> vec2<u32> {
  let low = bitcast<i32>(bitcast<u32>(a) & 0xffffu) * n;
  return add64(widen(low), shl64(widen((a >> 16u) * n), 16u));
}
// v / 2^n, nearest, ties to even; zero from n = 63 on. |v| < 2^62.
fn shift_round64(v: vec2<u32>, n: u32) -> vec2<u32> {
  if (n == 0u) { return v; }
  if (n > 62u) { return vec2<u32>(0u, 0u); }
  var half = vec2<u32>(0u, 0u);
  if (n - 1u >= 32u) { half.y = 1u << (n - 33u); } else { half.x = 1u << (n - 1u); }
  let odd = asr64(v, n).x & 1u;
  let up = add64(sub64(half, vec2<u32>(1u, 0u)), vec2<u32>(odd, 0u));
  return asr64(add64(v, up), n);
}
// v / 2^n, nearest, ties to even; zero from n = 32 on. v < 2^31.
fn shift_round(v: u32, n0: u32) -> u32 {
  let n = min(n0, 31u);
  if (n == 0u) { return v; }
  return (v + ((1u << n) >> 1u) - 1u + ((v >> n) & 1u)) >> n;
}

// ---- numbers ----

fn expo(x: u32) -> i32 { return i32((x >> 23u) & 255u); }
fn significand(x: u32) -> u32 { return (x & 0x7fffffu) | 0x800000u; }
fn magnitude(x: u32) -> u32 { return x & 0x7fffffffu; }
fn is_finite(x: u32) -> bool { return magnitude(x) < INFINITE; }
fn flush(x: u32) -> u32 { return select(x, 0u, magnitude(x) < 0x00800000u); }

// m * 2^e for m of 2^23 to 2^24, exactly; below 2^-126 it is +0, from 2^128 on infinite.
fn pack(sign: u32, m0: u32, e0: i32) -> u32 {
  var m = m0; var e = e0 + 150;
  if (m == 0x1000000u) { m = 0x800000u; e += 1; }
  if (e < 1) { return 0u; }
  if (e > 254) { return sign | INFINITE; }
  return sign | (u32(e) << 23u) | (m & 0x7fffffu);
}
// An exact sum rounded to 24 bits, nearest even, times 2^e: `spec::float::finish`.
fn finish(v: vec2<u32>, e: i32) -> u32 {
  let sign = v.y & SIGN;
  var a = v;
  if (sign != 0u) { a = neg64(v); }
  if ((a.x | a.y) == 0u) { return 0u; }
  var z = countLeadingZeros(a.y);
  if (a.y == 0u) {
    let low = countLeadingZeros(a.x);
    a = vec2<u32>(0u, a.x << low);
    z = 32u + low;
  } else if (z > 0u) {
    a = shl64(a, z);
  }
  var m = a.y >> 8u;
  let rest = a.y & 255u;
  if (rest > 128u || (rest == 128u && (a.x != 0u || (m & 1u) == 1u))) { m += 1u; }
  return pack(sign, m, e + 40 - i32(z));
}
// x * 2^e: `spec::float::scale`.
fn scale(x: u32, e: i32) -> u32 {
  if (!is_finite(x)) { return INFINITE; }
  if (expo(x) == 0) { return 0u; }
  return pack(x & SIGN, significand(x), expo(x) - 150 + e);
}
// The leading one of s at bit 30, what was cut off below in bit 0: rounded as IEEE 754 does, then flushed.
fn round_pack(sign: u32, e0: i32, s0: u32) -> u32 {
  var s = s0; var e = e0;
  if (e < 1) {
    let n = u32(1 - e);
    if (n > 31u) { return 0u; }
    s = (s >> n) | select(0u, 1u, (s << (32u - n)) != 0u);
    e = 1;
  }
  let r = s & 127u;
  s = s >> 7u;
  s += select(0u, 1u, r > 64u || (r == 64u && (s & 1u) == 1u));
  if (e > 254) { return sign | INFINITE; }
  let bits = s + (u32(e - 1) << 23u);
  if (bits < 0x00800000u) { return 0u; }
  return sign | min(bits, INFINITE);
}
// What is not finite stays so, whatever it meets: an operation looks at its results once.
fn mul(x: u32, y: u32) -> u32 {
  if (!is_finite(x) || !is_finite(y)) { return INFINITE; }
  if (expo(x) == 0 || expo(y) == 0) { return 0u; }
  let p = mul32(significand(x), significand(y));          // 2^46 to 2^48
  var s = (p.y << 15u) | (p.x >> 17u);                    // bit 46 to bit 29
  var rest = p.x & 0x1ffffu;
  var e = expo(x) + expo(y) - 126;
  if (s < 0x40000000u) {
    s = (s << 1u) | (rest >> 16u);
    rest = rest & 0xffffu;
    e -= 1;
  }
  return round_pack((x ^ y) & SIGN, e, s | select(0u, 1u, rest != 0u));
}
fn add(a: u32, b: u32) -> u32 {
  if (!is_finite(a) || !is_finite(b)) { return INFINITE; }
  var x = a; var y = b;
  if (magnitude(x) < magnitude(y)) { x = b; y = a; }
  if (expo(x) == 0) { return 0u; }
  if (expo(y) == 0) { return x; }
  let n = u32(expo(x) - expo(y));
  var p = significand(x) << 7u;
  var q = significand(y) << 7u;
  if (n > 31u) { q = 1u; } else if (n > 0u) { q = (q >> n) | select(0u, 1u, (q << (32u - n)) != 0u); }
  let sign = x & SIGN;
  if (((x ^ y) & SIGN) != 0u) { p -= q; } else { p += q; }
  if (p == 0u) { return 0u; }
  if (p >= 0x80000000u) { return round_pack(sign, expo(x) + 1, (p >> 1u) | (p & 1u)); }
  let z = countLeadingZeros(p) - 1u;
  return round_pack(sign, expo(x) - i32(z), p << z);
}
fn sub(a: u32, b: u32) -> u32 { return add(a, b ^ SIGN); }

// 1 / d of a positive normal d: 25 bits of 2^47 / D by long division. `spec::float::recip`.
fn recip(d: u32) -> u32 {
  let m = significand(d);
  var rest = 0x800000u; var q = 0u;
  if (rest >= m) { rest -= m; q = 1u; }
  for (var i = 0; i < 24; i++) {
    rest = rest << 1u;
    q = q << 1u;
    if (rest >= m) { rest -= m; q |= 1u; }
  }
  if (2u * rest > m) { q += 1u; }
  return pack(0u, q, -47 - (expo(d) - 150));
}
// Whether r * r * m <= 2^t (t of 72 or 74), r < 2^26, m < 2^26.
fn square_fits(r: u32, m: u32, t: u32) -> bool {
  let s = mul32(r, r);
  let low = mul32(s.x, m);
  let high = mul32(s.y, m);
  let mid = low.y + high.x;
  let top = high.y + select(0u, 1u, mid < low.y);
  let limit = 1u << (t - 64u);
  return top < limit || (top == limit && mid == 0u && low.x == 0u);
}
// 1 / sqrt(v) of a positive normal v, bit by bit. `spec::float::rsqrt`.
fn rsqrt(v: u32) -> u32 {
  var m = significand(v) << 1u;
  var x = expo(v) - 151;
  if ((x & 1) != 0) { m = m << 1u; x -= 1; }
  var r = 0u;
  for (var bit = 0x1000000u; bit > 0u; bit = bit >> 1u) {
    if (square_fits(r | bit, m, 72u)) { r |= bit; }
  }
  // A tie cannot occur, so "at most" and "below" are the same.
  if (square_fits(2u * r + 1u, m, 74u)) { r += 1u; }
  return pack(0u, r, -36 - x / 2);
}

// 2^(f / 65536) in units of 2^-16: `spec::exp2`.
fn exp2_q16(f: u32) -> u32 {
  var y = 900u;
  y = 3386u + ((f * y + 32768u) >> 16u);
  y = 15836u + ((f * y + 32768u) >> 16u);
  y = 45414u + ((f * y + 32768u) >> 16u);
  return 65536u + ((f * y + 32768u) >> 16u);
}
// x * 2^16 to the nearest integer, of 0 <= x < 2^8.
fn to_q16(x: u32) -> i32 {
  if (expo(x) == 0) { return 0; }
  return i32(shift_round(significand(x), u32(134 - expo(x))));
}
// 2^(-z / 65536) as a number: exact.
fn exp2_neg(z: i32) -> u32 {
  let y = exp2_q16(bitcast<u32>(-z) & 0xffffu);
  return pack(0u, y << 7u, ((-z) >> 16u) - 23);
}

// ---- activations ----

const ZERO_EXPONENT: i32 = -128;
// From 2^100 on nothing is quantised.
const RANGE: u32 = 227u << 23u;

// The exponent of a vector whose largest magnitude is `top`: `spec::quantise::exponent`.
fn exponent(top: u32) -> i32 {
  let e = i32(top >> 23u) - 127;
  if (e < -100) { return ZERO_EXPONENT; }
  return select(e - 14, e - 13, shift_round(significand(top), 9u) > 32639u);
}
// RNE(x * 2^-et).
fn integer(x: u32, et: i32) -> i32 {
  if (et == ZERO_EXPONENT || expo(x) == 0) { return 0; }
  let a = i32(shift_round(significand(x), u32(150 + et - expo(x))));
  return select(a, -a, (x & SIGN) != 0u);
}

// ---- where and what ----

// One workgroup after another, over the two dimensions that a dispatch has room in.
fn linear_group(id: vec3<u32>, count: vec3<u32>) -> u32 { return id.x + id.y * count.x; }
// Bits of the fault word.
const BAD_INPUT: u32 = 1u;
const BAD_OUTPUT: u32 = 2u;
