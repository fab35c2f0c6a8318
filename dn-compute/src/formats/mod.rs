//! Model files.

pub mod gguf;
