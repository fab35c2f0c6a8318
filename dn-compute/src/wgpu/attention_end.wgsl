// Attention over long contexts, last of three kernels: the workgroups' sums together, and the quotient.

@group(0) @binding(0) var<storage, read> sums: array<vec2<u32>>;    // [query][range]: both maxima of all, denominator, numerators
@group(0) @binding(1) var<storage, read_write> out: array<u32>;     // [token][head][element]
@group(0) @binding(2) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let ranges = (p.blocks + p.span - 1u) / p.span;
  let query = linear_group(id, count);
  if (query >= p.queries) { return; }
  let row_q = row_of(query);
  let stride = 2u + 4u * p.words;
  let origin = query * ranges * stride;
  let all = bitcast<vec2<i32>>(sums[origin]);
  var d = vec2<u32>(0u, 0u);
  for (var r = 0u; r < ranges; r++) { d = add64(d, sums[origin + r * stride + 1u]); }
  let factor = recip(finish(d, 0));
  for (var c = lane; c < p.head_dim; c += LANES) {
    var num = vec2<u32>(0u, 0u);
    for (var r = 0u; r < ranges; r++) { num = add64(num, sums[origin + r * stride + 2u + c]); }
    let y = scale(mul(finish(num, 0), factor), all.y - all.x);
    if (!is_finite(y)) { atomicOr(&fault, BAD_OUTPUT); }
    out[row_q * p.head_dim + c] = y;
  }
}
