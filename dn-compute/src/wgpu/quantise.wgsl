// Rows of f32 to integers of 16 bits under an exponent per row, as two digits of 8 bits: A = 256 * hi + lo.
//
// A word holds a digit of four columns; the row is padded with zeros. Beside them the sum of each sixteen integers.

struct Params { rows: u32, cols: u32, words: u32, factor: u32 }
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> digits: array<vec2<u32>>;   // [row][word]: high digits, low digits
@group(0) @binding(2) var<storage, read_write> exponents: array<i32>;
@group(0) @binding(3) var<storage, read_write> sums: array<i32>;           // [row][word / 4]
@group(0) @binding(4) var<storage, read_write> fault: atomic<u32>;
@group(0) @binding(5) var<uniform> p: Params;

// The value at a column, multiplied by the factor where there is one.
fn value(at: u32) -> u32 {
  if (p.factor == 0u) { return x[at]; }
  return mul(x[at], p.factor);
}

@compute @workgroup_size(GROUP)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, lanes: Lanes) {
  let lane = place(lanes);
  let row = linear_group(id, count);
  if (row >= p.rows) { return; }
  let begin = row * p.cols;
  var top = 0u;
  for (var c = lane; c < p.cols; c += LANES) { top = max(top, magnitude(value(begin + c))); }
  top = bitcast<u32>(largest(lanes, vec2<i32>(bitcast<i32>(top))).x);
  let et = exponent(flush(top));
  if (lane == 0u) {
    exponents[row] = et;
    if (top >= RANGE) { atomicOr(&fault, BAD_INPUT); }
  }
  for (var g = lane; g < p.words / 4u; g += LANES) {
    var sum = 0;
    for (var w = 0u; w < 4u; w++) {
      var hi = 0u; var lo = 0u;
      for (var i = 0u; i < 4u; i++) {
        let c = g * 16u + w * 4u + i;
        var a = 0;
        if (c < p.cols) { a = integer(value(begin + c), et); }
        let h = (a + 128) >> 8u;
        sum += a;
        hi |= (bitcast<u32>(h) & 255u) << (8u * i);
        lo |= (bitcast<u32>(a - 256 * h) & 255u) << (8u * i);
      }
      digits[row * p.words + g * 4u + w] = vec2<u32>(hi, lo);
    }
    sums[row * (p.words / 4u) + g] = sum;
  }
}
