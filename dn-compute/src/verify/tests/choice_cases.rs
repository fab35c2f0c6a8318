//! Choices one by one: each setting, and the forms of what is said about a choice.

use dn_core::Canonical;
use dn_core::objects::{Decoding, Grammar, Sampling, TokenBias};

use super::synthetic::{Case, play};
use super::{MICRO, as_is, is_fraud, to_it, tokens};
use crate::testing::Rng;
use crate::verify;
use crate::verify::RefereeError;
use crate::verify::choice::{ChoiceParts, Rank, SeenToken, Share};
use crate::verify::claim::Parts;
use crate::verify::dispute::{Answer, Dispute, Due, MoveError, Outcome, Party, Pick};
use crate::verify::plan::Stage;
use crate::verify::referee::{Verdict, Wrong};

/// The settings that are asked for, beside those that the worker obeys.
fn ignored() -> Vec<(&'static str, Sampling, Sampling, Decoding)> {
    let (greedy, chance) =
        (Sampling::GREEDY, Sampling { temperature_micro: MICRO, seed: 7, ..Sampling::GREEDY });
    let harsh = |base: Sampling| Sampling { repetition_micro: 2 * MICRO, presence_micro: 2_000_000, ..base };
    let mut out = vec![
        ("temperature", chance, Sampling { temperature_micro: 300_000, ..chance }),
        ("chance, not greedy", greedy, chance),
        ("greedy, not chance", chance, greedy),
        ("seed", chance, Sampling { seed: 8, ..chance }),
        ("top_k", chance, Sampling { top_k: 3, ..chance }),
        ("top_p", chance, Sampling { top_p_micro: 300_000, ..chance }),
        (
            "top_p of top_k",
            Sampling { top_k: 40, ..chance },
            Sampling { top_k: 40, top_p_micro: 500_000, ..chance },
        ),
        ("top_k, more", Sampling { top_k: 40, ..chance }, Sampling { top_k: 20, ..chance }),
        ("top_k, less", Sampling { top_k: 10, ..chance }, Sampling { top_k: 20, ..chance }),
        (
            "top_p, more",
            Sampling { top_p_micro: 900_000, ..chance },
            Sampling { top_p_micro: 500_000, ..chance },
        ),
        (
            "top_p, less",
            Sampling { top_p_micro: 200_000, ..chance },
            Sampling { top_p_micro: 500_000, ..chance },
        ),
        ("min_p", chance, Sampling { min_p_micro: 500_000, ..chance }),
    ];
    for base in [greedy, chance] {
        out.extend([
            ("repetition", base, Sampling { repetition_micro: 3 * MICRO, ..base }),
            ("presence", base, Sampling { presence_micro: 2_000_000, ..base }),
            ("frequency", base, Sampling { frequency_micro: 2_000_000, ..base }),
            ("reward", base, Sampling { presence_micro: -2_000_000, ..base }),
            ("window", harsh(base), Sampling { penalty_window: 5, ..harsh(base) }),
        ]);
    }
    let mut out: Vec<_> =
        out.into_iter().map(|(name, obeyed, asked)| (name, obeyed, asked, Decoding::default())).collect();
    for base in [greedy, chance] {
        let bias = (0..60).map(|token| TokenBias { token: 3 * token, bias_micro: 2_000_000 }).collect();
        out.push(("bias", base, base, Decoding { bias, ..Decoding::default() }));
        let banned = (0..150).map(|token| 2 * token).collect();
        out.push(("ban", base, base, Decoding { banned, ..Decoding::default() }));
    }
    out
}

/// Whatever setting a worker ignores, its choice falls; the choice that obeys it stands.
#[test]
fn every_setting_is_judged() {
    for (name, obeyed, asked, decoding) in ignored() {
        let mut found = 0;
        for seed in 0..400 {
            let mut rng = Rng(seed);
            let logits = (0..300).map(|_| rng.signed() * 3.0).collect();
            let prompt = tokens(&mut rng, 40, 300);
            let mut case = Case::new(prompt, obeyed, Decoding::default(), logits);
            case.output = tokens(&mut rng, 30, 300);
            case.index = 20;
            let theirs = case.right();
            (case.request.sampling, case.request.decoding) = (asked, decoding.clone());
            let right = case.right();
            if theirs == right {
                continue;
            }
            found += 1;
            if found > 12 {
                break;
            }
            // The worker may also state the shares that follow from what it obeyed, which do make its token.
            *case.chosen() = theirs;
            let mut world = case.clone();
            (world.request.sampling, world.request.decoding) = (obeyed, Decoding::default());
            let (outcome, _) =
                play(case.dispute(), &world.witness(), &case.witness(), &mut as_is, &mut to_it);
            // Another window has other runs: their number is refused.
            let silent = name == "window" && outcome == Outcome::WorkerSilent;
            assert!(silent || is_fraud(outcome, 59), "{name}, its own shares: {outcome:?}");
            for (token, stands) in [(theirs, false), (right, true)] {
                *case.chosen() = token;
                let (outcome, _) =
                    play(case.dispute(), &case.witness(), &case.witness(), &mut as_is, &mut to_it);
                assert_eq!(outcome == Outcome::Refuted, stands, "{name}: {outcome:?}");
                assert!(stands || is_fraud(outcome, 59), "{name}: {outcome:?}");
            }
        }
        assert!(found > 3, "{name} matters");
    }
}

/// The way of a lie about the tokens before: to the token, to the run, and to nothing else.
#[test]
fn a_lie_about_the_window_is_pinned_to_a_run() {
    let sampling = Sampling { presence_micro: 2_000_000, ..Sampling::GREEDY };
    let logits = (0..40).map(|t| if t == 9 { 3.0 } else { 2.0 }).collect();
    // Token 9 stands in the output once: 0 is right, and a worker that forgets it chooses 9.
    let mut case = Case::new(vec![1; 30], sampling, Decoding::default(), logits);
    case.output = vec![2; 30];
    (case.output[11], case.index) = (9, 20);
    assert_eq!(case.right(), 0);
    *case.chosen() = 9;
    let mut world = case.clone();
    world.output[11] = 30;
    let mut path = Vec::new();
    let mut picks = |dispute: &Dispute, pick: Pick| {
        path.push(dispute.due().clone());
        Some(pick)
    };
    let (outcome, dispute) = play(case.dispute(), &world.witness(), &case.witness(), &mut as_is, &mut picks);
    // Four runs of the prompt's 30 tokens; token 11 of the output is in the second of its runs.
    let wrong = Wrong::Part { index: 5 };
    let verdict = Verdict::Fraud { position: 49, stage: Stage::Choice, op: 0, element: 0, wrong };
    assert_eq!(outcome, Outcome::Fraud { verdict });
    assert_eq!(path, [Due::Settings, Due::Range, Due::Token, Due::Tile]);
    let Parts::Choice { choice: ChoiceParts::Counts { seen, .. } } = &dispute.claim().parts else { panic!() };
    assert_eq!(*seen, SeenToken { token: 9, prompt: 0, output: 0 });
    // Right runs do not make the wrong count.
    let honest = case.witness();
    let mut answers = |dispute: &Dispute, answer: Answer| match answer {
        Answer::Counts { .. } => honest.answer(dispute),
        answer => Some(answer),
    };
    let (outcome, _) = play(case.dispute(), &world.witness(), &honest, &mut answers, &mut to_it);
    let verdict =
        Verdict::Fraud { wrong: Wrong::Combination, position: 49, stage: Stage::Choice, op: 0, element: 0 };
    assert_eq!(outcome, Outcome::Fraud { verdict });
}

/// Settings under which nothing can be chosen have no right choice.
#[test]
fn settings_that_nobody_serves_have_no_choice() {
    let all = |banned: Vec<u32>| Decoding { banned, ..Decoding::default() };
    for (decoding, falls) in
        [(all((0..20).collect()), true), (all(vec![20]), true), (all((1..20).collect()), false)]
    {
        let mut case = Case::new(vec![1, 2], Sampling::GREEDY, decoding, vec![1.0; 20]);
        case.output = vec![0];
        let (outcome, _) = play(case.dispute(), &case.witness(), &case.witness(), &mut as_is, &mut to_it);
        let wrong = Wrong::Combination;
        let verdict = Verdict::Fraud { position: 1, stage: Stage::Choice, op: 0, element: 0, wrong };
        assert_eq!(outcome, if falls { Outcome::Fraud { verdict } } else { Outcome::Refuted });
    }
}

#[test]
fn a_grammar_is_refused_before_anything_is_stated() {
    let decoding = Decoding { grammar: Grammar::JsonObject, ..Decoding::default() };
    assert!(matches!(verify::choice::is_judged(&decoding), Err(RefereeError::Unsupported { .. })));
    assert_eq!(verify::choice::is_judged(Decoding::plain()), Ok(()));
    let mut case = Case::new(vec![1, 2], Sampling::GREEDY, decoding, vec![1.0; 20]);
    case.output = vec![0];
    let mut dispute = case.dispute();
    let pick = case.witness().pick(&dispute).unwrap();
    let refused = dispute.pick(pick).unwrap_err();
    assert!(matches!(refused, MoveError::Referee(RefereeError::Unsupported { .. })), "{refused}");
    assert_eq!((dispute.due(), dispute.turn()), (&Due::Settings, Some(Party::Accuser)));
}

/// What no honest list has is refused, so that counts always have runs to be looked for in.
#[test]
fn lists_of_seen_tokens_have_a_form() {
    let sampling = Sampling { presence_micro: 1, penalty_window: 9, ..Sampling::GREEDY };
    let mut case = Case::new(vec![1, 2, 3, 1], sampling, Decoding::default(), vec![1.0; 20]);
    case.output = vec![5; 9];
    case.index = 8;
    let (mut dispute, honest) = (case.dispute(), case.witness());
    while *dispute.due() != Due::Seen {
        match dispute.turn() {
            Some(Party::Worker) => dispute.answer(honest.answer(&dispute).unwrap()).unwrap(),
            _ if *dispute.due() == Due::Range => dispute.pick(Pick::Index { index: 0 }).unwrap(),
            _ => dispute.pick(honest.pick(&dispute).unwrap()).unwrap(),
        }
    }
    let seen = |token, prompt, output| SeenToken { token, prompt, output };
    let bad = [
        vec![seen(5, 0, 8), seen(1, 1, 0)],
        vec![seen(5, 0, 4), seen(5, 0, 4)],
        vec![seen(16, 0, 1)],
        vec![seen(5, 0, 0)],
        vec![seen(5, 0, 9)],
        vec![seen(1, 2, 0)],
        vec![seen(1, u32::MAX, 0), seen(2, u32::MAX, 0)],
    ];
    for tokens in bad {
        let refused = dispute.answer(Answer::Seen { tokens }).unwrap_err();
        assert!(matches!(refused, MoveError::Form { .. }), "{refused}");
    }
    assert_eq!(honest.answer(&dispute), Some(Answer::Seen { tokens: vec![seen(1, 1, 0), seen(5, 0, 8)] }));
}

#[test]
fn encodings_of_choices_are_pinned() {
    let rank = |fixed, token| Some(Rank { fixed, token });
    let cuts = verify::choice::Cuts { top_k: rank(-2, 3), top_p: rank(4, 5) };
    let tally = |count, weight| verify::choice::Tally { count, weight };
    let best = Some(verify::choice::Best { fixed: -6, logit: 7, token: 8 });
    let share = Share { best, top_k: tally(9, 10), top_p: tally(11, 12), kept: 13 };
    let sampling = Sampling { temperature_micro: 14, seed: 15, ..Sampling::GREEDY };
    let draw = verify::choice::Draw { sampling, cuts, max: 16, target: 17 };
    let span = verify::choice::Span { first: 16, len: 16, before: 18, share };
    let seen = SeenToken { token: 19, prompt: 20, output: 21 };
    let bias = TokenBias { token: 22, bias_micro: -23 };
    let answers = [
        Answer::Choice { cuts, shares: vec![share] },
        Answer::Shares { shares: vec![share, Share::default()] },
        Answer::Seen { tokens: vec![seen] },
        Answer::Counts { counts: vec![24, 25] },
    ];
    let parts = [
        ChoiceParts::Vocabulary { sampling, largest: Some(26), cuts, shares: vec![share] },
        ChoiceParts::Range { draw, span, shares: vec![share] },
        ChoiceParts::Leaf { draw, span, seen: vec![seen], bias: vec![bias], banned: vec![27] },
        ChoiceParts::Counts { penalty_window: 28, seen, counts: vec![29] },
    ];
    let slice = verify::slice::Slice { first: 1, bytes: vec![2], siblings: vec![dn_core::Hash32([3; 32])] };
    let request = verify::claim::RequestSlice { len: 4, slice: slice.clone() };
    let pick = Pick::Settings { request, output: slice };
    assert_eq!(answers.iter().map(|answer| answer.to_bytes()[0]).collect::<Vec<_>>(), [8, 9, 10, 11]);
    assert_eq!(answers[2].to_bytes(), [10, 1, 0, 0, 0, 19, 0, 0, 0, 20, 0, 0, 0, 21, 0, 0, 0]);
    assert_eq!(Pick::from_bytes(&pick.to_bytes()).as_ref(), Ok(&pick));
    let mut bytes = pick.to_bytes();
    for answer in &answers {
        assert_eq!(Answer::from_bytes(&answer.to_bytes()).as_ref(), Ok(answer));
        bytes.extend(answer.to_bytes());
    }
    for choice in parts {
        let parts = Parts::Choice { choice };
        assert_eq!(Parts::from_bytes(&parts.to_bytes()).as_ref(), Ok(&parts));
        bytes.extend(parts.to_bytes());
    }
    let settings = verify::choice::Settings { sampling, bias: vec![bias], banned: vec![27] };
    bytes.extend(settings.to_bytes());
    let hash = dn_core::Hash32(dn_core::blake3_256(&[&bytes]));
    assert_eq!(hash.to_string(), "0x3d49309f1939fed116bfad7289d053445e59e289e5b8d2c25c6e9151ff12a0eb");
}

/// More than the settings can be is refused before it is read.
#[test]
fn openings_of_settings_have_a_limit() {
    let mut case = Case::new(vec![1; 20_000], Sampling::GREEDY, Decoding::default(), vec![1.0; 20]);
    case.output = vec![0];
    let (mut dispute, bytes) = (case.dispute(), case.request.to_bytes());
    let Some(Pick::Settings { output, .. }) = case.witness().pick(&dispute) else {
        panic!("settings are due")
    };
    for (from, fits) in [(0, false), (bytes.len() - 60_000, true)] {
        let slice = verify::slice::Slice::cut(&bytes, from..bytes.len());
        let request = verify::claim::RequestSlice { len: bytes.len() as u32, slice };
        let result = dispute.pick(Pick::Settings { request, output: output.clone() });
        assert_eq!(result.is_ok(), fits, "{result:?}");
    }
    assert_eq!(*dispute.due(), Due::Tile);
}
