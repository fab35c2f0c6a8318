//! The header's JSON, and whether what it says can be.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::{Dtype, MAX_DIMENSIONS, MAX_TENSORS, SafeTensor, Safetensors, SafetensorsError};

/// One entry as it stands in the file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// All entries, names that occur twice among them.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
                let mut pairs = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>()?;
                    } else {
                        pairs.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(pairs))
            }
        }
        d.deserialize_map(Pairs)
    }
}

/// The tensors of a header that ends at byte `end` of the file, before `data` bytes.
pub(super) fn header(json: &[u8], end: u64, data: u64) -> Result<Safetensors, SafetensorsError> {
    let Entries(entries) = serde_json::from_slice(json).map_err(SafetensorsError::Json)?;
    let limit = |what, found, limit| {
        if found <= limit { Ok(()) } else { Err(SafetensorsError::Limit { what, found, limit }) }
    };
    limit("tensors", entries.len(), MAX_TENSORS)?;
    let (mut tensors, mut by_name) = (Vec::with_capacity(entries.len()), HashMap::new());
    for (index, (name, entry)) in entries.into_iter().enumerate() {
        limit("dimensions of a tensor", entry.shape.len(), MAX_DIMENSIONS)?;
        let mut tensor = tensor(name, entry)?;
        if tensor.start.checked_add(tensor.size).is_none_or(|end| end > data) {
            let end = tensor.start.saturating_add(tensor.size);
            return Err(SafetensorsError::Range { name: tensor.name, end, data });
        }
        tensor.start += end;
        if by_name.insert(tensor.name.clone(), index).is_some() {
            return Err(SafetensorsError::Duplicate { name: tensor.name });
        }
        tensors.push(tensor);
    }
    covered(&tensors, end, data)?;
    Ok(Safetensors { tensors, by_name })
}

/// One tensor; its `start` is still relative to the data.
fn tensor(name: String, entry: Entry) -> Result<SafeTensor, SafetensorsError> {
    let Entry { dtype, shape, data_offsets: [start, end] } = entry;
    let Some(dtype) = Dtype::from_name(&dtype) else {
        return Err(SafetensorsError::Dtype { name, found: dtype });
    };
    let size = shape.iter().try_fold(dtype.bytes(), |n, d| n.checked_mul(*d));
    if size.is_none() || end.checked_sub(start) != size {
        let expected = size.unwrap_or(u64::MAX);
        return Err(SafetensorsError::Size { name, shape, expected, start, end });
    }
    Ok(SafeTensor { name, dtype, shape, start, size: end - start })
}

/// The tensors follow one another from the first byte of the data to its last.
fn covered(tensors: &[SafeTensor], from: u64, data: u64) -> Result<(), SafetensorsError> {
    let mut order: Vec<&SafeTensor> = tensors.iter().collect();
    order.sort_by_key(|t| (t.start, t.size));
    let mut at = from;
    for tensor in order {
        if tensor.start != at {
            let (found, expected) = (tensor.start - from, at - from);
            return Err(SafetensorsError::Gap { name: tensor.name.clone(), found, expected });
        }
        at += tensor.size;
    }
    if at - from == data { Ok(()) } else { Err(SafetensorsError::Rest { end: at - from, data }) }
}
