use super::*;
use crate::receipt::tests::{receipt, request, worker};
use dn_core::objects::FinishReason;
use dn_core::{Amount, SecretKey};
use proptest::prelude::*;

const VOCABULARY: u32 = 100;

fn lease(already: &[u32]) -> Lease {
    let limits = LeaseLimits::default();
    let (lease, offer) =
        Lease::offer(1, worker().address(), request(), already.to_vec(), VOCABULARY, limits, 1_000);
    assert!(matches!(offer, Effect::Send(message) if matches!(*message, ToWorker::Offer { lease: 1, .. })));
    lease
}

fn say(lease: &mut Lease, message: ToGateway) -> Vec<Effect> {
    let mut effects = Vec::new();
    lease.step(2_000, Input::Message(Box::new(message)), &mut effects);
    effects
}

fn input(lease: &mut Lease, now_ms: u64, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    lease.step(now_ms, input, &mut effects);
    effects
}

fn chunk(sequence: u32, before: Hash32, tokens: &[u32]) -> (ToGateway, Hash32) {
    let hash = running_hash(before, sequence, tokens);
    (ToGateway::Chunk { lease: 1, sequence, tokens: tokens.to_vec(), logprobs: Vec::new(), hash }, hash)
}

fn violation(effects: &[Effect]) -> Violation {
    match effects.last() {
        Some(Effect::End(LeaseEnd::Violation(violation))) => *violation,
        other => panic!("no violation: {other:?}"),
    }
}

/// A lease that has accepted and sent 7, 8, 9.
fn running() -> (Lease, Hash32) {
    let mut lease = lease(&[]);
    assert_eq!(say(&mut lease, ToGateway::Accept { lease: 1 }), [Effect::Accepted]);
    let (first, hash) = chunk(0, Hash32::ZERO, &[7, 8]);
    assert_eq!(say(&mut lease, first), [Effect::Tokens(vec![7, 8])]);
    let (second, hash) = chunk(1, hash, &[9]);
    assert_eq!(say(&mut lease, second), [Effect::Tokens(vec![9])]);
    (lease, hash)
}

fn done(output: &[u32], finish: FinishReason) -> ToGateway {
    ToGateway::Done { lease: 1, receipt: receipt(&request(), output, finish) }
}

#[test]
fn an_honest_lease_ends_with_its_receipt_once_it_is_delivered() {
    let (mut lease, _) = running();
    assert_eq!(say(&mut lease, done(&[7, 8, 9], FinishReason::Stop)), [Effect::Complete]);
    assert_eq!(input(&mut lease, 3_000, Input::Disconnected), [], "the worker is not needed any more");
    let end = input(&mut lease, 4_000, Input::Delivered);
    assert!(matches!(&end[..], [Effect::End(LeaseEnd::Done(_))]));
    assert!(lease.is_over());
    assert_eq!(say(&mut lease, done(&[7, 8, 9], FinishReason::Stop)), [], "a duplicate is ignored");
}

#[test]
fn a_client_that_leaves_pays_for_what_it_got() {
    let (mut lease, hash) = running();
    let cancel = input(&mut lease, 3_000, Input::Cancel { delivered: 2 });
    assert_eq!(cancel, [Effect::Send(Box::new(ToWorker::Cancel { lease: 1, keep: 2 }))]);
    assert_eq!(say(&mut lease, chunk(2, hash, &[1]).0), [], "under way when it was cancelled");
    assert_eq!(say(&mut lease, done(&[7, 8, 9], FinishReason::Stop)), [], "for more than was delivered");
    let end = say(&mut lease, done(&[7, 8], FinishReason::Cancelled));
    assert!(matches!(&end[..], [Effect::End(LeaseEnd::Done(r))] if r.body.output_tokens == 2));

    let (mut nothing, _) = running();
    let end = input(&mut nothing, 3_000, Input::Cancel { delivered: 0 });
    assert!(matches!(&end[..], [Effect::Send(_), Effect::End(LeaseEnd::Dropped)]));

    let (mut complete, _) = running();
    say(&mut complete, done(&[7, 8, 9], FinishReason::Stop));
    let end = input(&mut complete, 3_000, Input::Cancel { delivered: 3 });
    assert!(matches!(&end[..], [Effect::End(LeaseEnd::Done(_))]), "everything was delivered");
}

#[test]
fn every_deviation_ends_the_lease() {
    let (mut lease, hash) = running();
    assert_eq!(
        violation(&say(&mut lease, chunk(1, hash, &[1]).0)),
        Violation::Sequence { expected: 2, found: 1 }
    );
    let (mut lease, _) = running();
    assert_eq!(violation(&say(&mut lease, chunk(2, Hash32::ZERO, &[1]).0)), Violation::Hash { sequence: 2 });
    let (mut lease, hash) = running();
    assert_eq!(violation(&say(&mut lease, chunk(2, hash, &[]).0)), Violation::Empty { sequence: 2 });
    let (mut lease, hash) = running();
    let many = violation(&say(&mut lease, chunk(2, hash, &[1; 6]).0));
    assert_eq!(many, Violation::TooManyTokens { found: 9, limit: 8 });
    let (mut lease, hash) = running();
    let token = violation(&say(&mut lease, chunk(2, hash, &[VOCABULARY]).0));
    assert_eq!(token, Violation::Token { found: VOCABULARY, vocabulary: VOCABULARY });
    let (mut lease, _) = running();
    assert_eq!(violation(&say(&mut lease, ToGateway::Accept { lease: 1 })), Violation::Unexpected);
    let (mut lease, _) = running();
    let lie = violation(&say(&mut lease, done(&[7, 8], FinishReason::Stop)));
    assert!(matches!(lie, Violation::Receipt(_)));
    let (mut lease, _) = running();
    let uninvited = violation(&say(&mut lease, done(&[7, 8, 9], FinishReason::Cancelled)));
    assert!(matches!(uninvited, Violation::Receipt(_)), "nobody cancelled");
}

#[test]
fn silence_ends_the_lease_and_frees_the_worker() {
    let mut lease = lease(&[]);
    assert_eq!(input(&mut lease, 3_999, Input::Tick), []);
    let end = input(&mut lease, 4_000, Input::Tick);
    let waiting_for = "acceptance";
    let cancel = Effect::Send(Box::new(ToWorker::Cancel { lease: 1, keep: 0 }));
    assert_eq!(end, [cancel, Effect::End(LeaseEnd::Stalled { waiting_for })]);
}

#[test]
fn a_resumed_lease_counts_what_exists() {
    let mut lease = lease(&[7, 8]);
    say(&mut lease, ToGateway::Accept { lease: 1 });
    let (more, _) = chunk(0, Hash32::ZERO, &[9]);
    say(&mut lease, more);
    assert_eq!((lease.tokens(), lease.added()), (&[7, 8, 9][..], 1));
    assert_eq!(say(&mut lease, done(&[7, 8, 9], FinishReason::Stop)), [Effect::Complete]);
}

fn abilities() -> Abilities {
    let price = Price { prompt_token: Amount::from_atto(3), output_token: Amount::from_atto(4) };
    Abilities { slots: 2, models: vec![ModelId([4; 32])], price }
}

#[test]
fn greetings_prove_both_keys_and_cannot_be_replayed() {
    let (gateway, worker) = (SecretKey::from_bytes(&[8; 32]).unwrap(), worker());
    let (challenge, nonce) = ([1; 32], [2; 32]);
    let abilities = abilities();
    let digest = hello_digest(31, gateway.address(), &challenge, &nonce, &abilities);
    let (address, signature) = (worker.address(), worker.sign(&digest));
    let hello = ToGateway::Hello { version: VERSION, worker: address, nonce, abilities, signature };
    assert_eq!(verify_hello(31, gateway.address(), &challenge, &hello), Ok((address, self::abilities())));
    let mut cheaper = hello.clone();
    let ToGateway::Hello { abilities, .. } = &mut cheaper else { unreachable!() };
    abilities.price.output_token = Amount::ZERO;
    assert!(verify_hello(31, gateway.address(), &challenge, &cheaper).is_err(), "another price");
    assert!(verify_hello(31, gateway.address(), &[3; 32], &hello).is_err(), "another connection");
    assert!(verify_hello(31, Address([9; 20]), &challenge, &hello).is_err(), "another gateway");
    assert!(verify_hello(32, gateway.address(), &challenge, &hello).is_err(), "another chain");
    let welcome = gateway.sign(&welcome_digest(31, address, &challenge, &nonce));
    let verify = |nonce| verify_welcome(31, gateway.address(), address, &challenge, nonce, &welcome);
    assert!(verify(&nonce).is_ok() && verify(&[0; 32]).is_err());
}

/// Pinned: these bytes are what other versions of workers and gateways speak.
#[test]
fn encodings_are_pinned() {
    let offer = ToWorker::Offer { lease: 5, request: request(), already: vec![1, 2] };
    let (chunk, _) = chunk(3, Hash32([6; 32]), &[7, 8]);
    let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(offer.keccak()), OFFER_HASH);
    assert_eq!(hex(chunk.keccak()), CHUNK_HASH);
    assert_eq!(ToWorker::Ping { nonce: 1 }.to_bytes(), [8, 1, 0, 0, 0, 0, 0, 0, 0]);
}
// From an independent implementation of the encoding and of Keccak-256 in Python.
const OFFER_HASH: &str = "ddaaed1a6460168f25b3a84dacf4f45cbeb8bb515395de41d00c6c07b6eb5a11";
const CHUNK_HASH: &str = "d8ca379061efcd8d76bd5ad6df43e8de74bdcee4dfad8b6c0e686a8a71160c5f";

#[test]
fn a_message_over_the_limit_is_not_read() {
    let found = MAX_MESSAGE_BYTES + 1;
    let error = decode::<ToGateway>(&vec![8; found]).unwrap_err();
    assert_eq!(error, DecodeError::Count { at: 0, found, limit: MAX_MESSAGE_BYTES });
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<ToGateway>(&bytes);
        let _ = decode::<ToWorker>(&bytes);
    }

    /// Whatever a worker says, a lease never ends well with a receipt for tokens that it did not pass on.
    #[test]
    fn a_lease_only_ends_well_with_the_tokens_it_passed_on(script in prop::collection::vec((0u8..6, 0u32..12), 1..14)) {
        let (mut lease, mut passed, mut hash, mut sequence) = (lease(&[]), Vec::new(), Hash32::ZERO, 0);
        let mut cancelled = None;
        for (what, n) in script {
            let step = match what {
                0 => Input::Message(Box::new(ToGateway::Accept { lease: 1 })),
                1 | 2 => {
                    let (message, next) = chunk(sequence, hash, &[n]);
                    (hash, sequence) = (next, sequence + 1);
                    Input::Message(Box::new(message))
                }
                3 => Input::Message(Box::new(done(&(0..n).collect::<Vec<_>>(), FinishReason::Stop))),
                4 => Input::Message(Box::new(done(&passed[..passed.len().min(n as usize)], FinishReason::Cancelled))),
                _ if n < 3 => {
                    cancelled.get_or_insert(n);
                    Input::Cancel { delivered: n }
                }
                _ => Input::Delivered,
            };
            for effect in input(&mut lease, 2_000, step) {
                match effect {
                    Effect::Tokens(tokens) => passed.extend(tokens),
                    Effect::End(LeaseEnd::Done(receipt)) => {
                        let count = receipt.body.output_tokens as usize;
                        prop_assert!(count <= passed.len());
                        prop_assert_eq!(receipt.body.output_hash, dn_core::objects::token_hash(&passed[..count]));
                        if let Some(delivered) = cancelled {
                            prop_assert!(count <= delivered as usize);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
