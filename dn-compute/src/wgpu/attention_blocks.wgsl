// What a block of keys adds to a query's sums: see `attention.wgsl` and `attention_sums.wgsl`.

var<workgroup> weights: array<u32, BLOCK>;                          // p in the low half, p' in the high half

// The sums: a lane for four elements, all lanes for the probabilities. `at`: the block's scores; `all`: the maxima of all keys.
fn add_block(
  block: u32, at: u32, keys: vec2<u32>, kv_head: u32, all: vec2<i32>, lane: u32,
  d: ptr<function, vec2<u32>>, num: ptr<function, array<vec2<u32>, 4>>,
) {
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
  // A block of which the query sees nothing has no maxima that count.
  if (within.x >= within.y) { return; }
  if (lane == 0u) {
    var total = 0u;
    for (var n = within.x; n < within.y; n++) { total += weights[n % BLOCK] & 0xffffu; }
    *d = add64(*d, merge(vec2<u32>(total, 0u), all.x - own.x));
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
      (*num)[i] = add64((*num)[i], merge(sum, all.y - own.y));
    }
  }
}
