// The same as `linear.wgsl`, for many tokens: a workgroup takes ROWS rows of weights and TOKENS activation rows, piece by piece
// through memory that its lanes share. A lane has one row of weights and OWN tokens.

struct Params { rows: u32, words: u32, pieces: u32, tokens: u32, first_row: u32, all_rows: u32, pieces_per_block: u32, blocks: u32 }
@group(0) @binding(0) var<storage, read> q: array<vec4<u32>>;          // [row][word / 4]: signed bytes of four columns
@group(0) @binding(1) var<storage, read> scales: array<u32>;           // see `mantissa` and `minimum`
@group(0) @binding(2) var<storage, read> row_exponents: array<i32>;
@group(0) @binding(3) var<storage, read> digits: array<vec4<u32>>;     // [token][word / 2]: high, low, high, low
@group(0) @binding(4) var<storage, read> exponents: array<i32>;        // of the tokens
@group(0) @binding(5) var<storage, read> sums: array<i32>;             // [token][word / 4]
@group(0) @binding(6) var<storage, read_write> out: array<u32>;        // [token][all_rows]
@group(0) @binding(7) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(8) var<uniform> p: Params;

const LANES: u32 = ROWS * TOKENS / OWN;
var<workgroup> own_q: array<vec4<u32>, ROWS * VECTORS>;
var<workgroup> own_digits: array<vec4<u32>, TOKENS * VECTORS * 2u>;
var<workgroup> own_sums: array<i32, TOKENS * VECTORS>;

fn mantissa(row: u32, block: u32) -> u32 {
  if (MINIMA) { return scales[row * p.blocks + block] & 0xffffu; }
  let word = scales[row * ((p.blocks + 1u) / 2u) + block / 2u];
  return (word >> (16u * (block & 1u))) & 0xffffu;
}
fn minimum(row: u32, block: u32) -> i32 { return bitcast<i32>(scales[row * p.blocks + block]) >> 16u; }

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let first_row = (id.x + id.y * count.x) * ROWS;
  let first = id.z * TOKENS;
  let lane_row = index % ROWS; let lane_token = index / ROWS * OWN;
  let row = first_row + lane_row;
  // Beyond the last row and the last token, the last ones are computed again, and not written.
  let known_row = min(row, p.rows - 1u);
  var acc: array<vec2<u32>, OWN>;
  for (var t = 0u; t < OWN; t++) { acc[t] = vec2<u32>(0u, 0u); }
  for (var piece = 0u; piece < p.pieces; piece++) {
    for (var i = index; i < ROWS * VECTORS; i += LANES) {
      let origin = min(first_row + i / VECTORS, p.rows - 1u);
      own_q[i] = q[origin * (p.words / 4u) + piece * VECTORS + i % VECTORS];
    }
    for (var i = index; i < TOKENS * VECTORS * 2u; i += LANES) {
      let origin = min(first + i / (2u * VECTORS), p.tokens - 1u);
      own_digits[i] = digits[origin * (p.words / 2u) + 2u * piece * VECTORS + i % (2u * VECTORS)];
    }
    if (MINIMA) {
      for (var i = index; i < TOKENS * VECTORS; i += LANES) {
        let origin = min(first + i / VECTORS, p.tokens - 1u);
        own_sums[i] = sums[origin * (p.words / 4u) + piece * VECTORS + i % VECTORS];
      }
    }
    workgroupBarrier();
    let block = piece / p.pieces_per_block;
    let m = mantissa(known_row, block);
    for (var t = 0u; t < OWN; t++) {
      var high = 0; var low = 0; var total = 0;
      for (var v = 0u; v < VECTORS; v++) {
        let w = own_q[lane_row * VECTORS + v];
        let at = (lane_token + t) * VECTORS + v;
        let a = own_digits[2u * at]; let b = own_digits[2u * at + 1u];
        high += dot4I8Packed(w.x, a.x) + dot4I8Packed(w.y, a.z) + dot4I8Packed(w.z, b.x) + dot4I8Packed(w.w, b.z);
        low += dot4I8Packed(w.x, a.y) + dot4I8Packed(w.y, a.w) + dot4I8Packed(w.z, b.y) + dot4I8Packed(w.w, b.w);
        if (MINIMA) { total += own_sums[at]; }
      }
      acc[t] = add64(acc[t], mul_u16(256 * high + low, m));
      if (MINIMA) { acc[t] = sub64(acc[t], shl64(mul_i16(total, minimum(known_row, block)), 4u)); }
    }
    workgroupBarrier();
  }
  for (var t = 0u; t < OWN; t++) {
    let token = first + lane_token + t;
    if (row < p.rows && token < p.tokens) {
      let y = finish(acc[t], row_exponents[row] + exponents[token]);
      if (!is_finite(y)) { atomicOr(&fault, BAD_OUTPUT); }
      out[token * p.all_rows + p.first_row + row] = y;
    }
  }
}
