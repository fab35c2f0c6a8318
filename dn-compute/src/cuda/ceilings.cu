// What a card can do at most: `ceilings.rs`. No value of a model passes here.

// Pieces that a thread waits for at a time.
#define AT_ONCE 4

// to = from. n: pieces of sixteen bytes, in two words.
KERNEL copy_all(const Args a) {
  const uint4* from = (const uint4*)a.p[0];
  uint4* to = (uint4*)a.p[1];
  u64 count = (u64)a.n[1] << 32 | a.n[0], step = (u64)gridDim.x * blockDim.x;
  for (u64 first = element(); first < count; first += AT_ONCE * step) {
    uint4 v[AT_ONCE];
#pragma unroll
    for (u32 k = 0; k < AT_ONCE; k++) {
      if (first + k * step < count) v[k] = from[first + k * step];
    }
#pragma unroll
    for (u32 k = 0; k < AT_ONCE; k++) {
      if (first + k * step < count) to[first + k * step] = v[k];
    }
  }
}

// to[thread]: the exclusive or of all that the thread reads, so that it must be read. n: as above.
KERNEL read_all(const Args a) {
  const uint4* from = (const uint4*)a.p[0];
  u64 count = (u64)a.n[1] << 32 | a.n[0], step = (u64)gridDim.x * blockDim.x;
  u32 all = 0;
  for (u64 first = element(); first < count; first += AT_ONCE * step) {
#pragma unroll
    for (u32 k = 0; k < AT_ONCE; k++) {
      if (first + k * step < count) {
        uint4 v = from[first + k * step];
        all ^= v.x ^ v.y ^ v.z ^ v.w;
      }
    }
  }
  ((u32*)a.p[1])[element()] = all;
}

// Products that do not wait for each other; their factors differ, so that none can stand for another.
#define CHAINS 8

// to[thread]: the sum of all products of four bytes. n: rounds, a word of ones.
KERNEL peak_dp4a(const Args a) {
  i32 sums[CHAINS], ones = (i32)a.n[1];
#pragma unroll
  for (i32 k = 0; k < CHAINS; k++) sums[k] = 0;
  for (u32 round = 0; round < a.n[0]; round++) {
#pragma unroll
    for (i32 k = 0; k < CHAINS; k++) sums[k] = __dp4a(ones * (k + 1), ones, sums[k]);
  }
  i32 all = 0;
#pragma unroll
  for (i32 k = 0; k < CHAINS; k++) all += sums[k];
  ((i32*)a.p[0])[element()] = all;
}

#if __CUDA_ARCH__ >= 800
// The same with products of 16 x 32 by 32 x 8 bytes, a warp at a time.
KERNEL peak_tiles(const Args a) {
  i32 sums[CHAINS][4];
  u32 ones = a.n[1], left[4] = {ones, ones, ones, ones};
#pragma unroll
  for (u32 i = 0; i < CHAINS * 4; i++) (&sums[0][0])[i] = 0;
  for (u32 round = 0; round < a.n[0]; round++) {
#pragma unroll
    for (u32 k = 0; k < CHAINS; k++) {
      u32 right[2] = {ones * (k + 1), ones * (k + 1)};
      mma_32(sums[k], left, right);
    }
  }
  i32 all = 0;
#pragma unroll
  for (u32 i = 0; i < CHAINS * 4; i++) all += (&sums[0][0])[i];
  ((i32*)a.p[0])[element()] = all;
}
#endif
