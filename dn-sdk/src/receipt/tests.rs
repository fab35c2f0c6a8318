use super::*;
use dn_core::encoding::Canonical;
use dn_core::objects::{Decoding, Sampling};
use dn_core::{ChannelId, SecretKey};

pub(crate) fn worker() -> SecretKey {
    SecretKey::from_bytes(&[5; 32]).unwrap()
}

/// A request over three prompt tokens for at most eight more.
pub(crate) fn request() -> JobRequest {
    JobRequest {
        chain_id: 31,
        payer: Address([1; 20]),
        gateway: Address([2; 20]),
        channel: ChannelId([3; 32]),
        lane: 1,
        domain: 0,
        model: ModelId([4; 32]),
        numeric_spec: 1,
        prompt: vec![1, 2, 3],
        sampling: Sampling::GREEDY,
        decoding: Decoding::default(),
        max_tokens: 8,
        stop: Vec::new(),
        price: Price { prompt_token: Amount::from_atto(2), output_token: Amount::from_atto(5) },
        nonce: [0; 16],
        expires_ms: 1_000_000,
    }
}

/// An honest receipt for these output tokens.
pub(crate) fn receipt(request: &JobRequest, output: &[u32], finish: FinishReason) -> Signed<Receipt> {
    let (prompt_tokens, output_tokens) = (request.prompt.len() as u32, output.len() as u32);
    let body = Receipt {
        chain_id: request.chain_id,
        job: request.id(),
        domain: request.domain,
        model: request.model,
        numeric_spec: request.numeric_spec,
        prompt_hash: token_hash(&request.prompt),
        output_hash: token_hash(output),
        trace_root: Hash32([9; 32]),
        prompt_tokens,
        output_tokens,
        finish,
        price: request.price,
        fee: request.price.fee(prompt_tokens.into(), output_tokens.into()).unwrap(),
        payer: request.payer,
        channel: request.channel,
        lane: request.lane,
        worker: worker().address(),
        gateway: request.gateway,
        started_ms: 10,
        finished_ms: 20,
        expires_ms: 10_000_000,
    };
    Signed::sign(body, &worker())
}

#[test]
fn an_honest_receipt_passes_and_one_with_any_flipped_bit_does_not() {
    let (request, output) = (request(), [7, 8, 9]);
    let good = receipt(&request, &output, FinishReason::Stop);
    assert_eq!(check_receipt(&good, &request, &output), Ok(()));
    let bytes = good.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let accepted = Signed::<Receipt>::from_bytes(&flipped)
            .is_ok_and(|flipped| check_receipt(&flipped, &request, &output).is_ok());
        assert!(!accepted, "bit {bit}");
    }
}

/// What a worker could sign to charge more, or for something else.
#[test]
fn a_signed_lie_is_named() {
    let (request, output) = (request(), [7, 8, 9]);
    let lie = |change: fn(&mut Receipt)| {
        let mut body = receipt(&request, &output, FinishReason::Stop).body;
        change(&mut body);
        check_receipt(&Signed::sign(body, &worker()), &request, &output)
    };
    assert!(matches!(lie(|r| r.fee = Amount::from_atto(22)), Err(ReceiptError::Fee { .. })));
    assert!(matches!(lie(|r| r.price.output_token = Amount::from_atto(6)), Err(ReceiptError::Price { .. })));
    assert!(matches!(lie(|r| r.output_tokens = 4), Err(ReceiptError::Count { what: "output", .. })));
    assert!(matches!(lie(|r| r.model = ModelId([0; 32])), Err(ReceiptError::Model { .. })));
    assert!(matches!(lie(|r| r.job = JobId([0; 32])), Err(ReceiptError::Job { .. })));
    assert_eq!(lie(|r| r.lane = 2), Err(ReceiptError::Terms { field: "lane" }));
    assert_eq!(lie(|r| r.payer = Address([8; 20])), Err(ReceiptError::Terms { field: "payer" }));
    assert!(matches!(lie(|r| r.finished_ms = 5), Err(ReceiptError::Times { .. })));
    assert!(matches!(lie(|r| r.chain_id = 32), Err(ReceiptError::Signature(VerifyError::ChainId { .. }))));
    let other = SecretKey::from_bytes(&[6; 32]).unwrap();
    let forged = Signed::sign(receipt(&request, &output, FinishReason::Stop).body, &other);
    assert!(matches!(check_receipt(&forged, &request, &output), Err(ReceiptError::Signature(_))));
}

#[test]
fn tokens_that_did_not_arrive_are_noticed() {
    let request = request();
    let good = receipt(&request, &[7, 8, 9], FinishReason::Stop);
    let tokens = check_receipt(&good, &request, &[7, 8, 10]);
    assert!(matches!(tokens, Err(ReceiptError::Tokens { what: "output", .. })));
    assert!(check_receipt(&good, &request, &[7, 8]).is_err());
}
