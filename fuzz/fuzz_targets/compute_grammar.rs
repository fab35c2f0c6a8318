//! Grammars: any schema, expression or grammar is refused or gives masks, in bounded time, and never a panic. The first
//! byte says which kind; the rest is the text. A walk takes the lowest allowed token, step after step.
#![no_main]

use dn_compute::ModelFront;
use dn_compute::sampling::{Progress, Sampler, Scratch};
use dn_core::objects::{Decoding, Grammar, Sampling};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static FRONT: LazyLock<ModelFront> = LazyLock::new(|| {
    ModelFront::from_bytes(dn_compute::embedded::tiny_rust()).expect("the embedded model is whole")
});

fuzz_target!(|input: (u8, &str)| {
    let text = input.1.to_owned();
    let grammar = match input.0 % 3 {
        0 => Grammar::JsonSchema { schema: text },
        1 => Grammar::Regex { pattern: text },
        _ => Grammar::Lark { grammar: text },
    };
    let decoding = Decoding { grammar, ..Decoding::default() };
    let Ok(mut sampler) = Sampler::new(&FRONT, &[], &Sampling::GREEDY, &decoding) else { return };
    let logits = vec![0.0; FRONT.vocabulary() as usize];
    let mut scratch = Scratch::default();
    for _ in 0..32 {
        let choice = sampler.choose(&logits, &mut scratch);
        if FRONT.stop_tokens().contains(&choice.token) || sampler.accept(choice.token) != Progress::Open {
            break;
        }
    }
});
