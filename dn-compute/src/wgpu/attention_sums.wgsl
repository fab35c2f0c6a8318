// Attention over long contexts, second of three kernels: what a workgroup's blocks add to the sums.

@group(0) @binding(0) var<storage, read> v: array<vec2<u32>>;         // [position][kv head][word]
@group(0) @binding(1) var<storage, read> e: array<i32>;               // [position][kv head] of keys; from `values` on, of values
@group(0) @binding(2) var<storage, read> scores: array<i32>;          // [query][block]: 64 scores, two maxima
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<u32>>; // [query][range]: both maxima of all, denominator, numerators
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> best: array<vec2<i32>, 64>;
var<workgroup> weights: array<u32, 64>;                               // p in the low half, p' in the high half

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
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
  best[lane] = top;
  for (var half = LANES / 2u; half > 0u; half = half >> 1u) {
    workgroupBarrier();
    if (lane < half) { best[lane] = max(best[lane], best[lane + half]); }
  }
  workgroupBarrier();
  let all = best[0];

  var d = vec2<u32>(0u, 0u);
  var num: array<vec2<u32>, 4>;
  for (var i = 0u; i < 4u; i++) { num[i] = vec2<u32>(0u, 0u); }
  let begin = p.base + (group % ranges) * p.span;
  for (var block = begin; block < min(begin + p.span, p.base + p.blocks); block++) {
    let at = (kept + block) * KEPT;
    let own = vec2<i32>(scores[at + BLOCK], scores[at + BLOCK + 1u]);
    let key = block * BLOCK + lane;
    var both = 0u;
    if (key >= keys.x && key < keys.y) {
      let s = scores[at + lane];
      let j = (s >> 16u) + e[p.values + key * p.kv_heads + kv_head];
      both = probability(s, own.x - (s >> 16u)) | (probability(s, own.y - j) << 16u);
    }
    workgroupBarrier();
    weights[lane] = both;
    workgroupBarrier();
    let within = vec2<u32>(max(keys.x, block * BLOCK), min(keys.y, block * BLOCK + BLOCK));
    if (within.x < within.y) {
      if (lane == 0u) {
        var total = 0u;
        for (var n = within.x; n < within.y; n++) { total += weights[n % BLOCK] & 0xffffu; }
        d = add64(d, merge(vec2<u32>(total, 0u), all.x - own.x));
      }
      if (lane < p.words) {
        var high = vec4<i32>(0); var low = vec4<i32>(0);
        for (var n = within.x; n < within.y; n++) {
          let w = i32(weights[n % BLOCK] >> 16u);
          let x = v[(n * p.kv_heads + kv_head) * p.words + lane];
          high += w * vec4<i32>(byte(x.x, 0u), byte(x.x, 1u), byte(x.x, 2u), byte(x.x, 3u));
          low += w * vec4<i32>(byte(x.y, 0u), byte(x.y, 1u), byte(x.y, 2u), byte(x.y, 3u));
        }
        for (var i = 0u; i < 4u; i++) {
          let sum = add64(shl64(widen(high[i]), 8u), widen(low[i]));
          num[i] = add64(num[i], merge(sum, all.y - own.y));
        }
      }
    }
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
