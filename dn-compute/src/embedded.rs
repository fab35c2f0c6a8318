//! The demonstration model, compiled into the program.

/// The GGUF file of `tiny-rust`, 4.9 MB: a Llama model of 4.5 million parameters that writes recognisable English about
/// Rust. `tools/train-tiny/` holds its card and the scripts that made it.
pub fn tiny_rust() -> &'static [u8] {
    include_bytes!("../models/tiny-rust-q8_0.gguf")
}

#[cfg(test)]
mod tests;
