// Pairs of elements turned by a cosine and a sine: `spec::rope`.

struct Params { rows: u32, heads: u32, head_dim: u32, rotary_dim: u32, half_split: u32, pad0: u32, pad1: u32, pad2: u32 }
@group(0) @binding(0) var<storage, read_write> x: array<u32>;       // [token][head][element]
@group(0) @binding(1) var<storage, read> table: array<vec2<u32>>;   // [position][pair]: cosine, sine
@group(0) @binding(2) var<storage, read> positions: array<u32>;     // [token]
@group(0) @binding(3) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(4) var<uniform> p: Params;

// An item is a pair, or one of the elements that stay.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let item = linear_group(id, count) * 64u + lane;
  let pairs = p.rotary_dim / 2u;
  let items = p.head_dim - pairs;
  if (item >= p.rows * p.heads * items) { return; }
  let head = item / items; let i = item % items;
  let begin = head * p.head_dim;
  if (i >= pairs) {
    let at = begin + p.rotary_dim + (i - pairs);
    if (!is_finite(x[at])) { atomicOr(&fault, BAD_INPUT); }
    x[at] = flush(x[at]);
    return;
  }
  var a = begin + 2u * i; var b = a + 1u;
  if (p.half_split == 1u) { a = begin + i; b = a + pairs; }
  let turn = table[positions[head / p.heads] * pairs + i];
  let va = x[a]; let vb = x[b];
  let ya = sub(mul(va, turn.x), mul(vb, turn.y));
  let yb = add(mul(va, turn.y), mul(vb, turn.x));
  if (!is_finite(ya) || !is_finite(yb)) { atomicOr(&fault, BAD_OUTPUT); }
  x[a] = ya;
  x[b] = yb;
}
