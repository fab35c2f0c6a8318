// x * rsqrt(mean(x^2) + eps) * weight, a workgroup for a row: `spec::rms_norm`.

struct Params { rows: u32, cols: u32, eps: u32, recip: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(4) var<uniform> p: Params;

const LANES: u32 = 64u;
var<workgroup> tops: array<u32, 64>;
var<workgroup> squares: array<vec2<u32>, 64>;
var<workgroup> factor: u32;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = linear_group(id, count);
  if (row >= p.rows) { return; }
  let begin = row * p.cols;
  var top = 0u;
  for (var c = lane; c < p.cols; c += LANES) { top = max(top, magnitude(x[begin + c])); }
  tops[lane] = top;
  for (var half = LANES / 2u; half > 0u; half = half >> 1u) {
    workgroupBarrier();
    if (lane < half) { tops[lane] = max(tops[lane], tops[lane + half]); }
  }
  workgroupBarrier();
  top = tops[0];
  let et = exponent(flush(top));
  var sum = vec2<u32>(0u, 0u);
  for (var c = lane; c < p.cols; c += LANES) {
    let a = abs(integer(x[begin + c], et));
    sum = add64(sum, vec2<u32>(u32(a) * u32(a), 0u));
  }
  squares[lane] = sum;
  for (var half = LANES / 2u; half > 0u; half = half >> 1u) {
    workgroupBarrier();
    if (lane < half) { squares[lane] = add64(squares[lane], squares[lane + half]); }
  }
  if (lane == 0u) {
    var mean = 0u;
    if (et != ZERO_EXPONENT) { mean = scale(mul(finish(squares[0], 0), p.recip), 2 * et); }
    if (top >= RANGE) { atomicOr(&fault, BAD_INPUT); }
    if (is_finite(mean)) { factor = rsqrt(add(mean, p.eps)); } else { factor = 0u; atomicOr(&fault, BAD_OUTPUT); }
  }
  workgroupBarrier();
  let r = factor;
  for (var c = lane; c < p.cols; c += LANES) {
    let y = mul(mul(x[begin + c], r), weight[c]);
    if (!is_finite(y)) { atomicOr(&fault, BAD_OUTPUT); }
    out[begin + c] = y;
  }
}
