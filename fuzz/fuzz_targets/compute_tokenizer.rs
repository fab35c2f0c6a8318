//! Any bytes are a `tokenizer.json` or an error; one that is encodes any text without a panic.
#![no_main]

use dn_compute::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(tokenizer) = Tokenizer::from_json(data) {
        for text in ["Hello, world!\n  é 中 <s> 👩‍👩‍👧", ""] {
            if let Ok(tokens) = tokenizer.encode(text) {
                assert!(tokens.iter().all(|t| (*t as usize) < tokenizer.vocabulary()));
                let _ = tokenizer.decode(&tokens);
            }
            let _ = tokenizer.encode_marked(text, 7);
        }
    }
});
