// What the lanes of a workgroup have, together: in subgroups first, whose results meet in memory. The same without subgroups:
// `lanes_memory.wgsl`.
//
// GROUP lanes, of which each LANES share a row, have SUMS sums each. A barrier must lie between two calls of a function. A
// subgroup may have any power of two of lanes, in each dispatch another: `size` tells it. What is added is integers, so that the
// order cannot change a bit.
//
// Lanes exchange what they have only where every subgroup is full: then places follow from subgroups, and the lane that is asked
// is there. Drivers need not fill subgroups. Where one does not, each lane is a row's part of its own (`width` is one), and all
// goes through memory.

struct Lanes {
  @builtin(local_invocation_index) index: u32,
  @builtin(num_subgroups) count: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_size) size: u32,
  @builtin(subgroup_invocation_id) own: u32,
}

var<workgroup> tops: array<vec2<i32>, GROUP>;
var<workgroup> part: array<vec2<u32>, GROUP * SUMS>;

// So many subgroups have room for no more lanes than there are: none has a gap.
fn are_full(lanes: Lanes) -> bool { return lanes.count * lanes.size == GROUP; }
// Lanes that exchange what they have.
fn together(lanes: Lanes) -> u32 { return select(1u, lanes.size, are_full(lanes)); }
// A lane's place in its workgroup: a full subgroup's lanes have places one after another, whatever their index is.
fn place(lanes: Lanes) -> u32 {
  return select(lanes.index, lanes.subgroup * lanes.size + lanes.own, are_full(lanes));
}
// Of them, those of a row.
fn width(lanes: Lanes) -> u32 { return min(together(lanes), LANES); }

// The largest that any lane of the workgroup has, of each of two.
fn largest(lanes: Lanes, own: vec2<i32>) -> vec2<i32> {
  let at = place(lanes);
  let step = together(lanes);
  var top = subgroupMax(own);
  if (at % step == 0u) { tops[at / step] = top; }
  workgroupBarrier();
  for (var i = 0u; i * step < GROUP; i++) { top = max(top, tops[i]); }
  return top;
}

// Adds up what the lanes of each row have; `total` then tells it.
fn add_up(lanes: Lanes, own: ptr<function, array<vec2<u32>, SUMS>>) {
  let at = place(lanes);
  let most = width(lanes);
  for (var s = 0u; s < SUMS; s++) {
    var sum = (*own)[s];
    for (var half = most / 2u; half > 0u; half = half >> 1u) { sum = add64(sum, subgroupShuffleXor(sum, half)); }
    if (at % most == 0u) { part[s * GROUP + at] = sum; }
  }
  workgroupBarrier();
}
fn total(lanes: Lanes, row: u32, s: u32) -> vec2<u32> {
  var sum = vec2<u32>(0u, 0u);
  for (var at = 0u; at < LANES; at += width(lanes)) { sum = add64(sum, part[s * GROUP + row * LANES + at]); }
  return sum;
}
