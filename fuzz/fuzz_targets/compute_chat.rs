//! Chat templates: any template over any message gives a prompt or an error, in bounded time (instructions, and what
//! they build and read, have limits), and never a panic. The input is the template, a NUL, and the message.
#![no_main]

use dn_compute::formats::gguf::Gguf;
use dn_compute::{ChatMessage, ChatTemplate, Tokenizer};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let file = Gguf::parse(dn_compute::embedded::tiny_rust()).expect("the embedded model is whole");
    Tokenizer::from_metadata(&file.metadata).expect("the embedded model is whole")
});

fuzz_target!(|text: &str| {
    let (template, message) = text.split_once('\0').unwrap_or((text, ""));
    if let Ok(template) = ChatTemplate::new(template, "<|bos|>", "<|eos|>") {
        let _ = template.prompt(&[ChatMessage::user(message)], &TOKENIZER);
    }
});
