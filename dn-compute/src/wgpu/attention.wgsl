// Attention of one query head over quantised keys and values, a workgroup for each: `spec::attention`.
//
// Keys come in blocks of 64 aligned to position 0. First every score, kept in `scores` from the block `base` on; then the
// maxima of each block and of all; then, block by block, the weighted sums. A dispatch takes `heads` query heads of
// `all_heads`, those of the key and value heads in its buffers.

@group(0) @binding(0) var<storage, read> q: array<vec2<u32>>;       // [token][head][word]: high digits, low digits
@group(0) @binding(1) var<storage, read> qe: array<i32>;            // [token][head]
@group(0) @binding(2) var<storage, read> k: array<vec2<u32>>;       // [position][kv head][word]
@group(0) @binding(3) var<storage, read> v: array<vec2<u32>>;       // [position][kv head][word]
@group(0) @binding(4) var<storage, read> e: array<i32>;             // [position][kv head] of keys; from `values` on, of values
@group(0) @binding(5) var<storage, read_write> scores: array<i32>;  // [query][block]: 64 scores, two maxima
@group(0) @binding(6) var<storage, read_write> out: array<u32>;     // [token][head][element]
@group(0) @binding(7) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(8) var<uniform> p: Params;

var<workgroup> den: vec2<u32>;

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, lanes: Lanes) {
  let lane = place(lanes);
  let query = linear_group(id, count);
  if (query >= p.queries) { return; }
  let row_q = row_of(query);
  let kv_head = kv_head_of(query);
  let keys_seen = seen(position_of(query));
  let start = keys_seen.x; let end = keys_seen.y;
  let first_block = start / BLOCK; let last_block = (end - 1u) / BLOCK;
  let kept = query * p.blocks - p.base;              // of a block: (kept + block) * KEPT
  let begin_q = row_q * p.words;
  let eq = qe[row_q];

  var top = vec2<i32>(NO_TOP, NO_TOP);
  for (var block = first_block; block <= last_block; block++) {
    let key = block * BLOCK + lane;
    if (key >= start && key < end) {
      let row = key * p.kv_heads + kv_head;
      var hh = 0; var mid = 0; var ll = 0;
      for (var w = 0u; w < p.words; w++) {
        let a = q[begin_q + w]; let b = k[row * p.words + w];
        hh += dot4I8Packed(a.x, b.x);
        mid += dot4I8Packed(a.x, b.y) + dot4I8Packed(a.y, b.x);
        ll += dot4I8Packed(a.y, b.y);
      }
      let dot = add64(shl64(widen(hh), 16u), add64(shl64(widen(mid), 8u), widen(ll)));
      let s = score(dot, eq + e[row] + 16);
      scores[(kept + block) * KEPT + lane] = s;
      top = max(top, vec2<i32>(s >> 16u, (s >> 16u) + e[p.values + row]));
    }
  }
  let all = largest(lanes, top);

  // The maxima of each block, a lane for a block.
  storageBarrier();
  for (var block = first_block + lane; block <= last_block; block += LANES) {
    var own = vec2<i32>(NO_TOP, NO_TOP);
    for (var n = max(start, block * BLOCK); n < min(end, block * BLOCK + BLOCK); n++) {
      let i = scores[(kept + block) * KEPT + n % BLOCK] >> 16u;
      own = max(own, vec2<i32>(i, i + e[p.values + n * p.kv_heads + kv_head]));
    }
    scores[(kept + block) * KEPT + BLOCK] = own.x;
    scores[(kept + block) * KEPT + BLOCK + 1u] = own.y;
  }
  storageBarrier();

  var d = vec2<u32>(0u, 0u);
  var num: array<vec2<u32>, 4>;
  for (var i = 0u; i < 4u; i++) { num[i] = vec2<u32>(0u, 0u); }
  for (var block = first_block; block <= last_block; block++) {
    add_block(block, (kept + block) * KEPT, keys_seen, kv_head, all, lane, &d, &num);
  }
  if (lane == 0u) { den = d; }
  workgroupBarrier();
  let factor = recip(finish(den, 0));
  for (var i = 0u; i < 4u; i++) {
    let c = lane * 4u + i;
    if (c < p.head_dim) {
      let y = scale(mul(finish(num[i], 0), factor), all.y - all.x);
      if (!is_finite(y)) { atomicOr(&fault, BAD_OUTPUT); }
      out[row_q * p.head_dim + c] = y;
    }
  }
}
