// What every kernel is written in: numbers, their integers, reductions.
//
// Arithmetic on floats is `__fadd_rn` and its like, which are never contracted, or is done on bits (`spec::float`).
// Everything with more than two terms is a sum or a maximum of integers, so that no order matters.

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

// What a kernel is given: addresses, then numbers.
struct Args {
  void* p[11];
  u32 n[16];
};

#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__

// Bits of the fault word. The host finds out which element is to blame.
#define BAD_INPUT 1u
#define BAD_OUTPUT 2u

// ---- numbers: `spec::float` ----

DEVICE u32 bits(float x) { return __float_as_uint(x); }
DEVICE u32 magnitude(float x) { return bits(x) & 0x7fffffffu; }
DEVICE bool finite(float x) { return magnitude(x) < 0x7f800000u; }
DEVICE float flush(float x) { return magnitude(x) < 0x00800000u ? 0.0f : x; }
DEVICE float add(float a, float b) { return flush(__fadd_rn(flush(a), flush(b))); }
DEVICE float sub(float a, float b) { return flush(__fsub_rn(flush(a), flush(b))); }
DEVICE float mul(float a, float b) { return flush(__fmul_rn(flush(a), flush(b))); }

// x * 2^e: below 2^-126 it is +0, from 2^128 on infinite.
DEVICE float scale(float x, i32 e) {
  i32 own = (i32)(magnitude(x) >> 23);
  if (own == 0) return 0.0f;
  u32 sign = bits(x) & 0x80000000u;
  if (own == 255) return __uint_as_float(sign | 0x7f800000u);
  i32 sum = own + e;
  if (sum < 1) return 0.0f;
  if (sum > 254) return __uint_as_float(sign | 0x7f800000u);
  return __uint_as_float((bits(x) & 0x807fffffu) | ((u32)sum << 23));
}
// An exact sum rounded once to 24 bits, times 2^e.
DEVICE float finish(i64 sum, i32 e) { return scale(__ll2float_rn(sum), e); }
// 1 / d of a positive normal d.
DEVICE float recip(float d) { return flush(__fdiv_rn(1.0f, d)); }

// Whether r * r * m <= 2^(64 + t), for r < 2^26 and m < 2^26.
DEVICE bool square_fits(u64 r, u64 m, u32 t) {
  u64 square = r * r;
  u64 high = __umul64hi(square, m), low = square * m, limit = 1ull << t;
  return high < limit || (high == limit && low == 0);
}
// 1 / sqrt(v) of a positive normal v, to nearest: a quotient that is near, then the exact integer beside it.
DEVICE float rsqrt_rn(float v) {
  u32 m = ((bits(v) & 0x7fffffu) | 0x800000u) << 1;
  i32 x = (i32)(bits(v) >> 23) - 151;
  if (x & 1) {
    m <<= 1;
    x -= 1;
  }
  u64 r = (u64)__float2uint_rn(__fdiv_rn(68719476736.0f, __fsqrt_rn(__uint2float_rn(m))));
  while (!square_fits(r, m, 8)) r -= 1;
  while (square_fits(r + 1, m, 8)) r += 1;
  // A tie cannot occur, so "at most" and "below" are the same.
  if (square_fits(2 * r + 1, m, 10)) r += 1;
  return scale(__uint2float_rn((u32)r), -36 - x / 2);
}

// ---- shifts that round to nearest, ties to even: `spec::exp2` ----

// v < 2^31; zero from n = 32 on.
DEVICE u32 shift_round(u32 v, u32 n) {
  if (n == 0) return v;
  if (n > 31) n = 31;
  return (v + ((1u << n) >> 1) - 1 + ((v >> n) & 1)) >> n;
}
// |v| < 2^62; zero from n = 63 on.
DEVICE i64 shift_round(i64 v, u32 n) {
  if (n == 0) return v;
  if (n > 62) return 0;
  return (v + ((1ll << (n - 1)) - 1) + ((v >> n) & 1)) >> n;
}
DEVICE i64 shift_left(i64 v, u32 n) { return (i64)((u64)v << n); }

// 2^(f / 65536) in units of 2^-16.
DEVICE u32 exp2_q16(u32 f) {
  u32 y = 900;
  y = 3386 + ((f * y + 32768) >> 16);
  y = 15836 + ((f * y + 32768) >> 16);
  y = 45414 + ((f * y + 32768) >> 16);
  return 65536 + ((f * y + 32768) >> 16);
}
// 2^(-z / 65536) as a number, exactly; z of 0 to 100 * 65536.
DEVICE float exp2_neg(i32 z) { return scale(__uint2float_rn(exp2_q16((u32)(-z) & 0xffffu)), ((-z) >> 16) - 16); }

// ---- activations: `spec::quantise` ----

#define ZERO_EXPONENT (-128)
// Bits of 2^100: from there on nothing is quantised.
#define RANGE (227u << 23)

// The exponent of a vector whose largest magnitude has these bits.
DEVICE i32 exponent(u32 top) {
  i32 e = (i32)(top >> 23) - 127;
  if (e < -100) return ZERO_EXPONENT;
  u32 significand = (top & 0x7fffffu) | 0x800000u;
  return shift_round(significand, 9) > 32639 ? e - 13 : e - 14;
}
// RNE(x * 2^-et); zero for what cannot be quantised, which is a fault already.
DEVICE i32 integer(float x, i32 et) {
  if (et == ZERO_EXPONENT || magnitude(x) >= RANGE) return 0;
  return __float2int_rn(__fmul_rn(x, __uint_as_float((u32)(127 - et) << 23)));
}
// A = 256 * high + low, both of eight bits with sign.
DEVICE i32 high_digit(i32 a) { return (a + 128) >> 8; }
DEVICE i32 low_digit(i32 a) { return a - 256 * high_digit(a); }
// A digit of four integers in a word.
DEVICE u32 pack(i32 a, i32 b, i32 c, i32 d) {
  return ((u32)a & 255u) | ((u32)b & 255u) << 8 | ((u32)c & 255u) << 16 | (u32)d << 24;
}

// ---- reductions over a block of whole warps; every thread takes part and gets the result ----

#define LANES 32
#define ALL_LANES 0xffffffffu

DEVICE u32 larger(u32 a, u32 b) { return a > b ? a : b; }
DEVICE i32 larger(i32 a, i32 b) { return a > b ? a : b; }
DEVICE u32 smaller(u32 a, u32 b) { return a < b ? a : b; }
DEVICE i32 smaller(i32 a, i32 b) { return a < b ? a : b; }

DEVICE u32 warp_max(u32 v) {
  for (u32 n = LANES / 2; n > 0; n /= 2) v = larger(v, __shfl_xor_sync(ALL_LANES, v, n));
  return v;
}
DEVICE i32 warp_max(i32 v) {
  for (u32 n = LANES / 2; n > 0; n /= 2) v = larger(v, __shfl_xor_sync(ALL_LANES, v, n));
  return v;
}
DEVICE i64 warp_sum(i64 v) {
  for (u32 n = LANES / 2; n > 0; n /= 2) v += __shfl_xor_sync(ALL_LANES, v, n);
  return v;
}
// `room`: a place for each warp.
DEVICE u32 block_max(u32 v, u32* room) {
  v = warp_max(v);
  if (threadIdx.x % LANES == 0) room[threadIdx.x / LANES] = v;
  __syncthreads();
  v = 0;
  for (u32 i = 0; i < blockDim.x / LANES; i++) v = larger(v, room[i]);
  __syncthreads();
  return v;
}
DEVICE i64 block_sum(i64 v, i64* room) {
  v = warp_sum(v);
  if (threadIdx.x % LANES == 0) room[threadIdx.x / LANES] = v;
  __syncthreads();
  v = 0;
  for (u32 i = 0; i < blockDim.x / LANES; i++) v += room[i];
  __syncthreads();
  return v;
}
