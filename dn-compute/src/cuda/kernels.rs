//! The kernels: their one source, and their names.

/// The whole text, in CUDA C++ without any header.
pub(super) const SOURCE: &str = concat!(
    include_str!("float.cu"),
    include_str!("linear.cu"),
    include_str!("linear_tiles.cu"),
    include_str!("elements.cu"),
    include_str!("norms.cu"),
    include_str!("attention.cu"),
    include_str!("ceilings.cu"),
);

/// Kernels of every architecture.
pub(super) const NAMES: [&str; 25] = [
    "add_to",
    "attention_begin",
    "copy_all",
    "divide",
    "gelu_all",
    "kv_quantise",
    "kv_store",
    "layer_norm",
    "linear_1",
    "linear_2",
    "linear_4",
    "linear_8",
    "linear_fours_1",
    "linear_fours_2",
    "linear_fours_4",
    "linear_fours_8",
    "peak_dp4a",
    "quantise",
    "read_all",
    "rms_norm",
    "rows_of",
    "scores",
    "silu_mul",
    "sums",
    "turn",
];

/// Kernels of architectures from 8.0 on: products of whole tiles.
pub(super) const TILE_NAMES: [&str; 5] =
    ["linear_tiles_128", "linear_tiles_16", "linear_tiles_32", "linear_tiles_row", "peak_tiles"];
