use std::ops::ControlFlow;
use std::sync::Arc;

use dn_core::objects::Sampling;

use super::*;
use crate::{ChatMessage, Engine, EngineOptions, GenerateRequest, Model};

fn engine() -> Engine {
    let model = Model::from_bytes(tiny_rust()).unwrap();
    Engine::new(Arc::new(model), EngineOptions::default()).unwrap()
}

fn greedy(engine: &Engine, prompt: &[u32], max_tokens: u32) -> String {
    let request = GenerateRequest { prompt, already: &[], sampling: Sampling::GREEDY, max_tokens, stop: &[] };
    let done = engine.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    println!("{:?}", done.timings);
    println!("{:?}", done.trace_root);
    engine.model().front().tokenizer().decode(&done.tokens)
}

#[test]
fn it_writes_what_its_card_says() {
    let engine = engine();
    let front = engine.model().front();
    println!("{:?}", engine.model().id());
    for q in [
        "What is ownership?",
        "What is a trait?",
        "How do I create a vector?",
        "What is a lifetime?",
        "Hello!",
    ] {
        let prompt = front.chat_prompt(&[ChatMessage::user(q)]).unwrap();
        println!("{q}: {}", greedy(&engine, &prompt, 90));
    }
    for q in ["Ownership is", "In Rust, a trait", "The `match` expression"] {
        let prompt = front.text_prompt(q).unwrap();
        println!("{q}{}", greedy(&engine, &prompt, 60));
    }
}
