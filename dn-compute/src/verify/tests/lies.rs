//! A malicious accuser against an honest worker: wherever it points and whatever it opens, it convicts nobody.

use dn_core::merkle::InclusionProof;

use super::architectures::variants;
use super::*;
use crate::verify::referee::judge;
use crate::verify::slice::Slice;
use crate::verify::{Fault, MoveError, Opening, RefereeError, referee};

pub(super) fn below(rng: &mut Rng, n: usize) -> usize {
    (rng.next() % n as u64) as usize
}

/// Some move of an accuser; mostly one that exists.
pub(super) fn any_pick(rng: &mut Rng, honest: &Witness<'_>, dispute: &Dispute) -> Pick {
    let layers = dispute.claim().subject.manifest.hyperparameters.layers;
    let index = |rng: &mut Rng, n: usize| Pick::Index { index: below(rng, n + 1) as u32 };
    match dispute.due() {
        Due::Node { nodes, .. } => index(rng, nodes.len()),
        Due::Stage => Pick::Stage {
            stage: match below(rng, 8) {
                0 => Stage::Token,
                1 => Stage::Embedding,
                2 => Stage::Logits,
                3 => Stage::Choice,
                _ => Stage::Layer { layer: below(rng, layers as usize + 1) as u32 },
            },
        },
        Due::Op => Pick::Op { op: below(rng, dispute.rows().count() + 1) as u8 },
        Due::Group { groups } => index(rng, groups.len()),
        Due::Element { slice } => index(rng, slice.bytes.len() / 2),
        Due::Block { blocks } => index(rng, blocks.len()),
        // What only a request can show, and where it leads.
        _ => honest.pick(dispute).unwrap().expect("the accuser's turn"),
    }
}

fn damage_bytes(rng: &mut Rng, bytes: &mut Vec<u8>) {
    match below(rng, 4) {
        0 => bytes.truncate(below(rng, bytes.len() + 1)),
        1 => bytes.extend([0; 7]),
        _ if bytes.is_empty() => {}
        _ => {
            let at = below(rng, bytes.len());
            bytes[at] ^= 1 << below(rng, 8);
        }
    }
}

fn damage_slice(rng: &mut Rng, slice: &mut Slice) {
    match below(rng, 5) {
        0 => slice.first = rng.next() as u32 >> below(rng, 32),
        1 => drop(slice.siblings.pop()),
        2 => slice.siblings.push(Hash32([rng.next() as u8; 32])),
        3 if !slice.siblings.is_empty() => {
            let at = below(rng, slice.siblings.len());
            slice.siblings[at].0[below(rng, 32)] ^= 1;
        }
        _ => damage_bytes(rng, &mut slice.bytes),
    }
}

fn damage_proof(rng: &mut Rng, proof: &mut InclusionProof) {
    match below(rng, 5) {
        0 => proof.index = rng.next() >> below(rng, 64),
        1 => proof.count = rng.next() >> below(rng, 64),
        2 => drop(proof.path.pop()),
        3 => proof.path.push(Hash32::ZERO),
        _ => {
            if let Some(node) = proof.path.first_mut() {
                node.0[0] ^= 1;
            }
        }
    }
}

/// Changes something of an opening; `other` is one of another place.
fn damage(rng: &mut Rng, opening: &mut Opening, other: &Opening) {
    let rows = opening.rows.len().max(1);
    match below(rng, 14) {
        0 => opening.pick = rng.next() as u32 >> below(rng, 32),
        1 => opening.rows.reverse(),
        2 => drop(opening.rows.pop()),
        3 => opening.rows.extend(other.rows.clone()),
        4 | 5 => {
            if let Some(row) = opening.rows.get_mut(below(rng, rows)) {
                damage_slice(rng, row);
            }
        }
        6 => opening.weights.clone_from(&other.weights),
        7 => opening.past.clone_from(&other.past),
        8 => opening.request.clone_from(&other.request),
        9 => opening.rows.clone_from(&other.rows),
        10 => {
            if let Some(weights) = &mut opening.weights {
                match below(rng, 5) {
                    0 => weights.tile.tensor ^= 1 << below(rng, 32),
                    1 => weights.tile.first_row ^= 1 << below(rng, 32),
                    2 => weights.tile.rows ^= 1 << below(rng, 32),
                    3 => weights.tile.cols ^= 1 << below(rng, 32),
                    _ => weights.tile.hash.0[0] ^= 1,
                }
            }
        }
        11 => {
            if let Some(weights) = &mut opening.weights {
                damage_slice(rng, &mut weights.slice);
                damage_proof(rng, &mut weights.proof);
            }
        }
        12 => {
            if let Some(past) = &mut opening.past {
                match below(rng, 4) {
                    0 => damage_proof(rng, &mut past.proof),
                    1 => damage_slice(rng, &mut past.body),
                    2 => damage_slice(rng, &mut past.entry),
                    _ => past.leaf.0[3] ^= 1,
                }
            }
        }
        _ => {
            if let Some(request) = &mut opening.request {
                match below(rng, 2) {
                    0 => request.len = rng.next() as u32 >> below(rng, 32),
                    _ => damage_slice(rng, &mut request.slice),
                }
            }
        }
    }
}

/// Moves of the accuser at random until something is to be judged.
fn wander(rng: &mut Rng, honest: &Witness<'_>) -> Dispute {
    let mut dispute = Dispute::open(honest.subject()).unwrap();
    while !matches!(dispute.due(), Due::Tile) {
        match dispute.turn() {
            Some(Party::Worker) => {
                dispute.answer(honest.answer(&dispute).unwrap().expect("the worker's turn")).unwrap();
            }
            _ => {
                let before = format!("{dispute:?}");
                if dispute.pick(any_pick(rng, honest, &dispute)).is_err() {
                    assert_eq!(format!("{dispute:?}"), before, "a refused move changes nothing");
                }
            }
        }
    }
    dispute
}

#[test]
fn no_opening_convicts_an_honest_worker_in_any_architecture() {
    let mut rng = Rng(7);
    for variant in variants() {
        let scene = variant.scene(6);
        let honest = scene.honest(&scene.output);
        let mut others = vec![Opening::default()];
        for _ in 0..60 {
            let dispute = wander(&mut rng, &honest);
            let opening = honest.tile(&dispute).unwrap();
            assert_eq!(judge(dispute.claim(), &opening), Ok(Verdict::Consistent));
            for _ in 0..40 {
                let mut wrong = opening.clone();
                for _ in 0..=below(&mut rng, 2) {
                    let other = &others[below(&mut rng, others.len())];
                    damage(&mut rng, &mut wrong, other);
                }
                match judge(dispute.claim(), &wrong) {
                    Ok(verdict) => assert_eq!(verdict, Verdict::Consistent, "{wrong:?}"),
                    Err(error) => assert_eq!(error.fault(), Fault::Opening, "{error}"),
                }
                let mut dispute = dispute.clone();
                match dispute.pick(Pick::Tile { opening: wrong }) {
                    Ok(()) => assert_eq!(dispute.outcome(), Some(Outcome::Refuted)),
                    Err(MoveError::Referee(error)) => {
                        assert_eq!(error.fault(), Fault::Opening);
                        assert_eq!(dispute.due(), &Due::Tile, "a refused opening ends nothing");
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            others.push(opening);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bytes_that_are_no_opening_are_the_accusers_fault(bytes in prop::collection::vec(any::<u8>(), 0..300), seed: u64) {
        thread_local! {
            static SCENE: Scene = variants().remove(0).scene(6);
        }
        SCENE.with(|scene| {
            let honest = scene.honest(&scene.output);
            let dispute = wander(&mut Rng(seed), &honest);
            let claim = dispute.claim().to_bytes();
            // Even an opening of nothing at all has fourteen bytes, and tags that random bytes rarely have.
            match referee(&claim, &bytes) {
                Ok(verdict) => prop_assert_eq!(verdict, Verdict::Consistent),
                Err(error) => prop_assert_eq!(error.fault(), Fault::Opening),
            }
            let swapped = referee(&bytes, &claim);
            prop_assert!(matches!(swapped, Err(RefereeError::ClaimEncoding(_))), "{swapped:?}");
            prop_assert_eq!(swapped.map_err(|error| error.fault()), Err(Fault::Claim));
            Ok(())
        })?;
    }
}
