// silu(gate) * up: `spec::silu`.

struct Params { len: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(0) var<storage, read_write> gate: array<u32>;
@group(0) @binding(1) var<storage, read> up: array<u32>;
@group(0) @binding(2) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(3) var<uniform> p: Params;

const LOG2_E: u32 = 0x3fb8aa3bu;
const MOST: u32 = 0x43000000u;   // 128

fn sigmoid(g: u32) -> u32 {
  let z = to_q16(mul(min(magnitude(g), MOST), LOG2_E));
  var e = 0u;
  if (z < (100 << 16u)) { e = exp2_neg(z); }
  let s = recip(add(ONE, e));
  if ((flush(g) & SIGN) == 0u) { return s; }
  return mul(e, s);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = linear_group(id, count) * 64u + lane;
  if (i >= p.len) { return; }
  let g = gate[i]; let u = up[i];
  let y = mul(mul(g, sigmoid(g)), u);
  if (!is_finite(g) || !is_finite(y)) { atomicOr(&fault, BAD_OUTPUT); }
  gate[i] = y;
}
