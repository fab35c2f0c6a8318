// x * Phi(x): `spec::gelu`.

struct Params { len: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(2) var<uniform> p: Params;

const CUT: u32 = 0x40c00000u;    // 6

fn upper_tail(a: u32) -> u32 {
  var y = 0x35ee34f5u;
  y = add(mul(y, a), 0xb87d527bu);
  y = add(mul(y, a), 0x3a716f8cu);
  y = add(mul(y, a), 0xbc0ac571u);
  y = add(mul(y, a), 0x3d5cb172u);
  y = add(mul(y, a), 0x3eeac6f0u);
  y = add(mul(y, a), 0x3f935af0u);
  y = add(mul(y, a), ONE);
  return exp2_neg(to_q16(y));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = linear_group(id, count) * 64u + lane;
  if (i >= p.len) { return; }
  let v = flush(x[i]);
  if (!is_finite(v)) { atomicOr(&fault, BAD_INPUT); return; }
  let a = magnitude(v);
  var t = 0u;
  if (a < CUT) { t = mul(a, upper_tail(a)); }
  x[i] = sub(select(v, 0u, (v & SIGN) != 0u), t);
}
