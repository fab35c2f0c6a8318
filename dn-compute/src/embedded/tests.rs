use std::ops::ControlFlow;
use std::sync::Arc;

use dn_core::blake3_256;
use dn_core::objects::{Decoding, FinishReason, Sampling};

use super::*;
use crate::{ChatMessage, Engine, EngineOptions, GenerateRequest, Generation, Model};

fn engine() -> Engine {
    let model = Model::from_bytes(tiny_rust()).unwrap();
    Engine::new(Arc::new(model), EngineOptions::default()).unwrap()
}

fn greedy(engine: &Engine, prompt: &[u32], max_tokens: u32) -> (String, Generation) {
    let request = GenerateRequest {
        prompt,
        already: &[],
        sampling: Sampling::GREEDY,
        decoding: Decoding::plain(),
        max_tokens,
        stop: &[],
    };
    let done = engine.generate(&request, &mut |_| ControlFlow::Continue(())).unwrap();
    (engine.model().front().tokenizer().decode(&done.tokens), done)
}

#[test]
fn the_file_and_the_model_are_pinned() {
    let file = dn_core::Hash32(blake3_256(&[tiny_rust()]));
    assert_eq!(file.to_string(), "0x77bcdadfd0f49a8c9858a83aa871f06d98614c6645b19264464379bfd3a45e87");
    let engine = engine();
    let model = engine.model();
    assert_eq!(model.id().to_string(), "0x0f8aa8d89e0b021e610823b0e597dac9f732dbcacfd02508866577b10e406424");
    assert_eq!((model.front().context(), model.front().vocabulary()), (512, 4096));
    assert_eq!((model.front().bos_token(), model.front().stop_tokens()), (Some(0), [1].as_slice()));
}

/// The answers are those of the card, which PyTorch wrote with float16 weights; the trace roots are this spec's.
#[test]
fn it_answers_as_its_card_says() {
    let engine = engine();
    let front = engine.model().front();
    let cases = [
        (
            "What is ownership?",
            "Ownership is a set of rules that govern how a Rust program manages memory. Each value in Rust has an owner, there can only be one owner at a time, and when the owner goes out of scope, the value is dropped.",
            "0x3d082491588d6ab2e00dfba62d1a9c0ad9cce6067385d7b49ab00372925bc597",
        ),
        (
            "How do I create a vector?",
            "To create a new empty vector, call the `Vec::new` function. To create a vector with initial values, use the `vec!` macro.\n\n```rust\nlet v: Vec<i32> = Vec::new();\nlet w = vec![1, 2, 3];\n```",
            "0xaec55d8e7cb857a67300299782a38e0d4b1d8abc7e842db58a583cc08d79f741",
        ),
        (
            "Hello!",
            "Hello! What would you like to know about Rust?",
            "0x6446babe4cdc5789658e9ddb51a41b25733d38b8ca7350027ef92921f4e5924f",
        ),
    ];
    for (question, answer, root) in cases {
        let prompt = front.chat_prompt(&[ChatMessage::user(question)]).unwrap();
        assert_eq!(prompt[..2], [0, 2], "it begins with <|bos|><|user|>");
        assert_eq!(prompt.last(), Some(&3), "it ends with <|assistant|>");
        let (text, done) = greedy(&engine, &prompt, 90);
        assert_eq!(text, answer);
        assert_eq!(done.finish, FinishReason::Stop);
        assert_eq!(done.tokens.last(), Some(&1), "the stop token is the last of the output");
        assert_eq!(done.trace_root.to_string(), root);
    }
}

#[test]
fn it_completes_text_as_its_card_says() {
    let engine = engine();
    let prompt = engine.model().front().text_prompt("In Rust, a trait").unwrap();
    let (text, done) = greedy(&engine, &prompt, 60);
    let beginning = " object provides the same functionality but many different types implement traits.\n\nAny trait requires only a type has the behavior of the trait object types we need to implement a trait on a type.";
    assert!(text.starts_with(beginning), "{text}");
    assert_eq!((done.tokens.len(), done.finish), (60, FinishReason::Length));
}

#[test]
fn a_stop_text_ends_the_answer_and_is_not_part_of_its_text() {
    let engine = engine();
    let front = engine.model().front();
    let prompt = front.chat_prompt(&[ChatMessage::user("What is ownership?")]).unwrap();
    let stop = ["manages".to_owned(), "never said".to_owned()];
    let sampling = Sampling::GREEDY;
    let request = GenerateRequest {
        prompt: &prompt,
        already: &[],
        sampling,
        decoding: Decoding::plain(),
        max_tokens: 90,
        stop: &stop,
    };
    let mut stream = front.text_stream(&stop);
    let mut text = String::new();
    let done = engine
        .generate(&request, &mut |token| {
            text.push_str(&stream.push(token));
            ControlFlow::Continue(())
        })
        .unwrap();
    text.push_str(&stream.finish());
    assert_eq!(done.finish, FinishReason::Stop);
    assert_eq!(text, "Ownership is a set of rules that govern how a Rust program ");
    assert_eq!(engine.replay(&request, &done.tokens, done.finish).unwrap().divergence, None);
}
