// Attention over quantised keys and values in pages of 64 positions: `spec::attention`.
//
// `scores` gives every score, the maxima of each block of 64 keys and of all; `sums` the weighted sums of some blocks, added up
// over the blocks of threads that share a query; `divide` the quotient. Sums and maxima are exact integers, so neither the
// split of the keys nor the order of the additions can change a bit.
//
// A page, of `heads` heads of `width` elements (padded to a multiple of sixteen), all integers as two digits of eight bits:
//   keys:      [head][word of four elements][position]: high digits, low digits
//   values:    [head][four positions][element]: high digits, low digits
//   exponents: [head][position] of the keys, then those of the values
// Queries of a key head are those of its `group` heads of all tokens, one after another.

#define BLOCK 64
// Queries of a block of threads.
#define QUERIES 8
#define MAX_SCORE (1 << 30)
#define MAX_P 16383u
#define NO_TOP (-0x40000000)
// Words of a head, at most.
#define MOST_WORDS 64

struct Page {
  uint2* keys;
  uint2* values;
  i32* key_exponents;
  i32* value_exponents;
};
DEVICE Page page_at(const u64* pages, u32 index, u32 heads, u32 width) {
  Page page;
  page.keys = (uint2*)pages[index];
  page.values = page.keys + (u64)heads * width * (BLOCK / 4);
  page.key_exponents = (i32*)(page.values + (u64)heads * width * (BLOCK / 4));
  page.value_exponents = page.key_exponents + heads * BLOCK;
  return page;
}

// Rows of keys and of values to integers, a warp for each: what a cache keeps.
// keys, values: [row of a head][element]; out: the same as i16; exponents: [row]. grid.y: keys, values.
// n: rows, elements.
KERNEL kv_quantise(const Args a) {
  u32 lane = threadIdx.x % LANES, width = a.n[1];
  u64 row = (u64)blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES;
  if (row >= a.n[0]) return;
  const float* x = (const float*)a.p[blockIdx.y] + row * width;
  i16* out = (i16*)a.p[2 + blockIdx.y] + row * width;
  u32 top = 0;
  for (u32 c = lane; c < width; c += LANES) top = larger(top, magnitude(x[c]));
  top = warp_max(top);
  i32 e = exponent(top < 0x00800000u ? 0 : top);
  if (lane == 0) {
    ((i32*)a.p[4 + blockIdx.y])[row] = e;
    if (top >= RANGE) atomicOr((u32*)a.p[6], BAD_INPUT);
  }
  for (u32 c = lane; c < width; c += LANES) out[c] = (i16)integer(x[c], e);
}

// Those integers to pages, a block for each position and head.
// keys, values: [position][head][element]; exponents: [position][head]. n: first position, heads, elements, padded elements.
KERNEL kv_store(const Args a) {
  u32 heads = a.n[1], width = a.n[2], padded = a.n[3], head = blockIdx.y;
  u32 position = a.n[0] + blockIdx.x, at = position % BLOCK;
  u64 row = (u64)blockIdx.x * heads + head;
  const i16* k = (const i16*)a.p[0] + row * width;
  const i16* v = (const i16*)a.p[1] + row * width;
  Page page = page_at((const u64*)a.p[4], position / BLOCK, heads, padded);
  for (u32 w = threadIdx.x; w < padded / 4; w += blockDim.x) {
    i32 e[4];
    for (u32 i = 0; i < 4; i++) e[i] = 4 * w + i < width ? k[4 * w + i] : 0;
    uint2 digits;
    digits.x = pack(high_digit(e[0]), high_digit(e[1]), high_digit(e[2]), high_digit(e[3]));
    digits.y = pack(low_digit(e[0]), low_digit(e[1]), low_digit(e[2]), low_digit(e[3]));
    page.keys[((u64)head * (padded / 4) + w) * BLOCK + at] = digits;
  }
  for (u32 c = threadIdx.x; c < padded; c += blockDim.x) {
    i32 e = c < width ? v[c] : 0;
    i8* bytes = (i8*)(page.values + ((u64)head * (BLOCK / 4) + at / 4) * padded + c);
    bytes[at % 4] = (i8)high_digit(e);
    bytes[4 + at % 4] = (i8)low_digit(e);
  }
  if (threadIdx.x == 0) {
    page.key_exponents[head * BLOCK + at] = ((const i32*)a.p[2])[row];
    page.value_exponents[head * BLOCK + at] = ((const i32*)a.p[3])[row];
  }
}

// What the kernels below are given, beside addresses.
struct Attention {
  u32 tokens, heads, group, kv_heads, padded, first, held, window, base, blocks, first_row, width;
};
DEVICE Attention attention_of(const Args& a) {
  Attention n;
  n.tokens = a.n[0];
  n.heads = a.n[1];
  n.group = a.n[2];
  n.kv_heads = n.heads / n.group;
  n.padded = a.n[3];
  n.first = a.n[4];
  n.held = a.n[5];
  n.window = a.n[6];
  n.base = a.n[7];
  n.blocks = a.n[8];
  n.first_row = a.n[9];
  n.width = a.n[10];
  return n;
}
// The keys that a token sees: a window of 0 stands for all that are held.
struct Keys {
  u32 start, end;
};
DEVICE Keys keys_of(const Attention& n, u32 token) {
  Keys keys;
  u32 position = n.first + token;
  keys.start = 0;
  keys.end = position + 1;
  if (n.window == 0) {
    keys.end = n.held;
  } else if (keys.end > n.window) {
    keys.start = keys.end - n.window;
  }
  return keys;
}
// Whether a query of the tile sees a key of the block.
DEVICE bool any_sees(const Attention& n, u32 first, u32 count, u32 block) {
  u32 last = smaller(first + QUERIES, count) - 1;
  return block * BLOCK < keys_of(n, last / n.group).end && block * BLOCK + BLOCK > keys_of(n, first / n.group).start;
}
// The row of a query among all tokens and heads of the plan.
DEVICE u64 row_of(const Attention& n, u32 kv_head, u32 query) {
  return (u64)(query / n.group) * n.heads + kv_head * n.group + query % n.group;
}

// The exact dot product times 2^shift, nearest, held to MAX_SCORE.
DEVICE i32 score(i64 dot, i32 shift) {
  i64 s;
  if (shift >= 0) {
    s = dot < -(i64)MAX_SCORE ? -(i64)MAX_SCORE : dot > MAX_SCORE ? MAX_SCORE : dot;
    s = shift_left(s, (u32)smaller(shift, 31));
  } else {
    s = shift_round(dot, (u32)-shift);
  }
  return (i32)(s < -(i64)MAX_SCORE ? -(i64)MAX_SCORE : s > MAX_SCORE ? MAX_SCORE : s);
}
DEVICE i64 joined(i32 high, i32 middle, i32 low) { return (i64)high * 65536 + (i64)middle * 256 + low; }

// grid: blocks of keys, key heads, tiles of queries. Threads: 64 keys, two queries at a time.
// high, low: [row][word]; exponents: [row]; pages; scores: [query row][block][key]; block_tops: [query row][block], two;
// tops: [query row], two.
KERNEL scores(const Args a) {
  __shared__ uint2 q[QUERIES * MOST_WORDS];
  __shared__ i32 own_tops[QUERIES * 2 * 2];
  Attention n = attention_of(a);
  u32 words = n.padded / 4, kv_head = blockIdx.y, count = n.tokens * n.group;
  u32 block = n.base + blockIdx.x, key = block * BLOCK + threadIdx.x % BLOCK, half = threadIdx.x / BLOCK;
  u32 first = blockIdx.z * QUERIES;
  for (u32 i = threadIdx.x; i < QUERIES * words; i += 2 * BLOCK) {
    u32 query = first + i / words;
    uint2 digits = {0, 0};
    if (query < count) {
      u64 at = ((u64)n.first_row * n.heads + row_of(n, kv_head, query)) * words + i % words;
      digits.x = ((const u32*)a.p[0])[at];
      digits.y = ((const u32*)a.p[1])[at];
    }
    q[i / words * MOST_WORDS + i % words] = digits;
  }
  __syncthreads();
  Page page = page_at((const u64*)a.p[3], block, n.kv_heads, n.padded);
  i32 hh[QUERIES / 2], middle[QUERIES / 2], ll[QUERIES / 2];
#pragma unroll
  for (u32 i = 0; i < QUERIES / 2; i++) hh[i] = middle[i] = ll[i] = 0;
  if (key < n.held && any_sees(n, first, count, block)) {
    const uint2* keys = page.keys + (u64)kv_head * words * BLOCK + threadIdx.x % BLOCK;
    for (u32 w = 0; w < words; w++) {
      uint2 k = keys[(u64)w * BLOCK];
#pragma unroll
      for (u32 i = 0; i < QUERIES / 2; i++) {
        uint2 d = q[(2 * i + half) * MOST_WORDS + w];
        hh[i] = __dp4a((i32)d.x, (i32)k.x, hh[i]);
        middle[i] = __dp4a((i32)d.x, (i32)k.y, __dp4a((i32)d.y, (i32)k.x, middle[i]));
        ll[i] = __dp4a((i32)d.y, (i32)k.y, ll[i]);
      }
    }
  }
#pragma unroll
  for (u32 i = 0; i < QUERIES / 2; i++) {
    u32 own = 2 * i + half, query = first + own;
    i32 top = NO_TOP, top_value = NO_TOP;
    if (query < count) {
      u64 row = row_of(n, kv_head, query);
      Keys seen = keys_of(n, query / n.group);
      if (key >= seen.start && key < seen.end) {
        u32 at = kv_head * BLOCK + threadIdx.x % BLOCK;
        i32 eq = ((const i32*)a.p[2])[(u64)n.first_row * n.heads + row];
        i32 s = score(joined(hh[i], middle[i], ll[i]), eq + page.key_exponents[at] + 16);
        ((i32*)a.p[4])[(row * n.blocks + blockIdx.x) * BLOCK + threadIdx.x % BLOCK] = s;
        top = s >> 16;
        top_value = top + page.value_exponents[at];
      }
    }
    top = warp_max(top);
    top_value = warp_max(top_value);
    if (threadIdx.x % LANES == 0) {
      u32 to = (own * 2 + threadIdx.x / LANES % 2) * 2;
      own_tops[to] = top;
      own_tops[to + 1] = top_value;
    }
  }
  __syncthreads();
  if (threadIdx.x < QUERIES && first + threadIdx.x < count) {
    const i32* both = own_tops + threadIdx.x * 4;
    i32 top = larger(both[0], both[2]), top_value = larger(both[1], both[3]);
    u64 row = row_of(n, kv_head, first + threadIdx.x);
    i32* block_tops = (i32*)a.p[5] + (row * n.blocks + blockIdx.x) * 2;
    block_tops[0] = top;
    block_tops[1] = top_value;
    i32* tops = (i32*)a.p[6] + row * 2;
    if (top > NO_TOP) {
      atomicMax(tops, top);
      atomicMax(tops + 1, top_value);
    }
  }
}

DEVICE u32 probability(i32 s, i32 below) {
  u32 p = shift_round(exp2_q16((u32)s & 0xffffu), (u32)below + 3);
  return p < MAX_P ? p : MAX_P;
}
// 16 guard bits, then down to the maximum of all.
DEVICE i64 merge(i64 sum, i32 down) { return shift_round(shift_left(sum, 16), (u32)down); }

// grid: shares of the blocks of keys, key heads, tiles of queries. Threads: one for each element, whole 64.
// pages; scores, block_tops and tops as above; num: [query row][element]; den: [query row]. n[11]: blocks of a share.
KERNEL sums(const Args a) {
  // Four keys in a word.
  __shared__ u32 high[QUERIES * BLOCK / 4];
  __shared__ u32 low[QUERIES * BLOCK / 4];
  __shared__ u32 block_den[QUERIES];
  Attention n = attention_of(a);
  u32 kv_head = blockIdx.y, count = n.tokens * n.group, first = blockIdx.z * QUERIES, c = threadIdx.x;
  u32 from = blockIdx.x * a.n[11], to = smaller(from + a.n[11], n.blocks);
  const i32* block_tops = (const i32*)a.p[5];
  const i32* tops = (const i32*)a.p[6];
  i64 num[QUERIES], den = 0;
#pragma unroll
  for (u32 i = 0; i < QUERIES; i++) num[i] = 0;
  for (u32 b = from; b < to; b++) {
    if (!any_sees(n, first, count, n.base + b)) continue;
    Page page = page_at((const u64*)a.p[3], n.base + b, n.kv_heads, n.padded);
    if (threadIdx.x < QUERIES) block_den[threadIdx.x] = 0;
    __syncthreads();
    for (u32 i = threadIdx.x; i < QUERIES * BLOCK; i += blockDim.x) {
      u32 query = first + i / BLOCK, at = i % BLOCK, key = (n.base + b) * BLOCK + at;
      u32 p = 0, p_value = 0;
      if (query < count) {
        Keys seen = keys_of(n, query / n.group);
        if (key >= seen.start && key < seen.end) {
          u64 row = row_of(n, kv_head, query) * n.blocks + b;
          i32 s = ((const i32*)a.p[4])[row * BLOCK + at];
          i32 whole = s >> 16;
          p = probability(s, block_tops[row * 2] - whole);
          p_value = probability(s, block_tops[row * 2 + 1] - (whole + page.value_exponents[kv_head * BLOCK + at]));
        }
      }
      ((i8*)high)[i] = (i8)high_digit((i32)p_value);
      ((i8*)low)[i] = (i8)low_digit((i32)p_value);
      // A warp's keys are of one query.
      i64 total = warp_sum((i64)p);
      if (threadIdx.x % LANES == 0) atomicAdd(block_den + i / BLOCK, (u32)total);
    }
    __syncthreads();
    if (c < n.padded) {
      const uint2* values = page.values + (u64)kv_head * (BLOCK / 4) * n.padded + c;
      i32 hh[QUERIES], middle[QUERIES], ll[QUERIES];
#pragma unroll
      for (u32 i = 0; i < QUERIES; i++) hh[i] = middle[i] = ll[i] = 0;
      for (u32 k = 0; k < BLOCK / 4; k++) {
        uint2 v = values[(u64)k * n.padded];
#pragma unroll
        for (u32 i = 0; i < QUERIES; i++) {
          i32 h = (i32)high[i * (BLOCK / 4) + k], l = (i32)low[i * (BLOCK / 4) + k];
          hh[i] = __dp4a(h, (i32)v.x, hh[i]);
          middle[i] = __dp4a(h, (i32)v.y, __dp4a(l, (i32)v.x, middle[i]));
          ll[i] = __dp4a(l, (i32)v.y, ll[i]);
        }
      }
#pragma unroll
      for (u32 i = 0; i < QUERIES; i++) {
        if (first + i < count) {
          u64 row = row_of(n, kv_head, first + i);
          i32 own = block_tops[(row * n.blocks + b) * 2 + 1];
          if (own > NO_TOP) num[i] += merge(joined(hh[i], middle[i], ll[i]), tops[row * 2 + 1] - own);
        }
      }
    }
    if (threadIdx.x < QUERIES && first + threadIdx.x < count) {
      u64 row = row_of(n, kv_head, first + threadIdx.x);
      i32 own = block_tops[(row * n.blocks + b) * 2];
      if (own > NO_TOP) den += merge(block_den[threadIdx.x], tops[row * 2] - own);
    }
    __syncthreads();
  }
  if (c < n.width) {
#pragma unroll
    for (u32 i = 0; i < QUERIES; i++) {
      if (first + i < count) {
        u64 at = row_of(n, kv_head, first + i) * n.width + c;
        atomicAdd((u64*)a.p[7] + at, (u64)num[i]);
      }
    }
  }
  if (threadIdx.x < QUERIES && first + threadIdx.x < count) {
    atomicAdd((u64*)a.p[8] + row_of(n, kv_head, first + threadIdx.x), (u64)den);
  }
}

// The output, an element for a thread. n: elements of the queries in two words, elements of a head, the first element of the
// output in two words.
KERNEL divide(const Args a) {
  u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= ((u64)a.n[1] << 32 | a.n[0])) return;
  u64 row = i / a.n[2];
  const i32* tops = (const i32*)a.p[0] + row * 2;
  float factor = recip(finish(((const i64*)a.p[2])[row], 0));
  float y = scale(mul(finish(((const i64*)a.p[1])[i], 0), factor), tops[1] - tops[0]);
  if (!finite(y)) atomicOr((u32*)a.p[4], BAD_OUTPUT);
  ((float*)a.p[3])[((u64)a.n[4] << 32 | a.n[3]) + i] = y;
}

// No maximum yet, and no sum. n: rows, elements of a head.
KERNEL attention_begin(const Args a) {
  u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x, rows = a.n[0];
  if (i < 2 * rows) ((i32*)a.p[0])[i] = NO_TOP;
  if (i < rows) ((u64*)a.p[2])[i] = 0;
  if (i < rows * a.n[1]) ((u64*)a.p[1])[i] = 0;
}
