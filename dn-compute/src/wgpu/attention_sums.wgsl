// Attention over long contexts, second of three kernels: what a workgroup's blocks add to the sums.

@group(0) @binding(0) var<storage, read> v: array<vec2<u32>>;         // [position][kv head][word]
@group(0) @binding(1) var<storage, read> e: array<i32>;               // [position][kv head] of keys; from `values` on, of values
@group(0) @binding(2) var<storage, read> scores: array<i32>;          // [query][block]: 64 scores, two maxima
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<u32>>; // [query][range]: both maxima of all, denominator, numerators
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, lanes: Lanes) {
  let lane = place(lanes);
  let ranges = (p.blocks + p.span - 1u) / p.span;
  let group = linear_group(id, count);
  let query = group / ranges;
  if (query >= p.queries) { return; }
  let kv_head = kv_head_of(query);
  let keys = seen(position_of(query));
  let kept = query * p.blocks - p.base;

  // A block of which the query sees nothing has no maxima that count.
  var top = vec2<i32>(NO_TOP, NO_TOP);
  for (var block = p.base + lane; block < p.base + p.blocks; block += LANES) {
    let at = (kept + block) * KEPT;
    top = max(top, vec2<i32>(scores[at + BLOCK], scores[at + BLOCK + 1u]));
  }
  let all = largest(lanes, top);

  var d = vec2<u32>(0u, 0u);
  var num: array<vec2<u32>, 4>;
  for (var i = 0u; i < 4u; i++) { num[i] = vec2<u32>(0u, 0u); }
  let begin = p.base + (group % ranges) * p.span;
  for (var block = begin; block < min(begin + p.span, p.base + p.blocks); block++) {
    add_block(block, (kept + block) * KEPT, keys, kv_head, all, lane, &d, &num);
  }
  let to = group * (2u + 4u * p.words);
  if (lane == 0u) {
    sums[to] = bitcast<vec2<u32>>(all);
    sums[to + 1u] = d;
  }
  if (lane < p.words) {
    for (var i = 0u; i < 4u; i++) { sums[to + 2u + lane * 4u + i] = num[i]; }
  }
}
