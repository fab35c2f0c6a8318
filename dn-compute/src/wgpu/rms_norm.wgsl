// x * rsqrt(mean(x^2) + eps) * weight, a workgroup for a row: `spec::rms_norm`.

struct Params { rows: u32, cols: u32, eps: u32, recip: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> weight: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> factor: u32;

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, lanes: Lanes) {
  let lane = place(lanes);
  let row = linear_group(id, count);
  if (row >= p.rows) { return; }
  let begin = row * p.cols;
  var top = 0u;
  for (var c = lane; c < p.cols; c += LANES) { top = max(top, magnitude(x[begin + c])); }
  top = bitcast<u32>(largest(lanes, vec2<i32>(bitcast<i32>(top))).x);
  let et = exponent(flush(top));
  var sum: array<vec2<u32>, SUMS>;
  sum[0] = vec2<u32>(0u, 0u);
  for (var c = lane; c < p.cols; c += LANES) {
    let a = abs(integer(x[begin + c], et));
    sum[0] = add64(sum[0], vec2<u32>(u32(a) * u32(a), 0u));
  }
  add_up(lanes, &sum);
  if (lane == 0u) {
    var mean = 0u;
    if (et != ZERO_EXPONENT) { mean = scale(mul(finish(total(lanes, 0u, 0u), 0), p.recip), 2 * et); }
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
