//! A small writer: for models made here and for tests of the reader.

use super::{Array, TensorType, Value, ValueType};

/// Builds a GGUF file, version 3.
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, TensorType, Vec<u8>)>,
    alignment: Option<u32>,
}

impl GgufWriter {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a key.
    pub fn key(&mut self, key: &str, value: Value) -> &mut Self {
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// Appends a text.
    pub fn string(&mut self, key: &str, text: &str) -> &mut Self {
        self.key(key, Value::String(text.to_owned()))
    }

    /// Appends a `u32`.
    pub fn u32(&mut self, key: &str, n: u32) -> &mut Self {
        self.key(key, Value::Unsigned(ValueType::U32, n.into()))
    }

    /// Appends an `f32`.
    pub fn f32(&mut self, key: &str, x: f32) -> &mut Self {
        self.key(key, Value::F32(x))
    }

    /// Appends a boolean.
    pub fn bool(&mut self, key: &str, b: bool) -> &mut Self {
        self.key(key, Value::Bool(b))
    }

    /// Appends an array of texts.
    pub fn strings(&mut self, key: &str, items: Vec<String>) -> &mut Self {
        self.key(key, Value::Array(Array::String(items)))
    }

    /// Sets the alignment (and its key).
    pub fn alignment(&mut self, alignment: u32) -> &mut Self {
        self.alignment = Some(alignment);
        self.u32("general.alignment", alignment)
    }

    /// Appends a tensor: sizes, the fastest first, and its bytes as they stand in the file.
    pub fn tensor(&mut self, name: &str, shape: &[u64], kind: TensorType, bytes: Vec<u8>) -> &mut Self {
        self.tensors.push((name.to_owned(), shape.to_vec(), kind, bytes));
        self
    }

    /// The same file without a key.
    pub fn without_key(&self, key: &str) -> Self {
        let mut out = self.clone();
        out.metadata.retain(|(k, _)| k != key);
        out
    }

    /// The file.
    pub fn finish(&self) -> Vec<u8> {
        let alignment = self.alignment.unwrap_or(super::DEFAULT_ALIGNMENT) as usize;
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            out.extend((value.kind() as u32).to_le_bytes());
            write_value(&mut out, value);
        }
        let mut offset = 0usize;
        for (name, shape, kind, bytes) in &self.tensors {
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(kind.id().to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + bytes.len()).next_multiple_of(alignment);
        }
        for (_, _, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment), 0);
            out.extend(bytes);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn integer(out: &mut Vec<u8>, kind: ValueType, bytes: [u8; 8]) {
    out.extend(&bytes[..kind.min_bytes() as usize]);
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Unsigned(kind, n) => integer(out, *kind, n.to_le_bytes()),
        Value::Signed(kind, n) => integer(out, *kind, n.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::String(s) => text(out, s),
        Value::Array(items) => write_array(out, items),
    }
}

fn write_array(out: &mut Vec<u8>, array: &Array) {
    let mut head = |kind: ValueType, n: usize| {
        out.extend((kind as u32).to_le_bytes());
        out.extend((n as u64).to_le_bytes());
    };
    match array {
        Array::Unsigned(kind, items) => {
            head(*kind, items.len());
            items.iter().for_each(|n| integer(out, *kind, n.to_le_bytes()));
        }
        Array::Signed(kind, items) => {
            head(*kind, items.len());
            items.iter().for_each(|n| integer(out, *kind, n.to_le_bytes()));
        }
        Array::F32(items) => {
            head(ValueType::F32, items.len());
            items.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
        Array::F64(items) => {
            head(ValueType::F64, items.len());
            items.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
        Array::Bool(items) => {
            head(ValueType::Bool, items.len());
            items.iter().for_each(|b| out.push(u8::from(*b)));
        }
        Array::String(items) => {
            head(ValueType::String, items.len());
            items.iter().for_each(|s| text(out, s));
        }
        Array::Array(items) => {
            head(ValueType::Array, items.len());
            items.iter().for_each(|a| write_array(out, a));
        }
    }
}
