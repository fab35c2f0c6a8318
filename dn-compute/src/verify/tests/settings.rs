//! Choices of a real model, under any settings, from the receipt to the verdict.

use super::choice::{decoding, sampling};
use super::*;
use crate::sampling::{Sampler, Scratch};

/// The scene's answer under other settings.
fn under(scene: &mut Scene, sampling: Sampling, decoding: Decoding) {
    (scene.request.sampling, scene.request.decoding) = (sampling, decoding);
    let (request, tokens) = (&scene.request, scene.output.len());
    let vocabulary = scene.model.front().vocabulary();
    let mut sampler =
        Sampler::assemble(&request.prompt, &sampling, &request.decoding, None, vocabulary).unwrap();
    let mut session = scene.decoder.session(request.prompt.len() + tokens).unwrap();
    let (mut output, mut next) = (Vec::new(), request.prompt.clone());
    while output.len() < tokens {
        let from = session.len() + next.len() - 1;
        let mut take = |_, logits: &[f32]| {
            let token = sampler.choose(logits, &mut Scratch::default()).token;
            sampler.accept(token);
            output.push(token);
        };
        scene.decoder.feed(&mut session, &next, from, &mut take).unwrap();
        next = output[output.len() - 1..].to_vec();
    }
    scene.output = output;
}

#[test]
fn a_token_that_does_not_exist_is_pinned_wherever_it_stands() {
    let scene = scene(3, 9, 6, Sampling::GREEDY);
    let vocabulary = scene.model.front().vocabulary();
    for at in 0..scene.output.len() {
        let mut output = scene.output.clone();
        output[at] = vocabulary + 5;
        // The worker goes on with some token that exists; the accuser cannot go on.
        let fed: Vec<u32> = scene.fed(&output).into_iter().map(|token| token.min(vocabulary - 1)).collect();
        let (model, decoder, request) = (&scene.model, &scene.decoder, &scene.request);
        let worker = Witness::cheating(model, decoder, request, &output, &fed, &|_, _, _, _| {}).unwrap();
        let accuser = scene.honest(&output);
        let (outcome, _) = play(&worker, &accuser, Dispute::open(worker.subject()).unwrap(), &mut as_is);
        let Outcome::Fraud { verdict: Verdict::Fraud { position, stage, .. } } = outcome else {
            panic!("{at}: {outcome:?}");
        };
        assert_eq!((position, stage), (8 + at as u32, Stage::Choice));
    }
}

#[test]
fn a_prompt_with_a_token_that_does_not_exist_is_pinned_to_it() {
    let mut scene = scene(4, 9, 6, Sampling::GREEDY);
    let vocabulary = scene.model.front().vocabulary();
    let (output, prompt) = (scene.output.clone(), scene.request.prompt.clone());
    for at in [0, 4, 8] {
        scene.request.prompt.clone_from(&prompt);
        scene.request.prompt[at] = vocabulary + 9;
        // The worker goes on with some token that exists; the accuser cannot go on.
        let fed: Vec<u32> =
            scene.fed(&output).into_iter().map(|token| if token < vocabulary { token } else { 3 }).collect();
        let (model, decoder, request) = (&scene.model, &scene.decoder, &scene.request);
        let worker = Witness::cheating(model, decoder, request, &output, &fed, &|_, _, _, _| {}).unwrap();
        let accuser = scene.honest(&output);
        let (outcome, _) = play(&worker, &accuser, Dispute::open(worker.subject()).unwrap(), &mut as_is);
        let Outcome::Fraud { verdict: Verdict::Fraud { position, stage, .. } } = outcome else {
            panic!("{at}: {outcome:?}");
        };
        assert_eq!((position, stage), (at as u32, Stage::Token));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_changed_token_is_pinned_to_its_choice(seed: u64, at: usize, other: u32) {
        let (mut scene, mut rng) = (scene(seed, 9, 6, Sampling::GREEDY), Rng(!seed));
        let vocabulary = scene.model.front().vocabulary();
        under(&mut scene, sampling(&mut rng), decoding(&mut rng, vocabulary.into()));
        // Nothing is wrong with the right answer, wherever an auditor points.
        let honest = scene.honest(&scene.output);
        let (outcome, _) = play(&honest, &honest, Dispute::open(honest.subject()).unwrap(), &mut as_is);
        prop_assert_eq!(outcome, Outcome::Refuted);
        let mut output = scene.output.clone();
        let at = at % output.len();
        prop_assume!(output[at] != other % vocabulary);
        output[at] = other % vocabulary;
        let worker = scene.honest(&output);
        let (outcome, _) = play(&worker, &worker, Dispute::open(worker.subject()).unwrap(), &mut as_is);
        let Outcome::Fraud { verdict: Verdict::Fraud { position, stage, .. } } = outcome else {
            return Err(TestCaseError::fail(format!("{outcome:?}, {:?}", scene.request)));
        };
        prop_assert_eq!((position, stage), (8 + at as u32, Stage::Choice));
    }
}
