// (x - mean) * rsqrt(variance + eps) * weight + bias, a workgroup for a row: `spec::layer_norm`.

struct Params { rows: u32, cols: u32, eps: u32, recip: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read> bias: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
@group(0) @binding(4) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(5) var<uniform> p: Params;

var<workgroup> shared_mean: u32;
var<workgroup> shared_rest: u32;
var<workgroup> shared_factor: u32;

fn top_of(lanes: Lanes, own: u32) -> u32 { return bitcast<u32>(largest(lanes, vec2<i32>(bitcast<i32>(own))).x); }
fn mean_of(sum: vec2<u32>, e: i32) -> u32 {
  if (e == ZERO_EXPONENT) { return 0u; }
  return scale(mul(finish(sum, 0), p.recip), e);
}

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, lanes: Lanes) {
  let lane = place(lanes);
  let row = linear_group(id, count);
  if (row >= p.rows) { return; }
  let begin = row * p.cols;
  var own = 0u;
  for (var c = lane; c < p.cols; c += LANES) { own = max(own, magnitude(x[begin + c])); }
  let top = top_of(lanes, own);
  let et = exponent(flush(top));
  // Of integers and, once they are centred, of their squares.
  var sums: array<vec2<u32>, SUMS>;
  sums[0] = vec2<u32>(0u, 0u);
  sums[1] = vec2<u32>(0u, 0u);
  for (var c = lane; c < p.cols; c += LANES) { sums[0] = add64(sums[0], widen(integer(x[begin + c], et))); }
  add_up(lanes, &sums);
  if (lane == 0u) {
    if (top >= RANGE) { atomicOr(&fault, BAD_INPUT); }
    shared_mean = mean_of(total(lanes, 0u, 0u), et);
  }
  workgroupBarrier();
  let mean = shared_mean;

  own = 0u;
  for (var c = lane; c < p.cols; c += LANES) { own = max(own, magnitude(sub(x[begin + c], mean))); }
  let top_centred = top_of(lanes, own);
  let ey = exponent(flush(top_centred));
  sums[0] = vec2<u32>(0u, 0u);
  for (var c = lane; c < p.cols; c += LANES) {
    let b = integer(sub(x[begin + c], mean), ey);
    sums[0] = add64(sums[0], widen(b));
    sums[1] = add64(sums[1], vec2<u32>(u32(abs(b)) * u32(abs(b)), 0u));
  }
  add_up(lanes, &sums);
  if (lane == 0u) {
    if (top_centred >= RANGE) { atomicOr(&fault, BAD_INPUT); }
    let sum = total(lanes, 0u, 0u);
    let s1 = bitcast<i32>(sum.x);                // below 2^31 in magnitude
    let s2 = total(lanes, 0u, 1u);               // below 2^46
    let low = mul32(s2.x, p.cols);
    let product = vec2<u32>(low.x, low.y + s2.y * p.cols);
    let spread = sub64(product, mul32(u32(abs(s1)), u32(abs(s1))));
    var variance = 0u;
    if (ey != ZERO_EXPONENT) { variance = scale(mul(mul(finish(spread, 0), p.recip), p.recip), 2 * ey); }
    shared_rest = mean_of(sum, ey);
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
