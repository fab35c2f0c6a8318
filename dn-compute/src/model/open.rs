//! From a path to a model whose weights are not read yet.

use std::path::Path;

use dn_core::Hash32;

use super::front::{Chat, ModelFront, Parts};
use super::layout::{self, Entry, Form, Found, Slot, TensorSize};
use super::source::{ModelBytes, Source};
use super::{ModelError, hf, hyper, package};
use crate::formats::gguf::{Gguf, Metadata};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::definition::{Definition, TokenizerSource, special};

/// A model, all checked but the values of its weights.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) front: ModelFront,
    pub(super) entries: Vec<Entry>,
    pub(super) sources: Vec<Source>,
    /// What its tokenizer was built from.
    pub(super) tokenizer: TokenizerSource,
    /// The template and the texts it is given.
    pub(super) chat: Option<Chat>,
    /// What a package commits to.
    pub(super) promise: Option<Promise>,
}

/// The root and the hashes of the tiles, tensor by tensor, that a package promises.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) root: Hash32,
    pub(super) tiles: Vec<Vec<Hash32>>,
}

/// Opens a file, or the model in a directory.
pub(super) fn path(path: &Path) -> Result<Opened, ModelError> {
    let inside;
    let path = if path.is_dir() {
        inside = hf::weights_in(path)?;
        inside.as_path()
    } else {
        path
    };
    if hf::is_ours(path) {
        return hf::open(path);
    }
    file(Source::open(path)?, || path.display().to_string())
}

/// Opens a file in memory.
pub(super) fn bytes(bytes: ModelBytes) -> Result<Opened, ModelError> {
    file(Source::Memory(bytes), || "the file in memory".to_owned())
}

fn file(source: Source, name: impl Fn() -> String) -> Result<Opened, ModelError> {
    let first = source.first(8)?.into_owned();
    if first == package::MAGIC {
        return package::open(source);
    }
    if !first.starts_with(b"GGUF") && !b"GGUF".starts_with(&first) {
        return Err(ModelError::Format { path: name() });
    }
    gguf(source)
}

fn gguf(source: Source) -> Result<Opened, ModelError> {
    let gguf = source.gguf()?;
    let (architecture, hyper) = hyper::read(&gguf)?;
    let entries = gguf_entries(&gguf, &architecture, &hyper)?;
    let meta = &gguf.metadata;
    let definition = Definition::from_metadata(meta)?;
    let vocabulary = hyper.vocabulary as usize;
    let (bos, eos) = (special(meta, "bos", vocabulary)?, special(meta, "eos", vocabulary)?);
    let mut stops: Vec<u32> = eos.into_iter().collect();
    stops.extend(special(meta, "eot", vocabulary)?);
    stops.extend(special(meta, "eom", vocabulary)?);
    let chat = chat(meta, &definition, bos, eos)?;
    let front = ModelFront::new(Parts {
        name: meta.string("general.name")?.map(str::to_owned),
        architecture,
        hyper,
        tokenizer: Tokenizer::from_definition(&definition)?,
        chat: chat.clone(),
        bos,
        stops,
        sizes: TensorSize::of(&entries),
    })?;
    let tokenizer = TokenizerSource::Gguf { definition };
    Ok(Opened { front, entries, sources: vec![source], tokenizer, chat, promise: None })
}

fn chat(
    meta: &Metadata,
    definition: &Definition,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Result<Option<Chat>, ModelError> {
    let Some(source) = meta.string("tokenizer.chat_template")? else { return Ok(None) };
    let text =
        |id: Option<u32>| id.and_then(|id| definition.tokens.get(id as usize)).cloned().unwrap_or_default();
    Ok(Some(Chat { source: source.to_owned(), bos: text(bos), eos: text(eos) }))
}

/// The tensors of the architecture; the file has no others.
fn gguf_entries(
    gguf: &Gguf,
    arch: &str,
    h: &dn_core::objects::Hyperparameters,
) -> Result<Vec<Entry>, ModelError> {
    let entries = layout::entries(h, Slot::gguf_name, |_, name| {
        let found = gguf.tensor(name).map(|t| Found {
            file: 0,
            start: t.start,
            size: t.size,
            form: Form::Stored(t.kind),
            shape: t.shape.clone(),
        });
        Ok(found)
    })?;
    match layout::unused(&entries, gguf.tensors().iter().map(|t| t.name.as_str())) {
        Some(name) => {
            let (name, architecture) = (name.to_owned(), arch.to_owned());
            Err(ModelError::UnexpectedTensor { name, architecture })
        }
        None => Ok(entries),
    }
}
