// out[t][r] = finish(sum over blocks of m * (sum q * A) - 16 * n * (sum A), er + et): `spec::linear`.
//
// For few tokens: a warp takes some rows of weights and some tokens, its lanes pieces of sixteen columns; a piece lies in one
// block. The sums are exact integers, so how the columns are shared cannot change a bit.
//
// q: [row][stride], of four bits [row][stride / 2]; m: [row][block]; minima: as m, or nothing; exponents: [row].
// high, low: [token][stride]; token_exponents: [token]; sums: [token][stride / 16]. out: [token][row].
// p[10]: where values are of four bits `above`, or nothing.
// n: rows, stride, pieces, log2 of the pieces of a block, blocks, tokens, whether values are of four bits, their least.

#define WARPS 4

// Values of four bits count from the least of the matrix, or in blocks whose bit of `above` is set from one more:
// [row][block / 32]. This tells from where, as four bytes.
DEVICE u32 least_of(const void* above, u32 least, u64 row, u32 block, u32 blocks) {
  if (above) least += ((const u32*)above)[row * ((blocks + 31) / 32) + block / 32] >> (block % 32) & 1;
  return (least & 255u) * 0x01010101u;
}
// Four bytes below 16 and four others, added one by one.
DEVICE u32 add_bytes(u32 fours, u32 least) { return (fours + (least & 0x7f7f7f7fu)) ^ (least & 0x80808080u); }
// The signed bytes of a piece of four bits: the low halves of a word's bytes are four columns, the high halves the next four.
DEVICE uint4 bytes_of(u32 first, u32 second, u32 least) {
  uint4 w;
  w.x = add_bytes(first & 0x0f0f0f0fu, least);
  w.y = add_bytes(first >> 4 & 0x0f0f0f0fu, least);
  w.z = add_bytes(second & 0x0f0f0f0fu, least);
  w.w = add_bytes(second >> 4 & 0x0f0f0f0fu, least);
  return w;
}

DEVICE i32 dot16(uint4 w, uint4 a) {
  return __dp4a((i32)w.w, (i32)a.w, __dp4a((i32)w.z, (i32)a.z, __dp4a((i32)w.y, (i32)a.y, __dp4a((i32)w.x, (i32)a.x, 0))));
}

template <u32 TOKENS, u32 ROWS, bool FOURS>
DEVICE void few_tokens(const Args& a) {
  u32 rows = a.n[0], stride = a.n[1], pieces = a.n[2], shift = a.n[3], blocks = a.n[4], tokens = a.n[5];
  u32 lane = threadIdx.x % LANES;
  u32 first_row = (blockIdx.x * WARPS + threadIdx.x / LANES) * ROWS, first = blockIdx.y * TOKENS;
  const uint4* high = (const uint4*)a.p[4];
  const uint4* low = (const uint4*)a.p[5];
  const i32* sums = (const i32*)a.p[7];
  i64 acc[ROWS][TOKENS];
  u64 row[ROWS], token[TOKENS];
#pragma unroll
  for (u32 r = 0; r < ROWS; r++) row[r] = smaller(first_row + r, rows - 1);
#pragma unroll
  for (u32 t = 0; t < TOKENS; t++) token[t] = smaller(first + t, tokens - 1);
#pragma unroll
  for (u32 r = 0; r < ROWS; r++) {
#pragma unroll
    for (u32 t = 0; t < TOKENS; t++) acc[r][t] = 0;
  }
  for (u32 piece = lane; piece < pieces; piece += LANES) {
    uint4 w[ROWS];
    i32 m[ROWS], minimum[ROWS];
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) {
      u64 block = row[r] * blocks + (piece >> shift);
      u64 at = row[r] * (stride / 16) + piece;
      if (FOURS) {
        uint2 v = ((const uint2*)a.p[0])[at];
        w[r] = bytes_of(v.x, v.y, least_of(a.p[10], a.n[7], row[r], piece >> shift, blocks));
      } else {
        w[r] = ((const uint4*)a.p[0])[at];
      }
      m[r] = ((const u16*)a.p[1])[block];
      minimum[r] = a.p[2] ? 16 * (i32)((const i16*)a.p[2])[block] : 0;
    }
#pragma unroll
    for (u32 t = 0; t < TOKENS; t++) {
      u64 at = token[t] * (stride / 16) + piece;
      uint4 h = high[at], l = low[at];
      i32 sum = a.p[2] ? sums[at] : 0;
#pragma unroll
      for (u32 r = 0; r < ROWS; r++) {
        acc[r][t] += (i64)(256 * dot16(w[r], h) + dot16(w[r], l)) * m[r];
        if (a.p[2]) acc[r][t] -= (i64)sum * minimum[r];
      }
    }
  }
#pragma unroll
  for (u32 r = 0; r < ROWS; r++) {
#pragma unroll
    for (u32 t = 0; t < TOKENS; t++) {
      i64 sum = warp_sum(acc[r][t]);
      if (lane == r * TOKENS + t && first_row + r < rows && first + t < tokens) {
        float y = finish(sum, ((const i32*)a.p[3])[row[r]] + ((const i32*)a.p[6])[token[t]]);
        if (!finite(y)) atomicOr((u32*)a.p[9], BAD_OUTPUT);
        ((float*)a.p[8])[token[t] * rows + row[r]] = y;
      }
    }
  }
}

KERNEL linear_1(const Args a) { few_tokens<1, 2, false>(a); }
KERNEL linear_2(const Args a) { few_tokens<2, 2, false>(a); }
KERNEL linear_4(const Args a) { few_tokens<4, 2, false>(a); }
KERNEL linear_8(const Args a) { few_tokens<8, 2, false>(a); }
KERNEL linear_fours_1(const Args a) { few_tokens<1, 2, true>(a); }
KERNEL linear_fours_2(const Args a) { few_tokens<2, 2, true>(a); }
KERNEL linear_fours_4(const Args a) { few_tokens<4, 2, true>(a); }
KERNEL linear_fours_8(const Args a) { few_tokens<8, 2, true>(a); }
