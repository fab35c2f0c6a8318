// Rows: activations to integers, and the two normalisations, a block for a row: `spec::quantise`, `spec::rms_norm`,
// `spec::layer_norm`.

#define MOST_WARPS 32

// Digits of a row: the high ones and the low ones apart, four columns in a word, padded with zeros; beside them its exponent
// and the sum of each sixteen integers. x: [row][column], each multiplied by a factor where there is one.
// n: columns, words of a row, the factor's bits.
KERNEL quantise(const Args a) {
  __shared__ u32 tops[MOST_WARPS];
  const float* x = (const float*)a.p[0] + (u64)blockIdx.x * a.n[0];
  u32 cols = a.n[0], words = a.n[1];
  u32* high = (u32*)a.p[1] + (u64)blockIdx.x * words;
  u32* low = (u32*)a.p[2] + (u64)blockIdx.x * words;
  i32* sums = (i32*)a.p[4];
  float factor = __uint_as_float(a.n[2]);
  bool plain = a.n[2] == 0;
  u32 top = 0;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) {
    top = larger(top, magnitude(plain ? x[c] : mul(x[c], factor)));
  }
  top = block_max(top, tops);
  i32 et = exponent(top < 0x00800000u ? 0 : top);
  if (threadIdx.x == 0) {
    ((i32*)a.p[3])[blockIdx.x] = et;
    if (top >= RANGE) atomicOr((u32*)a.p[5], BAD_INPUT);
  }
  for (u32 part = threadIdx.x; part < words / 4; part += blockDim.x) {
    i32 sum = 0;
    for (u32 w = 4 * part; w < 4 * part + 4; w++) {
      i32 v[4];
      for (u32 i = 0; i < 4; i++) {
        u32 c = 4 * w + i;
        v[i] = c < cols ? integer(plain ? x[c] : mul(x[c], factor), et) : 0;
        sum += v[i];
      }
      high[w] = pack(high_digit(v[0]), high_digit(v[1]), high_digit(v[2]), high_digit(v[3]));
      low[w] = pack(low_digit(v[0]), low_digit(v[1]), low_digit(v[2]), low_digit(v[3]));
    }
    if (sums) sums[(u64)blockIdx.x * (words / 4) + part] = sum;
  }
}

// x * rsqrt(mean(x^2) + eps) * weight. n: columns, eps, 1 / columns.
KERNEL rms_norm(const Args a) {
  __shared__ u32 tops[MOST_WARPS];
  __shared__ i64 sums[MOST_WARPS];
  u32 cols = a.n[0];
  const float* x = (const float*)a.p[0] + (u64)blockIdx.x * cols;
  const float* weight = (const float*)a.p[1];
  float* out = (float*)a.p[2] + (u64)blockIdx.x * cols;
  u32* fault = (u32*)a.p[3];
  u32 top = 0;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) top = larger(top, magnitude(x[c]));
  top = block_max(top, tops);
  i32 et = exponent(top < 0x00800000u ? 0 : top);
  i64 sum = 0;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) {
    i32 v = integer(x[c], et);
    sum += (i64)(v * v);
  }
  sum = block_sum(sum, sums);
  float mean = et == ZERO_EXPONENT ? 0.0f : scale(mul(finish(sum, 0), __uint_as_float(a.n[2])), 2 * et);
  bool good = top < RANGE && finite(mean);
  if (!good && threadIdx.x == 0) atomicOr(fault, top < RANGE ? BAD_OUTPUT : BAD_INPUT);
  float factor = good ? rsqrt_rn(add(mean, __uint_as_float(a.n[1]))) : 0.0f;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) {
    float y = mul(mul(x[c], factor), weight[c]);
    if (!finite(y)) atomicOr(fault, BAD_OUTPUT);
    out[c] = y;
  }
}

DEVICE float mean_of(i64 sum, i32 e, float recip_cols) {
  return e == ZERO_EXPONENT ? 0.0f : scale(mul(finish(sum, 0), recip_cols), e);
}

// (x - mean) * rsqrt(variance + eps) * weight + bias. n: columns, eps, 1 / columns.
KERNEL layer_norm(const Args a) {
  __shared__ u32 tops[MOST_WARPS];
  __shared__ i64 sums[MOST_WARPS];
  u32 cols = a.n[0];
  const float* x = (const float*)a.p[0] + (u64)blockIdx.x * cols;
  const float* weight = (const float*)a.p[1];
  const float* bias = (const float*)a.p[2];
  float* out = (float*)a.p[3] + (u64)blockIdx.x * cols;
  u32* fault = (u32*)a.p[4];
  float recip_cols = __uint_as_float(a.n[2]);
  u32 top = 0;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) top = larger(top, magnitude(x[c]));
  top = block_max(top, tops);
  i32 et = exponent(top < 0x00800000u ? 0 : top);
  i64 sum = 0;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) sum += integer(x[c], et);
  float mean = mean_of(block_sum(sum, sums), et, recip_cols);

  u32 centred = 0;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) centred = larger(centred, magnitude(sub(x[c], mean)));
  centred = block_max(centred, tops);
  i32 ey = exponent(centred < 0x00800000u ? 0 : centred);
  i64 squares = 0;
  sum = 0;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) {
    i32 v = integer(sub(x[c], mean), ey);
    sum += v;
    squares += (i64)(v * v);
  }
  sum = block_sum(sum, sums);
  squares = block_sum(squares, sums);
  float variance = 0.0f;
  if (ey != ZERO_EXPONENT) {
    float spread = finish((i64)cols * squares - sum * sum, 0);
    variance = scale(mul(mul(spread, recip_cols), recip_cols), 2 * ey);
  }
  float rest = mean_of(sum, ey, recip_cols);
  bool good = top < RANGE && centred < RANGE && finite(variance);
  if (!good && threadIdx.x == 0) atomicOr(fault, top < RANGE && centred < RANGE ? BAD_OUTPUT : BAD_INPUT);
  float factor = good ? rsqrt_rn(add(variance, __uint_as_float(a.n[1]))) : 0.0f;
  for (u32 c = threadIdx.x; c < cols; c += blockDim.x) {
    float y = sub(sub(x[c], mean), rest);
    float z = add(mul(mul(y, factor), weight[c]), bias[c]);
    if (!finite(z)) atomicOr(fault, BAD_OUTPUT);
    out[c] = z;
  }
}
