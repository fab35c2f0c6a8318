//! Laws of every object's encoding, and what becomes of objects that somebody tampered with.

mod common;

use dn_core::address::Address;
use dn_core::amount::Amount;
use dn_core::encoding::{Canonical, DecodeError};
use dn_core::keys::SignatureError;
use dn_core::keystore::Keystore;
use dn_core::merkle::InclusionProof;
use dn_core::mnemonic::DerivationPath;
use dn_core::objects::{BatchRoot, JobAcceptance, JobRequest, ModelManifest, Receipt, Verdict, Voucher};
use dn_core::{Signed, VerifyError};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// Encoding and decoding invert each other; no proper prefix and no continuation is an encoding.
fn laws<T>(value: &T, cut: usize) -> Result<(), TestCaseError>
where
    T: Canonical + PartialEq + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut bytes = value.to_bytes();
    prop_assert!(bytes.len() >= T::MIN_LEN);
    prop_assert_eq!(&T::from_bytes(&bytes).expect("own encoding"), value);
    prop_assert!(T::from_bytes(&bytes[..cut % bytes.len()]).is_err());
    let json = serde_json::to_string(value).expect("objects are JSON");
    prop_assert_eq!(&serde_json::from_str::<T>(&json).expect("own JSON"), value);
    let at = bytes.len();
    bytes.push(0);
    prop_assert_eq!(T::from_bytes(&bytes), Err(DecodeError::TrailingBytes { at, count: 1 }));
    Ok(())
}

/// Whatever decodes is the one encoding of what it decodes to.
fn canonical<T: Canonical>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(value) = T::from_bytes(bytes) {
        prop_assert_eq!(value.to_bytes(), bytes);
    }
    Ok(())
}

proptest! {
    #[test]
    fn requests_obey_the_laws(value in common::requests(), cut: usize) {
        laws(&value, cut)?;
    }

    #[test]
    fn receipts_obey_the_laws(value in common::receipts(), cut: usize) {
        laws(&value, cut)?;
        laws(&Signed::sign(value, &common::key("worker")), cut)?;
    }

    #[test]
    fn vouchers_obey_the_laws(value in common::vouchers(), cut: usize) {
        laws(&value, cut)?;
        laws(&Signed::sign(value, &common::key("payer")), cut)?;
    }

    #[test]
    fn batch_roots_obey_the_laws(value in common::batch_roots(), cut: usize) {
        laws(&value, cut)?;
    }

    #[test]
    fn manifests_obey_the_laws(value in common::manifests(), cut: usize) {
        laws(&value, cut)?;
    }

    #[test]
    fn verdicts_obey_the_laws(value in common::verdicts(), cut: usize) {
        laws(&value, cut)?;
    }

    /// The same entry points as the fuzz targets.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        canonical::<JobRequest>(&bytes)?;
        canonical::<Signed<Receipt>>(&bytes)?;
        canonical::<Signed<Voucher>>(&bytes)?;
        canonical::<Signed<JobAcceptance>>(&bytes)?;
        canonical::<Signed<BatchRoot>>(&bytes)?;
        canonical::<ModelManifest>(&bytes)?;
        canonical::<Verdict>(&bytes)?;
        canonical::<InclusionProof>(&bytes)?;
    }

    /// Near misses reach deeper than noise: an encoding with a few bytes replaced.
    #[test]
    fn damaged_encodings_never_panic(
        request in common::requests(),
        batch in common::batch_roots(),
        manifest in common::manifests(),
        damage in prop::collection::vec(any::<(usize, u8)>(), 1..4),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            for (at, byte) in &damage {
                let len = bytes.len();
                bytes[at % len] = *byte;
            }
            bytes
        };
        canonical::<JobRequest>(&damaged(request.to_bytes()))?;
        canonical::<BatchRoot>(&damaged(batch.to_bytes()))?;
        canonical::<ModelManifest>(&damaged(manifest.to_bytes()))?;
    }

    /// Texts: amounts, addresses, paths and keystores never panic, and what parses prints as something that parses.
    #[test]
    fn arbitrary_texts_never_panic(text in "\\PC{0,60}", near in "(0x)?[0-9a-fA-F.é]{0,44}") {
        for text in [text, near] {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert_eq!(amount.to_string().parse(), Ok(amount));
            }
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
            if let Ok(path) = text.parse::<DerivationPath>() {
                prop_assert_eq!(path.to_string().parse(), Ok(path));
            }
            prop_assert!(Keystore::from_json(&text).is_err());
        }
    }

    #[test]
    fn amounts_print_what_they_parse(atto: u128) {
        let amount = Amount::from_atto(atto);
        prop_assert_eq!(amount.to_string().parse(), Ok(amount));
    }
}

/// Every bit of a signed receipt counts: flipping one is refused at decoding or changes the identity and fails to verify.
#[test]
fn no_bit_of_a_signed_receipt_can_be_flipped() {
    let signed = Signed::sign(common::receipt(), &common::key("worker"));
    let (bytes, id, body) = (signed.to_bytes(), signed.body.id(), signed.body.to_bytes().len());
    assert_eq!(signed.verify(common::CHAIN, common::EXPIRES_MS), Ok(()));
    let mut decoded = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let Ok(read) = Signed::<Receipt>::from_bytes(&damaged) else { continue };
            decoded += 1;
            assert_eq!(read.body.id() != id, at < body, "byte {at}, bit {bit}");
            // The time of the check is early, so that a later expiry is not what saves us.
            assert!(read.verify(common::CHAIN, 0).is_err(), "byte {at}, bit {bit}");
        }
    }
    assert!(decoded > 8 * body / 2, "most flips decode, so the signature is what catches them");
}

#[test]
fn no_prefix_of_a_signed_receipt_is_one() {
    let bytes = Signed::sign(common::receipt(), &common::key("worker")).to_bytes();
    for end in 0..bytes.len() {
        let error = Signed::<Receipt>::from_bytes(&bytes[..end]).expect_err("a prefix");
        assert!(matches!(error, DecodeError::UnexpectedEnd { .. }), "{end}: {error}");
    }
}

#[test]
fn chain_time_and_signer_are_checked_in_this_order() {
    let signed = Signed::sign(common::voucher(), &common::key("payer"));
    let (chain, end) = (common::CHAIN, common::EXPIRES_MS);
    assert_eq!(signed.verify(chain, 0), Ok(()));
    assert_eq!(signed.verify(chain, end), Ok(()));
    assert_eq!(signed.verify(chain, end + 1), Err(VerifyError::Expired { expires_ms: end, now_ms: end + 1 }));
    assert_eq!(signed.verify_any_time(chain), Ok(()));
    let other = VerifyError::ChainId { expected: chain + 1, found: chain };
    assert_eq!(signed.verify(chain + 1, u64::MAX), Err(other));
    assert_eq!(signed.verify_any_time(chain + 1), Err(other));

    let forged = Signed::sign(common::voucher(), &common::key("worker"));
    let (expected, found) = (common::key("payer").address(), common::key("worker").address());
    let by_another = VerifyError::Signature(SignatureError::Signer { expected, found });
    assert_eq!(forged.verify(chain, 0), Err(by_another));
    assert!(matches!(forged.verify(chain, u64::MAX), Err(VerifyError::Expired { .. })));
}

/// A signature for one chain is worth nothing on another, even when the body is rewritten to fit.
#[test]
fn a_signature_does_not_carry_over_to_another_chain() {
    let mut signed = Signed::sign(common::voucher(), &common::key("payer"));
    signed.body.chain_id += 1;
    assert!(matches!(signed.verify(common::CHAIN + 1, 0), Err(VerifyError::Signature(_))));
}

/// Objects of two types never share a digest: the type is hashed with the fields.
#[test]
fn a_signature_does_not_carry_over_to_another_type() {
    let voucher = Signed::sign(common::voucher(), &common::key("worker"));
    let receipt = Signed { body: common::receipt(), signature: voucher.signature };
    assert!(matches!(receipt.verify(common::CHAIN, 0), Err(VerifyError::Signature(_))));
}

#[test]
fn fees_follow_the_price_and_overflow_is_an_error() {
    let price = common::price();
    assert_eq!(price.fee(2, 3), Ok(Amount::from_atto(2 * 3_000_000_000_000 + 3 * 9_000_000_000_001)));
    assert_eq!(common::request().max_fee(), price.fee(3, 256));
    let dear = dn_core::objects::Price { prompt_token: Amount::from_atto(u128::MAX), ..price };
    assert!(dear.fee(2, 0).is_err() && dear.fee(1, 1).is_err());
    assert_eq!(common::batch_root(&[0, 1]).total_fees(), Ok(Amount::from_atto(2_000_000_000_000_000_001)));
}

#[test]
fn operations_are_counted_by_hand_for_a_known_shape() {
    // Per layer: q and o 2048·2048 each, k and v 2048·256 each, three feed-forward matrices 2048·5632.
    let per_layer = 2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 5632;
    assert_eq!(common::manifest().prefill_ops_per_token(), 2 * 22 * per_layer);
    assert_eq!(common::manifest().decode_ops_per_token(), 2 * 22 * per_layer + 2 * 2048 * 32_000);
}
