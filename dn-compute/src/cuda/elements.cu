// Operations element by element: `spec::add`, `spec::silu`, `spec::gelu`, `spec::rope`, `spec::embed`.

// The element of this thread.
DEVICE u64 element() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

// x += y, y as long as x or one row of it. n: the length of x in two words, the length of y.
KERNEL add_to(const Args a) {
  float* x = (float*)a.p[0];
  const float* y = (const float*)a.p[1];
  u64 i = element();
  if (i >= ((u64)a.n[1] << 32 | a.n[0])) return;
  float sum = add(x[i], y[i % a.n[2]]);
  if (!finite(sum)) atomicOr((u32*)a.p[2], BAD_OUTPUT);
  x[i] = sum;
}

DEVICE float sigmoid(float g) {
  // The smaller of |g| and 128; one that is no number counts as 128, and the product with it is none either.
  float most = magnitude(g) < 0x43000000u ? __uint_as_float(magnitude(g)) : 128.0f;
  i32 z = __float2int_rn(__fmul_rn(mul(most, __uint_as_float(0x3fb8aa3bu)), 65536.0f));
  float e = z >= (100 << 16) ? 0.0f : exp2_neg(z);
  float s = recip(add(1.0f, e));
  return (bits(flush(g)) >> 31) == 0 ? s : mul(e, s);
}

// gate = silu(gate) * up. n: the length in two words.
KERNEL silu_mul(const Args a) {
  float* gate = (float*)a.p[0];
  const float* up = (const float*)a.p[1];
  u64 i = element();
  if (i >= ((u64)a.n[1] << 32 | a.n[0])) return;
  float g = gate[i];
  float y = mul(mul(g, sigmoid(g)), up[i]);
  if (!finite(y)) atomicOr((u32*)a.p[2], BAD_OUTPUT);
  gate[i] = y;
}

// Phi(-a) of 0 <= a < 6.
DEVICE float upper_tail(float a) {
  float y = __uint_as_float(0x35ee34f5u);
  y = add(mul(y, a), __uint_as_float(0xb87d527bu));
  y = add(mul(y, a), __uint_as_float(0x3a716f8cu));
  y = add(mul(y, a), __uint_as_float(0xbc0ac571u));
  y = add(mul(y, a), __uint_as_float(0x3d5cb172u));
  y = add(mul(y, a), __uint_as_float(0x3eeac6f0u));
  y = add(mul(y, a), __uint_as_float(0x3f935af0u));
  y = add(mul(y, a), 1.0f);
  return exp2_neg(__float2int_rn(__fmul_rn(y, 65536.0f)));
}

// x = gelu(x). n: the length in two words.
KERNEL gelu_all(const Args a) {
  float* x = (float*)a.p[0];
  u64 i = element();
  if (i >= ((u64)a.n[1] << 32 | a.n[0])) return;
  float v = flush(x[i]);
  if (!finite(v)) {
    atomicOr((u32*)a.p[1], BAD_INPUT);
    return;
  }
  float size = __uint_as_float(magnitude(v));
  float t = size < 6.0f ? mul(size, upper_tail(size)) : 0.0f;
  x[i] = sub(v > 0.0f ? v : 0.0f, t);
}

// Pairs turned by a cosine and a sine; a thread takes a pair, or one of the elements that stay.
// x: [token][head][element]; turns: [token][pair]: cosine, sine.
// n: tokens, heads, elements of a head, those that turn, whether the pairs are halves.
KERNEL turn(const Args a) {
  float* x = (float*)a.p[0];
  const float2* turns = (const float2*)a.p[1];
  u32* fault = (u32*)a.p[2];
  u32 tokens = a.n[0], heads = a.n[1], width = a.n[2], turning = a.n[3];
  u32 pairs = turning / 2, items = width - pairs;
  u64 item = element();
  if (item >= (u64)tokens * heads * items) return;
  u64 head = item / items;
  u32 i = (u32)(item % items);
  float* own = x + head * width;
  if (i >= pairs) {
    u32 at = turning + (i - pairs);
    if (!finite(own[at])) atomicOr(fault, BAD_INPUT);
    own[at] = flush(own[at]);
    return;
  }
  u32 one = a.n[4] ? i : 2 * i, two = a.n[4] ? i + pairs : 2 * i + 1;
  float2 turn = turns[head / heads * pairs + i];
  float va = own[one], vb = own[two];
  float ya = sub(mul(va, turn.x), mul(vb, turn.y));
  float yb = add(mul(va, turn.y), mul(vb, turn.x));
  if (!finite(ya) || !finite(yb)) atomicOr(fault, BAD_OUTPUT);
  own[one] = ya;
  own[two] = yb;
}

// Rows of a matrix as numbers.
// q: [row][stride], of four bits [row][stride / 2]; m: [row][block]; minima: as m, or nothing; exponents: [row].
// p[6]: `above`. n: columns, stride, columns of a block, blocks, tokens, whether values are of four bits, their least.
KERNEL rows_of(const Args a) {
  const i8* q = (const i8*)a.p[0];
  const u16* m = (const u16*)a.p[1];
  const i16* minima = (const i16*)a.p[2];
  const i32* exponents = (const i32*)a.p[3];
  const u32* tokens = (const u32*)a.p[4];
  float* out = (float*)a.p[5];
  u32 cols = a.n[0];
  u64 i = element();
  if (i >= (u64)a.n[4] * cols) return;
  u64 row = tokens[i / cols];
  u32 c = (u32)(i % cols);
  u64 block = row * a.n[3] + c / a.n[2];
  i32 v;
  if (a.n[5]) {
    u32 place = c % 16, four = ((const u8*)q)[(row * a.n[1] + c / 16 * 16) / 2 + place / 8 * 4 + place % 4];
    u32 least = least_of(a.p[6], a.n[6], row, c / a.n[2], a.n[3]);
    v = (i8)((place % 8 < 4 ? four & 15 : four >> 4) + least);
  } else {
    v = q[row * a.n[1] + c];
  }
  v *= (i32)m[block];
  if (minima) v -= 16 * (i32)minima[block];
  out[i] = scale(__int2float_rn(v), exponents[row]);
}
