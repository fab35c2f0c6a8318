// x + y, y as long as x or one row of it: `spec::add`.

struct Params { len: u32, period: u32, pad0: u32, pad1: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read> y: array<u32>;
@group(0) @binding(2) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = linear_group(id, count) * 64u + lane;
  if (i >= p.len) { return; }
  let sum = add(x[i], y[i % p.period]);
  if (!is_finite(sum)) { atomicOr(&fault, BAD_OUTPUT); }
  x[i] = sum;
}
