// What the lanes of a workgroup have, together: through memory that they share. The same on subgroups: `lanes_subgroups.wgsl`.
//
// GROUP lanes, of which each LANES share a row, have SUMS sums each. A barrier must lie between two calls of a function.

struct Lanes { @builtin(local_invocation_index) index: u32 }

var<workgroup> tops: array<vec2<i32>, GROUP>;
var<workgroup> part: array<vec2<u32>, GROUP * SUMS>;

// A lane's place in its workgroup.
fn place(lanes: Lanes) -> u32 { return lanes.index; }

// The largest that any lane of the workgroup has, of each of two.
fn largest(lanes: Lanes, own: vec2<i32>) -> vec2<i32> {
  let at = place(lanes);
  tops[at] = own;
  for (var half = GROUP / 2u; half > 0u; half = half >> 1u) {
    workgroupBarrier();
    if (at < half) { tops[at] = max(tops[at], tops[at + half]); }
  }
  workgroupBarrier();
  return tops[0];
}

// Adds up what the lanes of each row have; `total` then tells it.
fn add_up(lanes: Lanes, own: ptr<function, array<vec2<u32>, SUMS>>) {
  let at = place(lanes);
  for (var s = 0u; s < SUMS; s++) { part[s * GROUP + at] = (*own)[s]; }
  for (var half = LANES / 2u; half > 0u; half = half >> 1u) {
    workgroupBarrier();
    if (at % LANES < half) {
      for (var s = 0u; s < SUMS; s++) {
        let to = s * GROUP + at;
        part[to] = add64(part[to], part[to + half]);
      }
    }
  }
  workgroupBarrier();
}
fn total(lanes: Lanes, row: u32, s: u32) -> vec2<u32> { return part[s * GROUP + row * LANES]; }
