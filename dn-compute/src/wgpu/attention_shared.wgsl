// What the kernels of attention share: see `attention.wgsl` and `attention_scores.wgsl`.

struct Params {
  queries: u32, heads: u32, group: u32, words: u32,
  head_dim: u32, kv_heads: u32, first: u32, held: u32,
  window: u32, base: u32, blocks: u32, all_heads: u32,
  first_head: u32, first_row: u32, values: u32, span: u32,
}

const BLOCK: u32 = 64u;
const KEPT: u32 = 66u;
const MAX_SCORE: i32 = 1 << 30u;
const MAX_P: u32 = 16383u;
const NO_TOP: i32 = -0x40000000;

// The exact dot product times 2^shift, nearest, held to MAX_SCORE: `spec::attention::score`.
fn score(dot: vec2<u32>, shift: i32) -> i32 {
  var s = dot;
  if (shift < 0) { s = shift_round64(dot, u32(-shift)); }
  let hi = bitcast<i32>(s.y); let lo = bitcast<i32>(s.x);
  var held = lo;
  if (hi != (lo >> 31u)) { held = select(MAX_SCORE, -MAX_SCORE, hi < 0); }
  held = clamp(held, -MAX_SCORE, MAX_SCORE);
  if (shift <= 0) { return held; }
  if (held == 0) { return 0; }
  // What a shift takes beyond the limit is held there.
  if (abs(held) > (MAX_SCORE >> u32(min(shift, 31)))) { return select(MAX_SCORE, -MAX_SCORE, held < 0); }
  return held << u32(shift);
}
fn probability(s: i32, below: i32) -> u32 {
  return min(shift_round(exp2_q16(bitcast<u32>(s) & 0xffffu), u32(below) + 3u), MAX_P);
}
// 16 guard bits, then down to the maximum of all: `spec::attention::merge`.
fn merge(sum: vec2<u32>, down: i32) -> vec2<u32> { return shift_round64(shl64(sum, 16u), u32(down)); }
fn byte(word: u32, i: u32) -> i32 { return bitcast<i32>(word << (24u - 8u * i)) >> 24u; }

// Which keys a query sees, from and to: a window of 0 stands for all there are.
fn seen(position: u32) -> vec2<u32> {
  let end = position + 1u;
  if (p.window == 0u) { return vec2<u32>(0u, p.held); }
  if (end > p.window) { return vec2<u32>(end - p.window, end); }
  return vec2<u32>(0u, end);
}
// The row of a query in `q`, `qe` and `out`.
fn row_of(query: u32) -> u32 {
  return (p.first_row + query / p.heads) * p.all_heads + p.first_head + query % p.heads;
}
fn kv_head_of(query: u32) -> u32 { return (query % p.heads) / p.group; }
fn position_of(query: u32) -> u32 { return p.first + query / p.heads; }
