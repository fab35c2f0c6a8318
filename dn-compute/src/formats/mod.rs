//! Model files.

pub mod gguf;
pub mod safetensors;
