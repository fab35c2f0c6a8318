// Attention over long contexts, first of three kernels: scores and the maxima of blocks.
//
// A query's blocks are shared between workgroups, `span` for each. What one computes is whole integers, exact, so that sharing
// changes no bit; `attention.wgsl` does all of it in one workgroup, for short contexts.

@group(0) @binding(0) var<storage, read> q: array<vec2<u32>>;       // [token][head][word]: high digits, low digits
@group(0) @binding(1) var<storage, read> qe: array<i32>;            // [token][head]
@group(0) @binding(2) var<storage, read> k: array<vec2<u32>>;       // [position][kv head][word]
@group(0) @binding(3) var<storage, read> e: array<i32>;             // [position][kv head] of keys; from `values` on, of values
@group(0) @binding(4) var<storage, read_write> scores: array<i32>;  // [query][block]: 64 scores, two maxima
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, lanes: Lanes) {
  let lane = place(lanes);
  let ranges = (p.blocks + p.span - 1u) / p.span;
  let group = linear_group(id, count);
  let query = group / ranges;
  if (query >= p.queries) { return; }
  let row_q = row_of(query);
  let kv_head = kv_head_of(query);
  let keys = seen(position_of(query));
  let begin = p.base + (group % ranges) * p.span;
  let kept = query * p.blocks - p.base;
  let eq = qe[row_q];
  for (var block = begin; block < min(begin + p.span, p.base + p.blocks); block++) {
    let key = block * BLOCK + lane;
    var top = vec2<i32>(NO_TOP, NO_TOP);
    if (key >= keys.x && key < keys.y) {
      let row = key * p.kv_heads + kv_head;
      var hh = 0; var mid = 0; var ll = 0;
      for (var w = 0u; w < p.words; w++) {
        let a = q[row_q * p.words + w]; let b = k[row * p.words + w];
        hh += dot4I8Packed(a.x, b.x);
        mid += dot4I8Packed(a.x, b.y) + dot4I8Packed(a.y, b.x);
        ll += dot4I8Packed(a.y, b.y);
      }
      let dot = add64(shl64(widen(hh), 16u), add64(shl64(widen(mid), 8u), widen(ll)));
      let s = score(dot, eq + e[row] + 16);
      scores[(kept + block) * KEPT + lane] = s;
      top = vec2<i32>(s >> 16u, (s >> 16u) + e[p.values + row]);
    }
    top = largest(lanes, top);
    if (lane == 0u) {
      scores[(kept + block) * KEPT + BLOCK] = top.x;
      scores[(kept + block) * KEPT + BLOCK + 1u] = top.y;
    }
    workgroupBarrier();
  }
}
