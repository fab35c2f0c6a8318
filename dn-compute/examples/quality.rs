//! What the scripts in `tools/quality` compare: logits or embeddings of many texts, in one process.
//!
//! ```text
//! quality logits MODEL BLOCK IDS OUT     quality embed MODEL BLOCK IDS OUT
//! ```
//! `IDS` holds token ids, one text a line, separated by spaces. `BLOCK` is `file` for the blocks that the file has (32 for floats), or 16, 32,
//! 128 or row: to that length a language model's matrices are quantised anew, and an encoder's where its file holds floats. `OUT` gets f32, little-endian: per token a row of logits, or per text an embedding.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use dn_compute::encoder::{Encoder, EncoderModel};
use dn_compute::spec::BlockLength;
use dn_compute::{Engine, EngineOptions, Model};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, model, block, ids, out] = &args[..] else {
        return Err("quality logits|embed MODEL BLOCK IDS OUT".into());
    };
    let model: &Path = model.as_ref();
    let block: Option<BlockLength> = if block == "file" { None } else { Some(block.parse()?) };
    let texts: Vec<Vec<u32>> = fs::read_to_string(ids)?
        .lines()
        .map(|line| line.split_whitespace().map(str::parse).collect())
        .collect::<Result<_, _>>()?;
    let mut out = std::io::BufWriter::new(fs::File::create(out)?);
    let mut write = |values: &[f32]| values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()));
    if what == "embed" {
        let model = match block {
            Some(block) => EncoderModel::load_in_blocks(model, block)?,
            None => EncoderModel::load(model)?,
        };
        let encoder = Encoder::new(model, EngineOptions::default())?;
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        for embedding in encoder.embed(&texts)? {
            write(&embedding.to_f32())?;
        }
    } else {
        let model = match block {
            Some(block) => Model::load_in_blocks(model, block)?,
            None => Model::load(model)?,
        };
        let engine = Engine::new(Arc::new(model), EngineOptions::default())?;
        for text in &texts {
            write(&engine.logits(text)?)?;
        }
    }
    Ok(())
}
