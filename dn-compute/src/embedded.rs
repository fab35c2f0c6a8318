//! The demonstration model, compiled into the program.

/// The GGUF file of `tiny-rust`, 4.9 MB.
pub fn tiny_rust() -> &'static [u8] {
    include_bytes!("../models/tiny-rust-q8_0.gguf")
}
