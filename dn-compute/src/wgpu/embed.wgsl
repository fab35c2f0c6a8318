// Rows of a matrix as numbers: `spec::embed`. A matrix in several parts takes a pass for each.

struct Params { rows: u32, cols: u32, words: u32, first_row: u32, block: u32, blocks: u32, tokens: u32, pad: u32 }
@group(0) @binding(0) var<storage, read> q: array<u32>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> row_exponents: array<i32>;
@group(0) @binding(3) var<storage, read> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = linear_group(id, count) * 64u + lane;
  if (at >= p.tokens * p.cols) { return; }
  let token = at / p.cols; let c = at % p.cols;
  let row = tokens[token] - p.first_row;
  if (row >= p.rows) { return; }
  let block = c / p.block;
  var m = 0u; var n = 0;
  if (MINIMA) {
    let both = scales[row * p.blocks + block];
    m = both & 0xffffu;
    n = bitcast<i32>(both) >> 16u;
  } else {
    m = (scales[row * ((p.blocks + 1u) / 2u) + block / 2u] >> (16u * (block & 1u))) & 0xffffu;
  }
  let byte = bitcast<i32>(q[row * p.words + c / 4u] << (24u - 8u * (c & 3u))) >> 24u;
  out[at] = finish(widen(byte * i32(m) - 16 * n), row_exponents[row]);
}
