// out[t][r] = finish(sum over blocks of m * (sum q * A) - 16 * n * (sum A), er + et): `spec::linear`.
//
// LANES lanes share a row of weights and take pieces of its columns; a piece lies in one block. The sums are exact
// integers, so how the columns are shared cannot change a bit. TOKENS activation rows pass at a time.

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

const ROWS: u32 = GROUP / LANES;

fn mantissa(row: u32, block: u32) -> u32 {
  if (MINIMA) { return scales[row * p.blocks + block] & 0xffffu; }
  let word = scales[row * ((p.blocks + 1u) / 2u) + block / 2u];
  return (word >> (16u * (block & 1u))) & 0xffffu;
}
fn minimum(row: u32, block: u32) -> i32 { return bitcast<i32>(scales[row * p.blocks + block]) >> 16u; }

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, lanes: Lanes) {
  let index = place(lanes);
  let lane = index % LANES;
  let row = (id.x + id.y * count.x) * ROWS + index / LANES;
  let first = id.z * TOKENS;
  var acc: array<vec2<u32>, SUMS>;
  for (var t = 0u; t < TOKENS; t++) { acc[t] = vec2<u32>(0u, 0u); }
  if (row < p.rows) {
    for (var piece = lane; piece < p.pieces; piece += LANES) {
      let block = piece / p.pieces_per_block;
      let m = mantissa(row, block);
      for (var t = 0u; t < TOKENS; t++) {
        let token = min(first + t, p.tokens - 1u);
        var high = 0; var low = 0; var total = 0;
        for (var v = 0u; v < VECTORS; v++) {
          let at = piece * VECTORS + v;
          let w = q[row * (p.words / 4u) + at];
          let a = digits[token * (p.words / 2u) + 2u * at];
          let b = digits[token * (p.words / 2u) + 2u * at + 1u];
          high += dot4I8Packed(w.x, a.x) + dot4I8Packed(w.y, a.z) + dot4I8Packed(w.z, b.x) + dot4I8Packed(w.w, b.z);
          low += dot4I8Packed(w.x, a.y) + dot4I8Packed(w.y, a.w) + dot4I8Packed(w.z, b.y) + dot4I8Packed(w.w, b.w);
          if (MINIMA) { total += sums[token * (p.words / 4u) + at]; }
        }
        acc[t] = add64(acc[t], mul_u16(256 * high + low, m));
        if (MINIMA) { acc[t] = sub64(acc[t], shl64(mul_i16(total, minimum(row, block)), 4u)); }
      }
    }
  }
  add_up(lanes, &acc);
  if (lane < TOKENS && row < p.rows && first + lane < p.tokens) {
    let sum = total(lanes, index / LANES, lane);
    let y = finish(sum, row_exponents[row] + exponents[first + lane]);
    if (!is_finite(y)) { atomicOr(&fault, BAD_OUTPUT); }
    out[(first + lane) * p.all_rows + p.first_row + row] = y;
  }
}
