//! Any bytes are an encoder or an error, as GGUF and as `config.json` with `model.safetensors`.
#![no_main]

use dn_compute::encoder::{EncoderFiles, EncoderModel};
use dn_compute::spec::BlockLength;
use libfuzzer_sys::fuzz_target;

const TOKENIZER: &[u8] = br###"{"version":"1.0","added_tokens":[],"model":{"type":"WordPiece","unk_token":"[UNK]",
"continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,"a":1}}}"###;

fuzz_target!(|data: &[u8]| {
    let _ = EncoderModel::from_gguf(data, BlockLength::B32);
    let Some((at, rest)) = data.split_first() else { return };
    let (config, tensors) = rest.split_at(rest.len() * usize::from(*at) / 255);
    let pooling = (at & 1 == 1).then_some(config);
    let files = EncoderFiles { config, pooling, tokenizer: TOKENIZER, tensors, block: BlockLength::Row };
    let _ = EncoderModel::from_files(&files);
});
