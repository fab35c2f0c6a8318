//! Choices under every kind of setting: right ones stand, wrong ones fall, whatever is stated about them.

use dn_core::Canonical;
use dn_core::objects::{Decoding, Sampling, TokenBias};
use proptest::prelude::*;

use self::synthetic::{Case, play};
use crate::sampling::{Sampler, Scratch};
use crate::testing::Rng;
use crate::verify::Opening;
use crate::verify::choice::{ChoiceParts, Rank, SeenToken, Share};
use crate::verify::claim::{Claim, Parts};
use crate::verify::dispute::{Answer, Dispute, Due, Outcome, Pick};
use crate::verify::plan::Stage;
use crate::verify::referee::{Verdict, judge, referee};
use crate::{trace, verify};

#[path = "choice_cases.rs"]
mod cases;
#[path = "synthetic.rs"]
mod synthetic;

const MICRO: u32 = 1_000_000;

impl Case {
    /// What the sampler chooses after the output before.
    fn right(&self) -> u32 {
        let (request, vocabulary) = (&self.request, self.logits.len() as u32);
        let mut sampler =
            Sampler::assemble(&request.prompt, &request.sampling, &request.decoding, None, vocabulary)
                .unwrap();
        for token in &self.output[..self.index as usize] {
            sampler.accept(*token);
        }
        sampler.choose(&self.logits, &mut Scratch::default()).token
    }

    fn chosen(&mut self) -> &mut u32 {
        &mut self.output[self.index as usize]
    }
}

/// Tokens in 0..`vocabulary`, many of them often.
fn tokens(rng: &mut Rng, count: u64, vocabulary: u64) -> Vec<u32> {
    let few = [rng.next(), rng.next(), rng.next()];
    let one = |rng: &mut Rng| match rng.next() % 2 {
        0 => few[(rng.next() % 3) as usize],
        _ => rng.next(),
    };
    (0..count).map(|_| (one(rng) % vocabulary) as u32).collect()
}

pub(super) fn sampling(rng: &mut Rng) -> Sampling {
    let mut one_of = |choices: &[u32]| choices[(rng.next() % choices.len() as u64) as usize];
    let penalty = |x: u32| x.cast_signed() * 100_000;
    Sampling {
        temperature_micro: one_of(&[0, 1, 300_000, 700_000, MICRO, 3 * MICRO, u32::MAX]),
        top_k: one_of(&[0, 0, 1, 2, 7, 40, 129, 5000]),
        top_p_micro: one_of(&[MICRO, MICRO, 0, 1, 300_000, 900_000, 999_999, u32::MAX]),
        min_p_micro: one_of(&[0, 0, 1, 20_000, 500_000, MICRO, u32::MAX]),
        repetition_micro: one_of(&[MICRO, MICRO, 10_000, 800_000, 1_300_000, 100 * MICRO]),
        presence_micro: penalty(one_of(&[0, 0, 3, 20])) - penalty(one_of(&[0, 0, 5])),
        frequency_micro: penalty(one_of(&[0, 0, 3, 20])) - penalty(one_of(&[0, 0, 5])),
        penalty_window: one_of(&[0, 1, 5, 8, 30, 1000]),
        seed: rng.next(),
    }
}

pub(super) fn decoding(rng: &mut Rng, vocabulary: u64) -> Decoding {
    let mut list = |most: u64| {
        let count = (rng.next() % 3) * (rng.next() % most) / 2;
        let mut list = tokens(rng, count.min(vocabulary - 1), vocabulary);
        list.sort_unstable();
        list.dedup();
        list
    };
    let (biased, banned) = (list(9), list(40));
    let bias = biased
        .into_iter()
        .map(|token| TokenBias { token, bias_micro: (rng.next() % 9_000_001) as i32 - 4_500_000 });
    Decoding { bias: bias.collect(), banned, ..Decoding::default() }
}

/// A case with the right choice. Logits are close to each other, and many are equal.
fn case(seed: u64) -> Case {
    let mut rng = Rng(seed);
    let vocabulary = 1 + rng.next() % [5, 20, 70, 400][(rng.next() % 4) as usize];
    let wide = if rng.next().is_multiple_of(4) { 50.0 } else { 2.0 };
    let logits: Vec<f32> = (0..vocabulary)
        .map(|_| match rng.next() % 4 {
            0 => 1.0,
            _ => rng.signed() * wide,
        })
        .collect();
    let (sampling, decoding) = (sampling(&mut rng), decoding(&mut rng, vocabulary));
    let (prompt, output) = (1 + rng.next() % 40, 1 + rng.next() % 40);
    let prompt = tokens(&mut rng, prompt, vocabulary);
    let mut case = Case::new(prompt, sampling, decoding, logits);
    case.output = tokens(&mut rng, output, vocabulary);
    case.index = (rng.next() % output) as u32;
    let right = case.right();
    *case.chosen() = right;
    case
}

fn as_is(_: &Dispute, answer: Answer) -> Option<Answer> {
    Some(answer)
}

fn to_it(_: &Dispute, pick: Pick) -> Option<Pick> {
    Some(pick)
}

fn is_fraud(outcome: Outcome, position: u32) -> bool {
    matches!(outcome, Outcome::Fraud { verdict: Verdict::Fraud { position: p, stage: Stage::Choice, .. } } if p == position)
}

/// Points anywhere that exists.
fn anywhere(rng: &mut Rng, dispute: &Dispute, pick: Pick) -> Pick {
    let parts = &dispute.claim().parts;
    let count = match (dispute.due(), parts) {
        (
            Due::Range,
            Parts::Choice {
                choice: ChoiceParts::Vocabulary { shares, .. } | ChoiceParts::Range { shares, .. },
            },
        ) => shares.len(),
        (Due::Token, Parts::Choice { choice: ChoiceParts::Leaf { span, .. } }) => span.len as usize,
        _ => return pick,
    };
    match rng.next() % 6 {
        0 => pick,
        _ => Pick::Index { index: (rng.next() % count as u64) as u32 },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_global_rejects: 50_000, ..ProptestConfig::default() })]

    #[test]
    fn a_right_choice_stands_wherever_the_accuser_points(seed: u64) {
        let (case, mut rng) = (case(seed), Rng(!seed));
        let honest = case.witness();
        for _ in 0..4 {
            let mut picks = |dispute: &Dispute, pick: Pick| Some(anywhere(&mut rng, dispute, pick));
            let (outcome, dispute) = play(case.dispute(), &honest, &honest, &mut as_is, &mut picks);
            prop_assert_eq!(outcome, Outcome::Refuted, "{:?}", dispute.claim());
            // The verdict is that of the bytes, and another place of the same range of things is as right.
            let claim = dispute.claim();
            let mut opening = honest.tile(claim).unwrap();
            prop_assert_eq!(referee(&claim.to_bytes(), &opening.to_bytes()), Ok(Verdict::Consistent));
            opening.pick = (rng.next() % 8) as u32;
            let fraud = matches!(judge(claim, &opening), Ok(Verdict::Fraud { .. }));
            prop_assert!(!fraud, "{:?}", opening.pick);
        }
    }

    #[test]
    fn a_wrong_choice_falls(seed: u64, other: u32, beyond in 0u32..20) {
        let mut case = case(seed);
        let right = case.right();
        // Also tokens that do not exist.
        *case.chosen() = other % (case.logits.len() as u32 + u32::from(beyond == 0));
        prop_assume!(*case.chosen() != right);
        let (outcome, dispute) = play(case.dispute(), &case.witness(), &case.witness(), &mut as_is, &mut to_it);
        prop_assert!(is_fraud(outcome, dispute.claim().position), "{outcome:?} {case:?}");
    }

    /// The worker has a world in which its token is right, and states that world's parts.
    #[test]
    fn a_world_in_which_the_choice_is_right_does_not_help(seed: u64, what in 0..4) {
        let mut case = case(seed);
        let mut world = case.clone();
        let mut rng = Rng(!seed);
        match what {
            0 => world.logits.iter_mut().for_each(|logit| *logit = if rng.next().is_multiple_of(3) { rng.signed() } else { *logit }),
            1 => world.request.sampling = Sampling { seed: rng.next(), ..sampling(&mut rng) },
            2 => world.request.decoding = decoding(&mut rng, world.logits.len() as u64),
            _ => {
                let (prompt, output) = (world.request.prompt.len(), world.output.len());
                world.request.prompt = tokens(&mut rng, prompt as u64, world.logits.len() as u64);
                world.output = tokens(&mut rng, output as u64, world.logits.len() as u64);
            }
        }
        let (right, theirs) = (case.right(), world.right());
        prop_assume!(right != theirs);
        (*case.chosen(), *world.chosen()) = (theirs, theirs);
        let (outcome, dispute) = play(case.dispute(), &world.witness(), &case.witness(), &mut as_is, &mut to_it);
        // It may also have to keep silent: counts that are more than the window holds are refused.
        let fits = is_fraud(outcome, dispute.claim().position) || outcome == Outcome::WorkerSilent;
        prop_assert!(fits, "{outcome:?} {:?}", dispute.claim());
    }

    /// The worker changes anything that it states, at any level, about a wrong choice.
    #[test]
    fn changed_parts_do_not_help(seed: u64, other: u32, rate in 1u64..4) {
        let mut case = case(seed);
        let right = case.right();
        *case.chosen() = other % case.logits.len() as u32;
        prop_assume!(*case.chosen() != right);
        let (witness, mut rng) = (case.witness(), Rng(!seed));
        let mut answers = |dispute: &Dispute, answer: Answer| {
            let changed = if rng.next() % rate == 0 { change(&mut rng, answer.clone()) } else { answer.clone() };
            // What is refused cannot be stated.
            let refused = dispute.clone().answer(changed.clone()).is_err();
            Some(if refused { answer } else { changed })
        };
        let (outcome, dispute) = play(case.dispute(), &witness, &witness, &mut answers, &mut to_it);
        prop_assert!(is_fraud(outcome, dispute.claim().position), "{outcome:?} {:?}", dispute.claim());
    }

    /// About a right choice, what is changed is found too.
    #[test]
    fn hostile_bytes_convict_nobody(seed: u64, at: usize, bit in 0u8..8, of_claim: bool, picks: u64) {
        let (case, mut rng) = (case(seed), Rng(picks));
        let honest = case.witness();
        let mut pick = |dispute: &Dispute, pick: Pick| match pick {
            Pick::Settings { mut request, mut output } => {
                // Damaged settings are refused, or show the same.
                let (before, good) = (dispute.clone(), Pick::Settings { request: request.clone(), output: output.clone() });
                let of = if of_claim { &mut request.slice.bytes } else { &mut output.bytes };
                let at = at % of.len();
                of[at] ^= 1 << bit;
                assert!(before.clone().pick(Pick::Settings { request, output }).is_err());
                Some(good)
            }
            pick => Some(anywhere(&mut rng, dispute, pick)),
        };
        let (outcome, dispute) = play(case.dispute(), &honest, &honest, &mut as_is, &mut pick);
        prop_assert_eq!(outcome, Outcome::Refuted);
        let (mut claim, mut opening) = (dispute.claim().to_bytes(), honest.tile(dispute.claim()).unwrap().to_bytes());
        let bytes = if of_claim { &mut claim } else { &mut opening };
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let result = referee(&claim, &opening);
        if !of_claim {
            prop_assert!(!matches!(result, Ok(Verdict::Fraud { .. })), "{result:?}");
        }
    }
}

/// One number of an answer, changed; or two, so that their sum stays.
fn change(rng: &mut Rng, mut answer: Answer) -> Answer {
    let at = rng.next();
    let delta = [1, 1 << 20, 1 << 40, u64::MAX][(rng.next() % 4) as usize];
    match &mut answer {
        Answer::Choice { cuts, shares } => match at % 4 {
            0 => {
                cuts.top_k =
                    cuts.top_k.map(|cut| Rank { fixed: cut.fixed.wrapping_add(delta.cast_signed()), ..cut })
            }
            1 => {
                cuts.top_p = cuts.top_p.map(|cut| Rank { token: cut.token.wrapping_add(delta as u32), ..cut })
            }
            _ => change_shares(rng, shares, delta),
        },
        Answer::Shares { shares } => change_shares(rng, shares, delta),
        Answer::Seen { tokens } => {
            let i = (at % tokens.len().max(1) as u64) as usize;
            match (tokens.get_mut(i), at % 3) {
                (Some(seen), 0) => (seen.prompt, seen.output) = (seen.output, seen.prompt),
                (Some(seen), 1) => seen.output = seen.output.wrapping_sub(1),
                (Some(_), _) => drop(tokens.remove(i)),
                (None, _) => tokens.push(SeenToken { token: (at % 400) as u32, prompt: 1, output: 0 }),
            }
        }
        Answer::Counts { counts } => {
            let i = (at % counts.len() as u64) as usize;
            counts[i] = counts[i].wrapping_add(delta as u32);
        }
        _ => {}
    }
    answer
}

fn change_shares(rng: &mut Rng, shares: &mut [Share], delta: u64) {
    let count = shares.len() as u64;
    let (i, j) = ((rng.next() % count) as usize, (rng.next() % count) as usize);
    match rng.next() % 5 {
        0 => {
            shares[i].kept = shares[i].kept.wrapping_add(delta);
            shares[j].kept = shares[j].kept.wrapping_sub(delta);
        }
        1 => shares.swap(i, j),
        2 => {
            shares[i].top_p.weight = shares[i].top_p.weight.wrapping_add(delta);
            shares[i].top_p.count ^= 1;
        }
        3 => {
            shares[i].top_k.count = shares[i].top_k.count.wrapping_add(1);
            shares[j].top_k.count = shares[j].top_k.count.wrapping_sub(1);
        }
        _ => {
            if let Some(best) = &mut shares[i].best {
                best.fixed = best.fixed.wrapping_add(delta.cast_signed());
                best.token ^= delta as u32 & 3;
            }
        }
    }
}

proptest! {
    /// Claims that no dispute makes: an error or a verdict.
    #[test]
    fn any_claim_is_an_error_or_a_verdict(seed: u64, parts in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..4, pick: u32) {
        let case = case(seed);
        let mut bytes = vec![3, kind];
        bytes.extend(parts);
        // Whatever of it can be read.
        let mut r = dn_core::encoding::Reader::new(&bytes);
        let honest = case.witness();
        let (_, dispute) = play(case.dispute(), &honest, &honest, &mut as_is, &mut to_it);
        let parts = Parts::decode(&mut r).unwrap_or_else(|_| dispute.claim().parts.clone());
        let claim = Claim { parts, ..dispute.claim().clone() };
        for mut opening in [Opening::default(), honest.tile(dispute.claim()).unwrap()] {
            let _any = judge(&claim, &opening);
            opening.pick = pick;
            let _any = judge(&claim, &opening);
        }
    }
}
