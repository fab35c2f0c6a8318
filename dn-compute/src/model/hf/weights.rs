//! The tensors of one or several safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use dn_core::objects::{Hyperparameters, RopePairing};

use crate::formats::gguf::TensorType;
use crate::formats::safetensors::{Dtype, SafeTensor, Safetensors};
use crate::model::layout::{self, Entry, Form, Found, Slot};
use crate::model::source::Source;
use crate::model::{ModelError, hf};

/// Longest index of shards.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Most shards.
const MAX_SHARDS: usize = 4096;

/// The files that hold a model's weights, their headers read.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) files: Vec<Source>,
    headers: Vec<Safetensors>,
    /// Which file a tensor is in.
    home: HashMap<String, usize>,
}

impl Weights {
    /// One file.
    pub(super) fn open(path: &Path) -> Result<Self, ModelError> {
        Self::read(vec![path.to_owned()], None)
    }

    /// The files that an index names; they lie beside it.
    pub(super) fn open_index(path: &Path) -> Result<Self, ModelError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let index: Index = hf::json(path, MAX_INDEX_BYTES)?.ok_or_else(|| hf::missing(path))?;
        let mut names: Vec<&String> = index.weight_map.values().collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_SHARDS {
            let (key, expected) = ("weight_map".to_owned(), "at most 4096 files");
            return Err(ModelError::Parameter { key, expected, found: names.len().to_string() });
        }
        let plain = |name: &str| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
        };
        if let Some(bad) = names.iter().find(|name| !plain(name)) {
            let (key, expected) = ("weight_map".to_owned(), "names of files beside the index");
            return Err(ModelError::Parameter { key, expected, found: (*bad).clone() });
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        let paths = names.iter().map(|name| directory.join(name)).collect();
        let place = |file: &String| names.binary_search(&file).expect("every file of the map is in the list");
        let home = index.weight_map.iter().map(|(tensor, file)| (tensor.clone(), place(file))).collect();
        Self::read(paths, Some(home))
    }

    fn read(paths: Vec<PathBuf>, home: Option<HashMap<String, usize>>) -> Result<Self, ModelError> {
        let (mut files, mut headers) = (Vec::new(), Vec::new());
        for path in &paths {
            let source = Source::open(path)?;
            let header = source.safetensors()?;
            files.push(source);
            headers.push(header);
        }
        let mut all = HashMap::new();
        for (file, header) in headers.iter().enumerate() {
            for tensor in header.tensors() {
                let wrong = home.as_ref().is_some_and(|home| home.get(&tensor.name) != Some(&file));
                if wrong || all.insert(tensor.name.clone(), file).is_some() {
                    let path = paths[file].display().to_string();
                    return Err(ModelError::Shard { name: tensor.name.clone(), path });
                }
            }
        }
        Ok(Self { files, headers, home: all })
    }

    fn tensor(&self, name: &str) -> Option<(usize, &SafeTensor)> {
        let file = *self.home.get(name)?;
        Some((file, self.headers[file].tensor(name)?))
    }

    /// The tensors of the architecture; there are no others but those that are known to say nothing.
    pub(super) fn entries(&self, arch: &str, h: &Hyperparameters) -> Result<Vec<Entry>, ModelError> {
        let entries = layout::entries(h, Slot::hub_name, |slot, name| self.find(h, slot, name))?;
        let known = |name: &&str| {
            // Buffers that older files keep, and the copy of a tied embedding.
            let tied = h.tied_embeddings && *name == "lm_head.weight";
            !tied && !name.ends_with("rotary_emb.inv_freq")
        };
        let names = self.headers.iter().flat_map(Safetensors::tensors).map(|t| t.name.as_str());
        match layout::unused(&entries, names.filter(known)) {
            Some(name) => {
                let (name, architecture) = (name.to_owned(), arch.to_owned());
                Err(ModelError::UnexpectedTensor { name, architecture })
            }
            None => Ok(entries),
        }
    }

    fn find(&self, h: &Hyperparameters, slot: Slot, name: &str) -> Result<Option<Found>, ModelError> {
        let Some((file, tensor)) = self.tensor(name) else { return Ok(None) };
        let kind = match tensor.dtype {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::Bf16 => TensorType::Bf16,
            found => return Err(ModelError::Dtype { name: name.to_owned(), found: found.name() }),
        };
        let interleaved = h.rope_pairing == RopePairing::Interleaved;
        let form = match slot {
            Slot::Query(_) | Slot::QueryBias(_) if interleaved => {
                Form::Halves { kind, heads: h.heads as usize }
            }
            Slot::Key(_) | Slot::KeyBias(_) if interleaved => {
                Form::Halves { kind, heads: h.kv_heads as usize }
            }
            _ => Form::Stored(kind),
        };
        let shape = tensor.shape.iter().rev().copied().collect();
        Ok(Some(Found { file, start: tensor.start, size: tensor.size, form, shape }))
    }
}
