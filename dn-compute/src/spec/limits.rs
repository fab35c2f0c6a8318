//! The limits inside which the overflow proofs of this specification hold.

/// Longest row of a matrix, and longest vector of a norm.
///
/// `|S| <= K * 127 * 65535 * 32639 < 2^53` for `K = 2^15`: the exact sum of a linear output also fits the 53
/// bits of an f64, so a backend may add in f64 (fused or not) and still be exact.
pub const MAX_COLS: usize = 32_768;

/// Most rows of a matrix.
pub const MAX_ROWS: usize = 1 << 24;

/// Most positions of a sequence.
///
/// A numerator of attention is at most `64 * 16383 * 32639 * 2^16 < 2^51` per block of 64 keys; 2,048 blocks
/// stay below `2^62` and fit an i64.
pub const MAX_CONTEXT: usize = 131_072;

/// Longest head. A dot product of a high digit (`|hi| <= 128`) with a 16-bit key stays below `2^31`.
pub const MAX_HEAD_DIM: usize = 256;

/// Most tokens of one call.
pub const MAX_TOKENS: usize = 1 << 20;

/// Largest magnitude of an activation integer: `A = 256 * hi + lo` with both digits in an i8.
pub const MAX_ACTIVATION: i32 = 32_639;

/// Values of `2^100` and more are refused by every quantiser.
pub const MAX_EXPONENT: i32 = 100;

/// A vector whose largest magnitude is below `2^-100` is the zero vector.
pub const MIN_EXPONENT: i32 = -100;
