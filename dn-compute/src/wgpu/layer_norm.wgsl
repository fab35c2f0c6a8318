// (x - mean) * rsqrt(variance + eps) * weight + bias, a workgroup for a row: `spec::layer_norm`.

struct Params { rows: u32, cols: u32, eps: u32, recip: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read> bias: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
@group(0) @binding(4) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(5) var<uniform> p: Params;

const LANES: u32 = 64u;
var<workgroup> tops: array<u32, 64>;
var<workgroup> sums: array<vec2<u32>, 64>;
var<workgroup> squares: array<vec2<u32>, 64>;
var<workgroup> shared_mean: u32;
var<workgroup> shared_rest: u32;
var<workgroup> shared_factor: u32;

// The largest of all lanes.
fn largest(lane: u32, own: u32) -> u32 {
  workgroupBarrier();
  tops[lane] = own;
  for (var half = LANES / 2u; half > 0u; half = half >> 1u) {
    workgroupBarrier();
    if (lane < half) { tops[lane] = max(tops[lane], tops[lane + half]); }
  }
  workgroupBarrier();
  return tops[0];
}
fn add_up(lane: u32, sum: vec2<u32>, square: vec2<u32>) {
  sums[lane] = sum;
  squares[lane] = square;
  for (var half = LANES / 2u; half > 0u; half = half >> 1u) {
    workgroupBarrier();
    if (lane < half) {
      sums[lane] = add64(sums[lane], sums[lane + half]);
      squares[lane] = add64(squares[lane], squares[lane + half]);
    }
  }
  workgroupBarrier();
}
fn mean_of(sum: vec2<u32>, e: i32) -> u32 {
  if (e == ZERO_EXPONENT) { return 0u; }
  return scale(mul(finish(sum, 0), p.recip), e);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = linear_group(id, count);
  if (row >= p.rows) { return; }
  let begin = row * p.cols;
  var own = 0u;
  for (var c = lane; c < p.cols; c += LANES) { own = max(own, magnitude(x[begin + c])); }
  let top = largest(lane, own);
  let et = exponent(flush(top));
  var sum = vec2<u32>(0u, 0u);
  for (var c = lane; c < p.cols; c += LANES) { sum = add64(sum, widen(integer(x[begin + c], et))); }
  add_up(lane, sum, vec2<u32>(0u, 0u));
  if (lane == 0u) {
    if (top >= RANGE) { atomicOr(&fault, BAD_INPUT); }
    shared_mean = mean_of(sums[0], et);
  }
  workgroupBarrier();
  let mean = shared_mean;

  own = 0u;
  for (var c = lane; c < p.cols; c += LANES) { own = max(own, magnitude(sub(x[begin + c], mean))); }
  let top_centred = largest(lane, own);
  let ey = exponent(flush(top_centred));
  sum = vec2<u32>(0u, 0u);
  var square = vec2<u32>(0u, 0u);
  for (var c = lane; c < p.cols; c += LANES) {
    let b = integer(sub(x[begin + c], mean), ey);
    sum = add64(sum, widen(b));
    square = add64(square, vec2<u32>(u32(abs(b)) * u32(abs(b)), 0u));
  }
  add_up(lane, sum, square);
  if (lane == 0u) {
    if (top_centred >= RANGE) { atomicOr(&fault, BAD_INPUT); }
    let s1 = bitcast<i32>(sums[0].x);            // below 2^31 in magnitude
    let s2 = squares[0];                         // below 2^46
    let low = mul32(s2.x, p.cols);
    let product = vec2<u32>(low.x, low.y + s2.y * p.cols);
    let spread = sub64(product, mul32(u32(abs(s1)), u32(abs(s1))));
    var variance = 0u;
    if (ey != ZERO_EXPONENT) { variance = scale(mul(mul(finish(spread, 0), p.recip), p.recip), 2 * ey); }
    shared_rest = mean_of(sums[0], ey);
    if (is_finite(variance)) {
      shared_factor = rsqrt(add(variance, p.eps));
    } else {
      shared_factor = 0u;
      atomicOr(&fault, BAD_OUTPUT);
    }
  }
  workgroupBarrier();
  let rest = shared_rest;
  let factor = shared_factor;
  for (var c = lane; c < p.cols; c += LANES) {
    let y = sub(sub(x[begin + c], mean), rest);
    let z = add(mul(mul(y, factor), weight[c]), bias[c]);
    if (!is_finite(z)) { atomicOr(&fault, BAD_OUTPUT); }
    out[begin + c] = z;
  }
}
