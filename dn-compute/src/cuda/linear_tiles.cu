// The same for many tokens, on the int8 units of tensor cores: a block takes 64 tokens and 64 rows of weights, each of its four
// warps half of each. Two products per weight, one for each digit of the activations, in 32 bits; they are combined with the
// mantissas in 64 bits at the end of every block of columns, which is where short blocks cost time.
// Arguments as in linear.cu.

#if __CUDA_ARCH__ >= 800

#define TILE 64
// Columns at a time, and bytes of a row of them in shared memory: no two rows of a fragment fall on the same bank.
#define CHUNK 64
#define LINE 80
#define WHOLE_ROW 0

// d += a * b: 16 tokens by 8 rows of weights over 32 columns, or 16.
#ifdef __CUDACC_RTC__
DEVICE void mma_32(i32* d, const u32* a, const u32* b) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_16(i32* d, const u32* a, const u32* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
#endif

// A chunk of 64 rows of 64 bytes: two pieces of sixteen for a thread.
struct Piece {
  uint4 v[2];
};
DEVICE void fetch(Piece& to, const void* from, u32 first, u32 count, u32 stride, u32 chunk) {
#pragma unroll
  for (u32 i = 0; i < 2; i++) {
    u32 at = threadIdx.x + i * 128;
    u64 row = smaller(first + at / 4, count - 1);
    to.v[i] = ((const uint4*)from)[(row * stride + chunk * CHUNK) / 16 + at % 4];
  }
}
DEVICE void store(uint4* to, const Piece& from) {
#pragma unroll
  for (u32 i = 0; i < 2; i++) {
    u32 at = threadIdx.x + i * 128;
    to[at / 4 * (LINE / 16) + at % 4] = from.v[i];
  }
}
// The same of weights, which may be of four bits: then a piece is two words and their least until it is stored.
DEVICE void fetch_weights(Piece& to, const Args& a, u32 first_row, u32 chunk) {
  if (!a.n[6]) {
    fetch(to, a.p[0], first_row, a.n[0], a.n[1], chunk);
    return;
  }
#pragma unroll
  for (u32 i = 0; i < 2; i++) {
    u32 at = threadIdx.x + i * 128, piece = chunk * (CHUNK / 16) + at % 4;
    u64 row = smaller(first_row + at / 4, a.n[0] - 1);
    uint2 v = ((const uint2*)a.p[0])[row * (a.n[1] / 16) + piece];
    u32 block = smaller(piece >> a.n[3], a.n[4] - 1);
    to.v[i] = {v.x, v.y, least_of(a.p[10], a.n[7], row, block, a.n[4]), 0};
  }
}
DEVICE void store_weights(uint4* to, Piece from, bool fours) {
  if (fours) {
#pragma unroll
    for (u32 i = 0; i < 2; i++) from.v[i] = bytes_of(from.v[i].x, from.v[i].y, from.v[i].z);
  }
  store(to, from);
}
// The words of a fragment of 16 rows: rows g and g + 8, then the same sixteen columns on.
DEVICE void fragment(u32* to, const u32* from, u32 row, u32 word) {
  to[0] = from[row * (LINE / 4) + word];
  to[1] = from[(row + 8) * (LINE / 4) + word];
  to[2] = from[row * (LINE / 4) + word + 4];
  to[3] = from[(row + 8) * (LINE / 4) + word + 4];
}

struct Shared {
  uint4 high[TILE * LINE / 16];
  uint4 low[TILE * LINE / 16];
  uint4 q[TILE * LINE / 16];
  u16 m[TILE * 4];
};

// STEP: columns of a block of weights, or WHOLE_ROW.
template <u32 STEP>
DEVICE void many_tokens(const Args& a, Shared& s) {
  const u32 PER_CHUNK = STEP == 16 ? 4 : STEP == 32 ? 2 : 1;
  u32 rows = a.n[0], stride = a.n[1], blocks = a.n[4], tokens = a.n[5];
  u32 first_row = blockIdx.x * TILE, first = blockIdx.y * TILE;
  u32 warp = threadIdx.x / LANES, g = threadIdx.x % LANES / 4, t = threadIdx.x % 4;
  u32 own_token = warp / 2 * 32, own_row = warp % 2 * 32;
  i64 acc[2][4][4];
  i32 hi[2][4][4], lo[2][4][4];
#pragma unroll
  for (u32 i = 0; i < 32; i++) {
    (&acc[0][0][0])[i] = 0;
    (&hi[0][0][0])[i] = 0;
    (&lo[0][0][0])[i] = 0;
  }
  u32 chunks = stride / CHUNK;
  Piece high, low, q;
  fetch(high, a.p[4], first, tokens, stride, 0);
  fetch(low, a.p[5], first, tokens, stride, 0);
  fetch_weights(q, a, first_row, 0);
  for (u32 chunk = 0; chunk < chunks; chunk++) {
    store(s.high, high);
    store(s.low, low);
    store_weights(s.q, q, a.n[6]);
    if (STEP != WHOLE_ROW) {
      for (u32 i = threadIdx.x; i < TILE * PER_CHUNK; i += 128) {
        u64 row = smaller(first_row + i / PER_CHUNK, rows - 1);
        u32 block = STEP == 128 ? chunk / 2 : chunk * PER_CHUNK + i % PER_CHUNK;
        s.m[i] = block < blocks ? ((const u16*)a.p[1])[row * blocks + block] : 0;
      }
    }
    __syncthreads();
    if (chunk + 1 < chunks) {
      fetch(high, a.p[4], first, tokens, stride, chunk + 1);
      fetch(low, a.p[5], first, tokens, stride, chunk + 1);
      fetch_weights(q, a, first_row, chunk + 1);
    }
#pragma unroll
    for (u32 k = 0; k < 2; k++) {
      u32 fh[2][4], fl[2][4];
#pragma unroll
      for (u32 i = 0; i < 2; i++) {
        fragment(fh[i], (const u32*)s.high, own_token + i * 16 + g, k * 8 + t);
        fragment(fl[i], (const u32*)s.low, own_token + i * 16 + g, k * 8 + t);
      }
#pragma unroll
      for (u32 j = 0; j < 4; j++) {
        u32 at = (own_row + j * 8 + g) * (LINE / 4) + k * 8 + t;
        u32 fq[2] = {((const u32*)s.q)[at], ((const u32*)s.q)[at + 4]};
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
          if (STEP == 16) {
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
              i32 h[4] = {0, 0, 0, 0}, l[4] = {0, 0, 0, 0};
              mma_16(h, fh[i] + 2 * half, fq + half);
              mma_16(l, fl[i] + 2 * half, fq + half);
#pragma unroll
              for (u32 c = 0; c < 4; c++) {
                u32 row = own_row + j * 8 + 2 * t + c % 2;
                acc[i][j][c] += (i64)(256 * h[c] + l[c]) * s.m[row * 4 + 2 * k + half];
              }
            }
          } else if (STEP == 32) {
            i32 h[4] = {0, 0, 0, 0}, l[4] = {0, 0, 0, 0};
            mma_32(h, fh[i], fq);
            mma_32(l, fl[i], fq);
#pragma unroll
            for (u32 c = 0; c < 4; c++) {
              u32 row = own_row + j * 8 + 2 * t + c % 2;
              acc[i][j][c] += (i64)(256 * h[c] + l[c]) * s.m[row * 2 + k];
            }
          } else {
            mma_32(hi[i][j], fh[i], fq);
            mma_32(lo[i][j], fl[i], fq);
          }
        }
      }
    }
    if (STEP == 128 && (chunk % 2 == 1 || chunk + 1 == chunks)) {
#pragma unroll
      for (u32 i = 0; i < 32; i++) {
        u32 row = own_row + i / 4 % 4 * 8 + 2 * t + i % 2;
        (&acc[0][0][0])[i] += (i64)(256 * (&hi[0][0][0])[i] + (&lo[0][0][0])[i]) * s.m[row];
        (&hi[0][0][0])[i] = 0;
        (&lo[0][0][0])[i] = 0;
      }
    }
    __syncthreads();
  }
  const i16* minima = (const i16*)a.p[2];
#pragma unroll
  for (u32 i = 0; i < 32; i++) {
    u64 row = first_row + own_row + i / 4 % 4 * 8 + 2 * t + i % 2;
    u64 token = first + own_token + i / 16 * 16 + i / 2 % 2 * 8 + g;
    if (row < rows && token < tokens) {
      i64 sum = (&acc[0][0][0])[i];
      if (STEP == WHOLE_ROW) {
        sum = ((i64)(&hi[0][0][0])[i] * 256 + (&lo[0][0][0])[i]) * ((const u16*)a.p[1])[row];
      }
      if (minima) {
        const i32* sums = (const i32*)a.p[7] + token * (stride / 16);
        i64 low = 0;
        for (u32 piece = 0; piece < a.n[2]; piece++) low += (i64)sums[piece] * minima[row * blocks + (piece >> a.n[3])];
        sum -= 16 * low;
      }
      float y = finish(sum, ((const i32*)a.p[3])[row] + ((const i32*)a.p[6])[token]);
      if (!finite(y)) atomicOr((u32*)a.p[9], BAD_OUTPUT);
      ((float*)a.p[8])[token * rows + row] = y;
    }
  }
}

#define TILES(name, step)                                    \
  extern "C" __global__ void __launch_bounds__(128) name(const Args a) { \
    __shared__ Shared s;                                     \
    many_tokens<step>(a, s);                                 \
  }
TILES(linear_tiles_16, 16)
TILES(linear_tiles_32, 32)
TILES(linear_tiles_128, 128)
TILES(linear_tiles_row, WHOLE_ROW)

#endif
